"""Files: written whole or not at all, read as JSON or typed models, compared by their sha256."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from xstilts.errors import UserError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of a full disk."""


def read_json(path: Path) -> Any:
    """The document in a JSON file.

    Raises:
        ValueError: the file holds none, or one that is nested too deep.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("is nested too deep") from error


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a file whole or not at all: under another name, flushed to the disk, then renamed.

    Missing folders are made; text is written as UTF-8.

    Raises:
        UserError: when the disk is full; nothing is left behind.
    """
    content = data.encode() if isinstance(data, str) else data
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")  # two machines may write it at once
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        if error.errno in DISK_FULL:
            what = f"the disk is full: {len(content):,} bytes could not be written ({error.strerror})"
            hint = "free some space or raise the quota, then run the same command again: finished steps are kept"
            raise UserError(what, where=str(path), hint=hint) from error
        raise
    finally:
        with suppress(OSError):  # it is gone already unless something went wrong
            beside.unlink()


def first_error(error: ValidationError) -> str:
    """The first mistake that a typed model found: the field and the message."""
    first = error.errors()[0]
    field = ".".join(map(str, first["loc"]))
    return f"{field}: {first['msg']}" if field else first["msg"]


def parse_json(adapter: TypeAdapter[T], name: str, text: str | bytes, where: str) -> T:
    """A typed model read from JSON; `name` is what the message calls it, `where` the file.

    Raises:
        UserError: the JSON does not fit the model.
    """
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        raise UserError(f"this is no {name}: {first_error(error)}", where=where) from None


T = TypeVar("T")


def digest(path: str | Path) -> str:
    """The sha256 of a file's bytes, cached until its size or time changes.

    Raises:
        FileNotFoundError: no such file.
    """
    state = Path(path).stat()
    return _digest(str(path), state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=4096)
def _digest(path: str, size: int, changed: int) -> str:  # noqa: ARG001
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
