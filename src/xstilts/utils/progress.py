"""Progress on stderr: a live line or table on a terminal, elsewhere a plain line now and then."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, TypeVar

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn, track
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

T = TypeVar("T")

PLAIN_SECONDS = 15.0
"""Time between two plain lines of the same step."""


def is_secondary_process() -> bool:
    """Whether this is a process of torchrun other than the first."""
    return is_distributed() and os.environ.get("RANK", "0") not in ("", "0")


def is_distributed() -> bool:
    """Whether torchrun started this process as one of several."""
    return os.environ.get("WORLD_SIZE", "1") not in ("", "1")


def progress_bar(items: Sequence[T], description: str) -> Iterable[T]:
    """The same items; on a terminal a bar shows how many are done, and disappears at the end."""
    console = Console(stderr=True)
    return track(items, description, console=console, transient=True, disable=not console.is_terminal)


class CountBar:
    """On a terminal a bar that shows how many lines are done, as a context manager; elsewhere nothing."""

    def __init__(self, description: str, total: int | None) -> None:
        console = Console(stderr=True)
        shown = console.is_terminal and not sys.stdout.isatty()  # else it would stand between lines of output
        columns = (
            "{task.description}",
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        self._bar = Bar(*columns, console=console, transient=True, disable=not shown,
                        redirect_stdout=False, redirect_stderr=False)  # fmt: skip
        self._task = self._bar.add_task(description, total=total)

    def __enter__(self) -> CountBar:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def update(self, done: int | str) -> None:
        """Show how many lines are done; the name of a record tells nothing."""
        if isinstance(done, int):
            self._bar.update(self._task, completed=done)


@dataclass(frozen=True)
class StepProgress:
    """How far a step of a run is; `on_progress` of `xstilts.run` gets one at each change.

    A step has one event `started`, some `running` and one `done` or `failed`. `done` never falls. If a worker dies, its
    step starts once more, perhaps from a checkpoint. A step that another run has done has only the event `done`.

    >>> def show(event: StepProgress) -> None:
    ...     if event.state == "running":
    ...         print(f"[{event.number}/{event.steps}] {event.name}: {event.done}/{event.total}")
    >>> show(StepProgress("3f2a", "train", "target: mnli, seed 1", 2, 9, "running", done=50, total=200, loss=0.7))
    [2/9] target: mnli, seed 1: 50/200
    """

    step: str
    """Its id, which is also its folder in `OUT/steps`."""
    kind: str
    """`create`, `train`, `merge`, `evaluate` or `ensemble`."""
    name: str
    number: int
    """From 1, in the order in which the steps start."""
    steps: int
    """The steps of this run that are not done yet."""
    state: Literal["started", "running", "done", "failed"]
    done: int = 0
    """Updates of a training, languages of an evaluation."""
    total: int = 0
    """What `done` rises to, unless a training stops early; 0 as long as nothing is known."""
    loss: float | None = None
    """Of a training: the mean in nats since the event before."""
    seconds_left: float | None = None
    """Of a training: an estimate."""
    score: float | None = None
    """At the end, in the unit of the main metric: the best dev score of a training; the mean over the languages of an
    evaluation, on dev if it has dev scores, else on test."""
    error: str = ""
    """Why it failed."""


class Progress:
    """Shows the current step, how far it is, and how long it will take.

    `on_step` is called before the first step, and whenever one has ended.
    """

    on_step: Callable[[], None] | None = None

    has_callback = False
    """Whether it hands events to a user's callback."""
    error: BaseException | None = None
    """What a user's callback has raised; the run is to end."""

    def __init__(self, *, live: bool | None = None) -> None:
        silent = is_secondary_process()  # only torchrun's first process prints
        self.live = (sys.stderr.isatty() if live is None else live) and not silent
        self._console = Console(
            stderr=True, quiet=silent, highlight=False, no_color=not self.live, soft_wrap=True, force_jupyter=False
        )
        self._status = self._console.status("") if self.live else None
        self._title, self._last_print = "", 0.0

    def step(self, number: int, total: int, title: str, id: str = "", kind: str = "") -> None:
        """Begin step `number` of `total`; a step of a run has an id and a kind."""
        self._title, self._last_print = f"[{number}/{total}] {title}", time.monotonic()
        if self._status is None:
            self.say(self._title)
        else:
            self._status.start()
            self._status.update(Text(self._title))

    def update(
        self, done: int, total: int, details: str, seconds_left: float | None = None, loss: float | None = None
    ) -> None:
        """Show how far the step is."""
        left = "" if seconds_left is None else f", {format_duration(seconds_left)} left"
        line = f"{self._title}: {done:,}/{total:,} {details}{left}"
        if self._status is not None:
            self._status.update(Text(line))
        elif time.monotonic() - self._last_print > PLAIN_SECONDS:
            self._last_print = time.monotonic()
            self.say(line)

    def end(self, text: str) -> None:
        """End the step with one line that stays."""
        if self._status is not None:
            self._status.stop()
        self.say(f"{self._title}: {text}")

    def step_ended(self) -> None:
        """Note that a step has ended, or that the first is about to begin."""
        if self.on_step is not None:
            self.on_step()

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self._console.print(text, markup=False)

    def ended(self, event: StepProgress) -> None:
        """Take the last event of a step of a run; `end` has printed its line."""

    def clear(self) -> None:
        """Show the worker as idle."""

    def worker_table(self, workers: int) -> WorkerTable:
        """The progress of several workers at once."""
        return WorkerTable(self._console, workers, live=self.live)


