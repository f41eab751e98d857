"""Scores of what was searched for, in percent: pairs that were mined, candidates that were ranked."""

from __future__ import annotations

from collections.abc import Sequence

from xstilts.metrics.labels import Overlap, overlap, same_length

PLACES = 20
"""How many places of a ranking count."""


def pair_f1(references: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]]) -> float:
    """F1 in percent over pairs of sentences (BUCC); see `pair_scores`.

    >>> pair_f1([["en-1"], [], ["en-3"]], [["en-1"], ["en-2"], []])
    50.0
    """
    return pair_scores(references, predictions).f1


def pair_scores(references: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]]) -> Overlap:
    """F1, precision and recall over the set of all pairs of a source sentence and a target; a pair counts once.

    Args:
        references: for each source sentence the ids of its translations, often none.
        predictions: for each source sentence the ids that were found.

    >>> pair_scores([["en-1"], [], ["en-3"]], [["en-1", "en-1"], ["en-2"], ["en-3"]]).recall
    100.0
    """
    same_length(references, predictions)
    right, found = ({(i, id) for i, ids in enumerate(rows) for id in ids} for rows in (references, predictions))
    return overlap(right, found)


def mrr(references: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]]) -> float:
    """Mean reciprocal rank at 20: 1 / the place of the first relevant id, 0 beyond place 20 (Mewsli-X).

    XTREME's evaluator prints this number under the name of map@20.

    >>> mrr([["Q1"], ["Q2"], ["Q3"]], [["Q1"], ["Q5", "Q2"], ["Q1", "Q2"]])  # 1, 1/2, 0
    50.0
    """
    same_length(references, predictions)
    total = 0.0
    for relevant, ranked in zip(references, predictions, strict=True):
        total += next((1 / place for place, id in enumerate(ranked[:PLACES], start=1) if id in relevant), 0.0)
    return 100.0 * total / len(references)


def mean_average_precision(references: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]]) -> float:
    """Mean average precision at 20 (LAReQA); see `average_precision`.

    >>> mean_average_precision([["a", "b"], ["c"]], [["a", "x", "b"], ["x", "c"]])  # of 5/6 and 1/2
    66.66666666666666
    """
    same_length(references, predictions)
    pairs = zip(references, predictions, strict=True)
    return 100.0 * sum(average_precision(relevant, ranked) for relevant, ranked in pairs) / len(references)


def average_precision(relevant: Sequence[str], ranked: Sequence[str], places: int = PLACES) -> float:
    """Mean, over the relevant ids that fit into so many places, of the precision at the place of each; from 0 to 1.

    An id counts where it stands first; 0 where nothing is relevant.

    >>> average_precision(["a", "b"], ["a", "x", "b"])  # (1 + 2/3) / 2
    0.8333333333333333
    """
    left, total = set(relevant), 0.0
    count = len(left)
    for place, id in enumerate(ranked[:places], start=1):
        if id in left:
            left.remove(id)
            total += (count - len(left)) / place
    return total / min(count, places) if count else 0.0
