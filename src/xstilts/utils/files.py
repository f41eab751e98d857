"""Files: written whole or not at all, read as JSON or typed models, compared by their sha256."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from xstilts.errors import DataError, UserError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of a full disk."""
LFS_POINTERS = (b"version https://git-lfs.github.com/spec/", b"version https://hawser.github.com/spec/")
"""How a file begins that stands for a large one in a git repository; Git LFS was called Hawser."""
_PART = re.compile(r"(.*?)(?<!\d)(\d+)-of-0*(\d+)(?!\d)")
"""One of several files, as in `train-00000-of-00002.parquet`, `train-00000-of-00002-<hash>.parquet`."""
_NUMBERED = re.compile(r"\d{4,5}\.parquet")
"""One of several files, numbered from `0000.parquet`, as the Hub converts data sets."""


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


def folder_size(folder: Path, seen: set[tuple[int, int]]) -> int:
    """The bytes of the files in a folder.

    Hard links count once in all calls with the same `seen`; a symbolic link counts nothing. A running step may remove
    files meanwhile.
    """
    if folder.is_symlink():
        return 0
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                stat = (Path(where) / name).lstat()
                if (stat.st_dev, stat.st_ino) not in seen:
                    seen.add((stat.st_dev, stat.st_ino))
                    total += stat.st_size
    return total


def reject_lfs_pointer(path: str | Path) -> None:
    """Refuse a Git LFS pointer: a clone without `git lfs pull` has it in place of a large file.

    Raises:
        DataError: the file is a pointer.
        OSError: it cannot be read.
    """
    with Path(path).open("rb") as stream:
        if stream.readline(100).startswith(LFS_POINTERS):
            raise DataError("is a Git LFS pointer, not the file itself", where=str(path), hint="git lfs pull")


def missing_parts(files: Iterable[Path]) -> str:
    """A remark if parts of a table or of weights are missing, or there twice, as their names tell; else empty.

    >>> missing_parts([Path("train-00000-of-00002-a09b74b3ef9c3b56.parquet")])
    'only 1 of its 2 parts'
    >>> missing_parts([Path("0000.parquet"), Path("0002.parquet")])
    'only 2 of its 3 parts'
    >>> missing_parts([Path("train-00000-of-00001.parquet"), Path("train-00000-of-00001-a09b74b3ef9c3b56.parquet")])
    '2 files for its 1 parts'
    """
    numbers: dict[tuple[Path, str], list[tuple[int, int]]] = defaultdict(list)
    for path in files:
        if match := _PART.match(path.name):
            numbers[path.parent, match[1]].append((int(match[2]), int(match[3])))
        elif _NUMBERED.fullmatch(path.name):
            numbers[path.parent, ""].append((int(path.stem), 0))
    for found in numbers.values():
        parts, different = max(total for _, total in found), {number for number, _ in found}
        if not parts and min(different) < 1000:  # names like 2019.parquet are years
            parts = max(different) + 1
        if len(different) < parts:
            return f"only {len(different)} of its {parts} parts"
        if len(found) > parts > 0:
            return f"{len(found)} files for its {parts} parts"
    return ""


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
