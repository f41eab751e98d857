"""Progress on stderr: live on a terminal, a line for each thing that is done; elsewhere a plain line now and then."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Sequence
from typing import TypeVar

from rich.console import Console
from rich.live import Live
from rich.progress import track
from rich.table import Table
from rich.text import Text

T = TypeVar("T")

PLAIN_SECONDS = 15.0
"""Time between two plain lines of the same step."""


def second() -> bool:
    """Whether this is one of several processes that train together, and not the first."""
    return several() and os.environ.get("RANK", "0") not in ("", "0")


def several() -> bool:
    """Whether this is one of several processes that torchrun has started, to train together."""
    return os.environ.get("WORLD_SIZE", "1") not in ("", "1")


def each(things: Sequence[T], doing: str) -> Iterable[T]:
    """The same things; on a terminal a bar shows how many of them are behind, until all are."""
    console = Console(stderr=True)
    return track(things, doing, console=console, transient=True, disable=not console.is_terminal)


class Progress:
    """Says which step is being done, how far it is, and how long it will take."""

    def __init__(self, *, live: bool | None = None) -> None:
        silent = second()  # of the processes that train together the first one speaks
        self.live = (sys.stderr.isatty() if live is None else live) and not silent
        self._console = Console(stderr=True, quiet=silent, highlight=False, no_color=not self.live, soft_wrap=True)
        self._status = self._console.status("") if self.live else None
        self._title, self._said = "", 0.0

    def step(self, number: int, total: int, title: str) -> None:
        """Begin step `number` of `total`."""
        self._title, self._said = f"[{number}/{total}] {title}", time.monotonic()
        if self._status is None:
            self.say(self._title)
        else:
            self._status.start()
            self._status.update(_plain(self._title))

    def at(self, done: int, total: int, what: str, seconds_left: float | None = None) -> None:
        """The step has come so far; `what` says how it goes."""
        left = "" if seconds_left is None else f", {clock(seconds_left)} left"
        line = f"{self._title}: {done:,}/{total:,} {what}{left}"
        if self._status is not None:
            self._status.update(_plain(line))
        elif time.monotonic() - self._said > PLAIN_SECONDS:
            self._said = time.monotonic()
            self.say(line)

    def end(self, text: str) -> None:
        """End the step with one line that stays."""
        if self._status is not None:
            self._status.stop()
        self.say(f"{self._title}: {text}")

    def say(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text, markup=False)

    def lanes(self, number: int) -> Lanes:
        """The progress of so many steps at once."""
        return Lanes(self._console, number, live=self.live)


class Lane(Progress):
    """The progress of the steps in one of several places: a line of a live table, or plain lines."""

    def __init__(self, console: Console, *, live: bool) -> None:
        self.live, self._console, self._status = live, console, None
        self._title, self._said = "", 0.0
        self.row = ("", "", "")
        """What the table shows: the step, how far it is, what time it will take; nothing where none is under way."""

    def step(self, number: int, total: int, title: str) -> None:
        """Begin step `number` of `total`."""
        if not self.live:
            super().step(number, total, title)
        self._title = f"[{number}/{total}] {title}"
        self.row = (self._title, "", "")

    def at(self, done: int, total: int, what: str, seconds_left: float | None = None) -> None:
        """The step has come so far; `what` says how it goes."""
        if not self.live:
            super().at(done, total, what, seconds_left)
        self.row = (self._title, f"{done:,}/{total:,} {what}", "" if seconds_left is None else clock(seconds_left))

    def end(self, text: str) -> None:
        """End the step with one line that stays."""
        super().end(text)
        self.row = ("", "", "")


class Lanes:
    """What several workers do at once, as a table that is drawn anew four times a second, or as plain lines."""

    def __init__(self, console: Console, number: int, *, live: bool) -> None:
        self._lanes = [Lane(console, live=live) for _ in range(number)]
        self._live = Live(get_renderable=self._table, console=console, transient=True) if live else None
        if self._live is not None:
            self._live.start()

    def __getitem__(self, place: int) -> Lane:
        return self._lanes[place]

    def _table(self) -> Table:
        table = Table("worker", box=None, padding=(0, 2, 0, 0), expand=True)
        for name, share in (("step", 4), ("how far", 3), ("left", 1)):  # which stay where they are
            table.add_column(name, ratio=share, no_wrap=True, overflow="ellipsis")
        for place, lane in enumerate(self._lanes, start=1):
            table.add_row(str(place), *map(Text, lane.row))
        return table

    def close(self) -> None:
        """Take the table away."""
        if self._live is not None:
            self._live.stop()


def _plain(text: str) -> str:
    return text.replace("[", r"\[")


def clock(seconds: float) -> str:
    """Minutes and seconds, with hours where there are any.

    >>> clock(75), clock(3725)
    ('1:15', '1:02:05')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
