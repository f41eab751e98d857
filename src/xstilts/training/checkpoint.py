"""Checkpoints: the whole state of a training under way, in one file of its step's folder."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any
from zipfile import ZipFile

import torch

from xstilts.compute import distributed
from xstilts.training.settings import CHECKPOINT

VERSION = 3
LOG = "log.jsonl"
ENDS = (signal.SIGINT, signal.SIGTERM)
"""Signals by which somebody asks to end."""


class Checkpoint:
    """The newest state of one training; written every so many minutes and before an end, whole or not at all.

    The log is part of the state: a training that goes on from a checkpoint goes on with the log of that moment.

    Args:
        folder: of the step.
        minutes: between two writings.
        origin: sha256 of all that the training starts from, in the order in which it is read, and what it runs on; a
            checkpoint of another origin is of no use.
        say: is told whether a checkpoint that is there is gone on from.
    """

    def __init__(
        self, folder: Path, minutes: float, origin: Sequence[str], say: Callable[[str], None] = lambda _: None
    ) -> None:
        self.path, self.log, self._seconds = folder / CHECKPOINT, folder / LOG, 60 * minutes
        self._origin, self._say = list(origin), say
        self._last = time.monotonic()
        self._asked: int | None = None

    @contextmanager
    def before_an_end(self) -> Iterator[None]:
        """Whoever asks to end meanwhile has to wait until the state is written; who asks twice has not.

        Processes that train together are not held: their signals do not come after the same update.
        """
        alone = distributed.world_size() == 1 and threading.current_thread() is threading.main_thread()
        before = {number: signal.getsignal(number) for number in ENDS if alone}
        before = {number: act for number, act in before.items() if act not in (None, signal.SIG_IGN)}

        def release() -> None:
            for number, act in before.items():
                signal.signal(number, act)

        def hold(number: int, _: FrameType | None) -> None:
            self._asked = number
            release()

        for number in before:
            signal.signal(number, hold)
        try:
            yield
        finally:
            release()
            self._end()

    def _end(self) -> None:
        """Pass on what was held back."""
        asked, self._asked = self._asked, None
        if asked is not None:
            signal.raise_signal(asked)

    def due(self) -> bool:
        """Whether the last one is old enough, or somebody asks to end."""
        return self._asked is not None or time.monotonic() - self._last >= self._seconds

    def write(self, state: Mapping[str, Any]) -> None:
        """Take the place of the last one; both are on the disk for a moment. Of several processes the first does it."""
        self._last = time.monotonic()
        if distributed.rank() == 0:
            self._write(state)
        self._end()

    def _write(self, state: Mapping[str, Any]) -> None:
        whole = {"version": VERSION, "origin": self._origin, "log": self.log.read_text(encoding="utf-8"), **state}
        beside = self.path.with_name(f".{CHECKPOINT}.tmp")
        try:
            with beside.open("wb") as file:
                torch.save(whole, file)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self.path)
        except RuntimeError as error:  # what torch makes of a full disk
            raise error.__context__ if isinstance(error.__context__, OSError) else error from error
        finally:
            with suppress(OSError):  # it is gone already unless something went wrong
                beside.unlink()

    def load(self) -> dict[str, Any] | None:
        """The state to go on from; the log is put back to that moment. None: begin at the beginning."""
        if not self.path.exists():
            return None
        state = self._sound()
        if state is None or (state.get("version"), state.get("origin")) != (VERSION, self._origin):
            why = "is damaged" if state is None else "is of other data, weights or devices, or of another version"
            self._say(f"the checkpoint {why}: the training begins anew")
            return None
        if distributed.rank() == 0:
            self.log.write_text(state["log"], encoding="utf-8")
        self._say(f"goes on at update {state['update']:,}")
        return state

    def _sound(self) -> dict[str, Any] | None:
        """What the file holds, if it is whole."""
        try:
            with ZipFile(self.path) as file:  # as torch writes them, which does not compare the checksums
                if file.testzip() is not None:
                    return None
            state = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception:  # whatever readers make of a damaged file
            return None
        return state if isinstance(state, dict) else None
