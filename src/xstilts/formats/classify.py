"""Classify: one text or a pair of texts gets one of a fixed set of labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from xstilts.errors import UnknownLabel, nearest, visible
from xstilts.formats.base import (
    IGNORED,
    NO_LABEL,
    Features,
    Format,
    HeadOutputs,
    HeadSpec,
    Labels,
    Probabilities,
    Row,
    TokenizerLike,
    mean_of,
    rounded,
    row_id,
)


class Labelled(NamedTuple):
    """One or two texts and the label (None without labels)."""

    texts: tuple[str, ...]
    label: str | None
    id: str | None = None


class Classify(Format):
    """Predicts a label of one text or a pair from the first token."""

    name: ClassVar[str] = "classify"
    metrics: ClassVar[tuple[str, ...]] = ("accuracy",)
    supported_metrics: ClassVar[tuple[str, ...]] = ("accuracy", "accuracy_f1", "positive_f1")

    inputs_setting: ClassVar[str] = "texts"

    labels: Labels
    """In the order of the classes; another order is another training."""
    texts: tuple[str, ...] = Field(default=("premise", "hypothesis"), min_length=1, max_length=2)
    """Names of the columns that hold the texts."""
    label: str = "label"
    spellings: dict[str, str] = Field(default={})
    """Other spellings of a label in the files, as {spelling: label}."""
    drop: tuple[str, ...] = ()
    """Rows with these labels are left out (SNLI marks pairs without agreement by `-`)."""

    @model_validator(mode="after")
    def _consistent(self) -> Classify:
        if len(set(self.fields)) != len(self.fields):
            raise ValueError(f"texts and label must be different columns, not {', '.join(self.fields)}")
        for spelling, label in self.spellings.items():
            if label not in self.labels:
                raise ValueError(f"spellings.{spelling}: no label '{label}'; {nearest(label, self.labels)}")
        return self

    @property
    def fields(self) -> tuple[str, ...]:
        """The texts, then the label."""
        return (*self.texts, self.label)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The texts."""
        return self.texts

    @property
    def head(self) -> HeadSpec:
        """The sequence head, one score per label."""
        return HeadSpec("sequence", len(self.labels))

    def read(self, row: Row) -> Labelled | None:
        """Convert a row to an example.

        Raises:
            UnknownLabel: the label is not one of `labels`; an empty one is no label.
        """
        label = row.values.get(self.label)
        if label is not None:
            label = str(label).strip()
            if label in self.drop:
                return None
            label = self.spellings.get(label, label)
            if label in ("", NO_LABEL) and label not in self.labels:
                label = None
            elif label not in self.labels:
                hint = nearest(label, self.labels)
                raise UnknownLabel(f"unknown label '{visible(label)}'", label=label, where=row.where, hint=hint)
        return Labelled(tuple(str(row.values[name]) for name in self.texts), label, row_id(row))

    def features(self, examples: Sequence[Labelled], tokenizer: TokenizerLike) -> Iterator[Features]:
        """One forward pass each; a pair that is too long loses pieces from the end of its longer text."""
        encoded = tokenizer.encode([text for example in examples for text in example.texts])
        columns = [encoded[i :: len(self.texts)] for i in range(len(self.texts))]
        max_pieces = tokenizer.max_pieces(len(self.texts))
        for index, (example, *texts) in enumerate(zip(examples, *columns, strict=True)):
            target = IGNORED if example.label is None else self.labels.index(example.label)
            second = 0
            if len(texts) == 2:
                ids, second = tokenizer.pair(*truncate_pair(texts[0], texts[1], max_pieces))
            else:
                ids, _ = tokenizer.single(texts[0][:max_pieces])
            yield Features(index, ids, [0], [target], second, truncated=sum(map(len, texts)) > max_pieces)

    def decode(self, examples: Sequence[Labelled], outputs: HeadOutputs, threshold: float | None) -> list[str]:
        """The label with the highest score; the first one on ties."""
        return [self.labels[int(scores_C.argmax())] for scores_C in outputs.scores]

    def results(
        self, examples: Sequence[Labelled], outputs: HeadOutputs, threshold: float | None, top: int
    ) -> list[dict[str, Any]]:
        """`label`, and the `probabilities` of the labels."""
        labels, shares = self.decode(examples, outputs, threshold), self.probabilities(examples, outputs)
        return [{"label": label, "probabilities": share} for label, share in zip(labels, shares, strict=True)]

    def probabilities(self, examples: Sequence[Labelled], outputs: HeadOutputs) -> list[Probabilities]:
        """The softmax over the labels."""
        scores_NC = np.array(outputs.scores, np.float64)
        odds_NC = np.exp(scores_NC - scores_NC.max(1, keepdims=True))
        return [rounded(self.labels, p_C) for p_C in odds_NC / odds_NC.sum(1, keepdims=True)]

    has_mean: ClassVar[bool] = True

    def mean(self, members: Sequence[Probabilities], language: str) -> tuple[str, Probabilities]:
        """The label with the highest mean probability; the first one on ties."""
        means = mean_of(self.labels, members)
        return max(self.labels, key=means.__getitem__), means

    def input_text(self, example: Labelled) -> str | list[str]:
        """The text, or both texts of a pair."""
        return example.texts[0] if len(example.texts) == 1 else [*example.texts]

    def scores(self, outputs: HeadOutputs) -> dict[str, float]:
        """The scores of the labels."""
        return dict(zip(self.labels, map(float, outputs.scores[0]), strict=True))

    def reference(self, example: Labelled, index: int) -> str | None:
        """The label."""
        return example.label


def truncate_pair(
    first: list[int], second: list[int], max_pieces: int, *, start: bool = False
) -> tuple[list[int], list[int]]:
    """Truncate a pair to `max_pieces` as jiant does: one piece at a time from the longer text (the first on ties).

    It drops pieces from the texts' ends, or from their starts.

    >>> truncate_pair([1, 2, 3, 4], [5, 6], 4)
    ([1, 2], [5, 6])
    >>> truncate_pair([1, 2, 3], [4, 5, 6], 5)
    ([1, 2], [4, 5, 6])
    >>> truncate_pair([1, 2, 3], [4, 5, 6], 3, start=True)
    ([3], [5, 6])
    """
    excess = len(first) + len(second) - max_pieces
    if excess <= 0:
        return first, second
    a, b = len(first), len(second)
    difference = min(excess, abs(a - b))  # first, the longer text gets as short as the other
    a, b = (a - difference, b) if a >= b else (a, b - difference)
    rest = excess - difference
    a, b = a - (rest + 1) // 2, b - rest // 2
    if start:
        return first[len(first) - a :], second[len(second) - b :]
    return first[:a], second[:b]
