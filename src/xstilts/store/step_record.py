"""What step.json says of a step: its title, seed, parents and tasks."""

from __future__ import annotations

from pydantic import BaseModel


class _Part(BaseModel):
    task: str


class _Training(BaseModel):
    parts: tuple[_Part, ...] = ()


class _Begun(BaseModel):
    """What a store itself must know of `step.json`."""

    title: str = ""
    seed: int | None = None
    parent: str | None = None
    parents: tuple[str, ...] | None = None
    training: _Training | None = None

    @property
    def before(self) -> tuple[str, ...]:
        """The steps that it starts from."""
        return tuple(id for id in (self.parents if self.parents is not None else (self.parent,)) if id)


DROPPED = "dropped"
"""Stands in the folder of a finished step whose encoder was removed, until it is trained again."""
