"""A plan with its state: what a run folder has of it, which data it lacks, its disk space; loads no torch."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from xstilts.data.availability import WRITES_IT, on_hub
from xstilts.errors import Collector, UserError, counted
from xstilts.execution.inputs import StepInputs
from xstilts.execution.pending import repeated_steps
from xstilts.execution.redo import Outdated, find_outdated
from xstilts.model import encoder_folder
from xstilts.store.run_folder import MARK, open_existing
from xstilts.study import disk_usage
from xstilts.study.defaults import unused_settings
from xstilts.study.plan import Plan
from xstilts.study.settings_lines import settings_lines
from xstilts.study.step import Step
from xstilts.utils.models import encoder_path
from xstilts.utils.terminal import wrap

if TYPE_CHECKING:
    from xstilts.execution.time_estimate import TimeEstimate

MAX_LISTED = 100
"""Longer plans are listed only with --json."""
_HEADS = ("step", "from", "seed", "what")
_BORDERS = 3 * len(_HEADS) + 1
"""The columns that a table's lines and blanks take."""


@dataclass(frozen=True, repr=False)
class PlanStatus:
    """A plan, how much of it a run folder has, and what it needs; prints as `xstilts plan` does.

    >>> status = xstilts.plan("study.yaml", data="data")  # doctest: +SKIP
    >>> [step.title for step in status.steps if step.id not in status.done]  # doctest: +SKIP
    """

    plan: Plan
    out: Path
    """The run folder, which need not exist."""
    data: Path | None
    done: Sequence[str]
    """The ids of the steps with results that are still right."""
    again: Sequence[str]
    """Those of finished steps whose removed encoders are needed again."""
    changed: Sequence[str]
    """Those of finished steps whose input files have changed since."""
    missing: Sequence[str]
    """The data that are not found, a line for each."""
    unlabelled: Sequence[str]
    """The data without labels, which are predicted and not scored, a line for each."""
    disk: Sequence[disk_usage.DiskUsage]
    """The disk space for each encoder."""
    unusable: Sequence[UserError]
    """The mistakes in encoders, for which a run on this machine would stop."""
    mistakes: Sequence[UserError]
    """The mistakes in encoders' folders and in the first rows of data files."""
    outdated: Outdated | None

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps, each after those that it starts from: `id`, `kind`, `title`, `seed`, `parents`."""
        return tuple(self.plan.steps.values())

    def raise_mistakes(self) -> None:
        """Raise the mistakes, if there are any."""
        found = Collector()
        found.errors += self.mistakes
        found.raise_any()

    def to_json(self) -> dict[str, Any]:
        """As `xstilts plan --json` prints it."""
        usages = [usage.to_json() for usage in self.disk]
        return self.plan.to_json() | {
            "done": list(self.done),
            "again": list(self.again),
            "changed": list(self.changed),
            "absent": list(self.missing),
            "unlabelled": list(self.unlabelled),
            "disk": usages[0] if len(usages) == 1 else usages,
        }

    def text(self, *, width: int | None = None, colour: bool = False, hours: TimeEstimate | None = None) -> str:
        """As `xstilts plan` prints it, in lines of at most `width` columns; None: as wide as they need."""
        lines = [line for text in self._lines(hours) for line in text.split("\n")]
        shown = lines if width is None else [part for line in lines for part in wrap(line, width)]
        return "\n".join([self._table(width, colour), *shown]) + "\n"

    def __str__(self) -> str:
        return self.text()

    __repr__ = __str__

    def _table(self, width: int | None, colour: bool) -> str:
        if len(self.steps) > MAX_LISTED:
            return f"{counted(len(self.steps), 'step')}, listed with --json"
        rows = [_HEADS, *(self._row(step) for step in self.steps)]
        widths = _column_widths(rows, width)
        return _as_list(rows[1:], width) if width and not widths else _as_table(rows, widths, width, colour)

    def _row(self, step: Step) -> tuple[str, ...]:
        mark = "again: " if step.id in (*self.again, *self.changed) else "done: " if step.id in self.done else ""
        seed = "" if step.seed is None else str(step.seed)
        return step.id, " ".join(step.parents) or step.encoder, seed, mark + step.title

    def _lines(self, hours: TimeEstimate | None) -> Iterator[str]:
        plan = self.plan
        yield from settings_lines(plan)
        yield size_line(plan, "at most " if self.missing else "")
        if plan.recipe.note:
            yield plan.recipe.note
        yield from unused_settings(plan.recipe)
        for phase, updates in plan.budgets.items():
            yield f"{phase}: every choice but [] trains {counted(updates, 'labelled update')}"
        done, again = len({*self.done} - {*self.again}), len({*self.again} - {*self.changed})
        if done or again:
            yield f"done in {self.out}: {done:,} of {counted(len(self.steps), 'step')}"
        if again:
            yield f"to be trained again: {counted(again, 'step')}, whose encoders are gone and needed; scores stay"
        yield from self.outdated.lines(()) if self.outdated and self.changed else ()
        for name, usage in zip(plan.by_encoder, self.disk, strict=True):
            yield f"{name}: {usage.line()}" if name else usage.line()
        yield from hours.lines() if hours else ()
        yield from self._lacks()
        yield from (f"a run here would stop: {error}" for error in self.unusable if error not in self.mistakes)

    def _lacks(self) -> Iterator[str]:
        """Name the data that are missing, and those that have no labels."""
        tasks = {line: self.plan.tasks[line.partition(":")[0]] for line in self.missing}
        brief = dict.fromkeys(task.name for task in tasks.values() if self.data is None and not task.own)
        if brief:
            yield "missing without --data: " + ", ".join(brief)
        if lines := [line for line, task in tasks.items() if task.name not in brief]:
            yield "\n  ".join(["missing:", *lines])
        fetched = (task.name for line, task in tasks.items() if on_hub(task) and not line.endswith(WRITES_IT))
        if names := dict.fromkeys(fetched):
            yield f"from the Hub: xstilts data fetch {' '.join(names)}"
        if self.unlabelled:
            yield "\n  ".join(["without labels, so predicted and not scored:", *self.unlabelled])


def plan_status(plan: Plan, out: Path, data: Path | None) -> PlanStatus:
    """Compare a plan with a run folder and the data; reads the first rows of the data files.

    Raises:
        UserError: `out` is a run folder of another version.
    """
    store = open_existing(out) if (out / MARK).is_file() else None  # a plan needs no run folder
    outdated = find_outdated(plan, store, StepInputs(plan, data), Collector()) if store else None
    changed = outdated.ids if outdated else []
    unusable = [*unusable_encoders(plan, data)]
    here = [error for error in unusable if Path(error.where).exists()]  # others may be on another machine
    return PlanStatus(
        plan, out, data,
        done=[id for id in plan.steps if store.state(id).has_results and id not in changed] if store else [],
        again=repeated_steps(plan, store) if store else [],
        changed=changed,
        missing=plan.absent(data),
        unlabelled=plan.unlabelled(data),
        disk=disk_usage.estimate(plan, data),
        unusable=unusable,
        mistakes=[*here, *plan.first_mistakes(data)],
        outdated=outdated,
    )  # fmt: skip


def _column_widths(rows: Sequence[Sequence[str]], width: int | None) -> list[int]:
    """The widths of a table's columns; empty if it cannot fit without a break within a word."""
    whole = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    words = [
        max(cell_len(word) for cell in column for word in cell.split() or [""]) for column in zip(*rows, strict=True)
    ]
    for step, origin, seed in ([*whole[:3]], [whole[0], words[1], whole[2]]):
        left = whole[3] if width is None else width - _BORDERS - step - origin - seed
        if left >= words[3]:
            return [step, origin, seed, min(left, whole[3])]
    return []


