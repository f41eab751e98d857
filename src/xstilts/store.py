"""The run folder: one store of finished steps that all recipes share."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xstilts.errors import Collector, UserError, nearest
from xstilts.results import Score, Study, read_rows, write_atomic

VERSION = 1
MARK = "store.json"


@dataclass(frozen=True)
class Store:
    """A folder with `steps/<id>/`, `features/`, and what each recipe's report needs in `recipes/<name>.json`."""

    folder: Path

    def step(self, id: str) -> Path:
        """The folder of a step."""
        return self.folder / "steps" / id

    @property
    def features(self) -> Path:
        """Where token features are kept; may be deleted at any time."""
        return self.folder / "features"

    def done(self, id: str) -> bool:
        """Whether a step is finished; its `done` is written last."""
        return (self.step(id) / "done.json").is_file()

    def begin(self, id: str) -> Path:
        """An empty folder for a step; what an unfinished try has left is removed."""
        folder = self.step(id)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def finish(self, id: str, facts: Mapping[str, Any]) -> None:
        """Mark a step as finished."""
        write_atomic(self.step(id) / "done.json", json.dumps(facts, indent=1, ensure_ascii=False) + "\n")

    def facts(self, id: str) -> dict[str, Any]:
        """What was noted when a step was finished: its inputs with their sha256, seconds, dev score."""
        facts: dict[str, Any] = json.loads((self.step(id) / "done.json").read_text(encoding="utf-8"))
        return facts

    def unchanged(self, id: str, now: Mapping[str, str]) -> None:
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
            elif sha256 not in before.values():
                found.add(f"is not what step {id} was made from", where=path, hint=hint)
        found.raise_any()

    def save_study(self, study: Study) -> None:
        """Keep what the report of a recipe needs."""
        (self.folder / "recipes").mkdir(exist_ok=True)
        write_atomic(self.folder / "recipes" / f"{study.name}.json", study.to_json())

    def study(self, name: str | None) -> Study:
        """The study of a recipe: the one named, or the newest.

        Raises:
            UserError: no such recipe here, or none at all.
        """
        files = {p.stem: p for p in sorted((self.folder / "recipes").glob("*.json"), key=lambda p: p.stat().st_mtime)}
        if not files:
            raise UserError("holds no recipe's results yet", where=str(self.folder))
        if name is not None and name not in files:
            raise UserError(f"holds no results of a recipe '{name}'", where=str(self.folder), hint=nearest(name, files))
        return Study.from_json(files[name or list(files)[-1]].read_text(encoding="utf-8"))

    def scores(self, study: Study) -> list[Score]:
        """The rows of all finished evaluations of a study."""
        ids = dict.fromkeys(cell.step for cell in study.cells)
        return [row for id in ids if self.done(id) for row in read_rows(self.step(id) / "scores.jsonl", Score)]


def existing(folder: Path) -> Store:
    """A store that must be there.

    Raises:
        UserError: no such folder, not a store, or one of another version.
    """
    if not folder.is_dir():
        beside = [p.name for p in folder.parent.iterdir() if p.is_dir()] if folder.parent.is_dir() else []
        raise UserError("no such run folder", where=str(folder), hint=nearest(folder.name, beside) if beside else "")
    mark = folder / MARK
    if not mark.is_file():
        raise UserError(f"is not a run folder of xstilts (it has no {MARK})", where=str(folder))
    try:
        version = json.loads(mark.read_text(encoding="utf-8"))["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError("cannot be read", where=str(mark)) from error
    if version != VERSION:
        raise UserError(f"is a run folder of format version {version}; this xstilts reads {VERSION}", where=str(folder))
    return Store(folder)


def usable(folder: Path) -> Store:
    """A store that is there, or a place where one can be made; nothing is written.

    Raises:
        UserError: something else is there.
    """
    if (folder.is_dir() and any(folder.iterdir())) or (folder.exists() and not folder.is_dir()):
        return existing(folder)
    return Store(folder)


@contextmanager
def opened(store: Store) -> Iterator[Store]:
    """Make the store if it is not there, and hold it against a second run.

    Raises:
        UserError: no permission to write, or another run is using it.
    """
    try:
        (store.folder / "steps").mkdir(parents=True, exist_ok=True)
        if not (store.folder / MARK).is_file():
            write_atomic(store.folder / MARK, json.dumps({"format": "xstilts run folder", "version": VERSION}) + "\n")
        lock = (store.folder / "lock").open("w")
    except OSError as error:
        raise UserError(
            f"cannot be written: {error.strerror}", where=str(store.folder), hint="choose another --out"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError("another run is using this folder", where=str(store.folder)) from error
        yield store


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says when there is no room for a file."""


def full(error: Exception) -> bool:
    """Whether it was for want of room that a file could not be written; some libraries tell only in words."""
    return getattr(error, "errno", None) in FULL or any(os.strerror(number) in str(error) for number in FULL)
