"""Turns operating-system errors (disk full, no permission, no such file) into user errors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xstilts.errors import UserError
from xstilts.utils.files import DISK_FULL


def is_disk_full(error: Exception) -> bool:
    """Whether an error means that the disk is full; some libraries only mention it in the error's text."""
    return getattr(error, "errno", None) in DISK_FULL or any(os.strerror(number) in str(error) for number in DISK_FULL)


@contextmanager
def as_user_error(where: Path, *kinds: type[Exception]) -> Iterator[None]:
    """Raise a `UserError` instead of an operating-system error inside the block.

    Args:
        where: the path to name if the error names no file.
        kinds: library errors to treat like an `OSError`.

    Raises:
        UserError: instead of an `OSError` or one of `kinds`.
    """
    try:
        yield
    except (UserError, BrokenPipeError):
        raise
    except Exception as error:
        if not isinstance(error, (OSError, *kinds)):
            raise
        path = str(getattr(error, "filename", None) or where)
        if is_disk_full(error):
            hint = "make room and run again: finished steps are kept"
            raise UserError("the disk is full", where=path, hint=hint) from error
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot be read or written: {reason}", where=path) from error
