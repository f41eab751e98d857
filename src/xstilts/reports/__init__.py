"""Reports: score rows of a study become numbers, then tables in a layout."""

from xstilts.analysis.aggregate import ALL_TASKS, MEAN
from xstilts.analysis.results import StudyResults
from xstilts.analysis.selection import select
from xstilts.render.writers import draw, render
from xstilts.reports.layouts import show

__all__ = ["ALL_TASKS", "MEAN", "StudyResults", "draw", "render", "select", "show"]
