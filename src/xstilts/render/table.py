"""Tables and documents as plain values, before they are written in a file format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MISSING = "-"


@dataclass(frozen=True)
class Document:
    """What is written: tables with a legend for readers, rows of one kind with facts about them for programs."""

    tables: Sequence[Table]
    legend: Sequence[str]
    kind: type[Any]
    """The dataclass of the rows."""
    rows: Sequence[Any]
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """A table to be drawn. A column's head is a name, then a unit.

    The last `summaries` rows stand apart; so does what begins with each row in `breaks`.
    """

    title: str
    corner: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str, tuple[TableCell, ...]], ...]
    summaries: int = 0
    breaks: tuple[int, ...] = ()
    columns_title: str = ""
    """Replaces the corner when the table is turned on its side."""

    @property
    def apart(self) -> set[int]:
        """The rows that have a gap before them."""
        return {*self.breaks, *([len(self.rows) - self.summaries] if self.summaries else [])}


@dataclass(frozen=True)
class TableCell:
    """One number as it is shown: a value, half its range over seeds, its gain over the baseline; '' where none.

    `mark` is COLLAPSED where runs ended at chance. `best` is shown in bold, `leads` is underlined.
    """

    value: str = MISSING
    spread: str = ""
    gain: str = ""
    best: bool = False
    mark: str = ""
    leads: bool = False
