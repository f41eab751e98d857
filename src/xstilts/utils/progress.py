"""Progress on stderr: a live table on a terminal, elsewhere a plain line now and then."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn, track
from rich.progress import Progress as Bar

from xstilts.utils.live_table import DrawScores, LiveTable, Row, Streams, StudyProgress, format_duration
from xstilts.utils.terminal import can_redraw, has_colours, wrap

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

    As a context manager it keeps the live table of a terminal between steps, and removes it at the end, also after an
    error or Ctrl-C. `on_step` is called before the first step, and whenever one has ended.
    """

    on_step: Callable[[], None] | None = None

    has_callback = False
    """Whether it hands events to a user's callback."""
    error: BaseException | None = None
    """What a user's callback has raised; the run is to end."""
    _live_table: LiveTable | None = None
    _stays = False
    """Whether the table stays between steps."""

    def __init__(self, *, live: bool | None = None) -> None:
        silent = is_secondary_process()  # only torchrun's first process prints
        self.live = (can_redraw(sys.stderr) if live is None else live) and not silent
        self._console = Console(
            stderr=True, quiet=silent, highlight=False, emoji=False, soft_wrap=True, force_jupyter=False,
            color_system="auto" if self.live and has_colours(sys.stderr) else None,
        )  # fmt: skip
        self._row = Row()
        if self.live:
            self._live_table = LiveTable(self._console, [self._row])
        self._title, self._last_print = "", 0.0

    def __enter__(self) -> Self:
        self._stays = True
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stays = False
        self._stop()

    def _stop(self) -> None:
        if self._live_table is not None and not self._stays:
            self._live_table.stop()

    def step(self, number: int, total: int, title: str, id: str = "", kind: str = "") -> None:
        """Begin step `number` of `total`; a step of a run has an id and a kind."""
        self._title, self._last_print = f"[{number}/{total}] {title}", time.monotonic()
        if self._live_table is None:
            self.say(self._title)
        else:
            study = self._live_table.study
            self._row.begin(self._title, study.expected.get(id) if study else None)
            self._live_table.start()

    def update(
        self, done: int, total: int, details: str, seconds_left: float | None = None, loss: float | None = None
    ) -> None:
        """Show how far the step is."""
        how_far = f"{done:,}/{total:,} {details}"
        if self._live_table is not None:
            self._row.update(how_far, seconds_left)
        elif time.monotonic() - self._last_print > PLAIN_SECONDS:
            self._last_print = time.monotonic()
            left = "" if seconds_left is None else f", {format_duration(seconds_left)} left"
            self.say(f"{self._title}: {how_far}{left}")

    def end(self, text: str) -> None:
        """End the step with one line that stays."""
        self.clear()
        self._stop()
        self.say(f"{self._title}: {text}")

    def step_ended(self) -> None:
        """Note that a step has ended, or that the first is about to begin."""
        if self.on_step is not None:
            self.on_step()

    def show_study(self, study: StudyProgress) -> None:
        """Show how far a run is."""
        if self._live_table is not None:
            self._live_table.study = study

    def show_scores(self, draw: DrawScores) -> None:
        """Show finished scores above the steps."""
        if self._live_table is not None:
            self._live_table.scores = draw

    def say(self, text: str) -> None:
        """Print a line that stays."""
        lines = text.split("\n")
        if self.live:
            lines = [part for line in lines for part in wrap(line, self._console.width)]
        self._console.print("\n".join(lines), markup=False)

    def ended(self, event: StepProgress) -> None:
        """Take the last event of a step of a run; `end` has printed its line."""

    def clear(self) -> None:
        """Show the worker as idle."""
        self._row.clear()

    def worker_table(self, workers: int) -> WorkerTable:
        """The progress of several workers at once."""
        return WorkerTable(self._console, self._live_table, workers)


class WorkerProgress(Progress):
    """The progress of one worker: a row of the live table, or plain lines."""

    _stays = True

    def __init__(self, console: Console, table: LiveTable | None, row: Row) -> None:
        self.live, self._console, self._live_table, self._row = table is not None, console, table, row
        self._title, self._last_print = "", 0.0


class WorkerTable:
    """The progress of several workers: rows of the live table, or plain lines."""

    _table: LiveTable | None = None

    def __init__(self, console: Console, table: LiveTable | None, workers: int) -> None:
        rows = [Row() for _ in range(workers)]
        self._table = table
        self._workers = [WorkerProgress(console, table, row) for row in rows]
        if table is not None:
            table.rows = rows
            table.start()

    def __getitem__(self, slot: int) -> Progress:
        return self._workers[slot]

    def streams(self) -> AbstractContextManager[Streams]:
        """The streams of a process that starts within this block, so that its output leaves the live table whole."""
        if self._table is None:
            return nullcontext((None, None))
        return self._table.output_of_process(self._workers[0].say)

    def close(self) -> None:
        """Remove the table from the screen."""
        if self._table is not None:
            self._table.stop()
