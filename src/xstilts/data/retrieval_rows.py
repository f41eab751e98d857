"""Read sentences that look for others: BUCC's with ids, XQuAD-R's questions, Mewsli-X's mentions, or one's own JSON.

All give the same rows: what looks ({"query", "id", "relevant": ids of what is right}), then what may be found
({"candidate", "id"}). Without labels there is no `relevant`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

from xstilts.data.find import Found
from xstilts.data.lines import OnWarning, lines
from xstilts.data.mentions import entity, mentions
from xstilts.data.records import OBJECTS, document, ending, inside, reject_surrogates
from xstilts.errors import DataError
from xstilts.formats.base import Row

Wanted: TypeAlias = dict[tuple[str, str], str]
"""Kind (`query` or `candidate`) and id of rows that must come, and where they are named."""


def rows(found: Found, is_query: Callable[[Row], bool], on_warning: OnWarning | None) -> Iterator[Row]:
    """The rows of a pool, checked.

    Args:
        found: sentences with ids (`id TAB text`), questions in XQuAD-R's layout (`.json`), or objects; its `pair` is
            what may be found, its `gold` says which belong together.
        is_query: whether a query is to be taken.
        on_warning: receives a warning for each line that is not UTF-8; if None, such lines are errors.

    Raises:
        DataError: a row without its text or id, an id given twice, a right one that is not there, no candidate at all.
    """
    for name, odd_there in (("part", found.file.part), ("classes", found.file.classes)):
        if odd_there:
            raise DataError(f"`{name}` is not for sentences that look for others", where=found.paths[0])
    if isinstance(found.file.columns, tuple):
        raise DataError("a list of `columns` is for tables without a header", where=found.paths[0])
    wanted: Wanted = {}
    if ending(found.paths[0]) == ".json" and found.pair:
        made = _questions(found)
    elif ending(found.paths[0]) in OBJECTS:
        made = _objects(found, on_warning)
    else:
        made = _sentences(found, wanted, on_warning)
    yield from _checked((row for row in made if "query" not in row.values or is_query(row)), wanted, found)


def _checked(made: Iterator[Row], wanted: Wanted, found: Found) -> Iterator[Row]:
    seen: dict[tuple[str, str], tuple[str, int | str]] = {}
    labelled: bool | None = None
    for row in made:
        kind = "query" if "query" in row.values else "candidate"
        _check_text(row, kind)
        key = kind, row.values["id"]
        if key in seen:
            raise DataError(f"the id '{key[1]}' stands in {Row({}, *seen[key]).where} too", where=row.where)
        seen[key] = row.file, row.line
        if kind == "query":
            labelled = _labelled(row, labelled)
            for id in row.values.get("relevant") or ():
                wanted.setdefault(("candidate", id), row.where)
        yield row
    if labelled is None:
        raise DataError("has no query", where=found.paths[0])
    if not any(kind == "candidate" for kind, _ in seen):
        raise DataError("holds nothing that could be found", where=(found.pair or found.paths)[0])
    unknown = [(id, where) for (kind, id), where in wanted.items() if (kind, id) not in seen]
    if unknown:
        (id, where), more = unknown[0], len(unknown) - 1
        others = f", and {more:,} more ids are unknown" if more else ""
        raise DataError(f"names the id '{id}', which stands nowhere{others}", where=where)


def _labelled(row: Row, before: bool | None) -> bool:
    """Whether a query has labels, which the queries before must have too or not have either."""
    now = row.values.get("relevant") is not None
    if before is not None and now != before:
        what = "has a `relevant`, the rows before have none" if now else "has no `relevant`"
        raise DataError(what, where=row.where, hint="a split has labels for all rows or for none")
    return now


def _check_text(row: Row, kind: str) -> None:
    for name in (kind, "id"):
        value = row.values.get(name)
        if not isinstance(value, str):
            what = f"has no {name}" if value is None else f"{name} must be text, got {str(value)[:60]}"
            raise DataError(what, where=row.where)
        if not value.strip():
            raise DataError(f"empty {name}", where=row.where)
    reject_surrogates(row, (kind, "id", "relevant"))


def _sentences(found: Found, wanted: Wanted, on_warning: OnWarning | None) -> Iterator[Row]:
    """BUCC's layout: two files of `id TAB text`, and a list of the pairs (`id TAB id`) if there is one."""
    right: dict[str, list[str]] | None = {} if found.gold else None
    for first, second, where in _pairs(found.gold) if found.gold else ():
        assert right is not None
        right.setdefault(first, [])
        if second not in right[first]:
            right[first].append(second)
        wanted.setdefault(("query", first), where)
        wanted.setdefault(("candidate", second), where)
    for path in found.paths:
        for line, id, text in _numbered(path, on_warning):
            relevant = {} if right is None else {"relevant": right.get(id, [])}
            yield Row({"query": text, "id": id, **relevant}, path, line)
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
            raise DataError("is no pair of ids with a tab between them", where=f"{path}:{line}")
        yield ids[0], ids[1], f"{path}:{line}"
    if not line:
        raise DataError("is empty", where=path)


