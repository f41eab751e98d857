"""Translates rows, by format: texts of columns; a context with its answers; words with their entities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from xstilts.formats import Span, Tag
from xstilts.formats.base import Format, Row, row_id
from xstilts.formats.span import Question, is_impossible, read_answers
from xstilts.translate.alignment import align, project_spans, project_tags
from xstilts.translate.entities import has_word_tags, mark_entities, panx_word_spans, plain_text
from xstilts.translate.projection import Marked, Markers, Projected, mark, unmark
from xstilts.translate.translator import Translator

Values: TypeAlias = dict[str, Any]
Translated: TypeAlias = tuple[list[Values | None], Counter[str]]
"""The rows, None for one that is left out; and how many spans each route found."""


def translate_rows(
    format: Format, rows: Sequence[Row], translator: Translator, markers: Markers, *, keep_all: bool = False
) -> Translated:
    """Translate the texts of rows; labels and other columns stay.

    A row is left out if the engine returned nothing for one of its lines, or lost its answers or one of its entities.
    With `keep_all` only sentences with tags are: the original text stands for a lost one, each row has an `id` (by
    default its number), and a question has its `original`, and `answered: no` if its answers are lost.

    Raises:
        UserError: the engine fails; or tags are not of entities.
    """
    if isinstance(format, Span):
        return _questions(format, rows, translator, markers, keep_all)
    if isinstance(format, Tag):
        if markers == "align" and has_word_tags(format, rows):
            return _tagged_words(format, rows, translator)
        return _sentences(rows, translator, markers)
    columns = format.text_columns
    texts = [text for row in rows for name in columns for text in _texts(row.values.get(name))]
    translations = iter(zip(texts, translator(texts, markup=True), strict=True))
    translated: list[Values | None] = []
    for number, row in enumerate(rows):
        values = {name: row.values[name] for name in ("id", *format.fields) if name in row.values}
        values |= {"id": row_id(row) or str(number)} if keep_all else {}
        complete = True
        for name in columns:
            found = [next(translations) for _ in _texts(values.get(name))]
            complete &= all(translation or not text.strip() for text, translation in found)
            kept = [translation or (text if keep_all else "") for text, translation in found]
            values[name] = _replaced(values.get(name), iter(kept))
        translated.append(values if complete or keep_all else None)
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


def _project(marked: Sequence[Marked], translator: Translator, markers: Markers) -> list[Projected]:
    """The translations of texts with their spans: by markers or alignment, then by the span translated by itself."""
    if markers == "align":
        found = project_spans(marked, translator)
    else:
        translations = translator(one.text for one in marked)
        found = [unmark(one, translation) for one, translation in zip(marked, translations, strict=True)]
    missing = [text for one in found for text in one.missing]
    again = iter(translator(missing, probe=False))
    return [one.recover([next(again) for _ in one.missing]) if one.missing else one for one in found]


def _questions(
    format: Span, rows: Sequence[Row], translator: Translator, markers: Markers, keep_all: bool
) -> Translated:
    examples = [format.read(row) for row in rows]
    spans = [_answer_spans(row) if example.answers else [] for row, example in zip(rows, examples, strict=True)]
    places: dict[str, list[tuple[int, int]]] = {example.context: [] for example in examples}
    for example, answers in zip(examples, spans, strict=True):
        places[example.context] += answers
    marked = [mark(context, list(dict.fromkeys(answers)), markers) for context, answers in places.items()]
    asked = [mark(example.question, [], markers) for example in examples]
    projected_texts = _project([*marked, *asked], translator, markers)
    contexts = dict(zip(places, projected_texts, strict=False))
    questions = [one.text for one in projected_texts[len(marked) :]]
    routes = _no_spans(markers)
    translated: list[Values | None] = []
    for row, example, question, answers in zip(rows, examples, questions, spans, strict=True):
        has_answer = example.answers not in (None, ("",))
        found = contexts[example.context]
        projected = [found.of(span) for span in answers]
        there = [span for span, _ in projected if span]
        routes.update(route for _, route in projected)
        values = {name: row.values[name] for name in ("title", "id") if row.values.get(name) is not None}
        values |= {"context": found.text, "question": question}
        if example.answers is not None:
            values["answers"] = [{"text": found.text[a:b], "answer_start": a} for a, b in there]
        if format.no_answer and example.answers is not None:
            values["is_impossible"] = not has_answer
        complete = bool(question and found.text) and bool(there) == has_answer
        translated.append(values if complete else None)
        if keep_all:
            translated[-1] = values | _with_original(row, example, values, complete)
    return translated, routes


def _with_original(row: Row, example: Question, values: Values, complete: bool) -> Values:
    """The columns of a question that keep its original; a text that the engine lost stays as it was."""
    names = ("context", "question", "answers", "is_impossible")
    more: Values = {"original": {name: row.values[name] for name in names if row.values.get(name) is not None}}
    more["answered"] = "yes" if complete or example.answers is None else "no"
    if not complete:
        more |= {"context": values["context"] or example.context, "question": values["question"] or example.question}
    if more["answered"] == "no":  # not in the translation, so that no prediction is right
        more["answers"] = [{"text": text, "answer_start": -1} for text in example.answers or () if text]
    return more


def _answer_spans(row: Row) -> list[tuple[int, int]]:
    """Where the answers are in the context, each place once; none if the question has no answer."""
    if is_impossible(row.values):
        return []
    given, context = read_answers(row.values["answers"], row.where), str(row.values["context"])
    found = (Question(None, "", context, (text,), start).answer_span() for text, start in given)
    return list(dict.fromkeys(span for span in found if span))


def _sentences(rows: Sequence[Row], translator: Translator, markers: Markers) -> Translated:
    source, target = translator.pair
    marked = []
    for row in rows:
        words = list(map(str, row.values["words"]))
        marked.append(mark_entities(words, row.values.get("tags") or ["O"] * len(words), source, markers, row.where))
    projected = _project([one.marked for one in marked], translator, markers)
    translated: list[Values | None] = []
    for row, one, found in zip(rows, marked, projected, strict=True):
        words, tags = one.tag_translation(found, target) or ([], [])
        values = {"words": words} | ({"tags": tags} if row.values.get("tags") is not None else {})
        translated.append(values if words else None)
    routes = _no_spans(markers)
    routes.update(route for one in projected for route in one.routes)
    return translated, routes


def _no_spans(markers: Markers) -> Counter[str]:
    """Counts that say which way was tried first."""
    return Counter({"align": 0} if markers == "align" else {})


def _tagged_words(format: Tag, rows: Sequence[Row], translator: Translator) -> Translated:
    source, target = translator.pair
    translator.progress.say("experimental: word alignment projects the tags of words; compare some with your own eyes")
    examples = [format.read(row) for row in rows]
    texts = translator(plain_text(example.words, source) for example in examples)
    words = [[text[a:b] for a, b in panx_word_spans(text, target)] for text in texts]
    with_tags = [(one.words, one.tags, found) for one, found in zip(examples, words, strict=True) if one.tags]
    links = align([(original, found) for original, _, found in with_tags], translator.progress)
    tagged, routes = project_tags([(own, found) for _, own, found in with_tags], links)
    tags = iter(tagged)
    translated: list[Values | None] = []
    for example, found in zip(examples, words, strict=True):
        values: Values = {"words": found} | ({"tags": next(tags)} if example.tags else {})
        translated.append(values if found and values.get("tags", ()) is not None else None)
    return translated, routes
