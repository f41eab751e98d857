"""A step of a plan: one piece of work, with every setting decided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from xstilts.model.shape import NewEncoder
from xstilts.training.settings import Learned, Training
from xstilts.utils.models import Strict

Kind = Literal["create", "train", "merge", "evaluate"]


class Merging(Strict):
    """How one encoder is made of those that the parents have trained, with the heads of these tasks."""

    how: Literal["checkpoints", "mean", "vectors"]
    """`checkpoints` is the mean that its only parent has kept, `vectors` adds up what the parents changed."""
    scale: float | None = None
    heads: tuple[str, ...] = ()


class Scoring(Strict):
    """The settings of one evaluation, every one decided."""

    task: str
    head: int | None
    """Which head of the parent training's; None for tasks that need none of these."""
    languages: tuple[str, ...]
    max_length: int
    precision: Literal["fp32", "bf16"]
    limit: int | None


@dataclass(frozen=True)
class Step:
    """One piece of work. Its id is a hash of all that decides its outcome but the content of the data files.

    `parents` are the steps whose encoders it starts from: none for the recipe's own encoder, several for a merge.
    `seed` is None only for what no seed of the study has touched, or more than one.
    """

    id: str
    kind: Kind
    parents: tuple[str, ...]
    encoder: str
    seed: int | None
    title: str
    training: Training | None = None
    scoring: Scoring | None = None
    new: NewEncoder | None = None
    merging: Merging | None = None

    @property
    def parent(self) -> str | None:
        """The first of the steps that it starts from."""
        return self.parents[0] if self.parents else None

    @property
    def heads(self) -> tuple[str, ...]:
        """The tasks whose heads lie beside its encoder."""
        return self.merging.heads if self.merging else tuple(part.task for part in self.parts)

    @property
    def parts(self) -> tuple[Learned, ...]:
        """The tasks it trains on, none if it is no training."""
        return self.training.parts if self.training else ()

    @property
    def name(self) -> str:
        """The title, with the seed where there is one."""
        return self.title if self.seed is None else f"{self.title}, seed {self.seed}"

    def row(self) -> dict[str, Any]:
        """The step as JSON."""
        known = {"id": self.id, "kind": self.kind, "title": self.title, "parent": self.parent, "seed": self.seed}
        for name in ("training", "scoring", "new", "merging"):
            value = getattr(self, name)
            if value is not None:
                known[name] = value.model_dump(mode="json")
        return known | ({"parents": list(self.parents)} if self.merging else {})
