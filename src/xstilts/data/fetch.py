"""Fetch the data of tasks from the Hub, and say what has to be put where by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from xstilts.data import hub
from xstilts.data.check import splits
from xstilts.data.find import filled, look
from xstilts.errors import Collector
from xstilts.tasks.source import File, Source
from xstilts.tasks.task import Split, Task


def fetch(tasks: Sequence[Task], data: Path | None, say: Callable[[str], None]) -> None:
    """Download what is neither in the data folder nor in the Hub's local cache.

    Args:
        tasks: the tasks.
        data: the data folder.
        say: is told how it goes.

    Raises:
        UserError: for each task, split and language that is still not there, which file to put where.
    """
    lacking = [one for task in tasks for split in splits(task) for one in _lacking(task, split, data)]
    places = [place for task, split, code in lacking for place in _places(task, split, code, data)]
    if places:
        hub.fetch(places, say)
    left = Collector()
    for task in tasks:
        for split in splits(task):
            codes = [code for _, _, code in _lacking(task, split, data)]
            if codes:
                _by_hand(task, split, codes, data, left)
    left.raise_any()
    say(f"all data of {', '.join(task.name for task in tasks)} are there")


def _lacking(task: Task, split: Split, data: Path | None) -> list[tuple[Task, Split, str]]:
    roots = [] if data is None else [data]
    return [(task, split, code) for code in task.languages_of(split) if not look(task.data[split], code, roots)]


def _places(task: Task, split: Split, code: str, data: Path | None) -> list[hub.Place]:
    """The Hub's files of the first layout that these would complete, or else of the first that has any."""
    layouts = [layout for layout in task.data[split].layouts if any(map(_remote, layout))]
    whole = (layout for layout in layouts if all(_remote(file) or _there(file, code, data) for file in layout))
    chosen = next(whole, layouts[0] if layouts else ())
    names = [name for file in chosen for name in _names(file) if name.startswith(hub.HUB)]
    return [hub.place(filled(name, code)) for name in names]


def _by_hand(task: Task, split: Split, codes: Sequence[str], data: Path | None, left: Collector) -> None:
    why = "could not be fetched" if _places(task, split, codes[0], data) else "is not on the Hub"
    local = next((layout for layout in task.data[split].layouts if not any(map(_remote, layout))), ())
    names = [name for file in local if not _there(file, codes[0], data) for name in _names(file)]
    names = [filled(name, codes[0]) if len(codes) == 1 else name for name in names]
    where = f"put {', '.join(names)} into {data or 'the data folder (--data)'}" if names else ""
    hint = "; ".join(part for part in (where, task.url) if part)
    left.add(f"{why} in {' '.join(codes)}", where=f"{task.name} {split}", hint=hint)


def _names(file: File) -> list[str]:
    return [name for name in (file.path, file.pair, file.gold) if name]


def _remote(file: File) -> bool:
    return file.path.startswith(hub.HUB)


def _there(file: File, code: str, data: Path | None) -> bool:
    return bool(look(Source(layouts=((file,),)), code, [] if data is None else [data]))
