"""The types that say what a task is: Task, Format, Row, Features; no tensors, nothing on training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from xstilts import languages
from xstilts.errors import nearest
from xstilts.metrics import METRICS
from xstilts.source import Source, Strict

Split: TypeAlias = Literal["train", "stop", "dev", "test"]
"""`stop` is what early stopping looks at where that is not the task's own English dev set."""

Example: TypeAlias = Any
"""What a format's `read` makes of a row; only that format looks inside."""

Prediction: TypeAlias = Any
"""A JSON value in the task's own terms: a label, a list of tags, the index of a sentence."""

IGNORED = -100
"""The target of a marked token that counts in no loss (an example without a label)."""

MOST = 20
"""Answers that are tried to tell what chance is."""

NO_LABEL = "-1"
"""How the Hub spells a label that was taken away."""


def _told_apart(value: tuple[str, ...]) -> tuple[str, ...]:
    for label in value:
        if not label.strip():
            raise ValueError("a label is empty")
        if value.count(label) > 1:
            raise ValueError(f"the label '{label}' is given twice")
    return value


Labels = Annotated[tuple[str, ...], Field(min_length=2), AfterValidator(_told_apart)]


@dataclass(frozen=True)
class Row:
    """One record of a data file, with the place where it stands."""

    values: Mapping[str, Any]
    file: str
    line: int | str
    """Its number, or what the record is called where there are no lines."""

    @property
    def where(self) -> str:
        """`file:line`, as error messages want it."""
        return f"{self.file}:{self.line}" if isinstance(self.line, int) else f"{self.file}: {self.line}"


@dataclass(frozen=True)
class HeadSpec:
    """Which head a format needs; `heads.build` makes the module."""

    kind: Literal["pooled", "token", "span", "mean", "vocabulary"]
    outputs: int = 0
    """Scores a marked token gets; 0 for heads without a size of their own."""
    layer: int | None = None
    """Hidden state that is pooled; None is the default of the mean head, and the last one elsewhere."""

    @property
    def trained(self) -> bool:
        """Whether the head has parameters that are drawn anew in every phase."""
        return self.kind in ("pooled", "token", "span")


@dataclass(frozen=True)
class Features:
    """One forward pass of one example: token ids, and the positions that the head looks at.

    `marks` are positions in `ids`; `targets` has one class per mark, `IGNORED` where there is no label. `second` is the
    position where the second text begins (0: there is none), for encoders with token types. `notes` are integers that
    `decode` gets back with what the head kept.
    """

    example: int
    ids: Sequence[int]
    marks: Sequence[int]
    targets: Sequence[int]
    second: int = 0
    notes: Sequence[int] | NDArray[np.int32] = ()


class Pieces(Protocol):
    """A tokenizer with a maximum length, as formats see it."""

    unk_id: int

    def room(self, texts: int) -> int:
        """Pieces that fit beside the special tokens of one text or of a pair."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Piece ids of each text, without special tokens and without truncation."""

    def spans(self, texts: Sequence[str]) -> list[tuple[list[int], list[tuple[int, int]]]]:
        """Piece ids of each text as in `encode`, and for each piece the first and last + 1 character it stands for."""

    def words(self, words: Sequence[str]) -> list[tuple[list[int], int]]:
        """For each word its piece ids (never none) and which of them has the word's first character."""

    def single(self, ids: Sequence[int]) -> tuple[list[int], int]:
        """Add the special tokens of one text; also the position of the first piece."""

    def pair(self, first: Sequence[int], second: Sequence[int]) -> tuple[list[int], int]:
        """Add the special tokens of a pair; also the position of the second text's first piece."""


@dataclass(frozen=True)
class Flaw:
    """What is odd about an example; a fatal one keeps it out of training, but not out of scoring."""

    what: str
    fatal: bool


