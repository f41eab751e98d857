"""Keeps the page of a running study up to date."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from markupsafe import escape

from xstilts.analysis.results import read_results
from xstilts.html.page import PAGE, report_page
from xstilts.html.render import head, write_page
from xstilts.store.run_folder import Store

REFRESH = 'http-equiv="refresh"'
"""A page has it while its study is running."""
SHARE = 0.01
"""Of a run's time, at most this share is spent on its page."""
PAUSE_SECONDS = 5.0
"""The least time between two versions of the page."""


@dataclass
class LivePage:
    """The page of a recipe in a run folder, `report.html`. A page that cannot be written stops no study.

    `say` gets the reason, once.
    """

    folder: Path
    recipe: str
    say: Callable[[str], None]
    _next: float = 0.0
    _failed: bool = False

    def update(self) -> None:
        """Write the page of the running study, unless it is too soon."""
        began = time.monotonic()
        if began >= self._next:
            self._write(running=True)
            took = time.monotonic() - began
            self._next = began + took + max(PAUSE_SECONDS, took / SHARE)

    def __enter__(self) -> LivePage:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """After an error or Ctrl-C, write that the study no longer runs, if the page says that it does."""
        if kind is not None and self._next:
            self._write(quick=True)

    def finish(self, *, changed: bool) -> None:
        """Write the page of a study that has ended, unless this run changed nothing and the page is final already."""
        path = self.folder / PAGE
        there = head(path)
        final = REFRESH not in there and f"<title>{escape(self.recipe)}: report</title>" in there
        if (final and not changed) or self._write():
            self.say(f"everything on one page: {path}")

    def _write(self, *, running: bool = False, quick: bool = False) -> bool:
        """Whether the page is written."""
        store = Store(self.folder)
        try:
            if self.recipe not in store.recipes():  # the run was refused before it began
                return False
            page = report_page(store, read_results(store, self.recipe), running=running, quick=quick)
            write_page(self.folder / PAGE, page)
            return True
        except Exception as error:  # of files that somebody changes meanwhile; a run of days must not end by its page
            if not self._failed:
                self.say(f"{self.folder / PAGE} is not up to date: {error}")
            self._failed = True
            return False
