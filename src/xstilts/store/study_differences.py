"""Notes on two studies whose scores are compared: which settings of their trainings and which files differ."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from xstilts.errors import UserError, listed
from xstilts.store.run_folder import Store
from xstilts.study.index import Study
from xstilts.training.settings import as_written
from xstilts.utils.files import read_json

_Step: TypeAlias = tuple[Mapping[str, Any], Mapping[str, Any]]
_MAX_LISTED = 5
"""So many values of a setting, and so many files, are named."""


def difference_notes(first: tuple[str, Store, Study], second: tuple[str, Store, Study]) -> list[str]:
    """One note on the settings that differ, and one on the files with different content, by name and last folder.

    Args:
        first: the name that the report gives the study, its run folder, the study.
        second: the same of the other one.
    """
    sides = (_finished(*first[1:]), _finished(*second[1:]))
    names = first[0], second[0]
    here, there = (_settings(side) for side in sides)
    settings = [
        f"{name} {listed(here[name], _MAX_LISTED)} in {names[0]}, {listed(there[name], _MAX_LISTED)} in {names[1]}"
        for name in here
        if name in there and here[name] != there[name]
    ]
    ours, theirs = (_files(side) for side in sides)
    files = {name: None for name in ours if name in theirs and ours[name] != theirs[name]}
    notes = [f"settings that differ: {'; '.join(settings)}"] if settings else []
    if files:
        notes.append(f"{names[0]} and {names[1]} read different content of {listed(files, _MAX_LISTED)}")
    return notes


def _finished(store: Store, study: Study) -> list[_Step]:
    """The record and the facts of each finished step."""
    found = list[_Step]()
    for id in dict.fromkeys((*study.steps, *(cell.step for cell in study.cells))):
        if store.state(id).has_results:
            try:
                found.append((read_json(store.step(id) / "step.json"), store.facts(id)))
            except (OSError, ValueError, UserError):  # damaged; the scores' own reader says so
                continue
    return found


def _settings(steps: Iterable[_Step]) -> dict[str, dict[str, None]]:
    """The values of each setting of the trainings and of their tasks."""
    values: dict[str, dict[str, None]] = defaultdict(dict)
    for record, _ in steps:
        training = record.get("training") or {}
        for part in (training, *training.get("parts", ())):
            for name, value in part.items():
                if not isinstance(value, list | dict):
                    values[name][as_written(value) if isinstance(value, float) else str(value)] = None
    return values


def _files(steps: Iterable[_Step]) -> dict[str, set[str]]:
    """The sha256 of each file's contents, by its name and last folder."""
    contents: dict[str, set[str]] = defaultdict(set)
    for _, facts in steps:
        for path, sha256 in facts.get("inputs", {}).items():
            contents["/".join(Path(path).parts[-2:])].add(sha256)
    return contents
