"""Phases: what is trained on, in which mixtures and with which settings; the part of a recipe that learns."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from xstilts.errors import nearest
from xstilts.training.settings import Mixing
from xstilts.utils.models import Count, Seed, Strict
from xstilts.utils.yaml import PartError


class Settings(Strict):
    """How a phase trains and how much is scored; what is not given comes from the task, then from the phase's role."""

    lr: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    batch: Count | None = None
    epochs: Count | None = None
    steps: int | None = Field(default=None, ge=1, le=10**8)
    max_length: int | None = Field(default=None, ge=8, le=10**6)
    warmup: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    """Share of the updates in which the learning rate rises."""
    weight_decay: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    precision: Literal["fp32", "bf16"] | None = None
    eval_every: Count | None = None
    """Updates between two looks at the English dev examples."""
    patience: Count | None = None
    """Looks without improvement after which a training stops."""
    limit: Count | None = None
    """Examples a language that are scored at most."""
    mixing: Mixing | None = None
    """How often each task of a mixture is drawn."""

    @model_validator(mode="after")
    def _one_length(self) -> Settings:
        if self.epochs is not None and self.steps is not None:
            raise ValueError("give epochs or steps, not both")
        return self

    def over(self, other: Settings) -> Settings:
        """These settings, with what they leave open taken from `other`."""
        mine, theirs = ({k: v for k, v in settings if v is not None} for settings in (self, other))
        if mine.keys() & {"epochs", "steps"}:
            theirs = {key: value for key, value in theirs.items() if key not in ("epochs", "steps")}
        return Settings(**(theirs | mine))


MIN_FACTOR, MAX_FACTOR = 1e-9, 1e9
"""Bounds of what is multiplied; titles write it with all its digits."""
Factor = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Part(Strict):
    """A task in a mixture; `weight` multiplies its share, two numbers from the first update to the last."""

    task: str
    weight: Factor | tuple[Factor, Factor] = 1.0

    @field_validator("weight", mode="before")
    @classmethod
    def _one_or_two(cls, value: Any) -> Any:
        if isinstance(value, list | tuple) and len(value) != 2:
            raise ValueError("a weight is a number or two")
        return value

    @field_validator("weight")
    @classmethod
    def _counts(cls, value: float | tuple[float, float]) -> float | tuple[float, float]:
        if value in (0, (0, 0)):
            raise ValueError("a weight must be above 0, one of two at least")
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


