"""Evaluation: encoder, head, task, language, split in; predictions and scores out. The only such path."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from xstilts import device
from xstilts.batching import ENGLISH, by_length, collate, generator
from xstilts.encoder import Encoder
from xstilts.errors import StepFailed
from xstilts.features import FeatureSet
from xstilts.heads import Head
from xstilts.metrics import METRICS
from xstilts.system import told
from xstilts.task import Example, Format, Kept, Prediction

TOKENS = 4096
"""Token budget of a batch; changes the speed only, and larger ones leave the cache of a processor."""
IN_MEMORY = 2**28
"""Bytes of vectors that are kept in memory; more are mapped from a temporary file."""


def keep(
    encoder: Encoder, head: Head, format: Format, features: FeatureSet, precision: Literal["fp32", "bf16"] = "fp32",
    language: str = ENGLISH,
) -> Kept:  # fmt: skip
    """Run all forward passes, similar lengths together; what the head kept of each, in the features' order.

    The forward pass of a mean-pooling format stops at its layer. Masked text is hidden by a fixed seed.

    Raises:
        StepFailed: a score or vector is not finite.
    """
    masking = encoder.masking() if format.head.kind == "vocabulary" else None
    layer, passes = None, len(features.lengths_F)
    scores: Any = [None] * passes
    if format.head.kind == "mean":
        layer = encoder.pooled_layer if format.head.layer is None else format.head.layer
        scores = _vectors(passes, encoder.config.hidden_size)
    rng = generator(0, "evaluation")
    with torch.inference_mode():
        for batch_F in by_length(features, TOKENS):
            batch = collate(features, batch_F, masking, rng, language).to(encoder.device)
            with device.autocast(encoder.device, precision):
                outputs = head(encoder.hidden(batch, layer), batch)
            for f, array in zip(batch_F, head.keep(outputs, batch), strict=True):
                if not np.isfinite(array).all():
                    what = f"what comes out for example {features.example_F[f]} is not a number"
                    raise StepFailed(what, hint="the weights are broken, or need precision fp32")
                scores[int(f)] = array
    return Kept(features.example_F, scores, features.notes)


def _vectors(rows: int, width: int) -> NDArray[np.float32]:
    """Room for so many vectors; in a file without a name if they are many.

    Raises:
        UserError: the disk has no room for them.
    """
    size = rows * width * 4
    if size <= IN_MEMORY:
        return np.empty((rows, width), np.float32)
    with told(Path(tempfile.gettempdir())), tempfile.TemporaryFile() as file:  # the map outlives it
        if hasattr(os, "posix_fallocate"):  # else a full disk is found out while the map is written, which kills us
            os.posix_fallocate(file.fileno(), 0, size)
        return np.memmap(file, np.float32, "w+", shape=(rows, width))


@dataclass(frozen=True)
class Evaluated:
    """Answers to the examples of one split in one language that ask, their scores by metric, the threshold used.

    `indices` are the numbers of the examples that ask; `references` are None without labels; `scores` are in the
    metrics' units, and empty without labels.
    """

    indices: list[int]
    predictions: list[Prediction]
    references: list[Prediction | None]
    scores: dict[str, float]
    threshold: float | None


def evaluate(
    encoder: Encoder, head: Head, format: Format, metrics: Sequence[str], examples: Sequence[Example],
    features: FeatureSet, *, language: str, precision: Literal["fp32", "bf16"] = "fp32",
    threshold: float | None = None, tune: bool = False,
) -> Evaluated:  # fmt: skip
    """Predict and score.

    Args:
        encoder: in evaluation mode.
        head: of the format's kind.
        format: decodes what the head keeps.
        metrics: names in `metrics.METRICS`.
        examples: what `features` were made of, in the same order.
        features: forward passes.
        language: of the examples; some metrics and encoders depend on it.
        precision: of the forward passes.
        threshold: tuned on other data before; None where there is none.
        tune: tune the threshold on these very examples.
    """
    assert len(examples) == features.examples
    kept = keep(encoder, head, format, features, precision, language)
    if tune:
        threshold = format.calibrate(examples, kept)
    predictions = format.decode(examples, kept, threshold)
    indices = [i for i, example in enumerate(examples) if format.asks(example)]
    references = [format.reference(examples[i], i) for i in indices]
    assert len(predictions) == len(references)
    scores = {}
    if all(reference is not None for reference in references):
        scores = {name: METRICS[name].score(references, predictions, language) for name in metrics}
    return Evaluated(indices, predictions, references, scores, threshold)


def chances(format: Format, metrics: Sequence[str], examples: Sequence[Example], language: str) -> dict[str, float]:
    """What the best of the answers that look at nothing gets, by metric; empty where there are none, or no labels.

    Args:
        format: knows such answers; see `Format.blind`.
        metrics: names in `metrics.METRICS`.
        examples: of one split.
        language: of the examples.
    """
    references = [format.reference(example, i) for i, example in enumerate(examples) if format.asks(example)]
    if None in references:
        return {}
    blind = list(format.blind(examples))
    scores = {name: [METRICS[name].score(references, answers, language) for answers in blind] for name in metrics}
    return {name: max(tried) for name, tried in scores.items() if tried}
