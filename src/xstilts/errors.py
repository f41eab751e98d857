"""Errors that the user can fix: each has a place, a message and a hint.

UserError            one error of the user, shown without a traceback; exit code 2
├── DataError        an error in a data file; `where` is file:line
├── MissingData      files that do not exist; names every place that was searched
├── StepFailed       a step that cannot go on (a loss that is not a number, a user's own metric that fails)
└── Mistakes         several of the above, all shown at once
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType

FEW = 3
"""Most lines about the missing files of one task."""


class UserError(Exception):
    """An error that the user can fix.

    Args:
        message: what is wrong, in one sentence.
        where: file, file:line, or place in a recipe (`recipe.yaml:4: phases[0].choices`).
        hint: the nearest right thing, or what to do about it.
    """

    def __init__(self, message: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message, self.where, self.hint = message, where, hint

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return f"{place}{self.message}" + (f" ({self.hint})" if self.hint else "")

    def __reduce__(self) -> tuple[object, ...]:  # keyword arguments do not survive the default pickling
        return _rebuild, (type(self), self.message, self.where, self.hint)


def _rebuild(kind: type[UserError], message: str, where: str, hint: str) -> UserError:
    return kind(message, where=where, hint=hint)


class DataError(UserError):
    """A row of a data file that does not fit the task."""


class MissingData(UserError):
    """A task's missing file; `where` is the task."""


class StepFailed(UserError):
    """A step that failed; independent steps of the study go on."""


class Mistakes(UserError):
    """All errors of one check; `str` has a line for each, but at most `FEW` for one task's missing files."""

    def __init__(self, errors: Sequence[UserError]) -> None:
        super().__init__("\n".join(_folded(errors)))
        self.errors = tuple(errors)

    def __reduce__(self) -> tuple[object, ...]:
        return Mistakes, (self.errors,)


def _folded(errors: Sequence[UserError]) -> Iterator[str]:
    missing = Counter(error.where for error in errors if isinstance(error, MissingData))
    seen: Counter[str] = Counter()
    for error in errors:
        fold = isinstance(error, MissingData) and missing[error.where] > FEW
        seen[error.where] += fold
        if not fold or seen[error.where] < FEW:
            yield str(error)
        elif seen[error.where] == FEW:
            more = missing[error.where] - FEW + 1
            yield f"{error.where}: and {more} more; `xstilts data check {error.where}` lists them"


class Collector:
    """Collects errors so that all of them can be shown together.

    >>> found = Collector()
    >>> with found.catch():
    ...     raise UserError("no such task", where="a.yaml:3")
    >>> len(found.errors)
    1
    """

    def __init__(self) -> None:
        self.errors: list[UserError] = []

    def add(self, message: str, *, where: str = "", hint: str = "") -> None:
        """Add one error."""
        self.errors.append(UserError(message, where=where, hint=hint))

    def catch(self) -> Collector:
        """A context that collects a `UserError` raised inside instead of raising it."""
        return self

    def __enter__(self) -> None:
        """Do nothing; a class is faster than a generator, and this runs for every row."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if isinstance(error, UserError):
            self.errors.extend(error.errors if isinstance(error, Mistakes) else [error])
        return isinstance(error, UserError)

    def raise_any(self) -> None:
        """Raise the one collected error, or `Mistakes` for several, each message once; do nothing without errors."""
        unique = list({str(error): error for error in self.errors}.values())
        if len(unique) == 1:
            raise unique[0]
        if unique:
            raise Mistakes(unique)


def nearest(word: str, choices: Iterable[str]) -> str:
    """A hint: which of `choices` was probably meant, or a list of them.

    >>> nearest("xlni", ["xnli", "panx"])
    "did you mean 'xnli'?"
    >>> nearest("zebra", ["xnli", "panx"])
    'known: panx, xnli'
    """
    known = sorted(set(choices))
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    shown = ", ".join(known[:20])
    return f"known: {shown}" + (f" and {len(known) - 20} more" if len(known) > 20 else "") if known else ""
