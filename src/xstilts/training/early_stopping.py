"""Early stopping: when the dev examples are scored, how, and when a training stops.

`evaluation_interval` has the interval; `training/settings.py` the patience and the number of dev examples
(`PATIENCE`, `STOP_EXAMPLES`). `Task.stop_source` chooses the examples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import fmean
from typing import Any

from torch import Tensor, nn

from xstilts.compute import distributed
from xstilts.errors import OutOfMemory, StepFailed
from xstilts.formats.base import Example
from xstilts.metrics import at_chance
from xstilts.metrics.chance import margin
from xstilts.model.encoder import Encoder
from xstilts.model.evaluate import chance_scores, evaluate
from xstilts.model.features import FeatureSet
from xstilts.model.heads import Head
from xstilts.tasks.task import Task
from xstilts.training.log import MILDER
from xstilts.training.settings import MAX_INTERVAL, MIN_EVALUATIONS, TrainSpec
from xstilts.utils.models import Precision


@dataclass(frozen=True)
class DevSet:
    """One task's dev examples in the language that it is trained in."""

    task: Task
    head: Head
    examples: Sequence[Example]
    features: FeatureSet
    max_length: int
    predictions: list[Any] = field(default_factory=list, compare=False)
    """Those of the last evaluation."""

    def with_examples(self, encoder: Encoder, size: int) -> DevSet:
        """The same with `size` examples, evenly spaced."""
        if size == len(self.examples):
            return self
        examples = [self.examples[i * len(self.examples) // size] for i in range(size)]
        features = FeatureSet.build(self.task.format, examples, encoder.tokenizer_for(self.max_length))
        return replace(self, examples=examples, features=features)

    @cached_property
    def chance(self) -> float:
        """The score in percent of the best prediction that ignores its input."""
        by_metric = chance_scores(
            self.task.format, (self.task.stop_metric,), self.examples, self.task.train_languages[0]
        )
        return by_metric.get(self.task.stop_metric, 0.0)

    def score(self, encoder: Encoder, precision: Precision, tokens: int | None) -> float:
        """The score of the encoder in percent."""
        metric = self.task.stop_metric
        result = evaluate(
            encoder, self.head, self.task.format, (metric,), self.examples, self.features,
            language=self.task.train_languages[0], precision=precision, tune=True, tokens=tokens,
        )  # fmt: skip
        self.predictions[:] = result.predictions
        return result.scores[metric]

    def rescale(self, points: float) -> float:
        """Rescale points of the metric so that chance and a perfect score are 100 apart."""
        return 100 * points / (100 - self.chance)


def _informative(dev_sets: Sequence[DevSet]) -> list[DevSet]:
    """The dev sets whose examples have different answers, or else the first: one answer for all is always right."""
    return [dev_set for dev_set in dev_sets if dev_set.chance < 100] or list(dev_sets[:1])


def dev_score(dev_sets: Sequence[DevSet], encoder: Encoder, precision: Precision, tokens: int | None = None) -> float:
    """One task's score in percent, or the mean over several on one scale, where 0 is chance and 100 is perfect."""
    dev_sets = _informative(dev_sets)
    if len(dev_sets) == 1:
        return dev_sets[0].score(encoder, precision, tokens)
    return fmean(dev_set.rescale(dev_set.score(encoder, precision, tokens) - dev_set.chance) for dev_set in dev_sets)


def dev_outcome(best: float | None, dev_sets: Sequence[DevSet]) -> dict[str, object]:
    """Chance on the dev sets, and whether the best dev score is no better; empty without early stopping."""
    if best is None:
        return {}
    dev_sets = _informative(dev_sets)
    if len(dev_sets) == 1:
        chance = dev_sets[0].chance
        return {"dev_chance": chance, "at_chance": at_chance(best, [chance], [len(dev_sets[0].examples)])}
    noise = sum(dev_set.rescale(margin(dev_set.chance, len(dev_set.examples))) ** 2 for dev_set in dev_sets) ** 0.5
    return {"dev_chance": 0.0, "at_chance": best <= noise / len(dev_sets)}


class BestWeights:
    """Early stopping's state: the best weights so far, and the number of evaluations since.

    Of processes that train together only the first has the weights, since it saves them.
    """

    def __init__(self, modules: nn.Module, patience: int) -> None:
        self.modules, self.patience = modules, patience
        self.score: float | None = None
        self.best_update, self.since = 0, 0
        self._weights: dict[str, Tensor] = {}

    @property
    def stop(self) -> bool:
        """Whether the last `patience` evaluations brought no new best."""
        return self.since >= self.patience

    def update(self, score: float, update: int) -> None:
        """Record a score, and the weights if it is the best so far."""
        if self.score is None or score > self.score:
            self.score, self.best_update, self.since = score, update, 0
            if distributed.rank() == 0:
                self._weights = {
                    name: value.detach().to("cpu", copy=True) for name, value in self.modules.state_dict().items()
                }
        else:
            self.since += 1

    def restore(self) -> None:
        """Put the best weights back."""
        if self._weights:
            self.modules.load_state_dict(self._weights)

    def state_dict(self) -> dict[str, Any]:
        """The best score and weights, for a checkpoint."""
        return {"score": self.score, "best_update": self.best_update, "since": self.since, "weights": self._weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.score, self.best_update, self.since = state["score"], state["best_update"], state["since"]
        self._weights = dict(state["weights"]) if distributed.rank() == 0 else {}


def evaluation_interval(spec: TrainSpec, updates: int, seen: int = 0, dev_examples: int = 0) -> int:
    """The number of updates between two evaluations on the dev examples.

    Args:
        spec: the settings of the training.
        updates: the updates of the whole training.
        seen: the training examples in them, counted each time.
        dev_examples: the examples of one evaluation.
    """
    interval = spec.eval_every or max(1, min(MAX_INTERVAL, updates // MIN_EVALUATIONS))
    if spec.dev_share is None or not dev_examples:
        return interval
    evaluations = max(1, int(spec.dev_share * seen) // dev_examples)
    return max(interval, -(-updates // evaluations))


def dev_sizes(spec: TrainSpec, seen: int, sizes: Sequence[int]) -> list[int]:
    """How many examples of each dev set a training of `seen` examples scores: all, unless one evaluation is too much.

    >>> dev_sizes(TrainSpec.model_construct(dev_share=0.2), 1000, [500, 300])
    [125, 75]
    """
    most = sum(sizes) if spec.dev_share is None else int(spec.dev_share * seen)
    return [size if sum(sizes) <= most else max(1, size * most // sum(sizes)) for size in sizes]


def dev_score_at(dev: Callable[[], float], update: int, total: int) -> float:
    """The dev score; a failure says after which update."""
    try:
        return dev()
    except StepFailed as failure:
        hint = failure.hint if isinstance(failure, OutOfMemory) else MILDER
        raise type(failure)(f"{failure.message} after update {update:,} of {total:,}", hint=hint) from None