@dataclass(frozen=True)
class Kept:
    """What a head kept of all forward passes of a split, in the order of the features (F passes).

    `scores` has an array for each pass (see `heads.py` for the shapes), or is one [F, ...] array, which may be mapped
    from the disk; `notes` are those of the features.
    """

    example_F: NDArray[np.int64]
    scores: Sequence[NDArray[Any]] | NDArray[Any]
    notes: Sequence[NDArray[np.int32]] = ()


class Format(Strict, ABC):
    """The shape of a task's data, from a row to a prediction. Values, no tensors."""

    name: ClassVar[str]
    version: ClassVar[int] = 1
    """Raised when the same rows give other features, so that stored features are not taken for these."""

    @property
    @abstractmethod
    def metrics(self) -> tuple[str, ...]:
        """What a task of one's own is scored with if it does not say."""

    @property
    @abstractmethod
    def measures(self) -> tuple[str, ...]:
        """The metrics that its predictions can be scored with."""

    @property
    def file(self) -> Literal["lines", "tags", "answers", "pairs", "choices", "rankings"]:
        """Which kind of file holds its predictions in the leaderboard's layout (see `submission.py`)."""
        return "lines"

    @property
    @abstractmethod
    def fields(self) -> tuple[str, ...]:
        """Columns of a row, in the order of a file without a header; the last is the label if the format has labels."""

    @property
    @abstractmethod
    def inputs(self) -> tuple[str, ...]:
        """The fields that every row must have; what else is in `fields` is the label."""

    @property
    @abstractmethod
    def head(self) -> HeadSpec:
        """The head that this format needs."""

    @abstractmethod
    def read(self, row: Row) -> Example | None:
        """Make an example of a row; None drops the row on purpose. Raises DataError."""

    @property
    def open(self) -> bool:
        """Whether a part of the format, such as its labels, is left to the training data."""
        return False

    def closed(self, examples: Iterable[Example]) -> Self:
        """The format with what it leaves open taken from training examples."""
        return self

    def flaw(self, example: Example) -> Flaw | None:
        """What a user should hear of an example; the first of each kind is named, the others are counted."""
        return None

    def asks(self, example: Example) -> bool:
        """Whether an example is to be answered; False for one that only stands to be found by others."""
        return True

    def beyond(self, example: Example) -> Example | None:
        """What is kept of an example beyond the limit: what others may find; None for nothing."""
        return None

    def called(self, example: Example) -> str | None:
        """What the data set calls the example; None where it has no name."""
        return None

    def id(self, example: Example, index: int) -> str:
        """What the data set calls the example; its number where it has no name."""
        name = self.called(example)
        return str(index) if name is None else name

    @property
    def draws(self) -> bool:
        """Whether an epoch of training is drawn from the examples instead of having each of them once."""
        return False

    def quotas(self, sizes: Sequence[int]) -> list[int]:
        """How many examples are drawn of each language, of the so many that it has."""
        return list(sizes)

    @abstractmethod
    def features(self, examples: Sequence[Example], pieces: Pieces) -> Iterator[Features]:
        """Forward passes of the examples, in order; one or more for each."""

    @abstractmethod
    def decode(self, examples: Sequence[Example], kept: Kept, threshold: float | None) -> list[Prediction]:
        """One prediction for each example that asks, in order, from what the head kept of all forward passes."""

    def behind(self, kept: Kept) -> dict[str, float]:
        """The scores behind the prediction for a single example, by what they speak for; empty if too many to show."""
        return {}

    @abstractmethod
    def reference(self, example: Example, index: int) -> Prediction | None:
        """The right prediction, or None for an example without a label."""

    def blind(self, examples: Sequence[Example]) -> Iterator[list[Prediction]]:
        """Answers to the examples that look at none of them, to tell what chance is: the same one everywhere.

        Every right answer that occurs is tried, of more than `MOST` the most frequent.
        """
        right = [self.reference(example, i) for i, example in enumerate(examples) if self.asks(example)]
        return ([answer] * len(right) for answer, _ in Counter(right).most_common(MOST))

    def calibrate(self, examples: Sequence[Example], kept: Kept) -> float | None:
        """A threshold tuned on dev for use on test; None where the format has none."""
        return None


