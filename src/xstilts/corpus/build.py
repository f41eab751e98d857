"""Builds a folder of raw text, one file a language and one sentence a line, for masked language modelling."""

from __future__ import annotations

import importlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pydantic import ValidationError

from xstilts import languages
from xstilts.data import hub
from xstilts.data.find import filled, find
from xstilts.errors import Collector, MissingData, UserError
from xstilts.tasks.source import Source
from xstilts.utils.files import digest, first_error, read_json, write_atomic
from xstilts.utils.locks import require_lock
from xstilts.utils.os_errors import as_user_error
from xstilts.utils.progress import Progress
from xstilts.utils.sampling import reservoir

VERSION = 1
"""Of how text becomes sentences; another one makes finished languages anew."""
SNAPSHOT = "20231101"
"""The newest of the Hub's copies of Wikipedia."""
WIKIPEDIA = "hub:wikimedia/wikipedia/{snapshot}.{lang}/train-*.parquet"
"""Where the Hub has it; its codes are those of `languages`."""
GROUPS = {"xtreme": languages.XTREME, "xtreme-r": languages.XTREME_R}
PACKAGES = ("icu4py", "mwparserfromhell")


@dataclass(frozen=True)
class CorpusRequest:
    """What to build: `limit` sentences of a language at most, drawn by `seed`; all if it is None."""

    places: tuple[str, ...]
    out: Path
    limit: int | None = None
    seed: int = 1
    workers: int = 1
    """Processes that turn wikitext into sentences; their number changes nothing but the time."""


@dataclass(frozen=True)
class Built:
    """A language's file; `new` if it was not already made."""

    language: str
    path: Path
    sentences: int
    new: bool


def language_codes(names: Sequence[str]) -> list[str]:
    """Codes of languages, groups replaced by their members, each once.

    Raises:
        UserError: all names that are neither.

    >>> language_codes(["sw", "ceb", "sw"])
    ['sw', 'ceb']
    """
    found = Collector()
    codes = dict.fromkeys(code for name in names for code in GROUPS.get(name, (name,)))
    threes = {language.code3 for language in languages.LANGUAGES.values()}
    for code in codes:
        if not languages.well_formed(code) or (code in threes and code not in languages.LANGUAGES):
            found.add(f"'{code}' is no code of a language", hint=languages.hint(code))
    found.raise_any()
    return list(codes)


def build(codes: Sequence[str], request: CorpusRequest, progress: Progress) -> list[Built]:
    """Make the requested file of each language unless it is there; one that fails does not stop the others.

    Raises:
        UserError: what is wrong, after all that can be made is made; what is missing here, before anything is.
    """
    _check(codes, request)
    found, built = Collector(), []
    for number, code in enumerate(codes, start=1):
        progress.step(number, len(codes), languages.titled(code))
        outcome = "not made"
        with found.catch(), as_user_error(request.out):
            built.append(one := _language(code, request, progress))
            outcome = f"{one.sentences:,} sentences" + ("" if one.new else ", already made")
        progress.end(outcome)
    found.raise_any()
    return built


def _check(codes: Sequence[str], request: CorpusRequest) -> None:
    found = Collector()
    for package in PACKAGES:
        try:
            importlib.import_module(package)
        except ImportError:
            found.add(f"needs the package {package}", where="corpus", hint='pip install "xstilts[corpus]"')
    for place in request.places:
        with found.catch():
            if _remote(place):
                hub.place(place)
            else:
                _readable(place, codes)
            if len(codes) > 1 and filled(place, codes[0]) == filled(place, codes[1]):
                hint = "write {lang} where the code stands"
                raise UserError("is one file for several languages", where=place, hint=hint)
    found.raise_any()
    if not any(map(_remote, request.places)):
        for code in codes:
            with found.catch():
                _files(code, request.places)
    found.raise_any()


def _readable(place: str, codes: Sequence[str]) -> None:
    """Refuse what is there but is no file that can be read more than once.

    Raises:
        UserError: an empty name, a folder, a pipe or the like.
    """
    if not place.strip():
        raise UserError("names no file", where="--from")
    for path in (Path(filled(place, code)) for code in codes):
        if path.is_dir():
            raise UserError("is a folder", where=str(path), hint="give its files: FOLDER/*.txt")
        if path.exists() and not path.is_file():
            raise UserError("is a pipe or the like, which is read only once", where=str(path),
                            hint="write it to a file first")  # fmt: skip


def _remote(place: str) -> bool:
    return place.startswith(hub.HUB)


