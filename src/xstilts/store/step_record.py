"""Reads the record and the state of a step from its folder."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from pydantic import BaseModel

from xstilts.errors import UserError

DROPPED = "dropped"
"""A file that marks a finished step whose encoder was removed."""


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

    @property
    def parent_ids(self) -> tuple[str, ...]:
        """The step's parents; only a merge may have several."""
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
