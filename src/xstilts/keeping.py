"""Which encoders stay on the disk: one that no recipe keeps goes when nothing is left to be done with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from xstilts import locks
from xstilts.results import Study
from xstilts.store import Store

LOCK = ".recipes.lock"
"""Held while a recipe is noted, or its needs are read, so that nothing goes that a run has just asked for."""


@dataclass
class Keeping:
    """The encoders of a store that several recipes, and several runs, may need."""

    store: Store
    _studies: dict[tuple[Path, int], Study] = field(default_factory=dict)

    def note(self, study: Study) -> bool:
        """Save what a recipe needs; see `Store.save_study`."""
        with locks.claimed(self.store.folder / LOCK, wait=True):
            return self.store.save_study(study)

    def tidy(self, ids: Iterable[str]) -> None:
        """Remove the encoders of those of these steps that no recipe keeps or still reads."""
        there = [id for id in ids if self.store.finished(id) and (self.store.step(id) / "encoder").is_dir()]
        if not there:
            return
        with locks.claimed(self.store.folder / LOCK, wait=True):
            studies = self.studies()
            for id in there:
                if not any(self.needs(study, id) for study in studies):
                    self.store.drop(id)

    def needs(self, study: Study, id: str) -> bool:
        """Whether a recipe keeps the encoder of a step, or has yet to do something with it."""
        after = (step for step, read in study.steps.items() if id in read)
        return id in study.kept or not all(map(self.store.finished, after))

    def studies(self) -> list[Study]:
        """What the store's recipes need; each file is read again only when it has changed."""
        files = [(path, path.stat().st_mtime_ns) for path in self.store.recipes().values()]
        self._studies = {at: self._studies.get(at) or self.store.study(at[0].stem) for at in files}
        return [*self._studies.values()]
