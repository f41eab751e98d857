"""Out of memory: which errors mean it, how memory is freed, and how a pass then becomes smaller."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, TypeVar

import torch

from xstilts.errors import OutOfMemory

T = TypeVar("T")

MESSAGES = ("out of memory", "can't allocate memory", "_STATUS_ALLOC_FAILED")
"""Texts of a `RuntimeError` when memory is full: CUDA, MPS and NCCL; the CPU; cuBLAS and cuDNN."""
PATIENCE = 100
"""The updates after which a halved budget doubles again. A failed try costs about one update."""
GO_ON = "run the same command again with more memory free, such as fewer --workers: a training continues from its last "
GO_ON += "checkpoint; a shorter max_length, or precision bf16, trains anew"
"""The hint for a step that does not fit."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the memory of the accelerator, or of the machine, is full."""
    texts = MESSAGES if isinstance(error, RuntimeError) else ()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(text in str(error) for text in texts)


def free(where: torch.device) -> None:
    """Give back the memory that Python and torch no longer need on an accelerator."""
    if where.type in ("cuda", "mps"):
        gc.collect()
        getattr(torch, where.type).empty_cache()


def attempt(work: Callable[[], T], where: torch.device) -> T | None:
    """The result of some work; None if memory was too small for it, and then its memory is free again."""
    try:
        return work()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    free(where)  # outside the handler, where the error's traceback would still hold every tensor
    return None


class Part(Protocol):
    """A part of a batch."""

    @property
    def tokens(self) -> int:
        """Its tokens."""


P = TypeVar("P", bound=Part)


class TokenBudget:
    """The most tokens of one pass: halved when memory is full, doubled again after `PATIENCE` updates.

    Attributes:
        most: the number at the start, which is never exceeded.
        tokens: the number now.
    """

    def __init__(self, tokens: int) -> None:
        self.most = self.tokens = tokens
        self._updates = 0

    def compute(self, split: Callable[[int], Sequence[P]], work: Callable[[Sequence[P]], T], where: torch.device) -> T:
        """The result of some work on the parts of a batch, which become smaller until memory suffices.

        Args:
            split: gives parts of at most so many tokens.
            work: computes all parts; after an error it leaves nothing behind.
            where: the device.

        Raises:
            OutOfMemory: an example that cannot be split does not fit.
        """
        while True:
            parts = split(self.tokens)
            result = attempt(partial(work, parts), where)
            if result is not None:
                return result
            largest = max((part.tokens for part in parts), default=self.tokens + 1)
            if largest > self.tokens:
                raise OutOfMemory(f"one example of {largest:,} tokens does not fit into memory", hint=GO_ON)
            self.tokens, self._updates = largest // 2, 0

    def note_update(self) -> None:
        """Count an update; a halved budget doubles after enough of them, because memory may be free again."""
        self._updates += self.tokens < self.most
        if self._updates == PATIENCE:
            self.tokens, self._updates = min(self.most, max(1, 2 * self.tokens)), 0
