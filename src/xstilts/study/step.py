"""A step of a plan: create, train, merge or evaluate, with every setting given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from xstilts.formats.pooling import PoolingKind, ScoreLayers
from xstilts.model.shape import NewEncoder
from xstilts.training.settings import TaskSettings, TrainSpec
from xstilts.utils.models import Precision, Strict, precision_in_ids

Kind = Literal["create", "train", "merge", "evaluate", "ensemble"]


class MergeSpec(Strict):
    """How the encoders of the parents are merged into one."""

    how: Literal["checkpoints", "mean", "vectors"]
    """`checkpoints`: the mean along its only parent's training; `vectors`: the sum of the parents' changes."""
    scale: float | None = None
    """Multiplies the sum of `vectors`."""
    heads: tuple[str, ...] = ()
    """The tasks whose heads are merged too."""


class EvalSpec(Strict):
    """The settings of one evaluation, all of them given."""

    task: str
    head: int | None
    """The index of the parent training's head; None for a task without a trained head."""
    languages: tuple[str, ...]
    max_length: int
    precision: Precision
    limit: int | None
    layer: int | None = None
    """The hidden state that retrieval pools; None: the task's."""
    poolings: tuple[PoolingKind, ...] = ()
    """Other poolings that retrieval is scored with, too, in the same forward passes."""
    score_layers: ScoreLayers = "all"
    """The hidden states for these."""

    def identity(self) -> dict[str, Any]:
        """The part of it that ids hash."""
        return super().identity() | {"precision": precision_in_ids(self.precision)}


class EnsembleSpec(Strict):
    """The evaluations whose predictions are averaged."""

    task: str
    """The name of the mean in reports."""
    members: tuple[tuple[str, ...], ...]
    """The evaluations of each task, by id; several if each language has its own."""
    limit: int | None
    """Of the members' examples."""


@dataclass(frozen=True)
class Step:
    """One unit of work of a study."""

    id: str
    """A hash of everything that decides its outcome, except the content of data files; see `identity.step_id`."""
    kind: Kind
    parents: tuple[str, ...]
    """The steps whose encoders it starts from: none for the recipe's encoder, several for a merge. Of an ensemble the
    evaluations that it reads."""
    encoder: str
    seed: int | None
    """None if it depends on no seed of the study, or on several."""
    title: str
    training: TrainSpec | None = None
    scoring: EvalSpec | None = None
    new: NewEncoder | None = None
    merging: MergeSpec | None = None
    ensemble: EnsembleSpec | None = None
    heading: str = ""
    """Of a training: its phase and its tasks."""
    origins: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Where each setting of a training comes from; see `defaults.ResolvedTraining`."""

    @property
    def parent(self) -> str | None:
        """The first parent."""
        return self.parents[0] if self.parents else None

    @property
    def has_encoder(self) -> bool:
        """Whether it makes an encoder."""
        return self.kind not in ("evaluate", "ensemble")

    @property
    def heads(self) -> tuple[str, ...]:
        """The tasks whose heads are saved with its encoder."""
        return self.merging.heads if self.merging else tuple(part.task for part in self.parts)

    @property
    def parts(self) -> tuple[TaskSettings, ...]:
        """The tasks that it trains on; empty if it is no training."""
        return self.training.parts if self.training else ()

    @property
    def name(self) -> str:
        """The title, with the seed if it has one."""
        return self.title if self.seed is None else f"{self.title}, seed {self.seed}"

    def row(self) -> dict[str, Any]:
        """The step as JSON."""
        row = {"id": self.id, "kind": self.kind, "title": self.title, "parent": self.parent, "seed": self.seed}
        for name in ("training", "scoring", "new", "merging", "ensemble"):
            value = getattr(self, name)
            if value is not None:
                row[name] = value.model_dump(mode="json")
        return row | ({"parents": list(self.parents)} if self.merging or self.ensemble else {})
