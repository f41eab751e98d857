"""Predicts and scores the splits of one evaluation, and writes its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from xstilts.execution.answers_back import AnswersBack
from xstilts.formats.base import Example, HeadOutputs
from xstilts.formats.pooling import Pooling, select
from xstilts.model.encoder import Encoder
from xstilts.model.evaluate import EvalResult, chance_scores, evaluate_poolings, score
from xstilts.model.features import FeatureSet
from xstilts.model.forward import head_outputs, own_pooling
from xstilts.model.heads import Head
from xstilts.store.rows import LAYERS, LayerScore, Prediction, Score, means, write_rows
from xstilts.study.step import Step
from xstilts.tasks.task import Split, Task
from xstilts.utils.background import ahead, behind
from xstilts.utils.progress import Progress

SPLITS: tuple[Split, ...] = ("dev", "test")


class EvalSplit(NamedTuple):
    """A split of a language as it was read."""

    split: Split
    examples: Sequence[Example]
    features: FeatureSet
    files: Mapping[str, str]
    """The sha256 of each file."""


def _now(call: Callable[[], object]) -> None:
    call()


@dataclass
class Evaluator:
    """Evaluates a task split by split, dev before test, so that dev's thresholds serve test.

    Retrieval is scored with the task's own pooling and with those that the step asks for; each has its own threshold.
    """

    step: Step
    encoder: Encoder
    head: Head
    task: Task
    folder: Path
    progress: Progress
    tokens: int | None = None
    """The most tokens of a forward pass, if fewer than by default."""
    unlabelled: dict[str, list[str]] = field(default_factory=dict)
    """By split, the languages without labels."""
    translated: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By language, how many answers were translated back, and how many of them were not found."""
    thresholds: dict[str, float] = field(default_factory=dict)
    """By language, with the task's own pooling."""
    untuned: list[str] = field(default_factory=list)
    """The languages whose threshold no dev set has tuned."""
    _predictions: list[Prediction] = field(default_factory=list)
    _scores: list[Score] = field(default_factory=list)
    _layer_scores: list[LayerScore] = field(default_factory=list)
    _language: str = ""
    _back: AnswersBack | None = None
    _tuned: dict[Pooling | None, float | None] = field(default_factory=dict)
    """The thresholds of the current language, by pooling; None: a task without pooling."""
    _shared: dict[Pooling | None, float | None] = field(default_factory=dict)
    """Those of a dev set that serves all languages."""

    def evaluate(self, read: Callable[[str], Sequence[EvalSplit]]) -> dict[str, str]:
        """Predict and score the splits of all languages; returns the sha256 of their files.

        One thread reads the next languages, another predicts and scores beside the forward passes of later splits.

        Args:
            read: gives the splits of a language.
        """
        assert self.step.scoring is not None
        languages = sorted(self.step.scoring.languages, key=lambda x: x not in self.task.languages_of("dev"))
        files: dict[str, str] = {}
        with (
            closing(ahead(map(read, languages))) as splits,
            behind() if self._in_background else nullcontext(_now) as do,
        ):
            for done, language in enumerate(languages):
                self.progress.update(done, len(languages), language)
                do(partial(self._start, language))
                for one in next(splits):
                    files |= one.files
                    do(partial(self._score, one, self._outputs(one, language)))
        return files

    @property
    def _in_background(self) -> bool:
        """Whether a thread scores: neither for retrieval nor for a translation, which compute on the device."""
        return self._own is None and self.task.translate_back is None

    def _start(self, language: str) -> None:
        """Begin with the splits of a language."""
        self._language, self._tuned, self._back = language, dict(self._shared), None
        if self.task.translate_back is not None and language not in self.task.train_languages:
            self._back = AnswersBack(self.task, language, self.folder, self.progress)
        self._note_threshold()

    def _note_threshold(self) -> None:
        if (threshold := self._tuned.get(self._own)) is not None:
            self.thresholds[self._language] = threshold

    def _outputs(self, one: EvalSplit, language: str) -> HeadOutputs | None:
        """What the forward passes of a split give; None for retrieval, which has several poolings."""
        assert self.step.scoring is not None
        if self._own is not None:
            return None
        format, precision = self.task.format, self.step.scoring.precision
        return head_outputs(self.encoder, self.head, format, one.features, precision, language, self.tokens)

    def _score(self, one: EvalSplit, outputs: HeadOutputs | None) -> None:
        """Predict and score one split of the language."""
        task, step, language, chance = self.task, self.step, self._language, dict[str, float]()
        split, examples = one.split, one.examples
        for pooling, result in self._results(one, outputs):
            self._tuned[pooling] = result.threshold
            if pooling == self._own:
                if self._back is not None:
                    examples = self._back.originals(examples)
                    self.translated[language] = self._back.answers, self._back.not_found
                self._note_threshold()
                self._predict(examples, result, split)
                chance = chance_scores(task.format, task.metrics, examples, language)
            scores = [
                Score(task.name, language, split, metric, value, len(result.indices), step.id, step.encoder, step.seed,
                      chance=chance.get(metric))
                for metric, value in result.scores.items()
            ]  # fmt: skip
            self._scores += scores if pooling == self._own else ()
            if pooling in self._others:
                self._layer_scores += [
                    LayerScore(**vars(row), pooling=pooling.kind, layers=pooling.layers) for row in scores
                ]
        if split == "dev" and task.shares_dev:
            self._shared = dict(self._tuned)

    def _results(self, one: EvalSplit, outputs: HeadOutputs | None) -> Iterator[tuple[Pooling | None, EvalResult]]:
        """The results by pooling, the task's own first, one at a time."""
        assert self.step.scoring is not None
        task, tune = self.task, one.split == "dev"
        format, metrics, examples = task.format, task.metrics, one.examples
        if self._own is None:
            assert outputs is not None and len(examples) == one.features.examples
            threshold = self._tuned.get(None)
            yield None, score(format, metrics, examples, outputs, self._language, threshold, tune, self._back)
            return
        poolings = [*dict.fromkeys((self._own, *self._others))]
        thresholds = {pooling: self._tuned.get(pooling) for pooling in poolings}
        results = evaluate_poolings(
            self.encoder, format, metrics, examples, one.features, poolings, language=self._language,
            precision=self.step.scoring.precision, thresholds=thresholds, tune=tune, tokens=self.tokens,
        )  # fmt: skip
        yield from zip(poolings, results, strict=True)

    @property
    def _own(self) -> Pooling | None:
        """The task's own pooling; None for a task without one."""
        return own_pooling(self.encoder, self.task.format) if self.task.format.head.kind == "mean" else None

    @property
    def _others(self) -> list[Pooling]:
        """The poolings that the step asks for."""
        assert self.step.scoring is not None
        return select(self.step.scoring.poolings, self.step.scoring.score_layers, self.encoder.layers)

    def _predict(self, examples: Sequence[Example], result: EvalResult, split: Split) -> None:
        """Add the predictions of a split."""
        answers = zip(result.indices, result.predictions, result.references, result.probabilities, strict=True)
        for i, *answer in answers:
            id = self.task.format.id(examples[i], i)
            self._predictions.append(Prediction(self.task.name, self._language, split, i, id, *answer))
        if split != "dev" and self.task.format.has_threshold and result.threshold is None:
            self.untuned.append(self._language)
        if not result.scores:
            self.unlabelled.setdefault(split, []).append(self._language)

    def write(self) -> str:
        """Write all rows; returns the mean scores as text, empty without scores."""
        write_rows(self.folder / "predictions.jsonl", self._predictions)
        write_rows(self.folder / "scores.jsonl", self._scores)
        if self._others:
            write_rows(self.folder / LAYERS, self._layer_scores)
        return means(self._scores, self.task.metric, SPLITS)
