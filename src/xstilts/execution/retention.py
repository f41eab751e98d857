"""Removes an encoder once no recipe keeps it and no pending step reads it; links the best runs."""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from uuid import uuid4

from xstilts.analysis.selection import best_evaluations
from xstilts.errors import UserError
from xstilts.store.recipes import RUNNING, forget_without_results, is_earlier
from xstilts.store.run_folder import Store
from xstilts.store.step_record import StepState
from xstilts.study.index import Cell, Study, StudyTask, read_study
from xstilts.utils import locks
from xstilts.utils.files import write_atomic

LOCK = ".recipes.lock"
"""Locked while recipes are saved or read, so that no run removes an encoder that another has just requested."""
PREDICTIONS = ".predictions.jsonl"
"""The end of the name of the link to a best run's predictions."""


def target_of(cell: Cell) -> str:
    """The target of a cell, of which one run is the best: a task, or `TASK.LANGUAGE` if each language has its own."""
    return f"{cell.task}.{cell.language}" if cell.language else cell.task


class RecipeNeeds:
    """The encoders that a recipe needs now; reads the scores of each task at most once."""

    def __init__(self, store: Store, study: Study) -> None:
        self.store, self.study = store, study
        tasks, self.targets = {task.name: task for task in study.targets}, dict[str, StudyTask]()
        self.cells: dict[str, list[Cell]] = defaultdict(list)
        self.best = cache(self._best)
        self.tasks: dict[str, set[str]] = defaultdict(set)
        """The targets of each step: those it evaluates, or whose evaluations read its encoder."""
        for cell in (cell for cell in study.cells if cell.task in tasks):
            name = target_of(cell)
            self.targets[name] = tasks[cell.task].in_language(cell.language) if cell.language else tasks[cell.task]
            self.cells[name].append(cell)
            for id in (cell.step, *study.steps.get(cell.step, ())):
                self.tasks[id].add(name)

    def _best(self, task: str) -> list[str] | None:
        """A target's `best_evaluations`; None while a score cannot be read."""
        study = replace(self.study, cells=tuple(self.cells[task]))
        finished = {cell.step for cell in study.cells if self.store.state(cell.step).has_results}
        try:
            scores = self.store.scores(study)
        except UserError:
            return None
        return best_evaluations(study, self.targets[task], scores, finished)

    def keeps(self, id: str) -> bool:
        """Whether a step's encoder stays when no pending step reads it."""
        if id in self.study.kept or not self.study.keep_best:
            return id in self.study.kept
        best = [self.best(task) for task in self.tasks.get(id, ())]
        return any(steps is None or any(id in self.study.steps[step] for step in steps) for steps in best)

    def needs(self, id: str) -> bool:
        """Whether a step's encoder stays, or has to be there for steps that are not done.

        The unfinished steps of an earlier version count only while it runs, under its own name.
        """
        readers = (step for step, read in self.study.steps.items() if id in read and not is_earlier(self.study.name))
        return self.keeps(id) or any(map(self._is_pending, readers))

    def _is_pending(self, id: str) -> bool:
        state = self.store.state(id)
        return state is StepState.MISSING or (state is not StepState.DONE and self.needs(id))

    def link_best(self, tasks: Iterable[str]) -> None:
        """Link the best run of each of these targets until now, and its predictions, in the recipe's folder."""
        folder = self.store.best(self.study.name)
        for task in tasks:
            if (best := self.best(task)) is not None:
                read = self.study.steps.get(best[0], ()) if best else ()
                done = (id for id in read if self.store.state(id) is StepState.DONE)
                encoder = next((id for id in done if (self.store.step(id) / "encoder").is_dir()), None)
                _link(folder / task, encoder)
                _link(folder / f"{task}{PREDICTIONS}", f"{best[0]}/predictions.jsonl" if best else None)
        for path in folder.glob("*"):
            if path.is_symlink() and path.name.removesuffix(PREDICTIONS) not in self.targets:
                path.unlink()  # of an earlier version of the recipe


def best_run_notes(store: Store, study: Study) -> list[str]:
    """Lines that say where the best runs are, and which tasks have no dev scores to select by."""
    folder = store.best(study.name)
    own = {task.name for task in study.targets if task.trained_on_own_data}
    trained = {target_of(cell): cell for cell in study.cells if cell.task in own}
    linked = [task for task in trained if (folder / task / "encoder").is_dir()]
    on_dev = {row.step for row in store.scores(study) if row.split == "dev"}
    found = [task for task in linked if any(target_of(x) == task and x.step in on_dev for x in study.cells)]
    notes = [f"the best run by its dev scores: {folder / (found[0] if len(found) == 1 else 'TASK')}"] if found else []
    first = (task for task in linked if task not in found)
    return notes + [f"{task}: no dev scores, so {folder / task} is the first run" for task in first]


def _link(path: Path, step: str | None) -> None:
    """Make a link to a path below `steps/`, which stays right if the run folder moves; None removes it."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with suppress(OSError):  # the file system has no links, or a file of the user has this name
        if step is None:
            path.unlink()
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.symlink_to(Path("../../steps") / step)
        try:
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)


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
        """Remove the encoders of these steps that no recipe keeps or still reads; their scores may free others, too."""
        candidates = dict.fromkeys(ids)
        with locks.exclusive(self.store.folder / LOCK, wait=True):
            recipes = {path: RecipeNeeds(self.store, study) for path, study in self.studies()}
            for path, recipe in recipes.items():
                linked = self.store.best(recipe.study.name).exists()
                changed = (
                    {task for id in candidates for task in recipe.tasks.get(id, ())} if linked else {*recipe.targets}
                )
                if path.suffix != RUNNING:
                    recipe.link_best(changed)
                candidates |= {id: None for id, tasks in recipe.tasks.items() if not tasks.isdisjoint(changed)}
            for id in candidates:
                if self._has_encoder(id) and not any(recipe.needs(id) for recipe in recipes.values()):
                    self.store.drop(id)

    def _has_encoder(self, id: str) -> bool:
        return self.store.state(id) is not StepState.MISSING and (self.store.step(id) / "encoder").is_dir()

    def studies(self) -> list[tuple[Path, Study]]:
        """The studies of the store's recipes, with their files; reads a file again only if it has changed."""
        paths = [*self.store.recipes().values(), *self.store.folder.glob(f"recipes/*{RUNNING}")]
        files = [(path, path.stat().st_mtime_ns) for path in paths]
        self._studies = {key: self._studies.get(key) or read_study(key[0]) for key in files}
        return [(path, study) for (path, _), study in self._studies.items()]
