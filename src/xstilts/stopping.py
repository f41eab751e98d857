"""Early stopping: the dev scores of a training's tasks as one number, and whether that is chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from xstilts.device import Precision
from xstilts.encoder import Encoder
from xstilts.evaluate import chances, evaluate
from xstilts.features import FeatureSet
from xstilts.heads import Head
from xstilts.metrics import at_chance
from xstilts.metrics.chance import margin
from xstilts.task import Example, Task


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
