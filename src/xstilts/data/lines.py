"""Reads the lines of plain or compressed UTF-8 text files, with errors that name file and line."""

from __future__ import annotations

import bz2
import codecs
import gzip
import json
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypeAlias

from xstilts.errors import DataError
from xstilts.utils.files import LFS_POINTERS, reject_lfs_pointer

OnWarning: TypeAlias = Callable[[str, str], None]
"""Receives a warning about a file, and its place."""

STDIN = "stdin"
"""What messages call the standard input, whose open file `lines` then gets."""
BROKEN = "is not UTF-8; invalid bytes are read as U+FFFD"
_RENAME = "is compressed, but its name does not say so"
_TABLE = "save the table as UTF-8 CSV"
_NO_DATA = "did the download end at a login or an error?"
SIGNATURES = {
    codecs.BOM_UTF16_LE: ("is UTF-16, not UTF-8", "save it as UTF-8"),
    codecs.BOM_UTF16_BE: ("is UTF-16, not UTF-8", "save it as UTF-8"),
    b"PK\x03\x04": ("is a zip archive or an Excel workbook, not text", _TABLE),
    b"\xd0\xcf\x11\xe0": ("is an Excel workbook, not text", _TABLE),
    b"\x1f\x8b": (_RENAME, "rename it to .gz"),
    b"BZh91AY&SY": (_RENAME, "rename it to .bz2"),
    b"\xfd7zXZ": (_RENAME, "rename it to .xz"),
    b"(\xb5/\xfd": ("is compressed by zstd, which is not read", "unpack it"),
    b"<!doctype html": ("is an HTML page, not data", _NO_DATA),
    b"<html": ("is an HTML page, not data", _NO_DATA),
    b"<?xml": ("is XML, not data", _NO_DATA),
    b"404: not found": ("is a server's error, not data", _NO_DATA),
    b"PAR1": ("is Parquet, but its name does not say so", "rename it to .parquet"),
    b"ARROW1": ("is an Arrow file, not text", "save it with `to_parquet`"),
    b"\xff\xff\xff\xff": ("is an Arrow file, not text", "save it with `to_parquet`"),
    b"/annex/objects/": ("is a git-annex pointer, not the file itself", "git annex get"),
    **dict.fromkeys(LFS_POINTERS, ("is a Git LFS pointer, not the file itself", "git lfs pull")),
}
"""What a file is by its first bytes, if it is no UTF-8 text, and what to do."""
COMPRESSED: dict[str, tuple[str, Callable[..., Any]]] = {
    ".gz": ("gzip", gzip.open), ".bz2": ("bzip2", bz2.open), ".xz": ("xz", lzma.open),
}  # fmt: skip
"""Name and opener of each kind of compression, by suffix."""
UNREADABLE = (EOFError, OSError, zlib.error, lzma.LZMAError)
"""Errors from reading a missing or damaged file; `unreadable` turns them into messages."""


def lines(path: str, on_warning: OnWarning | None = None, file: IO[bytes] | None = None) -> Iterator[tuple[int, str]]:
    r"""Yield number and text of each line of a plain or compressed UTF-8 file, without line end and byte order mark.

    Only `\n` or `\r\n` ends a line: U+2028, U+0085 and the like occur inside sentences. Blank lines at the end of the
    file are left out. For files with `\r` alone see `raw_lines`.

    Args:
        path: the file.
        on_warning: receives a warning for each line that is not UTF-8 or has a NUL byte; these bytes are then read as
            U+FFFD. If None, such lines are errors.
        file: the stored file, already opened, so that the caller can follow the progress; for `STDIN` its stream.

    Raises:
        DataError: not UTF-8 text, a damaged compressed file, or a file that cannot be read.
    """
    number = offset = 0
    blank: list[tuple[int, str]] = []
    try:
        with opened(path, file) as stream:
            for number, raw in enumerate(raw_lines(stream), start=1):
                if number == 1:
                    offset, raw = len(raw), raw.removeprefix(codecs.BOM_UTF8)
                    offset -= len(raw)
                    _check_signature(raw, path)
                text = _decoded(raw.removesuffix(b"\n").rstrip(b"\r"), path, number, offset, on_warning)
                offset += len(raw)
                if not text or text.isspace():
                    blank.append((number, text))
                    continue
                if blank:
                    yield from blank
                    blank.clear()
                yield number, text
    except UNREADABLE as error:
        raise unreadable(path, error, f"line {number}" if number else "") from error


