"""Measures predictions for raw texts against transformers' pipelines, with the same weights in stock classes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    TextClassificationPipeline,
    TokenClassificationPipeline,
)

import figures
import works
from xstilts.data.examples import locate
from xstilts.errors import UserError
from xstilts.formats.base import Format
from xstilts.model import heads
from xstilts.model.encoder import load
from xstilts.model.heads import Head
from xstilts.model.trained import HeadRecord, TrainedHead, TrainedModel
from xstilts.predict.predictor import Predictor
from xstilts.tasks import TASKS

TARGET = 2.0
"""How many times as fast ours is to be."""
LANGUAGES = ("ar", "de", "en", "fr", "hi", "nl", "pt", "ru", "sw", "th", "tr", "vi", "zh")
MAX_LENGTH = 128


@dataclass(frozen=True)
class Timed:
    """What the two ways took for the same texts."""

    work: str
    texts: int
    tokens: int
    padded: int
    ours: float
    pipeline: float
    equal: float
    """Percent of the texts, or words, with the same label."""

    def row(self) -> str:
        """A row of the table."""
        ratio = self.pipeline / self.ours
        return (
            f"| {self.work} | {self.texts:,} | {self.tokens / self.texts:.0f} | {self.padded / self.tokens:.2f} x "
            f"| {self.texts / self.ours:.1f} | {self.texts / self.pipeline:.1f} | {ratio:.2f} | {TARGET:.0f} "
            f"| {figures.met(ratio >= TARGET)} | {self.equal:.1f} % |"
        )


def texts(task: str, data: Path, limit: int) -> list[Any]:
    """Test examples in the languages that are there, in a random order, as a service gets them."""
    found = []
    for language in LANGUAGES:
        try:
            found += locate(TASKS[task], TASKS[task].data["test"], (language,), data, limit).read()
        except UserError:
            continue
    Random(1).shuffle(found)
    return found


def predictor(folder: Path, form: Format, task: str) -> tuple[Predictor, Head]:
    """A predictor with a new stock head; and the head."""
    encoder = load(str(folder))
    torch.manual_seed(2)
    head = heads.build(form.head, encoder.config, None, "stock")
    record = HeadRecord(task=task, format=form, head="stock", metric="accuracy", languages=("en",),
                        max_length=MAX_LENGTH, tokenizer=encoder.tokenizer_digest())  # fmt: skip
    return Predictor(TrainedModel(encoder, [TrainedHead(record, head)]), 0), head


def stock(auto: Any, folder: Path, labels: Sequence[str], weights: dict[str, Tensor]) -> Any:
    """Transformers' class with the encoder of the folder and the weights of a head."""
    names = dict(enumerate(labels))
    model = auto.from_pretrained(folder, id2label=names, label2id={label: i for i, label in names.items()},
                                 dtype=torch.float32)  # fmt: skip
    left = model.load_state_dict(weights, strict=False)
    assert not left.unexpected_keys, left.unexpected_keys
    return model.eval()


def pairs(folder: Path, args: argparse.Namespace) -> Timed:
    """Labels of XNLI's pairs."""
    form, examples = TASKS["xnli"].format, texts("xnli", args.data, args.limit)
    ours, head = predictor(folder, form, "xnli")
    weights = {name.removeprefix("stock.model."): weight for name, weight in head.state_dict().items()}
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = stock(AutoModelForSequenceClassification, folder, ours.labels, weights)
    pipeline = TextClassificationPipeline(model=model, tokenizer=tokenizer, device="cpu")
    rows = [{"text": one.texts[0], "text_pair": one.texts[1]} for one in examples]
    options = {"batch_size": args.batch, "truncation": True, "max_length": MAX_LENGTH, "top_k": None}

    def both(some: slice) -> Iterator[Callable[[], list[str]]]:
        yield lambda: [one["label"] for one in ours.predict(example.texts for example in examples[some])]
        yield lambda: [max(one, key=lambda x: x["score"])["label"] for one in pipeline(rows[some], **options)]

    return timed("XNLI pairs, text classification", both, tokenizer, [(one["text"], one["text_pair"]) for one in rows],
                 args)  # fmt: skip


