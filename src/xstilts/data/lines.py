"""Read the lines of a text file: UTF-8 exactly, and a message for whatever is not."""

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

Odd: TypeAlias = Callable[[str, str], None]
"""Is told what is odd about a file, and where; it need not be an error."""

BROKEN = "is not UTF-8, and is read with U+FFFD for what is broken"
PACKED: dict[str, tuple[str, Callable[..., Any]]] = {
    ".gz": ("gzip", gzip.open), ".bz2": ("bzip2", bz2.open), ".xz": ("xz", lzma.open),
}  # fmt: skip
"""What a packed file is called, and how it is opened, by the ending of its name."""
UNREADABLE = (EOFError, OSError, zlib.error, lzma.LZMAError)
"""What reading a file that is not there or not whole may raise; `broken` says it in words."""


def lines(path: str, odd: Odd | None = None, file: IO[bytes] | None = None) -> Iterator[tuple[int, str]]:
    r"""Number and text of each line of a plain or packed UTF-8 file, without line end and byte order mark.

    Only `\n` ends a line (one `\r` before it goes too): U+2028, U+0085 and the like occur inside of sentences.

    Args:
        path: the file.
        odd: is told of lines that are not UTF-8, which are then read with U+FFFD for what is broken; without it they
            are an error.
        file: the file as it is stored, already opened, for who wants to know how far it is read.

    Raises:
        DataError: not UTF-8, a damaged packed file, or a file that cannot be read.
    """
    number = offset = 0
    try:
        with opened(path, file) as stream:
            for number, raw in enumerate(stream, start=1):
                if number == 1 and raw.startswith(codecs.BOM_UTF8):
                    offset, raw = len(codecs.BOM_UTF8), raw.removeprefix(codecs.BOM_UTF8)
                line = raw.removesuffix(b"\n").removesuffix(b"\r")
                try:
                    text = line.decode()
                except UnicodeDecodeError:
                    if odd is None:
                        raise
                    odd(BROKEN, f"{path}:{number}")
                    text = line.decode(errors="replace")
                yield number, text
                offset += len(raw)
    except UnicodeDecodeError as error:
        raise DataError(f"is not UTF-8 at byte {offset + error.start}", where=f"{path}:{number}") from error
    except UNREADABLE as error:
        raise broken(path, error, f"line {number}" if number else "") from error


def opened(path: str, file: IO[bytes] | None = None) -> IO[bytes]:
    """The bytes of a plain file, or of one packed as its name says (.gz, .bz2, .xz); `file` if it is opened already."""
    _, unpack = PACKED.get(Path(path).suffix, ("", None))
    if unpack:
        stream: IO[bytes] = unpack(file or path)
        return stream
    return file or Path(path).open("rb")


def broken(path: str, error: Exception, after: str) -> DataError:
    """What to raise where a file cannot be read on after some line or page (empty: from its beginning)."""
    if isinstance(error, OSError) and error.strerror:
        return DataError(f"cannot be read: {error.strerror}", where=path)
    kind, _ = PACKED.get(Path(path).suffix, ("packed", None))
    whole = "whole " if after or isinstance(error, EOFError) else ""
    return DataError(f"is no {whole}{kind} file" + (f": it breaks off after {after}" if after else ""), where=path)


def parsed(text: str, path: str, line: int = 0) -> Any:
    """The value of a JSON text; `line` is where it stands, 0 if it is the whole file.

    Raises:
        DataError: it is not JSON.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        hint = "" if line or error.msg != "Extra data" else "a file with one object a line is called .jsonl"
        where = f"{path}:{line or error.lineno}"
        raise DataError(f"is not JSON: {error.msg} at column {error.colno}", where=where, hint=hint) from error
    except (RecursionError, ValueError) as error:
        what = "is nested too deep" if isinstance(error, RecursionError) else "has a number with too many digits"
        raise DataError(what, where=f"{path}:{line}" if line else path) from error
