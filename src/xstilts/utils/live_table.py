"""The live table of a terminal: finished scores, how far each worker's step and the study are, and the time left."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.table import Table
from rich.text import Text

FRAMES_PER_SECOND = 2
LEFT_COLUMNS = len("100:00:00")
MOST_COLUMNS = 120
"""In a wider window the steps have no more columns, so that a line is read at a glance."""

DrawScores: TypeAlias = Callable[[int], Sequence[str]]
"""The lines of the finished scores in a window of so many columns."""
Streams: TypeAlias = tuple[int | None, int | None]
"""The stdout and stderr of a new process; None: those of this one."""


@dataclass(frozen=True)
class StudyProgress:
    """How far a run is, and an estimate of its seconds."""

    done: int
    steps: int
    waiting: float | None
    """Seconds of the steps that have not begun, one after the other; None: unknown."""
    expected: Mapping[str, float]
    """Seconds of each step that is running, by id, if known."""


@dataclass
class Row:
    """The step of a worker."""

    title: str = ""
    how_far: str = ""
    expected: float | None = None
    """Seconds of the whole step."""
    _began: float = 0.0
    _left: float | None = None
    _updated: float = 0.0

    def begin(self, title: str, expected: float | None) -> None:
        """Begin a step."""
        self.clear()
        self.title, self.expected, self._began = title, expected, time.monotonic()

    def clear(self) -> None:
        """Show the worker as idle."""
        self.title, self.how_far, self.expected, self._left = "", "", None, None

    def update(self, how_far: str, seconds_left: float | None) -> None:
        """Show how far the step is."""
        self.how_far, self._left, self._updated = how_far, seconds_left, time.monotonic()

    @property
    def seconds_left(self) -> float | None:
        """As the step said, less the time since; before it said so, as long as steps of its kind took."""
        now = time.monotonic()
        if self._left is not None:
            return max(0.0, self._left - (now - self._updated))
        return None if self.expected is None else max(0.0, self.expected - (now - self._began))


@dataclass
class LiveTable:
    """Lines below all others of a terminal, drawn anew twice a second; what is printed meanwhile stands above them."""

    console: Console
    rows: list[Row] = field(default_factory=lambda: [Row()])
    """One for each worker; without a title while the worker is idle."""
    study: StudyProgress | None = None
    scores: DrawScores | None = None
    _live: Live | None = None
    _began: float = 0.0
    _readers: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """Show it, unless it is shown."""
        if self._live is None:
            self._began = self._began or time.monotonic()
            self._live = Live(
                self, console=self.console, transient=True, refresh_per_second=FRAMES_PER_SECOND,
                redirect_stdout=sys.stdout.isatty(),  # else a pipe would lose what is printed
            )  # fmt: skip
            self._live.start()

    def stop(self) -> None:
        """Remove it from the screen."""
        for reader in self._readers:
            reader.join(timeout=1)
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    @contextmanager
    def output_of_process(self, say: Callable[[str], None]) -> Iterator[Streams]:
        """The streams for a process that starts within this block: what it writes to the terminal stands above."""
        reading, writing = os.pipe()
        self._readers.append(threading.Thread(target=_forward, args=(reading, say), daemon=True))
        self._readers[-1].start()
        try:
            yield (writing if sys.stdout.isatty() else None), writing
        finally:
            os.close(writing)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not self.study and not any(row.title for row in self.rows):
            return
        steps = self._steps(min(options.max_width, MOST_COLUMNS))
        room = console.height - len(console.render_lines(steps, options, pad=False)) - 3
        lines = [*self.scores(options.max_width)] if self.scores else []
        if len(lines) > room:
            lines[max(0, room - 1) :] = [f"... {len(lines) - room + 1} more lines"] if room > 1 else []
        yield Text.from_ansi("\n".join(["", *lines, *([""] if lines else [])]), no_wrap=True, overflow="crop")
        yield steps

    def _steps(self, width: int) -> Table:
        several = len(self.rows) > 1
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, expand=True, width=width)
        if several:
            table.add_column("worker")
        for name, ratio in (("step", 5), ("how far", 3)):  # fixed widths, so columns do not jump
            table.add_column(name, ratio=ratio)
        table.add_column("left", width=LEFT_COLUMNS, no_wrap=True)
        for number, row in enumerate(self.rows, start=1):
            cells = Text(row.title), _Start(row.how_far), _left(row.seconds_left)
            table.add_row(*([str(number)] if several else []), *cells)
        if self.study:
            elapsed = format_duration(time.monotonic() - self._began)
            how_far = _Start(f"{self.study.done:,}/{self.study.steps:,} steps, {elapsed} so far")
            table.add_row(*([""] if several else []), "study", how_far, _left(self._study_left(self.study)))
        return table

    def _study_left(self, study: StudyProgress) -> float | None:
        """Seconds until the last step ends, if all workers are busy till then."""
        left = [row.seconds_left for row in self.rows if row.title]
        known = [one for one in left if one is not None]
        if study.waiting is None or len(known) < len(left):
            return None
        return max([(study.waiting + sum(known)) / len(self.rows), *known])


@dataclass(frozen=True)
class _Start:
    """Text that ends at a comma where it would be too long, so that no number is cut."""

    text: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        text = self.text
        while len(text) > options.max_width and ", " in text:
            text = text.rpartition(", ")[0]
        yield Text(text if len(text) <= options.max_width else text.partition(" ")[0], no_wrap=True)


def _left(seconds: float | None) -> str:
    return "" if seconds is None else format_duration(seconds)


def _forward(reading: int, say: Callable[[str], None]) -> None:
    """Say each line of a pipe until its other end is closed."""
    with os.fdopen(reading, encoding="utf-8", errors="replace") as stream:
        for line in stream:
            say(line.rstrip("\n"))


def format_duration(seconds: float) -> str:
    """Minutes and seconds, after an hour with hours.

    >>> format_duration(75), format_duration(3725)
    ('1:15', '1:02:05')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
