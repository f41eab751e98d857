"""Evaluation: encoder, head, task, language, split in; predictions and scores out. The only such path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from xstilts import device
from xstilts.batching import by_length, collate, generator
from xstilts.encoder import Encoder
from xstilts.features import FeatureSet
from xstilts.heads import Head
from xstilts.metrics import METRICS
from xstilts.task import Example, Format, Kept, Prediction

TOKENS = 8192
"""Token budget of a batch; changes the speed only."""


def keep(
    encoder: Encoder, head: Head, format: Format, features: FeatureSet, precision: Literal["fp32", "bf16"] = "fp32"
) -> list[Kept]:
    """Run all forward passes, similar lengths together; what the head kept of each, in the features' order.

    The forward pass of a mean-pooling format stops at its layer. Masked text is hidden by a fixed seed.
    """
    masking = encoder.masking() if format.head.kind == "vocabulary" else None
    layer = None
    if format.head.kind == "mean":
        layer = encoder.pooled_layer if format.head.layer is None else format.head.layer
    rng = generator(0, "evaluation")
    example_F = features.example_F
    kept: dict[int, Kept] = {}
    with torch.inference_mode():
        for passes in by_length(features, TOKENS):
            batch = collate(features, passes, masking, rng).to(encoder.device)
            with device.autocast(encoder.device, precision):
                outputs = head(encoder.hidden(batch, layer), batch)
            for f, array in zip(passes, head.keep(outputs, batch), strict=True):
                kept[int(f)] = (int(example_F[f]), array)
    return [kept[f] for f in range(len(kept))]


@dataclass(frozen=True)
class Evaluated:
    """Predictions of one split in one language, its scores (percent) by metric, and the threshold used."""

    predictions: list[Prediction]
    scores: dict[str, float]
    """Empty when the split has no labels."""
    threshold: float | None


def evaluate(
    encoder: Encoder, head: Head, format: Format, metrics: Sequence[str], examples: Sequence[Example],
    features: FeatureSet, *, precision: Literal["fp32", "bf16"] = "fp32", threshold: float | None = None,
    tune: bool = False,
) -> Evaluated:  # fmt: skip
    """Predict and score.

    Args:
        encoder: in evaluation mode.
        head: of the format's kind.
        format: decodes what the head keeps.
        metrics: names in `metrics.METRICS`.
        examples: what `features` were made of, in the same order.
        features: forward passes.
        precision: of the forward passes.
        threshold: tuned on other data before; None where there is none.
        tune: tune the threshold on these very examples.
    """
    assert len(examples) == features.examples
    kept = keep(encoder, head, format, features, precision)
    if tune:
        threshold = format.calibrate(examples, kept)
    predictions = format.decode(examples, kept, threshold)
    references = [format.reference(example, i) for i, example in enumerate(examples)]
    scores = {}
    if all(reference is not None for reference in references):
        scores = {name: METRICS[name].function(references, predictions) for name in metrics}
    return Evaluated(predictions, scores, threshold)
