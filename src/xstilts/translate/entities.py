"""Entities: marks the entities of a tagged sentence, and tags the words of its translation."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from xstilts import languages
from xstilts.errors import DataError, visible
from xstilts.formats import Tag
from xstilts.formats.base import NO_LABEL, Format, Row
from xstilts.metrics.chunks import chunks
from xstilts.translate.projection import Marked, Markers, Projected, Span, mark

BY_CHARACTER = {"zh", "yue", "wuu", "lzh", "ja", "th"}
"""Languages that PAN-X splits into characters."""
_ENTITY_TAG = re.compile(r"O|[BIES]-.+", re.DOTALL)
_NO_BLANK_BEFORE = re.compile(r"[,.;:!?%)\]}…،؛؟।۔]+|n['’]t|['’]\w{0,2}")
_WORD = re.compile(r"[^\s,;:!?()«»“”„\"¿¡]+|\S")


@dataclass(frozen=True)
class MarkedEntities:
    """A sentence with markers around its entities."""

    marked: Marked
    types: tuple[str, ...]
    """The type of each entity, in the order of the sentence."""
    bioes: bool
    """Whether the tags mark ends (E-) and single words (S-)."""

    def tag_translation(self, projected: Projected, language: str) -> tuple[list[str], list[str]] | None:
        """Words and tags of the translation; None unless it has as many entities of each type as the source.

        A word is part of an entity if they share a character.
        """
        if None in projected.spans:
            return None
        words = panx_word_spans(projected.text, language)
        tags = ["O"] * len(words)
        for type_, span in zip(self.types, projected.spans, strict=True):
            inside = [i for i, (start, end) in enumerate(words) if span and start < span[1] and end > span[0]]
            if not inside or any(tags[i] != "O" for i in inside):
                return None
            for i in inside:
                tags[i] = f"I-{type_}"
            tags[inside[0]] = f"B-{type_}"
            if self.bioes:
                tags[inside[-1]] = f"E-{type_}" if inside[1:] else f"S-{type_}"
        same = Counter(type_ for type_, _, _ in chunks([tags])) == Counter(self.types)
        return ([projected.text[a:b] for a, b in words], tags) if same and words else None


def mark_entities(
    words: Sequence[str], tags: Sequence[str], language: str, markers: Markers = "letters", where: str = ""
) -> MarkedEntities:
    """Join the words of a sentence and mark its entities.

    Raises:
        DataError: a tag marks no entity, as parts of speech do.
    """
    for word, tag in zip(words, tags, strict=True):
        if not _ENTITY_TAG.fullmatch(tag):
            message = f"the tag '{visible(tag)}' of '{visible(word)}' marks a word, not an entity"
            hint = "markers project entities (B-PER, I-PER, O); for a tag a word, as in POS, write --markers align"
            raise DataError(message, where=where, hint=hint)
    blank = "" if _by_character(language) else " "
    starts, at = [], 0
    for word in words:
        starts.append(at)
        at += len(word) + len(blank)
    found = list(chunks([tags]))
    spans = [(starts[first], starts[last] + len(words[last])) for _, first, last in found]
    types = tuple(type_ for type_, _, _ in found)
    return MarkedEntities(mark(blank.join(words), spans, markers), types, any(tag[0] in "ES" for tag in tags))


def has_word_tags(format: Format, rows: Sequence[Row] = ()) -> bool:
    """Whether tags mark words, as parts of speech do: the format's labels tell, or the rows if it lists none."""
    if not isinstance(format, Tag):
        return False
    tags = format.labels or {str(tag) for row in rows for tag in row.values.get("tags") or ()}
    return any(not _ENTITY_TAG.fullmatch(tag) for tag in tags if tag != NO_LABEL)


def plain_text(words: Sequence[str], language: str) -> str:
    """The text of a sentence: no blanks inside brackets, and before clitics (`n't`) and most punctuation.

    >>> plain_text("Is n't it ( so ) ?".split(), "en")
    "Isn't it (so)?"
    """
    text = ""
    for word in words:
        joined = not text or _by_character(language) or _NO_BLANK_BEFORE.fullmatch(word) or text[-1] in "([{¿¡"
        text += word if joined else f" {word}"
    return text


def _by_character(language: str) -> bool:
    return languages.base(language) in BY_CHARACTER


def panx_word_spans(text: str, language: str) -> list[Span]:
    """The words of a text as PAN-X has them: punctuation by itself, periods only at the end of the sentence."""
    if _by_character(language):
        return [(at, at + 1) for at, character in enumerate(text) if character.isprintable() and character != " "]
    spans = [word.span() for word in _WORD.finditer(text)]
    if spans and len(last := text[slice(*spans[-1])]) > 2 and last.endswith((".", "。", "।", "۔")):
        start, end = spans.pop()
        spans += [(start, end - 1), (end - 1, end)]
    return spans
