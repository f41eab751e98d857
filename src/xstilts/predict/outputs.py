"""Writes predictions as JSON lines, or in the input's own layout with columns added."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from typing import Any

from xstilts.errors import UserError
from xstilts.formats.base import Example, Format, Row

DECIMALS = 6
"""Of the numbers of a vector."""


class JsonLines:
    """A JSON object for each prediction: the row's `id` if it has one, its `text`, and the prediction."""

    def __init__(self, format: Format) -> None:
        self._format = format

    def write(self, row: Row, example: Example, result: Mapping[str, Any]) -> str:
        """The line of a row."""
        id = getattr(example, "id", None)
        head = ({} if id is None else {"id": id}) | {"text": self._format.input_text(example)}
        return as_json(head | dict(result)) + "\n"


class SameLayout:
    """The rows as they were read, with the parts of the predictions as more columns.

    A column that the row has already stays; ours then begins with `predicted_`. Tables have a header.
    """

    def __init__(self, layouts: Mapping[str, str | None], columns: Mapping[str, str]) -> None:
        """Write rows in their layout.

        Args:
            layouts: by the name of a file (see `inputs.Layout`); None if no columns can be added to it.
            columns: the columns that the reader has renamed, by the new name.
        """
        self._layouts, self._columns, self._header = layouts, columns, list[str]()

    def write(self, row: Row, example: Example, result: Mapping[str, Any]) -> str:
        """The lines of a row.

        Raises:
            UserError: no columns can be added to the row's file.
        """
        layout = self._layouts[row.file]
        if layout is None:
            raise UserError("has no rows that columns can be added to", where=row.file, hint="leave out --same")
        if layout == "conll":
            return _tokens(row.values, result)
        if layout == "lines":
            cells = [*row.values.values(), *(_cell(value) for key, value in result.items() if key != "truncated")]
            return _row([text for cell in cells for text in (cell if isinstance(cell, list) else [cell])], "\t")
        values = {name: value for name, value in row.values.items() if self._columns.get(name, name) == name}
        if layout == "jsonl":
            return as_json(values | {_free(name, values): value for name, value in result.items()}) + "\n"
        added = {_free(name, values): _cell(value) for name, value in result.items() if name != "truncated"}
        mark = "," if layout == "csv" else "\t"
        header = "" if self._header else _row([*values, *added], mark)
        self._header = self._header or [*values, *added]
        return header + _row([*values.values(), *added.values()], mark)


def as_json(value: Any) -> str:
    """JSON on one line; vectors are rounded."""
    return json.dumps(value, ensure_ascii=False, default=lambda vector: [round(x, DECIMALS) for x in vector.tolist()])


def _free(name: str, values: Mapping[str, Any]) -> str:
    """A name that no column has."""
    return f"predicted_{name}" if name in values else name


def _cell(value: Any) -> str:
    """A part of a prediction as the cell of a table: text, else JSON; empty if it is None."""
    return "" if value is None else value if isinstance(value, str) else as_json(value)


def _row(cells: list[Any], mark: str) -> str:
    """A line of a table."""
    if mark == "\t":
        return "\t".join(map(str, cells)) + "\n"
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def _tokens(values: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """A line for each word: the word, its own tag if it has one, the predicted tag; a blank line after them."""
    own, predicted = values.get("tags"), [one["tag"] for one in result["tags"]]
    columns = [values["words"], *([own] if own else []), predicted]
    return "".join("\t".join(cells) + "\n" for cells in zip(*columns, strict=True)) + "\n"
