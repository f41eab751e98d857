"""Evaluation over all languages against a loop over fixed batches in file order, each padded to its longest.

Same model, same head, same precision, one run; the scores of both are compared. Three kinds of work: pairs of XNLI,
tagged sentences of Universal Dependencies, and the vectors of Tatoeba's sentences, for which the loop asks the model
for all hidden states, as is usual, and our forward pass stops at the retrieval layer. Runs on the CPU.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import figures
import works
from works import PRECISIONS, Precision
from xstilts.compute import device
from xstilts.data.examples import locate
from xstilts.errors import UserError
from xstilts.formats.base import HeadOutputs
from xstilts.languages import codes
from xstilts.metrics import METRICS
from xstilts.model import forward, heads, packing
from xstilts.model.batch import Batch, collate, generator
from xstilts.model.encoder import Encoder
from xstilts.model.features import FeatureSet
from xstilts.tasks import TASKS
from xstilts.tasks.task import Task

TARGET = 3.0
EVALUATED = {
    "xnli": TASKS["xnli"],
    "udpos": TASKS["udpos"],
    "tatoeba": TASKS["tatoeba"].model_copy(update={"languages": codes("de hi ja ru th vi")}),  # all candidates
}


@dataclass(frozen=True)
class Split:
    """The test examples of a language and their forward passes."""

    language: str
    examples: list[Any]
    features: FeatureSet


class Loop:
    """The usual way: fixed batches in file order, padded to the longest, transformers' own attention."""

    def __init__(self, folder: Path, size: int) -> None:
        self.encoder, self.size = works.loaded(folder), size
        works.as_usual(self.encoder).eval()

    def head_outputs(self, head: heads.Head, task: Task, features: FeatureSet, precision: Precision) -> HeadOutputs:
        """What the head keeps of all forward passes, in order."""
        per_pass: list[Any] = []
        layer = self.encoder.retrieval_layer if task.format.head.kind == "mean" else None
        rng, passes = generator(0, "none"), len(features.lengths_F)
        with torch.inference_mode():
            for start in range(0, passes, self.size):
                batch = collate(features, range(start, min(start + self.size, passes)), None, rng)
                with device.autocast(self.encoder.device, precision):
                    outputs = head(self.hidden(batch, layer), batch)
                per_pass.extend(head.split_reduced(head.reduce_outputs(outputs, batch).numpy(), batch))
        return HeadOutputs(features.example_F, per_pass, features.decode_info)

    def hidden(self, batch: Batch, layer: int | None) -> Tensor:
        """Hidden states of the real tokens."""
        layout = packing.Layout.one_grid(batch.lengths_B)
        ids_BL = packing.pad(batch.ids_T, layout).masked_fill(~layout.real_BL, self.encoder.tokenizer.pad_token_id)
        given = {"input_ids": ids_BL, "attention_mask": layout.real_BL.long()}
        out = self.encoder.base(**given, output_hidden_states=layer is not None)
        hidden_BLH = out.last_hidden_state if layer is None else out.hidden_states[layer]
        return packing.unpad(hidden_BLH, layout)


def splits(task: Task, encoder: Encoder, data: Path, limit: int) -> Iterator[Split]:
    """The languages whose test set is there."""
    for language in task.languages:
        try:
            found = locate(task, task.data["test"], (language,), data, limit)
        except UserError:
            continue
        examples = found.read()
        features = FeatureSet.build(task.format, examples, encoder.tokenizer_for(task.max_length))
        yield Split(language, examples, features)


def score(task: Task, split: Split, outputs: HeadOutputs) -> float:
    """The task's main metric, in percent."""
    form = task.format
    predictions = form.decode(split.examples, outputs, None)
    asked = [i for i, example in enumerate(split.examples) if form.is_query(example)]
    references = [form.reference(split.examples[i], i) for i in asked]
    return METRICS[task.metric].score(references, predictions, split.language)


