"""The catalogue as rows: what each task is, and where its data lie or are looked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xstilts.data.find import look
from xstilts.errors import UserError
from xstilts.tasks import TASKS
from xstilts.tasks.task import Split, Task


def describe(data: Path | None) -> list[dict[str, Any]]:
    """A row for each built-in task; with a data folder, `found` has the languages of each split that are there.

    Raises:
        UserError: no such folder.
    """
    folder(data)
    return [_row(task, data) for task in TASKS.values()]


def folder(data: Path | None) -> Path | None:
    """The data folder, if it is one.

    Raises:
        UserError: no such folder.
    """
    if data is not None and not data.is_dir():
        raise UserError("no such folder", where=str(data), hint="--data and XSTILTS_DATA name the data folder")
    return data


def _row(task: Task, data: Path | None) -> dict[str, Any]:
    found = {split: _found(task, split, data) for split in task.data}
    return {
        "task": task.name,
        "format": task.format.name,
        "labels": list(getattr(task.format, "labels", None) or ()),
        "languages": list(task.languages),
        "more_languages": list(task.more_languages),
        "train_languages": list(task.train_languages),
        "splits": list(task.data),
        "metrics": list(task.metrics),
        "batch": task.batch,
        "epochs": task.epochs,
        "max_length": task.max_length,
        "license": task.license,
        "url": task.url,
        "note": task.note,
        "files": {
            split: [[file.path for file in layout] for layout in source.layouts] for split, source in task.data.items()
        },
        "found": found,
    }


def summary(row: Mapping[str, Any], *, found: bool) -> list[str]:
    """The cells of a row for people: how many languages each split has, and of how many of them the data are there."""
    more = f" + {len(row['more_languages'])}" if row["more_languages"] else ""
    cells = [row["task"], row["format"], row["metrics"][0], f"{len(row['languages'])}{more}"]
    scored = len(row["languages"]) + len(row["more_languages"])
    for split, total in (("train", len(row["train_languages"])), ("dev", scored), ("test", scored)):
        there = f"{len(row['found'].get(split, ()))}/{total}" if found else str(total)
        cells.append(there if split in row["splits"] else "")
    return cells


def _found(task: Task, split: Split, data: Path | None) -> list[str]:
    roots = [] if data is None else [data]
    return [code for code in task.languages_of(split) if look(task.data[split], code, roots)]


def absent(task: Task, languages: Sequence[str], data: Path | None, *, trained: bool) -> list[str]:
    """What of a task's data is not there, in words: its training data, languages with neither dev nor test, or one.

    Args:
        task: the task.
        languages: those to be scored.
        data: the data folder.
        trained: whether it is to be trained on.
    """
    lines = [f"{task.name}: training data"] if trained and not _found(task, "train", data) else []
    if task.scored and languages:
        found = {split: _found(task, split, data) for split in task.scored}
        lost = [code for code in languages if not any(code in there for there in found.values())]
        if lost:
            lines.append(f"{task.name}: {_codes(lost, languages)}")
        for split, there in found.items():
            wanted = [code for code in languages if code in task.languages_of(split) and code not in lost]
            if less := [code for code in wanted if code not in there]:
                lines.append(f"{task.name}: {split} of {_codes(less, wanted)}")
    return lines


def _codes(some: Sequence[str], all_of: Sequence[str]) -> str:
    return "all languages" if len(some) == len(all_of) else ", ".join(some)
