"""The run folder: a store of finished steps that all recipes share."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO, Any

from xstilts.errors import UserError, nearest
from xstilts.store.example_scores import EXAMPLES, ExampleScores
from xstilts.store.recipes import RUNNING, recipe_files, save_recipe
from xstilts.store.rows import LAYERS, LayerScore, Prediction, Score, find_row_problem, read_rows
from xstilts.store.step_record import DROPPED, StepRecord, StepState, find_dependents, read_step, state_of
from xstilts.study.index import Study, read_study
from xstilts.training.settings import CHECKPOINT
from xstilts.utils import locks
from xstilts.utils.files import read_json, write_atomic

VERSION = 2
"""The version of the folder's files and step ids."""
MARK = "store.json"
CHECKED = "read.json"
"""The file that lists the data checked without an error; may be deleted at any time."""


@dataclass(frozen=True)
class Store:
    """A folder with `steps/<id>/`, `features/`, and the data of each recipe's report in `recipes/<name>.json`."""

    folder: Path
    _parents: dict[str, tuple[str, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def step(self, id: str) -> Path:
        """The folder of a step."""
        return self.folder / "steps" / id

    def best(self, recipe: str) -> Path:
        """The folder with links to the best runs of a recipe."""
        return self.folder / "best" / recipe

    @property
    def features(self) -> Path:
        """The folder of token features; may be deleted at any time."""
        return self.folder / "features"

    def state(self, id: str) -> StepState:
        """The state of a step."""
        return state_of(self.step(id))

    def drop(self, id: str) -> None:
        """Remove the encoder and the heads of a finished step, unless another process works on it."""
        folder = self.step(id)
        with self.claim(id) as claimed:
            if claimed and self.state(id) is not StepState.MISSING:
                write_atomic(folder / DROPPED, "")
                for path in folder.glob("head-*"):
                    path.unlink()
                for path in (folder / "mean", folder / "encoder"):  # last: a run killed before this repeats the removal
                    shutil.rmtree(path, ignore_errors=True)

    def claim(self, id: str, *, wait: bool = False) -> AbstractContextManager[bool]:
        """Keep other processes from working on the step within this block; yields false if one already does."""
        return locks.exclusive(self.folder / "claims" / id, wait=wait)

    def begin(self, id: str, row: Mapping[str, Any]) -> Path:
        """Make the folder of a claimed step; of an earlier unfinished attempt only the checkpoint stays.

        Marks the dependent steps undone, unless only the removed encoder is made again.
        """
        folder = self.step(id)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / DROPPED).is_file():
            self._undo_dependents([id])
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name not in (CHECKPOINT, DROPPED):
                path.unlink()
        write_atomic(folder / "step.json", json.dumps(row, indent=1, ensure_ascii=False) + "\n")
        return folder

    def undo(self, ids: Sequence[str]) -> None:
        """Mark steps as undone, parents last, and before them all steps of any recipe that depend on them.

        If this is killed, the next run finds again that the inputs of the others have changed.

        Args:
            ids: the steps, parents first.
        """
        self._undo_dependents(ids)
        for id in reversed(ids):
            self._undo_step(id)

    def _undo_dependents(self, ids: Collection[str]) -> None:
        """Mark all steps of any recipe that depend on these as undone.

        Waits until no dependent step is running; repeats this, because other dependents may start meanwhile.
        """
        seen: set[str] = set()
        while dependents := [step for step in self.dependents(ids) if step not in seen]:
            for step in reversed(dependents):  # children first: a finished step never has an unfinished parent
                self._undo_step(step)
            seen |= {*dependents}

    def _undo_step(self, id: str) -> None:
        with self.claim(id, wait=True):
            for name in ("done.json", DROPPED, CHECKPOINT):
                (self.step(id) / name).unlink(missing_ok=True)

    def dependents(self, ids: Collection[str]) -> list[str]:
        """The other started steps that depend on these, directly or indirectly; the nearest first."""
        return find_dependents(ids, self.step_parents())

    def step_parents(self) -> Mapping[str, tuple[str, ...]]:
        """The parents of each started step; they never change, so each record is read once."""
        for id in os.listdir(self.folder / "steps"):  # noqa: PTH208  (ten times as fast as paths)
            if id not in self._parents and (record := self._record(id)) is not None:
                self._parents[id] = record.parent_ids
        return self._parents

    def clean_up(self) -> None:
        """Remove leftovers of killed runs and checkpoints of finished steps; no other run may use the folder."""
        for path in (self.folder / "steps").glob(f"*/{CHECKPOINT}"):
            if self.state(path.parent.name).has_results:
                path.unlink()
        patterns = f"steps/*/.{CHECKPOINT}.tmp .*.tmp recipes/.*.tmp recipes/*{RUNNING} claims/* features/*.lock"
        for pattern in (*patterns.split(), "best/*/.*.tmp"):
            for path in self.folder.glob(pattern):
                if path.is_symlink() or not path.is_dir():  # a folder of that name is not ours
                    path.unlink()
        recipes = self.recipes()
        for path in self.folder.glob("best/*/*"):
            if path.is_symlink() and path.parent.name not in recipes:
                path.unlink()
                with suppress(OSError):  # it has more files
                    path.parent.rmdir()
        for part in self.features.glob("*.part"):
            shutil.rmtree(part, ignore_errors=True)

    def checked_data(self) -> dict[str, list[str]]:
        """The notes on data that were checked without an error, by the content of the data."""
        try:
            checked = read_json(self.folder / CHECKED)
        except (OSError, ValueError):  # the data are checked again
            return {}
        return checked if isinstance(checked, dict) else {}

    def note_checked(self, notes: Mapping[str, list[str]]) -> None:
        """Record data as checked, so that later runs need not check them again."""
        if notes:
            write_atomic(
                self.folder / CHECKED, json.dumps({**self.checked_data(), **notes}, indent=1, ensure_ascii=False) + "\n"
            )

    def finish(self, id: str, facts: Mapping[str, Any]) -> None:
        """Flush a step's files to disk and mark it as finished; the files get the folder's read permissions."""
        for path in self.step(id).rglob("*"):
            if path.is_file():  # safetensors makes its files readable by the owner only
                path.chmod(path.stat().st_mode | (self.step(id).stat().st_mode & 0o444))
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        write_atomic(self.step(id) / "done.json", json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
        (self.step(id) / DROPPED).unlink(missing_ok=True)
        (self.step(id) / CHECKPOINT).unlink(missing_ok=True)

    def facts(self, id: str) -> dict[str, Any]:
        """The facts in a finished step's `done.json`: its inputs with their sha256, seconds, dev score."""
        try:
            facts: dict[str, Any] = read_json(path := self.step(id) / "done.json")
            facts.get("inputs", {}).items()
        except (ValueError, AttributeError) as error:
            raise UserError("cannot be read", where=str(path), hint=self._rerun_hint(id)) from error
        return facts

    def _rerun_hint(self, id: str) -> str:
        return f"delete the folder {self.step(id)} and run again"

    def changed_inputs(self, id: str, now: Mapping[str, str]) -> dict[str, str]:
        """What happened to each input file of a finished step whose content is not what the step read.

        Args:
            id: the step.
            now: the existing files that it would read now, with their sha256; they may have moved.
        """
        before = self.facts(id).get("inputs", {})
        names, changed = {Path(old).name for old in before}, {}
        for path, sha256 in now.items():
            if path in before and before[path] != sha256:
                changed[path] = "has changed since it was read"
            elif Path(path).name not in names:
                changed[path] = "is new"
            elif sha256 not in before.values():
                changed[path] = "differs from the file of this name that was read"
        return changed

    def save_study(self, study: Study) -> str:
        """Save the data of a recipe's report; returns the name of an earlier version that stays, see `save_recipe`."""
        return save_recipe(self.folder / "recipes", study, lambda id: self.state(id).has_results)

    def recipes(self) -> dict[str, Path]:
        """The recipe files by name, the newest last; see `recipe_files`."""
        return recipe_files(self.folder / "recipes")

    def study(self, name: str | None) -> Study:
        """The study of the named or the newest recipe.

        Raises:
            UserError: there is no such recipe, or no recipe at all.
        """
        if not (files := self.recipes()):
            raise UserError("has no results of any recipe yet", where=str(self.folder))
        if name is not None and name not in files:
            raise UserError(f"has no results of a recipe '{name}'", where=str(self.folder), hint=nearest(name, files))
        return read_study(files[name or list(files)[-1]])

    def scores(self, study: Study) -> list[Score]:
        """The scores of a study's finished evaluations."""
        return [row for id in self._evaluated(study) for row in self.step_scores(id)]

    def layer_scores(self, study: Study) -> list[LayerScore]:
        """The scores of a study's finished evaluations by layer and pooling, if its recipe asks for them."""
        paths = {id: self.step(id) / LAYERS for id in self._evaluated(study)}
        return [row for id, path in paths.items() if path.is_file() for row in self._rows(id, path, LayerScore)]

    def _evaluated(self, study: Study) -> list[str]:
        return [id for id in dict.fromkeys(cell.step for cell in study.cells) if self.state(id).has_results]

    def predictions(self, id: str) -> list[Prediction]:
        """The predictions of a finished evaluation.

        Raises:
            UserError: the rows cannot be read, do not match the scores, or are not in this copy.
        """
        if (self.step(id) / EXAMPLES).is_file():
            hint = "use the run folder that it was copied from"
            raise UserError("is a copy of rows, without predictions", where=str(self.folder), hint=hint)
        path = self.step(id) / "predictions.jsonl"
        rows = self._rows(id, path, Prediction)
        if problem := find_row_problem(rows, self.step_scores(id)):
            raise UserError(problem, where=str(path), hint=self._rerun_hint(id))
        return rows

    def example_scores(self, id: str) -> list[ExampleScores] | None:
        """What each example adds to a score, in a copy without predictions (`rows_only`); elsewhere None."""
        path = self.step(id) / EXAMPLES
        return self._rows(id, path, ExampleScores) if path.is_file() else None

    def notes(self, study: Study) -> dict[str, str]:
        """Notes on trainings that ended at chance although other steps start from them, by step."""
        notes: dict[str, str] = {}
        record, at_chance = cache(lambda id: self._record(id) or StepRecord()), cache(self._ended_at_chance)
        trained_on_own = {task.name: task.trained_on_own_data for task in study.tasks}
        for cell in study.cells:
            # a task's scores already show that its own training failed; equal trainings share a step
            queue = [(id, trained_on_own.get(cell.task, False)) for id in record(cell.step).parent_ids]
            seen = dict.fromkeys(queue)
            while queue:
                id, may_be_target = queue.pop()
                trained = record(id).trained_tasks
                if trained and not may_be_target and cell.task not in trained and at_chance(id):
                    notes[id] = f"{self.title(id)} ended at chance on its dev set ({at_chance(id)})"
                parents = [(parent, may_be_target and not trained) for parent in record(id).parent_ids]
                queue += [step for step in parents if step not in seen]
                seen |= dict.fromkeys(parents)
        return notes

    def _ended_at_chance(self, id: str) -> str:
        """A training's score and chance, if it ended at chance; else empty."""
        facts = self.facts(id) if self.state(id).has_results else {}
        if not facts.get("at_chance"):
            return ""
        try:
            cause = f"; likely cause: {facts['likely_cause']}" if facts.get("likely_cause") else ""
            return f"{facts['dev']:.1f}; chance is {facts['dev_chance']:.1f}{cause}"
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                "cannot be read", where=str(self.step(id) / "done.json"), hint=self._rerun_hint(id)
            ) from error

    def title(self, id: str) -> str:
        """A step's title with its seed; empty if unknown."""
        record = self._record(id) or StepRecord()
        return record.title if record.seed is None else f"{record.title}, seed {record.seed}"

    def _record(self, id: str) -> StepRecord | None:
        """The record of a step; None if no run has started the step, or its record is damaged."""
        try:
            return read_step(self.step(id))
        except (OSError, UserError):
            return None

    def step_scores(self, id: str) -> list[Score]:
        """The score rows of a step."""
        rows = self._rows(id, path := self.step(id) / "scores.jsonl", Score)
        if len({(row.task, row.language, row.split, row.metric) for row in rows}) < len(rows):
            raise UserError("has two rows for the same score", where=str(path), hint=self._rerun_hint(id))
        return rows

    def _rows(self, id: str, path: Path, kind: type[Any]) -> list[Any]:
        try:
            return read_rows(path, kind)
        except (FileNotFoundError, UserError) as error:
            what, where = (error.message, error.where) if isinstance(error, UserError) else ("is missing", str(path))
            raise UserError(what, where=where, hint=self._rerun_hint(id)) from error


def open_existing(folder: Path) -> Store:
    """Open a store that exists.

    Raises:
        UserError: the folder is missing, is no store, or has another version.
    """
    if not folder.is_dir():
        siblings = [mark.parent.name for mark in folder.parent.glob(f"*/{MARK}")]
        what = "is not a folder" if folder.exists() else "no such run folder"
        raise UserError(what, where=str(folder), hint=nearest(folder.name, siblings))
    mark = folder / MARK
    if not mark.is_file():
        raise UserError(f"is not a run folder of xstilts (it has no {MARK})", where=str(folder))
    try:
        version = read_json(mark)["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError("cannot be read", where=str(mark)) from error
    if version != VERSION:
        made_by = "an earlier" if version in range(VERSION) else "another"
        what = f"was made by {made_by} version of xstilts (its format is {version}, this one reads {VERSION})"
        raise UserError(what, where=str(folder), hint="use another --out, or the version of xstilts that made it")
    steps = folder / "steps"
    if steps.exists() and not steps.is_dir():
        raise UserError("is not a folder", where=str(steps))
    return Store(folder)


def open_or_new(folder: Path) -> Store:
    """Open a store, or a folder that can become one; writes nothing.

    Raises:
        UserError: the folder exists, but is no run folder.
    """
    if folder.exists() and not (folder.is_dir() and all(_is_leftover(entry) for entry in folder.iterdir())):
        return open_existing(folder)
    return Store(folder)


def _is_leftover(entry: Path) -> bool:
    """Whether this may be from a run that was killed before it wrote the mark."""
    return (entry.name == "steps" and entry.is_dir() and not any(entry.iterdir())) or entry.name.startswith(f".{MARK}.")


@contextmanager
def lock_shared(store: Store, say: Callable[[str], None] = lambda _: None) -> Iterator[Store]:
    """Make the store if needed and lock it together with other runs; the first run cleans up before that.

    Raises:
        UserError: no permission to write.
    """
    with open_lock_file(store) as lock:
        where = str(store.folder)
        if locks.lock(lock, where):
            store.clean_up()
        elif not locks.lock(lock, where, shared=True):
            say(f"{where} is being cleaned up by another process; this run waits")
        locks.lock(lock, where, shared=True, wait=True)
        yield store


@contextmanager
def lock_exclusive(store: Store) -> Iterator[Store]:
    """Lock a store against all runs.

    Raises:
        UserError: a run is using it, or no permission to write.
    """
    with open_lock_file(store) as lock:
        locks.require_lock(lock, "a run is using this folder", str(store.folder))
        store.clean_up()
        yield store


def open_lock_file(store: Store) -> IO[str]:
    """Open the lock file of the store; makes the store if needed."""
    try:
        (store.folder / "steps").mkdir(parents=True, exist_ok=True)
        mark = store.folder / MARK
        if not mark.is_file():
            try:
                write_atomic(mark, json.dumps({"format": "xstilts run folder", "version": VERSION}) + "\n")
            except FileNotFoundError:  # another run made the store meanwhile, and cleaned up the temporary file
                if not mark.is_file():
                    raise
        return (store.folder / "lock").open("w")
    except OSError as error:
        where = str(error.filename or store.folder)
        raise UserError(f"cannot be written: {error.strerror}", where=where, hint="choose another --out") from error
