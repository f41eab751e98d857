"""Checks data: reads every split of a task and compares the number of examples with the official number."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any, get_args

from xstilts.data.examples import Defects, LocatedSplit, locate
from xstilts.data.find import PLAYGROUND
from xstilts.data.leaks import TrainingRows
from xstilts.data.lengths import Length, Lengths
from xstilts.data.row_mistakes import RowMistakes
from xstilts.errors import Collector, DataError, IncompleteData, MissingData, UserError, nearest
from xstilts.tasks import GROUPS, TASKS
from xstilts.tasks.counts import official_count
from xstilts.tasks.source import Source
from xstilts.tasks.task import Split, Task
from xstilts.tasks.user_tasks import task_names, with_user_tasks
from xstilts.utils import yaml as strict_yaml

SECONDS = 15.0
"""Time between two progress lines."""


@dataclass(frozen=True)
class Checked:
    """The result for one split of a task in one language; `examples` is None if the files are missing or invalid."""

    task: str
    split: Split
    language: str
    official: int | None
    """The number of examples that the data set's authors report."""
    places: tuple[str, ...] = ()
    """The path patterns of the task's source that have files, with `{lang}` as written."""
    files: Mapping[str, str] = field(default_factory=dict)
    """The sha256 of each file by its path, which is relative inside the data folder."""
    examples: int | None = None
    length: Length | None = None
    """Of the examples' texts."""
    labels: bool | None = None
    """Whether the examples have labels; None for raw text."""
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    missing: str = ""
    """The message that lists the paths searched, if files are missing."""

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON."""
        row = dict(vars(self)) | {"length": vars(self.length) if self.length else None}
        files = [{"path": path, "sha256": digest} for path, digest in self.files.items()]
        return row | {"found": bool(self.places), "files": files}


def select_tasks(names: Sequence[str], use: Sequence[Path]) -> list[Task]:
    """The tasks that the names mean, which may be groups.

    Without names: the tasks of the files `use`, or without these all tasks except generated ones.

    Raises:
        UserError: lists every unknown name with the nearest known one.
    """
    tasks = with_user_tasks(use)
    if not names and use:
        return [task for name, task in tasks.items() if task is not TASKS.get(name)]
    if not names:
        return [task for task in tasks.values() if not all(map(_generated, task.data.values()))]
    found = Collector()
    for name in names:
        if name not in tasks and name not in GROUPS:
            with found.catch():
                raise _unknown_task(name, [*tasks, *GROUPS])
    found.raise_any()
    selected = dict.fromkeys(task for name in names for task in GROUPS.get(name, (name,)))
    return [tasks[name] for name in selected]


def _unknown_task(name: str, known: Sequence[str]) -> UserError:
    """The error for a name that is no task; it may be a task file or a recipe."""
    if Path(name).suffix not in (".yaml", ".yml"):
        return UserError(f"unknown task '{name}'", hint=nearest(name, known))
    own = task_names(strict_yaml.load(Path(name)))
    hint = f"write `{own[0]} --use {name}`" if own else f"`xstilts check {name}` reads the data of a recipe"
    return UserError("is a file, not a task", where=name, hint=hint)


def _generated(source: Source) -> bool:
    return all(file.path.startswith(PLAYGROUND) for layout in source.layouts for file in layout)


def check(tasks: Sequence[Task], data: Path | None, say: Callable[[str], None]) -> list[Checked]:
    """Check every split of the tasks in every language; shared data are read once.

    Args:
        tasks: the tasks.
        data: the data folder.
        say: receives progress lines.
    """
    todo = [(task, split, code) for task in tasks for split in splits(task) for code in task.languages_of(split)]
    read: dict[str, Checked] = {}
    training = TrainingRows()
    last_shown, rows = time.monotonic(), []
    for number, (task, split, code) in enumerate(todo, start=1):
        if time.monotonic() - last_shown > SECONDS:
            last_shown = time.monotonic()
            say(f"[{number}/{len(todo)}] {task.name} {split} {code}")
        rows.append(_checked(task, split, code, data, read, training))
    return rows


def splits(task: Task) -> list[Split]:
    """The splits of a task, in the order train, dev, test."""
    return [split for split in get_args(Split) if split in task.data]


def _checked(
    task: Task, split: Split, code: str, data: Path | None, read: dict[str, Checked], training: TrainingRows
) -> Checked:
    row = Checked(task.name, split, code, official_count(task.name, split, code))
    try:
        located = locate(task, task.data[split], (code,), data, train=split == "train")
    except IncompleteData as error:
        return replace(row, problems=(str(error),))
    except MissingData as error:
        return replace(row, missing=str(error))
    except UserError as error:
        return replace(row, problems=(str(error),))
    key = f"{task.format!r} {located.content}"
    if key not in read:
        read[key] = _read(row, located, data, training)
    return replace(read[key], task=row.task, split=split, language=code, official=row.official)


def _read(row: Checked, located: LocatedSplit, data: Path | None, training: TrainingRows) -> Checked:
    format = located.task.format
    mistakes, defects = RowMistakes(), Defects()
    count, labels, lengths = 0, False, Lengths(row.language)
    reader = training.reader(located) if format.head.trained and row.split != "stop" else None
    for index, example in enumerate(located.examples(located.found, mistakes, defects, reader)):
        if format.is_query(example):
            count += 1
            labels = labels or format.reference(example, index) is not None
            lengths.add(format.input_text(example))
    if not count and not mistakes.errors:
        mistakes.receive(DataError("no usable example", where=", ".join(located.files)))
    return replace(
        row,
        places=tuple(found.file.path for _, found in located.found),
        files={_relative(path, data): digest for path, digest in located.files.items()},
        examples=None if mistakes.errors else count + defects.excluded,
        length=None if mistakes.errors else lengths.length(),
        labels=None if format.head.kind == "vocabulary" else labels,
        notes=(*defects.lines(), *(reader.lines() if reader else ())),
        problems=tuple(map(str, mistakes.errors)),
    )


def _relative(path: str, data: Path | None) -> str:
    inside = data is not None and Path(path).is_relative_to(data)
    return str(Path(path).relative_to(data)) if data is not None and inside else path


def misplaced(tasks: Sequence[Task], rows: Sequence[Checked]) -> tuple[list[str], list[str]]:
    """Messages about the user's own splits without any file, and about own tasks without any file at all."""
    splits: list[str] = []
    whole: list[str] = []
    for task, split in ((one, split) for one in tasks for split in one.data if one.data[split].own):
        of = [row for row in rows if row.task == task.name]
        missing = [row.missing for row in of if row.split == split]
        if all(missing):
            (whole if all(row.missing for row in of) else splits).append(missing[0])
    return splits, whole


