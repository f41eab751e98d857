"""Which raw-text examples of a language an epoch takes, chosen by a fixed seed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SEED = 0
"""The same for all seeds of a study, so that all train on the same text."""


def times(size: int, count: int, language: str) -> NDArray[np.int64]:
    """How often each of `size` examples is among `count` samples, [size]; takes about 20 bytes an example.

    All are there `count // size` times; the rest is sampled without replacement.

    >>> times(3, 6, "en").tolist(), int(times(3, 7, "en").sum())
    ([2, 2, 2], 7)
    """
    whole, rest = divmod(count, size)
    rng = np.random.default_rng([SEED, *language.encode()])
    times_N = np.full(size, whole)
    times_N[rng.choice(size, rest, replace=False)] += 1
    return times_N
