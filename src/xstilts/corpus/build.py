"""Builds raw text for masked language modelling: one file per language, one sentence per line."""

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
from xstilts.corpus.articles import is_dump
from xstilts.data import hub
from xstilts.data.corpus_metadata import metadata_file, read_metadata
from xstilts.data.find import filled, find
from xstilts.errors import Collector, MissingData, UserError
from xstilts.tasks.source import Source
from xstilts.utils.files import digest, first_error, write_atomic
from xstilts.utils.locks import require_lock
from xstilts.utils.os_errors import as_user_error
from xstilts.utils.progress import Progress
from xstilts.utils.sampling import reservoir

VERSION, DUMP_VERSION = 1, 2
"""Versions of the sentence splitting, and of it with wikitext; after a change, finished files are built again."""
SNAPSHOT = "20231101"
"""The newest snapshot of Wikipedia on the Hub; the paper's is of 14 April 2020 (section 2.3)."""
WIKIPEDIA = "hub:wikimedia/wikipedia/{snapshot}.{lang}/train-*.parquet"
"""Wikipedia on the Hub, which uses the codes of `languages`."""
GROUPS = {"xtreme": languages.XTREME, "xtreme-r": languages.XTREME_R}
PACKAGES = ("icu4py", "mwparserfromhell")


@dataclass(frozen=True)
class CorpusRequest:
    """What to build: at most `limit` sentences per language, sampled with `seed`; all if `limit` is None."""

    sources: tuple[str, ...]
    """Files, or files on the Hub, with `{lang}` for the language code."""
    out: Path
    limit: int | None = None
    seed: int = 1
    workers: int = 1
    """Processes that turn wikitext into sentences; their number does not change the result."""


@dataclass(frozen=True)
class Built:
    """The file of a language; `new` if this run wrote it."""

    language: str
    path: Path
    sentences: int
    new: bool


def language_codes(names: Sequence[str]) -> list[str]:
    """The language codes that the names mean, each once; a group's name means its members.

    Raises:
        UserError: lists every name that is neither a code nor a group.

    >>> language_codes(["sw", "ceb", "sw"])
    ['sw', 'ceb']
    """
    found = Collector()
    codes = dict.fromkeys(code for name in names for code in GROUPS.get(name, (name,)))
    for code in codes:
        if not languages.well_formed(code) or languages.as_code(code) != code:
            found.add(f"'{code}' is not a language code", hint=languages.hint(code))
    found.raise_any()
    return list(codes)


def build(codes: Sequence[str], request: CorpusRequest, progress: Progress) -> list[Built]:
    """Build the file of each language unless it exists; a failure does not stop the other languages.

    Raises:
        UserError: before any work, if packages or local files are missing; after the work, if a language failed.
    """
    _check(codes, request)
    found, built = Collector(), []
    for number, code in enumerate(codes, start=1):
        progress.step(number, len(codes), languages.titled(code))
        outcome = "failed"
        with found.catch(), as_user_error(request.out):
            built.append(file := _build_language(code, request, progress))
            outcome = f"{file.sentences:,} sentences" + ("" if file.new else ", already made")
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
    for source in request.sources:
        with found.catch():
            if _is_on_hub(source):
                hub.place(source)
            else:
                _check_readable(source, codes)
            if len(codes) > 1 and filled(source, codes[0]) == filled(source, codes[1]):
                hint = "write {lang} in place of the code"
                raise UserError("is one file for several languages", where=source, hint=hint)
    found.raise_any()
    if not any(map(_is_on_hub, request.sources)):
        for code in codes:
            with found.catch():
                _files(code, request.sources)
    found.raise_any()


def _check_readable(source: str, codes: Sequence[str]) -> None:
    """Check that existing paths are files that can be read more than once.

    Raises:
        UserError: an empty name, a folder, or a pipe or other special file.
    """
    if not source.strip():
        raise UserError("names no file", where="--from")
    for path in (Path(filled(source, code)) for code in codes):
        if path.is_dir():
            raise UserError("is a folder", where=str(path), hint="give its files: FOLDER/*.txt")
        if path.exists() and not path.is_file():
            raise UserError("is not a regular file, and can be read only once", where=str(path),
                            hint="write it to a file first")  # fmt: skip


def _is_on_hub(source: str) -> bool:
    return source.startswith(hub.HUB)


