"""The finished scores of a running study, as its report would show them now."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from xstilts.analysis.results import read_results
from xstilts.render.table import Table
from xstilts.render.writers import draw
from xstilts.reports.study_tables import tables
from xstilts.store.run_folder import Store
from xstilts.utils.terminal import has_colours

SHARE, SECONDS = 0.01, 1.0
"""Reading the scores takes at most this share of a run's time, beyond the first seconds that it takes."""


@dataclass
class LiveScores:
    """The means of a study's tasks over languages; of an only task, the scores by language."""

    folder: Path
    recipe: str
    _shown: Sequence[Table] = ()
    _spent: float = 0.0
    _began: float = field(default_factory=time.monotonic)
    _drawn: tuple[object, Sequence[str]] = (None, ())

    def update(self) -> None:
        """Read the scores, unless that has taken too much of the run's time."""
        now = time.monotonic()
        if self._spent > SECONDS + SHARE * (now - self._began):
            return
        store = Store(self.folder)
        try:
            results = read_results(store, self.recipe)
        except Exception:  # of files that somebody changes meanwhile; the page of the study names the reason
            return
        if results.scores:
            only = len(results.study.targets) == 1
            self._shown = tables(results.summary(), ("first",) if only else ("overview",))
        self._spent += time.monotonic() - now

    def lines(self, width: int) -> Sequence[str]:
        """The table in lines of at most `width` columns."""
        key = (self._shown, width)
        if self._drawn[0] != key:
            text = draw(self._shown, (), width=width, colour=has_colours(sys.stderr))
            self._drawn = key, text.rstrip("\n").split("\n") if self._shown else ()
        return self._drawn[1]
