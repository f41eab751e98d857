"""Tag: predicts a tag for each word of a sentence, at one of the word's pieces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any, ClassVar, Literal, NamedTuple

from xstilts.errors import DataError, UnknownLabel, nearest, visible
from xstilts.formats.base import (
    DIGITS,
    IGNORED,
    NO_LABEL,
    Features,
    Format,
    HeadOutputs,
    HeadSpec,
    Labels,
    Row,
    TokenizerLike,
    row_id,
)
from xstilts.formats.words import split_words, word_places
from xstilts.metrics.chunks import chunks, marks_chunks, miscounted

TAG_LINES = "a word, a tab and its tag a line, blank lines after sentences, in a .tsv file"
"""How a file without lists has words and tags."""


class Tagged(NamedTuple):
    """The words of a sentence and their tags (None without labels)."""

    words: tuple[str, ...]
    tags: tuple[str, ...] | None
    id: str | None = None
    text: str | None = None
    """The raw text whose words these are; None if the row has words."""


class Tag(Format):
    """A tag for each word. Longer sentences are split into several windows; no word is dropped."""

    name: ClassVar[str] = "tag"
    metrics: ClassVar[tuple[str, ...]] = ("chunk_f1",)
    supported_metrics: ClassVar[tuple[str, ...]] = ("chunk_f1", "token_accuracy")
    file: ClassVar[Literal["tags"]] = "tags"
    raw_text: ClassVar[str] = "text"

    labels: Labels | None = None
    """By default all tags of the training data, in alphabetical order."""
    first_piece: Literal["literal", "written"] = "written"
    """Where a word has its tag. `literal`: at its first piece, even a lone blank's sign such as `▁` (the paper, jiant's
    `udpos.py`, XTREME's `utils_tag.py`). `written`: at the piece with its first character."""

    @property
    def fields(self) -> tuple[str, ...]:
        """Words and tags."""
        return ("words", "tags")

    @property
    def inputs(self) -> tuple[str, ...]:
        """The words."""
        return ("words",)

    @property
    def head(self) -> HeadSpec:
        """The token head, one score per tag."""
        return HeadSpec("token", len(self.labels or ()))

    @property
    def needs_labels(self) -> bool:
        """Whether the tags must be taken from the training data."""
        return self.labels is None

    def with_labels_from(self, examples: Iterable[Tagged]) -> Tag:
        """The format, with the tags of these sentences if it lists none."""
        tags = {tag for example in examples for tag in example.tags or ()}
        return self if self.labels is not None else self.model_copy(update={"labels": tuple(sorted(tags))})

    def as_trained(self, trained: Format) -> Tag:
        """The format, with the `first_piece` of the training."""
        return self.model_copy(update={"first_piece": trained.first_piece}) if isinstance(trained, Tag) else self

    @property
    def _labels(self) -> tuple[str, ...]:
        assert self.labels is not None, "the format has no labels yet"
        return self.labels

    def read(self, row: Row) -> Tagged:
        """Convert a sentence to an example; a row without words may have a text, which `split_words` splits.

        Raises:
            DataError: a word or a tag is empty, a tag is not one of `labels`, or words and tags differ in number.
        """
        if "words" not in row.values and isinstance(text := row.values.get(self.raw_text), str):
            return Tagged(tuple(text[a:b] for a, b in split_words(text)), None, row_id(row), text)
        words, tags = row.values["words"], row.values.get("tags")
        if not isinstance(words, list) or not isinstance(tags, list | None):
            raise DataError("words and tags must be lists", where=row.where, hint=f"or {TAG_LINES}")
        if not words:
            raise DataError("empty sentence", where=row.where)
        _check_texts("word", words, row.where)
        _check_texts("tag", tags or (), row.where)
        if tags is not None and len(words) != len(tags):
            raise DataError(f"{len(words)} words but {len(tags)} tags", where=row.where)
        if tags is None or (set(tags) == {NO_LABEL} and NO_LABEL not in (self.labels or ())):
            return Tagged(tuple(words), None, row_id(row))
        known = self.labels or set(tags) - {NO_LABEL}
        for word, tag in zip(words, tags, strict=True):
            if tag not in known:
                message, hint = f"unknown tag '{visible(tag)}' of '{word}'", nearest(tag, known)
                raise UnknownLabel(message, label=tag, where=row.where, hint=hint)
        for tag in dict.fromkeys(tags):
            if not tag.isprintable() or tag != tag.strip():
                what = "an invisible character" if visible(tag) != tag else "a blank around it"
                raise DataError(f"the tag '{visible(tag)}' of '{words[tags.index(tag)]}' has {what}", where=row.where)
        return Tagged(tuple(words), tuple(tags), row_id(row))

    def checker(self, metrics: Sequence[str]) -> Callable[[Tagged, str], None] | None:
        """Raises at the first tag that `chunk_f1` would miscount; `labels`, if given, are checked with the task."""
        return _TagCheck() if self.labels is None and "chunk_f1" in metrics else None

    def input_text(self, example: Tagged) -> str | list[str]:
        """The raw text, or else the words."""
        return [*example.words] if example.text is None else example.text

    def features(self, examples: Sequence[Tagged], tokenizer: TokenizerLike) -> Iterator[Features]:
        """A forward pass for each window; windows end between words."""
        max_pieces = tokenizer.max_pieces(1)
        known: dict[str | None, int] = {label: number for number, label in enumerate(self._labels)}
        pieces = iter(tokenizer.words([word for example in examples for word in example.words]))
        for index, example in enumerate(examples):
            tags: tuple[str | None, ...] = example.tags or (None,) * len(example.words)
            ids: list[int] = []
            positions: list[int] = []
            targets: list[int] = []
            truncated = False
            for tag, (word_ids, first) in zip(tags, pieces, strict=False):
                if len(word_ids) > max_pieces:
                    word_ids, first, truncated = [tokenizer.unk_id], 0, True
                if len(ids) + len(word_ids) > max_pieces:
                    yield _window(index, ids, positions, targets, tokenizer)
                    ids, positions, targets = [], [], []
                positions.append(len(ids) + (first if self.first_piece == "written" else 0))
                ids.extend(word_ids)
                targets.append(known.get(tag, IGNORED))
            yield replace(_window(index, ids, positions, targets, tokenizer), truncated=truncated)

    def decode(self, examples: Sequence[Tagged], outputs: HeadOutputs, threshold: float | None) -> list[list[str]]:
        """The best tag of each word; joins the windows of a sentence."""
        return [[tag for tag, _ in words] for words in self._best(examples, outputs)]

    def _best(self, examples: Sequence[Tagged], outputs: HeadOutputs) -> list[list[tuple[str, float]]]:
        """For each example the best tag of each word, with its probability."""
        tags: list[list[tuple[str, float]]] = [[] for _ in examples]
        for example, best_M2 in zip(outputs.example_F, outputs.scores, strict=True):
            tags[example].extend((self._labels[int(i)], probability) for i, probability in best_M2.tolist())
        return tags

    def results(
        self, examples: Sequence[Tagged], outputs: HeadOutputs, threshold: float | None, top: int
    ) -> list[dict[str, Any]]:
        """`tags`, one for each word with its place and probability; with tags such as B-PER also the `entities`.

        Places are characters of the text, end excluded, or of the words joined by blanks. An entity's probability is
        the mean of its words', as in transformers' pipelines.
        """
        predicted = self._best(examples, outputs)
        return [self._result(example, best) for example, best in zip(examples, predicted, strict=True)]

    def _result(self, example: Tagged, best: Sequence[tuple[str, float]]) -> dict[str, Any]:
        text = " ".join(example.words) if example.text is None else example.text
        places = word_places(example.words) if example.text is None else split_words(text)
        words = [
            {"word": word, "tag": tag, "start": a, "end": b, "probability": round(probability, DIGITS)}
            for word, (tag, probability), (a, b) in zip(example.words, best, places, strict=True)
        ]
        if not marks_chunks(self._labels):
            return {"tags": words}
        entities = []
        for kind, first, last in chunks([[tag for tag, _ in best]]):
            a, b, probability = places[first][0], places[last][1], fmean(p for _, p in best[first : last + 1])
            entities.append(
                {"type": kind, "text": text[a:b], "start": a, "end": b, "probability": round(probability, DIGITS)}
            )
        return {"tags": words, "entities": entities}

    def trivial_predictions(self, examples: Sequence[Tagged]) -> Iterator[list[list[str]]]:
        """The most frequent tag for every word, and the most frequent one that makes each word a chunk (B-).

        On ties, the first in the alphabet.
        """
        counts = Counter(sorted(tag for example in examples for tag in example.tags or ()))
        chunk_tags = Counter({tag: count for tag, count in counts.items() if tag[0] in "BES"})
        for [(tag, _)] in (some.most_common(1) for some in (counts, chunk_tags) if some):
            yield [[tag] * len(example.words) for example in examples]

    def reference(self, example: Tagged, index: int) -> list[str] | None:
        """The tags."""
        return None if example.tags is None else list(example.tags)


class _TagCheck:
    """Checks the tags of a split, which must all be of one scheme; raises once."""

    def __init__(self) -> None:
        self._tags: dict[str, None] = {}
        self._raised = False

    def __call__(self, example: Tagged, where: str) -> None:
        tags = dict.fromkeys(example.tags or ())
        if not self._raised and not self._tags.keys() >= tags.keys():
            self._tags |= tags
            if found := miscounted(self._tags):
                self._raised = True
                raise DataError(found[0], where=where, hint=found[1])


def _check_texts(kind: str, texts: Sequence[Any], where: str) -> None:
    for number, text in enumerate(texts, start=1):
        if not isinstance(text, str):
            hint = "`classes` names numbered tags" if isinstance(text, int) and kind == "tag" else ""
            raise DataError(f"words and tags must be text, not {text!r}", where=where, hint=hint)
        if not text.strip():
            raise DataError(f"{kind} {number} of the sentence is empty", where=where)


def _window(index: int, ids: list[int], positions: list[int], targets: list[int], tokenizer: TokenizerLike) -> Features:
    with_special, start = tokenizer.single(ids)
    return Features(index, with_special, [start + position for position in positions], targets)
