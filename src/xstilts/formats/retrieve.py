"""Retrieve: for each sentence of one language, find its translation among all sentences of the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from xstilts.task import Features, Format, HeadSpec, Kept, Pieces, Row


class Translated(NamedTuple):
    """A sentence and its English translation."""

    source: str
    target: str


class Retrieve(Format):
    """Nearest neighbours of mean-pooled vectors; nothing is trained."""

    name: ClassVar[str] = "retrieve"
    metrics: ClassVar[tuple[str, ...]] = ("accuracy",)
    measures: ClassVar[tuple[str, ...]] = ("accuracy",)

    layer: int | None = Field(default=None, ge=0)
    """Index into the hidden states (0: embeddings); by default the equivalent of 14 of 24."""

    @property
    def fields(self) -> tuple[str, ...]:
        """The sentence and its translation."""
        return ("source", "target")

    @property
    def inputs(self) -> tuple[str, ...]:
        """Both."""
        return self.fields

    @property
    def head(self) -> HeadSpec:
        """Mean pooling over all real tokens, special tokens included (as jiant and XTREME do)."""
        return HeadSpec("mean", layer=self.layer)

    def read(self, row: Row) -> Translated:
        """Make a pair of a row."""
        return Translated(str(row.values["source"]), str(row.values["target"]))

    def features(self, examples: Sequence[Translated], pieces: Pieces) -> Iterator[Features]:
        """Two forward passes an example: the sentence, then its translation."""
        room = pieces.room(1)
        sides = zip(*(pieces.encode(side) for side in zip(*examples, strict=True)), strict=True)
        for index, pair in enumerate(sides):
            for ids in pair:
                yield Features(index, pieces.single(ids[:room])[0], [], [])

    def decode(self, examples: Sequence[Translated], kept: Kept, threshold: float | None) -> list[int]:
        """For each English sentence the number of the nearest sentence of the other language."""
        vectors = np.asarray(kept.scores)
        assert len(vectors) == 2 * len(examples)
        return [int(row) for row in nearest_rows(vectors[1::2], vectors[0::2])]

    def reference(self, example: Translated, index: int) -> int:
        """Line k belongs to line k."""
        return index


def nearest_rows(queries_QD: NDArray[np.float32], pool_ND: NDArray[np.float32], block: int = 1024) -> NDArray[np.int64]:
    """For each query the row of the pool with the highest cosine, exactly; the first on ties.

    Memory beyond the inputs is one normalised copy of each and `block` x N similarities.

    >>> nearest_rows(np.eye(2, dtype=np.float32), np.array([[0, 3], [2, 1]], dtype=np.float32))
    array([1, 0])
    """
    queries_QD, pool_DN = _unit(queries_QD), np.ascontiguousarray(_unit(pool_ND).T)
    blocks = [
        (queries_QD[start : start + block] @ pool_DN).argmax(axis=1) for start in range(0, len(queries_QD), block)
    ]
    return np.concatenate(blocks)


def _unit(vectors_ND: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths_N1 = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    unit_ND: NDArray[np.float32] = vectors_ND / np.maximum(lengths_N1, np.finfo(np.float32).tiny)
    return unit_ND
