"""The recipes of a run folder: each as it was run last, and its earlier versions as `NAME@1`, `NAME@2`, ..."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from xstilts.errors import UserError
from xstilts.study.index import Study
from xstilts.utils.files import write_atomic

RUNNING = ".running"
"""The suffix of a file with the needs of a running study."""
_VERSION = "@"
"""No recipe's own name has this character."""


def is_earlier(name: str) -> bool:
    """Whether this is an earlier version of a recipe."""
    return _VERSION in name


def recipe_files(folder: Path) -> dict[str, Path]:
    """The files by name: earlier versions first, the recipe that was run last at the end."""
    files = [(not is_earlier(path.stem), path.stat().st_mtime_ns, path) for path in folder.glob("*.json")]
    return {path.stem: path for *_, path in sorted(files)}


def save_recipe(folder: Path, study: Study, has_results: Callable[[str], bool]) -> str:
    """Save a study under its name; an earlier version whose results it lacks stays under a name of its own.

    An earlier version also stays while it is running.

    Args:
        folder: of the recipes.
        study: the recipe as it is now.
        has_results: whether a step has results.

    Returns:
        The name of the earlier version; empty if none stays.
    """
    path, earlier = folder / f"{study.name}.json", ""
    folder.mkdir(exist_ok=True)
    before = _read(path)
    if before is not None and before != study:
        running = any(_read(file) == before for file in folder.glob(f"{study.name}.*{RUNNING}"))
        if running or _lacks_results(study, before, has_results):
            earlier = name_of(folder, before, earlier=True) or _next_version(folder, study.name)
            write_atomic(folder / f"{earlier}.json", replace(before, name=earlier).to_json())
    write_atomic(path, study.to_json())
    return earlier


def forget_without_results(folder: Path, study: Study, has_results: Callable[[str], bool]) -> None:
    """Forget an earlier version that has ended without results of its own."""
    newest, name = _read(folder / f"{study.name}.json"), name_of(folder, study, earlier=True)
    if newest and name and newest != study and not _lacks_results(newest, study, has_results):
        (folder / f"{name}.json").unlink()


def _lacks_results(study: Study, other: Study, has_results: Callable[[str], bool]) -> bool:
    """Whether a study does not show some results of another one."""
    shown = {(cell.step, cell.task) for cell in study.cells}
    return any(has_results(cell.step) for cell in other.cells if (cell.step, cell.task) not in shown)


def name_of(folder: Path, study: Study, *, earlier: bool = False) -> str:
    """The name under which a folder holds exactly this study, if wanted only as an earlier version; empty for none."""
    versions = [path.stem for path in folder.glob(f"{study.name}{_VERSION}*.json")]
    names = versions if earlier else [study.name, *versions]
    return next((name for name in names if _read(folder / f"{name}.json") == replace(study, name=name)), "")


def _next_version(folder: Path, name: str) -> str:
    numbers = [path.stem.rpartition(_VERSION)[2] for path in folder.glob(f"{name}{_VERSION}*.json")]
    return f"{name}{_VERSION}{max((int(number) for number in numbers if number.isdecimal()), default=0) + 1}"


def _read(path: Path) -> Study | None:
    """The study in a file; None if there is none."""
    with suppress(OSError, UserError):
        return Study.from_json(path.read_bytes())
    return None
