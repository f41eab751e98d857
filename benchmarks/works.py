"""What the benchmarks train and evaluate on: kinds of work with their data, and random encoders of XLM-R's shape."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from xstilts.compute.device import Linear
from xstilts.compute.dropout import Dropout
from xstilts.data.examples import locate
from xstilts.model.encoder import Encoder, load
from xstilts.model.features import FeatureSet
from xstilts.model.new_encoder import create
from xstilts.model.shape import NewEncoder
from xstilts.tasks import TASKS
from xstilts.tasks.source import Source
from xstilts.tasks.task import Task

Precision = Literal["fp32", "bf16"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")


@dataclass(frozen=True)
class Work:
    """A kind of work: a task of the catalogue, where its rows come from, and what is asked of the speed."""

    name: str
    about: str
    task: Task
    source: Source
    languages: tuple[str, ...]
    batch: int
    """Examples of an update: the paper's."""
    updates: int
    """Of a round: about as many tokens in each kind of work."""
    targets: tuple[tuple[Precision, Precision, float], ...]
    """Our precision, the Trainer's, and how many times as fast ours has to be."""
    limit: int = 1500
    """Examples that are read of each language's files."""

    def examples(self, data: Path) -> list[Any]:
        """The examples, from the data folder."""
        return locate(self.task, self.source, self.languages, data, self.limit, each=True, train=True).read()

    def features(self, encoder: Encoder, data: Path, length: int | None = None) -> FeatureSet:
        """Forward passes of the examples."""
        tokenizer = encoder.tokenizer_for(length or self.task.max_length)
        return FeatureSet.build(self.task.format, self.examples(data), tokenizer)


def _both(fp32: float, bf16: float) -> tuple[tuple[Precision, Precision, float], ...]:
    return ("fp32", "fp32", fp32), ("bf16", "bf16", bf16)


_NLI, _TEXT, _SQUAD = TASKS["mnli"], TASKS["masked-text"], "squad_v1.1_partial/squad_v1.1_train_5pct_tokenized.json"
WORKS = {
    work.name: work
    for work in (
        Work("nli", "MNLI dev pairs", _NLI, Source.model_validate("nli_small/mnli.dev.csv"), ("en",), 32, 15,
             (*_both(1.7, 1.6), ("bf16", "fp32", 2.5))),
        Work("choose", "HellaSwag dev, four endings", TASKS["hellaswag"], TASKS["hellaswag"].data["dev"], ("en",), 24,
             3, _both(1.5, 1.5)),
        Work("span", "questions of SQuAD 1.1, all windows", TASKS["squad1"], Source.model_validate(_SQUAD), ("en",), 8,
             6, _both(1.2, 1.2), 1000),
        Work("tag", "English words with their parts of speech", TASKS["udpos"], TASKS["udpos"].data["train"], ("en",),
             32, 15, _both(1.5, 1.5)),
        Work("mask", "lines in nine languages", _TEXT, _TEXT.data["train"],
             ("ar", "de", "en", "fi", "hi", "ja", "ru", "sw", "th"), 8, 25, _both(1.0, 1.0), 300),
    )
}  # fmt: skip


def make_encoder(folder: Path, texts: Sequence[str], *, layers: int, hidden: int, vocabulary: int) -> None:
    """Write an encoder of XLM-R's kind, heads of width 64, with random weights and a tokenizer trained on the texts.

    The word table has `vocabulary` rows, whether or not the texts give that many pieces.
    """
    shape = NewEncoder(
        text=_TEXT.name, layers=layers, hidden=hidden, heads=hidden // 64, max_length=512,
        vocabulary=min(vocabulary, 32_000),
    )  # fmt: skip
    encoder = create(shape, texts)
    if encoder.config.vocab_size < vocabulary:
        lm = encoder.vocabulary.lm
        setattr(lm, lm.base_model_prefix, encoder.base)
        lm.resize_token_embeddings(vocabulary, mean_resizing=False)
        encoder = Encoder(encoder.base, encoder.tokenizer, lm=lm)
    encoder.save(folder)


def texts(data: Path) -> list[str]:
    """Text for the tokenizer: pairs and lines in nine languages, whatever is measured."""
    pairs = [text for example in WORKS["nli"].examples(data) for text in example.texts]
    return pairs + WORKS["mask"].examples(data)


def loaded(folder: Path) -> Encoder:
    """The encoder of a folder, whose batches have to go without padding."""
    encoder = load(str(folder))
    assert encoder.packs, "padding-free batches do not work with this encoder"
    return encoder


def as_usual(encoder: Encoder) -> Any:
    """The encoder's model with transformers' own attention and torch's own layers."""
    for layer in encoder.base.modules():
        if type(layer) is Linear:
            layer.__class__ = nn.Linear
        if type(layer) is Dropout:
            layer.__class__ = nn.Dropout
    encoder.base.set_attn_implementation("sdpa")
    return encoder.base


def arguments(parser: argparse.ArgumentParser, *, layers: int, hidden: int, vocabulary: int) -> argparse.Namespace:
    """The command line, with what all benchmarks of an encoder take: its shape, the data, the clock."""
    root = Path(__file__).resolve().parent.parent
    data = Path(os.environ.get("XSTILTS_DATA", root.parent / "shared" / "data"))
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--layers", type=int, default=layers, help="of the random encoder (default: %(default)s)")
    add("--hidden", type=int, default=hidden, help="(default: %(default)s)")
    add("--vocabulary", type=int, default=vocabulary, help="pieces; 250,002 is XLM-R's (default: %(default)s)")
    add("--processor", action="store_true", help="seconds of the processors, for a machine that others use too")
    add("--data", type=Path, default=data, help="folder (default: XSTILTS_DATA, ../shared/data)")
    add("--threads", type=int, help="of torch (default: torch's)")
    add("--write", type=Path, metavar="FILE", help="also put the figures into this Markdown file")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    args.clock = time.process_time if args.processor else time.perf_counter
    return args
