"""Replays the logs of a run folder to a tracker: each row once, also of trainings that are still running."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xstilts.errors import UserError
from xstilts.store.run_folder import MARK, Store
from xstilts.tracking.tracker import Tracker, TrackerFactory
from xstilts.training.settings import LOG
from xstilts.utils.files import read_json, write_atomic
from xstilts.utils.locks import exclusive

LIVE_SECONDS = 20.0
"""Time between two replays of a run that is going on."""
MAX_NAME = 120
"""Characters of a training's name before its id; file names have at most 255 bytes."""


class Replay:
    """Hands new rows of the logs to a tracker, and remembers in `tracked/NAME.json` how many of each log it has.

    Args:
        store: the run folder.
        name: the tracker's name.
        make: makes the tracker.
    """

    def __init__(self, store: Store, name: str, make: TrackerFactory) -> None:
        self._store, self._make = store, make
        self._path = store.folder / "tracked" / f"{name}.json"
        self._lock = self._path.with_suffix(".lock")
        self._sizes: dict[str, int] = {}

    def advance(self) -> tuple[int, int]:
        """Hand on all rows that the tracker lacks; returns the numbers of trainings and of new rows."""
        if not (self._store.folder / MARK).is_file():  # a run that checks its inputs has not made the folder yet
            return 0, 0
        trainings = new = 0
        tracker: Tracker | None = None
        with exclusive(self._lock, wait=True):
            for log in sorted((self._store.folder / "steps").glob(f"*/{LOG}")):
                trainings += 1
                lines = self._changed(log)
                first, rows = self._tracked(log.parent.name, lines)
                if len(lines) > rows:
                    tracker = tracker or self._make(self._store.folder)
                    self._hand_on(tracker, log, lines, rows, first)
                    new += len(lines) - rows
        return trainings, new

    def _changed(self, log: Path) -> list[bytes]:
        """The rows of a log if its size is another than at the last look; else none."""
        try:
            content = log.read_bytes() if self._sizes.get(log.parent.name) != log.stat().st_size else b""
        except FileNotFoundError:  # its training has just started again
            return []
        self._sizes[log.parent.name] = len(content) or self._sizes.get(log.parent.name, 0)
        return content.split(b"\n")[:-1]  # the last piece is empty, or a row that is being written

    def _tracked(self, id: str, lines: list[bytes]) -> tuple[str, int]:
        """The hash of a log's first row, and how many of its rows the tracker has.

        A training that resumes keeps its first row, with its seconds. A training that starts again has another.
        """
        first = hashlib.sha256(lines[0]).hexdigest() if lines else ""
        known = self._read().get(id)
        return first, known["rows"] if known and known["first"] == first else 0

    def _hand_on(self, tracker: Tracker, log: Path, lines: list[bytes], rows: int, first: str) -> None:
        id = log.parent.name
        title = re.sub(r"[^\w.,+-]+", "-", self._store.title(id))[:MAX_NAME]
        self._write({**self._read(), id: None})  # a process that is killed now writes this training again, whole
        tracker.start(f"{title}-{id}", read_json(log.with_name("step.json")), resume=rows > 0)
        for line in lines[rows:]:
            row = json.loads(line)
            tracker.log(row["step"], scalars(row))
        tracker.finish()
        self._write({**self._read(), id: {"first": first, "rows": len(lines)}})

    def _read(self) -> dict[str, Any]:
        try:
            known: dict[str, Any] = read_json(self._path)
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise UserError(
                "cannot be read", where=str(self._path), hint="delete it: all trainings are handed on again"
            ) from error
        return known

    def _write(self, known: Mapping[str, Any]) -> None:
        write_atomic(self._path, json.dumps({id: one for id, one in known.items() if one}, indent=1) + "\n")


def scalars(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a log's row; a row with a dev score repeats the other numbers of the row before.

    >>> scalars({"step": 8, "total": 9, "task": "xnli", "loss": 0.5, "dev": 61.0})
    {'dev': 61.0}
    >>> scalars({"step": 8, "total": 9, "task": "xnli", "loss": 0.5, "updates": {"xnli": 5, "mnli": 3}})
    {'loss': 0.5, 'updates/xnli': 5, 'updates/mnli': 3}
    """
    if "dev" in row:
        return {"dev": row["dev"]}
    names = ("loss", "lr", "examples_per_second", "tokens_per_second")
    return {name: row[name] for name in names if name in row} | {
        f"updates/{task}": count for task, count in row.get("updates", {}).items()
    }


@contextmanager
def live(replay: Replay, say: Callable[[str], None]) -> Iterator[None]:
    """Replay every few seconds within this block, and once at its end; a tracker that fails never ends the run."""
    ended, failed = threading.Event(), threading.Event()

    def advance() -> None:
        try:
            replay.advance()
        except Exception as error:  # of a tracker, which may be anybody's code
            failed.set()
            say(f"the tracker stops: {error}; the run goes on, `xstilts track` hands on the rest")

    def repeat() -> None:
        while not failed.is_set() and not ended.wait(LIVE_SECONDS):
            advance()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        if not failed.is_set():
            advance()


def track(store: Store, name: str, make: TrackerFactory) -> tuple[int, int]:
    """Replay a run folder's logs once; returns the numbers of trainings and of new rows.

    Raises:
        UserError: no training has begun, or the tracker fails.
    """
    try:
        trainings, rows = Replay(store, name, make).advance()
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"the tracker failed: {error}", where=f"--to {name}") from error
    if not trainings:
        raise UserError("has no training yet", where=str(store.folder))
    return trainings, rows
