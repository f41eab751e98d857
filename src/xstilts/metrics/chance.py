"""When a run has ended at chance: its score is not above that of answers that look at nothing, but for noise."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

NOISE = 2.0
"""Standard errors that a score must be above chance; by luck alone a run is so in one case of forty."""


def margin(chance: float, n: int) -> float:
    """How far above chance, in points, a score of `n` examples may be by luck: two standard errors of a share.

    Chance is taken to lie between 1 and n of n + 1, or there would be no noise at its ends.

    >>> margin(50, 100)
    10.0
    >>> round(margin(0, 100), 2)  # of 1 in 101
    1.98
    """
    share = min(max(chance / 100, 1 / (n + 1)), n / (n + 1))
    return 100 * NOISE * sqrt(share * (1 - share) / n)


def at_chance(value: float, chances: Sequence[float], sizes: Sequence[int]) -> bool:
    """Whether a score is not above chance.

    Args:
        value: in percent; the mean over some data sets, mostly a single one.
        chances: what answers that look at nothing get on each, in percent.
        sizes: the number of examples of each.

    >>> at_chance(60, [50], [100]), at_chance(60, [50], [200])
    (True, False)
    """
    noise = sqrt(sum(margin(chance, n) ** 2 for chance, n in zip(chances, sizes, strict=True)))
    return value <= (sum(chances) + noise) / len(chances)
