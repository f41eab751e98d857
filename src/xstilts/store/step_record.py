"""What the files in a step's folder say: what the step is, and whether it is done."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from pydantic import BaseModel

from xstilts.errors import UserError

DROPPED = "dropped"
"""Stands in the folder of a finished step whose encoder was removed, until it is made again."""


class StepState(Enum):
    """How far a step has come."""

    MISSING = "missing"
    """Never finished, or undone because a step it starts from was repeated."""
    REBUILDING = "rebuilding"
    """Finished once; its removed encoder is being made again, so it has no results now."""
    DROPPED = "dropped"
    """Finished, with its results, but its encoder was removed."""
    DONE = "done"
    """Finished, with everything that it made."""

    @property
    def has_results(self) -> bool:
        """Whether its scores, its predictions and the facts about it can be read."""
        return self in (StepState.DROPPED, StepState.DONE)


def state_of(folder: Path) -> StepState:
    """The state of the step in a folder; its `done.json` is written last."""
    dropped = (folder / DROPPED).is_file()
    if (folder / "done.json").is_file():
        return StepState.DROPPED if dropped else StepState.DONE
    return StepState.REBUILDING if dropped else StepState.MISSING


class _Part(BaseModel):
    task: str


class _Training(BaseModel):
    parts: tuple[_Part, ...] = ()


class _Merging(BaseModel):
    heads: tuple[str, ...] = ()


class _Scoring(BaseModel):
    limit: int | None


class StepRecord(BaseModel):
    """What `step.json` says of a step, as far as it is read back."""

    kind: str = ""
    title: str = ""
    seed: int | None = None
    parent: str | None = None
    parents: tuple[str, ...] | None = None
    training: _Training | None = None
    merging: _Merging | None = None
    scoring: _Scoring | None = None

    @property
    def parent_ids(self) -> tuple[str, ...]:
        """The steps that it starts from; only a merge may have several."""
        return tuple(id for id in (self.parents if self.parents is not None else (self.parent,)) if id)

    @property
    def trained_tasks(self) -> tuple[str, ...]:
        """The tasks that it trains on."""
        return tuple(part.task for part in self.training.parts) if self.training else ()

    @property
    def heads(self) -> tuple[str, ...]:
        """The tasks whose heads lie beside its encoder, in the order of their files."""
        return self.merging.heads if self.merging else self.trained_tasks


def read_step(folder: Path) -> StepRecord:
    """The record of the step in a folder.

    Raises:
        FileNotFoundError: the step has not begun.
        UserError: the record is damaged.
    """
    path = folder / "step.json"
    try:
        return StepRecord.model_validate_json(path.read_bytes())
    except ValueError as error:
        hint = f"delete the folder {folder} and run again"
        raise UserError("cannot be read", where=str(path), hint=hint) from error