def raw_lines(stream: IO[bytes]) -> Iterator[bytes]:
    r"""Yield the lines of a file with their ends; if `\n` never parts two lines, `\r` does.

    Each line is there as soon as it is written, which matters if the file is a pipe.
    """
    first = stream.readline()
    if b"\r" in first.rstrip(b"\r\n"):
        second = stream.readline()
        yield from (first, second) if second else first.splitlines(keepends=True)
    elif first:
        yield first
    yield from stream


def _check_signature(raw: bytes, path: str) -> None:
    """Refuse a file whose first line begins as another kind of file does."""
    for signature, (what, hint) in SIGNATURES.items():
        if raw.startswith(signature) or raw[:20].lower().startswith(signature):
            raise DataError(what, where=path, hint=hint)


def _decoded(line: bytes, path: str, number: int, offset: int, on_warning: OnWarning | None) -> str:
    """The text of a line that begins at the byte `offset`."""
    try:
        text = line.decode()
        if "\0" not in text:
            return text
        message, at, hint = "has a NUL byte", line.index(0), "is it UTF-16, or damaged?"
    except UnicodeDecodeError as error:
        is_table = Path(path.removesuffix(".gz")).suffix.lower() in (".csv", ".tsv")
        message, at = "is not UTF-8", error.start
        hint = "saved by Excel? save as UTF-8 CSV" if is_table else "save it as UTF-8"
    if on_warning is None:
        raise DataError(f"{message} at byte {offset + at}", where=f"{path}:{number}", hint=hint)
    on_warning(BROKEN, f"{path}:{number}")
    return line.decode(errors="replace").replace("\0", "\ufffd")


def opened(path: str, file: IO[bytes] | None = None) -> IO[bytes]:
    """The decompressed bytes of a file, compressed as its suffix says (.gz, .bz2, .xz); `file` if already open.

    Raises:
        DataError: the file is a Git LFS pointer.
        OSError: it cannot be opened.
    """
    if path != STDIN:
        reject_lfs_pointer(path)
    _, decompress = COMPRESSED.get(Path(path).suffix, ("", None))
    if decompress:
        stream: IO[bytes] = decompress(file or path)
        return stream
    return file or Path(path).open("rb")


def unreadable(path: str, error: Exception, after: str) -> DataError:
    """The error for a file that cannot be read after a line or page (empty: from its beginning)."""
    if isinstance(error, OSError) and error.strerror:
        return DataError(f"cannot be read: {error.strerror}", where=path)
    kind, _ = COMPRESSED.get(Path(path).suffix, ("compressed", None))
    complete = "complete " if after or isinstance(error, EOFError) else ""
    return DataError(f"is not a {complete}{kind} file" + (f": it ends after {after}" if after else ""), where=path)


def parse_json(text: str, path: str, line: int = 0) -> Any:
    """The value of a JSON text; `line` is its line in the file, 0 if it is the whole file.

    Raises:
        DataError: it is not JSON.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        hint = "" if line or error.msg != "Extra data" else "a file with one object per line needs the suffix .jsonl"
        where = f"{path}:{line or error.lineno}"
        raise DataError(f"is not JSON: {error.msg} at column {error.colno}", where=where, hint=hint) from error
    except (RecursionError, ValueError) as error:
        message = "is nested too deep" if isinstance(error, RecursionError) else "has a number with too many digits"
        raise DataError(message, where=f"{path}:{line}" if line else path) from error
