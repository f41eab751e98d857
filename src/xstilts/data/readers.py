"""Read the rows of any data file the tasks know, one at a time, refusing whatever is not as it should be."""

from __future__ import annotations

import codecs
import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, TypeAlias

from xstilts.data import conllu
from xstilts.data.find import PLAYGROUND, Found
from xstilts.errors import DataError, nearest
from xstilts.task import Row

Record: TypeAlias = tuple[int, dict[str, Any]]
"""Line number (or row number, in files without lines) and values."""


def read(found: Found, language: str, *, fields: tuple[str, ...], inputs: tuple[str, ...]) -> Iterator[Row]:
    """Yield the rows of a file, streaming.

    Args:
        found: the file, as `find` found it. Its name's ending, without `.gz`, says how to read it: `.tsv` (no quoting),
            `.csv`, `.jsonl`, `.json` (SQuAD's layout, or a list of objects), `.parquet`, `.conllu`; anything else has
            one sentence a line. Where `fields` has `words`, tsv and plain files have a token (and a tag) a line.
        language: fills `{lang}` in the file's `where`.
        fields: columns of a file without a header, in order.
        inputs: the fields that every row must have.

    Raises:
        DataError: a row cannot be read, an input is missing or empty, or the file has no rows.
    """
    reader = _Reader(found, language, fields, inputs)
    if found.file.part is None:
        yield from reader.rows()
        return
    number, parts = map(int, found.file.part.split("/"))
    total = sum(1 for _ in reader.rows())
    start, end = total * (number - 1) // parts, total * number // parts
    if start >= min(end, total):
        raise DataError(f"has {total} rows, which leaves none for part {found.file.part}", where=found.paths[0])
    yield from islice(reader.rows(), start, end)


def lines(path: str) -> Iterator[tuple[int, str]]:
    r"""Number and text of each line of a plain or gzipped UTF-8 file, without line end and byte order mark.

    Only `\n` ends a line (one `\r` before it goes too): U+2028, U+0085 and the like occur inside of sentences.

    Raises:
        DataError: not UTF-8, a damaged gzip file, or a file that cannot be read.
    """
    number = offset = 0
    try:
        with gzip.open(path) if path.endswith(".gz") else Path(path).open("rb") as stream:
            for number, raw in enumerate(stream, start=1):
                if number == 1 and raw.startswith(codecs.BOM_UTF8):
                    offset, raw = len(codecs.BOM_UTF8), raw.removeprefix(codecs.BOM_UTF8)
                yield number, raw.removesuffix(b"\n").removesuffix(b"\r").decode()
                offset += len(raw)
    except UnicodeDecodeError as error:
        raise DataError(f"is not UTF-8 at byte {offset + error.start}", where=f"{path}:{number}") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        what = f"is no whole gzip file: it breaks off after line {number}" if number else "is no gzip file"
        raise DataError(what, where=path) from error
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=path) from error


@cache  # the steps of a study read the same few thousand rows again and again
def _generated(path: str, language: str) -> list[dict[str, Any]]:
    """The rows of a `playground:KIND/SPLIT`."""
    from xstilts.playground import rows

    kind, _, split = path.removeprefix(PLAYGROUND).partition("/")
    return list(rows(kind, language, split))


