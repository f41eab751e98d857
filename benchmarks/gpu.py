"""How fast one GPU trains, evaluates and searches: one command, at most eight minutes, without network or data.

It runs the tests marked `cuda`. Then it measures matrix products, trainings beside transformers' Trainer in bf16,
evaluation, and the search for neighbours, with an encoder of XLM-R large's shape, random weights and made-up tokens.
Each part has a limit; what does not fit into it is named. `--dry-run` does all of it on the CPU with a tiny encoder: it
shows that the benchmark works, not how fast anything is.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
import tomllib
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 480
"""Of the whole; a GPU that hangs ends it then."""
MARGIN = 10
"""The last part ends so many seconds before."""
LEAST = 5
"""A part does not begin with fewer seconds left."""
VERSIONS = ("torch", "transformers", "accelerate", "numpy")


class TimeOver(BaseException):
    """A part has used up its time; nobody but `measure` may catch this."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `TimeOver` in this block after so many seconds, and again each second if something swallows it."""

    def stop(*_: Any) -> None:
        raise TimeOver

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@dataclass(frozen=True)
class Part:
    """A part of the benchmark."""

    name: str
    seconds: float
    """It may take so long."""
    result: dict[str, Any]
    """Its numbers."""
    work: Callable[[float], object]
    """Measures them; gets the seconds that it has."""


def missing_packages() -> list[str]:
    """Packages that the benchmark needs and this Python lacks."""
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    names = [re.match(r"[\w.-]+", line)[0] for line in (*needed, "accelerate", "pytest")]  # type: ignore[index]
    return [name for name in names if not _installed(name)]


def _installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def run_tests(result: dict[str, Any]) -> None:
    """Run the tests marked `cuda`; a warning is no failure here, because other versions of packages give others."""
    files = [str(path) for path in sorted((ROOT / "tests").glob("test_*.py")) if "mark.cuda" in path.read_text("utf-8")]
    paths = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    environment = {name: value for name, value in os.environ.items() if name != "XSTILTS_DEVICE"}
    command = [sys.executable, "-m", "pytest", "-m", "cuda", "-W", "default", "-p", "no:cacheprovider", "-rs", *files]
    done = subprocess.run(command, cwd=ROOT, env=environment | {"PYTHONPATH": paths}, capture_output=True,
                          text=True, check=False)  # fmt: skip
    counts = {word: int(count) for count, word in re.findall(r"(\d+) (passed|failed|skipped|error)", done.stdout)}
    result |= {"passed": 0, "failed": 0, "skipped": 0} | counts
    if done.returncode:
        print(done.stdout, done.stderr, file=sys.stderr)
        raise RuntimeError(f"the tests marked cuda ended with exit code {done.returncode}")


def measure(parts: Sequence[Part], end: float, record: dict[str, Any], save: Callable[[], None]) -> None:
    """Do the parts until the time `end`; the record then has what failed and what did not fit."""
    from xstilts.compute.memory import is_out_of_memory

    for part in parts:
        limit, started, problem = min(part.seconds, end - time.monotonic()), time.monotonic(), ""
        if limit < LEAST:
            record["not_measured"].append(f"{part.name}: no time was left")
            continue
        try:
            with time_limit(limit):
                part.work(limit)
        except TimeOver:
            problem = f"did not end within {limit:.2g} s"
            record["not_measured"].append(f"{part.name}: {problem}")
        except Exception as error:  # whatever a GPU or another version of a package raises: the other parts go on
            if is_out_of_memory(error):
                problem = "out of memory"
                record["not_measured"].append(f"{part.name}: {problem}")
            else:
                traceback.print_exc()
                problem = f"{type(error).__name__}: {error}".splitlines()[0]
                record["failed"].append(f"{part.name}: {problem}")
        gc.collect()  # outside the handlers, whose errors hold tensors
        took = time.monotonic() - started
        print(f"{part.name}, {took:.0f} s: {problem or shown(part.result) or 'done'}", file=sys.stderr, flush=True)
        save()


def shown(result: dict[str, Any]) -> str:
    """The numbers of a part, on a line."""
    known = {name: value for name, value in result.items() if value is not None}
    return ", ".join(f"{name} {value:,.0f}" if value >= 100 else f"{name} {value:.3g}" for name, value in known.items())


