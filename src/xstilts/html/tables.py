"""Tables of the page as plain values, before the template writes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from xstilts import metrics
from xstilts.render import table as text_table
from xstilts.render.table import MISSING

LEVELS = (0.5, 1.0, 2.0, 5.0)
"""A gain is coloured from the first of these numbers on, and more with each."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell: its text, then smaller its gain or spread, and below small notes.

    `href` and `id` are anchors of the page, `colour` a class of the style sheet. `prose` is text of the data or of the
    user: aligned where its script begins.
    """

    text: str = MISSING
    gain: str = ""
    below: str = ""
    href: str = ""
    id: str = ""
    colour: str = ""
    best: bool = False
    prose: bool = False


@dataclass(frozen=True)
class Row:
    """A row: its head, its cells, and by what it can be grouped: `family`, `script`, `size`."""

    head: Cell
    cells: Sequence[Cell]
    groups: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PageTable:
    """A table with a caption. `fixed` rows stand above the others and are not sorted with them."""

    caption: str
    heads: Sequence[Cell]
    """The corner, then a head for each column."""
    rows: Sequence[Row]
    fixed: Sequence[Row] = ()
    id: str = ""
    kind: str = ""
    """A class of the style sheet."""
    legend: Sequence[str] = ()


def prose(texts: Iterable[object]) -> list[Cell]:
    """Cells with texts."""
    return [Cell(str(text), prose=True) for text in texts]


def numbers(texts: Iterable[object]) -> list[Cell]:
    """Cells with numbers that are formatted already."""
    return [Cell(str(text)) for text in texts]


def gain_colour(gain: float | None, metric: str = "") -> str:
    """The class of a cell: `g` for better and `l` for worse than the baseline, with a level from 1 to 4; or none.

    Args:
        gain: in the metric's unit.
        metric: empty for a mean over tasks, where higher is better.
    """
    if gain is None:
        return ""
    level = sum(abs(gain) >= bound for bound in LEVELS)
    return f"{'g' if improvement(gain, metric) > 0 else 'l'}{level}" if level else ""


def improvement(gain: float | None, metric: str = "") -> float:
    """A gain as a number that is positive if it is better; 0 if unknown."""
    if gain is None or not metric or metrics.get(metric).higher_is_better:
        return gain or 0.0
    return -gain


def score_colour(percent: float) -> str:
    """The class of a score of a study without gains: `s1` to `s4`, darker with each fifth; none below 20."""
    level = min(int(percent // 20), 4)
    return f"s{level}" if level else ""


def from_text(table: text_table.Table, **changes: object) -> PageTable:
    """A table of a layout for the terminal."""
    texts = {i for _, cells in table.rows for i, cell in enumerate(cells) if cell.value[:1].isalpha()}
    heads = [Cell(table.corner)]
    heads += [Cell(name, below=unit, prose=i in texts) for i, (name, unit) in enumerate(table.columns)]
    rows = [
        Row(Cell(label, prose=True), [_cell(cell, prose=i in texts) for i, cell in enumerate(cells)])
        for label, cells in table.rows
    ]
    return replace(PageTable(table.title, heads, rows), **changes)  # type: ignore[arg-type]


def _cell(cell: text_table.TableCell, *, prose: bool) -> Cell:
    gain = " ".join(filter(None, (cell.spread, cell.gain)))
    return Cell(cell.value + cell.mark, gain=gain, best=cell.best, prose=prose)
