"""Mask: raw text, of which some pieces are hidden to be guessed (masked language modelling)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from xstilts.formats.base import Features, Format, HeadOutputs, HeadSpec, Row, TokenizerLike


class Mask(Format):
    """One line of text is one example; which pieces are hidden is drawn anew whenever a batch is made."""

    name: ClassVar[str] = "mask"
    metrics: ClassVar[tuple[str, ...]] = ("perplexity",)
    supported_metrics: ClassVar[tuple[str, ...]] = ("perplexity",)

    text: str = "text"
    alpha: float = Field(default=1.0, ge=0, le=1)
    """Below 1, an epoch has more of small languages: their share of it is as (their share of all examples) ^ alpha."""
    sentences: int | None = Field(default=None, ge=1, le=10**9)
    """Examples of an epoch of all languages together, at most; by default as many as there are."""

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
    def draws(self) -> bool:
        """Whether an epoch differs from the text as it stands."""
        return self.alpha != 1 or self.sentences is not None

    def sample_sizes(self, sizes: Sequence[int]) -> list[int]:
        """How many sentences are drawn of each language, rounded by the largest remainders (Conneau & Lample, 2019).

        >>> Mask(alpha=0.5, sentences=100).sample_sizes([81, 9, 1])
        [63, 21, 7]
        """
        total = min(sum(sizes), self.sentences or sum(sizes))
        mass = np.array(sizes, float) ** self.alpha
        exact = total * mass / mass.sum()
        sizes_L = np.floor(exact).astype(np.int64)
        most = np.argsort(sizes_L - exact, kind="stable")[: total - int(sizes_L.sum())]
        sizes_L[most] += 1
        return [int(size) for size in sizes_L]

    def features(self, examples: Sequence[str], tokenizer: TokenizerLike) -> Iterator[Features]:
        """One forward pass each, cut at the end; the hidden positions are drawn later."""
        for index, ids in enumerate(tokenizer.encode(examples)):
            yield Features(index, tokenizer.single(ids[: tokenizer.room(1)])[0], [], [])

    def decode(self, examples: Sequence[str], outputs: HeadOutputs, threshold: float | None) -> list[tuple[float, int]]:
        """The summed negative log-likelihood (nats) of an example's hidden pieces, and their number."""
        return [(float(total), int(count)) for total, count in outputs.scores]

    def trivial_predictions(self, examples: Sequence[str]) -> Iterator[list[tuple[float, int]]]:
        """None: likelihoods have no such answer."""
        return iter(())

    def reference(self, example: str, index: int) -> str:
        """The text itself: raw text is its own label."""
        return example
