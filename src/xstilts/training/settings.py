"""The settings of a training: its tasks, their mixing, the optimizer, early stopping."""

# Shape suffix: P = tasks of the mixture

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from xstilts.errors import nearest
from xstilts.formats.base import ClassificationHead
from xstilts.utils.models import Precision, Strict, precision_in_ids

CHECKPOINT = "checkpoint.pt"
"""The file with the state of an unfinished training, in its step's folder."""
LOG = "log.jsonl"
"""The file with the log of a training, in its step's folder."""
STOP_EXAMPLES = 500
"""Dev examples of each file that early stopping scores (the first 500, as in the paper)."""
PATIENCE = 30
"""Evaluations in a row without a new best after which a training stops (appendix A.1).

By default an evaluation comes every min(1,000, total / 20) updates. Trainings of 40 to 30,000 updates then have too few
to stop: they only keep the best weights.
"""
MIN_EVALUATIONS, MAX_INTERVAL = 20, 1000
"""By default a training is evaluated so many times, or every so many updates (jiant's interval) if it is longer."""
DEV_SHARE = 0.2
"""The dev examples that a training scores for early stopping, at most, as a share of the training examples it sees."""
EPSILON = 1e-8
"""Adam's epsilon; the value in jiant's code."""
BETA1, BETA2 = 0.9, 0.999
"""The decay rates of Adam's two moments."""
CAP = 2**17
"""The examples of a task that count at most in the paper's rule."""
Weight = float | tuple[float, float]
"""Multiplies a task's share; of two numbers, the first update has the first, the last the second, linear between."""


class Mixing(Strict):
    """A rule for the share of each task: p ~ weight x min(examples, cap)^(1 / temperature).

    The defaults are the paper's rule (section 3.1). Without a cap shares are proportional to the examples; without a
    temperature they are uniform, so that only the weights count.
    """

    temperature: float | None = Field(default=1.0, gt=0, allow_inf_nan=False)
    cap: int | None = Field(default=CAP, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if isinstance(value, str):
            if value not in RULES:
                hint = nearest(value, RULES)
                meant = f"; {hint}" if hint.startswith("did you mean") else ""
                raise ValueError(f"'{value}' is none of {', '.join(RULES)}; or give temperature and cap{meant}")
            return RULES[value]
        return value

    @field_validator("temperature", mode="before")
    @classmethod
    def _finite(cls, value: Any) -> Any:
        if str(value).strip().lower().lstrip("+") in ("inf", ".inf", "infinity"):
            raise ValueError("must be finite; if only the weights should count, write `mixing: uniform`")
        return value

    def capped(self, examples: int) -> int:
        """The examples of a task that count."""
        return examples if self.cap is None else min(examples, self.cap)

    def unnormalized(self, sizes: Sequence[int]) -> NDArray[np.float64]:
        """The shares [P] of tasks of these sizes, without weights, not yet normalized."""
        capped_P = np.array([self.capped(size) for size in sizes], float)
        power = 0.0 if self.temperature is None else 1 / self.temperature
        return np.asarray((capped_P / capped_P.max()) ** power)


RULES: dict[str, dict[str, Any]] = {
    "paper": {},
    "proportional": {"cap": None},
    "uniform": {"temperature": None},
}
"""The rules that have a name."""


def as_written(value: float) -> str:
    """A number as recipes write it.

    >>> as_written(2e-05), as_written(0.001), as_written(0.1), as_written(500.0)
    ('2e-5', '1e-3', '0.1', '500')
    """
    if value == 0 or value >= 0.01:
        return f"{value:g}"
    digits, _, exponent = f"{value:e}".partition("e")
    return f"{float(digits):g}e{int(exponent)}"


class TaskSettings(Strict):
    """One task of a training: its weight, batch size, maximum length in tokens, epochs."""

    task: str
    weight: Weight
    batch: int
    max_length: int
    epochs: int
    raw_text: bool = False
    """Whether it is raw text beside other tasks: its updates come on top of the labelled tasks'."""
    shots: int | None = None
    """The training examples of each language that are drawn, by the step's seed; None: all."""


class TrainSpec(Strict):
    """The settings of one training, all of them given."""

    parts: tuple[TaskSettings, ...]
    lr: float
    steps: int | None
    """Updates of the labelled tasks together, in place of their epochs; raw text comes on top."""
    warmup: float
    """Updates in which the learning rate rises: their number, from 1, or their share of all, below 1."""
    weight_decay: float
    precision: Precision
    eval_every: int | None
    patience: int
    weights: Literal["best", "last"] = "best"
    """The weights at the end: those with the best dev score, or the last, without a dev set."""
    mixing: Mixing | None = None
    """None with a single task."""
    dev_share: float | None = None
    """The dev examples scored, at most, as a share of the training examples seen; None: no bound."""
    snapshots: int | None = None
    """How many evenly spaced points have their weights averaged; None: no average."""
    head_seed: int | None = None
    """The seed of new heads; None: the training's own."""
    head: ClassificationHead | None = None
    """The classification head; None if no task of the training has one."""

    def warmup_updates(self, total: int) -> int:
        """The updates in which the learning rate rises, of `total`."""
        return int(self.warmup * total if self.warmup < 1 else self.warmup)

    def identity(self) -> dict[str, Any]:
        """The part of it that ids hash; jiant's head stays out, because older trainings had no other."""
        row = super().identity() | {"precision": precision_in_ids(self.precision)}
        return {key: value for key, value in row.items() if (key, value) != ("head", "jiant")}
