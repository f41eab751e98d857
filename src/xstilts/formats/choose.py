"""Choose: which of several endings fits a context (multiple choice)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from xstilts.errors import DataError, UnknownLabel, counted, nearest, visible
from xstilts.formats.base import (
    IGNORED,
    NO_LABEL,
    Features,
    Format,
    HeadOutputs,
    HeadSpec,
    Probabilities,
    Row,
    TokenizerLike,
    mean_of,
    rounded,
    row_id,
)
from xstilts.formats.classify import truncate_pair

HIDDEN_LABELS = ("", NO_LABEL)
"""How files write a hidden label."""


class Choice(NamedTuple):
    """A context, its possible endings, and the index of the right one (None without labels)."""

    context: str
    endings: tuple[str, ...]
    answer: int | None
    id: str | None = None


class Choose(Format):
    """Chooses one of an example's endings; each is encoded together with the context."""

    name: ClassVar[str] = "choose"
    metrics: ClassVar[tuple[str, ...]] = ("accuracy",)
    supported_metrics: ClassVar[tuple[str, ...]] = ("accuracy",)
    file: ClassVar[Literal["choices"]] = "choices"

    context: tuple[str, ...] = Field(default=("context",), min_length=1)
    """Columns of the first text, joined by a space."""
    stem: tuple[str, ...] = ()
    """Columns at the start of the second text; they may be missing or empty."""
    endings: tuple[str, ...] = Field(default=("endings",), min_length=1)
    """A column for each ending, or one column with a list of them: texts, or objects with `label` and `text`."""
    label: str = "label"
    answers: tuple[str, ...] = ()
    """The label's values for the endings, in their order; by default numbers from 0."""
    spellings: dict[str, dict[str, str]] = Field(default={})
    """Texts for the values of a column, as {column: {value: text}} (COPA's question is `cause` or `effect`)."""

    @model_validator(mode="after")
    def _consistent(self) -> Choose:
        if len(set(self.fields)) != len(self.fields):
            raise ValueError(
                f"context, stem, endings and label must be different columns, not {', '.join(self.fields)}"
            )
        if len(set(self.answers)) != len(self.answers):
            raise ValueError("answers has the same value for two endings")
        texts = (*self.context, *self.stem)
        for column in self.spellings:
            if column not in texts:
                raise ValueError(f"spellings.{column}: no column of context or stem; {nearest(column, texts)}")
        return self

    @property
    def fields(self) -> tuple[str, ...]:
        """The columns of the context, of the stem and of the endings, then the label."""
        return (*self.context, *self.stem, *self.endings, self.label)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns of the context, and of the endings; `read` checks a single column with a list."""
        return (*self.context, *(self.endings if len(self.endings) > 1 else ()))

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The context without columns that have `spellings`, the stem, and the endings."""
        return tuple(name for name in (*self.context, *self.stem, *self.endings) if name not in self.spellings)

    @property
    def head(self) -> HeadSpec:
        """The sequence head with one score; the softmax is over the endings."""
        return HeadSpec("sequence", 1)

    def read(self, row: Row) -> Choice:
        """Convert a row to an example.

        Raises:
            DataError: the row has fewer than two endings, an empty one, an unknown label, or a value that `spellings`
                lacks.
        """
        endings = self._endings(row)
        stem = self._join_columns(row, self.stem)
        second = tuple(f"{stem} {ending}" if stem else ending for ending in endings)
        answer = self._answer_index(row, len(endings))
        return Choice(self._join_columns(row, self.context), second, answer, row_id(row))

    def _join_columns(self, row: Row, columns: Sequence[str]) -> str:
        texts = ["" if (value := row.values.get(column)) is None else str(value) for column in columns]
        for i, (column, text) in enumerate(zip(columns, texts, strict=True)):
            if column in self.spellings:
                known = self.spellings[column]
                if text not in known:
                    raise DataError(f"unknown {column} '{visible(text)}'", where=row.where, hint=nearest(text, known))
                texts[i] = known[text]
        return " ".join(text for text in texts if text.strip())

    def _endings(self, row: Row) -> list[str]:
        for column in self.endings:
            if row.values.get(column) is None:
                raise DataError(f"has no {column}", where=row.where, hint=nearest(column, row.values, "it has"))
        if len(self.endings) > 1:
            endings = [row.values[column] for column in self.endings]
        else:
            endings = self._from_list(row.values[self.endings[0]], row.where)
        if len(endings) < 2:
            raise DataError("has only one ending" if endings else "has no endings", where=row.where)
        for number, text in enumerate(endings, start=1):
            if isinstance(text, bool | list | dict | None):
                raise DataError(f"ending {number} must be text, got {str(text)[:60]}", where=row.where)
            if not str(text).strip():
                raise DataError(f"ending {number} is empty", where=row.where)
        return [str(text) for text in endings]

    def _from_list(self, value: Any, where: str) -> list[Any]:
        """The endings in one column with a list, sorted by their labels if they have labels."""
        column = self.endings[0]
        labels, texts = (value.get("label"), value.get("text")) if isinstance(value, dict) else (None, None)
        if isinstance(labels, list) and isinstance(texts, list):  # the Hub's way to store a list of objects
            if len(labels) != len(texts):
                raise DataError(f"{column} has {len(labels)} labels but {len(texts)} texts", where=where)
            value = [{"label": label, "text": text} for label, text in zip(labels, texts, strict=True)]
        if not isinstance(value, list):
            hint = "write one column for each ending as `endings: [first, second]`"
            raise DataError(f"{column} must be a list, got {str(value)[:60]}", where=where, hint=hint)
        if not any(isinstance(item, dict) for item in value):
            return value
        if not all(isinstance(item, dict) and {"label", "text"} <= item.keys() for item in value):
            raise DataError(f"an object in {column} needs `label` and `text`", where=where)
        value = sorted(value, key=lambda item: (len(str(item["label"])), str(item["label"])))
        labels = [str(item["label"]) for item in value]
        if len(set(labels)) < len(labels) or (self.answers and labels != [*self.answers[: len(labels)]]):
            hint = f"known answers: {', '.join(self.answers)}" if self.answers else ""
            raise DataError(f"{column} are labelled {', '.join(labels)}", where=where, hint=hint)
        return [item["text"] for item in value]

    def _answer_index(self, row: Row, endings: int) -> int | None:
        value = row.values.get(self.label)
        label = "" if value is None else str(value).strip()
        if label in HIDDEN_LABELS and label not in self.answers:
            return None
        known = self.answers[:endings] or tuple(map(str, range(endings)))
        if label not in known:
            message = f"unknown {self.label} '{visible(label)}' among {endings} endings"
            raise UnknownLabel(message, label=label, where=row.where, hint=nearest(label, known))
        return known.index(label)

    def features(self, examples: Sequence[Choice], tokenizer: TokenizerLike) -> Iterator[Features]:
        """A forward pass for each ending; a pair that is too long loses pieces from the start of its longer text."""
        contexts = tokenizer.encode([example.context for example in examples])
        endings = iter(tokenizer.encode([text for example in examples for text in example.endings]))
        max_pieces = tokenizer.max_pieces(2)
        for index, (example, context) in enumerate(zip(examples, contexts, strict=True)):
            for number in range(len(example.endings)):
                ending = next(endings)
                ids, second = tokenizer.pair(*truncate_pair(context, ending, max_pieces, start=True))
                target = IGNORED if example.answer is None else int(number == example.answer)
                truncated = len(context) + len(ending) > max_pieces
                yield Features(index, ids, [0], [target], second, truncated=truncated)

    def decode(self, examples: Sequence[Choice], outputs: HeadOutputs, threshold: float | None) -> list[int]:
        """The index of the ending with the highest score; the first one on ties."""
        return [int(scores.argmax()) for scores in _by_example(examples, outputs)]

    def row_of(self, texts: Sequence[str], where: str) -> dict[str, Any]:
        """The context, and the endings after it.

        Raises:
            DataError: the row has fewer than two endings, or the format has a stem.
        """
        columns = (*self.context, *self.stem)
        if len(columns) > 1:
            hint = f"give JSON lines with {', '.join((*columns, *self.endings))}"
            raise DataError("a line of texts does not say which is which", where=where, hint=hint)
        if len(texts) < 3 or len(self.endings) not in (1, len(texts) - 1):
            hint = "it needs a context and its endings, with tabs between"
            raise DataError(f"has {counted(len(texts), 'text')}", where=where, hint=hint)
        endings = [*texts[1:]]
        named = {self.endings[0]: endings} if len(self.endings) == 1 else dict(zip(self.endings, endings, strict=True))
        return {columns[0]: texts[0], **named}

    def results(
        self, examples: Sequence[Choice], outputs: HeadOutputs, threshold: float | None, top: int
    ) -> list[dict[str, Any]]:
        """`choice`, the index of the best ending, its text, and the `probabilities` of the endings."""
        answers, shares = self.decode(examples, outputs, threshold), self.probabilities(examples, outputs)
        return [
            {"choice": answer, "ending": example.endings[answer], "probabilities": share}
            for example, answer, share in zip(examples, answers, shares, strict=True)
        ]

    def probabilities(self, examples: Sequence[Choice], outputs: HeadOutputs) -> list[Probabilities]:
        """The softmax over the endings, by index."""
        odds = [np.exp(scores - scores.max(), dtype=np.float64) for scores in _by_example(examples, outputs)]
        return [rounded([*map(str, range(len(each)))], each / each.sum()) for each in odds]

    has_mean: ClassVar[bool] = True

    def mean(self, members: Sequence[Probabilities], language: str) -> tuple[int, Probabilities]:
        """The ending with the highest mean probability; the first one on ties."""
        numbers = sorted({int(number) for member in members for number in member})
        means = mean_of([*map(str, numbers)], members)
        return max(numbers, key=lambda number: means[str(number)]), means

    def input_text(self, example: Choice) -> list[str]:
        """The context, then the endings."""
        return [example.context, *example.endings]

    def scores(self, outputs: HeadOutputs) -> dict[str, float]:
        """The scores of the endings, by index."""
        return {str(number): float(scores[0]) for number, scores in enumerate(outputs.scores)}

    def reference(self, example: Choice, index: int) -> int | None:
        """The index of the right ending."""
        return example.answer


def _by_example(examples: Sequence[Choice], outputs: HeadOutputs) -> list[NDArray[Any]]:
    """The scores of each example's endings."""
    scores_F = np.array([scores[0] for scores in outputs.scores])
    return np.split(scores_F, np.searchsorted(outputs.example_F, np.arange(1, len(examples))))
