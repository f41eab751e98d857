"""Evaluation: predictions and scores of an encoder and a head on one split in one language."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from xstilts.formats.base import Example, Format, HeadOutputs, Prediction, Probabilities
from xstilts.formats.pooling import Pooling
from xstilts.metrics import get as get_metric
from xstilts.model.encoder import Encoder
from xstilts.model.features import FeatureSet
from xstilts.model.forward import head_outputs, pooled_outputs
from xstilts.model.heads import Head
from xstilts.utils.models import Precision


@dataclass(frozen=True)
class EvalResult:
    """Predictions for the queries of one split in one language, their scores by metric, and the threshold.

    `indices` are the numbers of the queries among the examples; without labels `references` are None and `scores` is
    empty. Scores are in the metrics' units.
    """

    indices: list[int]
    predictions: list[Prediction]
    references: list[Prediction | None]
    scores: dict[str, float]
    threshold: float | None
    probabilities: Sequence[Probabilities | None]
    """Of the answers for each query; see `Format.probabilities`."""


class TranslateBack(Protocol):
    """Takes predictions for translated examples back to the originals."""

    def originals(self, examples: Sequence[Example]) -> list[Example]:
        """The examples before their translation."""

    def translate(
        self,
        examples: Sequence[Example],
        predictions: Sequence[Prediction],
        probabilities: Sequence[Probabilities | None],
    ) -> tuple[list[Prediction], list[Probabilities | None]]:
        """The predictions and the probabilities of answers, in the language of the originals."""  # fmt: skip


def evaluate(
    encoder: Encoder, head: Head, format: Format, metrics: Sequence[str], examples: Sequence[Example],
    features: FeatureSet, *, language: str, precision: Precision = "fp32",
    threshold: float | None = None, tune: bool = False, back: TranslateBack | None = None, tokens: int | None = None,
) -> EvalResult:  # fmt: skip
    """Predict and score.

    Args:
        encoder: in evaluation mode.
        head: of the format's kind.
        format: decodes the head's outputs.
        metrics: names that `metrics.get` knows.
        examples: those of `features`, in the same order.
        features: the forward passes of `examples`.
        language: of the examples; some metrics and encoders depend on it.
        precision: of the forward passes.
        threshold: tuned on other data; None without one.
        tune: tune the threshold on these examples.
        back: for translated examples: gives the predictions and their references in the original language.
        tokens: the most tokens of a forward pass, if fewer than by default.
    """
    assert len(examples) == features.examples
    outputs = head_outputs(encoder, head, format, features, precision, language, tokens)
    return score(format, metrics, examples, outputs, language, threshold, tune, back)


def evaluate_poolings(
    encoder: Encoder, format: Format, metrics: Sequence[str], examples: Sequence[Example], features: FeatureSet,
    poolings: Sequence[Pooling], *, language: str, precision: Precision = "fp32",
    thresholds: Mapping[Pooling, float | None], tune: bool = False, tokens: int | None = None,
) -> Iterator[EvalResult]:  # fmt: skip
    """As `evaluate`, for each of several poolings of a format of retrieval; each text has one forward pass.

    Each pooling has its own threshold.
    """
    all_outputs = pooled_outputs(encoder, features, poolings, precision, language, tokens)
    for pooling, outputs in zip(poolings, all_outputs, strict=True):
        yield score(format, metrics, examples, outputs, language, thresholds.get(pooling), tune)


def score(
    format: Format, metrics: Sequence[str], examples: Sequence[Example], outputs: HeadOutputs, language: str,
    threshold: float | None, tune: bool, back: TranslateBack | None = None,
) -> EvalResult:  # fmt: skip
    """Predict and score from the outputs of the forward passes, as `evaluate`."""
    if tune:
        threshold = format.calibrate(examples, outputs)
    predictions = format.decode(examples, outputs, threshold)
    indices = [i for i, example in enumerate(examples) if format.is_query(example)]
    queries = [examples[i] for i in indices]
    probabilities = format.probabilities(queries, outputs)
    if back is not None:
        predictions, probabilities = back.translate(queries, predictions, probabilities)
        examples = back.originals(examples)
    references = [format.reference(examples[i], i) for i in indices]
    assert len(predictions) == len(references)
    scores = {}
    if all(reference is not None for reference in references):
        scores = {name: get_metric(name).score(references, predictions, language) for name in metrics}
    return EvalResult(indices, predictions, references, scores, threshold, probabilities)


def chance_scores(
    format: Format, metrics: Sequence[str], examples: Sequence[Example], language: str
) -> dict[str, float]:
    """By metric, the best score of predictions that ignore the input; empty without labels or such predictions.

    Args:
        format: makes such predictions; see `Format.trivial_predictions`.
        metrics: names that `metrics.get` knows.
        examples: of one split.
        language: of the examples.
    """
    references = [format.reference(example, i) for i, example in enumerate(examples) if format.is_query(example)]
    if None in references:
        return {}
    trivial = list(format.trivial_predictions(examples))
    scores = {name: [get_metric(name).score(references, answers, language) for answers in trivial] for name in metrics}
    return {name: max(tried) for name, tried in scores.items() if tried}
