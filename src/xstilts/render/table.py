"""Tables and documents as plain values, before they are written in a file format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xstilts.render.figure import Figure

MISSING = "-"


@dataclass(frozen=True)
class Document:
    """A report before it is written: tables, legend, figures for readers; rows of one type, facts for programs."""

    tables: Sequence[Table]
    legend: Sequence[str]
    row_type: type[Any]
    """The dataclass of the rows."""
    rows: Sequence[Any]
    facts: Mapping[str, Any]
    figures: Sequence[Figure] = ()
    """What `svg` draws."""


@dataclass(frozen=True)
class Table:
    """A table as it will be shown. A column's head is a name, then a unit.

    A gap precedes the last `summaries` rows, and each row in `breaks`.
    """

    title: str
    corner: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str, tuple[TableCell, ...]], ...]
    summaries: int = 0
    breaks: tuple[int, ...] = ()
    columns_title: str = ""
    """Replaces the corner when the table is transposed."""
    tall: bool = False
    """Whether text shows it transposed where that fits, also if it need not be: the same shape on each terminal."""

    @property
    def gaps_before(self) -> set[int]:
        """The rows with a gap before them."""
        return {*self.breaks, *([len(self.rows) - self.summaries] if self.summaries else [])}


@dataclass(frozen=True)
class TableCell:
    """One number as it is shown: a value, half its range over seeds, its gain over the baseline; '' for none.

    `mark` follows the value. `best` is shown in bold, `best_of_block` is underlined.
    """

    value: str = MISSING
    spread: str = ""
    gain: str = ""
    best: bool = False
    mark: str = ""
    best_of_block: bool = False

    @classmethod
    def of(cls, number: float | None, spec: str = "z.1f") -> TableCell:
        """A number in a format; without one, an empty cell."""
        return cls() if number is None else cls(f"{number:{spec}}")
