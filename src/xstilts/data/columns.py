"""Counts what the columns of a data file hold, knows whether its first row is a header; what is guessed of a file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, zip_longest
from typing import Any

from xstilts import languages
from xstilts.data import tables
from xstilts.data.file_names import SPLIT_WORDS
from xstilts.data.headers import COLUMN_NAMES, looks_like_header
from xstilts.data.lines import lines
from xstilts.data.records import OBJECTS, suffix
from xstilts.errors import DataError
from xstilts.tasks.shorthand import SPLITS

MOST_VALUES = 1000
"""So many values of a column are told apart."""
_LANGUAGE_COLUMNS = ("lang", "language", "lang_code", "locale")
_ROWS = 50
"""So many rows tell a header from a row."""


@dataclass
class Column:
    """A column's name and what its cells hold."""

    name: str
    rows: int = 0
    """Rows that have it, also empty."""
    values: Counter[str] = field(default_factory=Counter)
    """How often each value occurs, but only those of the first `MOST_VALUES`."""
    characters: int = 0
    blanks: int = 0
    """Blanks inside of its texts."""
    kinds: Counter[str] = field(default_factory=Counter)
    """`text`, `number`, `list` or `object`, by the number of rows."""
    longest: int = 0
    """The most entries of a list."""

    def add(self, value: Any) -> None:
        """Count a cell."""
        self.rows += 1
        if value is None or value == "":
            return
        if isinstance(value, list | dict):
            self.kinds["list" if isinstance(value, list) else "object"] += 1
            entries = value.get("text") if isinstance(value, dict) else value
            self.longest = max(self.longest, len(entries) if isinstance(entries, list) else 0)
            return
        text = str(value).strip()
        is_number = not isinstance(value, str) or re.fullmatch(r"[+-]?\d+([.,]\d+)?", text)
        self.kinds["number" if is_number else "text"] += 1
        self.characters += len(text)
        self.blanks += text.count(" ")
        if text and (text in self.values or len(self.values) < MOST_VALUES):
            self.values[text] += 1

    @property
    def kind(self) -> str:
        """The kind of most of its cells; empty if all are empty."""
        return max(self.kinds, key=lambda kind: self.kinds[kind], default="")

    @property
    def filled(self) -> int:
        """The rows with a value."""
        return self.kinds.total()

    @property
    def repeats(self) -> bool:
        """Whether few values, of a few words each, are those of all rows."""
        few = len(self.values) <= 20 and 2 * len(self.values) <= self.filled and len(self.values) > 1
        return few and self.blanks <= 3 * self.filled and self.kind in ("text", "number")


@dataclass(frozen=True)
class Table:
    """The columns of a file; `header` tells whether the file names them, `rows` how many rows it has."""

    columns: dict[str, Column]
    header: bool
    rows: int


def table(path: str, named: Sequence[str] = ()) -> Table:
    """Count the columns of a table or of a file of records; a file without a header numbers its columns from 1.

    Args:
        path: the file.
        named: columns that the user names; a first row with one of them is a header.

    Raises:
        DataError: the file cannot be read, or it is empty.
    """
    if suffix(path) in OBJECTS:
        return _of_records(path)
    rows = (cells for _, cells in tables.rows(path, COLUMN_NAMES, None))
    first = next(rows, None)
    if first is None:
        raise DataError("is empty", where=path)
    beginning = list(islice(rows, _ROWS))
    header = bool({*named} & {*first}) or _is_header(first, beginning)
    if not header:
        beginning.insert(0, first)
    names = list(first) if header else [str(number) for number in range(1, len(first) + 1)]
    if twice := [name for name in names if names.count(name) > 1]:
        raise DataError(f"the header names the column '{twice[0]}' twice", where=f"{path}:1")
    columns = [Column(name) for name in names]
    for cells in chain(beginning, rows):
        for column, cell in zip(columns, cells, strict=False):
            column.add(cell)
    if not columns[0].rows:
        raise DataError("has a header and no rows", where=path)
    return Table({column.name: column for column in columns}, header, columns[0].rows)


def _of_records(path: str) -> Table:
    columns: dict[str, Column] = {}
    count = 0
    for _, record in OBJECTS[suffix(path)](path, None):
        count += 1
        for name, value in record.items():
            columns.setdefault(name, Column(name)).add(value)
    if not count:
        raise DataError("is empty", where=path)
    return Table(columns, True, count)


def _is_header(first: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether a first row names columns: by usual names, or because it looks unlike the rows below it."""
    if looks_like_header(first):
        return True
    if len({*first}) < len(first) or not all(re.fullmatch(r"[^\W\d][\w .#%?/()-]{,40}", cell) for cell in first):
        return False
    if not rows or any(len(cell.split()) > 3 for cell in first):
        return False
    below = [[row[i] for row in rows if i < len(row)] for i in range(len(first))]
    if any(name in cells for name, cells in zip(first, below, strict=True)):
        return False
    usual = {word.lower() for name in first for word in re.findall(r"[A-Z]*[a-z]+|[A-Z]+", name)} & COLUMN_NAMES
    numbers = any(cells and all(re.fullmatch(r"[+-]?\d+([.,]\d+)?", cell) for cell in cells) for cells in below)
    few = any(len({*cells}) * 2 <= len(cells) for cells in below)
    return bool(usual) or numbers or few


def language_column(read: Table | None) -> tuple[str, list[str]]:
    """The column with the language of each row, and the codes; empty if there is none."""
    for name in _LANGUAGE_COLUMNS:
        column = read.columns.get(name) if read else None
        codes = [*column.values] if column else []
        if codes and all(languages.named_by(code) == code for code in codes):
            return name, codes
    return "", []


def split_column(read: Table | None) -> tuple[str, dict[str, str]]:
    """The column with the split of each row, and its value for each split; empty if there is none."""
    for column in read.columns.values() if read else ():
        values = {SPLIT_WORDS.get(value.lower(), ""): value for value in column.values}
        if {"train"} < values.keys() and "" not in values and len(values) == len(column.values):
            return column.name, {split: values[split] for split in SPLITS if split in values}
    return "", {}


def token_lines(path: str, most: int) -> Iterator[list[str] | None]:
    """Yield the cells of the first lines of a file with a word a line; None for an empty line."""
    for _, text in islice(lines(path, lambda *_: None), most):
        if text.startswith(("# ", "-DOCSTART-")):
            continue
        yield (text.split("\t") if "\t" in text else text.split()) if text.strip() else None


def widest(rows: Iterable[Sequence[str]]) -> list[list[str]]:
    """The columns of rows of cells; a shorter row has empty cells."""
    return [list(column) for column in zip_longest(*rows, fillvalue="")]


@dataclass(frozen=True)
class Guess:
    """A format with its fields, and how the file calls the columns."""

    format: str
    fields: dict[str, Any] = field(default_factory=dict)
    comments: dict[str, str] = field(default_factory=dict)
    """What the user may correct, by field."""
    columns: dict[str, str] | tuple[str, ...] | None = None
    """Those of the file, where they are not the task's."""
    table: Table | None = None
    classes: tuple[str, ...] = ()
    """The names of labels that the file numbers."""

    @property
    def inputs(self) -> list[str]:
        """The columns of texts."""
        columns = [self.fields.get(key, []) for key in ("texts", "context", "stem", "endings")]
        return [name for names in columns for name in names]


@dataclass(frozen=True)
class Named:
    """The columns that the user names."""

    texts: tuple[str, ...] = ()
    label: str = ""

    @property
    def all(self) -> tuple[str, ...]:
        """Their names."""
        return (*self.texts, *((self.label,) if self.label else ()))
