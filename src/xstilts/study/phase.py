"""Phases of a recipe: their mixtures of tasks, merges and chains, and their settings."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from decimal import Decimal
from math import inf
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    field_validator,
    model_validator,
)

from xstilts.errors import nearest
from xstilts.formats.pooling import MAX_LAYER, Layers, Poolings
from xstilts.training.settings import Mixing
from xstilts.utils.models import Count, PathText, Precision, Seed, Strict
from xstilts.utils.yaml import Document, KeyPath, KeyPathError


def _check_warmup(value: Any) -> Any:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return value  # the typed model says what is wrong
    whole = value.strip().isdecimal() if isinstance(value, str) else number.is_integer()
    if 1 <= number < inf and not whole:  # 1.0 in a recipe may mean all updates, or one
        raise ValueError(f"is a share below 1 or a whole number of updates, not {value}")
    return value


Warmup = Annotated[float, BeforeValidator(_check_warmup), Field(ge=0, le=10**8, allow_inf_nan=False)]


class Settings(Strict):
    """How a phase trains and scores; a setting that is not given comes from the task, then from the phase's role."""

    lr: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    batch: Count | None = None
    epochs: Count | None = None
    steps: int | None = Field(default=None, ge=1, le=10**8)
    max_length: int | None = Field(default=None, ge=8, le=10**6)
    warmup: Warmup | None = None
    """Updates in which the learning rate rises: their number, from 1, or their share of all, below 1."""
    weight_decay: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    precision: Precision | None = None
    eval_every: Count | None = None
    """Updates between two evaluations on the English dev examples."""
    patience: Count | None = None
    """Evaluations without improvement after which a training stops."""
    weights: Literal["best", "last"] | None = None
    """The weights at the end of a training: those with the best dev score, or the last, without a dev set."""
    layer: int | None = Field(default=None, ge=0, le=MAX_LAYER)
    """The hidden state that retrieval tasks pool."""
    poolings: Poolings = None
    """Other poolings that retrieval tasks are scored with, too; `mean` by default if `score_layers` is given."""
    score_layers: Layers = None
    """The hidden states for these; all by default."""
    limit: Count | None = None
    """How many examples of a language are scored, at most."""
    shots: Count | None = None
    """The training examples of each language that are drawn, by the run's seed; by default all."""
    mixing: Mixing | None = None
    """The rule by which the tasks of a mixture are sampled."""
    budget: Literal["epochs", "updates"] | None = None
    """`updates`: every choice of a phase trains the same number of labelled updates; a chain or merge shares them."""

    encoder: PathText | None = None
    """Of a single target: it starts from this encoder instead of the recipe's."""

    tasks: dict[str, Settings] | None = None
    """Settings of single tasks, which replace the others for them."""
    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    @field_validator("tasks")
    @classmethod
    def _of_one_task(cls, value: dict[str, Settings] | None) -> dict[str, Settings] | None:
        for name, settings in (value or {}).items():
            for field in ("tasks", "mixing", "budget"):
                if getattr(settings, field) is not None:
                    raise KeyPathError("is not a setting of a single task", name, field)
        return value

    @model_validator(mode="after")
    def _one_length(self) -> Settings:
        if self.epochs is not None and self.steps is not None:
            raise ValueError("give epochs or steps, not both")
        if self.epochs is not None and self.budget == "updates":
            raise ValueError("`budget: updates` counts updates: give steps instead of epochs")
        return self

    def over(self, other: Settings) -> Settings:
        """These settings, with gaps filled from `other`, except those that they exclude."""
        mine, theirs = ({k: v for k, v in settings if v is not None} for settings in (self, other))
        excluded: set[str] = set()
        if self.epochs is not None:
            excluded |= {"steps", "budget"}
        if self.steps is not None or self.budget == "updates":
            excluded.add("epochs")
        if self.tasks and other.tasks:
            mine["tasks"] = {
                name: self.tasks.get(name, Settings()).over(other.tasks.get(name, Settings()))
                for name in {**other.tasks, **self.tasks}
            }
        theirs = {key: value for key, value in theirs.items() if key not in excluded}
        both = Settings(**(theirs | mine))
        both._origins = {key: line for key, line in other._origins.items() if key not in mine} | self._origins
        return both

    def origin(self, field: str) -> str:
        """Where the user gave a field: file and line, or the recipe."""
        return self._origins.get(field) or "recipe"

    def note_origins(self, document: Document, path: KeyPath) -> None:
        """Remember the lines of the given fields; `path` leads to these settings in the document."""
        for field in self.model_fields_set:
            self._origins[field] = document.origin((*path, field))
        for task, settings in (self.tasks or {}).items():
            settings.note_origins(document, (*path, "tasks", task))

    def of(self, task: str) -> Settings:
        """The settings of a task: its own, with gaps filled from the others."""
        general = self.model_copy(update={"tasks": None})
        return (self.tasks or {}).get(task, Settings()).over(general)


