"""Texts of a file of any size, some at a time: a wiki's dump, a table, JSON Lines, or plain lines."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from xml.etree import ElementTree

from xstilts.corpus.wikitext import MEDIA
from xstilts.data.lines import UNREADABLE, broken, lines, opened, parsed
from xstilts.data.records import refuse_halves
from xstilts.errors import DataError
from xstilts.formats.base import Row

TOGETHER = 250_000
"""Characters of a batch of texts, more if its last is long."""
ROWS = 500
"""Rows of a table that are read at once."""
COLUMN = "text"
"""Where a table and an object have their text."""
NO_TEXT = frozenset(
    {".json", ".csv", ".tsv", ".sql", ".zip", ".7z", ".zst", ".tar", ".tgz", ".rar", ".html", ".htm", ".pdf"}
)
"""Endings of files that are surely not text a line."""
SPACES = ("6", "14")
"""Keys of the namespaces of files and categories in a wiki's dump."""


@dataclass(frozen=True)
class Batch:
    """Some texts of a file, in order, each with its paragraphs a line."""

    at: int
    """Bytes of the file, as it is stored, that have been read."""
    texts: list[str]
    media: frozenset[str] | None = None
    """For wikitext the prefixes of links that show no text; None for plain text."""


def read(path: str) -> Iterator[Batch]:
    """The texts of a file, by the ending of its name: `.xml` a dump, `.parquet`, `.jsonl`, and anything else lines.

    A dump, objects and lines may be packed (.gz, .bz2, .xz). Of a file no more than a batch is in memory.

    Raises:
        DataError: the file cannot be read, is not whole, or has no column `text`.
    """
    kind = _ending(path)
    if kind in NO_TEXT:
        hint = "give plain text, JSON Lines, Parquet, or a wiki's pages-articles.xml.bz2"
        raise DataError(f"is not read as text ({kind})", where=path, hint=hint)
    if kind == ".parquet":
        yield from _table(path)
        return
    try:
        raw = Path(path).open("rb")  # noqa: SIM115  (closed below)
    except OSError as error:
        raise broken(path, error, "") from error
    with closing(raw):
        media: set[str] = set()
        if dump(path):
            yield from _batches(_pages(path, raw, media), raw, media)
        else:
            texts = _objects(path, raw) if kind in (".jsonl", ".ndjson", ".json-lines") else _lines(path, raw)
            yield from _batches(texts, raw, None)


def dump(path: str) -> bool:
    """Whether a file is named as a wiki's dump; a part of one ends in `.xml-p1p41242.bz2`.

    >>> dump("swwiki-latest-pages-articles.xml.bz2"), dump("enwiki-pages-articles1.xml-p1p41242.bz2"), dump("a.txt.gz")
    (True, True, False)
    """
    return _ending(path).startswith(".xml")


def _ending(path: str) -> str:
    name = Path(path)
    return (Path(name.stem) if name.suffix in (".gz", ".bz2", ".xz") else name).suffix.lower()


def _batches(texts: Iterator[str], raw: IO[bytes], media: set[str] | None) -> Iterator[Batch]:
    some: list[str] = []
    size, whole = 0, os.fstat(raw.fileno()).st_size
    for text in texts:
        some.append(text)
        size += len(text)
        if size >= TOGETHER:
            yield Batch(raw.tell(), some, None if media is None else MEDIA | media)
            some, size = [], 0
    if some:
        yield Batch(whole, some, None if media is None else MEDIA | media)


def _lines(path: str, raw: IO[bytes]) -> Iterator[str]:
    return (text for _, text in lines(path, file=raw))


def _objects(path: str, raw: IO[bytes]) -> Iterator[str]:
    for number, line in lines(path, file=raw):
        if line.strip():
            value = parsed(line, path, number)
            text = value.get(COLUMN) if isinstance(value, dict) else None
            if not isinstance(text, str):
                raise DataError(f"is no JSON object with a text in `{COLUMN}`", where=f"{path}:{number}")
            refuse_halves(Row({COLUMN: text}, path, number), (COLUMN,))
            yield text


def _table(path: str) -> Iterator[Batch]:
    import pyarrow  # type: ignore[import-untyped]  # here, because it is slow to load
    import pyarrow.parquet  # type: ignore[import-untyped]

    size, done = Path(path).stat().st_size, 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            columns = {field.name: str(field.type) for field in file.schema_arrow}
            if columns.get(COLUMN) not in ("string", "large_string", "string_view"):
                has = ", ".join(f"{name} ({kind})" for name, kind in columns.items())
                raise DataError(f"has no column `{COLUMN}` of text", where=path, hint=f"its columns: {has}")
            for batch in file.iter_batches(ROWS, columns=[COLUMN]):
                done += len(batch)
                texts = [text for text in batch.column(0).to_pylist() if text]
                yield Batch(size * done // file.metadata.num_rows, texts)
    except UnicodeDecodeError as error:
        raise DataError("holds text that is not UTF-8", where=path) from error
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"is no whole Parquet file: {error}", where=path) from error


def _pages(path: str, raw: IO[bytes], media: set[str]) -> Iterator[str]:
    """The wikitext of a dump's articles; before the first one, `media` is told the wiki's own names for files."""
    number, root = 0, None
    try:
        with opened(path, raw) as stream:
            for event, element in ElementTree.iterparse(stream, events=("start", "end")):
                name = element.tag.rpartition("}")[2]
                if root is None:
                    root = element
                    if name != "mediawiki":
                        raise DataError(f"is no dump of a wiki: it begins with <{name}>", where=path)
                elif event == "end" and name == "namespace" and element.get("key") in SPACES and element.text:
                    media.add(element.text.casefold())
                elif event == "end" and name == "page":
                    number += 1
                    if text := _article(element):
                        yield text
                    root.clear()  # else every page stays in memory
    except ElementTree.ParseError as error:
        after = f"after page {number:,}" if number else "before its first page"
        raise DataError(f"is no whole dump: it breaks off {after} ({error})", where=path) from error
    except UNREADABLE as error:
        raise broken(path, error, f"page {number:,}" if number else "") from error
    except (ValueError, LookupError) as error:
        raise DataError(f"declares an encoding that cannot be read: {error}", where=path) from error


def _article(page: ElementTree.Element) -> str:
    """The wikitext of a page; empty if it is a redirect, no article, or not wikitext."""
    if page.findtext("{*}ns") != "0" or page.find("{*}redirect") is not None:
        return ""
    newest = page.findall("{*}revision")[-1:]
    texts = [one.findtext("{*}text") for one in newest if one.findtext("{*}model") in (None, "wikitext")]
    return "".join(text or "" for text in texts)
