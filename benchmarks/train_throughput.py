"""Training speed against transformers' Trainer, as ratios: same weights, same forward passes, same updates, one run.

Five kinds of work, each in fp32 and in bf16 autocast: our own training loop, and the Trainer padding each batch to its
longest. All start from the same random encoder of XLM-R's kind and the same head. Every setting first runs one round
that does not count, then the settings take turns. Peak memory is that of a process that trains one setting only. Runs
on the CPU.
"""

from __future__ import annotations

import argparse
import copy
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal, TypeAlias

import numpy as np
import torch

import figures
import stock
import works
from works import PRECISIONS, WORKS, Precision, Work
from xstilts.model import heads
from xstilts.model.batch import Batch, ShuffledBatches, collate, generator
from xstilts.model.encoder import Encoder
from xstilts.training.batches import TrainTask
from xstilts.training.log import LogRow
from xstilts.training.loop import train
from xstilts.training.settings import TaskSettings, TrainSpec

LR, WARMUP, DECAY = 5e-5, 0.1, 0.01
Side: TypeAlias = Literal["xstilts", "Trainer"]
Setting: TypeAlias = tuple[Side, Precision]
SETTINGS: tuple[Setting, ...] = tuple((side, p) for p in PRECISIONS for side in ("xstilts", "Trainer"))


@dataclass(frozen=True)
class Run:
    """One training: its speed and its losses."""

    examples_per_second: float
    losses: list[float]