def _check_no_encoder(settings: Settings) -> Settings:
    if settings.encoder is not None:
        raise KeyPathError("is a setting of single tasks: `tasks: {TASK: {encoder: ...}}`", "encoder")
    return settings


OuterSettings = Annotated[Settings, AfterValidator(_check_no_encoder)]
"""Settings for several tasks."""

MIN_FACTOR, MAX_FACTOR = 1e-9, 1e9
"""Bounds of weights and scales, so that branch names can write all their digits."""
Factor = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Part(Strict):
    """A task in a mixture; `weight` multiplies its share, and may change linearly from one number to another."""

    task: str
    weight: Factor | tuple[Factor, Factor] = 1.0

    @field_validator("weight", mode="before")
    @classmethod
    def _number_or_pair(cls, value: Any) -> Any:
        if isinstance(value, list | tuple) and len(value) != 2:
            raise ValueError("a weight is a number or two")
        return value

    @field_validator("weight")
    @classmethod
    def _in_bounds(cls, value: float | tuple[float, float]) -> float | tuple[float, float]:
        if value in (0, (0, 0)):
            raise ValueError("a weight, or one of its two numbers, must be above 0")
        for weight in value if isinstance(value, tuple) else (value,):
            if weight and not MIN_FACTOR <= weight <= MAX_FACTOR:
                raise ValueError(f"a weight must be from 1e-9 to 1e9, got {weight}")
        return value[0] if isinstance(value, tuple) and value[0] == value[1] else value

    @property
    def ends(self) -> tuple[float, float]:
        """The weight at the first update and at the last."""
        return self.weight if isinstance(self.weight, tuple) else (self.weight, self.weight)


def _as_part(value: Any) -> Any:
    return {"task": value} if isinstance(value, str) else value


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _check_mixture(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    names = [part.task for part in parts]
    for i in duplicates(names):
        raise KeyPathError(f"the mixture names '{names[i]}' twice", i)
    if len(parts) == 1 and parts[0].weight != 1:
        raise ValueError(f"'{parts[0].task}' is the only task: a weight needs other tasks beside it")
    for end, update in enumerate(("first", "last")):
        if parts and not any(part.ends[end] for part in parts):
            raise ValueError(f"all weights are 0 at the {update} update: one must be above 0")
    return parts


def duplicates(values: Iterable[Hashable]) -> list[int]:
    """Positions of values that occur earlier in the list, too.

    >>> duplicates(["a", "b", "a"])
    [2]
    """
    first: dict[Hashable, int] = {}
    return [i for i, value in enumerate(values) if first.setdefault(value, i) != i]


Mixture = Annotated[tuple[Annotated[Part, BeforeValidator(_as_part)], ...], AfterValidator(_check_mixture)]
Names = Annotated[tuple[str, ...], BeforeValidator(_as_list), Field(min_length=1)]


class Merge(Strict):
    """The encoders trained on several mixtures are merged into one, weight by weight."""

    merge: tuple[Annotated[Mixture, Field(min_length=1)], ...] = Field(min_length=2)
    how: Literal["mean", "vectors"] = "mean"
    """`vectors`: the encoder before, plus `scale` x the sum of the changes by each mixture."""
    scale: float | None = Field(default=None, ge=MIN_FACTOR, le=MAX_FACTOR, allow_inf_nan=False)

    @model_validator(mode="after")
    def _check(self) -> Merge:
        if (self.scale is not None) != (self.how == "vectors"):
            raise ValueError("`how: vectors` needs a scale, and `how: mean` has none")
        for i in duplicates(self.merge):
            raise KeyPathError(f"merge names {_quoted_name(self.merge[i])} twice", "merge", i)
        return self


class Chain(Strict):
    """Mixtures that are trained one after another."""

    chain: tuple[Annotated[Mixture, Field(min_length=1)], ...] = Field(min_length=2)


def _kind(value: Any) -> str:
    """The name of the model for a choice as the user wrote it; only that model reports mistakes."""
    if isinstance(value, Chain | Merge):
        return type(value).__name__
    if not isinstance(value, dict):
        return "Mixture"
    return "Chain" if "chain" in value else "Merge"


def _check_kind(value: Any) -> Any:
    kinds = ("merge", "chain")
    given = [key for key in value if key in kinds] if isinstance(value, dict) else ["mixture"]
    if len(given) > 1:
        raise ValueError("give merge or chain, not both")
    if not given and "task" in value:
        raise ValueError("a mixture is a list in brackets: write [{task: ...}]")
    if not given:
        hints = [hint for key in value if (hint := nearest(key, kinds)).startswith("did you mean")]
        hint = hints[0] if hints else "it has neither"
        raise ValueError(f"a choice is a list of tasks in brackets, or has merge or chain; {hint}")
    return value


Choice = Annotated[
    Annotated[Mixture, Tag("Mixture")] | Annotated[Merge, Tag("Merge")] | Annotated[Chain, Tag("Chain")],
    Discriminator(_kind),
    BeforeValidator(_check_kind),
]


def mixtures_of(choice: Choice) -> tuple[Mixture, ...]:
    """The mixtures that a choice trains: none, one, or those of a merge or chain."""
    if isinstance(choice, Merge):
        return choice.merge
    return choice.chain if isinstance(choice, Chain) else (choice,) if choice else ()


def choice_name(choice: Choice) -> str:
    """A choice as titles and reports write it.

    >>> choice_name(Merge.model_validate({"merge": [["mnli"], ["squad1", "siqa"]], "how": "vectors", "scale": 0.4}))
    '0.4 vectors(mnli, squad1+siqa)'
    """
    if isinstance(choice, Chain):
        return " > ".join(map(choice_name, choice.chain))
    if isinstance(choice, Merge):
        scale = "" if choice.scale is None else f"{_all_digits(choice.scale)} "
        return f"{scale}{choice.how}({', '.join(map(choice_name, choice.merge))})"
    return "+".join(map(_part_name, choice))


def _quoted_name(choice: Choice) -> str:
    return f"'{choice_name(choice)}'" if choice else "[]"


def _part_name(part: Part) -> str:
    if part.weight == 1:
        return part.task
    return f"{'..'.join(dict.fromkeys(map(_all_digits, part.ends)))}x{part.task}"


def _all_digits(number: float) -> str:
    """A number with all its digits and no exponent, so that different numbers have different names."""
    return f"{Decimal(repr(number)):f}".removesuffix(".0")


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9 ._-]*[A-Za-z0-9._-])?", value):
        raise ValueError(f"{value!r} is no name of letters, digits, '.', '_', '-', and blanks inside")
    return value


