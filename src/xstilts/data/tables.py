"""Reads the rows of tables, comma- or tab-separated, as cells; refuses a table with other separators."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator, Sequence
from itertools import islice

from xstilts.data import tsv_quotes
from xstilts.data.headers import looks_like_header
from xstilts.data.lines import OnWarning, lines
from xstilts.data.records import suffix
from xstilts.errors import DataError

_SAVE = "save it with commas as .csv, or with tabs as .tsv"
SEPARATORS = {",": ("commas", "rename it to .csv"), "\t": ("tabs", "rename it to .tsv"),
              ";": ("semicolons", _SAVE), "|": ("vertical bars", _SAVE)}  # fmt: skip
"""The name of each separator, and what to do with a table that has it instead of its own."""
FIRST = 5
"""So many lines show a separator, at least three."""


def rows(path: str, names: Collection[str], on_warning: OnWarning | None) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and cells of each row of a table that is not blank.

    Args:
        path: the file; `.csv` is comma-separated, other suffixes tab-separated.
        names: the columns that the task knows; a first row with one of them is a header.
        on_warning: as in `lines`.

    Raises:
        DataError: the table has another separator, or is not CSV.
    """
    own = "," if suffix(path) == ".csv" else "\t"
    first = [text for _, text in islice(lines(path, on_warning and (lambda *_: None)), FIRST) if text.strip()]
    for other, (name, hint) in SEPARATORS.items():
        if _separates(other, first, names) and not _separates(own, first, names):
            message = f"has {name} between its columns, not {SEPARATORS[own][0]}"
            raise DataError(message, where=path, hint=hint)
    return _comma_separated(path, on_warning) if own == "," else _tab_separated(path, names, on_warning)


def _separates(separator: str, first: Sequence[str], names: Collection[str]) -> bool:
    """Whether the first lines look like rows with this separator: by the header, or as often in each line."""
    header = [cell.strip(' "') for cell in first[0].split(separator)] if first else []
    if len(header) > 1 and (not set(names).isdisjoint(header) or looks_like_header(header)):
        return True
    counts = {text.count(separator) for text in first}
    return len(names) > 1 and len(first) > 2 and len(counts) == 1 and counts != {0}


def _tab_separated(path: str, names: Collection[str], on_warning: OnWarning | None) -> Iterator[tuple[int, list[str]]]:
    cells = ((line, text.split("\t")) for line, text in lines(path, on_warning) if text.strip())
    quoting = tsv_quotes.quoting(path, names)
    return quoting.undo(cells, names) if quoting != tsv_quotes.Quoting() else cells


def _comma_separated(path: str, on_warning: OnWarning | None) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(2**31 - 1)  # a cell may hold a whole article
    reader = csv.reader((text + "\n" for _, text in lines(path, on_warning)), strict=True)
    start = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield start, cells
            start = reader.line_num + 1
    except csv.Error as error:
        message, hint = f"is not CSV: {error}", "a quotation mark is not closed, or not doubled inside quotes"
        if "new-line" in str(error):
            message, hint = "has a carriage return alone outside of quotation marks", "end lines with line feeds"
        raise DataError(message, where=f"{path}:{start}", hint=hint) from error
