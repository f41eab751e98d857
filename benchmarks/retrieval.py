"""Speed of exact nearest neighbours both ways, against the machine's own matrix product and against faiss.

Random vectors; the first fiftieth of one side has noisy copies on the other, in another order, so that there is
something to be mined. In each round the matrix product, our search and faiss's two exhaustive searches take turns in
one process. Before, the scores are compared with a plain computation. `--full` instead runs our search once at the size
of BUCC's largest sets, from a mapped file, and watches memory. Runs on the CPU.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

os.environ["XSTILTS_DEVICE"] = "cpu"

import numpy as np
import torch

import figures
from xstilts.compute import device
from xstilts.compute.neighbours import Nearest, neighbours
from xstilts.formats.mining import mine_pairs

PRODUCT = 4096
"""Rows and columns of the matrix product that stands for the machine's speed."""
TARGET = 70
"""Percent of the machine's matrix product that our search is to reach."""
GIB = 2**30


class Time(NamedTuple):
    """Seconds by the clock, and of all processors."""

    wall: float
    cpu: float


def timed(work: Callable[..., Any], *arguments: Any) -> tuple[Any, Time]:
    """What a call gives, and how long it takes."""
    wall, cpu = time.perf_counter(), time.process_time()
    made = work(*arguments)
    return made, Time(time.perf_counter() - wall, time.process_time() - cpu)


def say(text: str) -> None:
    """Print to stderr at once."""
    print(text, file=sys.stderr, flush=True)


def fill(vectors_FH: Any, size: int, seed: int = 0, block: int = 8192) -> None:
    """Random vectors for two sides of this size, the second holding noisy copies of the first fiftieth, backwards."""
    rng, twins, width = np.random.default_rng(seed), size // 50, vectors_FH.shape[1]
    for at in range(0, 2 * size, block):
        rows = min(block, 2 * size - at)
        vectors_FH[at : at + rows] = rng.standard_normal((rows, width), np.float32)
    for at in range(0, twins, block):
        rows = min(block, twins - at)
        copies = vectors_FH[at : at + rows] + rng.standard_normal((rows, width), np.float32)
        vectors_FH[2 * size - at - rows : 2 * size - at] = copies[::-1]


def sides(size: int) -> tuple[Any, Any]:
    """The numbers of the vectors of both sides."""
    return np.arange(size), np.arange(size, 2 * size)


def compare(vectors_FH: Any, x_N: Any, y_N: Any, k: int) -> str:
    """How far scores are from those of a plain computation in float32, over the best candidates of both sides."""
    x, y = (vectors_FH[side] / np.linalg.norm(vectors_FH[side], axis=1, keepdims=True) for side in (x_N, y_N))
    products, found = x @ y.T, neighbours(vectors_FH, x_N, y_N, k)
    plain = []
    for products_NM in (products, products.T):
        ids = np.argsort(-products_NM, axis=1, kind="stable")[:, :k]
        plain.append(Nearest(ids, np.take_along_axis(products_NM, ids, 1)))
    gap = 0.0
    for way in ("fwd", "bwd", "max"):
        got, want = ({(int(a), int(b)): float(s) for a, b, s
                      in zip(*mine_pairs(near[0], near[1], "ratio", way), strict=True)}
                     for near in (found, plain))  # fmt: skip
        assert got.keys() == want.keys(), f"{way}: other pairs than by a plain computation"
        gap = max(gap, *(abs(got[pair] - want[pair]) for pair in want))
    assert gap <= 1e-5, gap
    return f"Scores of {len(x_N):,} x {len(y_N):,} against a plain computation: largest difference {gap:.1e}."


def product(width: int, multiply: Callable[[Any, Any], Any], seconds: float = 2) -> float:
    """GFLOP/s of a large matrix product, the best of some."""
    x, y, best, end = torch.randn(PRODUCT, width), torch.randn(PRODUCT, width), 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        best = max(best, 2 * PRODUCT**2 * width / timed(multiply, x, y)[1].wall / 1e9)
    return best


def by_faiss(vectors_FH: Any, x_N: Any, y_N: Any, k: int) -> None:
    """Exhaustive search by inner product, each side among the other."""
    import faiss

    units = [np.array(vectors_FH[side[0] : side[-1] + 1]) for side in (x_N, y_N)]
    for side in units:
        faiss.normalize_L2(side)
    for own, other in (units, units[::-1]):
        index = faiss.IndexFlatIP(own.shape[1])
        index.add(other)
        index.search(own, k)


