"""Reads a recipe and the task files that it names from YAML, and reports all their mistakes at once."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from xstilts.errors import Collector, UserError, nearest
from xstilts.study.checks import check_names, check_recipe, check_tokenizers, strings_in
from xstilts.study.ensembles import check_ensembles
from xstilts.study.recipe import Recipe
from xstilts.tasks import TASKS
from xstilts.tasks.source import RECIPES
from xstilts.tasks.task import Task
from xstilts.tasks.user_tasks import from_document, from_yaml, task_file, task_names
from xstilts.utils import yaml as strict_yaml

FULL, SCALES = "full", "scales"


def shipped() -> dict[str, Path]:
    """The recipes in the package, by name."""
    files = sorted(RECIPES.glob("*.yaml"))  # other files hold tasks
    return {path.stem: path for path in files if "\nphases:" in path.read_text(encoding="utf-8")}


def load_recipe(
    recipe: str | os.PathLike[str] | Mapping[str, Any], *, scale: str = FULL,
    tasks: Mapping[str, Mapping[str, Any]] | None = None,
) -> Recipe:  # fmt: skip
    """Read a recipe with the tasks that it may name, and check it; reads no data.

    Args:
        recipe: a file, the name of a recipe in the package, or a mapping with the fields of docs/recipes.md. The paths
            in a mapping start from the working directory.
        scale: `full`, or one of the recipe's `scales`, whose keys replace the recipe's own.
        tasks: your own tasks by name, each a mapping as in a task file; its data files are paths.

    Raises:
        UserError: all mistakes of the recipe and of its tasks; at the scale `full`, also those of its scales.

    >>> recipe = load_recipe({
    ...     "name": "reviews", "encoder": "FacebookAI/xlm-roberta-base", "evaluate": "my-reviews",
    ...     "phases": [{"name": "target", "each": "my-reviews", "settings": {"lr": 5e-5}}],
    ... }, tasks={"my-reviews": {
    ...     "format": "classify", "texts": ["text"], "labels": ["bad", "good"], "languages": ["en", "de"],
    ...     "data": {"train": "reviews/train.csv", "test": "reviews/test.{lang}.csv"},
    ... }})
    >>> recipe.tasks["my-reviews"].metrics
    ('accuracy',)
    """
    document = strict_yaml.from_mapping(recipe, "recipe") if isinstance(recipe, Mapping) else _recipe_file(recipe)
    checked = _checked(document, scale, strict_yaml.from_mapping(tasks, "tasks") if tasks else None)
    if not isinstance(recipe, Mapping) and not tasks:
        checked.note_command(os.fspath(recipe), "" if scale == FULL else scale)
    return checked


def read(name: str, scale: str = FULL) -> tuple[Recipe, Mapping[str, Task]]:
    """A recipe, as `load_recipe` reads it, and the tasks that it may name."""
    recipe = load_recipe(name, scale=scale)
    return recipe, recipe.tasks


def _recipe_file(name: str | os.PathLike[str]) -> strict_yaml.Document:
    """Read a file, or a recipe in the package by its name."""
    path = Path(name)
    if not path.suffix and not os.path.lexists(path):
        known = shipped()
        if str(path) not in known:
            raise UserError(f"no recipe '{path}'", hint=nearest(str(path), known))
        path = known[str(path)]
    return strict_yaml.load(path)


def _checked(document: strict_yaml.Document, scale: str, own_tasks: strict_yaml.Document | None) -> Recipe:
    """Make a recipe of a document, with all its mistakes as one error."""
    path, found = document.path, Collector()
    if named := task_names(document):
        hint = f"name it in a recipe: `use: [{path.name}]`; `xstilts data check {named[0]} --use {path}` reads its data"
        raise UserError(f"is a task file, not a recipe: it has the task '{named[0]}'", where=str(path), hint=hint)
    scales = _scales(document, found)
    if scale not in (FULL, *scales):
        if not found.errors:
            found.add(f"has no scale '{scale}'", where=str(path), hint=nearest(scale, [FULL, *scales]))
        found.raise_any()
    load_tasks = cache(partial(_load_tasks, path.parent, own_tasks))
    with found.catch():
        recipe, tasks = _read(_at_scale(document, scale, scales), load_tasks)
        check_tokenizers(recipe, found)  # a tokenizer of another scale may be on another machine
    reported = set(map(str, found.errors))
    for other in scales if scale == FULL else ():
        own = Collector()
        with own.catch():
            _read(_at_scale(document, other, scales), load_tasks)
        for error in own.errors:
            clear = str(error) in reported or f": {SCALES}.{other}" in error.where
            what = error.message if clear else f"{error.message}, at the scale '{other}'"
            found.add(what, where=error.where, hint=error.hint)
    found.raise_any()
    recipe.note_tasks(tasks)
    return recipe if scale == FULL else recipe.model_copy(update={"name": f"{recipe.name}-{scale}"})


def _scales(document: strict_yaml.Document, found: Collector) -> dict[str, dict[str, Any]]:
    """The keys that each scale of a recipe replaces, by the scale's name; notes mistakes in the scales."""
    scales = document.value.get(SCALES, {})
    changes = {}
    for name, part in scales.items() if isinstance(scales, dict) else ():
        where = document.where((SCALES, name))
        if name == FULL:
            found.add("stands for the recipe without a scale", where=where, hint="give the scale another name")
        elif not re.fullmatch(r"[A-Za-z0-9._-]{1,50}", name):
            found.add(f"{name!r} is no name of letters, digits, '.', '_', '-', 50 at most", where=where)
        elif not isinstance(part, dict):
            found.add("must be a mapping of the keys that it changes in the recipe", where=where)
        else:
            changes[name] = {key: value for key, value in part.items() if key != "name"}
            if "name" in part:
                found.add("cannot be changed by a scale", where=document.where((SCALES, name, "name")))
    if not isinstance(scales, dict):
        found.add("must be a mapping of each scale's name to its changes", where=document.where((SCALES,)))
    return changes