def summaries(rows: Sequence[Checked]) -> Iterator[tuple[str, str, str, str, str, str, str]]:
    """The table cells per task and split: task, split, languages, examples, length, labels, paths."""
    for (task, split), group in groupby(rows, lambda row: (row.task, row.split)):
        all_rows = list(group)
        found = [row for row in all_rows if row.places]
        labels = {row.labels for row in found if row.examples is not None}
        known = {frozenset({True}): "yes", frozenset({False}): "none", frozenset({None}): "raw text", frozenset(): ""}
        places = dict.fromkeys(" + ".join(dict.fromkeys(row.places)) for row in found)
        yield (task, split, _languages(all_rows, found), _examples(found), _length(found),
               known.get(frozenset(labels), "some"), ", ".join(places))  # fmt: skip


def _length(rows: Sequence[Checked]) -> str:
    """The median lengths, from the shortest to the longest of the languages, and the maximum; units apart."""
    by_unit: dict[str, list[Length]] = {}
    for row in rows:
        if row.length:
            by_unit.setdefault(row.length.unit, []).append(row.length)
    parts = []
    for unit, lengths in sorted(by_unit.items(), reverse=True):
        medians = sorted({round(length.median) for length in lengths})
        each = f"{medians[0]:,}" + (f" to {medians[-1]:,}" if len(medians) > 1 else "")
        parts.append(f"{each} {unit}, at most {max(length.maximum for length in lengths):,}")
    return "; ".join(parts)


def unlabelled(rows: Sequence[Checked]) -> str:
    """The dev and test splits without labels: tasks, splits, languages; empty if all have them."""
    scored = [row for row in rows if row.split in ("dev", "test") and row.examples is not None]
    lines = []
    for (task, split), group in groupby(scored, lambda row: (row.task, row.split)):
        of = list(group)
        if codes := [row.language for row in of if row.labels is False]:
            lines.append(f"{task} {split}" + (f" ({', '.join(codes)})" if len(codes) < len(of) else ""))
    return "; ".join(lines)


def _languages(rows: Sequence[Checked], found: Sequence[Checked]) -> str:
    """How many languages have data, with their codes or, if shorter, those of the others."""
    codes, others = [row.language for row in found], [row.language for row in rows if not row.places]
    which = f" not {' '.join(others)}" if len(others) < len(codes) else f" only {' '.join(codes)}"
    return f"{len(codes)}/{len(rows)}" + (which if codes and others else "")


def _examples(rows: Sequence[Checked]) -> str:
    """The number of examples, compared with the official one, and the languages with invalid files."""
    valid = [row for row in rows if row.examples is not None]
    differing = [row for row in valid if row.official is not None and row.examples != row.official]
    expected = [row for row in valid if row not in differing]
    parts = []
    if expected:
        counts = [row.examples or 0 for row in expected]
        each = " each" if len(expected) > 1 else ""
        numbers = f"{counts[0]:,}{each}" if len(set(counts)) == 1 else f"{min(counts):,} to {max(counts):,}"
        parts.append(f"{numbers} as official" if expected[0].official is not None else numbers)
    parts += [f"{row.language} {row.examples:,} of {row.official:,}" for row in differing]
    parts += [f"{row.language} BROKEN" for row in rows if row.examples is None]
    return ", ".join(parts)
