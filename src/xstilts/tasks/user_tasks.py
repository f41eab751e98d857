"""Reads and checks a user's task files (YAML)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from xstilts.errors import Collector, UserError, nearest
from xstilts.formats import FORMATS
from xstilts.formats.base import Format
from xstilts.tasks import RESERVED_NAMES, TASKS
from xstilts.tasks.source import RECIPES
from xstilts.tasks.task import Task, TrainIn
from xstilts.utils import yaml as strict_yaml

USER_DATA_SETTINGS: dict[str, Any] = {"batch": 16, "epochs": 10}
"""The defaults of a labelled task with the user's own training data, whatever their size.

The batch, like the learning rate in `study/defaults.py`, is that of Mosbach et al. 2021
(https://arxiv.org/abs/2006.04884); the epochs are those of mmBERT's evaluation on POS and NER.
"""
USER_DATA_ORIGINS = {"batch": "own task: Mosbach et al. 2021", "epochs": "own task: mmBERT's evaluation"}
"""Where they come from, as `plan` says it."""


def task_file(folder: Path, use: str) -> Path:
    """The path of a task file: in the folder, or else in the package."""
    path, packaged = folder / use, RECIPES / use
    return packaged if use == packaged.name and packaged.is_file() and not path.exists() else path


def with_user_tasks(paths: Iterable[Path]) -> dict[str, Task]:
    """The built-in tasks and those of task files; a file may use the tasks of earlier files.

    Raises:
        UserError: all mistakes of the first file with mistakes.
    """
    tasks = dict(TASKS)
    for path in paths:
        tasks |= from_yaml(task_file(Path(), str(path)), tasks)
    return tasks


def task_names(document: strict_yaml.Document) -> list[str]:
    """The tasks of a document if it is a task file and no recipe."""
    entries = document.value.items()
    names = [name for name, entry in entries if isinstance(entry, dict) and {"like", "format"} & entry.keys()]
    return [] if "phases" in document.value else names


def from_yaml(path: Path, known: Mapping[str, Task], *, as_written: str = "") -> dict[str, Task]:
    """Read a user's tasks: each is `like` a known task with some fields changed, or has its own `format`.

    An entry mixes fields of the task and of its format; `data` replaces only the splits that it names.

    Args:
        path: the file.
        known: tasks that `like` may name.
        as_written: the file as a recipe names it; its folder tells apart data files with equal paths.

    Raises:
        UserError: all mistakes of the file, or it is a recipe.
    """
    return from_document(strict_yaml.load(path), known, as_written=as_written)


def from_document(
    document: strict_yaml.Document, known: Mapping[str, Task], *, as_written: str = ""
) -> dict[str, Task]:
    """The tasks of a task file, or of a mapping of the same form; see `from_yaml`."""
    path = document.path
    if "phases" in document.value and "evaluate" in document.value:
        raise UserError("is a recipe, not a task file", where=str(path))
    mistakes = Collector()
    tasks: dict[str, Task] = {}
    for name, entry in document.value.items():
        with mistakes.catch():
            tasks[name] = _task(name, entry, {**known, **tasks}, document, str(Path(as_written or path).parent))
    mistakes.raise_any()
    return tasks


def _task(name: str, entry: Any, known: Mapping[str, Task], document: strict_yaml.Document, folder: str) -> Task:
    mistakes = Collector()

    def place(*key: str) -> str:
        return document.where((name, *key))

    if not isinstance(entry, dict):
        mistakes.add("is not a task: it needs `like: TASK` or `format: FORMAT`, and `data`", where=place())
        mistakes.raise_any()
    if name in RESERVED_NAMES:
        mistakes.add(f"a task cannot have the reserved name '{name}'", where=place(), hint="rename it")
    settings = dict(entry)
    like, form = settings.pop("like", None), settings.pop("format", None)
    _check_like_or_format(like, form, known, mistakes, place)
    mistakes.raise_any()
    base = known[like] if like else None
    format_type = type(base.format) if base else FORMATS[form]
    task_fields = set(Task.model_fields) - {"name", "format", "like"}
    for key in settings.keys() - task_fields - format_type.model_fields.keys():
        hint = nearest(key, ["like", "format", *task_fields, *format_type.model_fields])
        mistakes.add(f"not a field of Task or of its format {format_type.name}", where=place(key), hint=hint)
    mistakes.raise_any()
    of_format = {key: value for key, value in settings.items() if key in format_type.model_fields}
    fields = {key: value for key, value in settings.items() if key in task_fields}
    data_of_base = dict(base.data) if base else {}
    try:
        format = format_type.model_validate((_inherited(base.format, of_format) if base else {}) | of_format)
        inherited: dict[str, Any] = base.model_dump(exclude={"format", "data"}) if base else {"metrics": format.metrics}
        if "languages" in fields:
            inherited["more_languages"] = ()
        train_in = _train_in(fields, inherited, base, place)
        if "data" in fields:
            inherited |= _reset_by(fields["data"], translated="translated_from" in fields)
        if isinstance(data := fields.get("data", {}), dict):
            own = {split: _with_folder(source, folder, document.path.parent) for split, source in data.items()}
            if "dev" in own:
                data_of_base.pop("stop", None)  # the user's own dev set is used for early stopping
            fields["data"] = data_of_base | own
        has_user_data = _has_user_data(settings, base, document)
        defaults, origins = _training_defaults(base, format, has_user_data, settings.get("data") or ())
        like_field = {"like": base.like or base.name} if base else {}
        task = Task.model_validate({**inherited, **defaults, **fields, **like_field, "name": name, "format": format})
        task = _with_stop_of(base, task, settings.get("data") or ())
        task._code_folder = base.code_folder if base and "metrics" not in fields else document.path.parent
        task._has_user_data, task._train_in = has_user_data, train_in
        task._origins = (
            {**origins} | {key: document.origin((name, key)) for key in fields} | {"name": document.origin((name,))}
        )
        return task
    except ValidationError as error:
        model = format_type if error.title == format_type.__name__ else Task
        mistakes.errors.extend(strict_yaml.user_errors(error, model, document, (name,)))
    mistakes.raise_any()
    raise AssertionError("a validation error without a message")


def _with_stop_of(base: Task | None, task: Task, own: Collection[str]) -> Task:
    """The task, with `base`'s data for early stopping if its `own` dev sets are all in languages without training."""
    if not base or "dev" not in own or "train" in own or "stop" in task.data:
        return task
    if not task.data["dev"].per_language or {*task.train_languages} & {*task.all_languages}:
        return task
    stop = base.stop_source()
    return task.model_copy(update={"data": {**task.data, "stop": stop}}) if stop else task


def _reset_by(data: Any, *, translated: bool) -> dict[str, Any]:
    """The fields that describe replaced data; with other training data a translated test set stays one.

    A translation keeps the licence of its original.
    """
    splits = {*data} if isinstance(data, dict) else {"train", "dev", "test"}
    fields: dict[str, Any] = {"note": "", "translated_from": ""}
    if splits & {"dev", "test"}:
        fields["pseudo_test"] = {}
    if "train" in splits and not translated:
        fields |= {"license": "", "url": ""}
    return fields


def _train_in(
    fields: dict[str, Any], inherited: Mapping[str, Any], base: Task | None, place: Callable[..., str]
) -> TrainIn:
    """How `train_languages` are given, here or in a task that this one is `like`; `fields` then lists them.

    Raises:
        UserError: it is another word.
    """
    given: Any = fields.get("train_languages")
    if isinstance(given, str) and given not in ("all", "each"):
        raise UserError(f"needs a list of languages, `all` or `each`, got {given!r}", where=place("train_languages"))
    train_in: TrainIn = base.train_in if base and given is None else "listed"
    if isinstance(given, str):
        train_in = "all" if given == "all" else "each"
    if train_in != "listed":
        fields["train_languages"] = fields.get("languages", inherited.get("languages", ["en"]))
    return train_in


def _has_user_data(settings: Mapping[str, Any], base: Task | None, document: strict_yaml.Document) -> bool:
    """Whether a user's file names a task's training data, here or in a task that it is `like`; not a translation's."""
    data = settings.get("data")
    if isinstance(data, dict) and "train" in data and not settings.get("translated_from"):
        return document.path.parent.resolve() != RECIPES
    return base is not None and base.has_user_data


def _training_defaults(
    base: Task | None, format: Format, has_user_data: bool, own: Collection[str]
) -> tuple[dict[str, Any], Mapping[str, str]]:
    """The training defaults of a task on the user's own data, unless it inherits them, and where settings come from.

    XNLI holds out a hundredth of its 392,702 pairs for early stopping; of the `own` training rows without a dev set,
    that would be too few.
    """
    origins = base.origins if base else {}
    if not has_user_data or format.head.kind == "vocabulary" or (base and base.has_user_data):
        return {}, origins
    held_out = {"held_out": "10/10"} if base and base.held_out and not {"dev", "stop"} & {*own} else {}
    return USER_DATA_SETTINGS | held_out, {**origins, **USER_DATA_ORIGINS}


def _check_like_or_format(
    like: Any, form: Any, known: Mapping[str, Task], mistakes: Collector, place: Callable[..., str]
) -> None:
    """Add mistakes in the `like` or `format` of an entry."""
    if (like is None) == (form is None):
        mistakes.add("needs either `like: TASK` or `format: FORMAT`", where=place())
    elif not isinstance(like or form, str):
        field, values = ("like", known) if form is None else ("format", FORMATS)
        mistakes.add("needs one name", where=place(field), hint=nearest("", values))
    elif like is not None and like not in known:
        mistakes.add(f"unknown task '{like}'", where=place("like"), hint=nearest(str(like), known))
    elif form is not None and form not in FORMATS:
        mistakes.add(f"unknown format '{form}'", where=place("format"), hint=nearest(str(form), FORMATS))


def _inherited(form: Format, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a format; drops the spellings of labels that `changes` removes."""
    fields = form.model_dump(exclude_unset=True)
    labels = changes.get("labels")
    if "spellings" in fields and isinstance(labels, list):
        fields["spellings"] = {one: label for one, label in fields["spellings"].items() if label in labels}
    return fields


def _with_folder(source: Any, folder: str, base: Path) -> Any:
    """A source of the task file, with the task file's folder added to each of its files."""
    if isinstance(source, str):
        return {"path": source, "folder": folder, "base": base}
    if isinstance(source, list):
        return [_with_folder(item, folder, base) for item in source]
    if isinstance(source, dict) and set(source) == {"first_of"}:
        return {"first_of": _with_folder(source["first_of"], folder, base)}
    return {**source, "folder": folder, "base": base} if isinstance(source, dict) else source
