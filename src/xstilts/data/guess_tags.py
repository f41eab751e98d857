"""Guesses which columns of a file have words and tags."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from xstilts.data.columns import Column, Guess, Named, Table, token_lines, widest
from xstilts.data.conllu import COLUMNS, TAG_HEADS, UPOS, WORD_HEADS
from xstilts.data.records import OBJECTS, suffix
from xstilts.errors import UserError
from xstilts.formats.base import NO_LABEL
from xstilts.metrics.chunks import miscounted

_LINES = 2000
"""So many lines show whether a file has a word a line."""


def tagged(path: str) -> Guess | None:
    """The guess for a file with a word and its tag a line; None if it is another kind of file."""
    found = list(token_lines(path, _LINES))
    rows = [row for row in found if row is not None]
    if not rows or min(map(len, rows)) < 2:
        return None
    columns = widest(rows)
    tags = [cells for cells in columns[1:] if _are_tags(cells[1:] or cells)]
    same_width = len({len(row) for row in rows}) == 1
    words = all(" " not in row[0].strip() for row in rows)
    sentences = None in found[:-1] and len({*columns[-1]}) * 2 <= len(columns[-1])
    if not words or not same_width or not (tags or sentences):
        return None
    return _tag_columns(path, columns)


def _are_tags(cells: Sequence[str]) -> bool:
    """Whether cells are BIO tags, or parts of speech."""
    bio = "O" in cells and all(re.fullmatch("O|[BIES]-.+", cell) for cell in cells)
    return bio or (len(cells) > 1 and all(cell in UPOS or cell == "_" for cell in cells) and {*cells} != {"_"})


def _tag_columns(path: str, columns: list[list[str]]) -> Guess:
    numbers = [cell for cell in columns[0] if re.fullmatch(r"\d+([-.]\d+)*", cell)]
    if len(numbers) < len(columns[0]):
        return Guess("tag", *_tag_fields({*columns[-1][_header_lines(columns) :]}))
    if len(columns) == COLUMNS and any(not number.isdecimal() for number in numbers):
        raise UserError("is CoNLL-U", where=path, hint="rename it to .conllu")
    if len(columns) < 3:
        raise UserError("numbers its words, but has no tags", where=path)
    at = next((i for i, cells in enumerate(columns) if i > 1 and _are_tags(cells)), len(columns) - 1)
    names = tuple({0: "number", 1: "words", at: "tags"}.get(i, f"column{i + 1}") for i in range(len(columns)))
    fields, comments = _tag_fields({*columns[at]})
    return Guess("tag", fields, comments, names)


def _header_lines(columns: list[list[str]]) -> int:
    """1 if the first line names the columns, else 0."""
    first = [re.sub("[^a-z]", "", cells[0].lower()) for cells in columns]
    return int(not WORD_HEADS.isdisjoint(first) and not TAG_HEADS.isdisjoint(first))


def _tag_fields(tags: Collection[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """The metric of tags, with the reason."""
    if found := miscounted(sorted(tags)):
        return {"metrics": ["token_accuracy"]}, {"metrics": found[0]}
    return {"metrics": ["chunk_f1"]}, {"metrics": "whole chunks of B- and I- tags, or runs of equal tags"}


def records_with_tags(path: str, read: Table, columns: Mapping[str, Column], named: Named) -> Guess | None:
    """The guess for records with lists of words and tags; refuses a CSV with a word a row."""
    plain = {name: re.sub("[^a-z]", "", name.lower()) for name in columns}
    words = [name for name in columns if plain[name] in WORD_HEADS]
    tags = [name for name in columns if plain[name] in TAG_HEADS]
    if suffix(path) in (".csv", ".tsv"):
        single = words and columns[words[0]].blanks == 0 and columns[words[0]].kind == "text"
        if single and tags and plain[words[0]] in ("word", "words", "token", "tokens") and not named.all:
            hint = "write a word, a tab and its tag a line, and a blank line after each sentence, as .tsv"
            raise UserError("has a word a row", where=path, hint=hint)
        return None
    words = [name for name in words if columns[name].kind == "list"]
    tags = [name for name in tags if columns[name].kind == "list"]
    if not words or not tags:
        return None
    found: set[str] = set()
    for _, record in OBJECTS[suffix(path)](path, None):
        found.update(map(str, record.get(tags[0]) or ()))
    if found and all(tag.isdecimal() for tag in found):
        hint = f"write their names into the file, or into the task as `classes`, from 0 to {max(map(int, found))}"
        raise UserError("has numbers as tags", where=path, hint=hint)
    names = {ours: theirs for ours, theirs in (("words", words[0]), ("tags", tags[0])) if ours != theirs}
    fields, comments = _tag_fields(found - {NO_LABEL})
    return Guess("tag", fields, comments, names or None, read)
