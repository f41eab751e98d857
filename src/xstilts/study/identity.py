"""The identity of a task's data: what decides the outcome of a step that uses them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xstilts.tasks.source import Source
from xstilts.tasks.task import Task


def identity(task: Task, splits: Sequence[str], metrics: tuple[str, ...] = ()) -> dict[str, Any]:
    """What of a task decides an outcome: its shape and its data, never its name."""
    sources: dict[str, Source] = {split: task.data[split] for split in splits if split in task.data}
    if "stop" in sources:
        sources.pop("dev", None)
    return {
        "format": [task.format.name, task.format.version, task.format.model_dump(mode="json")],
        "data": {split: source.model_dump(mode="json") for split, source in sources.items()},
        "train_languages": task.train_languages if "train" in sources else (),
        "metrics": metrics,
    }
