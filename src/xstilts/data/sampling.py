"""Samples the examples of a language: of raw text for an epoch, with a fixed seed, or the shots of a training."""

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


def draw_shots(size: int, shots: int, language: str, seed: int) -> NDArray[np.bool_]:
    """Which of `size` examples of a language are drawn, [size]: `shots` of them, or all of fewer.

    With the same seed more shots include those of fewer.

    >>> few, more = (draw_shots(9, shots, "en", seed=1) for shots in (2, 5))
    >>> int(few.sum()), int(more.sum()), bool((few <= more).all())
    (2, 5, True)
    """
    drawn_N = np.zeros(size, bool)
    drawn_N[np.random.default_rng([seed, *language.encode()]).permutation(size)[:shots]] = True
    return drawn_N
