"""Finds and removes steps and features that no recipe of a run folder needs."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from xstilts.errors import Collector, UserError, nearest
from xstilts.store.run_folder import Store
from xstilts.utils.files import folder_size

_OWN_NAME = re.compile(r"[0-9a-f]{12}|[0-9a-f]{24}")
"""The names of steps and of feature sets."""


@dataclass(frozen=True)
class PrunableItem:
    """A step or a set of token features that may be removed."""

    path: Path
    title: str
    bytes: int

    @property
    def name(self) -> str:
        """A step's id, or the name of a feature set."""
        return self.path.name


@dataclass(frozen=True)
class Prunable:
    """The steps and features that may be removed, and the recipes that stay."""

    kept: tuple[str, ...]
    forgotten: tuple[str, ...]
    steps: tuple[PrunableItem, ...]
    features: tuple[PrunableItem, ...]

    @property
    def bytes(self) -> int:
        """The bytes to free, including files that are shared with remaining steps."""
        return sum(item.bytes for item in (*self.steps, *self.features))


def find(store: Store, *, only: Sequence[str] = (), forget: Sequence[str] = ()) -> Prunable:
    """List steps and features that no recipe needs; changes nothing.

    A recipe needs all steps of its plan, and the features that they read. An unfinished recipe also needs features that
    no step is known to have read.

    Args:
        store: a store that no run is using.
        only: the recipes that stay; all if empty.
        forget: the recipes to remove.

    Raises:
        UserError: a recipe is unknown, or does not list its steps.
    """
    recipes = store.recipes()
    _check_names(store, recipes, only, forget)
    kept = tuple(name for name in recipes if (not only or name in only) and name not in forget)
    needed = _needed(store, kept)
    present = [path.name for path in _folders(store.folder / "steps")]
    unneeded = [id for id in present if id not in needed]
    features = {id: _features(store, id) for id in present}
    used = {name for id in needed for name in features.get(id) or ()}
    finished = all(features.get(id) is not None for id in needed)
    unneeded_features = {name for id in unneeded for name in features[id] or ()}
    seen: set[tuple[int, int]] = set()
    return Prunable(
        kept,
        tuple(name for name in recipes if name not in kept),
        tuple(PrunableItem(store.step(id), store.title(id), folder_size(store.step(id), seen)) for id in unneeded),
        tuple(
            PrunableItem(path, "", folder_size(path, seen))
            for path in _folders(store.features)
            if path.name not in used and (finished or path.name in unneeded_features)
        ),
    )


def remove(store: Store, prunable: Prunable) -> None:
    """Remove the listed items; if interrupted, a second try removes the rest.

    It unmarks a step before removing its files, so that a step marked as done is always whole.
    """
    for name in prunable.forgotten:
        store.recipes()[name].unlink()
    for step in prunable.steps:
        if not step.path.is_symlink():
            (step.path / "done.json").unlink(missing_ok=True)
    for item in (*prunable.steps, *prunable.features):
        if item.path.is_symlink():  # its target may belong to the user
            item.path.unlink()
        else:
            shutil.rmtree(item.path)
    store.clean_up()  # links to what is gone


def _check_names(store: Store, recipes: Iterable[str], only: Sequence[str], forget: Sequence[str]) -> None:
    errors = Collector()
    for name in dict.fromkeys((*only, *forget)):
        if name not in recipes:
            errors.add(f"has no recipe '{name}'", where=str(store.folder), hint=nearest(name, recipes))
        elif name in forget and name in only:
            errors.add(f"'{name}' cannot be kept and forgotten", where="--forget")
    errors.raise_any()
    if not recipes:
        store.study(None)  # raises: there are no results yet


def _needed(store: Store, recipes: Iterable[str]) -> set[str]:
    """The ids of all steps in the recipes' plans."""
    needed: set[str] = set()
    parents = store.step_parents()
    for name in recipes:
        study = store.study(name)
        needed |= {*study.steps}
        queue = [cell.step for cell in study.cells]
        if not study.steps and not parents.keys() >= {*queue}:
            what = f"an earlier version started the recipe '{name}' and did not list the steps it needs"
            raise UserError(what, where=str(store.folder), hint=f"run it again, or --forget {name}")
        while queue:
            id = queue.pop()
            queue += [parent for parent in parents.get(id, ()) if parent not in needed]
            needed |= {id, *parents.get(id, ())}
    return needed


def _features(store: Store, id: str) -> list[str] | None:
    """The features that a finished step read; None if unfinished or not recorded."""
    try:
        names = store.facts(id).get("features") if store.state(id).has_results else None
    except UserError:
        return None
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def _folders(parent: Path) -> list[Path]:
    """The subfolders with names of steps or feature sets; others are ignored."""
    paths = parent.iterdir() if parent.is_dir() else ()
    return sorted(path for path in paths if path.is_dir() and _OWN_NAME.fullmatch(path.name))
