"""The layouts of a report by name; a new layout is one function and one line in `LAYOUTS`."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TypeAlias, cast

from xstilts.errors import UserError, nearest
from xstilts.render.table import Document
from xstilts.report.results import StudyResults

LayoutFunction: TypeAlias = Callable[[StudyResults], Document]

PAPER = ("table2", "table3", *(f"table{number}" for number in range(6, 16)), "benchmark")
"""Layouts that the paper has too, with published numbers to show beside ours."""


def _function(module: str, name: str, *arguments: str) -> LayoutFunction:
    """A function of a module that is imported when the layout is shown: some load the catalogue or numpy."""

    def show_layout(results: StudyResults) -> Document:
        return cast("Document", getattr(import_module(f"xstilts.{module}"), name)(results, *arguments))

    return show_layout


LAYOUTS: dict[str, LayoutFunction] = {
    "default": _function("report.study_tables", "default"),
    "brief": _function("report.study_tables", "brief"),
    "overview": _function("report.study_tables", "overview"),
    "languages": _function("report.study_tables", "languages"),
    **{name: _function("report.paper_document", "paper_table", name) for name in PAPER},
    "benchmark": _function("report.paper_document", "benchmark"),
    "selection": _function("report.selection_tables", "selection"),
    "significance": _function("report.significance_tables", "significance"),
}
"""What each layout makes of a study's results."""


def check(layout: str, *, beside: bool = False) -> None:
    """Check a layout's name, and that it has published numbers if they are wanted.

    Raises:
        UserError: there is no such layout, or nothing is published in it.
    """
    if layout not in LAYOUTS:
        raise UserError(f"there is no layout '{layout}'", where="--layout", hint=nearest(layout, LAYOUTS))
    if beside and layout not in PAPER:
        raise UserError(
            f"nothing is published in the layout '{layout}'", where="--beside", hint=f"known: {', '.join(PAPER)}"
        )


def show(results: StudyResults, layout: str = "default") -> Document:
    """The results of a study in a layout, ready to be rendered.

    Raises:
        UserError: as `check`, or the study has nothing to show in this layout.
    """
    check(layout, beside=results.beside)
    return LAYOUTS[layout](results)
