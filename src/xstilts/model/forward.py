"""Forward passes of encoder and head over stored features, with the outputs that decoding needs."""

# Shape suffixes: F = forward passes, B = those of a batch, T = real tokens, H = hidden size, K = pooled layers

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xstilts.compute import device, memory
from xstilts.compute.host_copy import HostCopy
from xstilts.compute.memory import TokenBudget
from xstilts.errors import StepFailed
from xstilts.formats.base import Format, HeadOutputs
from xstilts.formats.pooling import Pooling, PoolingKind
from xstilts.languages import ENGLISH
from xstilts.model.batch import Batch, Masking, by_length, collate, generator
from xstilts.model.encoder import Encoder
from xstilts.model.features import FeatureSet
from xstilts.model.heads import Head, first_tokens, mean_of_tokens
from xstilts.utils.models import Precision
from xstilts.utils.os_errors import as_user_error

T = TypeVar("T")

TOKENS, TOKENS_ON_CUDA = 4096, 32_768
"""Token budget of a batch, elsewhere and on CUDA; changes only the speed. Larger ones exceed a processor's cache."""
IN_MEMORY = 2**28
"""The most bytes of vectors in memory; more are mapped from a temporary file."""


def most_tokens(where: torch.device, tokens: int | None) -> int:
    """The token budget of a batch on a device; at most `tokens`, if they are given."""
    most = TOKENS_ON_CUDA if where.type == "cuda" else TOKENS
    return min(most, tokens or most)


def head_outputs(
    encoder: Encoder, head: Head, format: Format, features: FeatureSet, precision: Precision = "fp32",
    language: str = ENGLISH, tokens: int | None = None,
) -> HeadOutputs:  # fmt: skip
    """Run all forward passes, similar lengths together; the head's outputs are in the features' order.

    A format of retrieval has its own pooling instead of a head. Masking has a fixed seed. A pass has at most `tokens`
    tokens, by default those of `most_tokens`, and fewer where memory is too small.

    Raises:
        StepFailed: a score or vector is not finite.
        OutOfMemory: an example does not fit into memory.
    """
    if format.head.kind == "mean":
        return next(pooled_outputs(encoder, features, [own_pooling(encoder, format)], precision, language, tokens))
    masking = encoder.masking() if format.head.kind == "vocabulary" else None
    scores: list[Any] = [None] * len(features.lengths_F)
    budget = TokenBudget(most_tokens(encoder.device, tokens))

    def reduced(batch: Batch) -> Tensor:
        with device.autocast(encoder.device, precision):
            outputs = head(encoder.hidden(batch), batch)
        return head.reduce_outputs(outputs, batch)

    with torch.inference_mode(), device.weights_cast_once(encoder.base, encoder.device, precision):
        batches = _batches(encoder, features, budget.most, masking, language)
        for f, array in _arrays(encoder, batches, budget, reduced, head.split_reduced):
            _check_finite(array, features.example_F[f])
            scores[int(f)] = array
    return HeadOutputs(features.example_F, scores, features.decode_info)


def _batches(
    encoder: Encoder, features: FeatureSet, tokens: int, masking: Masking | None, language: str
) -> Iterator[tuple[NDArray[np.int64], Batch]]:
    """The batches of an evaluation; for a GPU a thread makes the next one while the GPU computes."""
    rng = generator(0, "evaluation")

    def batch_of(passes_F: NDArray[np.int64]) -> Batch:
        batch = collate(features, passes_F, masking, rng, language)
        return batch if encoder.device.type == "cpu" else batch.prepared(pin=encoder.device.type == "cuda")

    if encoder.device.type != "cuda":
        yield from ((passes_F, batch_of(passes_F)) for passes_F in by_length(features, tokens))
        return
    with ThreadPoolExecutor(1, initializer=partial(torch.cuda.set_device, encoder.device)) as thread:
        waiting = None
        for passes_F in by_length(features, tokens):
            current, waiting = waiting, (passes_F, thread.submit(batch_of, passes_F))
            if current is not None:
                yield current[0], current[1].result()
        if waiting is not None:
            yield waiting[0], waiting[1].result()


def in_parts(
    encoder: Encoder, batch: Batch, budget: TokenBudget, work: Callable[[Batch], Iterable[NDArray[Any]]]
) -> list[NDArray[Any]]:
    """The array of each forward pass of a batch; the batch is split where memory is too small for it.

    `work` gets a part of the batch on the encoder's device, and gives the arrays of its forward passes.
    """
    return budget.compute(
        partial(batch.split, whole=False, padded=not encoder.packs),
        lambda parts: [array for part in parts for array in work(part.to(encoder.device))],
        encoder.device,
    )


