"""Knows a table's header by its names, and guesses which of its columns a task wants."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Sequence
from itertools import zip_longest
from typing import Any

from xstilts.errors import nearest, visible

COLUMN_NAMES = frozenset(
    "text texts sentence sentences premise hypothesis label labels review reviews tweet comment content question query "
    "context passage answer answers title body document message utterance headline token tokens tag tags id idx index "
    "guid lang language category class sentiment score rating stars target source input output gold split".split()
)
"""Words that name columns: a first row of these alone is a header."""
_IDS = frozenset("id ids idx index guid uuid key number row date time url lang language split".split())
_LABELS = frozenset("label labels tag tags class category sentiment score rating stars target gold".split())
_TEXTS = frozenset("text texts sentence review tweet comment content body title document message".split())


def is_like(name: str, wanted: str) -> bool:
    """Whether a column's name is nearly the wanted one: `Label`, `label `, `lable`, `gold_label`."""
    one, other = name.strip().casefold(), wanted.strip().casefold()
    return other in one or difflib.SequenceMatcher(None, one, other).ratio() >= 0.75


def looks_like_header(cells: Sequence[str]) -> bool:
    """Whether every cell is a usual name of a column, such as `sentence`, `Tweet_Text` or `label2`."""
    return all(re.fullmatch(r"[A-Za-z][\w -]{,40}", cell) and words_of(cell) <= COLUMN_NAMES for cell in cells)


def absent_inputs(inputs: Sequence[str], header: Sequence[str]) -> str:
    """The message on a header that lacks inputs."""
    absent = ", ".join(name for name in inputs if name not in header)
    cells = ", ".join(visible(name if len(name) <= 60 else f"{name[:59]}…") for name in header)
    return f"the header has {cells}; the task wants {absent}"


def column_hint(
    fields: Sequence[str], inputs: Sequence[str], header: Sequence[str], first: Sequence[str], file: str, setting: str
) -> str:
    """What to write where a header lacks an input: the nearest name, else the columns with the longest texts.

    Args:
        fields: the columns that the task wants.
        inputs: those that every row needs.
        header: the columns of the file.
        first: the cells of the first row; may be empty.
        file: the file, as the task names it.
        setting: the task's field that names the inputs; may be empty.
    """
    absent = [name for name in inputs if name not in header]
    if near := [hint for name in absent if (hint := nearest(name, header)).startswith("did you mean")]:
        return near[0]
    found = _text_columns(fields, header, first, len(absent))
    if len(found) < len(absent):
        return f"name its column: `{{path: {quoted(file)}, columns: {{{absent[0]}: ITS NAME}}}}`"
    names = dict(zip(absent, found, strict=True))
    label = label_column([name for name in header if name not in (*inputs, *found)], ())
    in_task = f"`{setting}: [{', '.join(quoted(names.get(name, name)) for name in inputs)}]`"
    if setting and fields[-1] not in header and label:
        in_task += f" and `label: {quoted(label)}`"
        names[fields[-1]] = label
    columns = ", ".join(f"{ours}: {quoted(theirs)}" for ours, theirs in names.items())
    in_file = f"`{{path: {quoted(file)}, columns: {{{columns}}}}}`"
    hint = f"write {in_task}, or for this file alone {in_file}" if setting else f"write {in_file}"
    return f"{hint}; if it is a row, `columns: [{inputs[0]}]`" if len(header) == 1 else hint


def field_hint(fields: Sequence[str], inputs: Sequence[str], header: Sequence[str], first: Sequence[str]) -> str:
    """What to add to the command line where a header lacks inputs of a prediction; arguments as in `column_hint`."""
    absent = [name for name in inputs if name not in header]
    found = _text_columns(fields, header, first, len(absent)) if len(header) > 1 else [*header]
    names = found if len(found) == len(absent) else ["COLUMN"] * len(absent)
    fields_named = " ".join(f"--field {ours}={theirs}" for ours, theirs in zip(absent, names, strict=True))
    a_row = "" if looks_like_header(header) else "; if it is a row, write a header above it"
    return f"such as {fields_named}{a_row}"


def _text_columns(fields: Sequence[str], header: Sequence[str], first: Sequence[str], most: int) -> list[str]:
    """The columns with the longest texts in the first row, as many as `most`, in the header's order."""
    cells = dict(zip_longest(header, first[: len(header)], fillvalue=""))
    texts = [name for name, cell in cells.items() if name not in fields and _may_be_text(name, cell)]
    longest = sorted(texts, key=lambda name: -len(cells[name]))[:most]
    return [name for name in header if name in longest]


def label_column(header: Sequence[str], first: Sequence[Any], labels: Collection[str] = ()) -> str:
    """The column that probably has the labels, by the first row or by its name; empty if there is none."""
    columns = [(name, cell) for name, cell in zip_longest(header, first) if not words_of(name) & _IDS]
    by_value = [name for name, cell in columns if str(cell).strip() in labels]
    return next(iter([*by_value, *(name for name, _ in columns if words_of(name) & _LABELS)]), "")


def _may_be_text(name: str, cell: str) -> bool:
    """Whether a column may hold texts, by its name and its first cell."""
    other = words_of(name) & (_IDS | _LABELS) and not words_of(name) & _TEXTS
    return bool(name.strip()) and not other and (not cell or any(map(str.isalpha, cell)))


def words_of(name: str) -> set[str]:
    """The words of a column's name: `Tweet_ID` has tweet and id."""
    return {word.lower() for word in re.findall(r"[A-Z]*[a-z]+|[A-Z]+", name)}


def is_id(name: str) -> bool:
    """Whether a column's name says that it has numbers, dates or codes, not texts or labels."""
    return bool(words_of(name) & _IDS)


def is_label(name: str) -> bool:
    """Whether a column's name says that it has labels."""
    return bool(words_of(name) & _LABELS)


def quoted(text: str) -> str:
    """A text as YAML, in quotation marks where it needs them."""
    if re.fullmatch(r"\w[\w ./-]*(?<! )", text) and text.isprintable() and text.lower() != "null":
        return text
    escaped = (one if one.isprintable() else _escaped(one) for one in json.dumps(text, ensure_ascii=False))
    return "".join(escaped)


def _escaped(character: str) -> str:
    """A character as YAML writes it inside quotation marks."""
    return f"\\u{ord(character):04x}" if ord(character) < 0x10000 else f"\\U{ord(character):08x}"