def _files(code: str, places: Sequence[str]) -> list[str]:
    try:
        source = Source.model_validate(list(places))
    except ValidationError as error:
        raise UserError(first_error(error), where="--from") from error
    found = [path for one in find(source, code, [Path()]) for path in one.paths]
    return list({Path(path).absolute(): path for path in found}.values())  # a file that is named twice is read once


def _fetched(code: str, request: CorpusRequest, progress: Progress) -> list[str]:
    """The files of a language, from the Hub if they are not here.

    Raises:
        MissingData: they cannot be fetched.
    """
    try:
        return _files(code, request.places)
    except MissingData:
        hub.fetch([hub.place(filled(place, code)) for place in request.places if _remote(place)], progress.say)
    try:
        return _files(code, request.places)
    except MissingData as error:
        hint = "fetch it on another machine and copy the Hub's cache, or give a dump or text with --from"
        raise MissingData(error.message, where=error.where, hint=hint) from error


def _language(code: str, request: CorpusRequest, progress: Progress) -> Built:
    paths = _fetched(code, request, progress)
    target, note = request.out / f"{code}.txt", request.out / f"{code}.json"
    made_from = {
        "version": VERSION,
        "sources": [[Path(path).name, digest(path)] for path in paths],
        "limit": request.limit,
        "seed": None if request.limit is None else request.seed,
    }
    before = _noted(note)
    _ours(code, target, note, before, paths)
    if before.get("made_from") == made_from and target.is_file() and target.stat().st_size == before.get("bytes"):
        return Built(code, target, int(before.get("sentences", 0)), new=False)
    request.out.mkdir(parents=True, exist_ok=True)
    total, started, seen, written = sum(Path(path).stat().st_size for path in paths), time.monotonic(), 0, 0

    def say(done: int, count: int) -> None:
        nonlocal seen
        seen = count
        left = (time.monotonic() - started) / done * (total - done) if done else None
        progress.update(done >> 20, total >> 20, f"MiB, {count:,} sentences", left)

    from xstilts.corpus.processes import cut  # here, because it needs the extra

    with _beside(target) as stream:
        for sentence in _sample(cut(paths, code, request.workers, say), request):
            stream.write(sentence.encode() + b"\n")
            written += 1
        if not written:
            raise UserError("holds no sentence", where=", ".join(paths))
        # a kill between the two files must leave no note on another text, but tell whose the text is
        write_atomic(note, json.dumps({"language": code}) + "\n")
    facts = {"language": code, "sentences": written, "of": seen, "bytes": target.stat().st_size}
    write_atomic(note, json.dumps(facts | {"made_from": made_from}, indent=1, ensure_ascii=False) + "\n")
    return Built(code, target, written, new=True)


def _ours(code: str, target: Path, note: Path, noted: Mapping[str, Any], paths: Sequence[str]) -> None:
    """See that no file is written over but those of an earlier run.

    Raises:
        UserError: one is a source, or was not made here.
    """
    for path in filter(Path.exists, (target, note, _part(target))):
        if any(path.samefile(source) for source in paths):
            raise UserError("is read from, so it cannot be written", where=str(path), hint="choose another --out")
    for path in (target, note):
        if os.path.lexists(path) and noted.get("language") != code:
            what = f"is there, and {note.name} does not say that `xstilts corpus` made it"
            raise UserError(what, where=str(path), hint="move it away, or choose another --out")


def _noted(note: Path) -> dict[str, Any]:
    """What was noted of a finished language; nothing if there is none or it cannot be read."""
    try:
        value = read_json(note)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _part(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


@contextmanager
def _beside(target: Path) -> Iterator[IO[bytes]]:
    """A file that takes its name only when it is whole; what a killed run has left is written over.

    Raises:
        UserError: another run is writing it, or the file system has no locks.
    """
    part = _part(target)
    with part.open("ab") as stream:
        busy = "another run is writing this file"
        require_lock(stream, busy, str(target))
        try:
            ours = os.path.samestat(os.fstat(stream.fileno()), part.stat())
        except FileNotFoundError:
            ours = False
        if not ours:  # the other one has just finished
            raise UserError(busy, where=str(target))
        try:
            stream.truncate(0)
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            part.replace(target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def _sample(sentences: Iterator[str], request: CorpusRequest) -> Iterator[str]:
    """The sentences, or as many as the limit says, each as likely as any other, in their order."""
    if request.limit is None:
        yield from sentences
        return
    kept = reservoir(enumerate(sentences), request.limit, request.seed)
    yield from (sentence for _, sentence in sorted(kept))
