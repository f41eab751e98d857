"""Examples of a task in a language: found, read, checked, and told apart by content."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from xstilts import playground
from xstilts.data.find import PLAYGROUND, Found, digest, find
from xstilts.data.readers import read
from xstilts.errors import Collector, DataError, UserError
from xstilts.languages import LANGUAGES
from xstilts.task import Example, Source, Task

MISTAKES = 10
"""Broken rows of a file that are shown before reading stops."""


@dataclass(frozen=True)
class Batchable:
    """Where the examples of one split in some languages lie, and what tells their content."""

    task: Task
    found: tuple[tuple[str, Found], ...]
    """Language and file, in reading order."""
    limit: int | None

    @property
    def files(self) -> dict[str, str]:
        """The sha256 of every file; generated data have a version in its place."""
        paths = [path for _, found in self.found for path in (*found.paths, found.pair) if path]
        version = f"version {playground.VERSION}"
        return {path: version if path.startswith(PLAYGROUND) else digest(path) for path in paths}

    @property
    def content(self) -> str:
        """A text that differs whenever the examples may differ; file names do not matter."""
        files = self.files
        rows = [
            [code, found.file.model_dump(mode="json"), [files[path] for path in (*found.paths, found.pair) if path]]
            for code, found in self.found
        ]
        return json.dumps([rows, self.limit], sort_keys=True)

    def read(self) -> list[Example]:
        """The examples.

        Raises:
            UserError: rows that cannot be read, the first few of them, each with file and line.
        """
        mistakes = Collector()
        examples = list(islice(self._examples(mistakes), self.limit))
        mistakes.raise_any()
        if not examples:
            raise DataError("no example is left", where=", ".join(self.files))
        return examples

    def _examples(self, mistakes: Collector) -> Iterator[Example]:
        for code, found in self.found:
            form = self.task.format
            with mistakes.catch():
                for row in read(found, code, fields=form.fields, inputs=form.inputs):
                    with mistakes.catch():
                        example = form.read(row)
                        if example is not None:
                            yield example
                    if len(mistakes.errors) >= MISTAKES:
                        return


def locate(task: Task, source: Source, codes: Sequence[str], data: Path | None, limit: int | None = None) -> Batchable:
    """Find the files of a source in the given languages.

    Raises:
        MissingData: for each language that is not there, every place that was looked at.
    """
    roots = [] if data is None else [data]
    missing = Collector()
    found: list[tuple[str, Found]] = []
    for code in codes:
        with missing.catch():
            found.extend((code, file) for file in find(source, code, roots, code3=_code3(code)))
    missing.raise_any()
    return Batchable(task, tuple(found), limit)


def _code3(code: str) -> str:
    return LANGUAGES[code].code3 if code in LANGUAGES else code


def labelled(batchable: Batchable, examples: Sequence[Example]) -> None:
    """Refuse a split without labels where labels are needed.

    Raises:
        UserError: no example has a label.
    """
    form = batchable.task.format
    if form.head.kind != "mean" and all(form.reference(example, i) is None for i, example in enumerate(examples)):
        raise UserError("this split has no labels", where=", ".join(batchable.files),
                        hint="test sets are often published without; training needs labels")  # fmt: skip
