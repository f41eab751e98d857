"""Whether a run has collapsed: its score is within two standard errors of chance."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

STANDARD_ERRORS = 2.0
"""Standard errors by which a score must exceed chance; by luck, one run in forty does."""


def margin(chance: float, n: int) -> float:
    """Two standard errors, in points, of a chance score on `n` examples.

    Chance is clipped to 1 / (n + 1) and n / (n + 1), because 0 and 1 have no standard error.

    >>> margin(50, 100)
    10.0
    >>> round(margin(0, 100), 2)  # of 1 in 101
    1.98
    """
    share = min(max(chance / 100, 1 / (n + 1)), n / (n + 1))
    return 100 * STANDARD_ERRORS * sqrt(share * (1 - share) / n)


def at_chance(value: float, chances: Sequence[float], sizes: Sequence[int]) -> bool:
    """Whether a score is within two standard errors of chance, or below.

    Args:
        value: the score, or the mean over several data sets, in percent.
        chances: what constant predictions score on each, in percent.
        sizes: the number of examples of each.

    >>> at_chance(60, [50], [100]), at_chance(60, [50], [200])
    (True, False)
    """
    noise = sqrt(sum(margin(chance, n) ** 2 for chance, n in zip(chances, sizes, strict=True)))
    return value <= (sum(chances) + noise) / len(chances)
