"""Progress for a Python program: a function gets an event for each change, and nothing is drawn."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from xstilts.utils.progress import Progress, StepProgress, WorkerTable, is_secondary_process

OnProgress: TypeAlias = Callable[[StepProgress], object]

NOTES = logging.getLogger("xstilts")
"""Gets the notes of a run with a callback, at the level WARNING, which Python prints on stderr by default."""


class CallbackError(BaseException):
    """Carries the `error` of a user's callback out of a run; no `except Exception` takes it for an error of a step."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


class CallbackProgress(Progress):
    """Calls a function in this process with each event; its first error ends the run.

    Args:
        callback: the function.
        in_training: whether the steps are done in this process, so that an error would break into a training. It then
            waits as `error` until the training has written a checkpoint.
    """

    has_callback = True

    def __init__(self, callback: OnProgress, *, in_training: bool = True) -> None:
        self.live, self._callback, self._in_training = False, callback, in_training
        self._current: StepProgress | None = None
        self._table: list[CallbackProgress] = []

    def step(self, number: int, total: int, title: str, id: str = "", kind: str = "") -> None:
        """Begin step `number` of `total`."""
        self._send(StepProgress(id, kind, title, number, total, "started"))

    def update(
        self, done: int, total: int, details: str, seconds_left: float | None = None, loss: float | None = None
    ) -> None:
        """Send an event, unless the numbers are those of a part of the step, such as the translation of its answers."""
        before = self._current
        if before is None or self.error or (before.total and (total != before.total or done < before.done)):
            return
        event = replace(before, state="running", done=done, total=total, seconds_left=seconds_left, loss=loss)
        try:
            self._send(event)
        except CallbackError as error:
            if loss is None or not self._in_training:
                raise
            self.error = error

    def end(self, text: str) -> None:
        """Do nothing; `ended` follows."""

    def clear(self) -> None:
        """Forget the step of a worker that died."""
        self._current = None

    def say(self, text: str) -> None:
        """Log a note."""
        if not is_secondary_process():
            NOTES.warning(text)

    def ended(self, event: StepProgress) -> None:
        """Send the last event of a step, with its numbers."""
        running = (one._current for one in (self, *self._table))
        before = next((one for one in running if one is not None and one.step == event.step), None)
        if before is not None:
            whole = event.state == "done" and event.kind != "train"
            done = before.total if whole else before.done
            event = replace(event, done=done, total=before.total, loss=before.loss)
        self._send(event)
        self._current = None

    def worker_table(self, workers: int) -> WorkerTable:
        """The progress of several workers, which call the same function."""
        self._table = [CallbackProgress(self._callback, in_training=False) for _ in range(workers)]
        return _CallbackTable(self._table)

    def _send(self, event: StepProgress) -> None:
        if self.error:
            raise self.error
        self._current = event
        if is_secondary_process():
            return
        try:
            self._callback(event)
        except BaseException as error:
            raise CallbackError(error) from error


class _CallbackTable(WorkerTable):
    def __init__(self, workers: list[CallbackProgress]) -> None:
        self._rows = workers

    def __getitem__(self, slot: int) -> CallbackProgress:
        return self._rows[slot]

    def close(self) -> None:
        """Do nothing."""
