"""Reads and checks a user's own tasks from YAML."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from xstilts.errors import Collector, nearest
from xstilts.formats import FORMATS
from xstilts.formats.base import Format
from xstilts.tasks import TAKEN, TASKS
from xstilts.tasks.task import Task
from xstilts.utils import yaml as strict_yaml


def task_file(folder: Path, use: str) -> Path:
    """The path of a task file: in a folder, or else in the package."""
    path, packaged = folder / use, RECIPES / use
    return packaged if use == packaged.name and packaged.is_file() and not path.exists() else path


def with_own(paths: Iterable[Path]) -> dict[str, Task]:
    """The built-in tasks and those of task files; each file may use the tasks of the files before.

    Raises:
        UserError: all mistakes of the first file that has any.
    """
    tasks = dict(TASKS)
    for path in paths:
        tasks |= from_yaml(task_file(Path(), str(path)), tasks)
    return tasks


def from_yaml(path: Path, known: Mapping[str, Task], *, as_written: str = "") -> dict[str, Task]:
    """Read a user's tasks: each is `like` a known one with some fields changed, or has its own `format`.

    Fields of the task and of its format stand side by side; `data` replaces only the splits it names.

    Args:
        path: the file.
        known: tasks that `like` may name.
        as_written: the file as a recipe names it; its folder distinguishes data files of equal path.

    Raises:
        UserError: all mistakes of the file.
    """
    document = strict_yaml.load(path)
    found = Collector()
    tasks: dict[str, Task] = {}
    for name, entry in document.value.items():
        with found.catch():
            tasks[name] = _task(name, entry, {**known, **tasks}, document, str(Path(as_written or path).parent))
    found.raise_any()
    return tasks


def _task(name: str, entry: Any, known: Mapping[str, Task], document: strict_yaml.Document, folder: str) -> Task:
    found = Collector()

    def place(*key: str) -> str:
        return f"{document.path}:{document.line((name, *key))}: {'.'.join((name, *key))}"

    if not isinstance(entry, dict):
        found.add("is not a task: it needs `like: TASK` or `format: FORMAT`, and `data`", where=place())
        found.raise_any()
    if name in TAKEN:
        found.add(f"no task can be called '{name}', which means something else", where=place(), hint="rename it")
    given = dict(entry)
    like, form = given.pop("like", None), given.pop("format", None)
    _check_like_or_format(like, form, known, found, place)
    found.raise_any()
    base = known[like] if like else None
    kind = type(base.format) if base else FORMATS[form]
    task_fields = set(Task.model_fields) - {"name", "format", "like"}
    for key in given.keys() - task_fields - kind.model_fields.keys():
        hint = nearest(key, ["like", "format", *task_fields, *kind.model_fields])
        found.add(f"not a field of Task or of its format {kind.name}", where=place(key), hint=hint)
    found.raise_any()
    shape = {key: value for key, value in given.items() if key in kind.model_fields}
    fields = {key: value for key, value in given.items() if key in task_fields}
    inherited = dict(base.data) if base else {}
    try:
        made = kind.model_validate((_inherited(base.format, shape) if base else {}) | shape)
        old: dict[str, Any] = base.model_dump(exclude={"format", "data"}) if base else {"metrics": made.metrics}
        if "languages" in fields:
            old["more_languages"] = ()
        if "data" in fields:
            old["note"] = ""  # it speaks of other data
        if isinstance(data := fields.get("data", {}), dict):
            own = {split: _with_folder(source, folder, document.path.parent) for split, source in data.items()}
            if "dev" in own:
                inherited.pop("stop", None)  # one's own dev set ends the training
            fields["data"] = inherited | own
        kin = {"like": base.like or base.name} if base else {}
        task = Task.model_validate({**old, **fields, **kin, "name": name, "format": made})
        task._code_folder = base.code_folder if base and "metrics" not in fields else document.path.parent
        return task
    except ValidationError as error:
        model = kind if error.title == kind.__name__ else Task
        found.errors.extend(strict_yaml.user_errors(error, model, document, (name,)))
    found.raise_any()
    raise AssertionError("a validation error without a mistake")


def _check_like_or_format(
    like: Any, form: Any, known: Mapping[str, Task], found: Collector, place: Callable[..., str]
) -> None:
    """Note mistakes in the `like` or `format` of an entry."""
    if (like is None) == (form is None):
        found.add("needs either `like: TASK` or `format: FORMAT`", where=place())
    elif not isinstance(like or form, str):
        field, values = ("like", known) if form is None else ("format", FORMATS)
        found.add("needs one name", where=place(field), hint=nearest("", values))
    elif like is not None and like not in known:
        found.add(f"unknown task '{like}'", where=place("like"), hint=nearest(str(like), known))
    elif form is not None and form not in FORMATS:
        found.add(f"unknown format '{form}'", where=place("format"), hint=nearest(str(form), FORMATS))


def _inherited(form: Format, shape: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a format, with spellings only of labels that it still has."""
    fields = form.model_dump()
    labels = shape.get("labels")
    if "spellings" in fields and isinstance(labels, list):
        fields["spellings"] = {one: label for one, label in fields["spellings"].items() if label in labels}
    return fields


def _with_folder(source: Any, folder: str, base: Path) -> Any:
    """A source as the task file has it, with the folder of the task file in each of its files."""
    if isinstance(source, str):
        return {"path": source, "folder": folder, "base": base}
    if isinstance(source, list):
        return [_with_folder(item, folder, base) for item in source]
    if isinstance(source, dict) and set(source) == {"first_of"}:
        return {"first_of": _with_folder(source["first_of"], folder, base)}
    return {**source, "folder": folder, "base": base} if isinstance(source, dict) else source


RECIPES = Path(__file__).parents[1] / "recipes"
"""The folder of the recipes in the package, and of their task files."""
