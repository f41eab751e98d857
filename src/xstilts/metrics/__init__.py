"""Scores of predictions against references, one function each, all in percent but perplexity.

Each takes the references of one task in one language beside the predictions, in the same order, and knows nothing of
where they come from. They follow XTREME's evaluate.py (google-research/xtreme, 838c13b); `docs/scoring.md` has the
source of each, and says where the official code does something else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from xstilts.errors import UserError, nearest
from xstilts.metrics import answers, retrieval
from xstilts.metrics.chance import at_chance
from xstilts.metrics.labels import (
    accuracy,
    accuracy_f1,
    chunk_f1,
    chunk_scores,
    perplexity,
    positive_f1,
    token_accuracy,
)

__all__ = [
    "METRICS",
    "Metric",
    "accuracy",
    "accuracy_f1",
    "at_chance",
    "chunk_f1",
    "chunk_scores",
    "get",
    "perplexity",
    "positive_f1",
    "token_accuracy",
]


@dataclass(frozen=True)
class Metric:
    """A score: its name, the function `(references, predictions) -> float`, how to read the number."""

    name: str
    function: Callable[..., float]
    higher_is_better: bool = True
    percent: bool = True
    """Whether it is a percentage, so that a mean over tasks has a meaning."""
    by_language: bool = False
    """Whether the function takes the language's code as its third argument."""

    def score(self, references: Sequence[Any], predictions: Sequence[Any], language: str) -> float:
        """The score of predictions in a language."""
        rest = (language,) if self.by_language else ()
        return self.function(references, predictions, *rest)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", accuracy),
        Metric("positive_f1", positive_f1),
        Metric("accuracy_f1", accuracy_f1),
        Metric("token_accuracy", token_accuracy),
        Metric("chunk_f1", chunk_f1),
        Metric("f1_em", answers.f1_em),
        Metric("f1", answers.f1),
        Metric("em", answers.em),
        Metric("squad2_f1_em", answers.squad2_f1_em),
        Metric("squad2_f1", answers.squad2_f1),
        Metric("squad2_em", answers.squad2_em),
        Metric("mlqa_f1_em", answers.mlqa_f1_em, by_language=True),
        Metric("mlqa_f1", answers.mlqa_f1, by_language=True),
        Metric("mlqa_em", answers.mlqa_em, by_language=True),
        Metric("pair_f1", retrieval.pair_f1),
        Metric("mrr@20", retrieval.mrr),
        Metric("map@20", retrieval.mean_average_precision),
        Metric("perplexity", perplexity, higher_is_better=False, percent=False),
    )
}
"""Every metric that a task can name."""


def get(name: str) -> Metric:
    """Look a metric up by name.

    Raises:
        UserError: for an unknown one.

    >>> get("accuracy").percent
    True
    """
    if name not in METRICS:
        raise UserError(f"there is no metric '{name}'", hint=nearest(name, METRICS))
    return METRICS[name]
