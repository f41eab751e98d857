"""The batches of a training, in its order; for a GPU a thread prepares the next one while the GPU computes."""

# Shape suffix: U = updates

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xstilts.compute.memory import TokenBudget
from xstilts.languages import ENGLISH
from xstilts.model.batch import Batch, Masking, ShuffledBatches, collate, generator
from xstilts.model.features import FeatureSet
from xstilts.model.heads import Head
from xstilts.training.settings import TaskSettings


@dataclass(frozen=True)
class TrainTask:
    """One task of a mixture with all that its training needs."""

    settings: TaskSettings
    head: Head
    features: FeatureSet
    masking: Masking | None
    language: str = ENGLISH
    """The language of the training texts, if they have only one."""


@dataclass(frozen=True)
class LoadedBatch:
    """The batch of one update."""

    task: int
    """The index of its task."""
    batch: Batch
    parts: list[Batch]
    """This process's share, in parts of at most `tokens` tokens."""
    tokens: int


class BatchLoader:
    """Draws the batches of a training, one after another.

    Args:
        tasks: the tasks.
        order_U: the task of each update.
        seed: the seed of the order of examples and of masked tokens.
        split: makes the parts of a batch, of at most so many tokens.
        budget: has the number of tokens.
        where: the device that trains.
    """

    def __init__(
        self, tasks: Sequence[TrainTask], order_U: NDArray[np.int16], seed: int,
        split: Callable[[Head, Batch, int], list[Batch]], budget: TokenBudget, where: torch.device,
    ) -> None:  # fmt: skip
        self._tasks, self._order_U, self._split, self._budget = tasks, order_U, split, budget
        self._shuffled = [
            ShuffledBatches(task.features, task.settings.batch, generator(seed, "order", i))
            for i, task in enumerate(tasks)
        ]
        self._mask_rngs = [generator(seed, "hidden", i) for i in range(len(tasks))]
        self._thread: ThreadPoolExecutor | None = None
        if where.type == "cuda":  # a new thread would pin memory through the first GPU
            self._thread = ThreadPoolExecutor(1, initializer=partial(torch.cuda.set_device, where))
        self._next: Future[LoadedBatch] | None = None
        self._state = self._draw_state()

    def load(self, update: int) -> LoadedBatch:
        """The batch of an update, counted from 0; each is loaded once, in order."""
        if self._thread is None:
            return self._draw(update, pin=False)
        loaded = (self._next or self._thread.submit(self._draw, update, pin=True)).result()
        self._state, self._next = self._draw_state(), None
        if update + 1 < len(self._order_U):
            self._next = self._thread.submit(self._draw, update + 1, pin=True)
        return loaded

    def _draw(self, update: int, *, pin: bool) -> LoadedBatch:
        i = int(self._order_U[update])
        task = self._tasks[i]
        batch = collate(task.features, next(self._shuffled[i]), task.masking, self._mask_rngs[i], task.language)
        tokens = self._budget.tokens
        parts = self._split(task.head, batch, tokens)
        return LoadedBatch(i, batch, [part.prepared(pin=True) for part in parts] if pin else parts, tokens)

    def _draw_state(self) -> dict[str, Any]:
        return {
            "shuffled": [shuffled.state_dict() for shuffled in self._shuffled],
            "hidden": [rng.bit_generator.state for rng in self._mask_rngs],
        }

    def state_dict(self) -> dict[str, Any]:
        """The position in the data after the last batch that `load` returned."""
        return self._draw_state() if self._thread is None else self._state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned, before the first `load`."""
        for shuffled, saved in zip(self._shuffled, state["shuffled"], strict=True):
            shuffled.load_state_dict(saved)
        for rng, saved in zip(self._mask_rngs, state["hidden"], strict=True):
            rng.bit_generator.state = saved
