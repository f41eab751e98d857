"""Samples of streams whose length is not known."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def reservoir(items: Iterable[T], count: int, seed: int) -> list[T]:
    """At most `count` items of a stream, each as likely as any other, in no order (Vitter's algorithm R).

    The whole stream is read.
    """
    kept: list[T] = []
    rng = random.Random(seed)
    for i, item in enumerate(items):
        if i < count:
            kept.append(item)
        elif (slot := rng.randrange(i + 1)) < count:
            kept[slot] = item
    return kept
