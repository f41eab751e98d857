"""Reads the texts of a Wikipedia dump, Parquet, JSON Lines or plain text, in batches."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from xml.etree import ElementTree

from xstilts.corpus.wikitext import MEDIA
from xstilts.data.lines import UNREADABLE, lines, opened, parse_json, unreadable
from xstilts.data.records import reject_surrogates
from xstilts.errors import DataError
from xstilts.formats.base import Row
from xstilts.utils.files import reject_lfs_pointer

BATCH_CHARACTERS = 250_000
"""A batch of texts ends when it has at least this many characters."""
BATCH_ROWS = 500
"""Rows of a Parquet file that are read at once."""
COLUMN = "text"
"""The column of a Parquet file, or the key of a JSON object, that holds the text."""
NO_TEXT = frozenset(
    {".json", ".csv", ".tsv", ".sql", ".zip", ".7z", ".zst", ".tar", ".tgz", ".rar", ".html", ".htm", ".pdf"}
)
"""Suffixes of files that do not have one text per line."""
NAMESPACES = ("6", "14")
"""Keys of the namespaces of files and categories in a Wikipedia dump."""


@dataclass(frozen=True)
class Batch:
    """Some texts of a file, in order, each with one paragraph per line."""

    bytes_read: int
    """Bytes read so far, counted in the stored (compressed) file."""
    texts: list[str]
    media: frozenset[str] | None = None
    """For wikitext: prefixes of links that show no text. None for plain text."""


def read(path: str) -> Iterator[Batch]:
    """Yield the texts of a file. Its suffix selects the reader: `.xml` (a dump), `.parquet`, `.jsonl`, else lines.

    All but Parquet may be compressed (.gz, .bz2, .xz). Only one batch is in memory at a time.

    Raises:
        DataError: the file cannot be read, is incomplete, or has no column `text`.
    """
    kind = _suffix(path)
    if kind in NO_TEXT:
        hint = "give plain text, JSON Lines, Parquet, or a wiki's pages-articles.xml.bz2"
        raise DataError(f"cannot be read as text ({kind})", where=path, hint=hint)
    if kind == ".parquet":
        yield from _table(path)
        return
    try:
        raw = Path(path).open("rb")  # noqa: SIM115  (closed below)
    except OSError as error:
        raise unreadable(path, error, "") from error
    with closing(raw):
        media: set[str] = set()
        if is_dump(path):
            yield from _batches(_pages(path, raw, media), raw, media)
        else:
            texts = _objects(path, raw) if kind in (".jsonl", ".ndjson", ".json-lines") else _lines(path, raw)
            yield from _batches(texts, raw, None)


def is_dump(path: str) -> bool:
    """Whether the name is that of a Wikipedia dump, or of a part of one, which ends in `.xml-p1p41242.bz2`.

    >>> names = ["swwiki-latest-pages-articles.xml.bz2", "enwiki-pages-articles1.xml-p1p41242.bz2", "a.txt.gz"]
    >>> [is_dump(name) for name in names]
    [True, True, False]
    """
    return _suffix(path).startswith(".xml")


def _suffix(path: str) -> str:
    name = Path(path)
    return (Path(name.stem) if name.suffix in (".gz", ".bz2", ".xz") else name).suffix.lower()


def _batches(texts: Iterator[str], raw: IO[bytes], media: set[str] | None) -> Iterator[Batch]:
    batch: list[str] = []
    characters, total_bytes = 0, os.fstat(raw.fileno()).st_size
    for text in texts:
        batch.append(text)
        characters += len(text)
        if characters >= BATCH_CHARACTERS:
            yield Batch(raw.tell(), batch, None if media is None else MEDIA | media)
            batch, characters = [], 0
    if batch:
        yield Batch(total_bytes, batch, None if media is None else MEDIA | media)


def _lines(path: str, raw: IO[bytes]) -> Iterator[str]:
    return (text for _, text in lines(path, file=raw))


def _objects(path: str, raw: IO[bytes]) -> Iterator[str]:
    for number, line in lines(path, file=raw):
        if line.strip():
            value = parse_json(line, path, number)
            text = value.get(COLUMN) if isinstance(value, dict) else None
            if isinstance(value, dict) and COLUMN in value and text is None:
                continue  # an empty row, as in Parquet
            if not isinstance(text, str):
                raise DataError(f"is not a JSON object with a string in `{COLUMN}`", where=f"{path}:{number}")
            reject_surrogates(Row({COLUMN: text}, path, number), (COLUMN,))
            yield text


def _table(path: str) -> Iterator[Batch]:
    import pyarrow  # type: ignore[import-untyped]  # here, because it is slow to load
    import pyarrow.parquet  # type: ignore[import-untyped]

    size, rows_read = Path(path).stat().st_size, 0
    try:
        reject_lfs_pointer(path)
        with pyarrow.parquet.ParquetFile(path) as file:
            columns = {field.name: str(field.type) for field in file.schema_arrow}
            if columns.get(COLUMN) not in ("string", "large_string", "string_view"):
                has = ", ".join(f"{name} ({kind})" for name, kind in columns.items())
                raise DataError(f"has no string column `{COLUMN}`", where=path, hint=f"its columns: {has}")
            for batch in file.iter_batches(BATCH_ROWS, columns=[COLUMN]):
                rows_read += len(batch)
                texts = [text for text in batch.column(0).to_pylist() if text]
                yield Batch(size * rows_read // file.metadata.num_rows, texts)
    except UnicodeDecodeError as error:
        raise DataError("contains text that is not UTF-8", where=path) from error
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"is not a complete Parquet file: {error}", where=path) from error


def _pages(path: str, raw: IO[bytes], media: set[str]) -> Iterator[str]:
    """Yield the wikitext of a dump's articles; first adds the wiki's prefixes of files and categories to `media`."""
    number, root = 0, None
    try:
        with opened(path, raw) as stream:
            for event, element in ElementTree.iterparse(stream, events=("start", "end")):
                name = element.tag.rpartition("}")[2]
                if root is None:
                    root = element
                    if name != "mediawiki":
                        raise DataError(f"is not a Wikipedia dump: it begins with <{name}>", where=path)
                elif event == "end" and name == "namespace" and element.get("key") in NAMESPACES and element.text:
                    media.add(element.text.casefold())
                elif event == "end" and name == "page":
                    number += 1
                    if text := _article(element):
                        yield text
                    root.clear()  # else every page stays in memory
    except ElementTree.ParseError as error:
        end = f"after page {number:,}" if number else "before its first page"
        raise DataError(f"is not a complete dump: it ends {end} ({error})", where=path) from error
    except UNREADABLE as error:
        raise unreadable(path, error, f"page {number:,}" if number else "") from error
    except (ValueError, LookupError) as error:
        raise DataError(f"declares an encoding that cannot be read: {error}", where=path) from error


def _article(page: ElementTree.Element) -> str:
    """The wikitext of a page; empty for redirects, pages that are not articles, and other content models."""
    if page.findtext("{*}ns") != "0" or page.find("{*}redirect") is not None:
        return ""
    newest = page.findall("{*}revision")[-1:]
    texts = [item.findtext("{*}text") for item in newest if item.findtext("{*}model") in (None, "wikitext")]
    return "".join(text or "" for text in texts)
