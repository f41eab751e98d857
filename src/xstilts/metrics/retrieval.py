"""Metrics of retrieval, in percent: mined pairs and ranked candidates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xstilts.metrics.labels import F1_PRECISION_RECALL, f1, overlaps
from xstilts.metrics.metric import Array, Metric, mean_percent

MAX_RANK = 20
"""The last rank that counts."""


def pair_overlaps(references: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]]) -> Array:
    """Overlap of mined and right pairs of sentences (BUCC), [N, 3]; a pair counts once.

    Args:
        references: for each source sentence the ids of its translations, often none.
        predictions: for each source sentence the ids that were found.

    >>> METRICS["pair_f1"].score([["en-1"], [], ["en-3"]], [["en-1"], ["en-2"], []])
    50.0
    """
    return overlaps(references, predictions)


def reciprocal_ranks(references: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]]) -> Array:
    """1 / rank of the first relevant id, 0 beyond rank 20 (Mewsli-X), and a count of 1; [N, 2].

    >>> METRICS["mrr@20"].score([["Q1"], ["Q2"], ["Q3"]], [["Q1"], ["Q5", "Q2"], ["Q1", "Q2"]])  # 1, 1/2, 0
    50.0
    """
    pairs = zip(references, predictions, strict=True)
    return _with_count([_reciprocal_rank(relevant, ranked) for relevant, ranked in pairs])


def _reciprocal_rank(relevant: Sequence[str], ranked: Sequence[str]) -> float:
    return next((1 / rank for rank, id in enumerate(ranked[:MAX_RANK], start=1) if id in relevant), 0.0)


def average_precisions(references: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]]) -> Array:
    """`average_precision` at 20 (LAReQA), and a count of 1; [N, 2].

    >>> METRICS["map@20"].score([["a", "b"], ["c"]], [["a", "x", "b"], ["x", "c"]])  # of 5/6 and 1/2
    66.66666666666666
    """
    pairs = zip(references, predictions, strict=True)
    return _with_count([average_precision(relevant, ranked) for relevant, ranked in pairs])


def average_precision(relevant: Sequence[str], ranked: Sequence[str], max_rank: int = MAX_RANK) -> float:
    """The sum of the precisions at the relevant ids' ranks, over min(relevant ids, `max_rank`); from 0 to 1.

    An id counts at its first rank only; 0 if nothing is relevant.

    >>> average_precision(["a", "b"], ["a", "x", "b"])  # (1 + 2/3) / 2
    0.8333333333333333
    """
    left, total = set(relevant), 0.0
    count = len(left)
    for rank, id in enumerate(ranked[:max_rank], start=1):
        if id in left:
            left.remove(id)
            total += (count - len(left)) / rank
    return total / min(count, max_rank) if count else 0.0


def _with_count(values: Sequence[float]) -> Array:
    return np.column_stack([np.array(values, np.float64), np.ones(len(values))])


METRICS = {
    metric.name: metric
    for metric in (
        Metric("pair_f1", pair_overlaps, f1, official=F1_PRECISION_RECALL),
        # XTREME's evaluator prints the mean reciprocal rank under the name of map@20
        Metric("mrr@20", reciprocal_ranks, official={"map@20": mean_percent}),
        Metric("map@20", average_precisions, official={"map@20": mean_percent}),
    )
}
