"""The index of a study: its branches and tasks, and the step that holds the scores of each."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from xstilts.errors import UserError
from xstilts.utils.files import parse_json


@dataclass(frozen=True)
class Cell:
    """One evaluation that a study asks for: `steps/<step>/scores.jsonl` holds its rows.

    Several cells may share a step, because equal work is done once.
    """

    branch: str
    seed: int
    task: str
    step: str


@dataclass(frozen=True)
class StudyTask:
    """What a report must know of a task; `metric` is the main one of `metrics`."""

    name: str
    format: str
    metric: str
    metrics: tuple[str, ...]
    languages: tuple[str, ...]
    train_language: str
    note: str = ""
    file: str = ""
    """Which kind of file holds its predictions in the leaderboard's layout."""
    trained_on_own_data: bool = False
    """Whether the last phase trains it on its own data."""
    is_intermediate: bool = False
    """Whether it is no target: a phase before trains on it, and its own dev data tell how that went."""


@dataclass(frozen=True)
class Study:
    """One recipe as it was planned: its branches, its tasks, the step that holds the rows of each."""

    name: str
    encoder: str
    seeds: tuple[int, ...]
    branches: tuple[str, ...]
    baseline: str | None
    """The branch that gains are measured against."""
    tasks: tuple[StudyTask, ...]
    cells: tuple[Cell, ...]
    baselines: Mapping[str, str] = field(default_factory=dict)
    """For each branch the one that its gains are measured against, if any; several encoders have several."""
    catalogue_names: Mapping[str, str] = field(default_factory=dict)
    """What a user's own tasks stand for (see `Task.catalogue_name`), by their names."""

    steps: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """All steps of the plan, each with those whose encoders it reads: what the recipe needs of its store."""
    kept: tuple[str, ...] = ()
    """Steps whose encoders stay on the disk."""

    @property
    def targets(self) -> tuple[StudyTask, ...]:
        """The tasks that the study is about: all but those whose own scores only tell how a phase before went."""
        return tuple(task for task in self.tasks if not task.is_intermediate)

    @property
    def baseline_branches(self) -> tuple[str, ...]:
        """The branches that gains are measured against: one for each encoder that has such a branch."""
        return tuple(branch for branch in self.branches if branch in {self.baseline, *self.baselines.values()})

    def baseline_of(self, branch: str) -> str | None:
        """The branch that a branch's gains are measured against: its encoder's baseline; None for that itself."""
        other = self.baselines.get(branch, self.baseline)
        return None if other == branch else other

    def missing_cells(self, done: Set[tuple[str, str, int | None]]) -> tuple[Cell, ...]:
        """The cells whose task, branch and seed are not among `done`; a seed of None there is every seed."""
        return tuple(
            cell
            for cell in self.cells
            if not done & {(cell.task, cell.branch, cell.seed), (cell.task, cell.branch, None)}
        )

    def header(self) -> dict[str, Any]:
        """What every report in JSON says of its study."""
        names = ("encoder", "seeds", "branches", "baseline")
        return {"study": self.name, **{name: getattr(self, name) for name in names}}

    def to_json(self) -> str:
        """One JSON document."""
        return TypeAdapter(Study).dump_json(self, indent=1).decode()

    @staticmethod
    def from_json(text: str | bytes, *, where: str = "") -> Study:
        """Read what `to_json` wrote; `where` is the file, for the message.

        Raises:
            UserError: if it is no study.
        """
        study = parse_json(TypeAdapter(Study), "study", text, where)
        if unknown := study._unknown():
            raise UserError(f"this is no study: {unknown}", where=where)
        return study

    def _unknown(self) -> str:
        """The first name that one part of the study has of another, and the other has not."""
        parts: dict[str, Collection[object]] = {
            "branch": {*self.branches, None}, "seed": self.seeds, "task": {task.name for task in self.tasks}
        }  # fmt: skip
        asked: list[tuple[str, object]] = [("branch", self.baseline)]
        asked += [("branch", branch) for pair in self.baselines.items() for branch in pair]
        asked += [(part, getattr(cell, part)) for cell in self.cells for part in parts]
        wrong = [f"there is no {part} {name!r}" for part, name in asked if name not in parts[part]]
        wrong += [f"{task.name} has no {task.metric}" for task in self.tasks if task.metric not in task.metrics]
        return next(iter(wrong), "")


def read_study(path: Path) -> Study:
    """What a recipe needs, as `Store.save_study` has written it.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        study = Study.from_json(path.read_bytes(), where=str(path))
        if not path.name.startswith(f"{study.name}."):
            raise UserError(f"is the recipe '{study.name}', and not of that name", where=str(path))
        return study
    except UserError as error:
        hint = "run the recipe again to write it anew, or delete it"
        raise UserError(error.what, where=error.where, hint=hint) from error
