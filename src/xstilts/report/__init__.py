"""Views of score rows: numbers per study, tables of them, formats to print."""

from xstilts.render.writers import FORMATS, draw, render
from xstilts.report.aggregate import ALL_TASKS, LAYOUTS, MEAN, ZERO_SHOT, Layout, Summary, SummaryLine, build
from xstilts.report.layouts import NAMES, PAPER, show
from xstilts.report.selection import select
from xstilts.report.selection_tables import document as selected

__all__ = [
    "ALL_TASKS",
    "FORMATS",
    "LAYOUTS",
    "MEAN",
    "NAMES",
    "PAPER",
    "ZERO_SHOT",
    "Layout",
    "Summary",
    "SummaryLine",
    "build",
    "draw",
    "render",
    "select",
    "selected",
    "show",
]
