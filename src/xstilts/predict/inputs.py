"""Reads the rows to predict: files and the standard input, as lines, JSON lines, tables or tokens."""

from __future__ import annotations

import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import IO, Literal, TypeAlias

from xstilts.data.examples import Defects
from xstilts.data.find import Found
from xstilts.data.headers import looks_like_header
from xstilts.data.lines import COMPRESSED, STDIN, lines
from xstilts.data.readers import read
from xstilts.data.records import OBJECTS, json_lines, nested_value, suffix
from xstilts.data.row_mistakes import RowMistakes
from xstilts.data.tables import JSON_OBJECT
from xstilts.errors import DataError, UserError, counted
from xstilts.formats import Tag
from xstilts.formats.base import Format, Row
from xstilts.predict.predictor import row_size
from xstilts.tasks.source import File

Layout: TypeAlias = Literal["lines", "jsonl", "csv", "tsv", "conll"]
"""How a file has its rows; `conll` is a word a line, blank lines between sentences."""

_TOKENS = (".conll", ".conllu", ".bio", ".iob", ".iob2", ".tsv")
_SUFFIXES: Mapping[Layout, str] = {"jsonl": ".jsonl", "csv": ".csv", "tsv": ".tsv", "conll": ".conll"}
"""By layout, the suffix by which the readers know it."""


@dataclass
class RowReader:
    """Reads the rows that a format's predictions need, and collects those that cannot be read."""

    format: Format
    columns: Mapping[str, str] = field(default_factory=dict)
    """The names of columns in the files, by the names that the format has for them."""
    layout: Layout | None = None
    """Of all files; by default each file's name tells."""
    language: str = "en"
    mistakes: RowMistakes = field(default_factory=RowMistakes)
    warnings: Defects = field(default_factory=Defects)
    blank: int = 0
    """Blank lines, which have no prediction."""
    layouts: dict[str, Layout | None] = field(default_factory=dict)
    """Of the files that were read."""

    def layout_of(self, path: str, first: str) -> Layout | None:
        """The layout of a file, by its name and its first line; None for JSON documents and Parquet.

        Raises:
            UserError: a file of text may have a sentence or a word a line.
        """
        kind = suffix(path)
        if self.layout:
            return self.layout
        if path == STDIN or kind not in (*OBJECTS, ".csv", *_TOKENS):
            if JSON_OBJECT.match(first):
                return "jsonl"
            if path != STDIN and isinstance(self.format, Tag) and "\t" not in first:
                hint = "--input lines: a text a line; --input conll: a word a line"
                raise UserError("may have a text or a word a line", where=path, hint=hint)
            return "conll" if path != STDIN and isinstance(self.format, Tag) else "lines"
        if kind in OBJECTS:
            return "jsonl" if OBJECTS[kind] is json_lines else None
        if kind == ".csv":
            return "csv"
        return "conll" if isinstance(self.format, Tag) and not self.columns else "tsv"

    def rows(self, path: str) -> Iterator[Row]:
        """Yield the rows of a file, or of `STDIN`.

        Raises:
            DataError: the file cannot be read further; rows that lack a text go to `mistakes`.
        """
        numbered = lines(path, None, _open_stdin() if path == STDIN else None)
        head = [] if suffix(path) in (*OBJECTS, ".csv", *_TOKENS) else [*islice(numbered, 1)]
        numbered = chain(head, numbered)
        layout = self.layouts[path] = self.layout_of(path, head[0][1] if head else "")
        if layout == "lines":
            yield from self._lines(numbered, path)
        elif path != STDIN:
            yield from self._file(path, layout)
        elif layout == "jsonl":
            yield from self._json(numbered)
        else:
            with _spooled(numbered, layout) as copy:
                yield from self._file(copy, layout, STDIN)

    def _lines(self, numbered: Iterator[tuple[int, str]], path: str) -> Iterator[Row]:
        for number, text in numbered:
            if number == 1 and len(cells := re.split("[,;\t]", text)) > 1 and looks_like_header(cells):
                raise DataError("is a table's header, not a text", where=f"{path}:1", hint="--input csv or tsv")
            if not text.strip():
                self.blank += 1
                continue
            with self.mistakes.catch():
                yield Row(self.format.row_of(text.split("\t"), f"{path}:{number}"), path, number)

    def _json(self, numbered: Iterator[tuple[int, str]]) -> Iterator[Row]:
        for number, record in json_lines(STDIN, None, numbered):
            named = {ours: nested_value(record, theirs) for ours, theirs in self.columns.items()}
            yield Row(record | {name: value for name, value in named.items() if value is not None}, STDIN, number)

    def _file(self, path: str, layout: Layout | None, name: str = "") -> Iterator[Row]:
        """Yield the rows of a file that messages call `name`."""
        form = self.format
        fields, inputs = form.fields, form.inputs
        if layout != "conll" and form.raw_text:
            fields = inputs = (form.raw_text,)
            if layout in ("jsonl", None) and form.raw_text not in self.columns:
                inputs = ()  # a row may have words instead
        with _named(path, layout) as own:
            found = Found(File(path=own, columns=dict(self.columns) or None), (own,))
            shown = name or path
            try:
                rows = read(found, self.language, fields=fields, inputs=inputs, labels=False,
                            on_warning=self._on_warning(own, shown), on_error=self._on_error(own, shown))  # fmt: skip
                for number, row in enumerate(rows):
                    if number == 0 and layout == "conll" and any(" " in cell for cell in _cells(row)):
                        hint = "is it a table of texts? name their column: --field text=COLUMN"
                        raise DataError("has words or tags with blanks", where=row.where, hint=hint)
                    yield Row(row.values, shown, row.line)
            except DataError as error:
                raise _renamed(error, own, shown) from error

    def _on_warning(self, own: str, shown: str) -> Callable[[str, str], None]:
        return lambda message, where: self.warnings.note(message, where.replace(own, shown))

    def _on_error(self, own: str, shown: str) -> Callable[[DataError], None]:
        return lambda error: self.mistakes.receive(_renamed(error, own, shown))

    def notes(self) -> Iterator[str]:
        """Lines on what a user should know of the rows that were read."""
        yield from self.warnings.lines()
        if self.blank:
            yield f"{counted(self.blank, 'blank line')} left out"


