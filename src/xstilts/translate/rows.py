"""Translates rows, by format: texts of columns; a context with its answers; words with their entities."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from xstilts import languages
from xstilts.errors import UserError
from xstilts.formats import Span, Tag
from xstilts.formats.base import Format, Row
from xstilts.formats.span import Question, is_impossible, read_answers
from xstilts.metrics.chunks import chunks
from xstilts.translate.projection import Markers, Projected, mark, unmark
from xstilts.translate.translator import Translator

Values: TypeAlias = dict[str, Any]
Translated: TypeAlias = tuple[list[Values | None], Counter[str]]
"""The rows, None for one that is left out; and how many spans each route found."""
BY_CHARACTER = ("zh", "ja", "th")
"""Languages whose data sets have a character a token."""


def translate_rows(format: Format, rows: Sequence[Row], translator: Translator, markers: Markers) -> Translated:
    """Translate the texts of rows; labels and other columns stay.

    A row is left out if the engine returned nothing for one of its lines, or lost its answers or one of its entities.

    Raises:
        UserError: the engine fails; or tags are not of entities.
    """
    if isinstance(format, Span):
        return _questions(format, rows, translator, markers)
    if isinstance(format, Tag):
        return _sentences(rows, translator, markers)
    columns = format.text_columns
    texts = [text for row in rows for name in columns for text in _texts(row.values.get(name))]
    translations = iter(zip(texts, translator(texts), strict=True))
    translated: list[Values | None] = []
    for row in rows:
        values = {name: row.values[name] for name in ("id", *format.fields) if name in row.values}
        complete = True
        for name in columns:
            found = [next(translations) for _ in _texts(values.get(name))]
            complete &= all(translation or not text.strip() for text, translation in found)
            values[name] = _replaced(values.get(name), iter([translation for _, translation in found]))
        translated.append(values if complete else None)
    return translated, Counter()


def _texts(value: Any) -> Iterator[str]:
    """The texts in the value of a column."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _texts(value.get("text"))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _replaced(value: Any, texts: Iterator[str]) -> Any:
    """The value with other texts."""
    if isinstance(value, str):
        return next(texts)
    if isinstance(value, dict):
        return value | ({"text": _replaced(value["text"], texts)} if "text" in value else {})
    return [_replaced(item, texts) for item in value] if isinstance(value, list | tuple) else value


def _project(
    texts: Sequence[tuple[str, list[tuple[int, int]]]], translator: Translator, markers: Markers
) -> list[Projected]:
    """The translations of texts with their spans: by markers, then by the span translated by itself."""
    marked = [mark(text, spans, markers) for text, spans in texts]
    translations = translator(one.text for one in marked)
    found = [unmark(one, translation) for one, translation in zip(marked, translations, strict=True)]
    missing = [text for one in found for text in one.missing]
    again = iter(translator(missing, probe=False))
    return [one.recover([next(again) for _ in one.missing]) if one.missing else one for one in found]


def _questions(format: Span, rows: Sequence[Row], translator: Translator, markers: Markers) -> Translated:
    examples = [format.read(row) for row in rows]
    spans = [_answer_spans(row) if example.answers else [] for row, example in zip(rows, examples, strict=True)]
    contexts = [(example.context, places) for example, places in zip(examples, spans, strict=True)]
    questions = translator(example.question for example in examples)
    projected = _project(contexts, translator, markers)
    translated: list[Values | None] = []
    for row, example, question, found in zip(rows, examples, questions, projected, strict=True):
        has_answer = example.answers not in (None, ("",))
        there = [span for span in found.spans if span]
        values = {name: row.values[name] for name in ("title", "id") if row.values.get(name) is not None}
        values |= {"context": found.text, "question": question}
        if example.answers is not None:
            values["answers"] = [{"text": found.text[a:b], "answer_start": a} for a, b in there]
        if format.no_answer and example.answers is not None:
            values["is_impossible"] = not has_answer
        translated.append(values if question and found.text and bool(there) == has_answer else None)
    return translated, Counter(route for one in projected for route in one.routes)