def names(folder: Path, args: argparse.Namespace) -> Timed:
    """Entities of PAN-X's sentences, as raw texts."""
    form, examples = TASKS["panx"].format, texts("panx", args.data, args.limit)
    ours, head = predictor(folder, form, "panx")
    weights = {name.replace("out.", "classifier."): weight for name, weight in head.state_dict().items()}
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = stock(AutoModelForTokenClassification, folder, ours.labels, weights)
    pipeline = TokenClassificationPipeline(model=model, tokenizer=tokenizer, device="cpu",
                                           aggregation_strategy="simple", batch_size=args.batch)  # fmt: skip
    sentences = [" ".join(example.words) for example in examples]

    def first_tags(text: str, entities: Sequence[dict[str, Any]]) -> list[str]:
        """The type that stands at the first character of each word."""
        types = {i: one["entity_group"] for one in entities for i in range(one["start"], one["end"])}
        return [types.get(i, "O") for i, char in enumerate(text) if i == 0 or text[i - 1] == " "]

    def our_tags(text: str, result: dict[str, Any]) -> list[str]:
        return first_tags(
            text, [{"entity_group": one["tag"].partition("-")[2] or "O", **one} for one in result["tags"]]
        )

    def both(some: slice) -> Iterator[Callable[[], list[str]]]:
        def own() -> list[str]:
            found = zip(sentences[some], ours.predict(sentences[some]), strict=True)
            return [tag for text, result in found for tag in our_tags(text, result)]

        def usual() -> list[str]:
            found = zip(sentences[some], pipeline(sentences[some]), strict=True)
            return [tag for text, entities in found for tag in first_tags(text, entities)]

        yield from (own, usual)

    return timed("PAN-X sentences, token classification", both, tokenizer, sentences, args)


def timed(
    work: str, both: Callable[[slice], Iterator[Callable[[], list[str]]]], tokenizer: Any, given: Sequence[Any],
    args: argparse.Namespace,
) -> Timed:  # fmt: skip
    """The seconds of the two ways, in turns over parts of the texts; the first part warms up."""
    lengths = [min(MAX_LENGTH, len(ids)) for ids in tokenizer([*given])["input_ids"]]
    padded = sum(max(some) * len(some) for i in range(0, len(lengths), args.batch)
                 if (some := lengths[i : i + args.batch]))  # fmt: skip
    part = max(args.batch, len(given) // args.parts // args.batch * args.batch)
    seconds, found = [0.0, 0.0], [list[str](), list[str]()]
    for way in both(slice(0, 2 * args.batch)):
        way()
    for at in range(0, len(given), part):
        for number, way in enumerate(both(slice(at, at + part))):
            started = args.clock()
            found[number] += way()
            seconds[number] += args.clock() - started
    equal = 100 * sum(a == b for a, b in zip(*found, strict=True)) / len(found[0])
    result = Timed(work, len(given), sum(lengths), padded, seconds[0], seconds[1], equal)
    print(result.row(), file=sys.stderr, flush=True)
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--encoder", type=Path, required=True, help="folder, of a family that transformers has both classes for")
    add("--limit", type=int, default=60, help="test examples of each language (default: %(default)s)")
    add("--batch", type=int, default=32, help="of the pipelines (default: %(default)s)")
    add("--parts", type=int, default=4, help="how often the two take turns (default: %(default)s)")
    args = works.arguments(parser, layers=0, hidden=0, vocabulary=0)
    timings = [pairs(args.encoder, args), names(args.encoder, args)]
    text = "\n".join([
        f"Encoder {args.encoder.name}, fp32, with new heads. Test sets of {len(LANGUAGES)} languages where they are "
        f"there, {args.limit} examples of each at most, shuffled; pipelines with batches of {args.batch}.",
        "",
        "| work | texts | tokens a text | with padding | xstilts, texts/s | pipeline | times as fast | target | "
        "| same labels |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---|---:|",
        *(one.row() for one in timings),
    ])  # fmt: skip
    figures.publish(args.write, "predicting", text, "torch", "transformers")


if __name__ == "__main__":
    main()
