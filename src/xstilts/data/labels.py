"""Finds out whether data files have labels, from the first example of each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from xstilts.data.find import PLAYGROUND, Found
from xstilts.data.readers import read
from xstilts.errors import UserError
from xstilts.formats.base import Format

_known: dict[str, bool | UserError] = {}
"""For a file and its state on the disk: whether the first query has a label, or why it cannot be read."""


def labelled(format: Format, language: str, files: Iterable[Found]) -> bool:
    """Whether the first query of each file has a label.

    A file that cannot be read counts as labelled: whoever reads all of it reports the error. Raw text needs no labels.
    """
    return format.head.kind == "vocabulary" or all(_first(format, language, found) is not False for found in files)


def first_mistake(format: Format, language: str, found: Found) -> UserError | None:
    """Why the first query of a file cannot be read; None if it can."""
    first = _first(format, language, found)
    return first if isinstance(first, UserError) else None


def _first(format: Format, language: str, found: Found) -> bool | UserError:
    if found.paths[0].startswith(PLAYGROUND):
        return True
    try:
        states = [(path, stat.st_size, stat.st_mtime_ns) for path in found.files for stat in (Path(path).stat(),)]
    except OSError:
        return True
    key = f"{format!r} {language} {found.file!r} {states}"
    if key not in _known:
        whole = replace(found, file=found.file.model_copy(update={"part": None}))  # counting rows would read them all
        _known[key] = _first_has_label(format, language, whole)
    return _known[key]


def _first_has_label(format: Format, language: str, found: Found) -> bool | UserError:
    try:
        rows = read(found, language, fields=format.fields, inputs=format.inputs, inputs_setting=format.inputs_setting)
        for index, row in enumerate(rows):
            example = format.read(row)
            if example is not None and format.is_query(example):
                return format.reference(example, index) is not None
    except UserError as error:
        return error
    return True