def _answer_spans(row: Row) -> list[tuple[int, int]]:
    """Where the answers are in the context, each place once; none if the question has no answer."""
    if is_impossible(row.values):
        return []
    given, context = read_answers(row.values["answers"], row.where), str(row.values["context"])
    found = (Question(None, "", context, (text,), start).answer_span() for text, start in given)
    return list(dict.fromkeys(span for span in found if span))


def _sentences(rows: Sequence[Row], translator: Translator, markers: Markers) -> Translated:
    source, target = translator.pair
    texts: list[tuple[str, list[tuple[int, int]]]] = []
    types: list[list[str]] = []
    for row in rows:
        words, tags = list(map(str, row.values["words"])), row.values.get("tags") or []
        _check_entities(tags, row)
        text, places = joined_words(words, "" if languages.base(source) in BY_CHARACTER else " ")
        found = list(chunks([tags]))
        texts.append((text, [(places[first][0], places[last][1]) for _, first, last in found]))
        types.append([type_ for type_, _, _ in found])
    projected = _project(texts, translator, markers)
    translated: list[Values | None] = []
    for row, one, kinds in zip(rows, projected, types, strict=True):
        words, tags = _tagged(one, kinds, by_character=languages.base(target) in BY_CHARACTER)
        complete = bool(words) and Counter(tag[2:] for tag in tags if tag.startswith("B-")) == Counter(kinds)
        values = {"words": words} | ({"tags": tags} if row.values.get("tags") is not None else {})
        translated.append(values if complete else None)
    return translated, Counter(route for one in projected for route in one.routes)


def _check_entities(tags: Sequence[str], row: Row) -> None:
    for tag in tags:
        if tag != "O" and tag[1:2] != "-":
            hint = "only entities (O, B-TYPE, I-TYPE) can be found again in a translation"
            raise UserError(f"the tag '{tag}' is a word's own", where=row.where, hint=hint)


def joined_words(words: Sequence[str], blank: str) -> tuple[str, list[tuple[int, int]]]:
    """The sentence of words, and where each word is in it.

    >>> joined_words(["Ada", "ran"], " ")
    ('Ada ran', [(0, 3), (4, 7)])
    """
    places, at = [], 0
    for word in words:
        places.append((at, at + len(word)))
        at += len(word) + len(blank)
    return blank.join(words), places


def _tagged(projected: Projected, types: Sequence[str], *, by_character: bool) -> tuple[list[str], list[str]]:
    """The words of a translation, and their tags: B- and I- of the entity that a word is in."""
    words, tags = list[str](), list[str]()
    before: int | None = None
    for start, end in tokens(projected.text, by_character=by_character):
        inside = next((i for i, span in enumerate(projected.spans) if span and span[0] < end and start < span[1]), None)
        words.append(projected.text[start:end])
        tags.append("O" if inside is None else f"{'I' if inside == before else 'B'}-{types[inside]}")
        before = inside
    return words, tags


def tokens(text: str, *, by_character: bool = False) -> list[tuple[int, int]]:
    """Where the words of a text are: parts between blanks, without the punctuation at their ends; or characters.

    >>> text = "(La Sra. Ito-Diaz)"
    >>> [text[start:end] for start, end in tokens(text)]
    ['(', 'La', 'Sra', '.', 'Ito-Diaz', ')']
    """
    places: list[tuple[int, int]] = []
    start = 0
    for chunk in text.split(" "):
        end = start + len(chunk)
        letters = [at for at in range(start, end) if not by_character and unicodedata.category(text[at])[0] not in "PS"]
        first, last = (letters[0], letters[-1] + 1) if letters else (end, end)
        places += [(at, at + 1) for at in range(start, first)] + ([(first, last)] if first < last else [])
        places += [(at, at + 1) for at in range(last, end)]
        start = end + 1
    return places
