"""Finds and removes the CSV quoting of tab-separated files.

XTREME's scripts quoted XNLI and PAWS-X so: a cell that contains a quotation mark stands in quotation marks, and those
inside are doubled. Other writers quote every cell of a column. An unquoted file has cells like `"Ein Satz"` or `a "b"`,
and is not changed. A file that was quoted twice is unquoted twice.
"""

from __future__ import annotations

import codecs
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from xstilts.data.lines import UNREADABLE, OnWarning, lines, opened, raw_lines


@dataclass(frozen=True)
class Quoting:
    """What a CSV writer did to the cells of a file."""

    depth: int = 0
    """How often it quoted each cell with a quotation mark: the lowest depth of these cells."""
    columns: frozenset[int] = frozenset()
    """The columns in which it quoted every cell, once."""

    def undo(self, rows: Iterable[tuple[int, list[str]]], names: Collection[str]) -> Iterator[tuple[int, list[str]]]:
        """The rows without quoting; a first row with one of the `names` is a header."""
        for index, (line, cells) in enumerate(rows):
            if self.depth:
                yield line, [unquote(cell, self.depth) for cell in cells]
            else:
                header = index == 0 and not _columns(cells).isdisjoint(names)
                yield line, [unquote(cell, 1) if (header or i in self.columns) and is_quoted(cell) else cell
                             for i, cell in enumerate(cells)]  # fmt: skip


def quoting(path: str, names: Collection[str]) -> Quoting:
    """How a tab-separated file is quoted; reading stops at the first cells that show that it is not.

    Args:
        path: the file.
        names: a first row with one of them is a header, whose quoting says nothing about the columns.
    """
    lowest: int | None = None
    columns: frozenset[int] | None = None
    quoted: set[int] = set()
    try:
        with opened(path) as stream:
            for index, line in enumerate(raw_lines(stream)):
                if b'"' not in line and columns == frozenset():
                    continue
                cells = line.removeprefix(codecs.BOM_UTF8).decode(errors="replace").rstrip("\r\n").split("\t")
                depths = [depth(cell) for cell in cells if '"' in cell]
                lowest = min(depths, default=lowest) if lowest is None else min([lowest, *depths])
                if (index or _columns(cells).isdisjoint(names)) and any(cells):
                    kept = range(len(cells)) if columns is None else columns
                    columns = frozenset(i for i in kept if i < len(cells) and (not cells[i] or is_quoted(cells[i])))
                    quoted.update(i for i in columns if cells[i])
                if lowest == 0 and columns == frozenset():
                    return Quoting()
    except UNREADABLE:
        return Quoting()  # reading the rows will report the error
    return Quoting(depth=lowest or 0, columns=frozenset(quoted) & (columns or frozenset()))


def unquoted(path: str, on_warning: OnWarning | None) -> Iterator[tuple[int, str]]:
    """The lines of a file without its quoting; see `lines`."""
    found, rows = quoting(path, ()), lines(path, on_warning)
    if found == Quoting():
        return rows
    cells = found.undo(((line, text.split("\t")) for line, text in rows), ())
    return ((line, "\t".join(row)) for line, row in cells)


def _columns(cells: Iterable[str]) -> set[str]:
    """The names of columns that a header may have."""
    return {unquote(cell, 1) if is_quoted(cell) else cell for cell in cells}


def is_quoted(cell: str) -> bool:
    r"""Whether a cell stands in quotation marks, with only doubled ones inside, or, as R writes them, `\"`.

    >>> [is_quoted(cell) for cell in ('"no"', '"say ""no"" again"', '""', '"a" or "b"', "no")]
    [True, True, True, False, False]
    """
    if len(cell) < 2 or not cell[0] == cell[-1] == '"':
        return False
    return any('"' not in cell[1:-1].replace(inner, "") for inner in ('""', '\\"'))


def depth(cell: str) -> int:
    """How often a CSV writer that quotes only where it must may have quoted a cell.

    >>> [depth(cell) for cell in ('"say ""no"" again"', '"no"', 'say ""no"" again', '"say "no" again"')]
    [1, 0, 0, 0]
    >>> depth('"' + '"say ""no"" again"'.replace('"', '""') + '"')
    2
    """
    count = 0
    while is_quoted(cell) and '""' in cell[1:-1]:
        count, cell = count + 1, unquote(cell, 1)
    return count


def unquote(cell: str, count: int) -> str:
    """Undo `count` CSV quotings of a cell.

    >>> unquote('"say ""no"" again"', 1), unquote("yes", 1)
    ('say "no" again', 'yes')
    """
    if '"' in cell:
        for _ in range(count):
            cell = cell[1:-1]
            cell = cell.replace('\\"' if '"' in cell.replace('""', "") else '""', '"')
    return cell
