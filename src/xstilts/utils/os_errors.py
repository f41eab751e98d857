"""What the system refuses (no room, no permission, no such file), told as a mistake that the user can mend."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xstilts.errors import UserError
from xstilts.utils.files import DISK_FULL


def full(error: Exception) -> bool:
    """Whether it was for want of room that a file could not be written; some libraries tell only in words."""
    return getattr(error, "errno", None) in DISK_FULL or any(os.strerror(number) in str(error) for number in DISK_FULL)


@contextmanager
def as_user_error(where: Path, *kinds: type[Exception]) -> Iterator[None]:
    """Tell as a mistake of the user's what the system refuses: no permission, no room, no such file.

    Args:
        where: what to name where the system names no file.
        kinds: errors that libraries raise for the same reasons.
    """
    try:
        yield
    except (UserError, BrokenPipeError):
        raise
    except Exception as error:
        if not isinstance(error, (OSError, *kinds)):
            raise
        place = str(getattr(error, "filename", None) or where)
        if full(error):
            hint = "make room and run again: finished steps are kept"
            raise UserError("the disk is full", where=place, hint=hint) from error
        said = getattr(error, "strerror", None) or error
        raise UserError(f"cannot be read or written: {said}", where=place) from error
