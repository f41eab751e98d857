"""Identities: the id of a step, and the parts of a task that it depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from xstilts.study.step import Kind
from xstilts.tasks.source import Source
from xstilts.tasks.task import Task


def step_id(kind: Kind, encoder: str, parents: Sequence[str], seed: int | None, content: dict[str, Any]) -> str:
    """The id of a step: a hash of everything that decides its outcome, except the content of data files.

    Args:
        kind: the kind of step.
        encoder: the recipe's encoder, for a step that starts from it.
        parents: the ids of the steps that it starts from.
        seed: None for a step that does not depend on one seed of the study.
        content: its settings and the identities of its tasks, without fields at their defaults (`Strict.identity`).
    """
    origin: str | Sequence[str] = parents if len(parents) > 1 else next(iter(parents), encoder)
    hashed = json.dumps([kind, origin, seed, content], sort_keys=True)
    return hashlib.sha256(hashed.encode()).hexdigest()[:12]


def task_identity(task: Task, splits: Sequence[str], metrics: tuple[str, ...] = ()) -> dict[str, Any]:
    """The parts of a task that decide the outcome of a step on these splits: its format and data, never its name."""
    sources: dict[str, Source] = {split: task.data[split] for split in splits if split in task.data}
    if "stop" in sources:
        sources.pop("dev", None)
    held_out = {"held_out": task.held_out} if task.held_out and "stop" in splits else {}
    return held_out | {
        "format": [task.format.name, task.format.version, task.format.identity()],
        "data": {split: source.identity() for split, source in sources.items()},
        "train_languages": task.train_languages if "train" in sources else (),
        "metrics": metrics,
    }
