"""The page's view of steps: learning curves, shares of tasks in mixtures, time, memory, disk, versions."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from markupsafe import Markup

from xstilts.errors import UserError, counted
from xstilts.html.tables import Cell, PageTable, Row, numbers, prose
from xstilts.render.curves import draw_curves
from xstilts.render.figure import Series
from xstilts.render.table import MISSING
from xstilts.store.run_folder import Store
from xstilts.store.step_record import StepRecord, StepState, read_step
from xstilts.study.disk_usage import format_bytes
from xstilts.study.index import Cell as StudyCell
from xstilts.study.index import Study
from xstilts.training.settings import LOG
from xstilts.utils.files import folder_size
from xstilts.utils.live_table import format_duration


@dataclass(frozen=True)
class Curves:
    """The trainings of one title: a chart of losses and one of dev scores, if there are any.

    `steps` are the names of the curves, each with the anchor of its step.
    """

    title: str
    charts: Sequence[Markup]
    steps: Mapping[str, str]


@dataclass(frozen=True)
class StepView:
    """A step with what its folder tells."""

    id: str
    folder: Path
    record: StepRecord
    state: StepState
    facts: Mapping[str, Any]

    @cached_property
    def bytes(self) -> int:
        """The size of its files."""
        return folder_size(self.folder, set())

    def log(self) -> Iterator[Mapping[str, Any]]:
        """The rows of its log; a line that is being written is left out."""
        with suppress(FileNotFoundError), (self.folder / LOG).open("rb") as lines:
            for line in lines:
                with suppress(ValueError):
                    yield json.loads(line)


class StepViews:
    """The started steps of a study."""

    def __init__(self, store: Store, study: Study) -> None:
        self.study = study
        ids = dict.fromkeys((*study.steps, *(cell.step for cell in study.cells)))
        self.all = [step for id in ids if (step := _view(store, id))]
        self.planned = len(ids)
        self._numbers = {step.id: i for i, step in enumerate(self.all)}

    @property
    def done(self) -> int:
        """The steps with results."""
        return sum(step.state.has_results for step in self.all)

    def anchor(self, id: str) -> str:
        """The id of a step's row; empty for a step that has not begun."""
        return f"s{self._numbers[id]}" if id in self._numbers else ""

    def curves(self) -> Iterator[Curves]:
        """The charts of each training, all seeds together."""
        by_title = defaultdict[str, list[StepView]](list)
        for step in self.all:
            if step.record.kind == "train":
                by_title[step.record.title].append(step)
        for title, steps in by_title.items():
            losses, dev, anchors = list[Series](), list[Series](), dict[str, str]()
            for step in steps:
                rows = [*step.log()]
                name = "every seed" if step.record.seed is None else f"seed {step.record.seed}"
                anchors[name] = self.anchor(step.id)
                losses += _series(name, rows, "loss")
                dev += _series(name, rows, "dev")
            charts = [("loss (nats)", losses), ("dev score", dev)]
            yield Curves(title, [Markup(draw_curves(f"{title}: {what}", of)) for what, of in charts if of], anchors)

    def mixtures(self) -> PageTable:
        """The share of each task in the updates of trainings on several tasks."""
        rows = []
        for step in self.all:
            shares = step.facts.get("shares") or {}
            if len(shares) > 1 and (total := sum(shares.values())):
                parts = [f"{task} {100 * updates / total:.1f} % ({updates:,})" for task, updates in shares.items()]
                cells = [_seed(step.record), Cell(", ".join(parts), prose=True)]
                rows.append(Row(Cell(step.record.title, prose=True, href=self.anchor(step.id)), cells))
        heads = [*prose(["training"]), Cell("seed"), *prose(["share of the updates (updates)"])]
        return PageTable("Shares of tasks in mixtures", heads, rows)

    def resources(self) -> PageTable:
        """Time, memory and disk of each step."""
        rows = []
        for number, step in enumerate(self.all):
            record, facts = step.record, step.facts
            seconds, dev = facts.get("seconds"), facts.get("dev")
            memory, on_gpu = facts.get("memory_bytes"), facts.get("accelerator_bytes")
            cells = [
                _seed(record),
                Cell(step.state.value),
                Cell(MISSING if dev is None else f"{dev:.1f}"),
                Cell(MISSING if seconds is None else format_duration(seconds)),
                Cell(
                    MISSING if memory is None else format_bytes(memory),
                    below="" if on_gpu is None else f"{format_bytes(on_gpu)} on the accelerator",
                ),
                Cell(format_bytes(step.bytes)),
                Cell(step.id),
            ]
            rows.append(Row(Cell(record.title, prose=True, id=f"s{number}"), cells))
        total = sum(step.facts.get("seconds", 0) for step in self.all)
        size = format_bytes(sum(step.bytes for step in self.all))
        caption = f"{counted(len(self.all), 'step')}, together {format_duration(total)} and {size}"
        heads = [
            *prose(["step"]),
            *numbers(["seed", "state", "dev", "time", "peak memory", "disk", "folder in steps/"]),
        ]
        return PageTable(caption, heads, rows)

    def of_scores(self, task: str, anchor: str) -> PageTable:
        """The steps whose `scores.jsonl` has a task's score rows: branches by seeds."""
        cells: dict[str, dict[int, list[StudyCell]]] = defaultdict(lambda: defaultdict(list))
        for cell in self.study.cells:
            if cell.task == task:
                cells[cell.branch][cell.seed].append(cell)
        rows = []
        for branch, by_seed in cells.items():
            steps = [by_seed.get(seed, [])[:1] for seed in self.study.seeds]
            shown = [Cell(one[0].step, href=self.anchor(one[0].step)) if one else Cell() for one in steps]
            rows.append(Row(Cell(branch, prose=True), shown))
        heads = [Cell("branch"), *(Cell(f"seed {seed}") for seed in self.study.seeds)]
        return PageTable(f"{task}: the scores.jsonl of these steps", heads, rows, id=anchor)

    def versions(self) -> list[str]:
        """The versions that finished steps were made with."""
        found = dict.fromkeys(
            ", ".join(f"{name} {version}" for name, version in step.facts["versions"].items())
            for step in self.all
            if step.facts.get("versions")
        )
        return [*found]


def _view(store: Store, id: str) -> StepView | None:
    try:
        record = read_step(store.step(id))
    except (OSError, UserError):
        return None
    state = store.state(id)
    facts = {}
    with suppress(OSError, UserError):
        facts = store.facts(id) if state.has_results else {}
    return StepView(id, store.step(id), record, state, facts)


def _seed(record: StepRecord) -> Cell:
    return Cell("" if record.seed is None else str(record.seed))


def _series(name: str, rows: Sequence[Mapping[str, Any]], field: str) -> list[Series]:
    """A curve of one of the log's numbers, if it has at least two."""
    points = tuple((row["step"], row[field], "") for row in rows if row.get(field) is not None)
    return [Series(name, points, line=True)] if len(points) > 1 else []
