"""How well two orders of the same few things agree: Spearman, Kendall, permutation tests; without torch."""

# Shape suffixes: N = things that are ordered, P = permutations, K = targets

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import chain, permutations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FEWEST = 3
"""Things below which an order says nothing."""
ALL_OF = 9
"""Things of which every permutation is tried (the paper has nine tasks); of more so many are drawn."""
DRAWN = 20_000


class Agreement(NamedTuple):
    """How an order agrees with another over `n` things, and how likely chance alone does as well."""

    n: int
    spearman: float
    kendall: float
    p: float
    """Two-sided, for Spearman's."""


def ranks(values_N: Sequence[float] | Array) -> Array:
    """Ranks from 1 for the lowest; equal values share the mean of theirs.

    >>> ranks([3.0, 1.0, 3.0]).tolist()
    [2.5, 1.0, 2.5]
    """
    values_N = np.asarray(values_N, np.float64)
    lower_N = (values_N[:, None] > values_N).sum(1)
    equal_N = (values_N[:, None] == values_N).sum(1)
    ranked_N: Array = lower_N + (equal_N + 1) / 2
    return ranked_N


def spearman(one_N: Sequence[float] | Array, other_N: Sequence[float] | Array) -> float | None:
    """The correlation of the ranks; None if one side's are all equal.

    >>> spearman([1, 2, 3, 4], [1, 3, 2, 4])
    0.8
    """
    a_N, b_N = _centred(one_N), _centred(other_N)
    lengths = float(np.sqrt((a_N @ a_N) * (b_N @ b_N)))
    return float(a_N @ b_N) / lengths if lengths else None


def kendall(one_N: Sequence[float] | Array, other_N: Sequence[float] | Array) -> float | None:
    """Pairs in the same order less those in opposite orders, as a share (tau-b, for ties); None as above.

    >>> round(kendall([1, 2, 3, 4], [1, 3, 2, 4]), 4)
    0.6667
    """
    a_NN, b_NN = (np.sign(np.subtract.outer(np.asarray(x), np.asarray(x))) for x in (one_N, other_N))
    lengths = float(np.sqrt((a_NN**2).sum() * (b_NN**2).sum()))
    return float((a_NN * b_NN).sum()) / lengths if lengths else None


def agree(one_KN: Sequence[Sequence[float]], other_KN: Sequence[Sequence[float]]) -> Agreement | None:
    """Mean agreement over several targets of the same things; None with fewer than three things, or without an order.

    For the p value the things are permuted, in the same way for all targets: what helps one often helps others, so
    that the targets are no independent witnesses.

    Args:
        one_KN: a list for each target, of one score each.
        other_KN: the other scores of the same things.
    """
    pairs = list(zip(one_KN, other_KN, strict=True))
    n = len(pairs[0][0]) if pairs else 0
    if n < FEWEST:
        return None
    found = [(rho, tau) for a, b in pairs if (rho := spearman(a, b)) is not None and (tau := kendall(a, b)) is not None]
    if len(found) < len(pairs):
        return None
    by_chance_P = np.mean([_permuted(_unit(a), _unit(b)) for a, b in pairs], axis=0)
    rho, tau = (float(np.mean(part)) for part in zip(*found, strict=True))
    return Agreement(n, rho, tau, float((np.abs(by_chance_P) >= abs(rho) - 1e-9).mean()))


def beyond_chance(n: int) -> float | None:
    """Spearman's correlation that chance alone reaches, up or down, one time in twenty at most; None if it always may.

    >>> beyond_chance(4), beyond_chance(5)
    (None, 1.0)
    """
    line_N = _unit(np.arange(n, dtype=np.float64))
    by_chance_P = np.abs(_permuted(line_N, line_N))
    values = [value for value in np.unique(by_chance_P.round(9)) if (by_chance_P >= value - 1e-9).mean() <= 0.05]
    return float(values[0]) if values else None


def _centred(values_N: Sequence[float] | Array) -> Array:
    centred_N: Array = (ranked_N := ranks(values_N)) - ranked_N.mean()
    return centred_N


def _unit(values_N: Sequence[float] | Array) -> Array:
    centred_N = _centred(values_N)
    return centred_N / float(np.sqrt(centred_N @ centred_N))


def _permuted(one_N: Array, other_N: Array) -> Array:
    """[P] correlations of one side's ranks with the permuted other's."""
    by_chance_P: Array = np.asarray(other_N[_orders(len(one_N))] @ one_N)
    return by_chance_P


@cache
def _orders(n: int) -> NDArray[np.int64]:
    """[P, N] permutations, the first of which changes nothing: all of them, or some drawn by a fixed seed."""
    if n <= ALL_OF:
        return np.fromiter(chain.from_iterable(permutations(range(n))), np.int8).reshape(-1, n).astype(np.int64)
    rng = np.random.default_rng(0)
    return np.vstack([np.arange(n), rng.permuted(np.tile(np.arange(n), (DRAWN, 1)), axis=1)])