def _files(code: str, sources: Sequence[str]) -> list[str]:
    try:
        source = Source.model_validate(list(sources))
    except ValidationError as error:
        raise UserError(first_error(error), where="--from") from error
    paths = [path for found in find(source, code, [Path()]) for path in found.paths]
    return list({Path(path).absolute(): path for path in paths}.values())  # a file that is named twice is read once


def _fetch_files(code: str, request: CorpusRequest, progress: Progress) -> list[str]:
    """The files of a language; downloads them from the Hub if necessary.

    Raises:
        MissingData: they cannot be downloaded.
    """
    try:
        return _files(code, request.sources)
    except MissingData:
        hub.fetch([hub.place(filled(source, code)) for source in request.sources if _is_on_hub(source)], progress.say)
    try:
        return _files(code, request.sources)
    except MissingData as error:
        hint = "download it on another machine and copy the Hub's cache, or give a dump or text with --from"
        raise MissingData(error.message, where=error.where, hint=hint) from error


def _build_language(code: str, request: CorpusRequest, progress: Progress) -> Built:
    paths = _fetch_files(code, request, progress)
    target = request.out / f"{code}.txt"
    metadata_path = metadata_file(target)
    made_from = {
        "version": DUMP_VERSION if any(map(is_dump, paths)) else VERSION,
        "sources": [[Path(path).name, digest(path)] for path in paths],
        "limit": request.limit,
        "seed": None if request.limit is None else request.seed,
    }
    old = read_metadata(metadata_path)
    _check_overwrite(code, target, metadata_path, old, paths)
    if old.get("made_from") == made_from and target.is_file() and target.stat().st_size == old.get("bytes"):
        return Built(code, target, int(old.get("sentences", 0)), new=False)
    request.out.mkdir(parents=True, exist_ok=True)
    total, started, seen, written = sum(Path(path).stat().st_size for path in paths), time.monotonic(), 0, 0

    def report(bytes_read: int, count: int) -> None:
        nonlocal seen
        seen = count
        left = (time.monotonic() - started) / bytes_read * (total - bytes_read) if bytes_read else None
        progress.update(bytes_read >> 20, total >> 20, f"MiB, {count:,} sentences", left)

    from xstilts.corpus.processes import read_sentences  # here, because it needs the extra

    with _part_file(target) as stream:
        for sentence in _sample(read_sentences(paths, code, request.workers, report), request):
            stream.write(sentence.encode() + b"\n")
            written += 1
        if not written:
            raise UserError("contains no sentence", where=", ".join(paths))
        # if the process is killed before the full metadata, this says that `xstilts corpus` wrote the text
        write_atomic(metadata_path, json.dumps({"language": code}) + "\n")
    metadata = {"language": code, "sentences": written, "of": seen, "bytes": target.stat().st_size}
    write_atomic(metadata_path, json.dumps(metadata | {"made_from": made_from}, indent=1, ensure_ascii=False) + "\n")
    return Built(code, target, written, new=True)


def _check_overwrite(
    code: str, target: Path, metadata_path: Path, old: Mapping[str, Any], paths: Sequence[str]
) -> None:
    """Check that only files of an earlier run are overwritten.

    Raises:
        UserError: a file is a source, or `xstilts corpus` did not write it.
    """
    for path in filter(Path.exists, (target, metadata_path, _part(target))):
        if any(path.samefile(source) for source in paths):
            raise UserError("is a source, so it cannot be overwritten", where=str(path), hint="choose another --out")
    for path in (target, metadata_path):
        if os.path.lexists(path) and old.get("language") != code:
            message = f"exists, and {metadata_path.name} does not say that `xstilts corpus` made it"
            raise UserError(message, where=str(path), hint="move it away, or choose another --out")


def _part(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


@contextmanager
def _part_file(target: Path) -> Iterator[IO[bytes]]:
    """A locked temporary file, renamed to `target` when complete; replaces what a killed run left.

    Raises:
        UserError: another run is writing it, or the file system has no locks.
    """
    part = _part(target)
    with part.open("ab") as stream:
        busy = "another run is writing this file"
        require_lock(stream, busy, str(target))
        try:
            unchanged = os.path.samestat(os.fstat(stream.fileno()), part.stat())
        except FileNotFoundError:
            unchanged = False
        if not unchanged:  # the other run has just renamed the file
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
    """All sentences, or a uniform random sample of `limit`, in order."""
    if request.limit is None:
        yield from sentences
        return
    sample = reservoir(enumerate(sentences), request.limit, request.seed)
    yield from (sentence for _, sentence in sorted(sample))
