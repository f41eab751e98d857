"""The types that say what shape data have: Format, Row, Features, HeadSpec; no tensors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from typing import Annotated, Any, ClassVar, Literal, Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from xstilts.errors import DataError, counted
from xstilts.utils.models import Strict

Example: TypeAlias = Any
"""What a format's `read` returns; only the format looks inside."""


Prediction: TypeAlias = Any
"""A JSON value in the task's own terms: a label, a list of tags, the index of a sentence."""


Probabilities: TypeAlias = dict[str, float]
"""By the name of an answer; those that round to 0 are left out."""


DIGITS = 4
"""Decimal places of a probability."""


IGNORED = -100
"""The target of a position without a label; the loss ignores it."""


MAX_TRIVIAL = 20
"""How many constant predictions are tried for the score at chance."""


NO_LABEL = "-1"
"""How the Hub writes a hidden label."""


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
    """One record of a data file, with its file and line."""

    values: Mapping[str, Any]
    file: str
    line: int | str
    """Its number, or the record's name in a file without lines."""

    @property
    def where(self) -> str:
        """`file:line`, for error messages."""
        return f"{self.file}:{self.line}" if isinstance(self.line, int) else f"{self.file}: {self.line}"


ClassificationHead = Literal["stock", "jiant"]
"""The head of a whole text: `stock` is that of the encoder's family in transformers, `jiant` the paper's."""


@dataclass(frozen=True)
class HeadSpec:
    """Which head a format needs; `heads.build` makes the module."""

    kind: Literal["sequence", "token", "span", "mean", "vocabulary"]
    outputs: int = 0
    """Scores per position; 0 for heads without a size of their own."""
    layer: int | None = None
    """Index of the hidden state that the head reads; None is the default of the mean head, the last one for others."""

    @property
    def trained(self) -> bool:
        """Whether the head has parameters, which every phase initializes anew."""
        return self.kind in ("sequence", "token", "span")


@dataclass(frozen=True)
class Features:
    """The input of one forward pass: token ids, and the positions that the head reads.

    `positions` are indices into `ids`; `targets` has a class for each, or `IGNORED`. `second` is the index of the
    second text (0: none), for encoders with token types. `decode_info` has integers that `decode` needs.
    """

    example: int
    ids: Sequence[int]
    positions: Sequence[int]
    targets: Sequence[int]
    second: int = 0
    decode_info: Sequence[int] | NDArray[np.int32] = ()
    truncated: bool = False
    """Whether a text of the example was too long, so that a part of it is not read."""


class TokenizerLike(Protocol):
    """A tokenizer with a maximum length, as formats see it."""

    unk_id: int

    def max_pieces(self, texts: int) -> int:
        """How many pieces fit, besides the special tokens, of one text or of a pair."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Piece ids of each text, without special tokens and without truncation."""

    def spans(self, texts: Sequence[str]) -> list[tuple[list[int], list[tuple[int, int]]]]:
        """Piece ids of each text as in `encode`, and each piece's character span (end excluded)."""

    def words(self, words: Sequence[str]) -> list[tuple[list[int], int]]:
        """For each word its piece ids (at least one), and the index of the piece with its first character."""

    def single(self, ids: Sequence[int]) -> tuple[list[int], int]:
        """Add the special tokens of one text; also the position of the first piece."""

    def pair(self, first: Sequence[int], second: Sequence[int]) -> tuple[list[int], int]:
        """Add the special tokens of a pair; also the position of the second text's first piece."""


@dataclass(frozen=True)
class Defect:
    """A defect of an example's data. An example with a fatal one is scored, but not trained on."""

    message: str
    fatal: bool


@dataclass(frozen=True)
class HeadOutputs:
    """A head's outputs for all F forward passes of a split, in the order of the features.

    `scores` has an array for each pass (see `heads.py` for the shapes), or is one [F, ...] array, perhaps
    memory-mapped. `decode_info` is that of the features.
    """

    example_F: NDArray[np.int64]
    scores: Sequence[NDArray[Any]] | NDArray[Any]
    decode_info: Sequence[NDArray[np.int32]] = ()


def row_id(row: Row) -> str | None:
    """The user's own id of a row, in its column `id`; None without one."""
    value = row.values.get("id")
    return str(value).strip() or None if isinstance(value, str | int) else None


def mean_of(names: Sequence[str], members: Sequence[Probabilities]) -> Probabilities:
    """The mean probability of each name.

    >>> mean_of(["good", "bad"], [{"good": 0.5, "bad": 0.5}, {"good": 1.0}])
    {'good': 0.75, 'bad': 0.25}
    """
    sums = {name: fsum(member.get(name, 0.0) for member in members) for name in names}
    return {name: round(total / len(members), DIGITS + 1) for name, total in sums.items()}


def rounded(names: Sequence[str], probabilities: NDArray[Any]) -> Probabilities:
    """Each name's probability, without those that round to nothing.

    >>> rounded(["bad", "fair", "good"], np.array([0.25001, 0.00004, 0.74995]))
    {'bad': 0.25, 'good': 0.75}
    """
    pairs = zip(names, probabilities.round(DIGITS).tolist(), strict=True)
    return {name: probability for name, probability in pairs if probability}


