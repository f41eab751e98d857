"""Which examples of a language are drawn for an epoch, by a fixed seed and without holding anything of their number."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

SEED = 0
"""Of what is drawn: the same for all seeds of a study, so that they train on the same text."""
BLOCK = 2**16
"""Examples that are drawn from at once."""


def times(size: int, count: int, language: str) -> Iterator[int]:
    """How often each of `size` examples is among `count` draws, in the examples' order.

    All are there `count // size` times, and the rest is drawn without replacement. That a block of examples is drawn
    from at a time changes nothing: how many of the rest fall into it is drawn first (hypergeometric).

    >>> list(times(3, 6, "en")), sum(times(3, 7, "en")), sum(times(100_000, 70_000, "en"))
    ([2, 2, 2], 7, 70000)
    """
    rng = np.random.default_rng([SEED, *language.encode()])
    whole, rest = divmod(count, size)
    for start in range(0, size, BLOCK):
        here = min(BLOCK, size - start)
        some = int(rng.hypergeometric(rest, size - start - rest, here))
        rest -= some
        block = np.full(here, whole)
        block[rng.choice(here, some, replace=False)] += 1
        yield from block.tolist()
