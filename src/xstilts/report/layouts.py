"""Every layout of a report by its name, and what it shows of a study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from xstilts.errors import UserError, nearest
from xstilts.render.table import Document
from xstilts.report import selection_tables
from xstilts.report.aggregate import LAYOUTS, SummaryLine, build
from xstilts.report.selection import select
from xstilts.report.study_tables import document, legend, tables
from xstilts.store.rows import Score
from xstilts.study.index import Study

PAPER = ("table2", "table3", *(f"table{number}" for number in range(6, 16)), "benchmark")
"""Layouts that the paper has too, whose numbers can stand beside ours."""

NAMES = (*dict.fromkeys((*LAYOUTS, *PAPER)), "selection", "significance")


def check(layout: str, *, beside: bool = False) -> None:
    """See that there is such a layout, with something published where that is wanted.

    Raises:
        UserError: there is not.
    """
    if layout not in NAMES:
        raise UserError(f"there is no layout '{layout}'", where="--layout", hint=nearest(layout, NAMES))
    if layout not in PAPER and beside:
        raise UserError(
            f"nothing is published in the layout '{layout}'", where="--beside", hint=f"known: {', '.join(PAPER)}"
        )


def show(
    study: Study, scores: Sequence[Score], layout: str = "default", *, beside: bool = False, notes: Sequence[str] = ()
) -> Document:
    """A study in a layout, ready to be rendered; `significance` also reads predictions, see `significance.compare`.

    Args:
        study: what was planned.
        scores: rows of its evaluations.
        layout: one of NAMES.
        beside: whether to show the published numbers, for a layout in PAPER.
        notes: what else a reader must know, see `Store.notes`.

    Raises:
        UserError: as `check`, or the study has nothing to show in this layout.
    """
    check(layout, beside=beside)
    if layout == "selection":
        return selection_tables.document(select(study, scores))
    if layout not in PAPER:
        return document(build(study, scores, layout=LAYOUTS[layout], notes=notes))
    from xstilts.report import paper_document  # which reads the catalogue
    from xstilts.report.paper_cells import targets

    if layout not in LAYOUTS:
        return paper_document.document(study, scores, layout, beside=beside, notes=notes)
    whole = build(study, scores, layout=LAYOUTS[layout], notes=notes)
    if not targets(study):
        return document(whole)
    page = paper_document.document(study, scores, layout, beside=beside)
    rest = tables(replace(whole, layout=replace(whole.layout, views=("languages",))))
    facts = {**page.facts, "lines": [vars(line) for line in whole.lines], layout: page.facts["lines"]}
    return Document([*page.tables, *rest], [*page.legend, *legend(whole, rest)], SummaryLine, whole.lines, facts)
