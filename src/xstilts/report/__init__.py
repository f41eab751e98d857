"""Reports: score rows of a study become numbers, then tables in a layout."""

from xstilts.analysis.results import StudyResults
from xstilts.render.writers import draw, render
from xstilts.report.aggregate import ALL_TASKS, MEAN
from xstilts.report.layouts import show
from xstilts.report.selection import select

__all__ = ["ALL_TASKS", "MEAN", "StudyResults", "draw", "render", "select", "show"]
