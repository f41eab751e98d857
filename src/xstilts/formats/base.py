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
"""What a format's `read` makes of a row; opaque to everything else."""


Prediction: TypeAlias = Any
"""A JSON value in the task's own terms: a label, a list of tags, the index of a sentence."""


IGNORED = -100
"""The target of a marked token that counts in no loss (an example without a label)."""


MAX_TRIVIAL = 20
"""Most answers that are tried for the score at chance."""


NO_LABEL = "-1"
"""How the Hub spells a withheld label."""


def _unique_labels(value: tuple[str, ...]) -> tuple[str, ...]:
    for label in value:
        if not label.strip():
            raise ValueError("a label is empty")
        if value.count(label) > 1:
            raise ValueError(f"the label '{label}' is given twice")
    return value


Labels = Annotated[tuple[str, ...], Field(min_length=2), AfterValidator(_unique_labels)]


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
class Defect:
    """A defect of an example's data; a fatal one keeps the example out of training, but not out of scoring."""

    message: str
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
        """The metrics of a user's task that names none."""

    @property
    @abstractmethod
    def supported_metrics(self) -> tuple[str, ...]:
        """The metrics that its predictions can be scored with."""

    @property
    def file(self) -> Literal["lines", "tags", "answers", "pairs", "choices", "rankings"]:
        """Which kind of file holds its predictions in the leaderboard's layout (see `leaderboard/files.py`)."""
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
        """Make an example of a row; None drops the row deliberately. Raises DataError."""

    @property
    def needs_labels(self) -> bool:
        """Whether the labels must be taken from the training data."""
        return False

    def with_labels_from(self, examples: Iterable[Example]) -> Self:
        """The format with the labels that training examples have, if it lists none."""
        return self

    def defect(self, example: Example) -> Defect | None:
        """The defect of an example, for the user; of each kind the first is named and the others are counted."""
        return None

    def is_query(self, example: Example) -> bool:
        """Whether an example gets a prediction; False for one that is only a candidate for others."""
        return True

    def as_candidate(self, example: Example) -> Example | None:
        """What stays of an example beyond `limit`: a candidate that others may find; None for nothing."""
        return None

    def example_id(self, example: Example) -> str | None:
        """The data set's own id of the example; None where it has none."""
        return None

    def id(self, example: Example, index: int) -> str:
        """The data set's own id of the example, or its number where it has none."""
        name = self.example_id(example)
        return str(index) if name is None else name

    @property
    def draws(self) -> bool:
        """Whether an epoch is a sample of the examples instead of all of them once."""
        return False

    def sample_sizes(self, sizes: Sequence[int]) -> list[int]:
        """How many examples to sample from each language, given the number that each has."""
        return list(sizes)

    @abstractmethod
    def features(self, examples: Sequence[Example], tokenizer: TokenizerLike) -> Iterator[Features]:
        """Forward passes of the examples, in order; one or more for each."""

    @abstractmethod
    def decode(self, examples: Sequence[Example], outputs: HeadOutputs, threshold: float | None) -> list[Prediction]:
        """One prediction for each query, in order, from the head's outputs for all forward passes."""

    def scores(self, outputs: HeadOutputs) -> dict[str, float]:
        """The scores that led to the prediction for a single example, by name; empty if too many to show."""
        return {}

    @abstractmethod
    def reference(self, example: Example, index: int) -> Prediction | None:
        """The right prediction, or None for an example without a label."""

    def trivial_predictions(self, examples: Sequence[Example]) -> Iterator[list[Prediction]]:
        """Predictions that ignore their inputs, for the score at chance: the same one everywhere.

        Every right answer that occurs is tried, at most the `MAX_TRIVIAL` most frequent ones.
        """
        right = [self.reference(example, i) for i, example in enumerate(examples) if self.is_query(example)]
        return ([answer] * len(right) for answer, _ in Counter(right).most_common(MAX_TRIVIAL))

    def calibrate(self, examples: Sequence[Example], outputs: HeadOutputs) -> float | None:
        """A threshold tuned on dev for use on test; None where the format has none."""
        return None
