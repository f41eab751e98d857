"""The log of a training: losses, speed and updates of each task."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from xstilts.compute import distributed
from xstilts.errors import StepFailed
from xstilts.model.batch import Batch

MILDER = "try a lower lr, or precision fp32"
"""The hint for numbers that overflow."""


@dataclass(frozen=True)
class LogRow:
    """A line of the log: the mean loss (nats) and the speed since the last line."""

    step: int
    total: int
    task: str
    loss: float
    lr: float
    seconds: float
    examples_per_second: float
    tokens_per_second: float
    dev: float | None = None
    updates: dict[str, int] | None = None
    """Updates of each task so far; None with a single task."""


class TrainingLog:
    """Collects losses and speed, and logs them every few updates."""

    def __init__(self, total: int, every: int, log: Callable[[LogRow], None], tasks: Sequence[str]) -> None:
        self.total, self.every, self.log, self.tasks = total, every, log, tasks
        self._start = time.perf_counter()
        self.earlier_seconds = 0.0
        self._last: LogRow | None = None
        self._updates = [0] * len(tasks)
        self._clear()

    @property
    def seconds(self) -> float:
        """Seconds of the training so far, with those before it resumed, `earlier_seconds`."""
        return time.perf_counter() - self._start

    @property
    def shares(self) -> dict[str, int]:
        """Updates by task."""
        counts = dict.fromkeys(self.tasks, 0)
        for task, updates in zip(self.tasks, self._updates, strict=True):
            counts[task] += updates
        return counts

    def _clear(self) -> None:
        self._losses: list[Tensor] = []
        self._examples = self._tokens = 0
        self._since = time.perf_counter()

    def add(self, update: int, part: int, loss: Tensor, lr: float, batch: Batch) -> None:
        """Add one update, of the task with index `part`."""
        self._losses.append(loss)
        self._updates[part] += 1
        self._examples, self._tokens = self._examples + batch.examples, self._tokens + batch.tokens
        self._at = (update, self.tasks[part], lr)
        if len(self._losses) >= self.every:
            self.flush()

    def flush(self) -> None:
        """Log the collected losses; only here are they copied from the device.

        Raises:
            StepFailed: one of the losses is not a number.
        """
        if not self._losses:
            return
        update, task, lr = self._at
        losses = self._sums()
        first = next((i for i, loss in enumerate(losses) if not math.isfinite(loss)), None)
        if first is not None:
            failed_at = update - len(losses) + 1 + first
            raise StepFailed(f"the loss is {losses[first]} at update {failed_at:,} of {self.total:,}",
                             hint=MILDER)  # fmt: skip
        seconds = max(time.perf_counter() - self._since, 1e-9)
        self._last = LogRow(update, self.total, task, sum(losses) / len(losses), lr, self.seconds,
                            self._examples / seconds, self._tokens / seconds,
                            updates=self.shares if len(self.tasks) > 1 else None)  # fmt: skip
        self.log(self._last)
        self._clear()

    def _sums(self) -> list[float]:
        """The collected losses, each the sum of all processes' shares."""
        device = self._losses[-1].device  # losses from a checkpoint are on the CPU
        return distributed.sum_numbers(torch.stack([loss.to(device) for loss in self._losses]).tolist())

    def add_dev_score(self, dev: float) -> None:
        """Log a dev score beside the last loss; the speed leaves out the time of the evaluation."""
        assert self._last is not None
        self.log(replace(self._last, seconds=self.seconds, dev=dev))
        self._since = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        """The collected numbers and times, for a checkpoint."""
        return {
            "seconds": self.seconds,
            "since": time.perf_counter() - self._since,
            "losses": torch.tensor(self._sums()) if self._losses else None,
            "counted": [self._examples, self._tokens],
            "updates": self._updates,
            "at": self._at,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.earlier_seconds = state["seconds"]
        self._start, self._since = (time.perf_counter() - state[name] for name in ("seconds", "since"))
        first = distributed.rank() == 0  # has the shares of all
        self._losses = [] if state["losses"] is None else [loss if first else 0 * loss for loss in state["losses"]]
        self._examples, self._tokens = state["counted"]
        self._updates, self._at = list(state["updates"]), tuple(state["at"])
