"""Find the files of a source for one language, or say every place where they were looked for."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from xstilts import playground
from xstilts.errors import MissingData, nearest
from xstilts.task import File, Source

PLAYGROUND = "playground:"


@dataclass(frozen=True)
class Found:
    """A file of a source, and where it lies: several paths when its pattern has a `*`."""

    file: File
    paths: tuple[str, ...]
    """File names, or the one `playground:KIND/SPLIT`."""
    pair: str | None = None
    """The other side of aligned text."""


def find(source: Source, language: str, roots: Sequence[Path], *, code3: str) -> list[Found]:
    """Find the files of the first layout that is complete.

    Args:
        source: what to look for; `{lang}` and `{lang3}` in its paths are filled.
        language: the language's code.
        roots: data folders, after the file's own; the first that has it wins. A file is looked for as it is named,
            then with `.gz`.
        code3: the language's ISO 639-3 code.

    Raises:
        MissingData: no layout is complete; names every place that was looked at.
    """
    places: list[Path] = []
    for layout in source.layouts:
        found = []
        for file in layout:
            own = [file.base, *roots] if file.base else roots
            path = _fill(file.path, language, code3)
            paths = _generated(path, language) if path.startswith(PLAYGROUND) else _locate(path, own, places)
            pair = _locate(_fill(file.pair, language, code3), own, places) if file.pair else ()
            if paths and (pair or not file.pair):
                found.append(Found(file, paths, pair[0] if pair else None))
        if len(found) == len(layout):
            return found
    looked = ", ".join(dict.fromkeys(map(_shown, places))) or ", ".join(
        _fill(file.path, language, code3) for layout in source.layouts for file in layout
    )
    raise MissingData(f"no data for '{language}': looked for {looked}, also with .gz", hint=_hint(places, roots))


def _fill(path: str, language: str, code3: str) -> str:
    return path.replace("{lang3}", code3).replace("{lang}", language)


def _locate(path: str, roots: Sequence[Path], places: list[Path]) -> tuple[str, ...]:
    """The files of one pattern in the first root that has any; adds to `places` where there was none."""
    candidates = [Path(path)] if Path(path).is_absolute() else [root / path for root in roots]
    for place in candidates:
        try:
            files = _files(place)
        except OSError as error:
            raise MissingData(f"cannot be looked at: {error.strerror}", where=str(place)) from error
        if files:
            return tuple(map(str, files))
    places.extend(candidates)
    return ()


def _generated(path: str, language: str) -> tuple[str, ...]:
    kind, _, split = path.removeprefix(PLAYGROUND).partition("/")
    if kind not in playground.KINDS:
        raise MissingData(f"the playground has no '{kind}'", where=path, hint=nearest(kind, playground.KINDS))
    sizes = playground.KINDS[kind].sizes
    if split not in sizes:
        raise MissingData(f"the playground's {kind} has no split '{split}'", where=path, hint=nearest(split, sizes))
    if split not in playground.splits(kind, language):
        raise MissingData(f"the playground has no data for '{language}'", where=path)
    return (path,)


def _shown(place: Path) -> str:
    """A place where no file was, and what is there instead."""
    if place.is_dir():
        return f"{place} (a folder)"
    return f"{place} (a link to nothing)" if place.is_symlink() else str(place)


def _files(place: Path) -> list[Path]:
    """The files that a path or pattern means, sorted by name; a plain file stands before its own .gz copy."""
    if "*" not in str(place):
        if not place.name:
            return []
        return [path for path in (place, place.with_name(place.name + ".gz")) if path.is_file()][:1]
    steps = place.parts
    first = next(i for i, step in enumerate(steps) if "*" in step)
    folder, pattern = Path(*steps[:first]), "/".join(steps[first:])
    pattern = pattern.replace("[", "[[]").replace("?", "[?]")  # only `*` is special here
    files: dict[str, Path] = {}
    for path in (*folder.glob(pattern), *folder.glob(pattern + ".gz")):
        name = str(path).removesuffix(".gz")
        if path.is_file() and (path.suffix != ".gz" or name not in files):
            files[name] = path
    return [files[name] for name in sorted(files)]


def _hint(places: Sequence[Path], roots: Sequence[Path]) -> str:
    """The name nearest to what was asked for, in the deepest folder that is there."""
    for place in places:
        while not place.parent.is_dir():
            place = place.parent
        if any(place == root or place in root.parents for root in roots):
            continue  # the data folder itself is not there
        names = {path.name.removesuffix(".gz") for path in place.parent.iterdir()}
        close = difflib.get_close_matches(place.name, sorted(names), n=1)
        if close:
            return f"the nearest there is {place.parent / close[0]}"
    return "" if any(root.is_dir() for root in roots) else "give the data folder with --data or XSTILTS_DATA"


def digest(path: str | Path) -> str:
    """The sha256 of a file's bytes as they are stored, remembered until the file's size or time changes.

    Raises:
        FileNotFoundError: no such file.
    """
    state = Path(path).stat()
    return _digest(str(path), state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=4096)
def _digest(path: str, size: int, changed: int) -> str:  # noqa: ARG001
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
