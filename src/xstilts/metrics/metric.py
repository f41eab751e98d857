"""The type of a metric: numbers that each example adds, and the score from their sums.

Shapes: N = examples, K = numbers that an example adds, ... = any number of samples or runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]


def mean_percent(sums: Array) -> Array:
    """The mean in percent, from a sum of values (0 to 1) and a count.

    >>> float(mean_percent(np.array([3.0, 4.0])))
    75.0
    """
    return share(sums[..., 0], sums[..., 1])


def share(part: Array, whole: Array) -> Array:
    """Part of the whole in percent; 0 if the whole is 0."""
    percent: Array = 100.0 * part / np.where(whole > 0, whole, 1)
    return percent


@dataclass(frozen=True)
class Metric:
    """A score. Evaluation, resampling and the leaderboard's layout all read this entry.

    A metric is either `parts` and `combine`, or a `function` of the whole split. Only the first kind can be resampled.
    One of your own lies in a Python file, and a task names it as `file:name`; see docs/scoring.md.

    >>> def first_letters(references, predictions):
    ...     return 100 * np.mean([a[0] == b[0] for a, b in zip(references, predictions, strict=True)])
    >>> Metric("first_letters", function=first_letters).score(["good", "bad"], ["great", "good"])
    50.0
    """

    name: str
    parts: Callable[..., Array] | None = None
    """`(references, predictions)` to what each example adds, [N, K]. Raises ValueError if lengths differ."""
    combine: Callable[[Array], Array] = mean_percent
    """Sums of the parts, [..., K], to scores, [...]."""
    function: Callable[[Sequence[Any], Sequence[Any]], float] | None = None
    """`(references, predictions)` to the score, if sums cannot give it."""
    higher_is_better: bool = True
    percent: bool = True
    """Whether it is a percentage, so that a mean over tasks has a meaning."""
    by_language: bool = False
    """Whether `parts` takes the language's code as its third argument."""
    official: Mapping[str, Callable[[Array], Array]] = field(default_factory=dict)
    """What XTREME's evaluator prints for it: name to function of the sums; empty if it prints this metric's score."""

    def score(self, references: Sequence[Any], predictions: Sequence[Any], language: str = "") -> float:
        """The score of the predictions, one for each reference, in the metric's unit."""
        if self.function is not None:
            same_length(references, predictions)
            return float(self.function(references, predictions))
        return float(self.combine(self._sums(references, predictions, language)))

    def official_scores(
        self, references: Sequence[Any], predictions: Sequence[Any], language: str = ""
    ) -> dict[str, float]:
        """The numbers that XTREME's evaluator prints, under its names."""
        if not self.official:
            return {self.name: self.score(references, predictions, language)}
        sums = self._sums(references, predictions, language)
        return {name: float(combine(sums)) for name, combine in self.official.items()}

    def example_parts(self, references: Sequence[Any], predictions: Sequence[Any], language: str = "") -> Array:
        """What each example adds, [N, K].

        Raises:
            ValueError: references and predictions differ in length.
        """
        assert self.parts is not None, f"{self.name} cannot be computed from sums"
        return self.parts(references, predictions, *([language] if self.by_language else []))

    def _sums(self, references: Sequence[Any], predictions: Sequence[Any], language: str) -> Array:
        same_length(references, predictions)
        parts_NK = self.example_parts(references, predictions, language)
        # added in the order of the examples, because numpy's pairwise sums round differently
        return np.array([sum(column) for column in parts_NK.T.tolist()])


def same_length(references: Sequence[Any], predictions: Sequence[Any]) -> None:
    """Assert that there is something to score, and a prediction for each reference."""
    assert len(references) == len(predictions), f"{len(references)} references, {len(predictions)} predictions"
    assert references, "there is nothing to score"
