"""Read a recipe from YAML with the task files it names, and report every mistake at once."""

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
from xstilts.study.recipe import Recipe
from xstilts.tasks import TASKS
from xstilts.tasks.own import RECIPES, from_yaml, task_file
from xstilts.tasks.task import Task
from xstilts.utils import yaml as strict_yaml

FULL, SCALES = "full", "scales"


def shipped() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    files = sorted(RECIPES.glob("*.yaml"))  # some hold the tasks of others
    return {path.stem: path for path in files if "\nphases:" in path.read_text(encoding="utf-8")}


def read(name: str, scale: str = FULL) -> tuple[Recipe, dict[str, Task]]:
    """Read a recipe file, or one shipped in the package, and the tasks it may name.

    Args:
        name: a file, or a shipped recipe's name.
        scale: `full`, or one of the recipe's `scales`, whose keys then take the place of the recipe's own.

    Raises:
        UserError: all mistakes of the recipe and of the task files it uses; at `full` those of its scales, too.
    """
    path = Path(name)
    if not path.suffix and not os.path.lexists(path):
        known = shipped()
        if name not in known:
            raise UserError(f"no recipe '{name}'", hint=nearest(name, known))
        path = known[name]
    document, found = strict_yaml.load(path), Collector()
    scales = _scales(document, found)
    if scale not in (FULL, *scales):
        if not found.errors:
            found.add(f"has no scale '{scale}'", where=str(path), hint=nearest(scale, [FULL, *scales]))
        found.raise_any()
    load = cache(partial(_own_tasks, path.parent))
    with found.catch():
        recipe, tasks = _read(_scaled(document, scale, scales), load)
        check_tokenizers(recipe, found)  # those of another scale may lie on another machine
    told = set(map(str, found.errors))
    for other in scales if scale == FULL else ():
        own = Collector()
        with own.catch():
            _read(_scaled(document, other, scales), load)
        for error in own.errors:
            clear = str(error) in told or f": {SCALES}.{other}" in error.where
            what = error.what if clear else f"{error.what}, at the scale '{other}'"
            found.add(what, where=error.where, hint=error.hint)
    found.raise_any()
    return (recipe if scale == FULL else recipe.model_copy(update={"name": f"{recipe.name}-{scale}"})), tasks


def _scales(document: strict_yaml.Document, found: Collector) -> dict[str, dict[str, Any]]:
    """What each scale of a recipe changes, by name; notes what is wrong with the scales as such."""
    scales = document.value.get(SCALES, {})
    kept = {}
    for name, part in scales.items() if isinstance(scales, dict) else ():
        where = document.where((SCALES, name))
        if name == FULL:
            found.add("is what the recipe is without a scale", where=where, hint="give the scale another name")
        elif not re.fullmatch(r"[A-Za-z0-9._-]{1,50}", name):
            found.add(f"{name!r} is no name of letters, digits, '.', '_', '-', 50 at most", where=where)
        elif not isinstance(part, dict):
            found.add("must be a mapping: what changes in the recipe", where=where)
        else:
            kept[name] = {key: value for key, value in part.items() if key != "name"}
            if "name" in part:
                found.add("is nothing that a scale can change", where=document.where((SCALES, name, "name")))
    if not isinstance(scales, dict):
        found.add("must be a mapping of names to what they change in the recipe", where=document.where((SCALES,)))
    return kept


def _scaled(document: strict_yaml.Document, scale: str, scales: Mapping[str, dict[str, Any]]) -> strict_yaml.Document:
    """The recipe at one of its scales: some of its keys in place of the recipe's."""
    own = scales.get(scale, {})
    gone = {SCALES, *own} | ({"encoder", "encoders"} if {"encoder", "encoders"} & own.keys() else set())
    value = {key: part for key, part in document.value.items() if key not in gone}
    return replace(document, value=value | own, moved=dict.fromkeys(own, (SCALES, scale)))


def _own_tasks(folder: Path, uses: tuple[str, ...]) -> dict[str, Task]:
    """The built-in tasks and those of task files beside a recipe.

    Raises:
        UserError: all mistakes of the files.
    """
    tasks, found = dict(TASKS), Collector()
    for use in uses:
        with found.catch():
            tasks |= from_yaml(task_file(folder, use), tasks, as_written=use)
    found.raise_any()
    return tasks


def _read(
    document: strict_yaml.Document, load: Callable[[tuple[str, ...]], dict[str, Task]]
) -> tuple[Recipe, dict[str, Task]]:
    """The recipe of a document, and the tasks that it may name.

    Raises:
        UserError: all mistakes of the recipe and of the task files it uses.
    """
    found, tasks = Collector(), dict[str, Task]()
    uses = strings_in(document.value.get("use"))
    paths = tuple(use for use in uses if use.strip() and "\0" not in use)  # the typed model refuses the others
    with found.catch():
        tasks = load(paths)
    if not found.errors and len(paths) == len(uses):  # else a name may be unknown only because its file is broken
        check_names(document, tasks, found)
    try:
        recipe = Recipe.model_validate(document.value)
    except ValidationError as error:
        found.errors.extend(strict_yaml.user_errors(error, Recipe, document))
    else:
        recipe._document = document
        if not found.errors:
            check_recipe(recipe, tasks, found)
    found.raise_any()
    return recipe, tasks
