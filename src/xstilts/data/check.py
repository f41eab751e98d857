"""Check data: every split of a task found, read, counted against the official numbers; with its sha256."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any, get_args

from xstilts.data.examples import Defects, LocatedSplit, locate
from xstilts.data.find import PLAYGROUND
from xstilts.errors import Collector, MissingData, UserError, nearest
from xstilts.tasks import GROUPS
from xstilts.tasks.counts import official_count
from xstilts.tasks.source import Source
from xstilts.tasks.task import Split, Task
from xstilts.tasks.user_tasks import with_user_tasks

SECONDS = 15.0
"""Time between two lines that say how far the check is."""


@dataclass(frozen=True)
class Checked:
    """What one split of a task in one language came to; `examples` is None where nothing was found or read."""

    task: str
    split: Split
    language: str
    official: int | None
    """How many examples the data set's authors count."""
    places: tuple[str, ...] = ()
    """The paths of the task's source that were found, `{lang}` and all."""
    files: Mapping[str, str] = field(default_factory=dict)
    """The sha256 of each file by its path, relative to the data folder if it lies inside."""
    examples: int | None = None
    labels: bool | None = None
    """Whether there are labels; None for raw text."""
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    missing: str = ""
    """Where the files were looked for."""

    def to_json(self) -> dict[str, Any]:
        """A row with everything."""
        row = dict(vars(self))
        files = [{"path": path, "sha256": digest} for path, digest in self.files.items()]
        return row | {"found": bool(self.places), "files": files}


def select_tasks(names: Sequence[str], use: Sequence[Path]) -> list[Task]:
    """The tasks of some names, which may be groups; all that are not generated if there are none.

    Raises:
        UserError: all unknown names, each with the nearest known one.
    """
    tasks = with_user_tasks(use)
    if not names:
        return [task for task in tasks.values() if not all(map(_generated, task.data.values()))]
    found = Collector()
    for name in names:
        if name not in tasks and name not in GROUPS:
            found.add(f"unknown task '{name}'", hint=nearest(name, [*tasks, *GROUPS]))
    found.raise_any()
    wanted = dict.fromkeys(one for name in names for one in GROUPS.get(name, (name,)))
    return [tasks[name] for name in wanted]


def _generated(source: Source) -> bool:
    return all(file.path.startswith(PLAYGROUND) for layout in source.layouts for file in layout)


def check(tasks: Sequence[Task], data: Path | None, say: Callable[[str], None]) -> list[Checked]:
    """Check every split of some tasks in every language; data that several of them share are read once.

    Args:
        tasks: the tasks.
        data: the data folder.
        say: receives the progress now and then.
    """
    todo = [(task, split, code) for task in tasks for split in splits(task) for code in task.languages_of(split)]
    read: dict[str, Checked] = {}
    last_shown, rows = time.monotonic(), []
    for number, (task, split, code) in enumerate(todo, start=1):
        if time.monotonic() - last_shown > SECONDS:
            last_shown = time.monotonic()
            say(f"[{number}/{len(todo)}] {task.name} {split} {code}")
        rows.append(_checked(task, split, code, data, read))
    return rows


def splits(task: Task) -> list[Split]:
    """The splits of a task in their usual order."""
    return [split for split in get_args(Split) if split in task.data]


def _checked(task: Task, split: Split, code: str, data: Path | None, read: dict[str, Checked]) -> Checked:
    row = Checked(task.name, split, code, official_count(task.name, split, code))
    try:
        located = locate(task, task.data[split], (code,), data, train=split == "train")
    except MissingData as error:
        return replace(row, missing=str(error))
    except UserError as error:
        return replace(row, problems=(str(error),))
    key = f"{task.format!r} {located.content}"
    if key not in read:
        read[key] = _read(row, located, data)
    return replace(read[key], task=row.task, split=split, language=code, official=row.official)


def _read(row: Checked, located: LocatedSplit, data: Path | None) -> Checked:
    form = located.task.format
    mistakes, defects = Collector(), Defects()
    count, labels = 0, False
    for index, example in enumerate(located.examples(located.found, mistakes, defects)):
        if form.is_query(example):
            count += 1
            labels = labels or form.reference(example, index) is not None
    if not count and not mistakes.errors:
        mistakes.add("no example is left", where=", ".join(located.files))
    return replace(
        row,
        places=tuple(found.file.path for _, found in located.found),
        files={_relative(path, data): digest for path, digest in located.files.items()},
        examples=None if mistakes.errors else count + defects.out,
        labels=None if form.head.kind == "vocabulary" else labels,
        notes=tuple(defects.lines()),
        problems=tuple(map(str, mistakes.errors)),
    )


def _relative(path: str, data: Path | None) -> str:
    inside = data is not None and Path(path).is_relative_to(data)
    return str(Path(path).relative_to(data)) if data is not None and inside else path


def summaries(rows: Sequence[Checked]) -> Iterator[tuple[str, str, str, str, str, str]]:
    """A line for each task and split: task, split, languages, examples, labels, where."""
    for (task, split), group in groupby(rows, lambda row: (row.task, row.split)):
        some = list(group)
        there = [row for row in some if row.places]
        labels = {row.labels for row in there if row.examples is not None}
        known = {frozenset({True}): "yes", frozenset({False}): "none", frozenset({None}): "raw text", frozenset(): ""}
        places = dict.fromkeys(" + ".join(dict.fromkeys(row.places)) for row in there)
        yield (task, split, _languages(some, there), _examples(there), known.get(frozenset(labels), "some"),
               ", ".join(places))  # fmt: skip


def _languages(rows: Sequence[Checked], there: Sequence[Checked]) -> str:
    """How many languages are there, and which, or which are not if that is shorter."""
    some, others = [row.language for row in there], [row.language for row in rows if not row.places]
    which = f" not {' '.join(others)}" if len(others) < len(some) else f" only {' '.join(some)}"
    return f"{len(some)}/{len(rows)}" + (which if some and others else "")


def _examples(rows: Sequence[Checked]) -> str:
    """How many examples there are, as official or not, and which files are broken."""
    good = [row for row in rows if row.examples is not None]
    other = [row for row in good if row.official is not None and row.examples != row.official]
    usual = [row for row in good if row not in other]
    parts = []
    if usual:
        counts = [row.examples or 0 for row in usual]
        each = " each" if len(usual) > 1 else ""
        many = f"{counts[0]:,}{each}" if len(set(counts)) == 1 else f"{min(counts):,} to {max(counts):,}"
        parts.append(f"{many} as official" if usual[0].official is not None else many)
    parts += [f"{row.language} {row.examples:,} of {row.official:,}" for row in other]
    parts += [f"{row.language} BROKEN" for row in rows if row.examples is None]
    return ", ".join(parts)
