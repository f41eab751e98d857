"""Reads files of records: JSON Lines, JSON in SQuAD's layout or as a list, Parquet."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeAlias

from xstilts.data.lines import COMPRESSED, OnWarning, lines, parse_json
from xstilts.errors import DataError, nearest
from xstilts.formats.base import Row
from xstilts.utils.files import reject_lfs_pointer

Record: TypeAlias = tuple[int | str, dict[str, Any]]
"""Line or row number (in JSON documents, a description of the record), and values."""


def suffix(path: str) -> str:
    """The suffix of a file's name before that of its compression, in lower case."""
    name = Path(path)
    return Path(name.stem if name.suffix in COMPRESSED else name).suffix.lower()


def document(path: str, on_warning: OnWarning | None = None) -> list[Any]:
    """Read the articles of a file in SQuAD's layout, or a list of objects.

    Raises:
        DataError: the file is neither.
    """
    whole = "\n".join(text for _, text in lines(path, on_warning))
    value = parse_json(whole, path) if whole.strip() else []
    articles = value.get("data") if isinstance(value, dict) else value
    if not isinstance(articles, list) or not all(isinstance(article, dict) for article in articles):
        raise DataError("is neither in SQuAD's layout nor a list of objects", where=path)
    return articles


def _json(path: str, on_warning: OnWarning | None) -> Iterator[Record]:
    """Yield the questions of a file in SQuAD's layout, or the objects of a list."""
    number = 0
    try:
        for article in document(path, on_warning):
            for paragraph in article.get("paragraphs", [{}]):
                for question in paragraph.get("qas", [{}]):
                    number += 1
                    merged = {**article, **paragraph, **question}
                    label = f"question {number} (id {merged['id']})" if "id" in merged else f"object {number}"
                    yield label, {key: merged[key] for key in merged if key not in ("paragraphs", "qas")}
    except (AttributeError, TypeError) as error:
        raise DataError("is neither in SQuAD's layout nor a list of objects", where=path) from error


def json_lines(
    path: str, on_warning: OnWarning | None, numbered: Iterator[tuple[int, str]] | None = None
) -> Iterator[Record]:
    """Yield the object of each line that is not blank; the lines are those of the file, if they are not given.

    Raises:
        DataError: a line is not a JSON object.
    """
    for line, text in numbered or lines(path, on_warning):
        if text.strip():
            value = parse_json(text, path, line)
            if not isinstance(value, dict):
                hint = "a list of objects needs the suffix .json" if isinstance(value, list) else ""
                raise DataError("is not a JSON object", where=f"{path}:{line}", hint=hint)
            yield line, value


def _parquet(path: str, _: OnWarning | None) -> Iterator[Record]:
    import pyarrow  # type: ignore[import-untyped]  # here, because it is slow to load and few files need it
    import pyarrow.parquet  # type: ignore[import-untyped]

    number = 0
    try:
        reject_lfs_pointer(path)
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                for record in batch.to_pylist():
                    number += 1
                    yield number, record
    except UnicodeDecodeError as error:
        raise DataError("contains text that is not UTF-8", where=path) from error
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"is not Parquet: {error}", where=path) from error


def label_names(path: str, column: str) -> list[str]:
    """The names of numbered labels in a Parquet file's own metadata, as in the Hub's files; often empty."""
    import pyarrow.parquet

    try:
        text = (pyarrow.parquet.read_schema(path).metadata or {}).get(b"huggingface", b"{}")
        feature = json.loads(text)["info"]["features"][column]
        found = feature.get("names") or feature.get("feature", {}).get("names")
    except (pyarrow.ArrowException, OSError, ValueError, KeyError, TypeError, AttributeError):
        return []  # there is no metadata, or reading the rows will report the error
    return [str(name) for name in found or ()]


def nested_value(record: Any, name: str) -> Any:
    """The value of the key `name`, or at a path like `question.choices.0.text`; None if it does not exist."""
    if name in record:
        return record[name]
    for step in name.split("."):
        if isinstance(record, list) and step.isdecimal():
            record = dict(enumerate(record)).get(int(step))
        else:
            record = record.get(step) if isinstance(record, dict) else None
    return record


def check_inputs(row: Row, inputs: Sequence[str], fields: Sequence[str]) -> None:
    """Reject a row that lacks an input, or has text that UTF-8 cannot encode in a field.

    Numbers count as text. Words are a list.

    Raises:
        DataError: the row is rejected; the hint names the nearest column, or those that there are.
    """
    for name in inputs:
        value = row.values.get(name)
        if value is None:
            hint = "" if name in row.values else nearest(name, row.values, "it has")
            raise DataError(f"has no {name}", where=row.where, hint=hint)
        if value in ("", [], ()) or (isinstance(value, str) and not value.strip()):
            raise DataError(f"empty {name}", where=row.where)
        _check_text(value, name, row, words={"words", "tags"} <= {*fields})
    reject_surrogates(row, fields)


def _check_text(value: Any, name: str, row: Row, *, words: bool) -> None:
    is_list = words and isinstance(value, list)
    valid = is_list or (isinstance(value, str | int | float | Decimal) and not isinstance(value, bool))
    if not valid or value != value:
        message = f"{name} must be {'a list of words' if words else 'text'}, got {str(value)[:60]}"
        raise DataError(message, where=row.where)


def reject_surrogates(row: Row, columns: Sequence[str]) -> None:
    """Reject a row with a lone surrogate (half a character), which JSON can encode but UTF-8 cannot.

    Raises:
        DataError: a column contains one, also inside lists and objects.
    """
    for name in columns:
        if not _encodes(row.values.get(name)):
            raise DataError(f"{name} contains half a character (a lone surrogate)", where=row.where)


def _encodes(value: Any) -> bool:
    if isinstance(value, dict | list):
        return all(map(_encodes, value.values() if isinstance(value, dict) else value))
    try:
        return not isinstance(value, str) or value.encode() is not None
    except UnicodeEncodeError:
        return False


OBJECTS: dict[str, Callable[[str, OnWarning | None], Iterator[Record]]] = {
    ".jsonl": json_lines, ".json-lines": json_lines, ".ndjson": json_lines, ".json": _json, ".parquet": _parquet,
}  # fmt: skip
"""Readers of files of records, by suffix."""
