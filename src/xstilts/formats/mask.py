"""Mask: masked language modelling on raw text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from xstilts.formats.base import Features, Format, HeadOutputs, HeadSpec, Row, TokenizerLike


class Mask(Format):
    """One line of text is one example; each batch samples anew which pieces are masked."""

    name: ClassVar[str] = "mask"
    metrics: ClassVar[tuple[str, ...]] = ("perplexity",)
    supported_metrics: ClassVar[tuple[str, ...]] = ("perplexity",)

    text: str = "text"
    alpha: float = Field(default=1.0, ge=0, le=1)
    """A language's share of an epoch grows with (its share of all examples) ^ alpha; below 1 it favours small ones."""
    sentences: int | None = Field(default=None, ge=1, le=10**9)
    """At most so many examples an epoch, of all languages together; by default all."""

    @property
    def fields(self) -> tuple[str, ...]:
        """The text."""
        return (self.text,)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The text."""
        return (self.text,)

    @property
    def head(self) -> HeadSpec:
        """The encoder's own vocabulary head."""
        return HeadSpec("vocabulary")

    def read(self, row: Row) -> str:
        """The line."""
        return str(row.values[self.text])

    @property
    def samples_epoch(self) -> bool:
        """Whether `alpha` or `sentences` is set."""
        return self.alpha != 1 or self.sentences is not None

    def sample_sizes(self, sizes: Sequence[int], whole: Sequence[int] | None = None) -> list[int]:
        """How many sentences to sample from each language (Conneau & Lample, 2019), rounded by largest remainders.

        The shares follow `whole`, the numbers before files were cut; an epoch has at most the sum of `sizes`.

        >>> Mask(alpha=0.5, sentences=100).sample_sizes([81, 9, 1])
        [63, 21, 7]
        >>> Mask(alpha=0.5).sample_sizes([9, 9, 1], whole=[81, 9, 1])
        [13, 4, 2]
        """
        total = min(sum(sizes), self.sentences or sum(sizes))
        weights_L = np.array(sizes if whole is None else whole, float) ** self.alpha
        exact_L = total * weights_L / weights_L.sum()
        sizes_L = np.floor(exact_L).astype(np.int64)
        rounded_up = np.argsort(sizes_L - exact_L, kind="stable")[: total - int(sizes_L.sum())]
        sizes_L[rounded_up] += 1
        return [int(size) for size in sizes_L]

    def features(self, examples: Sequence[str], tokenizer: TokenizerLike) -> Iterator[Features]:
        """One forward pass each, truncated at the end; batches sample the masked positions."""
        for index, ids in enumerate(tokenizer.encode(examples)):
            most = tokenizer.max_pieces(1)
            yield Features(index, tokenizer.single(ids[:most])[0], [], [], truncated=len(ids) > most)

    def decode(self, examples: Sequence[str], outputs: HeadOutputs, threshold: float | None) -> list[tuple[float, int]]:
        """The summed negative log-likelihood (nats) of an example's masked pieces, and their number."""
        return [(float(total), int(count)) for total, count in outputs.scores]

    def trivial_predictions(self, examples: Sequence[str]) -> Iterator[list[tuple[float, int]]]:
        """None: no constant prediction is a likelihood."""
        return iter(())

    def reference(self, example: str, index: int) -> str:
        """The text itself: raw text is its own label."""
        return example
