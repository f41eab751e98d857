"""How well two orders of the same few things agree: Spearman, Kendall, permutation tests."""

# Shape suffixes: N = things that are ordered, P = permutations, K = targets

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import chain, permutations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MIN_ITEMS = 3
"""With fewer things an order says nothing."""
MAX_ENUMERATED = 9
"""Up to so many things every permutation is tried (the paper has nine tasks)."""
NUM_PERMUTATIONS = 20_000
"""Permutations drawn for more things."""


class Agreement(NamedTuple):
    """How well two orders of `n` things agree, and the probability of such agreement by chance."""

    n: int
    spearman: float
    kendall: float
    p: float
    """Two-sided, for Spearman's."""


def spearman(one_N: Sequence[float] | Array, other_N: Sequence[float] | Array) -> float | None:
    """The correlation of the ranks, equal values sharing the mean of theirs; None if one side's are all equal.

    >>> round(spearman([1, 2, 3, 4], [1, 3, 2, 4]), 9)
    0.8
    """
    from scipy.stats import spearmanr

    return None if _constant(one_N) or _constant(other_N) else float(spearmanr(one_N, other_N).statistic)


def kendall(one_N: Sequence[float] | Array, other_N: Sequence[float] | Array) -> float | None:
    """Pairs in the same order less those in opposite orders, as a share (tau-b, for ties); None as above.

    >>> round(kendall([1, 2, 3, 4], [1, 3, 2, 4]), 4)
    0.6667
    """
    from scipy.stats import kendalltau

    return None if _constant(one_N) or _constant(other_N) else float(kendalltau(one_N, other_N).statistic)


def _constant(values_N: Sequence[float] | Array) -> bool:
    return bool(np.ptp(values_N) == 0)


def rank_agreement(one_KN: Sequence[Sequence[float]], other_KN: Sequence[Sequence[float]]) -> Agreement | None:
    """Mean agreement over several targets of the same things; None with fewer than three things, or without an order.

    For the p value the things are permuted, in the same way for all targets: a task that helps one target often helps
    others, so the targets are not independent.

    Args:
        one_KN: a list for each target, of one score each.
        other_KN: the other scores of the same things.
    """
    pairs = list(zip(one_KN, other_KN, strict=True))
    n = len(pairs[0][0]) if pairs else 0
    if n < MIN_ITEMS:
        return None
    found = [(rho, tau) for a, b in pairs if (rho := spearman(a, b)) is not None and (tau := kendall(a, b)) is not None]
    if len(found) < len(pairs):
        return None
    null_P = np.mean(
        [_permutation_correlations(_standardized_ranks(a), _standardized_ranks(b)) for a, b in pairs], axis=0
    )
    rho, tau = (float(np.mean(part)) for part in zip(*found, strict=True))
    return Agreement(n, rho, tau, float((np.abs(null_P) >= abs(rho) - 1e-9).mean()))


def critical_spearman(n: int) -> float | None:
    """The least Spearman correlation, up or down, with p <= 0.05; None if there is none.

    >>> critical_spearman(4), critical_spearman(5)
    (None, 1.0)
    """
    line_N = _standardized_ranks(np.arange(n, dtype=np.float64))
    null_P = np.abs(_permutation_correlations(line_N, line_N))
    values = [value for value in np.unique(null_P.round(9)) if (null_P >= value - 1e-9).mean() <= 0.05]
    return float(values[0]) if values else None


def _standardized_ranks(values_N: Sequence[float] | Array) -> Array:
    """The ranks with mean 0 and length 1: the product of two such rows is Spearman's correlation."""
    from scipy.stats import rankdata

    ranks_N: Array = rankdata(values_N)
    centred_N = ranks_N - ranks_N.mean()
    unit_N: Array = centred_N / float(np.sqrt(centred_N @ centred_N))
    return unit_N


def _permutation_correlations(one_N: Array, other_N: Array) -> Array:
    """[P] correlations of one side's ranks with the permuted other's."""
    null_P: Array = np.asarray(other_N[_permutations(len(one_N))] @ one_N)
    return null_P


@cache
def _permutations(n: int) -> NDArray[np.int64]:
    """[P, N] permutations, the identity first: all of them, or `NUM_PERMUTATIONS` random ones with a fixed seed."""
    if n <= MAX_ENUMERATED:
        return np.fromiter(chain.from_iterable(permutations(range(n))), np.int8).reshape(-1, n).astype(np.int64)
    rng = np.random.default_rng(0)
    return np.vstack([np.arange(n), rng.permuted(np.tile(np.arange(n), (NUM_PERMUTATIONS, 1)), axis=1)])
