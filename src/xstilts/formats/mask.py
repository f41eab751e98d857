"""Mask: raw text, of which some pieces are hidden to be guessed (masked language modelling)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from xstilts.task import Features, Format, HeadSpec, Kept, Pieces, Row


class Mask(Format):
    """One line of text is one example; which pieces are hidden is drawn anew whenever a batch is made."""

    name: ClassVar[str] = "mask"
    metrics: ClassVar[tuple[str, ...]] = ("perplexity",)
    measures: ClassVar[tuple[str, ...]] = ("perplexity",)

    text: str = "text"

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

    def features(self, examples: Sequence[str], pieces: Pieces) -> Iterator[Features]:
        """One forward pass each, cut at the end; marks are drawn later."""
        for index, ids in enumerate(pieces.encode(examples)):
            yield Features(index, pieces.single(ids[: pieces.room(1)])[0], [], [])

    def decode(self, examples: Sequence[str], kept: Kept, threshold: float | None) -> list[tuple[float, int]]:
        """The summed negative log-likelihood (nats) of an example's hidden pieces, and their number."""
        return [(float(total), int(count)) for total, count in kept.scores]

    def blind(self, examples: Sequence[str]) -> Iterator[list[tuple[float, int]]]:
        """None: likelihoods have no such answer."""
        return iter(())

    def reference(self, example: str, index: int) -> str:
        """The text itself: raw text is its own label."""
        return example
