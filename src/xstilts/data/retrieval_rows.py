"""Reads retrieval data: BUCC's sentences with ids, XQuAD-R's questions, Mewsli-X's mentions, or JSON objects.

Rows are queries {"query", "id", "relevant": ids of relevant candidates}, then candidates {"candidate", "id"}. Without
labels there is no `relevant`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

from xstilts.data.find import Found
from xstilts.data.lines import OnWarning, lines
from xstilts.data.mentions import entity, mentions
from xstilts.data.records import OBJECTS, document, nested_value, reject_surrogates, suffix
from xstilts.errors import DataError
from xstilts.formats.base import Row

Wanted: TypeAlias = dict[tuple[str, str], str]
"""Kind (`query` or `candidate`) and id of rows that labels refer to, and the place of the label."""


def rows(found: Found, is_query: Callable[[Row], bool], on_warning: OnWarning | None) -> Iterator[Row]:
    """Yield queries and candidates, checked.

    Args:
        found: sentences with ids (`id TAB text`), questions in XQuAD-R's layout (`.json`), or objects; its `pair` has
            the candidates, its `gold` the relevant pairs.
        is_query: selects the queries to use.
        on_warning: receives a warning for each line that is not UTF-8; if None, such lines are errors.

    Raises:
        DataError: a row without text or id, a duplicate id, an unknown relevant id, no query, or no candidate.
    """
    for name, value in (("part", found.file.part), ("classes", found.file.classes)):
        if value:
            raise DataError(f"`{name}` cannot be used for retrieval data", where=found.paths[0])
    if isinstance(found.file.columns, tuple):
        raise DataError("only tables without a header take a list of `columns`", where=found.paths[0])
    wanted: Wanted = {}
    if suffix(found.paths[0]) == ".json" and found.pair:
        read = _questions(found)
    elif suffix(found.paths[0]) in OBJECTS:
        read = _objects(found, on_warning)
    else:
        read = _sentences(found, wanted, on_warning)
    yield from _checked((row for row in read if "query" not in row.values or is_query(row)), wanted, found)


def _checked(read: Iterator[Row], wanted: Wanted, found: Found) -> Iterator[Row]:
    seen: dict[tuple[str, str], tuple[str, int | str]] = {}
    labelled: bool | None = None
    for row in read:
        kind = "query" if "query" in row.values else "candidate"
        _check_text(row, kind)
        key = kind, row.values["id"]
        if key in seen:
            raise DataError(f"the id '{key[1]}' is already used in {Row({}, *seen[key]).where}", where=row.where)
        seen[key] = row.file, row.line
        if kind == "query":
            labelled = _labelled(row, labelled)
            for id in row.values.get("relevant") or ():
                wanted.setdefault(("candidate", id), row.where)
        yield row
    if labelled is None:
        raise DataError("has no query", where=found.paths[0])
    if not any(kind == "candidate" for kind, _ in seen):
        raise DataError("has no candidate", where=(found.pair or found.paths)[0])
    unknown = [(id, where) for (kind, id), where in wanted.items() if (kind, id) not in seen]
    if unknown:
        (id, where), more = unknown[0], len(unknown) - 1
        others = f", and {more:,} more ids are unknown" if more else ""
        raise DataError(f"the id '{id}' is unknown{others}", where=where)


def _labelled(row: Row, before: bool | None) -> bool:
    """Whether a query has labels; all queries must agree."""
    labelled = row.values.get("relevant") is not None
    if before is not None and labelled != before:
        message = "has a `relevant`, the rows before have none" if labelled else "has no `relevant`"
        raise DataError(message, where=row.where, hint="a split has labels for all rows or for none")
    return labelled


def _check_text(row: Row, kind: str) -> None:
    for name in (kind, "id"):
        value = row.values.get(name)
        if not isinstance(value, str):
            message = f"has no {name}" if value is None else f"{name} must be text, got {str(value)[:60]}"
            raise DataError(message, where=row.where)
        if not value.strip():
            raise DataError(f"empty {name}", where=row.where)
    reject_surrogates(row, (kind, "id", "relevant"))


def _sentences(found: Found, wanted: Wanted, on_warning: OnWarning | None) -> Iterator[Row]:
    """BUCC's layout: two files of `id TAB text`, and optionally a file of pairs (`id TAB id`)."""
    relevant: dict[str, list[str]] | None = {} if found.gold else None
    for first, second, where in _pairs(found.gold) if found.gold else ():
        assert relevant is not None
        relevant.setdefault(first, [])
        if second not in relevant[first]:
            relevant[first].append(second)
        wanted.setdefault(("query", first), where)
        wanted.setdefault(("candidate", second), where)
    for path in found.paths:
        for line, id, text in _numbered(path, on_warning):
            labels = {} if relevant is None else {"relevant": relevant.get(id, [])}
            yield Row({"query": text, "id": id, **labels}, path, line)
    for path in found.pair:
        for line, id, text in _numbered(path, on_warning):
            yield Row({"candidate": text, "id": id}, path, line)


