"""The run folder: one store of finished steps that all recipes share."""

from __future__ import annotations

import json
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO, Any

from xstilts.errors import Collector, UserError, nearest
from xstilts.store.rows import Prediction, Score, missing_or_twice, read_rows
from xstilts.store.step_record import DROPPED, StepRecord, StepState, read_step, state_of
from xstilts.study.index import Study, read_study
from xstilts.training.settings import CHECKPOINT
from xstilts.utils import locks
from xstilts.utils.files import read_json, write_atomic

VERSION = 2
"""Of the run folder: its files, its step ids, and the defaults that these leave out."""
MARK = "store.json"
CHECKED = "read.json"
"""Which data were read without a mistake; may be deleted at any time."""
RUNNING = ".running"
"""Ends the name of a file that says what a run needs, while it goes on."""


@dataclass(frozen=True)
class Store:
    """A folder with `steps/<id>/`, `features/`, and what each recipe's report needs in `recipes/<name>.json`."""

    folder: Path
    _parents: dict[str, tuple[str, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def step(self, id: str) -> Path:
        """The folder of a step."""
        return self.folder / "steps" / id

    @property
    def features(self) -> Path:
        """Where token features are kept; may be deleted at any time."""
        return self.folder / "features"

    def state(self, id: str) -> StepState:
        """How far a step has come."""
        return state_of(self.step(id))

    def drop(self, id: str) -> None:
        """Remove the encoder and the heads of a finished step, unless another process works on it."""
        folder = self.step(id)
        with self.claim(id) as ours:
            if ours and self.state(id) is not StepState.MISSING:
                write_atomic(folder / DROPPED, "")
                for path in folder.glob("head-*"):
                    path.unlink()
                for path in (folder / "mean", folder / "encoder"):  # which goes last: what is killed here is done again
                    shutil.rmtree(path, ignore_errors=True)

    def claim(self, id: str, *, wait: bool = False) -> AbstractContextManager[bool]:
        """Within this block no other process works on the step; false where one does."""
        return locks.exclusive(self.folder / "claims" / id, wait=wait)

    def begin(self, id: str, row: Mapping[str, Any]) -> Path:
        """A folder for a step that this process has claimed, with nothing of an unfinished try but its checkpoint.

        The steps that started from it are undone, unless it is done again only because its encoder was removed.
        """
        folder = self.step(id)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / DROPPED).is_file():
            self._undo_dependents(id)
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name not in (CHECKPOINT, DROPPED):
                path.unlink()
        write_atomic(folder / "step.json", json.dumps(row, indent=1, ensure_ascii=False) + "\n")
        return folder

    def _undo_dependents(self, id: str) -> None:
        """Steps of any recipe that started from this one, or from such a step, are no longer finished.

        One that another process is doing is waited for; meanwhile others may have begun.
        """
        seen: set[str] = set()
        while lost := [step for step in self._dependents(id) if step not in seen]:
            for step in reversed(lost):  # what is finished stands on finished steps at every moment
                with self.claim(step, wait=True):
                    (self.step(step) / "done.json").unlink(missing_ok=True)
                    (self.step(step) / CHECKPOINT).unlink(missing_ok=True)
            seen |= {*lost}

    def _dependents(self, id: str) -> list[str]:
        """The steps that have begun from this one, or from such a step; the nearest first."""
        after: dict[str, list[str]] = defaultdict(list)
        for step, before in self.step_parents().items():
            for parent in before:
                after[parent].append(step)
        found = {id: None}
        ahead = [id]
        while ahead:
            children = [child for child in after[ahead.pop()] if child not in found]
            found |= dict.fromkeys(children)
            ahead += children
        return [*found][1:]

    def step_parents(self) -> Mapping[str, tuple[str, ...]]:
        """What each step that has begun starts from, which its id tells apart, so it is read but once."""
        for id in os.listdir(self.folder / "steps"):  # noqa: PTH208  (ten times as fast as paths)
            if id not in self._parents and (record := self._record(id)) is not None:
                self._parents[id] = record.parent_ids
        return self._parents

    def clean_up(self) -> None:
        """Remove what killed runs have left, and checkpoints of steps that are finished; no other run may be there."""
        for path in (self.folder / "steps").glob(f"*/{CHECKPOINT}"):
            if self.state(path.parent.name).has_results:
                path.unlink()
        left = f"steps/*/.{CHECKPOINT}.tmp .*.tmp recipes/.*.tmp recipes/*{RUNNING} claims/* features/*.lock"
        for pattern in left.split():
            for path in self.folder.glob(pattern):
                if not path.is_dir():  # which is not ours
                    path.unlink()
        for part in self.features.glob("*.part"):
            shutil.rmtree(part, ignore_errors=True)

    def checked_data(self) -> dict[str, list[str]]:
        """The notes on data that were read without an error, by the content of the data."""
        try:
            noted = read_json(self.folder / CHECKED)
        except (OSError, ValueError):  # they are read again
            return {}
        return noted if isinstance(noted, dict) else {}

    def note_checked(self, notes: Mapping[str, list[str]]) -> None:
        """Note that data were read without a mistake, so that they need not be read again just to be checked."""
        if notes:
            write_atomic(
                self.folder / CHECKED, json.dumps({**self.checked_data(), **notes}, indent=1, ensure_ascii=False) + "\n"
            )

    def finish(self, id: str, facts: Mapping[str, Any]) -> None:
        """Mark a step as finished, all its files being on the disk; who may read the folder may read these."""
        for path in self.step(id).rglob("*"):
            if path.is_file():  # safetensors keeps what it writes to oneself
                path.chmod(path.stat().st_mode | (self.step(id).stat().st_mode & 0o444))
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        write_atomic(self.step(id) / "done.json", json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
        (self.step(id) / DROPPED).unlink(missing_ok=True)
        (self.step(id) / CHECKPOINT).unlink(missing_ok=True)

    def facts(self, id: str) -> dict[str, Any]:
        """What was noted when a step was finished: its inputs with their sha256, seconds, dev score."""
        path = self.step(id) / "done.json"
        try:
            facts: dict[str, Any] = read_json(path)
            facts.get("inputs", {}).items()
        except (ValueError, AttributeError) as error:
            raise UserError("cannot be read", where=str(path), hint=self._rerun_hint(id)) from error
        return facts

    def _rerun_hint(self, id: str) -> str:
        return f"delete the folder {self.step(id)} and run again"

    def check_inputs_unchanged(self, id: str, now: Mapping[str, str]) -> None:
        """See that a finished step was made from the data that are there now; where they lie does not matter.

        Args:
            id: the step.
            now: the files that it would read now, as far as they are there, with their sha256.

        Raises:
            UserError: for each file with another content.
        """
        found = Collector()
        before = self.facts(id).get("inputs", {})
        hint = f"give another --out, or delete {self.step(id)} and the steps after it"
        for path, sha256 in now.items():
            if path in before and before[path] != sha256:
                found.add(f"has changed since step {id} was made from it", where=path, hint=hint)
            elif Path(path).name not in {Path(old).name for old in before}:
                found.add(f"is new since step {id} was made", where=path, hint=hint)
            elif sha256 not in before.values():
                found.add(f"is not what step {id} was made from", where=path, hint=hint)
        found.raise_any()

    def save_study(self, study: Study) -> bool:
        """Keep what the report of a recipe needs; whether it took the place of something else of that name."""
        path, content = self.folder / "recipes" / f"{study.name}.json", study.to_json()
        path.parent.mkdir(exist_ok=True)
        other = path.exists() and path.read_bytes() != content.encode()
        write_atomic(path, content)
        return other

    def recipes(self) -> dict[str, Path]:
        """The files of its recipes by name, the newest last."""
        files = [(path.stat().st_mtime, path) for path in (self.folder / "recipes").glob("*.json")]
        return {path.stem: path for _, path in sorted(files)}

    def study(self, name: str | None) -> Study:
        """The study of a recipe: the one named, or the newest.

        Raises:
            UserError: no such recipe here, or none at all.
        """
        files = self.recipes()
        if not files:
            raise UserError("holds no recipe's results yet", where=str(self.folder))
        if name is not None and name not in files:
            raise UserError(f"holds no results of a recipe '{name}'", where=str(self.folder), hint=nearest(name, files))
        return read_study(files[name or list(files)[-1]])

    def scores(self, study: Study) -> list[Score]:
        """The rows of all finished evaluations of a study."""
        ids = dict.fromkeys(cell.step for cell in study.cells)
        return [row for id in ids if self.state(id).has_results for row in self._scores(id)]

    def predictions(self, id: str) -> list[Prediction]:
        """What a finished evaluation answered.

        Raises:
            UserError: the rows cannot be read, or are not those that its scores are over.
        """
        path = self.step(id) / "predictions.jsonl"
        rows = self._rows(id, path, Prediction)
        if wrong := missing_or_twice(rows, self._scores(id)):
            raise UserError(wrong, where=str(path), hint=self._rerun_hint(id))
        return rows

    def notes(self, study: Study) -> list[str]:
        """Trainings that ended at chance before others or another task were built on them."""
        notes: dict[str, None] = {}
        record, at_chance = cache(lambda id: self._record(id) or StepRecord()), cache(self._ended_at_chance)
        own = {task.name: task.trained_on_own_data for task in study.tasks}
        for cell in study.cells:
            # a task's own training is no surprise in its scores, whichever of its twins gave the step its name
            queue = [(id, own.get(cell.task, False)) for id in record(cell.step).parent_ids]
            seen = dict.fromkeys(queue)
            while queue:
                id, is_own = queue.pop()
                trained = record(id).trained_tasks
                if trained and not is_own and cell.task not in trained and at_chance(id):
                    notes[f"{self.title(id)} ended at chance on its dev set ({at_chance(id)})"] = None
                parents = [(parent, is_own and not trained) for parent in record(id).parent_ids]
                queue += [step for step in parents if step not in seen]
                seen |= dict.fromkeys(parents)
        return list(notes)

    def _ended_at_chance(self, id: str) -> str:
        """A training's score and what chance is, if it ended there."""
        facts = self.facts(id) if self.state(id).has_results else {}
        if not facts.get("at_chance"):
            return ""
        try:
            return f"{facts['dev']:.1f}; chance is {facts['dev_chance']:.1f}"
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                "cannot be read", where=str(self.step(id) / "done.json"), hint=self._rerun_hint(id)
            ) from error

    def title(self, id: str) -> str:
        """What a step does, in words, with its seed; empty where that is not known."""
        record = self._record(id) or StepRecord()
        return record.title if record.seed is None else f"{record.title}, seed {record.seed}"

    def _record(self, id: str) -> StepRecord | None:
        """The record of a step; None if the step has not begun, or its record is damaged."""
        try:
            return read_step(self.step(id))
        except (OSError, UserError):
            return None

    def _scores(self, id: str) -> list[Score]:
        path = self.step(id) / "scores.jsonl"
        rows = self._rows(id, path, Score)
        if len({(row.task, row.language, row.split, row.metric) for row in rows}) < len(rows):
            raise UserError("has two rows of one score", where=str(path), hint=self._rerun_hint(id))
        return rows

    def _rows(self, id: str, path: Path, kind: type[Any]) -> list[Any]:
        try:
            return read_rows(path, kind)
        except (FileNotFoundError, UserError) as error:
            what, where = (error.message, error.where) if isinstance(error, UserError) else ("is gone", str(path))
            raise UserError(what, where=where, hint=self._rerun_hint(id)) from error


def open_existing(folder: Path) -> Store:
    """A store that must be there.

    Raises:
        UserError: no such folder, not a store, or one of another version.
    """
    if not folder.is_dir():
        beside = [mark.parent.name for mark in folder.parent.glob(f"*/{MARK}")]
        what = "is no folder" if folder.exists() else "no such run folder"
        raise UserError(what, where=str(folder), hint=nearest(folder.name, beside))
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
    return Store(folder)


def open_or_new(folder: Path) -> Store:
    """A store that is there, or a place where one can be made; nothing is written.

    Raises:
        UserError: something else is there.
    """
    if folder.exists() and not (folder.is_dir() and all(_is_leftover(entry) for entry in folder.iterdir())):
        return open_existing(folder)
    return Store(folder)


def _is_leftover(entry: Path) -> bool:
    """Whether a run killed before it wrote the mark may have left this."""
    return (entry.name == "steps" and entry.is_dir() and not any(entry.iterdir())) or entry.name.startswith(f".{MARK}.")


@contextmanager
def lock_shared(store: Store, say: Callable[[str], None] = lambda _: None) -> Iterator[Store]:
    """Make the store if it is not there, and hold it together with other runs; who finds it free sweeps it first.

    Raises:
        UserError: no permission to write.
    """
    with open_lock_file(store) as lock:
        where = str(store.folder)
        if locks.lock(lock, where):
            store.clean_up()
        elif not locks.lock(lock, where, shared=True):
            say(f"{where} is being tidied; waits until that is done")
        locks.lock(lock, where, shared=True, wait=True)
        yield store


@contextmanager
def lock_exclusive(store: Store) -> Iterator[Store]:
    """Hold a store that no run is using, against all runs.

    Raises:
        UserError: a run is using it, or no permission to write.
    """
    with open_lock_file(store) as lock:
        locks.require_lock(lock, "a run is using this folder", str(store.folder))
        store.clean_up()
        yield store


def open_lock_file(store: Store) -> IO[str]:
    """The file that stands for the whole store when it is locked; the store is made if it is not there."""
    try:
        (store.folder / "steps").mkdir(parents=True, exist_ok=True)
        if not (store.folder / MARK).is_file():
            write_atomic(store.folder / MARK, json.dumps({"format": "xstilts run folder", "version": VERSION}) + "\n")
        return (store.folder / "lock").open("w")
    except OSError as error:
        where = str(error.filename or store.folder)
        raise UserError(f"cannot be written: {error.strerror}", where=where, hint="choose another --out") from error