class Bench:
    """One kind of work: its forward passes, the initial weights, and one training of any setting."""

    def __init__(self, work: Work, folder: Path, data: Path, clock: Callable[[], float]) -> None:
        self.work, self.folder, self.clock = work, folder, clock
        encoder = works.loaded(folder)
        self.features, self.masking = work.features(encoder, data), None
        torch.manual_seed(2)
        spec = work.task.format.head
        self.head = heads.build(spec, encoder.config, encoder.vocabulary) if spec.trained else None
        if spec.kind == "vocabulary":
            self.masking = encoder.masking()

    def batches(self, seed: int, updates: int) -> list[Batch]:
        """The batches that `train` draws by this seed."""
        order, hidden = generator(seed, "order", 0), generator(seed, "hidden", 0)
        passes = ShuffledBatches(self.features, self.work.batch, order)
        return [collate(self.features, next(passes), self.masking, hidden) for _ in range(updates)]

    def run(self, setting: Setting, seed: int, updates: int) -> Run:
        """Train anew, from the same weights, by the batches of the seed."""
        encoder, (side, precision) = works.loaded(self.folder), setting
        head = copy.deepcopy(self.head) or heads.build(self.work.task.format.head, encoder.config, encoder.vocabulary)
        every = max(1, min(100, updates // 50))  # as our loop logs losses
        if side == "Trainer":
            batches, settings = self.batches(seed, updates), (LR, WARMUP, DECAY)
            name = self.work.task.format.name
            seconds, losses = stock.train(encoder, head, name, batches, precision, settings, self.clock)
            losses = stock.mean_by(losses, every)
        else:
            seconds, losses = self._ours(encoder, head, precision, seed, updates)
        return Run(updates * self.work.batch / seconds, losses)

    def _ours(
        self, encoder: Encoder, head: heads.Head, precision: Precision, seed: int, updates: int
    ) -> tuple[float, list[float]]:
        task = self.work.task
        part = TaskSettings(task=task.name, weight=1, batch=self.work.batch, max_length=task.max_length, epochs=1)
        training = TrainSpec(
            parts=(part,), lr=LR, steps=updates, warmup=WARMUP, weight_decay=DECAY, precision=precision,
            eval_every=None, patience=1,
        )  # fmt: skip
        lines: list[LogRow] = []
        tasks, started = [TrainTask(part, head, self.features, self.masking)], self.clock()
        train(encoder, tasks, training, seed=seed, dev=None, log=lines.append)
        return self.clock() - started, [line.loss for line in lines]


def peak_mib(work: Work, setting: Setting, folder: Path) -> float:
    """Peak resident memory of a fresh process that trains this setting only."""
    own = ["--encoder", str(folder), "--work", work.name, "--alone", str(SETTINGS.index(setting))]
    done = subprocess.run([sys.executable, __file__, *sys.argv[1:], *own], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{work.name}, {setting}: the process that measures memory failed\n{done.stderr}")
    return float(done.stdout.splitlines()[-1]) / 2**20


@dataclass(frozen=True)
class Measured:
    """All that was measured of one kind of work."""

    work: Work
    lengths: tuple[float, float, float]
    """Of an update: real tokens, tokens when padded to the longest, forward passes."""
    runs: dict[Setting, list[Run]]
    peak: dict[Setting, float]

    def speed(self, setting: Setting) -> float:
        """Examples per second."""
        return median(run.examples_per_second for run in self.runs[setting])

    def ratio(self, ours: Setting, other: Setting) -> tuple[float, float, float]:
        """How many times as fast, and that of the lowest and of the highest round."""
        pairs = zip(self.runs[ours], self.runs[other], strict=True)
        rounds = [a.examples_per_second / b.examples_per_second for a, b in pairs]
        return self.speed(ours) / self.speed(other), min(rounds), max(rounds)

    @property
    def gap(self) -> float:
        """Largest difference of a logged loss between the two in fp32."""
        sides = (np.concatenate([run.losses for run in self.runs[s]]) for s in SETTINGS if s[1] == "fp32")
        ours_U, theirs_U = sides
        return float(np.abs(ours_U - theirs_U).max())


def memory(work: Work, folder: Path) -> dict[Setting, float]:
    """Peak memory of each setting, in MiB."""
    peak = {}
    for setting in SETTINGS:
        peak[setting] = peak_mib(work, setting, folder)
        print(f"{work.name}, memory: {', '.join(setting)}: {peak[setting]:,.0f} MiB", file=sys.stderr, flush=True)
    return peak


def measure(work: Work, peak: dict[Setting, float], folder: Path, args: argparse.Namespace) -> Measured:
    """Measure the speed."""
    updates = max(1, round(work.updates * args.share))
    bench = Bench(work, folder, args.data, args.clock)
    runs: dict[Setting, list[Run]] = {setting: [] for setting in SETTINGS}
    for turn in range(args.rounds + 1):
        for setting in SETTINGS:
            run = bench.run(setting, turn, updates)
            result = f"{', '.join(setting)}: {run.examples_per_second:.1f} examples/s"
            print(f"{work.name}, round {turn}: {result}", file=sys.stderr, flush=True)
            if turn:
                runs[setting].append(run)
    drawn = [batch.lengths_B for turn in range(args.rounds) for batch in bench.batches(turn + 1, updates)]
    sums = np.mean([(int(n.sum()), int(n.max()) * len(n), len(n)) for n in drawn], axis=0)
    return Measured(work, tuple(sums.tolist()), runs, peak)


def report(all_works: list[Measured], args: argparse.Namespace, folder: Path) -> str:
    """All figures as Markdown."""
    c = works.loaded(folder).config
    lines = [
        f"Encoder {c.num_hidden_layers} x {c.hidden_size}, vocabulary {c.vocab_size:,}; median of {args.rounds} rounds "
        "after one to warm up. The Trainer pads each batch to its longest. Loss: the largest difference of any update "
        "between the two in fp32.",
        "",
        "| work | examples an update | passes | tokens | with padding | updates | loss |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for m in all_works:
        (real, padded, passes), work = m.lengths, m.work
        updates = max(1, round(work.updates * args.share))
        lines.append(f"| {work.name}: {work.about} | {work.batch} | {passes:.0f} | {real:,.0f} "
                     f"| {padded / real:.2f} x | {updates} | {m.gap:.1e} |")  # fmt: skip
    lines += ["", "| work | xstilts, examples/s | Trainer | times as fast | lowest and highest round | target | |",
              "|---|---:|---:|---:|---:|---:|---|"]  # fmt: skip
    for m in all_works:
        for ours, theirs, target in m.work.targets:
            mine, other = ("xstilts", ours), ("Trainer", theirs)
            ratio, low, high = m.ratio(mine, other)
            name = f"{m.work.name}, {ours}" + ("" if ours == theirs else f" against {theirs}")
            lines.append(f"| {name} | {m.speed(mine):.1f} | {m.speed(other):.1f} | {ratio:.2f} "
                         f"| {low:.2f} to {high:.2f} | {target} | {figures.met(ratio >= target)} |")  # fmt: skip
    if not args.no_memory:
        lines += ["", "| peak memory | xstilts, MiB | Trainer, MiB | ratio | target | |",
                  "|---|---:|---:|---:|---:|---|"]  # fmt: skip
        for m in all_works:
            for precision in PRECISIONS:
                mine, other = m.peak["xstilts", precision], m.peak["Trainer", precision]
                lines.append(f"| {m.work.name}, {precision} | {mine:,.0f} | {other:,.0f} | {mine / other:.2f} "
                             f"| at most 1 | {figures.met(mine <= other)} |")  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--work", default=",".join(WORKS), help="kinds of work, commas between (default: %(default)s)")
    add("--encoder", type=Path, help="encoder to train (default: a random one)")
    add("--rounds", type=int, default=2, help="(default: %(default)s)")
    add("--share", type=float, default=1.0, help="of each kind's own number of updates (default: %(default)s)")
    add("--memory-updates", type=int, default=3, help="(default: %(default)s)")
    add("--no-memory", action="store_true", help="leave the memory out")
    add("--alone", type=int, help=argparse.SUPPRESS)
    args = works.arguments(parser, layers=6, hidden=384, vocabulary=32_000)
    chosen = [WORKS[name] for name in args.work.split(",")]
    if args.alone is not None:
        Bench(chosen[0], args.encoder, args.data, args.clock).run(SETTINGS[args.alone], 1, args.memory_updates)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
        return
    with tempfile.TemporaryDirectory() as made:
        folder = args.encoder or Path(made)
        if args.encoder is None:
            works.make_encoder(folder, works.texts(args.data), layers=args.layers, hidden=args.hidden,
                               vocabulary=args.vocabulary)  # fmt: skip
        # memory first, before this process grows: on Linux a child's peak begins at its parent's
        peaks = [{} if args.no_memory else memory(work, folder) for work in chosen]
        text = report([measure(*one, folder, args) for one in zip(chosen, peaks, strict=True)], args, folder)
    figures.publish(args.write, "train_throughput", text, "torch", "transformers", "accelerate")


if __name__ == "__main__":
    main()
