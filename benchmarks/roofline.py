"""Training against the machine's own matrix products, counting real tokens only, and where the rest of the time goes.

An update of T real tokens in sequences of l tokens costs

    3 x 2 x (T x P  +  2 x layers x H x sum of l x l)

floating point operations: a product and a sum for each of the P weights of the blocks' linear layers and each token,
the same for queries with keys and weights with values within a sequence, and twice as much again backwards. Padding,
the word table, normalisation, activations, the head, clipping and AdamW count for nothing here; they only take time.
The machine's speed is that of `torch.mm` in the same precision, threads and run, for the very shapes of the linear
layers, forward and backward. Runs on the CPU.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

import figures
import works
from works import PRECISIONS, WORKS, Precision
from xstilts.compute import device
from xstilts.model import heads
from xstilts.model.batch import Batch, ShuffledBatches, collate, generator
from xstilts.model.encoder import Encoder
from xstilts.training.batches import TrainTask
from xstilts.training.loop import train
from xstilts.training.settings import TaskSettings, TrainSpec

TARGETS: dict[Precision, float] = {"fp32": 80, "bf16": 50}
"""Percent of the machine's matrix products."""
GROUPS = {
    "linear layers": ("aten::addmm", "aten::mm", "aten::linear", "mkldnn::"),
    "attention": ("aten::_scaled_dot_product", "aten::bmm", "aten::baddbmm", "aten::_softmax", "attention"),
    "normalisation, activation, dropout": ("aten::native_layer_norm", "aten::gelu", "aten::random_", "aten::tanh"),
    "word table": ("aten::embedding",),
    "AdamW": ("aten::_fused_adam",),
    "clipping": ("aten::_foreach_norm", "aten::_foreach_mul", "aten::linalg_vector_norm"),
    "copies between layouts and precisions": ("aten::copy_", "aten::index_copy", "aten::index_select", "aten::cat"),
}  # fmt: skip
"""Operations, by the beginnings of their names."""


def weights(encoder: Encoder) -> list[nn.Linear]:
    """The linear layers of the blocks."""
    return [layer for layer in encoder.base.modules() if isinstance(layer, nn.Linear)]


def flop(encoder: Encoder, batch: Batch) -> float:
    """Floating point operations of an update, as the formula above has them."""
    matrices = sum(layer.weight.numel() for layer in weights(encoder))
    pairs = int((batch.lengths_B.double() ** 2).sum())
    return 6.0 * (batch.tokens * matrices + 2 * encoder.layers * encoder.config.hidden_size * pairs)


def seconds(call: Callable[[], object], rounds: int, clock: Callable[[], float]) -> float:
    """Median over some rounds after one to warm up."""
    call()
    took = []
    for _ in range(rounds):
        started = clock()
        call()
        took.append(clock() - started)
    return median(took)