def _can_be_drawn(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    names = [part.task for part in parts]
    for i in duplicates(names):
        raise PartError(f"the mixture names '{names[i]}' twice", i)
    if len(parts) == 1 and parts[0].weight != 1:
        raise ValueError(f"'{parts[0].task}' stands alone: a weight is for a task beside others")
    for end, at in enumerate(("first", "last")):
        if parts and not any(part.ends[end] for part in parts):
            raise ValueError(f"all weights are 0 at the {at} update: one must be above 0")
    return parts


def duplicates(values: Iterable[Hashable]) -> list[int]:
    """Positions of the values that stand before, too.

    >>> duplicates(["a", "b", "a"])
    [2]
    """
    first: dict[Hashable, int] = {}
    return [i for i, value in enumerate(values) if first.setdefault(value, i) != i]


Mixture = Annotated[tuple[Annotated[Part, BeforeValidator(_as_part)], ...], AfterValidator(_can_be_drawn)]
Names = Annotated[tuple[str, ...], BeforeValidator(_as_list), Field(min_length=1)]


class Merge(Strict):
    """The encoders that several mixtures have trained, made into one weight by weight, without more training."""

    merge: tuple[Annotated[Mixture, Field(min_length=1)], ...] = Field(min_length=2)
    how: Literal["mean", "vectors"] = "mean"
    """`vectors`: the encoder before, plus `scale` x the sum of what each mixture has changed in it."""
    scale: float | None = Field(default=None, ge=MIN_FACTOR, le=MAX_FACTOR, allow_inf_nan=False)

    @model_validator(mode="after")
    def _makes_sense(self) -> Merge:
        if (self.scale is not None) != (self.how == "vectors"):
            raise ValueError("scale goes with `how: vectors`, which needs it")
        for i in duplicates(self.merge):
            raise PartError(f"merge names {_quoted_name(self.merge[i])} twice", "merge", i)
        return self


class Chain(Strict):
    """Mixtures that are trained one after another."""

    chain: tuple[Annotated[Mixture, Field(min_length=1)], ...] = Field(min_length=2)


def _kind(value: Any) -> str:
    """Which kind of choice a user means, by the name of its model: only its mistakes are told."""
    if isinstance(value, Chain | Merge):
        return type(value).__name__
    if not isinstance(value, dict):
        return "Mixture"
    return "Chain" if "chain" in value else "Merge"


def _of_one_kind(value: Any) -> Any:
    kinds = ("merge", "chain")
    given = [key for key in value if key in kinds] if isinstance(value, dict) else ["mixture"]
    if len(given) > 1:
        raise ValueError("give merge or chain, not both")
    if not given and "task" in value:
        raise ValueError("a mixture is a list in brackets: write [{task: ...}]")
    if not given:
        meant = [hint for key in value if (hint := nearest(key, kinds)).startswith("did you mean")]
        raise ValueError(
            f"a choice is a list of tasks in brackets, or has merge or chain; {(*meant, 'it has neither')[0]}"
        )
    return value


Choice = Annotated[
    Annotated[Mixture, Tag("Mixture")] | Annotated[Merge, Tag("Merge")] | Annotated[Chain, Tag("Chain")],
    Discriminator(_kind),
    BeforeValidator(_of_one_kind),
]


def mixtures_of(choice: Choice) -> tuple[Mixture, ...]:
    """What is trained for a choice: nothing, one mixture, or those of a merge or chain."""
    if isinstance(choice, Merge):
        return choice.merge
    return choice.chain if isinstance(choice, Chain) else (choice,) if choice else ()


def choice_name(choice: Choice) -> str:
    """A choice as titles and reports name it.

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
    """A number with all its digits and no exponent, so that two numbers never look alike."""
    return f"{Decimal(repr(number)):f}".removesuffix(".0")


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9 ._-]*[A-Za-z0-9._-])?", value):
        raise ValueError(f"{value!r} is no name of letters, digits, '.', '_', '-', and blanks inside")
    return value


Name = Annotated[str, Field(max_length=100), AfterValidator(_name)]


class Phase(Strict):
    """One stage of training: either some mixtures to choose from (each opens a branch), or `each` of some tasks."""

    name: Name
    choices: tuple[Choice, ...] | None = Field(default=None, min_length=1)
    each: Names | None = None
    settings: Settings = Settings()
    seed: Seed | None = None
    """One seed for all seeds of the study: the phase is done once and shared."""
    head_seed: Seed | None = None
    """What new heads are drawn from, in place of each seed of the study; 0 where runs are averaged."""
    scored: bool = False
    """Whether the tasks that were trained on are scored too, on their own dev data, right after (paper, Table 15)."""
    average: Annotated[tuple[Literal["checkpoints", "runs", "both"], ...], BeforeValidator(_as_list)] = ()
    """Beside each branch: the mean of the weights along each training, over the seeds, or of the former over these."""
    snapshots: int = Field(default=10, ge=1, le=10**6)
    """Evenly spaced points of a training whose weights are averaged."""

    @model_validator(mode="after")
    def _makes_sense(self) -> Phase:
        if (self.choices is None) == (self.each is None):
            raise ValueError("needs either choices or each")
        choices = self.choices or ()
        for i in duplicates(choices):
            raise PartError(f"choices names {_quoted_name(choices[i])} twice", "choices", i)
        if self.scored and self.choices is None:
            raise ValueError("scored goes with choices; what is evaluated is scored after each")
        if self.average and self.each is None:
            raise ValueError("average goes with each")
        if self.average_runs and self.seed is not None:
            raise ValueError("runs of one seed cannot be averaged: remove seed or average")
        if "snapshots" in self.model_fields_set and not self.average_checkpoints:
            raise ValueError("snapshots goes with `average: checkpoints`")
        return self

    @property
    def average_checkpoints(self) -> bool:
        """Whether trainings must keep the mean of their weights."""
        return bool({"checkpoints", "both"} & set(self.average))

    @property
    def average_runs(self) -> bool:
        """Whether trainings of several seeds are averaged."""
        return bool({"runs", "both"} & set(self.average))

    @property
    def heads_from(self) -> int | None:
        """The seed of new heads, if it is not the training's: runs can be averaged only if their heads start alike."""
        return 0 if self.head_seed is None and self.average_runs else self.head_seed
