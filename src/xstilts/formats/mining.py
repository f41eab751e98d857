"""Mines translation pairs from two sets of vectors by margin (Artetxe and Schwenk 2019), and tunes BUCC's threshold."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xstilts.compute.neighbours import Floats, Nearest


class Pairs(NamedTuple):
    """Pairs of a row of x and a row of y, with their scores."""

    x_P: NDArray[np.int64]
    y_P: NDArray[np.int64]
    scores_P: NDArray[np.float32]

    def select(self, which_P: Any) -> Pairs:
        """The pairs at some indices, or where a mask is true."""
        return Pairs(self.x_P[which_P], self.y_P[which_P], self.scores_P[which_P])

    def sorted(self) -> Pairs:
        """The pairs with a score above 0, best first."""
        pairs = self.select(self.scores_P > 0)
        return pairs.select(np.argsort(-pairs.scores_P, kind="stable"))


def margin_scores(cosines: Floats, x_means: Floats, y_means: Floats, margin: Margin) -> Floats:
    """Scores of pairs from their cosines and each side's mean cosine to its neighbours (Artetxe and Schwenk).

    >>> mean = np.array([0.5])
    >>> [margin_scores(np.array([0.75]), mean, mean, margin).item() for margin in ("ratio", "distance", "absolute")]
    [1.5, 0.25, 0.75]
    """
    if margin == "absolute":
        return cosines
    means = (x_means + y_means) * np.float32(0.5)
    if margin == "distance":
        return cosines - means
    scores: Floats = np.divide(cosines, means, out=np.zeros_like(cosines), where=means != 0)
    return scores


def mine_pairs(of_x: Nearest, of_y: Nearest, margin: Margin = "ratio", matching: Matching = "max") -> Pairs:
    """Pairs of neighbours with a score above 0, best first.

    Every row proposes its neighbour with the best score. `max` takes the proposals of both sides by score, and skips
    those with a row that already has a pair (XTREME's utils_retrieve.py).
    """
    (y_of_x, x_scores), (x_of_y, y_scores) = _best_neighbours(of_x, of_y, margin), _best_neighbours(of_y, of_x, margin)
    forward = Pairs(np.arange(len(y_of_x)), y_of_x, x_scores)
    backward = Pairs(x_of_y, np.arange(len(x_of_y)), y_scores)
    if matching == "fwd":
        return forward.sorted()
    if matching == "bwd":
        return backward.sorted()
    if matching == "intersect":
        return forward.select(x_of_y[y_of_x] == forward.x_P).sorted()
    x_P, y_P = (np.concatenate(ids) for ids in ((forward.x_P, backward.x_P), (forward.y_P, backward.y_P)))
    return _greedy_matching(Pairs(x_P, y_P, np.concatenate((x_scores, y_scores))).sorted())


def _best_neighbours(own: Nearest, other: Nearest, margin: Margin) -> tuple[NDArray[np.int64], Floats]:
    """For each row the neighbour with the best score, and the score."""
    means_NK = np.broadcast_to(own.cosines_NK.mean(1, keepdims=True), own.ids_NK.shape)
    scores_NK = margin_scores(own.cosines_NK, means_NK, other.cosines_NK.mean(1)[own.ids_NK], margin)
    row_N, best_N = np.arange(len(scores_NK)), scores_NK.argmax(1)
    return own.ids_NK[row_N, best_N], scores_NK[row_N, best_N]


def _greedy_matching(pairs: Pairs) -> Pairs:
    """Drop each pair that shares a row with an earlier one."""
    seen_x, seen_y, taken = set[int](), set[int](), list[int]()
    for p, (x, y) in enumerate(zip(pairs.x_P.tolist(), pairs.y_P.tolist(), strict=True)):
        if x not in seen_x and y not in seen_y:
            seen_x.add(x)
            seen_y.add(y)
            taken.append(p)
    return pairs.select(taken)


def tune_threshold(scores_P: NDArray[np.floating[Any]], right_P: NDArray[np.bool_], gold: int) -> float:
    """The score threshold with the best F1: midway between the last accepted pair and the next.

    If accepting all is best, it is the lowest score; 0 if no pair is right. Pairs of equal score go together.

    Args:
        scores_P: in any order.
        right_P: whether each is among the gold pairs.
        gold: number of gold pairs.

    >>> tune_threshold(np.array([0.9, 0.7, 0.5, 0.3]), np.array([True, False, True, False]), gold=2)
    0.4
    """
    if not right_P.any():
        return 0.0
    order_P = np.argsort(-scores_P, kind="stable")
    scores_P, right_P = scores_P[order_P].astype(np.float64), right_P[order_P].cumsum()
    precision_P, recall_P = right_P / np.arange(1, len(right_P) + 1), right_P / gold
    f1_P = 2 * precision_P * recall_P / np.maximum(precision_P + recall_P, 1e-9)
    f1_P[:-1][scores_P[:-1] == scores_P[1:]] = -1
    best = int(f1_P.argmax())
    return float(scores_P[best : best + 2].mean())


Matching: TypeAlias = Literal["max", "intersect", "fwd", "bwd"]
"""Which pairs count: the best without a shared row; mutually best ones; each x with its best y; each y with its x."""


Margin: TypeAlias = Literal["ratio", "distance", "absolute"]
"""The score: the cosine divided by, or minus, the mean cosine to both sides' neighbours; or the cosine alone."""
