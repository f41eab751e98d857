"""Writes a first recipe for task files: their tasks, without and with an intermediate task."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xstilts.data.headers import quoted
from xstilts.errors import UserError, nearest
from xstilts.study.load import read
from xstilts.study.plan import plan
from xstilts.tasks import INTERMEDIATE, TASKS
from xstilts.tasks.task import Task
from xstilts.tasks.user_tasks import from_yaml
from xstilts.utils.files import write_atomic

NO_TASK = "none"
"""The intermediate task of a recipe without one."""
_RECIPE = """\
# {question} in languages without labels? Change what you like, then `xstilts check`.
name: {name}
encoder: {encoder}  # a Hub id, or a folder
use: [{use}]
seeds: [1, 2, 3]  # one is faster; three show how much seeds differ
phases:
{before}  - {{name: target, each: [{names}]}}
evaluate: [{names}]
# settings: {{lr: 2e-5, epochs: 10}}  # of all trainings; `xstilts plan` shows them
# keep: all  # keeps each encoder, not only the best
"""
_INTERMEDIATE = """\
  - name: intermediate
    choices: [[], [{intermediate}]]  # []: nothing before the target, the baseline; you may add others
"""


@dataclass(frozen=True)
class NewRecipe:
    """The recipe that was written, and the built-in tasks that it needs from the Hub."""

    path: Path
    to_fetch: tuple[str, ...]


def write_recipe(
    task_files: Sequence[Path], encoder: str, intermediate: str = "", out: Path | None = None
) -> NewRecipe:
    """Write a recipe beside the first task file, or to `out`.

    Args:
        task_files: their tasks with training and scored data are the targets, but not the intermediate task.
        encoder: a Hub id, or a folder.
        intermediate: the task to train on before, also one of the files; empty: `tasks.INTERMEDIATE`; `none`: without
            one.
        out: the recipe; by default the first task file's name with `-study`.

    Raises:
        UserError: a task file has mistakes, none has a target, the intermediate task is not known; the recipe exists.
    """
    intermediate = intermediate or INTERMEDIATE
    own = {name: task for file in task_files for name, task in from_yaml(file, TASKS).items()}
    targets = [name for name, task in own.items() if name != intermediate and _is_target(task)]
    known = {name: task for name, task in {**TASKS, **own}.items() if task.trainable and name not in targets}
    shown = ", ".join(map(str, task_files))
    if not targets:
        others = " beside the intermediate task" if intermediate in own else ""
        raise UserError(f"has no task with labelled train and dev or test data{others}", where=shown,
                        hint="a target needs both; raw text and retrieval are no targets")  # fmt: skip
    alone = intermediate == NO_TASK and NO_TASK not in own
    if not alone and intermediate not in known:
        what = (
            f"no intermediate task '{intermediate}' is built in, or in {shown}; for another one give its task file, too"
        )
        raise UserError(what, where="--intermediate", hint=nearest(intermediate, {NO_TASK, *known}))
    first = task_files[0]
    path = out or first.with_name(f"{first.stem}-study.yaml")
    if os.path.lexists(path):
        raise UserError("exists already", where=str(path), hint="--out names another file")
    use = [Path(os.path.relpath(file.resolve(), path.parent.resolve())).as_posix() for file in task_files]
    names, before = ", ".join(targets), "" if alone else _INTERMEDIATE.format(intermediate=intermediate)
    question = ("How well does {} do" if alone else "Does an intermediate task help {}").format(names)
    text = _RECIPE.format(name=first.stem, names=names, encoder=quoted(encoder), use=", ".join(map(quoted, use)),
                          before=before, question=question)  # fmt: skip
    write_atomic(path, text)
    try:
        plan(*read(str(path)))
    except UserError:
        path.unlink()
        raise
    own_data = alone or known[intermediate].own or _is_generated(known[intermediate])
    return NewRecipe(path, () if own_data else (intermediate,))


def _is_target(task: Task) -> bool:
    """Whether a study can train on a task and score it."""
    return task.trainable and bool(task.scored) and task.format.head.trained


def _is_generated(task: Task) -> bool:
    """Whether the playground generates its data."""
    return all(file.path.startswith("playground:") for source in task.data.values()
               for layout in source.layouts for file in layout)  # fmt: skip
