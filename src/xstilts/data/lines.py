"""Read the lines of a text file: UTF-8 exactly, and a message for whatever is not."""

from __future__ import annotations

import codecs
import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import Any, TypeAlias

from xstilts.errors import DataError

Odd: TypeAlias = Callable[[str, str], None]
"""Is told what is odd about a file, and where; it need not be an error."""

BROKEN = "is not UTF-8, and is read with U+FFFD for what is broken"


def lines(path: str, odd: Odd | None = None) -> Iterator[tuple[int, str]]:
    r"""Number and text of each line of a plain or gzipped UTF-8 file, without line end and byte order mark.

    Only `\n` ends a line (one `\r` before it goes too): U+2028, U+0085 and the like occur inside of sentences.

    Args:
        path: the file.
        odd: is told of lines that are not UTF-8, which are then read with U+FFFD for what is broken; without it they
            are an error.

    Raises:
        DataError: not UTF-8, a damaged gzip file, or a file that cannot be read.
    """
    number = offset = 0
    try:
        with opened(path) as stream:
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
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        what = f"is no whole gzip file: it breaks off after line {number}" if number else "is no gzip file"
        raise DataError(what, where=path) from error
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=path) from error


def opened(path: str) -> BufferedIOBase:
    """The bytes of a plain or gzipped file."""
    return gzip.open(path) if path.endswith(".gz") else Path(path).open("rb")


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
