"""Forward passes of encoder and head over stored features, with the outputs that decoding needs."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from xstilts.compute import device
from xstilts.errors import StepFailed
from xstilts.formats.base import Format, HeadOutputs
from xstilts.languages import ENGLISH
from xstilts.model.batch import by_length, collate, generator
from xstilts.model.encoder import Encoder
from xstilts.model.features import FeatureSet
from xstilts.model.heads import Head
from xstilts.utils.os_errors import as_user_error


def head_outputs(
    encoder: Encoder, head: Head, format: Format, features: FeatureSet, precision: Literal["fp32", "bf16"] = "fp32",
    language: str = ENGLISH,
) -> HeadOutputs:  # fmt: skip
    """Run all forward passes, similar lengths together; the head's outputs are in the features' order.

    The forward pass of a mean-pooling format stops at its layer. Masking has a fixed seed.

    Raises:
        StepFailed: a score or vector is not finite.
    """
    masking = encoder.masking() if format.head.kind == "vocabulary" else None
    layer, passes = None, len(features.lengths_F)
    scores: Any = [None] * passes
    if format.head.kind == "mean":
        layer = encoder.retrieval_layer if format.head.layer is None else format.head.layer
        scores = _vectors(passes, encoder.config.hidden_size)
    rng = generator(0, "evaluation")
    with torch.inference_mode():
        for batch_F in by_length(features, TOKENS):
            batch = collate(features, batch_F, masking, rng, language).to(encoder.device)
            with device.autocast(encoder.device, precision):
                outputs = head(encoder.hidden(batch, layer), batch)
            for f, array in zip(batch_F, head.reduce_outputs(outputs, batch), strict=True):
                if not np.isfinite(array).all():
                    what = f"the output for example {features.example_F[f]} is not a number"
                    raise StepFailed(what, hint="the weights are broken, or need precision fp32")
                scores[int(f)] = array
    return HeadOutputs(features.example_F, scores, features.decode_info)


def _vectors(rows: int, width: int) -> NDArray[np.float32]:
    """An empty array of vectors; a large one is in a temporary file.

    Raises:
        UserError: the disk is too full.
    """
    size = rows * width * 4
    if size <= IN_MEMORY:
        return np.empty((rows, width), np.float32)
    with as_user_error(Path(tempfile.gettempdir())), tempfile.TemporaryFile() as file:  # the map outlives it
        if hasattr(os, "posix_fallocate"):  # writing a map on a full disk would kill the process
            os.posix_fallocate(file.fileno(), 0, size)
        return np.memmap(file, np.float32, "w+", shape=(rows, width))


TOKENS = 4096
"""Token budget of a batch; changes only the speed. Larger batches exceed a processor's cache."""


IN_MEMORY = 2**28
"""The most bytes of vectors in memory; more are mapped from a temporary file."""
