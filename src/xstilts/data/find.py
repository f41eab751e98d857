"""Find the files of a source for one language, or say every place where they were looked for."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from xstilts import playground
from xstilts.data import hub
from xstilts.data.hub import HUB
from xstilts.errors import MissingData, nearest
from xstilts.languages import LANGUAGES
from xstilts.tasks.source import File, Source

PLAYGROUND = "playground:"
_SHARE = re.compile(r"-\d+-of-0*(\d+)\.")
"""One of several files that are parts of one table, as in `train-00000-of-00002.parquet`."""


@dataclass(frozen=True)
class Found:
    """A file of a source, and where it lies: several paths when its pattern has a `*`."""

    file: File
    paths: tuple[str, ...]
    """File names, or the one `playground:KIND/SPLIT`."""
    pair: tuple[str, ...] = ()
    """The other side of aligned text, or what is looked for."""
    gold: str | None = None
    """Which lines of the two belong together."""

    @property
    def files(self) -> tuple[str, ...]:
        """Everything that is read."""
        return (*self.paths, *self.pair, *((self.gold,) if self.gold else ()))


Looked: TypeAlias = dict[str, Path | None]
"""Places where nothing was, as people are told of them; the path of those that are no file of the Hub."""


def find(source: Source, language: str, roots: Sequence[Path], *, task: str = "") -> list[Found]:
    """Find the files of the first layout that is complete.

    Args:
        source: what to look for; `{lang}` and the like in its paths are filled (see `filled`).
        language: the language's code.
        roots: data folders, after the file's own; the first that has it wins. A file is looked for as it is named,
            then with `.gz`. Files of the Hub are looked for in its local cache.
        task: the task's name, for what is said when nothing is there.

    Raises:
        MissingData: no layout is complete; names every place that was looked at.
    """
    looked: Looked = {}
    found = look(source, language, roots, looked)
    if found:
        return found
    places = ", ".join(looked) or ", ".join(paths(source, language))
    raise MissingData(f"no data for '{language}': looked for {places}, also with .gz", where=task,
                      hint=_hint(source, language, looked, roots, task))  # fmt: skip


def look(source: Source, language: str, roots: Sequence[Path], looked: Looked | None = None) -> list[Found]:
    """As `find`, but an empty list where nothing is."""
    looked = {} if looked is None else looked
    for layout in source.layouts:
        found = [one for file in layout if (one := _whole(file, language, roots, looked))]
        if len(found) == len(layout):
            return found
    return []


def paths(source: Source, language: str) -> Iterator[str]:
    """The paths of all layouts, filled for a language."""
    for layout in source.layouts:
        yield from (filled(file.path, language) for file in layout)


def filled(text: str, language: str) -> str:
    """A path or value with what stands for the language filled in.

    `{lang}` is its code, `{lang3}` its ISO 639-3 code, `{language}` its English name in small letters and `{Language}`
    the name with a capital; zh is called Chinese, as data sets have it.

    >>> filled("udpos.{Language}/{lang}-{lang3}-{language}", "zh")
    'udpos.Chinese/zh-cmn-chinese'
    """
    if "{" not in text:
        return text
    known = LANGUAGES.get(language)
    name = "Chinese" if language == "zh" else known.name if known else language
    code3 = known.code3 if known else language
    text = text.replace("{lang3}", code3).replace("{lang}", language)
    return text.replace("{language}", name.lower()).replace("{Language}", name)


def _whole(file: File, language: str, roots: Sequence[Path], looked: Looked) -> Found | None:
    """A file with all that belongs to it, None if it is not there."""
    own = [file.base, *roots] if file.base else roots
    path = filled(file.path, language)
    paths = _generated(path, language) if path.startswith(PLAYGROUND) else _locate(path, own, looked)
    pair = _locate(filled(file.pair, language), own, looked) if file.pair else ()
    if not paths or (file.pair and not pair):
        return None
    gold = _locate(filled(file.gold, language), own, {}) if file.gold else ()
    return Found(file, paths, pair, gold[0] if gold else None)


def _locate(path: str, roots: Sequence[Path], looked: Looked) -> tuple[str, ...]:
    """The files of one pattern in the first root that has any; adds to `looked` where there was none."""
    places: list[Path | None] = [Path(path)] if Path(path).is_absolute() else [root / path for root in roots]
    if path.startswith(HUB):
        where = hub.place(path)
        cached = hub.folder(where)
        places = [cached / where.path if cached else None]
    for place in places:
        try:
            files = _files(place) if place else []
            lacking = _lacking(files)
            if files and not lacking:
                return tuple(map(str, files))
            if path.startswith(HUB):
                looked[path + lacking] = None
            else:
                assert place is not None
                looked[_shown(place) + lacking] = place
        except OSError as error:
            raise MissingData(f"cannot be looked at: {error.strerror}", where=str(place)) from error
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


def _lacking(files: Sequence[Path]) -> str:
    """What a table in several files lacks: its name says how many there are."""
    totals = [int(share[1]) for path in files if (share := _SHARE.search(path.name))]
    return f" (only {len(totals)} of its {max(totals)} parts)" if totals and len(totals) < max(totals) else ""


def _hint(source: Source, language: str, looked: Looked, roots: Sequence[Path], task: str) -> str:
    """What to do about a source that is not there: the nearest name, the command that fetches it, or --data."""
    ways = [near] if (near := _nearest([place for place in looked.values() if place], roots)) else []
    if task and any(path.startswith(HUB) for path in paths(source, language)):
        ways.append(f"`xstilts data fetch {task}` gets it from the Hub")
        if own := next((path for path in paths(source, language) if not path.startswith(HUB)), None):
            ways.append(f"or put it at {roots[-1] / own if roots else own}")
    if not any(root.is_dir() for root in roots) and not near:
        ways.append("give the data folder with --data or XSTILTS_DATA")
    return ", ".join(ways)


def _nearest(places: Sequence[Path], roots: Sequence[Path]) -> str:
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
    return ""
