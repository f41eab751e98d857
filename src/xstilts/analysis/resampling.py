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
"""Bootstrap samples, and permutations at once."""
SEED = 20
ENOUGH = 20
"""A permutation test ends when so many permutations were at least as extreme as what was seen."""
EXACT = 12
"""Examples that differ, up to which all permutations (2^12) are looked at."""
LEVEL = 0.95
_TIE = 1e-9  # what is equal but for rounding is equally extreme
_AT_ONCE = 5_000_000  # drawn examples that are held in memory


def bootstrap(parts_RNK: Array, score: Callable[[Array], Array]) -> Array:
    """Scores [B, R] of all runs on the same samples of the examples, drawn with replacement.

    Data sets of one size get the same samples: what is the same example in several languages is drawn in all of them.
    """
    runs, n, k = parts_RNK.shape
    rng = np.random.default_rng([SEED, 0, n])
    flat = parts_RNK.transpose(1, 0, 2).reshape(n, runs * k)
    scores = []
    for some in _portions(SAMPLES, max(1, _AT_ONCE // n)):
        drawn = rng.integers(0, n, (some, n)) + n * np.arange(some)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=some * n).reshape(some, n)
        scores.append(score((weights.astype(np.float64) @ flat).reshape(some, runs, k)))
    return np.concatenate(scores)


def seeds_drawn(seeds: int) -> Array:
    """Weights [B, S] of seeds that are drawn with replacement, the same for all that have so many."""
    return np.random.default_rng([SEED, 1, seeds]).multinomial(seeds, [1 / seeds] * seeds, SAMPLES) / seeds


def interval(values_B: Array) -> tuple[float, float]:
    """The middle 95 % of bootstrap values (percentile method).

    >>> [round(end) for end in interval(np.arange(201.0))]
    [5, 195]
    """
    low, high = np.quantile(values_B, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Pair:
    """Two systems on the same examples, with what each example adds at each seed."""

    first_SNK: Array
    second_SNK: Array


def permutation(pairs: Sequence[Pair], score: Callable[[Array], Array], limit: int = SAMPLES) -> float:
    """How often systems that are exchanged at random, example by example, differ as much as they do; two-sided.

    What is compared is the mean of the scores' difference over seeds and over `pairs`, the languages. Example i is
    exchanged in all seeds and languages at once: the answers of several runs to one question, or to its translations,
    are no independent witnesses. All permutations are looked at if at most `EXACT` examples differ; otherwise random
    ones, until `ENOUGH` were as extreme or there were `limit`, and what was seen counts as one of them (Phipson and
    Smyth 2010), so that p is never 0.

    Returns:
        p, from 1 / (limit + 1) or 1 / 2^EXACT to 1.
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
        total = np.zeros(len(swapped_BN))
        for first_SK, second_SK, flat in sides:
            moved = (swapped_BN[:, : len(flat)] @ flat).reshape(-1, *first_SK.shape)
            total += (score(second_SK - moved) - score(first_SK + moved)).mean(1)
        return total / len(sides)

    seen = abs(differences(np.zeros((1, len(where))))[0]) - _TIE
    if len(where) <= EXACT:
        every = (np.arange(2 ** len(where))[:, None] >> np.arange(len(where))) & 1
        return float((abs(differences(every.astype(np.float64))) >= seen).mean())
    rng = np.random.default_rng([SEED, 2, len(where)])
    extreme, drawn = 0, 0
    for some in _portions(limit, min(SAMPLES, max(1, _AT_ONCE // len(where)))):
        bits = np.unpackbits(rng.integers(0, 256, (some, (len(where) + 7) // 8), np.uint8), axis=1)
        extreme += int((abs(differences(bits[:, : len(where)].astype(np.float64))) >= seen).sum())
        drawn += some
        if extreme >= ENOUGH:
            break
    return (1 + extreme) / (1 + drawn)


def _portions(total: int, most: int) -> Iterator[int]:
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
