"""Checkpoints: the whole state of an unfinished training, in one file of its step's folder."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any
from zipfile import ZipFile

import torch

from xstilts.compute import distributed
from xstilts.compute.memory import is_out_of_memory
from xstilts.errors import UserError
from xstilts.training.settings import CHECKPOINT, LOG
from xstilts.utils.progress import Progress

VERSION = 4
END_SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Signals that ask the process to end."""


def temporary_file(folder: Path) -> Path:
    """The file in a step's folder to which its next checkpoint is written, until it is whole."""
    return folder / f".{CHECKPOINT}.tmp"


class Checkpoint:
    """The newest state of one training: written every few minutes and before the process ends, whole or not at all.

    The log is part of the state: a training that resumes also gets the log of that moment back.

    Args:
        folder: the step's folder.
        minutes: the time between two checkpoints.
        origin: sha256 of the training's inputs, in the order in which they are read, and the hardware; a checkpoint of
            another origin is ignored.
        progress: receives a message on whether the training resumes; its `error` ends the training.
    """

    def __init__(self, folder: Path, minutes: float, origin: Sequence[str], progress: Progress | None = None) -> None:
        self.path, self.log, self._seconds = folder / CHECKPOINT, folder / LOG, 60 * minutes
        self._origin, self._progress = list(origin), progress
        self._last = time.monotonic()
        self._delayed_signal: int | None = None

    @contextmanager
    def delayed_signals(self) -> Iterator[None]:
        """Delay a signal to end until the state is written; a second signal ends at once."""
        possible = threading.current_thread() is threading.main_thread()
        handlers = {number: signal.getsignal(number) for number in END_SIGNALS if possible}
        handlers = {number: handler for number, handler in handlers.items() if handler not in (None, signal.SIG_IGN)}

        def restore_handlers() -> None:
            for number, handler in handlers.items():
                signal.signal(number, handler)

        def delay(number: int, _: FrameType | None) -> None:
            self._delayed_signal = number
            restore_handlers()

        for number in handlers:
            signal.signal(number, delay)
        try:
            yield
        finally:
            restore_handlers()
            self._raise_delayed_signal()

    def _raise_delayed_signal(self) -> None:
        number, self._delayed_signal = self._delayed_signal, None
        if number is not None:
            signal.raise_signal(number)

    def due(self) -> bool:
        """Whether the last checkpoint is old enough, or a signal or a callback's error asks to end."""
        asked = self._delayed_signal is not None or (self._progress is not None and self._progress.error is not None)
        return asked or time.monotonic() - self._last >= self._seconds

    def write(self, state: Mapping[str, Any]) -> None:
        """Replace the last checkpoint; both are on the disk for a moment. Of several processes the first writes."""
        self._last = time.monotonic()
        if distributed.rank() == 0:
            self._write(state)
        distributed.meet()  # a signal would end the others, and with them the run, before the first has written
        self._raise_delayed_signal()
        if self._progress is not None and self._progress.error is not None:
            raise self._progress.error

    def _say(self, text: str) -> None:
        if self._progress is not None:
            self._progress.say(text)

    def _write(self, state: Mapping[str, Any]) -> None:
        whole = {"version": VERSION, "origin": self._origin, "log": self.log.read_text(encoding="utf-8"), **state}
        temporary = temporary_file(self.path.parent)
        try:
            with temporary.open("wb") as file:
                torch.save(whole, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        except RuntimeError as error:  # torch raises it when the disk is full
            raise error.__context__ if isinstance(error.__context__, OSError) else error from error
        finally:
            with suppress(OSError):  # it still exists only after an error
                temporary.unlink()

    def load(self) -> dict[str, Any] | None:
        """The state to resume from, and the log of that moment put back; None: train from the beginning.

        Raises:
            UserError: processes that train together have other inputs, or would resume at different updates.
        """
        state = self._usable() if self.path.exists() else None
        update = 0 if state is None else state["update"]
        updates, origins = zip(*distributed.all_gather((update, self._origin)), strict=True)
        if any(origin != self._origin for origin in origins):
            what = "one process has other data, weights or devices than another"
            raise UserError(what, where=str(self.path.parent), hint="all need the same files, and GPUs of one kind")
        if len({*updates}) > 1:
            what = f"one process would resume at update {min(updates):,}, another at update {max(updates):,}"
            raise UserError(what, where=str(self.path), hint="all need this folder")
        if state is not None:
            if distributed.rank() == 0:
                self.log.write_text(state["log"], encoding="utf-8")
            self._say(f"resumes at update {update:,}")
        return state

    def _usable(self) -> dict[str, Any] | None:
        """The state of the file; None if it does not belong to this training."""
        state = self._read()
        if state is None or (state.get("version"), state.get("origin")) != (VERSION, self._origin):
            why = "is damaged" if state is None else "has other data, weights or devices, or another version"
            self._say(f"the checkpoint {why}: the training starts from the beginning")
            return None
        return state

    def _read(self) -> dict[str, Any] | None:
        """The content of the file; None if it is damaged."""
        try:
            with ZipFile(self.path) as file:  # torch.load does not compare the checksums
                if file.testzip() is not None:
                    return None
            state = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:  # readers raise many kinds of errors on a damaged file
            if is_out_of_memory(error):
                raise
            return None
        return state if isinstance(state, dict) else None
