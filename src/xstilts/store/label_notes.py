"""Notes of a study on data without labels, on trainings that stop on test or training data, and on those at chance."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from xstilts.errors import UserError, counted
from xstilts.metrics import at_chance
from xstilts.store.rows import Score
from xstilts.store.run_folder import Store
from xstilts.store.step_record import read_step
from xstilts.study.index import Study


def unscored_steps(store: Store, study: Study, scores: Iterable[Score]) -> Collection[str]:
    """The finished evaluations without a score."""
    scored = {row.step for row in scores}
    ids = dict.fromkeys(cell.step for cell in study.cells)
    return frozenset(id for id in ids if id not in scored and store.state(id).has_results)


def label_notes(store: Store, study: Study) -> list[str]:
    """Notes on splits that were predicted and not scored, and on tasks that stopped on test or training data."""
    unlabelled: dict[tuple[str, str], dict[str, None]] = {}
    untuned: dict[str, dict[str, None]] = {}
    on_test: dict[str, None] = {}
    held_out: dict[str, None] = {}
    for step, task in dict.fromkeys((cell.step, cell.task) for cell in study.cells):
        facts = _facts(store, step)
        for split, languages in facts.get("unlabelled", {}).items():
            unlabelled.setdefault((task, split), {}).update(dict.fromkeys(languages))
        if without := facts.get("untuned"):
            untuned.setdefault(task, {}).update(dict.fromkeys(without))
        stop = _stop_facts(store, step, task)
        if stop.get("test"):
            on_test[task] = None
        if part := stop.get("held_out"):
            held_out[f"{task} (part {part})"] = None
    all_languages = {task.name: task.languages for task in study.tasks}
    splits: dict[str, list[str]] = {}
    for (task, split), languages in unlabelled.items():
        splits.setdefault(split, []).append(task + _some(languages, all_languages[task]))
    notes = [f"without labels in {split}, so predicted and not scored: {', '.join(of)}" for split, of in splits.items()]
    if untuned:
        of = ", ".join(task + _some(languages, all_languages[task]) for task, languages in untuned.items())
        notes.append(f"no labelled dev data to tune the threshold on, so scores may be too low: {of}")
    optimistic = "early stopping used the test set, so scores in the training language are optimistic"
    if held_out:
        notes.append(f"early stopping used training data, which the training left out: {', '.join(held_out)}")
    return [*notes, *(f"{task}: {optimistic}" for task in on_test), *_back_notes(store, study)]


def _some(languages: Collection[str], all_languages: Collection[str]) -> str:
    """The languages in brackets; nothing if they are all."""
    return f" ({', '.join(languages)})" if len(languages) < len(all_languages) else ""


def not_found_line(translated: Mapping[str, Sequence[int]]) -> str:
    """The share of answers that were translated back and have no match in the original, by language; empty if none.

    Args:
        translated: by language, the number of answers and of those without a match.

    >>> not_found_line({"es": (200, 7), "de": (100, 0)})
    '; answers not found in the original: es 3.5 %, de 0.0 %'
    """
    shares = [f"{code} {100 * lost / max(1, answers):.1f} %" for code, (answers, lost) in translated.items()]
    return f"; answers not found in the original: {', '.join(shares)}" if shares else ""


def _back_notes(store: Store, study: Study) -> Iterator[str]:
    """A note on each task whose answers were translated back, over all its runs."""
    total: dict[str, dict[str, list[int]]] = {}
    for step, task in dict.fromkeys((cell.step, cell.task) for cell in study.cells):
        for code, counts in _facts(store, step).get("translated_back", {}).items():
            by_language = total.setdefault(task, {})
            by_language[code] = [a + b for a, b in zip(by_language.get(code, [0, 0]), counts, strict=True)]
    for task, translated in total.items():
        yield f"{task}{not_found_line(translated)}; they count as wrong".replace("; ", ": ", 1)


def cause_notes(store: Store, study: Study, scores: Iterable[Score], noted: Collection[str]) -> list[str]:
    """The likely cause of trainings at chance, by task: on dev, or without dev where the task is scored.

    Args:
        store: has the trainings.
        study: its tasks are scored.
        scores: of these tasks.
        noted: trainings with a note of their own.
    """
    tasks = {task.name: task for task in study.tasks}
    scored: dict[tuple[str, str], dict[str, bool]] = {}
    for row in scores:
        if row.metric == tasks[row.task].metric and row.chance is not None:
            scored.setdefault((row.step, row.task), {})[row.language] = at_chance(row.value, [row.chance], [row.n])
    causes: dict[str, dict[str, str]] = {}
    for (step, task), collapsed in scored.items():
        for id in _parents(store, step):
            facts = _facts(store, id)
            language = tasks[task].train_language
            failed = facts.get("at_chance", collapsed.get(language, all(collapsed.values())))
            if failed and facts.get("likely_cause") and id not in noted:
                causes.setdefault(task, {})[id] = facts["likely_cause"]
    return [
        f"{task}: {counted(len(found), 'training')} ended at chance; likely cause: {cause}"
        for task, found in causes.items()
        for cause in [*found.values()][:1]
    ]


def _parents(store: Store, step: str) -> tuple[str, ...]:
    """The steps that a step starts from; none if its record is missing or damaged."""
    try:
        return read_step(store.step(step)).parent_ids
    except (OSError, UserError):
        return ()


def _stop_facts(store: Store, step: str, task: str) -> Mapping[str, Any]:
    """On which data the training that a step scores stopped for a task; empty if unknown."""
    for id in _parents(store, step):
        stop = _facts(store, id).get("stop", {})
        if task in stop or len(stop) == 1:  # equal trainings share a step, which has one task's name
            facts: dict[str, Any] = stop.get(task, next(iter(stop.values())))
            return facts
    return {}


def _facts(store: Store, id: str) -> dict[str, Any]:
    """The facts of a finished step; empty if it is not finished, or its record is damaged."""
    if not store.state(id).has_results:
        return {}
    try:
        return store.facts(id)
    except UserError:
        return {}
