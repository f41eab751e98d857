"""What each example adds to a score, without its text and label: enough for significance tests."""

# Shapes: N = examples, K = numbers that an example adds (`Metric.parts`)

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Annotated, NamedTuple, TypeAlias

import numpy as np
from pydantic import Field, FiniteFloat, Strict

from xstilts import metrics
from xstilts.errors import StepFailed
from xstilts.metrics.metric import Array
from xstilts.store.rows import Prediction

EXAMPLES = "examples.jsonl"
"""The file of a step with such rows, in a copy without predictions."""


class ExampleParts(NamedTuple):
    """What each example adds, and a fingerprint that is equal for equal examples with equal labels."""

    fingerprint: str
    parts_NK: Array


_Column: TypeAlias = FiniteFloat | tuple[FiniteFloat, ...]


@dataclass(frozen=True)
class ExampleScores:
    """`ExampleParts` on disk, for one metric of a step on one language and split of a task.

    `parts` has K columns of n numbers; a single number stands for a column of equal ones.
    """

    task: str
    language: str
    split: str
    metric: str
    n: Annotated[int, Strict(), Field(ge=1, lt=2**31)]
    fingerprint: str
    parts: tuple[_Column, ...]

    def unpacked(self) -> ExampleParts | None:
        """The same as an array; None if a column has another length, because someone has changed the file."""
        columns = [column if isinstance(column, tuple) else (column,) * self.n for column in self.parts]
        if not columns or any(len(column) != self.n for column in columns):
            return None
        # in the memory order of `Metric.parts`, on which the last digit of a sum depends
        return ExampleParts(self.fingerprint, np.ascontiguousarray(np.array(columns, dtype=np.float64).T))


def example_parts(rows: Sequence[Prediction], metric: str, language: str) -> ExampleParts | None:
    """What each prediction adds to a metric; None without labels, or if the metric is not a sum over examples."""
    if not rows or any(row.reference is None for row in rows) or metrics.get(metric).parts is None:
        return None
    try:
        references, predictions = [row.reference for row in rows], [row.prediction for row in rows]
        parts_NK = metrics.get(metric).example_parts(references, predictions, language)
    except (TypeError, ValueError, LookupError, AttributeError, StepFailed):  # someone has changed the file
        return None
    examples = repr([(row.index, row.reference) for row in rows])
    return ExampleParts(blake2b(examples.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest(), parts_NK)


def example_scores(predictions: Iterable[Prediction], metric_of: Mapping[str, str]) -> Iterator[ExampleScores]:
    """One row for each task, language and split that can be tested for significance.

    Args:
        predictions: of one step.
        metric_of: the main metric of each task.
    """
    splits: dict[tuple[str, str, str], list[Prediction]] = defaultdict(list)
    for row in predictions:
        splits[row.task, row.language, row.split].append(row)
    for (task, language, split), rows in splits.items():
        if found := example_parts(rows, metric_of[task], language):
            columns = tuple(_packed(column) for column in found.parts_NK.T.tolist())
            yield ExampleScores(task, language, split, metric_of[task], len(rows), found.fingerprint, columns)


def _packed(column: Sequence[float]) -> _Column:
    """A column, or the one number in it; whole numbers without a decimal point."""
    numbers = tuple(int(x) if x.is_integer() else x for x in column)
    return numbers[0] if len(set(numbers)) == 1 else numbers