def machine(where: Any) -> dict[str, Any]:
    """Where and with what this was measured."""
    import torch

    from xstilts.utils.version import __version__

    cuda = where.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(where) if cuda else "CPU",
        "device_bytes": torch.cuda.get_device_properties(where).total_memory if cuda else None,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "xstilts": __version__,
        **{name: version(name) for name in VERSIONS},
    }


def empty_record(where: Any, dry: bool) -> dict[str, Any]:
    """The record before anything is measured; it has all keys."""
    from gpu_parts import EVALUATIONS, TRAININGS

    def numbers(*names: str) -> dict[str, Any]:
        return dict.fromkeys(names)

    speed = ("tokens_per_second", "share_of_peak", "kernels_per_update", "waits_per_update", "memory_bytes")
    return {
        "dry_run": dry,
        "machine": machine(where),
        "seconds": 0.0,
        "tests": numbers("passed", "failed", "skipped"),
        "flop_per_second": numbers("bf16", "fp32"),
        "training": {
            one.name: {
                **numbers("tokens_per_update", "padding", "times_as_fast"),
                "xstilts": numbers(*speed),
                "trainer": numbers("tokens_per_second", "memory_bytes"),
            }
            for one in TRAININGS
        },
        "evaluation": {name: numbers("tokens", *speed[:2], "memory_bytes") for name in EVALUATIONS},
        "search": numbers("vectors", "width", "seconds", "flop_per_second", "share_of_fp32_peak", "memory_bytes"),
        "notes": [],
        "failed": [],
        "not_measured": [],
    }


def all_parts(record: dict[str, Any], bench: Any) -> Iterator[Part]:
    """The parts in their order, with the most seconds of each; on a fast GPU most take far fewer."""
    from gpu_parts import EVALUATIONS, TRAININGS

    yield Part("tests marked cuda", 60, record["tests"], lambda _: run_tests(record["tests"]))
    products = record["flop_per_second"]
    yield Part("matrix products", 15, products, lambda _: bench.products(products))
    yield Part("encoder", 40, {}, lambda _: bench.prepare())
    for one in TRAININGS:
        found = record["training"][one.name]
        yield Part(one.name, 25, found["xstilts"], partial(bench.train, one, found))
        yield Part(f"{one.name}, Trainer", 20, found["trainer"], partial(bench.train_by_trainer, one, found))
    for name, texts in EVALUATIONS.items():
        result = record["evaluation"][name]
        yield Part(name, 15, result, lambda _, texts=texts, result=result: bench.evaluate(texts, result))
    yield Part("search for neighbours", 40, record["search"], lambda _: bench.search(record["search"]))


def main() -> int:
    """Measure and print; returns the exit code."""
    started = time.monotonic()
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--dry-run", action="store_true", help="all of it, tiny, on the CPU")
    add("--json", type=Path, metavar="FILE", help="write all numbers into this file, after each part")
    add("--write", type=Path, metavar="FILE", help="also put the tables into this Markdown file")
    args = parser.parse_args()
    for path in filter(None, (args.json, args.write)):
        if not path.parent.is_dir():
            parser.error(f"there is no folder {path.parent}")
    if missing := missing_packages():
        print(f"gpu.py needs {', '.join(missing)}: pip install {' '.join(missing)}", file=sys.stderr)
        return 2
    sys.path.insert(0, str(ROOT / "src"))
    # transformers' Trainer would use all GPUs that it sees
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    os.environ["CUDA_VISIBLE_DEVICES"] = "" if args.dry_run else first
    os.environ["XSTILTS_DEVICE"] = "cpu" if args.dry_run else "cuda"
    import torch

    if not args.dry_run and not torch.cuda.is_available():
        print("torch sees no GPU with CUDA here; --dry-run shows on the CPU that the benchmark works", file=sys.stderr)
        return 2
    import figures
    import gpu_table
    from gpu_parts import TINY, XLMR_LARGE, Bench
    from xstilts.compute.device import device

    record = empty_record(device(), args.dry_run)
    bench = Bench(TINY if args.dry_run else XLMR_LARGE, device())

    def save() -> None:
        record.update(seconds=round(time.monotonic() - started, 1), notes=sorted(bench.notes))
        if args.json:
            args.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")

    measure(list(all_parts(record, bench)), started + SECONDS - MARGIN, record, save)
    figures.publish(args.write, "gpu", gpu_table.text(record), *VERSIONS)
    return int(bool(record["failed"]))


if __name__ == "__main__":
    sys.exit(main())