def _at_scale(document: strict_yaml.Document, scale: str, scales: Mapping[str, dict[str, Any]]) -> strict_yaml.Document:
    """The recipe at one of its scales, whose keys replace the recipe's."""
    own = scales.get(scale, {})
    replaced = {SCALES, *own} | ({"encoder", "encoders"} if {"encoder", "encoders"} & own.keys() else set())
    value = {key: part for key, part in document.value.items() if key not in replaced}
    return replace(document, value=value | own, moved=dict.fromkeys(own, (SCALES, scale)))


def _load_tasks(folder: Path, own_tasks: strict_yaml.Document | None, uses: tuple[str, ...]) -> dict[str, Task]:
    """The built-in tasks, those of the task files beside a recipe, and those that came with it.

    Raises:
        UserError: all mistakes of the files.
    """
    tasks, found = dict(TASKS), Collector()
    for use in uses:
        with found.catch():
            tasks |= from_yaml(task_file(folder, use), tasks, as_written=use)
    if own_tasks is not None:
        with found.catch():
            tasks |= from_document(own_tasks, tasks)
    found.raise_any()
    return tasks


def _read(
    document: strict_yaml.Document, load_tasks: Callable[[tuple[str, ...]], dict[str, Task]]
) -> tuple[Recipe, dict[str, Task]]:
    """Check a document and make a recipe of it, with the tasks that it may name.

    Raises:
        UserError: all mistakes of the recipe and of its task files.
    """
    found, tasks = Collector(), dict[str, Task]()
    uses = strings_in(document.value.get("use"))
    paths = tuple(use for use in uses if use.strip() and "\0" not in use)  # the typed model refuses the others
    there = tuple(use for use in paths if os.path.lexists(task_file(document.path.parent, use)))
    for i, use in enumerate(uses):
        if use in paths and use not in there:
            file = document.path.parent / use
            where, hint = document.where(("use", i)), strict_yaml.nearest_file(file)
            found.add(f"{file}: no such file", where=where, hint=hint)
    with found.catch():
        tasks = load_tasks(there)
    if not found.errors and len(paths) == len(uses):  # else a name may be unknown only because its file is broken
        check_names(document, tasks, found)
    try:
        recipe = Recipe.model_validate(document.value)
    except ValidationError as error:
        found.errors.extend(strict_yaml.user_errors(error, Recipe, document))
    else:
        recipe.note_document(document)
        if not found.errors:
            check_recipe(recipe, tasks, found)
            check_ensembles(recipe, tasks, found)
    found.raise_any()
    return recipe, tasks
