"""Writes two recipes side by side as one HTML page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from xstilts.errors import counted
from xstilts.html.render import render
from xstilts.html.tables import Cell, PageTable, Row, from_text, gain_colour, improvement
from xstilts.render.table import Document
from xstilts.reports.legend import split_notes
from xstilts.reports.recipe_comparison import ComparedScore, Side
from xstilts.reports.significance import ALPHA, MEANS

DIFFERENCE = 2
"""The column of a comparison's tables with the difference."""


def compare_page(document: Document, first: Side, second: Side) -> str:
    """The page of a comparison.

    Args:
        document: what `compare_recipes` returned for these two.
        first: its scores minus those of the second are the differences.
        second: the other one.
    """
    tables = [*_tables(document)]
    legend, notes = split_notes(document.legend)
    return render(
        "compare.html",
        title=f"{first.label} and {second.label}",
        labels=(first.label, second.label),
        sentence=_sentence(document.rows, first.label),
        notes=notes,
        overview=_overview(tables),
        legend=legend,
        tables=tables,
        sides=[{"label": side.label, "study": side.results.study} for side in (first, second)],
    )


def _tables(document: Document) -> Iterator[PageTable]:
    """The tables of the comparison, with coloured differences; means stay above when a table is sorted."""
    rows = iter(document.rows)  # in the order of the tables' rows
    for number, table in enumerate(document.tables):
        shown = from_text(table, id=f"t{number}", kind="map")
        coloured = list[Row]()
        for row in shown.rows:
            score: ComparedScore = next(rows)
            cells = [*row.cells]
            colour = gain_colour(score.difference, score.metric)
            cells[DIFFERENCE] = replace(cells[DIFFERENCE], colour=colour)
            coloured.append(replace(row, cells=cells))
        means = sum(row.head.text.rstrip("†") in MEANS for row in coloured)
        yield replace(shown, fixed=coloured[:means], rows=coloured[means:])


def _overview(tables: Sequence[PageTable]) -> PageTable:
    """The first row of each table: the zero-shot mean, or else the mean."""
    rows = []
    for table in tables:
        first = [*table.fixed, *table.rows][0]
        cells = [Cell(first.head.text, prose=True), *first.cells]
        rows.append(Row(Cell(table.caption, href=table.id, prose=True), cells))
    heads = [Cell("task"), Cell("over", prose=True), *tables[0].heads[1:]] if tables else []
    return PageTable("Each task and branch", heads, rows, kind="map")


def _sentence(rows: Sequence[ComparedScore], label: str) -> str:
    """How many means differ."""
    over = {(x.task, x.branch): x.language for x in reversed(rows) if x.language in MEANS}
    means = [x for x in rows if over.get((x.task, x.branch)) == x.language]
    tested = [x for x in means if x.adjusted is not None]
    if not tested:
        return "Whether the differences are significant is not known: none was tested."
    differ = [x for x in tested if (x.adjusted or 0.0) < ALPHA]
    better = sum(improvement(x.difference, x.metric) > 0 for x in differ)
    return (
        f"{label} is significantly better in {better} and worse in {len(differ) - better} of "
        f"{counted(len(tested), 'compared mean')} over languages (p < {ALPHA:g}, for these runs)."
    )