def _as_table(rows: Sequence[Sequence[str]], widths: Sequence[int], width: int | None, colour: bool) -> str:
    table = Table()
    for head, column in zip(rows[0], widths, strict=True):
        table.add_column(head, width=column)
    for row in rows[1:]:
        table.add_row(*row)
    file = io.StringIO()
    # users' names may contain brackets, which rich would read as markup
    console = Console(
        file=file, highlight=False, markup=False, emoji=False, width=width or sum(widths) + _BORDERS,
        force_terminal=colour, force_jupyter=False,
    )  # fmt: skip
    console.print(table)
    return file.getvalue().rstrip("\n")


def _as_list(rows: Iterable[Sequence[str]], width: int) -> str:
    """For narrow windows: what a step does, then where it starts from."""
    lines = []
    for id, origin, seed, what in rows:
        margin = " " * (cell_len(id) + 2)
        lines += wrap(f"{id}  {what}", width, margin)
        lines += wrap(f"{margin}from {origin}{seed and f', seed {seed}'}", width)
    return "\n".join(lines)


def size_line(plan: Plan, at_most: str = "") -> str:
    """How many trainings and evaluations a plan has."""
    folded = plan.trainings_before_folding - plan.trainings
    folding = f" ({counted(folded, 'equal one')} folded)" if folded else ""
    return f"{counted(plan.trainings, 'training')}{folding}, {at_most}{counted(plan.evaluations, 'evaluation')}"


def unusable_encoders(plan: Plan, data: Path | None) -> Iterator[UserError]:
    """An error for each encoder's path that a run on this machine would refuse."""
    for name in dict.fromkeys(part.recipe.encoder for part in plan.by_encoder.values()):
        if isinstance(name, str) and (data is not None or "{data}" not in name):
            try:
                encoder_folder.check(encoder_path(name, data))
            except UserError as error:
                yield error
