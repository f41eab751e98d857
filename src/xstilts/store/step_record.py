"""Reads the record and the state of a step from its folder."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from enum import Enum
from pathlib import Path

from pydantic import BaseModel

from xstilts.errors import UserError
from xstilts.utils.models import encoder_path

DROPPED = "dropped"
"""A file that marks a finished step whose encoder was removed."""


_STEP_ID = re.compile("[0-9a-f]{12}")


class StepState(Enum):
    """The state of a step's folder."""

    MISSING = "missing"
    """Never finished, or undone because a parent was repeated."""
    REBUILDING = "rebuilding"
    """Finished before; has no results while a run makes its removed encoder again."""
    DROPPED = "dropped"
    """Finished, with its results, but its encoder was removed."""
    DONE = "done"
    """Finished, with all its files."""

    @property
    def has_results(self) -> bool:
        """Whether its scores, predictions and facts can be read."""
        return self in (StepState.DROPPED, StepState.DONE)


def encoder_of(name: str, data: Path | None, out: Path = Path("runs")) -> str:
    """An encoder as a plan prints it: the folder of a step or best run in the run folder, else a folder or Hub id.

    Raises:
        UserError: there is no such step, or `{data}` needs a data folder.
    """
    if "{data}" in name and data is None:
        raise UserError("lies beside the data folder", where=name, hint="give the data folder with --data")
    if name.startswith("best/") and not Path(name).exists() and (out / name).is_dir():
        return str(out / name)
    if not _STEP_ID.fullmatch(name) or Path(name).exists():
        return encoder_path(name, data)
    if not (folder := out / "steps" / name).is_dir():
        raise UserError(f"no step '{name}' in {out}", hint=f"give its folder: DIR/steps/{name}")
    return str(folder)


def state_of(folder: Path) -> StepState:
    """The state of the step in a folder."""
    dropped = (folder / DROPPED).is_file()
    if (folder / "done.json").is_file():
        return StepState.DROPPED if dropped else StepState.DONE
    return StepState.REBUILDING if dropped else StepState.MISSING


class _TaskSettings(BaseModel):
    task: str


class _TrainSpec(BaseModel):
    parts: tuple[_TaskSettings, ...] = ()


class _MergeSpec(BaseModel):
    heads: tuple[str, ...] = ()


class _EvalSpec(BaseModel):
    limit: int | None
    task: str = ""
    head: int | None = None
    languages: tuple[str, ...] = ()
    layer: int | None = None


class StepRecord(BaseModel):
    """The fields of `step.json` that are read back."""

    kind: str = ""
    title: str = ""
    seed: int | None = None
    parent: str | None = None
    parents: tuple[str, ...] | None = None
    training: _TrainSpec | None = None
    merging: _MergeSpec | None = None
    scoring: _EvalSpec | None = None
    ensemble: _EvalSpec | None = None

    @property
    def parent_ids(self) -> tuple[str, ...]:
        """The step's parents; only a merge and an ensemble have several."""
        return tuple(id for id in (self.parents if self.parents is not None else (self.parent,)) if id)

    @property
    def trained_tasks(self) -> tuple[str, ...]:
        """The tasks that the step trains on."""
        return tuple(part.task for part in self.training.parts) if self.training else ()

    @property
    def heads(self) -> tuple[str, ...]:
        """The tasks of its saved heads, in the order of their files."""
        return self.merging.heads if self.merging else self.trained_tasks


def read_step(folder: Path) -> StepRecord:
    """The record of the step in a folder.

    Raises:
        FileNotFoundError: no run has started the step.
        UserError: the record is damaged.
    """
    path = folder / "step.json"
    try:
        return StepRecord.model_validate_json(path.read_bytes())
    except ValueError as error:
        hint = f"delete the folder {folder} and run again"
        raise UserError("cannot be read", where=str(path), hint=hint) from error


def find_dependents(ids: Collection[str], parents: Mapping[str, Iterable[str]]) -> list[str]:
    """The other steps that depend on these, directly or indirectly; the nearest first.

    >>> find_dependents(["training"], {"scoring": ["training"], "next": ["training"], "other": []})
    ['scoring', 'next']
    """
    children_of: dict[str, list[str]] = defaultdict(list)
    for step, of in parents.items():
        for parent in of:
            children_of[parent].append(step)
    found = dict.fromkeys(ids)
    queue = [*ids]
    while queue:
        children = [child for child in children_of[queue.pop()] if child not in found]
        found |= dict.fromkeys(children)
        queue += children
    return [*found][len(ids) :]
