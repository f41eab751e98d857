"""Locks on files, which the system drops when the process that holds them ends, however it ends."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from xstilts.errors import UserError


def lock(file: IO[Any], where: str, *, shared: bool = False, wait: bool = False) -> bool:
    """Lock a file until it is closed, alone or shared with others; a lock that this file has already is changed.

    Returns:
        Whether it is locked; always, if it may wait.

    Raises:
        UserError: the file system has no locks.
    """
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        what = f"this file system cannot lock files: {error.strerror}"
        raise UserError(what, where=where, hint="choose another --out") from error
    return True


def hold(file: IO[Any], busy: str, where: str) -> None:
    """Lock a file until it is closed.

    Raises:
        UserError: `busy`, if another process holds it; or the file system has no locks.
    """
    if not lock(file, where):
        raise UserError(busy, where=where)


@contextmanager
def claimed(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Within this block nobody else has claimed what the file stands for; false where somebody else has.

    The file is made, and removed at the end, while it is still locked: who has opened it meanwhile, and gets the lock
    then, finds that it is no longer the file of that name, and tries again.
    """
    path.parent.mkdir(exist_ok=True)
    while True:
        with path.open("ab") as file:
            if not lock(file, str(path), wait=wait):
                yield False
                return
            if not _of(file, path):
                continue
            try:
                yield True
            finally:
                path.unlink(missing_ok=True)
            return


def _of(file: IO[Any], path: Path) -> bool:
    """Whether an open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
