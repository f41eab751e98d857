"""The catalogue as rows: what each task is, and where its data lie or are looked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xstilts.data.examples import locate
from xstilts.errors import UserError
from xstilts.task import Task
from xstilts.tasks import TASKS


def describe(data: Path | None) -> list[dict[str, Any]]:
    """A row for each built-in task; with a data folder, `found` has the languages of each split that are there.

    Raises:
        UserError: no such folder.
    """
    if data is not None and not data.is_dir():
        raise UserError("no such folder", where=str(data), hint="--data and XSTILTS_DATA name the data folder")
    return [_row(task, data) for task in TASKS.values()]


def _row(task: Task, data: Path | None) -> dict[str, Any]:
    found = {split: _found(task, split, data) for split in task.data}
    return {
        "task": task.name,
        "format": task.format.name,
        "labels": list(getattr(task.format, "labels", None) or ()),
        "languages": list(task.languages),
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


def _found(task: Task, split: Any, data: Path | None) -> list[str]:
    there = []
    for code in task.train_languages if split == "train" else task.languages:
        try:
            locate(task, task.data[split], (code,), data)
        except UserError:
            continue
        there.append(code)
    return there