def as_they_come(rows: Iterator[Row], most: int, characters: int) -> Iterator[list[Row]]:
    """Groups of the rows that wait: at least one, at most `most`, and so many `characters` unless one alone has more.

    A thread reads the rows, and waits while so many wait. So a row from a slow pipe is in a group at once.
    """
    waiting = _Waiting(most, characters)
    threading.Thread(target=waiting.read, args=(rows,), daemon=True).start()
    while group := waiting.take():
        yield group


class _Waiting:
    """The rows that one thread has read and the other has not taken."""

    def __init__(self, most: int, characters: int) -> None:
        self._most, self._most_characters = most, characters
        self._rows, self._characters = list[Row](), 0
        self._ended = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()

    def read(self, rows: Iterator[Row]) -> None:
        """Add all rows, each as soon as it fits."""
        error: BaseException | None = None
        try:
            for row in rows:
                self._add(row, row_size(row))
        except BaseException as raised:  # `take` raises it
            error = raised
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def _add(self, row: Row, size: int) -> None:
        with self._changed:
            while len(self._rows) >= self._most or (self._rows and self._characters + size > self._most_characters):
                self._changed.wait()
            self._rows.append(row)
            self._characters += size
            self._changed.notify_all()

    def take(self) -> list[Row]:
        """The rows that wait; waits for the first. None are left if there are none; raises the error of reading."""
        with self._changed:
            self._changed.wait_for(lambda: self._rows or self._ended)
            rows, self._rows, self._characters = self._rows, [], 0
            self._changed.notify_all()
        if not rows and self._error is not None:
            raise self._error
        return rows


def _cells(row: Row) -> list[str]:
    """The words of a sentence and their tags."""
    return [*row.values["words"], *(row.values.get("tags") or ())]


def _renamed(error: DataError, own: str, shown: str) -> DataError:
    """The error of a file that has another name for the readers."""
    return DataError(error.message, where=error.where.replace(own, shown), hint=error.hint)


@contextmanager
def _named(path: str, layout: Layout | None) -> Iterator[str]:
    """The path of a file by a name whose suffix tells its layout: a link if its own does not."""
    wanted = _SUFFIXES.get(layout) if layout else None
    known = suffix(path)
    is_tokens = layout == "conll" and known in _TOKENS
    if wanted is None or known == wanted or is_tokens or not Path(path).exists():
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        compression = Path(path).suffix if Path(path).suffix in COMPRESSED else ""
        link = Path(folder, f"rows{wanted}{compression}")
        link.symlink_to(Path(path).resolve())
        yield str(link)


@contextmanager
def _spooled(numbered: Iterator[tuple[int, str]], layout: Layout | None) -> Iterator[str]:
    """A temporary file with these lines, for readers that look at a file twice."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, f"rows{_SUFFIXES[layout or 'tsv']}")
        with copy.open("w", encoding="utf-8", newline="") as file:
            file.writelines(f"{text}\n" for _, text in numbered)
        yield str(copy)


def _open_stdin() -> IO[bytes]:
    """The standard input in a file of its own: a thread may wait in it when Python ends."""
    return open(sys.stdin.fileno(), "rb", closefd=False)
