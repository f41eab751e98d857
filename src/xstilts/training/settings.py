"""The settings of a training: its tasks and their mixing, the optimizer's numbers, early stopping."""

# Shape suffix: P = parts of the mixture

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from xstilts.errors import nearest
from xstilts.utils.models import Strict

CHECKPOINT = "checkpoint.pt"
"""The state of a training under way, in its step's folder."""
STOP_EXAMPLES = 500
"""Early stopping scores so many dev examples of each file (the paper's first 500)."""
PATIENCE = 30
"""Evaluations in a row without a new best after which a training stops (jiant's scripts for the paper)."""
EPSILON = 1e-8
"""Adam's; the value that jiant really used."""
BETA1, BETA2 = 0.9, 0.999
"""Adam's: what stays of the two moments from one update to the next."""
CAP = 2**17
"""Examples of a task that count in the paper's rule."""
Weight = float | tuple[float, float]
"""Multiplies a task's share; two numbers: at the first update and at the last, in a straight line between."""


class Mixing(Strict):
    """A rule for the share of each task: p ~ weight x min(examples, cap)^(1 / temperature).

    As it stands it is the paper's (2.3). Without a cap it is proportional to the examples; without a temperature it is
    uniform, so that the weights alone decide.
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
            raise ValueError("must be finite; where the weights alone shall decide write `mixing: uniform`")
        return value

    def counted(self, examples: int) -> int:
        """Examples of a task that count."""
        return examples if self.cap is None else min(examples, self.cap)

    def masses(self, sizes: Sequence[int]) -> NDArray[np.float64]:
        """The share of each task before weights, up to a factor."""
        counted_P = np.array([self.counted(size) for size in sizes], float)
        power = 0.0 if self.temperature is None else 1 / self.temperature
        return np.asarray((counted_P / counted_P.max()) ** power)


RULES: dict[str, dict[str, Any]] = {
    "paper": {},
    "proportional": {"cap": None},
    "uniform": {"temperature": None},
}
"""Names for some rules."""


class TaskSettings(Strict):
    """One task of a training, with the batch, length and epochs that hold for it."""

    task: str
    weight: Weight
    batch: int
    max_length: int
    epochs: int


class TrainSpec(Strict):
    """The settings of one training, every one decided."""

    parts: tuple[TaskSettings, ...]
    lr: float
    steps: int | None
    warmup: float
    weight_decay: float
    precision: Literal["fp32", "bf16"]
    eval_every: int | None
    patience: int
    mixing: Mixing | None = None
    """None with a single task."""
    snapshots: int | None = None
    """Points whose weights are averaged; None for no such mean."""
    head_seed: int | None = None
    """What new heads are drawn from, if not from the training's seed."""
