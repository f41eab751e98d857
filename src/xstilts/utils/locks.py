"""Locks on files; the system releases a lock when its process ends, however it ends."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from xstilts.errors import UserError
from xstilts.utils.background import check_stopped

POLL = 0.05
"""Seconds between two tries of a lock; a thread that blocks could not be stopped."""


def lock(file: IO[Any], where: str, *, shared: bool = False, wait: bool = False) -> bool:
    """Lock a file until it is closed, exclusively or shared; changes the kind of a lock that it already has.

    Returns:
        Whether it is locked; always true with `wait`.

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


def require_lock(file: IO[Any], busy: str, where: str) -> None:
    """Lock a file until it is closed.

    Raises:
        UserError: `busy`, if another process holds the lock; or the file system has no locks.
    """
    if not lock(file, where):
        raise UserError(busy, where=where)


@contextmanager
def exclusive(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold an exclusive lock within this block; yields false if another process holds it.

    This creates the lock file, and removes it before the lock is released. A process that opened the old file and then
    gets its lock notices that the file was removed, and tries again.
    """
    path.parent.mkdir(exist_ok=True)
    while True:
        with path.open("ab") as file:
            while not lock(file, str(path)):
                if not wait:
                    yield False
                    return
                check_stopped()
                time.sleep(POLL)
            if not _is_current(file, path):
                continue
            try:
                yield True
            finally:
                path.unlink(missing_ok=True)
            return


def _is_current(file: IO[Any], path: Path) -> bool:
    """Whether an open file is still the one at this path."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
