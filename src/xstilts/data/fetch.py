"""Downloads the data of tasks from the Hub, and lists the files that the user must provide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from xstilts.data import hub
from xstilts.data.availability import is_labelled, unlabelled_data
from xstilts.data.check import splits
from xstilts.data.find import filled, find_or_empty
from xstilts.errors import Collector
from xstilts.tasks.source import File, Source
from xstilts.tasks.task import Split, Task


def fetch(tasks: Sequence[Task], data: Path | None, say: Callable[[str], None]) -> None:
    """Download the files that are neither in the data folder nor in the Hub's local cache, or have no labels there.

    Args:
        tasks: the tasks.
        data: the data folder.
        say: receives progress lines.

    Raises:
        UserError: lists each task, split and language that is still missing, and where to put its files.
    """
    wanted = [(task, split, code) for task in tasks for split in splits(task) for code in _wanted(task, split, data)]
    places = [place for task, split, code in wanted for place in _places(task, split, code, data)]
    if places:
        hub.fetch(places, say)
    still_missing = Collector()
    for task in tasks:
        for split in splits(task):
            codes = _missing(task, split, data)
            if codes:
                _add_instructions(task, split, codes, data, still_missing)
    still_missing.raise_any()
    say(f"all data of {', '.join(task.name for task in tasks)} are available")
    if lines := [line for task in tasks for line in unlabelled_data(task, task.all_languages, data)]:
        say(f"without labels, so predicted and not scored: {'; '.join(lines)}")


def _missing(task: Task, split: Split, data: Path | None) -> list[str]:
    roots = [] if data is None else [data]
    return [code for code in task.languages_of(split) if not find_or_empty(task.data[split], code, roots)]


def _wanted(task: Task, split: Split, data: Path | None) -> list[str]:
    """The languages without files, or without labels."""
    return [code for code in task.languages_of(split) if not is_labelled(task, split, code, data)]


def _places(task: Task, split: Split, code: str, data: Path | None) -> list[hub.Place]:
    """Files on the Hub of the first layout that they would complete, else of the first with any such file."""
    layouts = [layout for layout in task.data[split].layouts if any(map(_is_on_hub, layout))]
    completed = (layout for layout in layouts if all(_is_on_hub(file) or _exists(file, code, data) for file in layout))
    layout = next(completed, layouts[0] if layouts else ())
    names = [name for file in layout for name in _names(file) if name.startswith(hub.HUB)]
    return [hub.place(filled(name, code)) for name in names]


def _add_instructions(task: Task, split: Split, codes: Sequence[str], data: Path | None, found: Collector) -> None:
    reason = "could not be downloaded" if _places(task, split, codes[0], data) else "is not on the Hub"
    local = next((layout for layout in task.data[split].layouts if not any(map(_is_on_hub, layout))), ())
    names = [name for file in local if not _exists(file, codes[0], data) for name in _names(file)]
    names = [filled(name, codes[0]) if len(codes) == 1 else name for name in names]
    where = f"put {', '.join(names)} into {data or 'the data folder (--data)'}" if names else ""
    hint = "; ".join(part for part in (where, task.url) if part)
    found.add(f"{reason} in {' '.join(codes)}", where=f"{task.name} {split}", hint=hint)


def _names(file: File) -> list[str]:
    return [name for name in (file.path, file.pair, file.gold) if name]


def _is_on_hub(file: File) -> bool:
    return file.path.startswith(hub.HUB)


def _exists(file: File, code: str, data: Path | None) -> bool:
    return bool(find_or_empty(Source(layouts=((file,),)), code, [] if data is None else [data]))
