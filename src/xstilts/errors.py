"""Errors that the user can fix: each has a place, a message and a hint.

UserError            one error of the user, shown without a traceback; exit code 2
├── DataError        an error in a data file; `where` is file:line
│   └── UnknownLabel a label or tag that the task does not list
├── MissingData      missing files; lists every path that was searched
│   └── IncompleteData   some parts of a table are missing
├── StepFailed       a step that cannot continue (the loss is not a number, or a user's metric fails)
│   └── OutOfMemory  memory is full; a training's checkpoint stays
└── Mistakes         several of the above, shown together
"""

from __future__ import annotations

import difflib
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from types import TracebackType
from typing import Self

MAX_MISSING = 3
"""Maximum lines about the missing files of one task."""
INVISIBLE = frozenset("\u034f\u115f\u1160\u2800\u3164\uffa0") | {chr(0xFE00 + i) for i in range(16)}
"""Characters that Python calls printable, but nobody sees: fillers, joiners, variation selectors."""


class UserError(Exception):
    """An error that the user can fix.

    Args:
        message: what is wrong, in one sentence.
        where: file, file:line, or key of a recipe (`recipe.yaml:4: phases[0].choices`).
        hint: the nearest valid name, or how to fix the error.

    >>> try:
    ...     raise UserError("unknown task 'xlni'", where="recipe.yaml:4", hint="did you mean 'xnli'?")
    ... except UserError as error:
    ...     print(error.where, "|", error.message, "|", error.hint)
    recipe.yaml:4 | unknown task 'xlni' | did you mean 'xnli'?
    """

    def __init__(self, message: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message, self.where, self.hint = message, where, hint

    def __str__(self) -> str:
        where = f"{self.where}: " if self.where else ""
        return f"{where}{self.message}" + (f" ({self.hint})" if self.hint else "")

    def __reduce__(self) -> tuple[object, ...]:  # the default pickling loses keyword arguments
        return _rebuild, (type(self), self.message, self.where, self.hint)


def _rebuild(kind: type[UserError], message: str, where: str, hint: str) -> UserError:
    return kind(message, where=where, hint=hint)


class DataError(UserError):
    """An error in a data file; `where` is file:line."""


class UnknownLabel(DataError):
    """A label or tag, `label`, that the task does not list."""

    def __init__(self, message: str, *, where: str = "", hint: str = "", label: str = "") -> None:
        super().__init__(message, where=where, hint=hint)
        self.label = label


class MissingData(UserError):
    """A missing file of a task; `where` is the task."""


class IncompleteData(MissingData):
    """A table of which only some parts exist; no option skips it."""


class StepFailed(UserError):
    """A step failed; independent steps of the study continue."""


class OutOfMemory(StepFailed):
    """A step needs more memory than there is; run again with more memory, a training continues from its checkpoint."""


class Mistakes(UserError):
    """All errors of one check; `str` has one line per error, but at most `MAX_MISSING` per task with missing files.

    `options` are those of the command `data check` that lists the others.
    """

    def __init__(self, errors: Sequence[UserError], options: str = "") -> None:
        super().__init__("\n".join(_lines(errors, options)))
        self.errors, self.options = tuple(errors), options

    def __reduce__(self) -> tuple[object, ...]:
        return Mistakes, (self.errors, self.options)


def _lines(errors: Sequence[UserError], options: str) -> Iterator[str]:
    missing = Counter(error.where for error in errors if isinstance(error, MissingData))
    seen: Counter[str] = Counter()
    for error in errors:
        shorten = isinstance(error, MissingData) and missing[error.where] > MAX_MISSING
        seen[error.where] += shorten
        if not shorten or seen[error.where] < MAX_MISSING:
            yield str(error)
        elif seen[error.where] == MAX_MISSING:
            more = missing[error.where] - MAX_MISSING + 1
            yield f"{error.where}: and {more} more; `xstilts data check {error.where}{options}` lists them"


class Catcher:
    """Receives the errors raised inside `with it.catch()`."""

    def receive(self, error: UserError) -> None:
        """Receive one error."""
        raise NotImplementedError

    def catch(self) -> Self:
        """A context manager that receives a `UserError` raised inside it."""
        return self

    def __enter__(self) -> None:
        """Do nothing. This runs for every row, and a class is faster than a generator."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if isinstance(error, UserError):
            for one in error.errors if isinstance(error, Mistakes) else [error]:
                self.receive(one)
        return isinstance(error, UserError)


class Collector(Catcher):
    """Collects errors so that all of them can be shown together.

    >>> found = Collector()
    >>> with found.catch():
    ...     raise UserError("no such task", where="a.yaml:3")
    >>> len(found.errors)
    1
    """

    def __init__(self, options: str = "") -> None:
        self.errors: list[UserError] = []
        self.options = options
        """Those of `xstilts data check`, with which it finds the same tasks and files."""

    def add(self, message: str, *, where: str = "", hint: str = "") -> None:
        """Add one error."""
        self.errors.append(UserError(message, where=where, hint=hint))

    def receive(self, error: UserError) -> None:
        """Collect one error."""
        self.errors.append(error)

    def raise_any(self) -> None:
        """Raise the collected error, or `Mistakes` for several; drops repeated messages."""
        unique = list({str(error): error for error in self.errors}.values())
        if len(unique) == 1:
            raise unique[0]
        if unique:
            raise Mistakes(unique, self.options)


def first_line(error: BaseException) -> str:
    """The first line of another library's error, or its type if it has no message."""
    return str(error).strip().split("\n")[0] or type(error).__name__


def counted(number: int, noun: str) -> str:
    """A number with its noun: `1 training`, `2,000 trainings`, `3 branches`."""
    plural = "es" if noun.endswith("ch") else "s"
    return f"{number:,} {noun}{'' if number == 1 else plural}"


def listed(names: Collection[str], most: int) -> str:
    """The first `most` of some names, and how many more there are.

    >>> listed(["de", "fr", "sw"], 2), listed(["de", "fr"], 2)
    ('de, fr and 1 more', 'de, fr')
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(islice(names, most)) + more


def nearest(name: str, choices: Iterable[str], introduction: str = "known") -> str:
    """A hint: the most similar of `choices`, or a list of them after the `introduction`.

    >>> nearest("xlni", ["xnli", "panx"])
    "did you mean 'xnli'?"
    >>> nearest("zebra", ["xnli", "panx"])
    'known: panx, xnli'
    >>> nearest("review", ["text"], "it has")
    'it has: text'
    """
    known = sorted(set(choices))
    by_spelling = {choice.casefold(): choice for choice in reversed(known)} | {choice: choice for choice in known}
    close = [name for name in (name, name.casefold()) for name in difflib.get_close_matches(name, by_spelling, n=1)]
    if close:
        return f"did you mean '{visible(by_spelling[close[0]])}'?"
    return f"{introduction}: {listed([*map(visible, known)], 20)}" if known else ""


def visible(text: str) -> str:
    r"""A text for a message: invisible characters are escaped, and accents that are characters of their own.

    >>> print(visible("good\u200b"), visible("Cafe\u0301"), visible("Café"))
    good\u200b Cafe\u0301 Café
    """
    composed = unicodedata.is_normalized("NFC", text)
    shown = (one.isprintable() and one not in INVISIBLE and (composed or one.isascii()) for one in text)
    escaped = (one if plain else one.encode("unicode_escape").decode() for one, plain in zip(text, shown, strict=True))
    return "".join(escaped)
