"""The types that say what shape data have: Format, Row, Features, HeadSpec; no tensors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from xstilts.utils.models import Strict

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

    `positions` are indices into `ids`; `targets` has one class for each, `IGNORED` where there is no label. `second` is
    the index where the second text begins (0: there is none), for encoders with token types. `decode_info` is integers
    that `decode` gets back with the head's outputs.
    """

    example: int
    ids: Sequence[int]
    positions: Sequence[int]
    targets: Sequence[int]
    second: int = 0
    decode_info: Sequence[int] | NDArray[np.int32] = ()


class TokenizerLike(Protocol):
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
class HeadOutputs:
    """What a head gives for all forward passes of a split, in the order of the features (F passes).

    `scores` has an array for each pass (see `heads.py` for the shapes), or is one [F, ...] array, which may be mapped
    from the disk; `decode_info` is that of the features.
    """

    example_F: NDArray[np.int64]
    scores: Sequence[NDArray[Any]] | NDArray[Any]
    decode_info: Sequence[NDArray[np.int32]] = ()


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
    def features(self, examples: Sequence[Example], tokenizer: TokenizerLike) -> Iterator[Features]:
        """Forward passes of the examples, in order; one or more for each."""

    @abstractmethod
    def decode(self, examples: Sequence[Example], outputs: HeadOutputs, threshold: float | None) -> list[Prediction]:
        """One prediction for each example that asks, in order, from the head's outputs for all forward passes."""

    def behind(self, outputs: HeadOutputs) -> dict[str, float]:
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

    def calibrate(self, examples: Sequence[Example], outputs: HeadOutputs) -> float | None:
        """A threshold tuned on dev for use on test; None where the format has none."""
        return None
