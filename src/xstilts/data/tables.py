"""Reads the rows of tables, comma- or tab-separated, as cells; refuses a table with other separators."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterator, Sequence
from itertools import islice

from xstilts.data import tsv_quotes
from xstilts.data.headers import looks_like_header
from xstilts.data.lines import OnWarning, lines
from xstilts.data.records import Record, suffix
from xstilts.errors import DataError

_SAVE = "save it with commas as .csv, or with tabs as .tsv"
SEPARATORS = {",": ("commas", "rename it to .csv"), "\t": ("tabs", "rename it to .tsv"),
              ";": ("semicolons", _SAVE), "|": ("vertical bars", _SAVE), "\n": ("one text a line", "")}  # fmt: skip
"""The name of each separator, and what to do with a table that has it instead of its own."""
JSON_OBJECT = re.compile(r'\s*\{\s*"[^"]*"\s*:')
"""How a line with a JSON object begins."""
LABELS = 100
"""So many values of the last column are no labels, but texts."""
FIRST = 5
"""So many lines show a separator, at least three."""


def rows(
    path: str, names: Collection[str], on_warning: OnWarning | None, note: OnWarning | None = None
) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and cells of each row of a table that is not blank.

    Args:
        path: the file; `.csv` is comma-separated, other suffixes tab-separated.
        names: the columns that the task knows; a first row with one of them is a header.
        on_warning: as in `lines`.
        note: receives each cell of several lines that look like rows.

    Raises:
        DataError: the table has another separator, or is not CSV.
    """
    own = "," if suffix(path) == ".csv" else "\t"
    _check_separator(path, own, names, on_warning)
    return _comma_separated(path, on_warning, note) if own == "," else _tab_separated(path, names, on_warning)


def texts(path: str, name: str, names: Collection[str], on_warning: OnWarning | None) -> Iterator[Record]:
    """Yield each line that is not blank, of a file with one text a line, under a `name`; refuses a table."""
    if len(names) > 1:
        _check_separator(path, "\n", names, on_warning)
    else:
        _first_lines(path, on_warning)
    return ((line, {name: text}) for line, text in lines(path, on_warning) if text.strip())


def _check_separator(path: str, own: str, names: Collection[str], on_warning: OnWarning | None) -> None:
    """Refuse a table with another separator than its own; in a file of sentences that is a line's end."""
    first = _first_lines(path, on_warning)
    for other, (name, hint) in SEPARATORS.items():
        shown = first if own != "\n" or other == "\t" else first[:1]  # each of some sentences may have a comma
        if _separates(other, shown, names) and not _separates(own, first, names):
            message = f"has {name} between its columns, not {SEPARATORS[own][0]}"
            raise DataError(message, where=path, hint=hint)


def _first_lines(path: str, on_warning: OnWarning | None) -> list[str]:
    """The first lines of a file that are not blank.

    Raises:
        DataError: they are JSON, or Excel's `sep=;`.
    """
    first = [text for _, text in islice(lines(path, on_warning and (lambda *_: None)), FIRST) if text.strip()]
    if first and re.fullmatch('"?sep=."?', first[0]):
        raise DataError(f"begins with Excel's line `{first[0]}`", where=path, hint="delete this line")
    if first and JSON_OBJECT.match(first[0]):
        raise DataError("has JSON objects", where=path, hint="rename it to .jsonl")
    return first


def _separates(separator: str, first: Sequence[str], names: Collection[str]) -> bool:
    """Whether the first lines look like rows with this separator: by the header, or as often in each line."""
    header = [cell.strip(' "') for cell in first[0].split(separator)] if first else []
    if len(header) > 1 and (not set(names).isdisjoint(header) or looks_like_header(header)):
        return True
    counts = {text.count(separator) for text in first}
    return len(names) > 1 and len(first) > 2 and len(counts) == 1 and counts != {0}


def width_hint(cells: Sequence[str], header: Sequence[str]) -> str:
    """What to do about a row that has another number of cells than the header."""
    if len(cells) == len(header) + 1 and cells[0].strip('"') == "1":
        return "are the first cells R's row names? write it with `row.names = FALSE`"
    open_quote = any(cell.count('"') % 2 for cell in cells)
    return "does a cell end in another line? save it as .csv" if open_quote else ""


def _tab_separated(path: str, names: Collection[str], on_warning: OnWarning | None) -> Iterator[tuple[int, list[str]]]:
    cells = ((line, text.split("\t")) for line, text in lines(path, on_warning) if text.strip())
    quoting = tsv_quotes.quoting(path, names)
    return quoting.undo(cells, names) if quoting != tsv_quotes.Quoting() else cells


def _comma_separated(
    path: str, on_warning: OnWarning | None, note: OnWarning | None
) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(2**31 - 1)  # a cell may hold a whole article
    reader = csv.reader((text + "\n" for _, text in lines(path, on_warning)), strict=True)
    start, labels, inner = 1, set[str](), dict[str, int]()
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                if len(labels) < LABELS:
                    labels.add(cells[-1])
                if reader.line_num > start and len(inner) < LABELS**2:
                    inner |= dict.fromkeys(_last_cells(cells), start)
                yield start, cells
            start = reader.line_num + 1
        for line in sorted({line for label, line in inner.items() if label in labels and len(labels) < LABELS}):
            if note:
                note("a cell has lines that look like rows; is its quotation mark not closed?", f"{path}:{line}")
    except csv.Error as error:
        message, hint = f"is not CSV: {error}", "a quotation mark is not closed, or not doubled inside quotes"
        if "new-line" in str(error):
            message, hint = "has a carriage return alone outside of quotation marks", "end lines with line feeds"
        raise DataError(message, where=f"{path}:{start}", hint=hint) from error


def _last_cells(cells: Sequence[str]) -> set[str]:
    """What stands after the last comma of each line, but the last, of a cell, if it has as many commas as a row."""
    inside = (line for cell in cells for line in cell.split("\n")[:-1])
    return {line.rpartition(",")[2] for line in inside if line.count(",") == len(cells) - 1 > 0 and line[-1] != ","}
