"""A forward pass that torch compiles, for rows of few lengths; what does not compile is computed as usual."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from xstilts.compute.private import breaks_graph
from xstilts.errors import first_line
from xstilts.model.packing import readable_by_compiler

BUCKET = 256
"""Compiled rows of up to 1,024 tokens are padded to a multiple of this; longer ones in proportion."""


class CompiledForward:
    """A model's forward pass, which torch compiles when it is first called.

    Sizes are variables of the graph, so that it serves all lengths.

    Args:
        forward: the model's own.
        failed: called with the reason when `retry` gives up.
    """

    def __init__(self, forward: Callable[..., Any], failed: Callable[[str], None]) -> None:
        self._forward, self._failed, self._whole = forward, failed, True
        self._compiled = torch.compile(forward, dynamic=True, fullgraph=True)

    def __call__(self, **inputs: Any) -> Any:
        """The model's output."""
        with readable_by_compiler():
            return self._compiled(**inputs)

    def retry(self, error: Exception) -> bool:
        """Whether another call can succeed after an error: a model that does not compile as a whole does so in parts.

        The error may also come from the backward pass, which is compiled when it is first needed.
        """
        if self._whole and breaks_graph(error):
            self._whole, self._compiled = False, torch.compile(self._forward, dynamic=True)
            return True
        self._failed(first_line(getattr(error, "inner_exception", error)))
        return False


def bucket(tokens: int) -> int:
    """The tokens of a compiled row: one of four numbers between each power of two and the next.

    >>> [bucket(tokens) for tokens in (1, 256, 257, 1025, 5000, 8192)]
    [256, 256, 512, 1280, 5120, 8192]
    """
    step = max(BUCKET, (1 << (tokens - 1).bit_length()) // 8)
    return -(-tokens // step) * step
