"""What a run folder holds that none of its recipes needs, and its removal."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from xstilts.errors import Collector, UserError, nearest
from xstilts.store.run_folder import Store

_OURS = re.compile(r"[0-9a-f]{12}|[0-9a-f]{24}")
"""Names of steps, and of features."""


@dataclass(frozen=True)
class Thing:
    """A step, or a set of token features, that may go."""

    path: Path
    title: str
    bytes: int

    @property
    def name(self) -> str:
        """A step's id, or the name of a feature set."""
        return self.path.name


@dataclass(frozen=True)
class Garbage:
    """What may go, and which recipes stay."""

    kept: tuple[str, ...]
    forgotten: tuple[str, ...]
    steps: tuple[Thing, ...]
    features: tuple[Thing, ...]

    @property
    def bytes(self) -> int:
        """What removing it frees, files that are shared with what stays counted too."""
        return sum(thing.bytes for thing in (*self.steps, *self.features))


def find(store: Store, *, only: Sequence[str] = (), forget: Sequence[str] = ()) -> Garbage:
    """Look for what is not needed; nothing is changed.

    A recipe needs all the steps of its plan. Features are needed by the steps that have read them; as long as a recipe
    is not finished, also those that no step is known to have read.

    Args:
        store: which no run is using.
        only: recipes that stay, if not all.
        forget: recipes that do not.

    Raises:
        UserError: there is no recipe of such a name, or one that does not tell what it needs.
    """
    recipes = store.recipes()
    _check_names(store, recipes, only, forget)
    kept = tuple(name for name in recipes if (not only or name in only) and name not in forget)
    needed = _needed(store, kept)
    there = [path.name for path in _folders(store.folder / "steps")]
    gone = [id for id in there if id not in needed]
    known = {id: _features(store, id) for id in there}
    used = {name for id in needed for name in known.get(id) or ()}
    finished = all(known.get(id) is not None for id in needed)
    left_behind = {name for id in gone for name in known[id] or ()}
    seen: set[tuple[int, int]] = set()
    return Garbage(
        kept,
        tuple(name for name in recipes if name not in kept),
        tuple(Thing(store.step(id), store.title(id), _size(store.step(id), seen)) for id in gone),
        tuple(
            Thing(path, "", _size(path, seen))
            for path in _folders(store.features)
            if path.name not in used and (finished or path.name in left_behind)
        ),
    )


def remove(store: Store, garbage: Garbage) -> None:
    """Remove it; at every moment what is marked as done is whole, and a second try removes the rest."""
    for name in garbage.forgotten:
        store.recipes()[name].unlink()
    for step in garbage.steps:
        if not step.path.is_symlink():
            (step.path / "done.json").unlink(missing_ok=True)
    for thing in (*garbage.steps, *garbage.features):
        if thing.path.is_symlink():  # what it leads to is not ours
            thing.path.unlink()
        else:
            shutil.rmtree(thing.path)


def _check_names(store: Store, recipes: Iterable[str], only: Sequence[str], forget: Sequence[str]) -> None:
    found = Collector()
    for name in dict.fromkeys((*only, *forget)):
        if name not in recipes:
            found.add(f"holds no recipe '{name}'", where=str(store.folder), hint=nearest(name, recipes))
        elif name in forget and name in only:
            found.add(f"'{name}' cannot be kept and forgotten", where="--forget")
    found.raise_any()
    if not recipes:
        store.study(None)  # which says so


def _needed(store: Store, recipes: Iterable[str]) -> set[str]:
    """All the steps of the recipes' plans."""
    needed: set[str] = set()
    begun = store.begun()
    for name in recipes:
        study = store.study(name)
        needed |= {*study.steps}
        ahead = [cell.step for cell in study.cells]
        if not study.steps and not begun.keys() >= {*ahead}:
            what = f"the recipe '{name}' was begun with an earlier version, and does not tell what it needs"
            raise UserError(what, where=str(store.folder), hint=f"run it again, or --forget {name}")
        while ahead:
            id = ahead.pop()
            ahead += [before for before in begun.get(id, ()) if before not in needed]
            needed |= {id, *begun.get(id, ())}
    return needed


def _features(store: Store, id: str) -> list[str] | None:
    """The features that a finished step has read; None if it is not finished, or does not tell."""
    try:
        names = store.facts(id).get("features") if store.state(id).has_results else None
    except UserError:
        return None
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def _folders(place: Path) -> list[Path]:
    """The folders of a place that have names as ours have; others are not looked at."""
    found = place.iterdir() if place.is_dir() else ()
    return sorted(path for path in found if path.is_dir() and _OURS.fullmatch(path.name))


def _size(folder: Path, seen: set[tuple[int, int]]) -> int:
    """Bytes of the files in a folder, none for a link to one; what has several names counts once."""
    if folder.is_symlink():
        return 0
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            stat = (Path(where) / name).lstat()
            if (stat.st_dev, stat.st_ino) not in seen:
                seen.add((stat.st_dev, stat.st_ino))
                total += stat.st_size
    return total