Name = Annotated[str, Field(max_length=100), AfterValidator(_name)]


class Phase(Strict):
    """One stage of training: either `choices`, each of which opens a branch, or `each`, one training a task."""

    name: Name
    choices: tuple[Choice, ...] | None = Field(default=None, min_length=1)
    each: Names | None = None
    settings: OuterSettings = Settings()
    seed: Seed | None = None
    """One seed for all seeds of the study, which then share the phase."""
    head_seed: Seed | None = None
    """The seed of new heads, in place of the study's seeds; 0 by default if runs are averaged."""
    scored: bool = False
    """Whether the tasks of each choice are scored right after it, on their own dev data (paper, Table 15)."""
    average: Annotated[tuple[Literal["checkpoints", "runs", "both"], ...], BeforeValidator(_as_list)] = ()
    """Averaged weights to score, too: along each training, over the runs of all seeds, or along and then over."""
    snapshots: int = Field(default=10, ge=1, le=10**6)
    """How many evenly spaced points of a training are averaged."""

    @model_validator(mode="after")
    def _check(self) -> Phase:
        if (self.choices is None) == (self.each is None):
            raise ValueError("needs either choices or each")
        choices = self.choices or ()
        for i in duplicates(choices):
            raise KeyPathError(f"choices names {_quoted_name(choices[i])} twice", "choices", i)
        if self.scored and self.choices is None:
            raise ValueError("scored needs choices; after `each` the tasks of `evaluate` are scored anyway")
        if self.average and self.each is None:
            raise ValueError("average needs each")
        if self.average_runs and self.seed is not None:
            raise ValueError("runs of one seed cannot be averaged: remove seed or average")
        if "snapshots" in self.model_fields_set and not self.average_checkpoints:
            raise ValueError("snapshots needs `average: checkpoints`")
        return self

    @model_validator(mode="after")
    def _check_settings(self) -> Phase:
        if self.settings.budget == "updates" and self.choices is None:
            raise KeyPathError("budget needs choices; after `each` a task trains alone", "settings", "budget")
        for field in ("poolings", "score_layers"):
            if getattr(self.settings, field) is not None and self.each is None:
                raise KeyPathError("needs each: it is about the final scoring", "settings", field)
        return self

    @property
    def average_checkpoints(self) -> bool:
        """Whether the mean of the weights along each training is needed."""
        return bool({"checkpoints", "both"} & set(self.average))

    @property
    def average_runs(self) -> bool:
        """Whether the runs of several seeds are averaged."""
        return bool({"runs", "both"} & set(self.average))

    @property
    def new_head_seed(self) -> int | None:
        """The seed of new heads; None: the training's own. Heads can be averaged only if they start equal."""
        return 0 if self.head_seed is None and self.average_runs else self.head_seed
