"""Scores of any choice of examples, at the speed of a matrix product: bootstrap, permutation test, Holm's correction.

A score is a function of sums over examples (`Metric.parts` and `Metric.combine`), and so is that of a sample.
Shapes: R runs, S seeds, N examples, K numbers an example, B samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from xstilts.metrics.metric import Array

SAMPLES = 1000
"""Bootstrap samples, and permutations in a batch."""
SEED = 20
MAX_EXTREME = 20
"""A permutation test ends after so many permutations at least as extreme as the observed difference."""
MAX_ENUMERATED = 12
"""Up to so many differing examples all permutations (2^12) are tried."""
CONFIDENCE = 0.95
_TIE = 1e-9  # differences that are equal but for rounding are equally extreme
_MAX_DRAWN = 5_000_000  # drawn examples in memory


def bootstrap(parts_RNK: Array, score: Callable[[Array], Array]) -> Array:
    """Scores [B, R] of all runs on the same samples of the examples, drawn with replacement.

    Data sets of one size get the same samples, so translations of an example are drawn together.
    """
    runs, n, k = parts_RNK.shape
    rng = np.random.default_rng([SEED, 0, n])
    flat = parts_RNK.transpose(1, 0, 2).reshape(n, runs * k)
    scores = []
    for size in _batch_sizes(SAMPLES, max(1, _MAX_DRAWN // n)):
        drawn = rng.integers(0, n, (size, n)) + n * np.arange(size)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n)
        scores.append(score((weights.astype(np.float64) @ flat).reshape(size, runs, k)))
    return np.concatenate(scores)


def median_of_drawn_seeds(values_BS: Array) -> Array:
    """[B] the median over seeds drawn with replacement in each sample; equal shapes get the same draws."""
    samples, seeds = values_BS.shape
    drawn_BS = np.random.default_rng([SEED, 1, seeds]).integers(0, seeds, (samples, seeds))
    medians_B: Array = np.median(np.take_along_axis(values_BS, drawn_BS, axis=1), axis=1)
    return medians_B


def interval(values_B: Array) -> tuple[float, float]:
    """The middle 95 % of bootstrap values (percentile method).

    >>> [round(end) for end in interval(np.arange(201.0))]
    [5, 195]
    """
    low, high = np.quantile(values_B, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Pair:
    """Two systems on the same examples: the parts that each example adds to the score, by seed."""

    first_SNK: Array
    second_SNK: Array


def permutation(pairs: Sequence[Pair], score: Callable[[Array], Array], limit: int = SAMPLES) -> float:
    """The p value of a two-sided permutation test: the two systems swap their answers at random, example by example.

    The statistic is the median over the seeds of the difference between the scores, averaged over `pairs`, the
    languages, which share their seeds. Example i is swapped in all seeds and languages at once, because answers to one
    question or to its translations are not independent. If at most `MAX_ENUMERATED` examples differ, all permutations
    are tried. Otherwise random ones are, until `MAX_EXTREME` were as extreme or there were `limit`. The observed
    difference counts as one of them (Phipson and Smyth 2010), so p is never 0.

    Returns:
        p, from 1 / (limit + 1) or 1 / 2^MAX_ENUMERATED to 1.
    """
    changes = [pair.second_SNK - pair.first_SNK for pair in pairs]
    length = max(change.shape[1] for change in changes)
    differs_N = np.zeros(length, bool)
    for change in changes:
        differs_N[: change.shape[1]] |= change.any((0, 2))
    where = np.flatnonzero(differs_N)
    sides = []
    for pair, change in zip(pairs, changes, strict=True):
        here = where[: np.searchsorted(where, change.shape[1])]
        seeds, _, k = change.shape
        flat = change[:, here].transpose(1, 0, 2).reshape(len(here), seeds * k)
        sides.append((pair.first_SNK.sum(1), pair.second_SNK.sum(1), flat))

    def differences(swapped_BN: Array) -> Array:
        total_BS = np.zeros((len(swapped_BN), len(sides[0][0])))
        for first_SK, second_SK, flat in sides:
            moved = (swapped_BN[:, : len(flat)] @ flat).reshape(-1, *first_SK.shape)
            total_BS += score(second_SK - moved) - score(first_SK + moved)
        medians_B: Array = np.median(total_BS, axis=1) / len(sides)
        return medians_B

    observed = abs(differences(np.zeros((1, len(where))))[0]) - _TIE
    if len(where) <= MAX_ENUMERATED:
        every = (np.arange(2 ** len(where))[:, None] >> np.arange(len(where))) & 1
        return float((abs(differences(every.astype(np.float64))) >= observed).mean())
    rng = np.random.default_rng([SEED, 2, len(where)])
    extreme, drawn = 0, 0
    for size in _batch_sizes(limit, min(SAMPLES, max(1, _MAX_DRAWN // len(where)))):
        bits = np.unpackbits(rng.integers(0, 256, (size, (len(where) + 7) // 8), np.uint8), axis=1)
        extreme += int((abs(differences(bits[:, : len(where)].astype(np.float64))) >= observed).sum())
        drawn += size
        if extreme >= MAX_EXTREME:
            break
    return (1 + extreme) / (1 + drawn)


def _batch_sizes(total: int, most: int) -> Iterator[int]:
    for start in range(0, total, most):
        yield min(most, total - start)


def holm(values: Sequence[float]) -> list[float]:
    """P values corrected for their number (Holm 1979), in the order given.

    The smallest of m is multiplied by m, the next by m - 1, and so on; none gets smaller than the one before it. Where
    the result is below 0.05, the chance that any of the tests is below by luck alone is at most 5 %.

    >>> holm([0.01, 0.04, 0.03, 0.005])
    [0.03, 0.06, 0.06, 0.02]
    """
    adjusted, least = [1.0] * len(values), 0.0
    for rank, i in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        least = max(least, min(1.0, (len(values) - rank) * values[i]))
        adjusted[i] = least
    return adjusted