def _arrays(
    encoder: Encoder, batches: Iterable[tuple[NDArray[np.int64], Batch]], budget: TokenBudget,
    reduced: Callable[[Batch], Tensor], split: Callable[[NDArray[Any], Batch], Iterable[NDArray[Any]]],
) -> Iterator[tuple[np.int64, NDArray[Any]]]:  # fmt: skip
    """Each forward pass with its array, a batch later: meanwhile a GPU copies results and computes the next ones.

    `reduced` gets a part of a batch on the encoder's device; `split` gets its results and the part on the CPU.
    """

    def begin(parts: Sequence[Batch]) -> list[tuple[Batch, HostCopy]]:
        return [(part, HostCopy(reduced(part.to(encoder.device)))) for part in parts]

    def end(copies: Iterable[tuple[Batch, HostCopy]]) -> list[NDArray[Any]]:
        return [array for part, copy in copies for array in split(copy.numpy(), part)]

    def compute(batch: Batch, work: Callable[[Sequence[Batch]], T]) -> T:
        return budget.compute(partial(batch.split, whole=False, padded=not encoder.packs), work, encoder.device)

    def finished(passes_F: NDArray[np.int64], batch: Batch, copies: Sequence[tuple[Batch, HostCopy]]) -> Any:
        arrays = memory.attempt(partial(end, copies), encoder.device)
        if arrays is None:  # a GPU may say only now that its memory was full
            arrays = compute(batch, lambda parts: end(begin(parts)))
        return zip(passes_F, arrays, strict=True)

    waiting = None
    for passes_F, batch in batches:
        current = passes_F, batch, compute(batch, begin)
        if waiting is not None:
            yield from finished(*waiting)
        waiting = current
    if waiting is not None:
        yield from finished(*waiting)


def own_pooling(encoder: Encoder, format: Format) -> Pooling:
    """The pooling that a format of retrieval asks for, or else its default."""
    return Pooling("mean", (encoder.retrieval_layer if format.head.layer is None else format.head.layer,))


def pooled_outputs(
    encoder: Encoder, features: FeatureSet, poolings: Sequence[Pooling], precision: Precision = "fp32",
    language: str = ENGLISH, tokens: int | None = None,
) -> Iterator[HeadOutputs]:  # fmt: skip
    """The vectors of each pooling, from one forward pass of each text, which stops at the deepest layer.

    What stays is a vector of each text for each pooled layer. Layers are concatenated one pooling at a time. A pass
    has at most `tokens` tokens, as in `head_outputs`.

    Raises:
        StepFailed: a vector is not finite.
        OutOfMemory: a text does not fit into memory.
        UserError: the disk is too full.
    """
    single = dict.fromkeys((_part(pooling.kind), layer) for pooling in poolings for layer in pooling.layers)
    row_of = {key: k for k, key in enumerate(single)}
    kinds, layers = {kind for kind, _ in single}, {layer for _, layer in single}
    vectors_KFH = _vectors(len(single), len(features.lengths_F), encoder.config.hidden_size)
    budget = TokenBudget(most_tokens(encoder.device, tokens))

    def vectors(batch: Batch) -> Tensor:
        with device.autocast(encoder.device, precision):
            pooled = encoder.hidden_states(batch, layers, partial(_pool, kinds=kinds, batch=batch))
        return torch.stack([pooled[layer][kind] for kind, layer in single], dim=1)

    with torch.inference_mode(), device.weights_cast_once(encoder.base, encoder.device, precision):
        batches = _batches(encoder, features, budget.most, None, language)
        for f, vectors_KH in _arrays(encoder, batches, budget, vectors, lambda pooled_BKH, _: [*pooled_BKH]):
            _check_finite(vectors_KH, features.example_F[f])
            vectors_KFH[:, f] = vectors_KH
    for pooling in poolings:
        rows = [row_of[_part(pooling.kind), layer] for layer in pooling.layers]
        yield HeadOutputs(features.example_F, _concatenated(vectors_KFH, rows), features.decode_info)


def _part(kind: PoolingKind) -> PoolingKind:
    """The kind of pooling of a single layer."""
    return "mean" if kind == "concat" else kind


def _pool(hidden_TH: Tensor, kinds: Collection[PoolingKind], batch: Batch) -> dict[PoolingKind, Tensor]:
    """The vectors [B, H] of a hidden state by kind of pooling."""
    pools: dict[PoolingKind, Callable[[Tensor, Batch], Tensor]] = {"mean": mean_of_tokens, "cls": first_tokens}
    return {kind: pools[kind](hidden_TH, batch) for kind in kinds}


def _concatenated(vectors_KFH: NDArray[np.float32], rows: Sequence[int]) -> NDArray[np.float32]:
    """The vectors of several layers, each text's one after another, [F, layers x H]."""
    joined: NDArray[np.float32] = vectors_KFH[rows[0]]
    if len(rows) == 1:
        return joined
    passes, width = joined.shape
    joined = _vectors(passes, len(rows) * width)
    for i, k in enumerate(rows):
        joined[:, i * width : (i + 1) * width] = vectors_KFH[k]
    return joined


def _check_finite(array: NDArray[Any], example: int) -> None:
    if not np.isfinite(array).all():
        what = f"the output for example {example} is not a number"
        raise StepFailed(what, hint="the weights are broken, or need precision fp32")


def _vectors(*shape: int) -> NDArray[np.float32]:
    """An empty array of vectors; a large one is in a temporary file.

    Raises:
        UserError: the disk is too full.
    """
    size = prod(shape) * 4
    if size <= IN_MEMORY:
        return np.empty(shape, np.float32)
    with as_user_error(Path(tempfile.gettempdir())), tempfile.TemporaryFile() as file:  # the map outlives it
        if hasattr(os, "posix_fallocate"):  # writing a map on a full disk would kill the process
            os.posix_fallocate(file.fileno(), 0, size)
        return np.memmap(file, np.float32, "w+", shape=shape)
