"""The training data of a study's tag task, read again for reports that compare its predictions with them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xstilts.data.examples import locate
from xstilts.errors import UserError, counted
from xstilts.formats.tag import Tag, Tagged
from xstilts.store.run_folder import Store
from xstilts.store.step_record import read_step
from xstilts.study.index import Study, StudyTask
from xstilts.tasks.task import Task


def train_examples(store: Store, data: Path | None, study: Study, task: StudyTask) -> list[Tagged]:
    """The sentences that the trainings of a task have read, without those held out for early stopping.

    Raises:
        UserError: the run folder does not say which they are, or the files are missing or have changed since.
    """
    trainings = [store.facts(id) for id in _trainings(store, study, task)]
    if task.train is None or not trainings:
        hint = "run the recipe again: what is done stays done"
        raise UserError("the run folder does not name its training data", where=task.name, hint=hint)
    kind = Task(
        name=task.name, format=Tag(), data={"train": task.train}, train_languages=task.train_languages,
        metrics=("token_accuracy",),
    )  # fmt: skip
    try:
        rows = locate(kind, task.train, task.train_languages, data, train=True)
    except UserError as error:
        hint = "give the data folder with --data; for files beside your task file, its folder"
        raise UserError(error.message, where=error.where, hint=hint) from error
    for facts in trainings:
        for path, sha256 in rows.files.items():
            if sha256 not in facts.get("inputs", {}).values():
                raise UserError(f"is not the file that the training of {task.name} read", where=path)
    held_out = {_held_out(facts, task.name) for facts in trainings}
    if len(held_out) > 1:
        raise UserError(f"its {counted(len(trainings), 'training')} held out different rows", where=task.name)
    part = held_out.pop()
    return (rows if part is None else rows.without(part)).read()


def _held_out(facts: dict[str, Any], task: str) -> str | None:
    part = facts.get("stop", {}).get(task, {}).get("held_out")
    return part if isinstance(part, str) else None


def _trainings(store: Store, study: Study, task: StudyTask) -> Iterator[str]:
    """The finished steps that train the task, among those that its scored steps start from."""
    queue = [cell.step for cell in study.cells if cell.task == task.name and store.state(cell.step).has_results]
    seen = set[str]()
    while queue:
        id = queue.pop()
        if id in seen:
            continue
        seen.add(id)
        record = read_step(store.step(id))
        if task.name in record.trained_tasks and store.state(id).has_results:
            yield id
        queue += record.parent_ids