@dataclass(frozen=True)
class _Reader:
    found: Found
    language: str
    fields: tuple[str, ...]
    inputs: tuple[str, ...]

    def rows(self) -> Iterator[Row]:
        """The rows of all paths that `where` lets through, checked."""
        wanted = {key: value.replace("{lang}", self.language) for key, value in (self.found.file.where or {}).items()}
        labels: set[str] | None = None
        for path in self.found.paths:
            empty = True
            for line, record in self.records(path):
                empty = False
                row = Row(self.renamed(record, f"{path}:{line}"), path, line)
                if all(_cell(row, column) == value for column, value in wanted.items()):
                    labels = self.check(row, labels)
                    yield row
            if empty:
                raise DataError("is empty", where=path)
        if labels is None:
            text = " and ".join(f"{column} = {value}" for column, value in wanted.items())
            raise DataError(f"has no row with {text}", where=self.found.paths[0])

    def check(self, row: Row, before: set[str] | None) -> set[str]:
        """Refuse a row without its inputs, or with other labels than the rows before; returns the labels it has."""
        for name in self.inputs:
            value = row.values.get(name)
            if value is None:
                raise DataError(f"has no {name}", where=row.where, hint=nearest(name, row.values))
            if value in ("", [], ()) or (isinstance(value, str) and not value.strip()):
                raise DataError(f"empty {name}", where=row.where)
            _check_text(value, name, row.where, words="words" in self.fields)
        labels = {name for name in self.fields if name not in self.inputs and row.values.get(name) is not None}
        if before is not None and labels != before:
            name = min(labels ^ before)
            what = f"has a {name}, the rows before have none" if name in labels else f"has no {name}"
            raise DataError(what, where=row.where, hint="a split has labels for all rows or for none")
        return labels

    def renamed(self, record: dict[str, Any], where: str) -> dict[str, Any]:
        """A record under our names; a column that is not there is a mistake only if it is an input."""
        columns = self.found.file.columns
        if not isinstance(columns, dict):
            return record
        found = {ours: _inside(record, theirs) for ours, theirs in columns.items()}
        for name in self.inputs:
            if name in found and found[name] is None:
                raise DataError(f"has no '{columns[name]}'", where=where, hint=nearest(columns[name], record))
        others = {name: value for name, value in record.items() if name not in columns}
        return others | {name: value for name, value in found.items() if value is not None}

    def records(self, path: str) -> Iterator[Record]:
        """The records of one path, read as the ending of its name says."""
        if path.startswith(PLAYGROUND):
            return enumerate(_generated(path, self.language), start=1)
        columns = self.found.file.columns
        ending = Path(path.removesuffix(".gz")).suffix.lower()
        records: Iterator[Record]
        if self.found.pair:
            records = _aligned(path, self.found.pair)
        elif ending in _OBJECTS:
            records = _OBJECTS[ending](path)
        elif ending == ".conllu":
            records = _sentences(conllu.sentences(lines(path), self.language, path))
        elif ending == ".csv":
            return self.table(_quoted(path), path)
        elif "words" in self.fields:
            records = _sentences(conllu.tagged(lines(path), self.language, path, tabs=ending == ".tsv"))
        elif ending == ".tsv" or columns is not None:
            return self.table(((line, text.split("\t")) for line, text in lines(path) if text), path)
        else:
            records = ((line, {self.inputs[0]: text}) for line, text in lines(path) if text.strip())
        if isinstance(columns, tuple):
            raise DataError("a list of `columns` is for tables without a header", where=path)
        return records

    def table(self, rows: Iterator[tuple[int, list[str]]], path: str) -> Iterator[Record]:
        """Rows of cells as records; names come from a header, from `columns`, or from the order of the fields."""
        columns = self.found.file.columns
        names: Sequence[str] = ()
        for line, cells in rows:
            if not names:
                if isinstance(columns, dict) or (columns is None and set(self.inputs) <= set(cells)):
                    names = cells
                    if twice := [name for name in names if name and names.count(name) > 1]:
                        raise DataError(f"the header names the column '{twice[0]}' twice", where=f"{path}:{line}")
                    continue
                names = self.positions(len(cells), f"{path}:{line}")
            if len(cells) != len(names):
                raise DataError(f"has {_columns(len(cells))}, the first row has {len(names)}", where=f"{path}:{line}")
            yield line, dict(zip(names, cells, strict=True))

    def positions(self, width: int, where: str) -> tuple[str, ...]:
        """Names for the cells of a file without a header; labels may be left off at the end."""
        columns = self.found.file.columns
        names = columns if isinstance(columns, tuple) else self.fields
        if width > len(names) or not set(self.inputs) <= set(names[:width]):
            labels = [name for name in names if name not in self.inputs]
            needs = ", ".join(self.inputs) + (f" (and {', '.join(labels)})" if labels else "")
            hint = "`columns` can name them" if width > len(names) else ""
            raise DataError(f"has {_columns(width)}, needs {needs}", where=where, hint=hint)
        return names[:width]


def _check_text(value: Any, name: str, where: str, *, words: bool) -> None:
    """Refuse what is no text (a number counts as text; words come as a list), and text that UTF-8 cannot hold."""
    listed = words and isinstance(value, list)
    fits = listed or (isinstance(value, str | int | float | Decimal) and not isinstance(value, bool))
    if not fits or value != value:
        raise DataError(f"{name} must be {'a list of words' if words else 'text'}, got {str(value)[:60]}", where=where)
    try:
        for text in value if listed else (value,):
            if isinstance(text, str):
                text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{name} holds half a character (a lone surrogate)", where=where) from error


