"""Identities: the id of a step, and what of a task's shape and data the id depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from xstilts.study.step import Kind
from xstilts.tasks.source import Source
from xstilts.tasks.task import Task


def step_id(kind: Kind, encoder: str, parents: Sequence[str], seed: int | None, content: dict[str, Any]) -> str:
    """The id of a step: a hash of everything that decides its outcome but the content of data files.

    Args:
        kind: what the step does.
        encoder: the recipe's encoder, for a step that starts from it.
        parents: the ids of the steps that it starts from.
        seed: None for a step that does not depend on one seed of the study.
        content: its settings and the identities of its tasks; a word at its default is left out (`Strict.identity`).
    """
    origin: str | Sequence[str] = parents if len(parents) > 1 else next(iter(parents), encoder)
    hashed = json.dumps([kind, origin, seed, content], sort_keys=True)
    return hashlib.sha256(hashed.encode()).hexdigest()[:12]


def task_identity(task: Task, splits: Sequence[str], metrics: tuple[str, ...] = ()) -> dict[str, Any]:
    """What of a task decides the outcome of a step that uses these splits: its shape and its data, never its name."""
    sources: dict[str, Source] = {split: task.data[split] for split in splits if split in task.data}
    if "stop" in sources:
        sources.pop("dev", None)
    return {
        "format": [task.format.name, task.format.version, task.format.identity()],
        "data": {split: source.identity() for split, source in sources.items()},
        "train_languages": task.train_languages if "train" in sources else (),
        "metrics": metrics,
    }
