"""Finds the files of a source for one language; the error lists every path that was searched."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from xstilts import languages, playground
from xstilts.data import hub
from xstilts.data.hub import HUB
from xstilts.errors import IncompleteData, MissingData, nearest
from xstilts.tasks.source import RECIPES, File, Source
from xstilts.utils.files import missing_parts

PLAYGROUND = "playground:"
_TRANSLATED = re.compile(r"(translated|translate-test)/([\w-]+)/(?:train|dev|test)-[\w-]+\.\w+")
"""A file in a folder of translations, from or into English, which `xstilts translate` writes."""


@dataclass(frozen=True)
class Found:
    """A file of a source and its paths: several if its pattern has a `*`."""

    file: File
    paths: tuple[str, ...]
    """File names, or the one `playground:KIND/SPLIT`."""
    pair: tuple[str, ...] = ()
    """The other side of aligned text, or the candidates of retrieval."""
    gold: str | None = None
    """The file that pairs lines of the two."""

    @property
    def files(self) -> tuple[str, ...]:
        """All files that are read."""
        return (*self.paths, *self.pair, *((self.gold,) if self.gold else ()))


Searched: TypeAlias = dict[str, Path | None]
"""Places without files, as messages name them, with their paths; None for files on the Hub."""


HasLabels: TypeAlias = Callable[[Sequence[Found]], bool]
"""Whether the files of a layout have labels."""


def find(
    source: Source, language: str, roots: Sequence[Path], *, task: str = "", has_labels: HasLabels | None = None
) -> list[Found]:
    """Find the files of the first complete layout, or of the first with labels.

    Args:
        source: the source; `filled` replaces `{lang}` and the like in its paths.
        language: the language code.
        roots: data folders, searched in order after the file's own folder; each for the name, then for the name with
            `.gz`. Files on the Hub are searched in its local cache.
        task: the task's name, for the error message.
        has_labels: passes over layouts without labels if a later one has them.

    Raises:
        MissingData: no layout is complete; lists every path that was searched. `IncompleteData` if parts of a table
            exist.
    """
    searched: Searched = {}
    found = find_or_empty(source, language, roots, searched, has_labels)
    if found:
        return found
    if not _layouts(source, language):
        raise MissingData(f"no data for '{language}': no file of the source has it among its `languages`", where=task)
    places = ", ".join(searched) or ", ".join(paths(source, language))
    kind = IncompleteData if any(place.endswith(" parts)") for place in searched) else MissingData
    raise kind(f"no data for '{language}': looked for {places}, also with .gz", where=task,
               hint=_hint(source, language, searched, roots, task))  # fmt: skip


def find_or_empty(
    source: Source,
    language: str,
    roots: Sequence[Path],
    searched: Searched | None = None,
    has_labels: HasLabels | None = None,
) -> list[Found]:
    """Like `find`, but returns an empty list if no layout is complete; adds the places searched to `searched`."""
    layouts = _complete_layouts(source, language, roots, {} if searched is None else searched)
    first = next(layouts, [])
    others = list(layouts) if has_labels is not None else []
    if has_labels is None or not others:  # there is no choice, so nothing is read
        return first
    return next((found for found in (first, *others) if has_labels(found)), first)


def _complete_layouts(
    source: Source, language: str, roots: Sequence[Path], searched: Searched
) -> Iterator[list[Found]]:
    for layout in _layouts(source, language):
        found = [located for file in layout if (located := _complete(file, language, roots, searched))]
        if len(found) == len(layout):
            yield found


def _layouts(source: Source, language: str) -> list[tuple[File, ...]]:
    return [layout for layout in source.layouts if all(file.serves(language) for file in layout)]


def paths(source: Source, language: str) -> Iterator[str]:
    """Yield the paths of a language's layouts, filled for it."""
    for layout in _layouts(source, language):
        yield from (filled(file.path, language) for file in layout)


def filled(text: str, language: str) -> str:
    """A path or value with the placeholders of the language replaced.

    `{lang}` is its code, `{lang3}` its ISO 639-3 code, `{language}` its English name in lower case and `{Language}`
    the name with a capital; zh is called Chinese, as in the data sets.

    >>> filled("udpos.{Language}/{lang}-{lang3}-{language}", "zh")
    'udpos.Chinese/zh-cmn-chinese'
    """
    if "{" not in text:
        return text
    known = languages.find(language)
    name = "Chinese" if known and known.code == "zh" else known.name if known else language
    text = text.replace("{lang3}", languages.code3(language)).replace("{lang}", language)
    return text.replace("{language}", name.lower()).replace("{Language}", name)


