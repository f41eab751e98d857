"""Which encoders stay on the disk: one that no recipe keeps goes when nothing is left to be done with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from xstilts.store.run_folder import RUNNING, Store
from xstilts.store.step_record import StepState
from xstilts.study.index import Study, read_study
from xstilts.utils import locks
from xstilts.utils.files import write_atomic

LOCK = ".recipes.lock"
"""Held while a recipe is noted, or its needs are read, so that nothing goes that a run has just asked for."""


@dataclass
class Retention:
    """The encoders of a store that several recipes, and several runs, may need."""

    store: Store
    _studies: dict[tuple[Path, int], Study] = field(default_factory=dict)

    @contextmanager
    def registered(self, study: Study) -> Iterator[bool]:
        """Save what a recipe needs, see `Store.save_study`; within this block also if a recipe takes the name over."""
        with locks.exclusive(self.store.folder / LOCK, wait=True):
            replaced = self.store.save_study(study)
            running = self.store.folder / "recipes" / f"{study.name}.{uuid4().hex[:8]}{RUNNING}"
            write_atomic(running, study.to_json())
        try:
            yield replaced
        finally:
            with suppress(OSError), locks.exclusive(self.store.folder / LOCK, wait=True):
                running.unlink()

    def remove_unneeded(self, ids: Iterable[str]) -> None:
        """Remove the encoders of those of these steps that no recipe keeps or still reads."""
        there = [id for id in ids if self._finished(id) and (self.store.step(id) / "encoder").is_dir()]
        if not there:
            return
        with locks.exclusive(self.store.folder / LOCK, wait=True):
            studies = self.studies()
            for id in there:
                if not any(self.needs(study, id) for study in studies):
                    self.store.drop(id)

    def needs(self, study: Study, id: str) -> bool:
        """Whether a recipe keeps the encoder of a step, or has yet to do something with it."""
        after = (step for step, read in study.steps.items() if id in read)
        return id in study.kept or not all(map(self._finished, after))

    def _finished(self, id: str) -> bool:
        return self.store.state(id) is not StepState.MISSING

    def studies(self) -> list[Study]:
        """What the store's recipes need; each file is read again only when it has changed."""
        paths = [*self.store.recipes().values(), *self.store.folder.glob(f"recipes/*{RUNNING}")]
        files = [(path, path.stat().st_mtime_ns) for path in paths]
        self._studies = {at: self._studies.get(at) or read_study(at[0]) for at in files}
        return [*self._studies.values()]
