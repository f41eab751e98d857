"""Examples of a task in a language: found, read, checked, and told apart by content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from xstilts import playground
from xstilts.data.find import PLAYGROUND, Found, find
from xstilts.data.readers import read
from xstilts.data.sampling import times
from xstilts.errors import Collector, DataError, UserError
from xstilts.formats.base import Defect, Example, Row
from xstilts.tasks.source import Source
from xstilts.tasks.task import Task
from xstilts.utils.files import digest
from xstilts.utils.version import __version__

MISTAKES = 10
"""Broken rows of a file that are shown before reading stops."""


@dataclass(frozen=True)
class LocatedSplit:
    """Where the examples of one split in some languages lie, and what tells their content."""

    task: Task
    found: tuple[tuple[str, Found], ...]
    """Language and file, in reading order."""
    limit: int | None
    each: bool = False
    """Whether the limit is meant for each file."""
    train: bool = False
    """Whether it is to be trained on; examples that cannot be are left out."""

    @property
    def files(self) -> dict[str, str]:
        """The sha256 of every file; generated data have a version in its place."""
        version = f"version {playground.VERSION}"
        return {
            path: version if path.startswith(PLAYGROUND) else digest(path)
            for _, found in self.found
            for path in found.files
        }

    @property
    def content(self) -> str:
        """A text that differs whenever the examples may differ; file names do not matter."""
        files = self.files
        rows = [
            [code, found.file.identity(), [files[path] for path in found.files], len(found.paths)]
            for code, found in self.found
        ]
        return json.dumps([rows, self.limit, self.each, self.train], sort_keys=True)

    def key(self, *, labels: bool) -> str:
        """A hash that tells whether this version would read the same, and say the same of it, again."""
        text = f"{__version__} {self.task.format!r} {self.content} {list(self.files)} {labels}"
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def read(self, say: Callable[[str], None] | None = None) -> list[Example]:
        """The examples, all at once; see `stream`."""
        return list(self.stream(say))

    def stream(self, say: Callable[[str], None] | None = None) -> Iterator[Example]:
        """The examples, one at a time; `say` receives their defects at the end.

        Raises:
            UserError: at the end, rows that cannot be read, the first few of them, each with file and line.
        """
        mistakes, defects, none = Collector(), Defects(), True
        for files in [(one,) for one in self.found] if self.each else [self.found]:
            for example in self._limited(self.examples(files, mistakes, defects)):
                none = False
                yield example
        mistakes.raise_any()
        if say:
            for line in defects.lines():
                say(line)
        if none:
            raise DataError("no example is left", where=", ".join(self.files))

    def drawn(self) -> Iterator[tuple[Example, int]]:
        """The examples of an epoch, one at a time, and how often each is in it: once, unless the format samples.

        What is drawn is always the same; nothing is kept of the examples that are not. Raises what `stream` does.
        """
        form = self.task.format
        if not self.train or not form.samples_epoch:
            yield from ((example, 1) for example in self.stream())
            return
        codes = dict.fromkeys(code for code, _ in self.found)
        parts = {code: replace(self, found=tuple(one for one in self.found if one[0] == code)) for code in codes}
        sizes = {code: sum(1 for _ in part.stream()) for code, part in parts.items()}
        for (code, part), count in zip(parts.items(), form.sample_sizes(list(sizes.values())), strict=True):
            for example, number in zip(part.stream(), map(int, times(sizes[code], count, code)), strict=True):
                if number:
                    yield example, number

    def _limited(self, examples: Iterator[Example]) -> Iterator[Example]:
        """The first examples that ask, as many as the limit says; of the others what these may find."""
        form, left = self.task.format, self.limit
        if left is None or form.head.kind != "mean":
            yield from islice(examples, left)
            return
        for example in examples:
            if not form.is_query(example):
                yield example
            elif left > 0:
                left -= 1
                yield example
            elif (rest := form.as_candidate(example)) is not None:
                yield rest

    def examples(self, files: Sequence[tuple[str, Found]], mistakes: Collector, defects: Defects) -> Iterator[Example]:
        """The examples of some of the files, one at a time; what is wrong with the others goes to `mistakes`."""
        form = self.task.format
        seen: dict[tuple[str, str], str] = {}
        labels: dict[bool, str] = {}
        for code, found in files:
            with mistakes.catch():
                for row in read(found, code, fields=form.fields, inputs=form.inputs, on_warning=defects.note):
                    with mistakes.catch():
                        example = form.read(row)
                        if example is not None and defects.usable(form.defect(example), row, self.train):
                            if form.is_query(example):
                                _same_labels(form.reference(example, 0) is not None, row, labels)
                                if not self.train and (id := form.example_id(example)) is not None:
                                    _own_id(code, id, row.where, seen)
                            yield example
                    if len(mistakes.errors) >= MISTAKES:
                        return


def _same_labels(has_one: bool, row: Row, first: dict[bool, str]) -> None:
    """Refuse the first example that has a label where others have none, or the other way round."""
    if has_one not in first:
        first[has_one] = where = row.where
        if len(first) > 1:
            what = f"has {'a' if has_one else 'no'} label, {first[not has_one]} has {'none' if has_one else 'one'}"
            raise DataError(what, where=where, hint="a split has labels for all rows or for none")


def _own_id(code: str, id: str, where: str, seen: dict[tuple[str, str], str]) -> None:
    """Refuse an id that another example of the language has: answers are kept by id."""
    first = seen.setdefault((code, id), where)
    if first != where:
        raise DataError(f"the id '{id}' stands in {first} too", where=where, hint="ids must be unique")


class Defects:
    """What is odd about examples: where it was first seen, how often, and whether that kept them out."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, bool, str], tuple[str, int]] = {}

    def usable(self, defect: Defect | None, row: Row, train: bool) -> bool:
        """Whether an example is taken; notes its defect."""
        if defect is None:
            return True
        out = train and defect.fatal
        self._count((defect.message, out, ""), row.where)
        return not out

    def note(self, what: str, where: str) -> None:
        """Note what is odd about a line of a file; each file is told of by itself."""
        self._count((what, False, where.rpartition(":")[0]), where)

    def _count(self, key: tuple[str, bool, str], where: str) -> None:
        first, count = self._seen.get(key, (where, 0))
        self._seen[key] = (first, count + 1)

    @property
    def out(self) -> int:
        """How many examples were left out."""
        return sum(count for (_, out, _), (_, count) in self._seen.items() if out)

    def lines(self) -> Iterator[str]:
        """A line for each kind."""
        for (what, out, _), (first, count) in self._seen.items():
            others = f", and {count - 1:,} more like it" if count > 1 else ""
            yield f"{first}: {what}{others}{'; left out of training' if out else ''}"


def locate(
    task: Task, source: Source, codes: Sequence[str], data: Path | None, limit: int | None = None, *,
    each: bool = False, train: bool = False,
) -> LocatedSplit:  # fmt: skip
    """Find the files of a source in the given languages; `limit` counts examples, with `each` those of each file.

    Raises:
        MissingData: for each language that is not there, every place that was looked at.
    """
    roots = [] if data is None else [data]
    missing = Collector()
    found: list[tuple[str, Found]] = []
    for code in codes:
        with missing.catch():
            found.extend((code, file) for file in find(source, code, roots, task=task.name))
    missing.raise_any()
    return LocatedSplit(task, tuple(found), limit, each, train)


def check(located: LocatedSplit, say: Callable[[str], None], *, labels: bool) -> None:
    """Read all examples, to keep none; see `LocatedSplit.stream`.

    Raises:
        UserError: rows that cannot be read, or an example has no label where `labels` are needed.
    """
    form = located.task.format
    labels = labels and form.head.kind != "mean"
    lacking = sum(labels and form.reference(example, i) is None for i, example in enumerate(located.stream(say)))
    if lacking:
        raise UserError("this split has no labels", where=", ".join(located.files),
                        hint="test sets are often published without; training needs labels")  # fmt: skip