def _columns(number: int) -> str:
    return "1 column" if number == 1 else f"{number} columns"


def _cell(row: Row, column: str) -> str:
    if column not in row.values:
        raise DataError(f"has no '{column}'", where=row.where, hint=nearest(column, row.values))
    return str(row.values[column])


def _inside(record: Any, name: str) -> Any:
    """The value called `name`, or the one that `question.choices.0.text` leads to; None if there is none."""
    if name in record:
        return record[name]
    for step in name.split("."):
        if isinstance(record, list) and step.isdecimal():
            record = dict(enumerate(record)).get(int(step))
        else:
            record = record.get(step) if isinstance(record, dict) else None
    return record


def _quoted(path: str) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(2**31 - 1)  # a cell may hold a whole article
    reader = csv.reader((text + "\n" for _, text in lines(path)), strict=True)
    start = 1
    try:
        for cells in reader:
            if cells:
                yield start, cells
            start = reader.line_num + 1
    except csv.Error as error:
        hint = "a quotation mark is left open, or not doubled inside of quotes"
        raise DataError(f"is not CSV: {error}", where=f"{path}:{start}", hint=hint) from error


def _sentences(sentences: Iterator[conllu.Tokens]) -> Iterator[Record]:
    for sentence in sentences:
        tags = {} if sentence.tags is None else {"tags": sentence.tags}
        yield sentence.line, {"words": sentence.words, **tags}


def _aligned(path: str, pair: str) -> Iterator[Record]:
    sides = lines(path), lines(pair)
    for number, (left, right) in enumerate(zip_longest(*sides), start=1):
        if left is None or right is None:
            most = number + sum(1 for side in sides for _ in side)
            counts = (most, number - 1) if right is None else (number - 1, most)
            raise DataError(f"has {counts[0]} lines, but its translation {pair} has {counts[1]}", where=path)
        yield number, {"source": left[1], "target": right[1]}


def _jsonl(path: str) -> Iterator[Record]:
    for line, text in lines(path):
        if text.strip():
            value = _parsed(text, path, line)
            if not isinstance(value, dict):
                raise DataError("is no JSON object", where=f"{path}:{line}")
            yield line, value


def _json(path: str) -> Iterator[Record]:
    """The questions of a file in SQuAD's layout, or the objects of a list."""
    whole = "\n".join(text for _, text in lines(path))
    document = _parsed(whole, path) if whole.strip() else []
    number = 0
    try:
        for article in document["data"] if isinstance(document, dict) else document:
            for paragraph in article.get("paragraphs", [{}]):
                for question in paragraph.get("qas", [{}]):
                    number += 1
                    merged = {**article, **paragraph, **question}
                    yield number, {key: merged[key] for key in merged if key not in ("paragraphs", "qas")}
    except (AttributeError, KeyError, TypeError) as error:
        raise DataError("is neither in SQuAD's layout nor a list of objects", where=path) from error


def _parsed(text: str, path: str, line: int = 0) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        hint = "" if line or error.msg != "Extra data" else "a file with one object a line is called .jsonl"
        where = f"{path}:{line or error.lineno}"
        raise DataError(f"is not JSON: {error.msg} at column {error.colno}", where=where, hint=hint) from error
    except (RecursionError, ValueError) as error:
        what = "is nested too deep" if isinstance(error, RecursionError) else "has a number with too many digits"
        raise DataError(what, where=f"{path}:{line}" if line else path) from error


def _parquet(path: str) -> Iterator[Record]:
    import pyarrow  # type: ignore[import-untyped]  # here, because it is slow to load and few files need it
    import pyarrow.parquet  # type: ignore[import-untyped]

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                for record in batch.to_pylist():
                    number += 1
                    yield number, record
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"is not Parquet: {error}", where=path) from error


_OBJECTS: dict[str, Callable[[str], Iterator[Record]]] = {
    ".jsonl": _jsonl, ".json-lines": _jsonl, ".ndjson": _jsonl, ".json": _json, ".parquet": _parquet,
}  # fmt: skip
