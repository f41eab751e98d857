"""Early stopping: the dev scores of a training's tasks as one number, and whether that is chance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

from torch import Tensor, nn

from xstilts.compute.device import Precision
from xstilts.errors import StepFailed
from xstilts.formats.base import Example
from xstilts.metrics import at_chance
from xstilts.metrics.chance import margin
from xstilts.model.encoder import Encoder
from xstilts.model.evaluate import chances, evaluate
from xstilts.model.features import FeatureSet
from xstilts.model.heads import Head
from xstilts.tasks.task import Task
from xstilts.training.log import MILDER
from xstilts.training.settings import Training


@dataclass(frozen=True)
class Look:
    """One task's dev examples in the language that it is trained in."""

    task: Task
    head: Head
    examples: Sequence[Example]
    features: FeatureSet

    @cached_property
    def chance(self) -> float:
        """Percent that the best of the answers that look at nothing gets."""
        known = chances(self.task.format, (self.task.stop_metric,), self.examples, self.task.train_languages[0])
        return known.get(self.task.stop_metric, 0.0)

    def score(self, encoder: Encoder, precision: Precision) -> float:
        """Percent."""
        metric = self.task.stop_metric
        return evaluate(
            encoder, self.head, self.task.format, (metric,), self.examples, self.features,
            language=self.task.train_languages[0], precision=precision, tune=True,
        ).scores[metric]  # fmt: skip

    def scaled(self, points: float) -> float:
        """Points above chance, of 100 between chance and perfection."""
        return 100 * points / (100 - self.chance)


def _telling(looks: Sequence[Look]) -> list[Look]:
    """The looks that can tell better from worse: not those at examples that all have the same answer."""
    return [look for look in looks if look.chance < 100] or list(looks[:1])


def dev_score(looks: Sequence[Look], encoder: Encoder, precision: Precision) -> float:
    """The score of a single task in percent; of several the mean on one scale, where 0 is chance and 100 perfect."""
    looks = _telling(looks)
    if len(looks) == 1:
        return looks[0].score(encoder, precision)
    return fmean(look.scaled(look.score(encoder, precision) - look.chance) for look in looks)


def fate(best: float | None, looks: Sequence[Look]) -> dict[str, object]:
    """What chance is for the best dev score, and whether it is no better; empty without early stopping."""
    if best is None:
        return {}
    looks = _telling(looks)
    if len(looks) == 1:
        chance = looks[0].chance
        return {"dev_chance": chance, "at_chance": at_chance(best, [chance], [len(looks[0].examples)])}
    noise = sum(look.scaled(margin(look.chance, len(look.examples))) ** 2 for look in looks) ** 0.5
    return {"dev_chance": 0.0, "at_chance": best <= noise / len(looks)}


class _Best:
    """The best weights so far, and how long ago they were."""

    def __init__(self, modules: nn.Module, patience: int) -> None:
        self.modules, self.patience = modules, patience
        self.score: float | None = None
        self.update, self.since = 0, 0
        self._weights: dict[str, Tensor] = {}

    def over(self, score: float, update: int) -> bool:
        """Note a score; True when it is time to stop."""
        if self.score is None or score > self.score:
            self.score, self.update, self.since = score, update, 0
            self._weights = {
                name: value.detach().to("cpu", copy=True) for name, value in self.modules.state_dict().items()
            }
        else:
            self.since += 1
        return self.since >= self.patience

    def restore(self) -> None:
        """Put the best weights back."""
        if self._weights:
            self.modules.load_state_dict(self._weights)

    def state_dict(self) -> dict[str, Any]:
        return {"score": self.score, "update": self.update, "since": self.since, "weights": self._weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.score, self.update, self.since = state["score"], state["update"], state["since"]
        self._weights = dict(state["weights"])


def look_every(training: Training, updates: int) -> int:
    """Updates from one look at the dev examples to the next, of so many in all."""
    return training.eval_every or max(1, min(1000, updates // 20))


def _attempt(dev: Callable[[], float], update: int, total: int) -> float | StepFailed:
    try:
        return dev()
    except StepFailed as failure:
        return StepFailed(f"{failure.message} after update {update:,} of {total:,}", hint=MILDER)