class WorkerProgress(Progress):
    """The progress of one worker: a row of the live table, or plain lines."""

    def __init__(self, console: Console, *, live: bool) -> None:
        self.live, self._console, self._status = live, console, None
        self._title, self._last_print = "", 0.0
        self.row = ("", "", "")
        """The cells of the table: the step, how far it is, the time left; all empty while the worker is idle."""

    def step(self, number: int, total: int, title: str, id: str = "", kind: str = "") -> None:
        """Begin step `number` of `total`; a step of a run has an id and a kind."""
        if not self.live:
            super().step(number, total, title)
        self._title = f"[{number}/{total}] {title}"
        self.row = (self._title, "", "")

    def update(
        self, done: int, total: int, details: str, seconds_left: float | None = None, loss: float | None = None
    ) -> None:
        """Show how far the step is."""
        if not self.live:
            super().update(done, total, details, seconds_left)
        left = "" if seconds_left is None else format_duration(seconds_left)
        self.row = (self._title, f"{done:,}/{total:,} {details}", left)

    def end(self, text: str) -> None:
        """End the step with one line that stays."""
        super().end(text)
        self.clear()

    def clear(self) -> None:
        """Show the worker as idle."""
        self.row = ("", "", "")


class WorkerTable:
    """The progress of several workers: a table drawn four times a second, or plain lines."""

    def __init__(self, console: Console, workers: int, *, live: bool) -> None:
        self._workers = [WorkerProgress(console, live=live) for _ in range(workers)]
        self._live = Live(get_renderable=self._draw, console=console, transient=True) if live else None
        if self._live is not None:
            self._live.start()

    def __getitem__(self, slot: int) -> Progress:
        return self._workers[slot]

    def _draw(self) -> Table:
        table = Table("worker", box=None, padding=(0, 2, 0, 0), expand=True)
        for name, ratio in (("step", 4), ("how far", 3), ("left", 1)):  # fixed widths, so columns do not jump
            table.add_column(name, ratio=ratio, no_wrap=True, overflow="ellipsis")
        for number, worker in enumerate(self._workers, start=1):
            table.add_row(str(number), *map(Text, worker.row))
        return table

    def close(self) -> None:
        """Remove the table from the screen."""
        if self._live is not None:
            self._live.stop()


def format_duration(seconds: float) -> str:
    """Minutes and seconds, after an hour with hours.

    >>> format_duration(75), format_duration(3725)
    ('1:15', '1:02:05')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