class Task(Strict):
    """What a task is: format, data, languages, metrics, and the paper's training defaults for it."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=100)
    format: Format
    data: dict[Split, Source]
    languages: tuple[str, ...] = Field(default=("en",), min_length=1)
    more_languages: tuple[str, ...] = ()
    """Languages that XTREME-R adds; scored where a recipe evaluates its group of tasks, or names them."""
    metrics: tuple[str, ...] = Field(min_length=1)
    """Names in `metrics.METRICS`; the first is the main one."""
    train_languages: tuple[str, ...] = Field(default=("en",), min_length=1)
    batch: int = Field(default=32, ge=1, le=10**9)
    epochs: int = Field(default=3, ge=1, le=10**9)
    max_length: int = Field(default=256, ge=8, le=10**6)
    like: str = ""
    """The task of the catalogue that it is like, for one of a user's own; read from the word `like` alone."""
    license: str = ""
    url: str = ""
    note: str = ""
    """What a reader must know before believing the number."""

    @field_validator("languages", "more_languages", "train_languages")
    @classmethod
    def _known_languages(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("names a language twice")
        for code in value:
            if not languages.well_formed(code):
                raise ValueError(f"no language '{code}'; {languages.hint(code)}")
        return value

    @field_validator("metrics")
    @classmethod
    def _known_metrics(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        form = info.data.get("format")
        for name in value:
            if name not in METRICS:
                raise ValueError(f"no metric '{name}'; {nearest(name, METRICS)}")
            if form is not None and name not in form.measures:
                raise ValueError(f"{name} does not score the format {form.name}; known: {', '.join(form.measures)}")
        return value

    @model_validator(mode="after")
    def _own_files(self) -> Task:
        if twice := set(self.languages) & set(self.more_languages):
            raise ValueError(f"languages and more_languages both have '{min(twice)}'")
        for split, source in self.data.items():
            codes = self.languages_of(split)
            if len(codes) > 1 and not all(any(file.own for file in layout) for layout in source.layouts):
                raise ValueError(f"data.{split} is the same for all {len(codes)} languages; {{lang}} tells them apart")
        return self

    def stop_source(self) -> Source | None:
        """What early stopping looks at: `stop` if the task says so, else its dev set unless it is trained on."""
        return self.data.get("stop", self.data.get("dev") if "dev" in self.scored else None)

    @property
    def stop_metric(self) -> str:
        """What early stopping goes by: the main metric, but its format's on `stop` data, which are another task's."""
        return self.format.metrics[0] if "stop" in self.data else self.metric

    def languages_of(self, split: Split) -> tuple[str, ...]:
        """The languages that a split is read in."""
        return self.all_languages if split in ("dev", "test") else self.train_languages

    @property
    def all_languages(self) -> tuple[str, ...]:
        """Every language that can be scored."""
        return self.languages + self.more_languages

    @cached_property
    def scored(self) -> tuple[Split, ...]:
        """The splits that are scored: dev and test, without one that the task is trained on in some language."""
        train = self.data.get("train")
        splits: tuple[Split, ...] = ("dev", "test")
        return tuple(
            split
            for split in splits
            if split in self.data and not (train and train.overlaps(self.data[split], self.train_languages))
        )

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with other fields, which forgets what followed from the old ones."""
        made = super().model_copy(update=update, deep=deep)
        vars(made).pop("scored", None)
        return made

    @property
    def stands_for(self) -> str:
        """The catalogue's name for it: of a user's own task the one it is like, and the language that it is trained in.

        So `mnli-small`, which is `like: mnli`, stands for `mnli`; trained in German, for `mnli-de`.
        """
        foreign = self.like and len(self.train_languages) == 1 and self.train_languages != ("en",)
        return (self.like or self.name) + (f"-{self.train_languages[0]}" if foreign else "")

    @property
    def trainable(self) -> bool:
        """Whether there is anything to train on."""
        return "train" in self.data

    @property
    def metric(self) -> str:
        """The main metric's name."""
        return self.metrics[0]
