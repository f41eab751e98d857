"""Removes an encoder once no recipe keeps it and no pending step reads it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from xstilts.store.recipes import RUNNING, forget_without_results, is_earlier
from xstilts.store.run_folder import Store
from xstilts.store.step_record import StepState
from xstilts.study.index import Study, read_study
from xstilts.utils import locks
from xstilts.utils.files import write_atomic

LOCK = ".recipes.lock"
"""Locked while recipes are saved or read, so that no run removes an encoder that another has just requested."""


@dataclass
class Retention:
    """Decides which encoders of a store its recipes and runs still need."""

    store: Store
    _studies: dict[tuple[Path, int], Study] = field(default_factory=dict)

    @contextmanager
    def registered(self, study: Study) -> Iterator[str]:
        """Save a study (see `Store.save_study`); its needs count within this block even if another takes its name."""
        with locks.exclusive(self.store.folder / LOCK, wait=True):
            earlier = self.store.save_study(study)
            running = self.store.folder / "recipes" / f"{study.name}.{uuid4().hex[:8]}{RUNNING}"
            write_atomic(running, study.to_json())
        try:
            yield earlier
        finally:
            with suppress(OSError), locks.exclusive(self.store.folder / LOCK, wait=True):
                running.unlink()
                forget_without_results(running.parent, study, lambda id: self.store.state(id).has_results)

    def remove_unneeded(self, ids: Iterable[str]) -> None:
        """Remove the encoders of these steps that no recipe keeps or still reads."""
        candidates = [id for id in ids if self._finished(id) and (self.store.step(id) / "encoder").is_dir()]
        if not candidates:
            return
        with locks.exclusive(self.store.folder / LOCK, wait=True):
            studies = self.studies()
            for id in candidates:
                if not any(self.needs(study, id) for study in studies):
                    self.store.drop(id)

    def needs(self, study: Study, id: str) -> bool:
        """Whether a recipe keeps a step's encoder, or has unfinished steps that read it.

        The unfinished steps of an earlier version count only while it runs, under its own name.
        """
        if is_earlier(study.name):
            return id in study.kept
        readers = (step for step, read in study.steps.items() if id in read)
        return id in study.kept or not all(map(self._finished, readers))

    def _finished(self, id: str) -> bool:
        return self.store.state(id) is not StepState.MISSING

    def studies(self) -> list[Study]:
        """The studies of the store's recipes; reads a file again only if it has changed."""
        paths = [*self.store.recipes().values(), *self.store.folder.glob(f"recipes/*{RUNNING}")]
        files = [(path, path.stat().st_mtime_ns) for path in paths]
        self._studies = {key: self._studies.get(key) or read_study(key[0]) for key in files}
        return [*self._studies.values()]
