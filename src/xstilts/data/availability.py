"""Lists the built-in tasks, and which of their data exist."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from xstilts.data.examples import locate
from xstilts.data.find import find_or_empty, translate_command
from xstilts.data.hub import HUB
from xstilts.data.labels import first_mistake
from xstilts.errors import MissingData, UserError
from xstilts.tasks import TASKS
from xstilts.tasks.source import Source
from xstilts.tasks.task import Split, Task

WRITES_IT = " writes it)"
"""The end of a line of missing data that a translation would be."""


def describe(data: Path | None) -> list[dict[str, Any]]:
    """One row per built-in task; `found` lists the languages of each split whose files exist.

    Raises:
        UserError: no such folder.
    """
    folder(data)
    return [_row(task, data) for task in TASKS.values()]


def folder(data: Path | None) -> Path | None:
    """Return the data folder after checking that it exists.

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
        "held_out": task.held_out,
        "license": task.license,
        "url": task.url,
        "note": task.note,
        "files": {
            split: [[file.path for file in layout] for layout in source.layouts] for split, source in task.data.items()
        },
        "found": found,
    }


def summary(row: Mapping[str, Any], *, found: bool) -> list[str]:
    """The table cells of a row: how many languages each split has, and for how many of them data exist."""
    more = f" + {len(row['more_languages'])}" if row["more_languages"] else ""
    cells = [row["task"], row["format"], row["metrics"][0], f"{len(row['languages'])}{more}"]
    scored = len(row["languages"]) + len(row["more_languages"])
    for split, total in (("train", len(row["train_languages"])), ("dev", scored), ("test", scored)):
        count = f"{len(row['found'].get(split, ()))}/{total}" if found else str(total)
        cells.append(count if split in row["splits"] else "")
    return cells


def _found(task: Task, split: Split, data: Path | None) -> list[str]:
    roots = [] if data is None else [data]
    return [code for code in task.languages_of(split) if find_or_empty(task.data[split], code, roots)]


def missing_data(task: Task, languages: Sequence[str], data: Path | None, *, trained: bool) -> list[str]:
    """One line each for missing training data, for languages without dev and test data, and for those without one.

    A split of the user's own without any file has a line with the paths searched.

    Args:
        task: the task.
        languages: the languages to evaluate on.
        data: the data folder.
        trained: whether a step trains on the task.
    """
    read: set[Split] = {*(task.scored if languages else ()), *(("train",) if trained else ())}
    misplaced = [split for split in task.data if split in read and is_misplaced(task, split, data)]
    lines = [str(error) for split in misplaced if (error := _why_missing(task, split, data))]
    if trained and "train" not in misplaced and (without := without_training_data(task, data)):
        whole = len(without) == len(task.train_languages)
        lines.append(f"{task.name}: training data" if whole else train_line(task, without, data))
    scored = [split for split in task.scored if split not in misplaced]
    if scored and languages:
        found = {split: _found(task, split, data) for split in scored}
        without_any = [code for code in languages if not any(code in codes for codes in found.values())]
        if without_any:
            command = _translation(task.data[scored[0]], without_any, data)
            lines.append(f"{task.name}: {_codes(without_any, languages)}{command}")
        for split, codes in found.items():
            wanted = [code for code in languages if code in task.languages_of(split) and code not in without_any]
            if missing := [code for code in wanted if code not in codes]:
                lines.append(f"{task.name}: {split} of {_codes(missing, wanted)}")
    return lines


def languages_found(task: Task, languages: Sequence[str], data: Path | None) -> list[str]:
    """Those of the languages that have dev or test data."""
    found = {code for split in task.scored for code in _found(task, split, data)}
    return [code for code in languages if code in found]


def without_training_data(task: Task, data: Path | None) -> tuple[str, ...]:
    """The languages that a task is to be trained in, but that have no files."""
    found = _found(task, "train", data)
    return tuple(code for code in task.train_languages if code not in found)


def train_line(task: Task, codes: Sequence[str], data: Path | None) -> str:
    """A line for the languages that lack training data, with the command if a translation would be such data."""
    return f"{task.name}: train of {', '.join(codes)}{_translation(task.data['train'], codes, data)}"


def _translation(source: Source, codes: Sequence[str], data: Path | None) -> str:
    """The command that writes a source's files, in brackets; "" if they are no translations."""
    command = translate_command(source, codes, [] if data is None else [data])
    return f" (`{command}`{WRITES_IT}" if command else ""


def _why_missing(task: Task, split: Split, data: Path | None) -> UserError | None:
    try:
        locate(task, task.data[split], task.languages_of(split)[:1], data)
    except UserError as error:
        return error
    return None


def unlabelled_data(task: Task, languages: Sequence[str], data: Path | None) -> list[str]:
    """One line for each dev or test split without labels in some of these languages."""
    lines = []
    for split in task.scored:
        found = {code: is_labelled(task, split, code, data) for code in languages if code in task.languages_of(split)}
        if codes := [code for code, has_labels in found.items() if has_labels is False]:
            lines.append(f"{task.name}: {split} of {_codes(codes, [*found])}")
    return lines


def first_mistakes(task: Task, languages: Sequence[str], data: Path | None, *, trained: bool) -> Iterator[UserError]:
    """Why the first rows of files cannot be read that a plan trains on or scores in some of these languages."""
    wanted: list[tuple[Split, str]] = [("train", code) for code in task.train_languages if trained]
    wanted += [(split, code) for split in task.scored for code in languages if code in task.languages_of(split)]
    for split, code in wanted:
        with suppress(MissingData):
            for _, found in locate(task, task.data[split], (code,), data).found:
                if error := first_mistake(task.format, code, found):
                    yield error


def is_labelled(task: Task, split: Split, code: str, data: Path | None) -> bool | None:
    """Whether a split has labels in a language; None without files."""
    with suppress(UserError):
        return locate(task, task.data[split], (code,), data).labelled
    return None


def on_hub(task: Task) -> bool:
    """Whether `xstilts data fetch` finds data of a built-in task on the Hub."""
    files = (file for source in task.data.values() for layout in source.layouts for file in layout)
    return task.name in TASKS and any(file.path.startswith(HUB) for file in files)


def is_misplaced(task: Task, split: Split, data: Path | None) -> bool:
    """Whether a user's task file names the split's files, and there are none in any language."""
    return split in task.data and task.data[split].own and not _found(task, split, data)


def _codes(codes: Sequence[str], all_codes: Sequence[str]) -> str:
    return "all languages" if len(codes) == len(all_codes) else ", ".join(codes)