def _complete(file: File, language: str, roots: Sequence[Path], searched: Searched) -> Found | None:
    """A file with its pair and gold; None if it or its pair does not exist."""
    own = [file.base, *roots] if file.base not in (None, RECIPES) else roots  # no data come with the package
    path = filled(file.path, language)
    paths = _generated(path, language) if path.startswith(PLAYGROUND) else _locate(path, own, searched)
    pair = _locate(filled(file.pair, language), own, searched) if file.pair else ()
    if not paths or (file.pair and not pair):
        return None
    gold = _locate(filled(file.gold, language), own, {}) if file.gold else ()
    return Found(file, paths, pair, gold[0] if gold else None)


def _locate(path: str, roots: Sequence[Path], searched: Searched) -> tuple[str, ...]:
    """The files of a pattern in the first root that has any; adds the other places to `searched`."""
    places: list[Path | None] = [Path(path)] if Path(path).is_absolute() else [root / path for root in roots]
    if path.startswith(HUB):
        where = hub.place(path)
        cached = hub.folder(where)
        places = [cached / where.path if cached else None]
    for place in places:
        try:
            files = _files(place) if place else []
            incomplete = f" ({missing})" if "*" in path and (missing := missing_parts(files)) else ""
            if files and not incomplete:
                return tuple(map(str, files))
            if path.startswith(HUB):
                searched[path + incomplete] = None
            else:
                assert place is not None
                searched[_shown(place) + incomplete] = place
        except OSError as error:
            raise MissingData(f"cannot be searched: {error.strerror}", where=str(place)) from error
    return ()


def _generated(path: str, language: str) -> tuple[str, ...]:
    kind, _, split = path.removeprefix(PLAYGROUND).partition("/")
    if kind not in playground.DATASETS:
        raise MissingData(f"the playground has no '{kind}'", where=path, hint=nearest(kind, playground.DATASETS))
    sizes = playground.DATASETS[kind].sizes
    if split not in sizes:
        raise MissingData(f"the playground's {kind} has no split '{split}'", where=path, hint=nearest(split, sizes))
    if split not in playground.splits(kind, language):
        raise MissingData(f"the playground has no data for '{language}'", where=path)
    return (path,)


def _shown(place: Path) -> str:
    """A path without a file, and what it is instead."""
    if place.is_dir():
        return f"{place} (a folder)"
    return f"{place} (a broken link)" if place.is_symlink() else str(place)


def _files(place: Path) -> list[Path]:
    """The files of a path or pattern, sorted by name; a plain file replaces its .gz copy."""
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


def _hint(source: Source, language: str, searched: Searched, roots: Sequence[Path], task: str) -> str:
    """What the user can do about missing files: the nearest name, the command that downloads them, or --data."""
    ways = [near] if (near := _nearest([place for place in searched.values() if place], roots, language)) else []
    if task and any(path.startswith(HUB) for path in paths(source, language)):
        ways.append(f"`xstilts data fetch {task}` downloads it from the Hub")
        if own := next((path for path in paths(source, language) if not path.startswith(HUB)), None):
            ways.append(f"or put it at {roots[-1] / own if roots else own}")
    if command := translate_command(source, [language], roots):
        ways.append(f"`{command}` writes it")
    if not any(root.is_dir() for root in roots) and not near:
        ways.append("give the data folder with --data or XSTILTS_DATA")
    return ", ".join(ways)


def translate_command(source: Source, codes: Sequence[str], roots: Sequence[Path]) -> str:
    """The command that writes a source's files in some languages into a folder of translations; "" if none does."""
    written = next(filter(None, map(_TRANSLATED.fullmatch, paths(source, codes[0]))), None)
    if written is None:
        return ""
    folder, task = written.groups()
    pair = f"--to {','.join(codes)}" if folder == "translated" else f"--from {','.join(codes)} --to en"
    return f"xstilts translate {task} {pair} --engine E --out {(roots[-1] if roots else Path('DATA')) / folder}"


def _nearest(places: Sequence[Path], roots: Sequence[Path], language: str) -> str:
    """The existing path nearest to a searched one, in the deepest folder that exists; `ger.csv` is near de.csv."""
    code = re.compile(rf"(?<![a-z]){re.escape(language)}(?![a-z])", re.IGNORECASE)
    for place in places:
        while not place.parent.is_dir():
            place = place.parent
        if any(place == root or place in root.parents for root in roots):
            continue  # the data folder itself does not exist
        names = {path.name.removesuffix(".gz") for path in place.parent.iterdir()}
        same = {code.sub(spelling, place.name).lower() for spelling in languages.spellings(language)}
        close = [name for name in sorted(names) if name.lower() in same]
        close = close or difflib.get_close_matches(place.name, sorted(names), n=1)
        if close:
            return f"the nearest there is {place.parent / close[0]}"
    return ""