def machine(encoder: Encoder, tokens: int, precision: Precision, rounds: int, clock: Callable[[], float],
            product: Callable[[Tensor, Tensor], Tensor] = torch.mm) -> float:  # fmt: skip
    """GFLOP/s of plain products [T, I] x [I, O], [T, O] x [O, I], [O, T] x [T, I] of the layers of one block."""
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    shapes = [tuple(layer.weight.shape) for layer in weights(encoder)[: len(weights(encoder)) // encoder.layers]]
    work = total = 0.0
    for outputs, inputs in sorted(set(shapes)):
        times = shapes.count((outputs, inputs))
        x_TI, g_TO = (torch.randn(tokens, n).to(dtype) for n in (inputs, outputs))
        w_OI = torch.randn(outputs, inputs).to(dtype)
        for a, b in ((x_TI, w_OI.T), (g_TO, w_OI), (g_TO.T, x_TI)):
            with torch.inference_mode():
                total += times * seconds(lambda a=a, b=b: product(a, b), rounds, clock)
            work += times * 2 * tokens * inputs * outputs / 1e9
    return work / total


def by_onednn(a_NI: Tensor, b_IO: Tensor) -> Tensor:
    """A product in float32 by oneDNN."""
    return device.product(a_NI, b_IO.T)


def shares(events: Any, updates: int) -> list[str]:
    """Rows of the table of the profile."""
    spent = dict.fromkeys([*GROUPS, "all else"], 0.0)
    for event in events:
        name = next((n for n, starts in GROUPS.items() if event.key.lower().startswith(starts)), "all else")
        spent[name] += event.self_cpu_time_total / 1e3 / updates
    whole = sum(spent.values())
    return [f"| {name} | {ms:,.1f} | {100 * ms / whole:.1f} |" for name, ms in spent.items()]


class Updates:
    """Full batches of pairs, and our training loop over them."""

    def __init__(self, folder: Path, args: argparse.Namespace) -> None:
        self.folder, self.args = folder, args
        encoder = works.loaded(folder)
        self.features = WORKS["nli"].features(encoder, args.data)
        self.batch = round(args.tokens / float(self.features.lengths_F.mean()))
        passes, rng = ShuffledBatches(self.features, self.batch, generator(1, "order", 0)), generator(1, "hidden", 0)
        self.batches = [collate(self.features, next(passes), None, rng) for _ in range(args.updates)]
        self.flop = sum(flop(encoder, batch) for batch in self.batches[1:])
        self.tokens = sum(batch.tokens for batch in self.batches[1:])

    def seconds(self, precision: Precision, clock: Callable[[], float]) -> float:
        """Seconds from the end of the first update to the end of the last."""
        encoder, task, ends = works.loaded(self.folder), WORKS["nli"].task, list[float]()
        encoder.vocabulary = None
        part = TaskSettings(task=task.name, weight=1, batch=self.batch, max_length=task.max_length, epochs=1)
        training = TrainSpec(parts=(part,), lr=1e-5, steps=len(self.batches), warmup=0.1, weight_decay=0.01,
                            precision=precision, eval_every=None, patience=1)  # fmt: skip
        head = heads.build(task.format.head, encoder.config, None)
        tasks = [TrainTask(part, head, self.features, None)]
        train(encoder, tasks, training, seed=1, dev=None, log=lambda _: ends.append(clock()))
        return ends[-1] - ends[0]

    def measure(self, precision: Precision) -> tuple[float, float, list[str]]:
        """GFLOP/s on real tokens, these tokens a second, and the rows of the profile."""
        took = [self.seconds(precision, self.args.clock) for _ in range(self.args.rounds + 1)][1:]
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            self.seconds(precision, time.perf_counter)
        return (
            self.flop / 1e9 / median(took),
            self.tokens / median(took),
            shares(profiled.key_averages(), len(self.batches)),
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--tokens", type=int, default=4096, help="of a batch (default: %(default)s)")
    add("--updates", type=int, default=4, help="of a round, the first of which does not count (default: %(default)s)")
    add("--rounds", type=int, default=2, help="(default: %(default)s)")
    add("--encoder", type=Path, metavar="FOLDER", help="measure this encoder instead of a random one")
    args = works.arguments(parser, layers=12, hidden=768, vocabulary=8_000)
    rows, profiles = [], []
    with tempfile.TemporaryDirectory() as made:
        folder = args.encoder or Path(made)
        if not args.encoder:
            works.make_encoder(folder, works.texts(args.data), layers=args.layers, hidden=args.hidden,
                               vocabulary=args.vocabulary)  # fmt: skip
        updates, encoder = Updates(folder, args), works.loaded(folder)
        tokens = updates.batches[0].tokens
        for precision in PRECISIONS:
            own = machine(encoder, tokens, precision, args.rounds, args.clock)
            speed, per_second, groups = updates.measure(precision)
            percent, other = 100 * speed / own, "| |"
            if precision == "fp32":
                best = machine(encoder, tokens, precision, args.rounds, args.clock, by_onednn)
                other = f"| {best:.0f} | {100 * speed / best:.0f} |"
            target = TARGETS[precision]
            rows.append(f"| {precision} | {per_second:,.0f} | {speed:.0f} | {own:.0f} | {percent:.0f} | {target:.0f} "
                        f"| {figures.met(percent >= target)} {other}")  # fmt: skip
            profiles.append(groups)
            print(rows[-1], file=sys.stderr, flush=True)
    table = [f"{a} {b.split('|', 2)[2].strip()}" for a, b in zip(*profiles, strict=True)]
    text = "\n".join([
        f"Encoder {encoder.layers} x {encoder.config.hidden_size}, vocabulary {encoder.config.vocab_size:,}; pairs, "
        f"about {args.tokens:,} real tokens an update; median of {args.rounds} rounds of {args.updates - 1} updates. "
        "GFLOP/s of real tokens.",
        "",
        "| precision | tokens/s | training | torch.mm | percent of it | target | | by oneDNN | percent of these |",
        "|---|---:|---:|---:|---:|---:|---|---:|---:|",
        *rows,
        "",
        "| where the time of an update goes | fp32, ms | % | bf16, ms | % |",
        "|---|---:|---:|---:|---:|",
        *table,
    ])  # fmt: skip
    figures.publish(
        args.write, f"roofline, {args.encoder.name}" if args.encoder else "roofline", text, "torch", "transformers"
    )


if __name__ == "__main__":
    main()