def _questions(found: Found) -> Iterator[Row]:
    """XQuAD-R's layout: questions look for the sentence that holds their answer, in all languages' articles.

    A candidate is the sentence alone. Its id is made of language, paragraph (from 1) and sentence (from 0), as in
    XTREME-R's `utils_lareqa.py`; equal sentences of a paragraph are right together, as they are there.
    """
    try:
        right, candidates = _sentences_of(found.pair)
        for path in found.paths:
            for question in chain.from_iterable(paragraph["qas"] for paragraph in _paragraphs(path)):
                id = str(question["id"])
                labels = {"relevant": right[id]} if id in right else {}
                yield Row({"query": question["question"], "id": id, **labels}, path, f"question {id}")
        yield from candidates
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        what = f"is not in XQuAD-R's layout ({type(error).__name__}: {error})"
        raise DataError(what, where=" or ".join(dict.fromkeys((*found.paths, *found.pair)))) from error


def _sentences_of(paths: Sequence[str]) -> tuple[dict[str, list[str]], list[Row]]:
    """The sentences that are right for each question, by its id, and all sentences."""
    right: dict[str, list[str]] = {}
    candidates: list[Row] = []
    for path in paths:
        language = Path(path.removesuffix(".gz")).stem.rpartition(".")[2]
        for number, paragraph in enumerate(_paragraphs(path), start=1):
            sentences = _cut(paragraph, f"{path}: paragraph {number}")
            ids = [f"{language}_{number}_{position}" for position in range(len(sentences))]
            for id, text in zip(ids, sentences, strict=True):
                candidates.append(Row({"candidate": text, "id": id}, path, f"sentence {id}"))
            for question in paragraph["qas"]:
                holding = _holding(question, paragraph["sentence_breaks"])
                if holding is not None:
                    same = [id for id, text in zip(ids, sentences, strict=True) if text == sentences[holding]]
                    right.setdefault(str(question["id"]), []).extend(same)
    return right, candidates


def _paragraphs(path: str) -> Iterator[dict[str, Any]]:
    for article in document(path):
        yield from article["paragraphs"]


def _cut(paragraph: Mapping[str, Any], where: str) -> list[str]:
    if "sentence_breaks" not in paragraph:
        raise DataError("has no sentence_breaks", where=where, hint="XQuAD-R has them, XQuAD has not")
    return [paragraph["context"][first:end] for first, end in paragraph["sentence_breaks"]]


def _holding(question: Mapping[str, Any], breaks: list[list[int]]) -> int | None:
    """The number of the sentence in which the first answer begins; None without an answer, or between sentences."""
    answers = [answer for answer in question.get("answers", ()) if answer["text"]]
    if not answers:
        return None
    at = answers[0]["answer_start"]
    return next((i for i, (first, end) in enumerate(breaks) if first <= at < end), None)


def _objects(found: Found, on_warning: OnWarning | None) -> Iterator[Row]:
    """Mewsli-X's layout (articles with mentions, entities with descriptions), or objects that have our names."""
    columns = found.file.columns if isinstance(found.file.columns, dict) else {}
    for path in found.paths:
        for line, value in OBJECTS[ending(path)](path, on_warning):
            where = Row(value, path, line).where
            for made in mentions(value, where) if "mentions" in value else (_named(value, columns, where),):
                yield Row(made, path, line)
    for path in found.pair:
        for line, value in OBJECTS[ending(path)](path, on_warning):
            where = Row(value, path, line).where
            yield Row(entity(value, where) if "entity_id" in value else _named(value, columns, where), path, line)


def _named(value: Mapping[str, Any], columns: Mapping[str, str], where: str) -> dict[str, Any]:
    found = {ours: inside(value, theirs) for ours, theirs in columns.items()}
    made = {**value, **{ours: one for ours, one in found.items() if one is not None}}
    if type(made.get("id")) is int:
        made["id"] = str(made["id"])
    if (relevant := made.get("relevant")) is not None:
        if not isinstance(relevant, list):
            raise DataError(f"relevant must be a list of ids, got {str(relevant)[:60]}", where=where)
        made["relevant"] = list(map(str, relevant))
    return made