def rounds(args: argparse.Namespace) -> str:
    """Our search beside the matrix product and faiss, in turns."""
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    vectors_FH, (x_N, y_N) = np.empty((2 * args.size, args.width), np.float32), sides(args.size)
    fill(vectors_FH, args.size)
    checked = compare(vectors_FH, x_N[-5000:], y_N[-6000:], args.k)
    flop = 2 * args.size**2 * args.width / 1e9
    speeds: dict[str, list[float]] = {"mm": [], "onednn": [], "ours": [], "faiss": []}
    cpu: dict[str, list[float]] = {"ours": [], "faiss": []}
    for turn in range(args.rounds):
        speeds["mm"].append(product(args.width, lambda x, y: x @ y.T))
        speeds["onednn"].append(product(args.width, device.product))
        for name, search in (("ours", neighbours), ("faiss", by_faiss)):
            _, took = timed(search, vectors_FH, x_N, y_N, args.k)
            speeds[name].append(flop / took.wall)
            cpu[name].append(took.cpu)
            say(f"round {turn + 1}: {name}: {took.wall:.1f} s, {took.cpu:.1f} s of processors")
    shares = [100 * a / b for a, b in zip(speeds["ours"], speeds["mm"], strict=True)]
    times = [a / b for a, b in zip(speeds["ours"], speeds["faiss"], strict=True)]
    lines = [
        f"{args.size:,} x {args.size:,} vectors of {args.width}, the {args.k} nearest both ways; median of "
        f"{args.rounds} rounds. GFLOP/s count one product of all pairs.",
        "",
        "| | GFLOP/s | seconds | of processors |",
        "|---|---:|---:|---:|",
        f"| matrix product alone, torch.mm | {median(speeds['mm']):.0f} | | |",
        f"| matrix product alone, by oneDNN | {median(speeds['onednn']):.0f} | | |",
        *(f"| {title} | {median(speeds[name]):.0f} | {flop / median(speeds[name]):.1f} | {median(cpu[name]):.1f} |"
          for name, title in (("ours", "xstilts"), ("faiss", "faiss-cpu, IndexFlatIP, two searches"))),
        "",
        "| | ratio | lowest and highest round | target | |",
        "|---|---:|---:|---:|---|",
        f"| percent of torch.mm | {median(shares):.0f} | {min(shares):.0f} to {max(shares):.0f} | {TARGET} "
        f"| {'met' if median(shares) >= TARGET else 'missed'} |",
        f"| times as fast as faiss | {median(times):.2f} | {min(times):.2f} to {max(times):.2f} | | |",
        "",
        checked,
    ]  # fmt: skip
    return "\n".join(lines)


def full(args: argparse.Namespace) -> str:
    """Our search once, from a mapped file."""
    started, peak = time.perf_counter(), [0]
    with tempfile.TemporaryFile(dir=args.folder) as file:
        vectors_FH, (x_N, y_N) = np.memmap(file, np.float32, "w+", shape=(2 * args.size, args.width)), sides(args.size)
        fill(vectors_FH, args.size)
        say(f"{vectors_FH.nbytes / GIB:.1f} GiB of vectors made in {time.perf_counter() - started:.0f} s")
        speed, started = product(args.width, lambda x, y: x @ y.T), time.perf_counter()

        def progress(rows: int) -> None:
            gone = time.perf_counter() - started
            left = gone / rows * (args.size - rows)
            say(f"{rows:,} rows, {gone:.0f} s, {left:.0f} s left, {peak[0] / GIB:.2f} GiB beyond the map")

        with figures.watched(peak):
            near, search = timed(neighbours, vectors_FH, x_N, y_N, args.k, progress)
            pairs, mining = timed(mine_pairs, *near)
    twins, flop = args.size // 50, 2 * args.size**2 * args.width / 1e9
    right = int((pairs.y_P == args.size - 1 - pairs.x_P)[pairs.x_P < twins].sum())
    share = 100 * flop / search.wall / speed
    return "\n".join([
        f"{args.size:,} x {args.size:,} vectors of {args.width} from a mapped file of {vectors_FH.nbytes / GIB:.1f} "
        f"GiB, the {args.k} nearest both ways, then mined; once.",
        "",
        "| | seconds | of processors | GFLOP/s | GFLOP a processor second |",
        "|---|---:|---:|---:|---:|",
        f"| neighbours | {search.wall:,.0f} | {search.cpu:,.0f} | {flop / search.wall:.0f} | {flop / search.cpu:.0f} |",
        f"| mining {len(pairs.x_P):,} pairs | {mining.wall:.1f} | {mining.cpu:.1f} | | |",
        "",
        f"{share:.0f} % of torch.mm. Peak memory beyond the map: {peak[0] / GIB:.2f} GiB (target: at most 4). Of "
        f"{twins:,} noisy copies {right:,} were paired with their originals.",
    ])  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--full", action="store_true", help="once, at the size of BUCC's largest set, and watch memory")
    add("--size", type=int, help="vectors a side (default: 100,000; with --full 500,000)")
    add("--width", type=int, help="of a vector (default: 768; with --full 1,024)")
    add("--k", type=int, default=4, help="neighbours (default: %(default)s)")
    add("--rounds", type=int, default=3, help="(default: %(default)s)")
    add("--threads", type=int, help="(default: torch's)")
    add("--folder", type=Path, help="where the mapped file of --full lies (default: that of temporary files)")
    add("--write", type=Path, metavar="FILE", help="also put the figures between the markers of this Markdown file")
    args = parser.parse_args()
    args.size, args.width = args.size or (500_000 if args.full else 100_000), args.width or (1024 if args.full else 768)
    if args.threads:
        torch.set_num_threads(args.threads)
    packages = ("torch", "numpy") if args.full else ("torch", "numpy", "faiss-cpu")
    text = full(args) if args.full else rounds(args)
    figures.publish(args.write, "retrieval_full" if args.full else "retrieval", text, *packages)


if __name__ == "__main__":
    main()