@dataclass(frozen=True)
class Timed:
    """What the two ways took for the same work."""

    work: str
    languages: int
    passes: int
    tokens: int
    padded: int
    ours: float
    loop: float
    gap: float
    """Largest difference between their scores of a language."""

    def row(self) -> str:
        """A row of the table."""
        ratio = self.loop / self.ours
        return (
            f"| {self.work} | {self.languages} | {self.passes:,} | {self.padded / self.tokens:.2f} x | {self.ours:.1f} "
            f"| {self.loop:.1f} | {ratio:.2f} | {TARGET:.0f} | {figures.met(ratio >= TARGET)} | {self.gap:.2f} |"
        )


def measure(name: str, encoder: Encoder, loop: Loop, args: argparse.Namespace) -> Iterator[Timed]:
    """The seconds of a task, in each precision."""
    task = EVALUATED[name]
    torch.manual_seed(2)
    head = heads.build(task.format.head, encoder.config, None).eval()
    there = list(splits(task, encoder, args.data, args.limit))
    lengths = [split.features.lengths_F for split in there]
    tokens, passes = sum(int(n.sum()) for n in lengths), sum(len(n) for n in lengths)
    padded = sum(int(n[i : i + loop.size].max()) * len(n[i : i + loop.size])
                 for n in lengths for i in range(0, len(n), loop.size))  # fmt: skip
    for precision in PRECISIONS:

        def ours(split: Split, precision: Precision = precision) -> HeadOutputs:
            return forward.head_outputs(encoder, head, task.format, split.features, precision)

        def usual(split: Split, precision: Precision = precision) -> HeadOutputs:
            return loop.head_outputs(head, task, split.features, precision)

        seconds: dict[Callable[..., HeadOutputs], float] = {ours: 0.0, usual: 0.0}
        gap = 0.0
        for way in (ours, usual):  # warm
            way(there[0])
        for split in there:
            scores = []
            for way in (ours, usual):
                started = args.clock()
                outputs = way(split)
                seconds[way] += args.clock() - started
                scores.append(score(task, split, outputs))
            gap = max(gap, abs(scores[0] - scores[1]))
        timed = Timed(f"{name}, {precision}", len(there), passes, tokens, padded, seconds[ours], seconds[usual], gap)
        print(timed.row(), file=sys.stderr, flush=True)
        yield timed


def together(timed: Sequence[Timed]) -> Iterator[Timed]:
    """All tasks at once: in each precision, and ours in the faster one against the loop in float32, its default."""
    kinds = {precision: [one for one in timed if one.work.endswith(precision)] for precision in PRECISIONS}
    for ours, loop in (("fp32", "fp32"), ("bf16", "bf16"), ("bf16", "fp32")):
        some, others = kinds[ours], kinds[loop]
        yield Timed(
            f"all, {ours}" + (f" against {loop}" if loop != ours else ""),
            max(one.languages for one in some),
            *(sum(getattr(one, name) for one in some) for name in ("passes", "tokens", "padded", "ours")),
            loop=sum(one.loop for one in others),
            gap=max(one.gap for one in some),
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--work", default=",".join(EVALUATED), help="tasks, commas between (default: %(default)s)")
    add("--limit", type=int, default=150, help="test examples of each language (default: %(default)s)")
    add("--batch", type=int, default=32, help="of the loop (default: %(default)s)")
    args = works.arguments(parser, layers=6, hidden=384, vocabulary=32_000)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        works.make_encoder(folder, works.texts(args.data), layers=args.layers, hidden=args.hidden,
                           vocabulary=args.vocabulary)  # fmt: skip
        encoder, loop = works.loaded(folder), Loop(folder, args.batch)
    encoder.eval()
    timed = [one for name in args.work.split(",") for one in measure(name, encoder, loop, args)]
    text = "\n".join([
        f"Encoder {args.layers} x {args.hidden}; test sets, {args.limit} examples of each language at most. The loop "
        f"has batches of {args.batch} in file order, each padded to its longest.",
        "",
        "| task | languages | forward passes | with padding | xstilts, s | loop, s | times as fast | target | "
        "| largest difference of a score |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---|---:|",
        *(one.row() for one in (*timed, *together(timed))),
    ])  # fmt: skip
    figures.publish(args.write, "evaluation", text, "torch", "transformers")


if __name__ == "__main__":
    main()
