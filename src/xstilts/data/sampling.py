"""Samples the raw-text examples of a language for an epoch, with a fixed seed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SEED = 0
"""One seed for all seeds of a study, so that they train on the same text."""


def sample_counts(size: int, count: int, language: str) -> NDArray[np.int64]:
    """How often each of `size` examples occurs in `count` samples, [size]; takes about 20 bytes per example.

    Each occurs `count // size` times; the rest is sampled without replacement.

    >>> sample_counts(3, 6, "en").tolist(), int(sample_counts(3, 7, "en").sum())
    ([2, 2, 2], 7)
    """
    minimum, rest = divmod(count, size)
    rng = np.random.default_rng([SEED, *language.encode()])
    times_N = np.full(size, minimum)
    times_N[rng.choice(size, rest, replace=False)] += 1
    return times_N
