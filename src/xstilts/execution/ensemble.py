"""Averages the predictions of several finished evaluations, example by example, and scores the mean."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from xstilts.errors import StepFailed
from xstilts.metrics import get as get_metric
from xstilts.store.rows import Prediction, Score, read_rows
from xstilts.store.run_folder import Store
from xstilts.study.step import EnsembleSpec, Step
from xstilts.tasks.task import Task

_Splits: TypeAlias = dict[tuple[str, str], dict[tuple[str, int], Prediction]]
"""By language and split, then by id; equal ids are counted."""


def average_predictions(
    store: Store, step: Step, spec: EnsembleSpec, task: Task
) -> tuple[list[Prediction], list[Score]]:
    """The mean of the members' probabilities for each example of the splits that all have, and its scores.

    Args:
        store: has the members' predictions.
        step: the ensemble.
        spec: its members.
        task: the task of its rows.

    Raises:
        StepFailed: members have other examples or labels, no split in common, or no probabilities.
    """
    members = [_read(store, ids) for ids in spec.members]
    shared = [key for key in members[0] if all(key in member for member in members[1:])]
    if not shared:
        raise StepFailed("the members have no language and split in common", where=step.title)
    chances = {
        (row.language, row.split, row.metric): row.chance
        for id in spec.members[0]
        for row in read_rows(store.step(id) / "scores.jsonl", Score)
    }
    predictions, scores = list[Prediction](), list[Score]()
    for language, split in shared:
        averaged = _average([member[language, split] for member in members], task)
        predictions += averaged
        references: list[Any] = [row.reference for row in averaged]
        if None in references:
            continue
        for name in task.metrics:
            value = get_metric(name).score(references, [row.prediction for row in averaged], language)
            chance = chances.get((language, split, name))
            scores.append(
                Score(task.name, language, split, name, value, len(averaged), step.id, step.encoder, step.seed, chance)
            )
    return predictions, scores


def _read(store: Store, ids: Sequence[str]) -> _Splits:
    """The predictions of a member's evaluations."""
    splits: _Splits = defaultdict(dict)
    for id in ids:
        seen = Counter[tuple[str, str, str]]()
        for row in store.predictions(id):
            key = row.language, row.split, row.id
            splits[key[:2]][row.id, seen[key]] = row
            seen[key] += 1
    return splits


def _average(members: Sequence[Mapping[tuple[str, int], Prediction]], task: Task) -> list[Prediction]:
    """The mean predictions for one language and split, in the order of the first member."""
    first = members[0]
    for other in members[1:]:
        _check_same(first, other)
    averaged = []
    for key, row in first.items():
        each = [member[key].probabilities for member in members]
        if any(one is None for one in each):
            hint = "earlier versions stored none for questions; another --out scores them again"
            raise StepFailed(
                "has no probabilities to average", where=f"{row.task} {row.language} {row.split}", hint=hint
            )
        prediction, means = task.format.mean([one for one in each if one is not None], row.language)
        kept = {name: value for name, value in means.items() if value}
        averaged.append(replace(row, task=task.name, prediction=prediction, probabilities=kept))
    return averaged


def _check_same(first: Mapping[tuple[str, int], Prediction], other: Mapping[tuple[str, int], Prediction]) -> None:
    """Refuse members with other examples or labels. Raises StepFailed."""
    mine, theirs = (next(iter(rows.values())) for rows in (first, other))
    where = f"{mine.task} and {theirs.task}, {mine.language} {mine.split}"
    if lacking := [*first.keys() ^ other.keys()]:
        owner = mine if lacking[0] in first else theirs
        message = (
            f"have other examples: {len(lacking)} are in one of them only, such as id {lacking[0][0]} of {owner.task}"
        )
        raise StepFailed(message, where=where, hint="average a task only with the same test set in translation")
    for key, row in first.items():
        if row.reference != other[key].reference:
            message = f"have other labels: id {row.id} has {row.reference} and {other[key].reference}"
            hint = "answers of a translated test set must be taken back: TASK-to-en-and-back"
            raise StepFailed(message, where=where, hint=hint)