class Format(Strict, ABC):
    """The shape of a task's data, from a row to a prediction. It has no tensors."""

    name: ClassVar[str]
    version: ClassVar[int] = 1
    """Raise it when the same rows give other features, so that stored features are made again."""

    @property
    @abstractmethod
    def metrics(self) -> tuple[str, ...]:
        """The default metrics of a user's task."""

    @property
    @abstractmethod
    def supported_metrics(self) -> tuple[str, ...]:
        """The metrics that can score its predictions."""

    inputs_setting: ClassVar[str] = ""
    """Its field that names the columns of its inputs in one list."""
    raw_text: ClassVar[str] = ""
    """The column of a text in rows to predict, where the `inputs` of a row are something else, such as words."""

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
        """The fields that every row must have; others may be missing."""

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The columns of a row that a translation replaces: texts, lists of texts, or objects with a `text`."""
        return self.inputs

    @property
    @abstractmethod
    def head(self) -> HeadSpec:
        """The head that this format needs."""

    @abstractmethod
    def read(self, row: Row) -> Example | None:
        """Convert a row to an example; None drops the row. Raises DataError."""

    @property
    def needs_labels(self) -> bool:
        """Whether the labels must be taken from the training data."""
        return False

    def with_labels_from(self, examples: Iterable[Example]) -> Self:
        """The format, with the labels of these training examples if it lists none."""
        return self

    def as_trained(self, trained: Format) -> Self:
        """The format, for a head of the format `trained`: with the fields that must be as in the training."""
        return self

    def defect(self, example: Example) -> Defect | None:
        """The example's defect, if any. The user sees the first of each kind and a count."""
        return None

    def checker(self, metrics: Sequence[str]) -> Callable[[Example, str], None] | None:
        """A function of each example of a split and its place that raises DataError where `metrics` cannot score it."""
        return None

    def is_query(self, example: Example) -> bool:
        """Whether an example gets a prediction; False for one that is only a retrieval candidate."""
        return True

    def as_candidate(self, example: Example) -> Example | None:
        """An example beyond `limit`, reduced to a candidate for other queries; None drops it."""
        return None

    def example_id(self, example: Example) -> str | None:
        """The data set's own id of the example, by which its prediction is stored; None if it needs none."""
        return None

    def id(self, example: Example, index: int) -> str:
        """The data set's own id of the example, or its number if it has none; only an `example_id` is unique."""
        own_id = getattr(example, "id", None)
        return str(index) if own_id is None else own_id

    def input_text(self, example: Example) -> str | list[str]:
        """The text or texts that a prediction is for."""
        text: str = example
        return text

    @property
    def samples_epoch(self) -> bool:
        """Whether an epoch is a sample of the examples instead of each of them once."""
        return False

    def sample_sizes(self, sizes: Sequence[int], whole: Sequence[int] | None = None) -> list[int]:
        """How many examples to sample from each language.

        Args:
            sizes: the number of examples of each.
            whole: the numbers before files were cut; by default `sizes`.
        """
        return list(sizes)

    @abstractmethod
    def features(self, examples: Sequence[Example], tokenizer: TokenizerLike) -> Iterator[Features]:
        """The examples' forward passes, in order; at least one each."""

    @abstractmethod
    def decode(self, examples: Sequence[Example], outputs: HeadOutputs, threshold: float | None) -> list[Prediction]:
        """One prediction for each query, in order, from the head's outputs for all forward passes."""

    def row_of(self, texts: Sequence[str], where: str) -> dict[str, Any]:
        """The values of an unlabelled row with these texts, in the order of its columns.

        Raises:
            DataError: the row has another number of texts.
        """
        columns = (self.raw_text,) if self.raw_text else self.inputs
        if len(texts) != len(columns):
            hint = f"it needs {', '.join(columns)}" + (", with tabs between" if len(columns) > 1 else "")
            raise DataError(f"has {counted(len(texts), 'text')}", where=where, hint=hint)
        return dict(zip(columns, texts, strict=True))

    def results(
        self, examples: Sequence[Example], outputs: HeadOutputs, threshold: float | None, top: int
    ) -> Sequence[dict[str, Any]]:
        """The prediction for each example as JSON with named parts; it agrees with `decode`.

        Args:
            examples: without labels; each one is a query.
            outputs: of the head, for all their forward passes.
            threshold: as in `decode`.
            top: the most alternatives of a prediction.
        """
        return [{"prediction": prediction} for prediction in self.decode(examples, outputs, threshold)]

    def probabilities(self, examples: Sequence[Example], outputs: HeadOutputs) -> Sequence[Probabilities | None]:
        """For each example the probability of each answer; None for a format whose answers have none."""
        return [None] * len(examples)

    has_mean: ClassVar[bool] = False
    """Whether the probabilities of several models have a mean: each answer is the same for all of them."""

    def mean(self, members: Sequence[Probabilities], language: str) -> tuple[Prediction, Probabilities]:
        """The prediction for an example by the mean of several models' probabilities, and this mean."""
        raise NotImplementedError(f"{self.name} has no mean")

    def scores(self, outputs: HeadOutputs) -> dict[str, float]:
        """The scores behind a single example's prediction, by name; empty if too many to show."""
        return {}

    @abstractmethod
    def reference(self, example: Example, index: int) -> Prediction | None:
        """The right prediction, or None for an example without a label."""

    def trivial_predictions(self, examples: Sequence[Example]) -> Iterator[list[Prediction]]:
        """Constant predictions, for the score at chance: each of the `MAX_TRIVIAL` most frequent right ones."""
        references = [self.reference(example, i) for i, example in enumerate(examples) if self.is_query(example)]
        return ([one] * len(references) for one, _ in Counter(references).most_common(MAX_TRIVIAL))

    @property
    def has_threshold(self) -> bool:
        """Whether predictions depend on a threshold that `calibrate` tunes."""
        return False

    def calibrate(self, examples: Sequence[Example], outputs: HeadOutputs) -> float | None:
        """A threshold tuned on dev for use on test; None if the format has none."""
        return None