def _numbered(path: str, on_warning: OnWarning | None) -> Iterator[tuple[int, str, str]]:
    for line, whole in lines(path, on_warning):
        id, tab, text = whole.partition("\t")
        if not tab:
            raise DataError("has no tab between id and sentence", where=f"{path}:{line}")
        yield line, id, text


def _pairs(path: str) -> Iterator[tuple[str, str, str]]:
    line = 0
    for line, whole in lines(path):
        ids = whole.split("\t")
        if len(ids) != 2:
            raise DataError("is not a pair of ids with a tab between them", where=f"{path}:{line}")
        yield ids[0], ids[1], f"{path}:{line}"
    if not line:
        raise DataError("is empty", where=path)


def _questions(found: Found) -> Iterator[Row]:
    """XQuAD-R's layout: questions are queries, the sentences of all languages' articles are candidates.

    A candidate is a sentence without context. Its id consists of language, paragraph (from 1) and sentence (from 0);
    all equal sentences of a paragraph are relevant. Source: XTREME-R's `utils_lareqa.py`.
    """
    try:
        relevant, candidates = _sentences_of(found.pair)
        for path in found.paths:
            for question in chain.from_iterable(paragraph["qas"] for paragraph in _paragraphs(path)):
                id = str(question["id"])
                labels = {"relevant": relevant[id]} if id in relevant else {}
                yield Row({"query": question["question"], "id": id, **labels}, path, f"question {id}")
        yield from candidates
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        message = f"is not in XQuAD-R's layout ({type(error).__name__}: {error})"
        raise DataError(message, where=" or ".join(dict.fromkeys((*found.paths, *found.pair)))) from error


def _sentences_of(paths: Sequence[str]) -> tuple[dict[str, list[str]], list[Row]]:
    """The ids of the relevant sentences by question id, and all sentences."""
    relevant: dict[str, list[str]] = {}
    candidates: list[Row] = []
    for path in paths:
        language = Path(path.removesuffix(".gz")).stem.rpartition(".")[2]
        for number, paragraph in enumerate(_paragraphs(path), start=1):
            sentences = _split(paragraph, f"{path}: paragraph {number}")
            ids = [f"{language}_{number}_{position}" for position in range(len(sentences))]
            for id, text in zip(ids, sentences, strict=True):
                candidates.append(Row({"candidate": text, "id": id}, path, f"sentence {id}"))
            for question in paragraph["qas"]:
                answer = _answer_sentence(question, paragraph["sentence_breaks"])
                if answer is not None:
                    same = [id for id, text in zip(ids, sentences, strict=True) if text == sentences[answer]]
                    relevant.setdefault(str(question["id"]), []).extend(same)
    return relevant, candidates


def _paragraphs(path: str) -> Iterator[dict[str, Any]]:
    for article in document(path):
        yield from article["paragraphs"]


def _split(paragraph: Mapping[str, Any], where: str) -> list[str]:
    if "sentence_breaks" not in paragraph:
        raise DataError("has no sentence_breaks", where=where, hint="use XQuAD-R; XQuAD has none")
    return [paragraph["context"][first:end] for first, end in paragraph["sentence_breaks"]]


def _answer_sentence(question: Mapping[str, Any], breaks: list[list[int]]) -> int | None:
    """The number of the sentence in which the first answer begins; None if there is no answer or no such sentence."""
    answers = [answer for answer in question.get("answers", ()) if answer["text"]]
    if not answers:
        return None
    start = answers[0]["answer_start"]
    return next((i for i, (first, end) in enumerate(breaks) if first <= start < end), None)


def _objects(found: Found, on_warning: OnWarning | None) -> Iterator[Row]:
    """Mewsli-X's layout (articles with mentions, entities with descriptions), or objects with the format's names."""
    columns = found.file.columns if isinstance(found.file.columns, dict) else {}
    for path in found.paths:
        for line, value in OBJECTS[suffix(path)](path, on_warning):
            where = Row(value, path, line).where
            for query in mentions(value, where) if "mentions" in value else (_renamed(value, columns, where),):
                yield Row(query, path, line)
    for path in found.pair:
        for line, value in OBJECTS[suffix(path)](path, on_warning):
            where = Row(value, path, line).where
            yield Row(entity(value, where) if "entity_id" in value else _renamed(value, columns, where), path, line)


def _renamed(value: Mapping[str, Any], columns: Mapping[str, str], where: str) -> dict[str, Any]:
    found = {ours: nested_value(value, theirs) for ours, theirs in columns.items()}
    renamed = {**value, **{ours: item for ours, item in found.items() if item is not None}}
    if type(renamed.get("id")) is int:
        renamed["id"] = str(renamed["id"])
    if (relevant := renamed.get("relevant")) is not None:
        if not isinstance(relevant, list):
            raise DataError(f"relevant must be a list of ids, got {str(relevant)[:60]}", where=where)
        renamed["relevant"] = list(map(str, relevant))
    return renamed
