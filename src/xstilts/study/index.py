"""The index of a study: its branches and tasks, and which step has the scores of each."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from xstilts.errors import UserError
from xstilts.languages import base
from xstilts.tasks.references import TaskData
from xstilts.tasks.source import Source
from xstilts.utils.files import parse_json


@dataclass(frozen=True)
class Cell:
    """A task scored in a branch with a seed; its rows are in `steps/<step>/scores.jsonl`.

    Cells share a step where branches do the same work.
    """

    branch: str
    seed: int
    task: str
    step: str
    language: str = ""
    """The only language that the step scores, of a task that is trained in each language by itself."""


@dataclass(frozen=True)
class StudyTask:
    """What a report needs to know of a task; `metric` is the main one of `metrics`."""

    name: str
    format: str
    metric: str
    metrics: tuple[str, ...]
    languages: tuple[str, ...]
    train_language: str
    """The language of its training data, or the first of several; empty without training data."""
    note: str = ""
    file: str = ""
    """The kind of file for its predictions in the leaderboard's layout."""
    first_piece: str = ""
    """Of a tag task: at which piece a word has its tag (`formats/tag.py`)."""
    trained_on_own_data: bool = False
    """Whether the last phase trains on its own data."""
    is_intermediate: bool = False
    """Whether it is an intermediate task, scored on its dev data only to check that phase, and not a target."""
    more_train_languages: tuple[str, ...] = ()
    """The other languages of its training data."""
    train: Source | None = None
    """Of a tag task: its training data, to compare its predictions with them."""
    trained_in_each: bool = False
    """Whether each language has a training of its own, and its scores come from as many steps."""
    draws_shots: bool = False
    """Whether its trainings draw a few examples of each language, by their seeds."""
    pseudo_test: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """The languages whose test set is a machine translation, with its `bleu` and `chrf` if they are known."""
    layer: int | None = None
    """Of a retrieval task: the hidden state that it reads; None: the default."""

    @property
    def train_languages(self) -> tuple[str, ...]:
        """The languages of its training data; scores in all others are zero-shot."""
        return (self.train_language, *self.more_train_languages) if self.train_language else ()

    def in_language(self, language: str) -> StudyTask:
        """The same task with one of the languages that it is trained in, each by itself."""
        return replace(self, languages=(language,), train_language=language, more_train_languages=())

    def trained_in(self, language: str) -> bool:
        """Whether it is trained in a language, in whatever region or script."""
        return base(language) in map(base, self.train_languages)


@dataclass(frozen=True)
class Study:
    """A planned recipe: what its reports need to know."""

    name: str
    encoder: str
    seeds: tuple[int, ...]
    branches: tuple[str, ...]
    baseline: str | None
    """The branch that gains are measured against."""
    tasks: tuple[StudyTask, ...]
    cells: tuple[Cell, ...]
    baselines: Mapping[str, str] = field(default_factory=dict)
    """For each branch, the branch that its gains are measured against, if any; each encoder has its own."""
    catalogue_names: Mapping[str, str] = field(default_factory=dict)
    """The `Task.catalogue_name` of each of a user's own tasks, by its name."""
    steps: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """All steps of the plan, each with the steps whose encoders it reads."""
    kept: tuple[str, ...] = ()
    """The steps whose encoders stay on the disk."""
    keep_best: bool = False
    """Whether the encoder of each target's best run stays, too."""
    data: Mapping[str, TaskData] = field(default_factory=dict)
    """Where the data of each trained or evaluated task come from."""
    recipe_text: str = field(default="", compare=False)
    """The file that it was planned from; a changed comment makes no other study."""
    recipe_command: str = field(default="", compare=False)
    """The command that runs it."""

    @property
    def targets(self) -> tuple[StudyTask, ...]:
        """The evaluated tasks, without intermediate ones."""
        return tuple(task for task in self.tasks if not task.is_intermediate)

    @property
    def baseline_branches(self) -> tuple[str, ...]:
        """The branches that gains are measured against: at most one for each encoder."""
        return tuple(branch for branch in self.branches if branch in {self.baseline, *self.baselines.values()})

    def baseline_of(self, branch: str) -> str | None:
        """The branch that a branch's gains are measured against; None for a baseline itself."""
        baseline = self.baselines.get(branch, self.baseline)
        return None if baseline == branch else baseline

    def missing_cells(self, scored: Set[str], unscored: Collection[str] = ()) -> tuple[Cell, ...]:
        """The cells whose step is neither `scored` nor `unscored`: such a step predicts data without labels."""
        return tuple(cell for cell in self.cells if cell.step not in scored and cell.step not in unscored)

    def header(self) -> dict[str, Any]:
        """The fields of the study at the top of every report in JSON."""
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
        """A message about the first unknown branch, seed, task or metric; empty if all are known."""
        parts: dict[str, Collection[object]] = {
            "branch": {*self.branches, None}, "seed": self.seeds, "task": {task.name for task in self.tasks}
        }  # fmt: skip
        named: list[tuple[str, object]] = [("branch", self.baseline)]
        named += [("branch", branch) for pair in self.baselines.items() for branch in pair]
        named += [(part, getattr(cell, part)) for cell in self.cells for part in parts]
        problems = [f"there is no {part} {name!r}" for part, name in named if name not in parts[part]]
        problems += [f"{task.name} has no {task.metric}" for task in self.tasks if task.metric not in task.metrics]
        return next(iter(problems), "")


def read_study(path: Path) -> Study:
    """Read the index that `Store.save_study` has written.

    Raises:
        UserError: the file cannot be read, or is not named after its recipe.
    """
    try:
        study = Study.from_json(path.read_bytes(), where=str(path))
        if not path.name.startswith(f"{study.name}."):
            raise UserError(f"holds the recipe '{study.name}', which has another name", where=str(path))
        return study
    except UserError as error:
        hint = "run the recipe again to replace it, or delete it"
        raise UserError(error.message, where=error.where, hint=hint) from error
