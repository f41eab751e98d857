"""Read files of records: JSON Lines, JSON in SQuAD's layout or as a list, Parquet."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from xstilts.data.lines import OnWarning, lines, parse_json
from xstilts.errors import DataError
from xstilts.formats.base import Row

Record: TypeAlias = tuple[int | str, dict[str, Any]]
"""Line number (or row number, or what the record is called where there are no lines) and values."""


def ending(path: str) -> str:
    """How a file's name ends, without `.gz`."""
    return Path(path.removesuffix(".gz")).suffix.lower()


def document(path: str, on_warning: OnWarning | None = None) -> list[Any]:
    """The articles of a file in SQuAD's layout, or the objects of a list.

    Raises:
        DataError: it is neither.
    """
    whole = "\n".join(text for _, text in lines(path, on_warning))
    value = parse_json(whole, path) if whole.strip() else []
    articles = value.get("data") if isinstance(value, dict) else value
    if not isinstance(articles, list) or not all(isinstance(article, dict) for article in articles):
        raise DataError("is neither in SQuAD's layout nor a list of objects", where=path)
    return articles


def _json(path: str, on_warning: OnWarning | None) -> Iterator[Record]:
    """The questions of a file in SQuAD's layout, or the objects of a list."""
    number = 0
    try:
        for article in document(path, on_warning):
            for paragraph in article.get("paragraphs", [{}]):
                for question in paragraph.get("qas", [{}]):
                    number += 1
                    merged = {**article, **paragraph, **question}
                    called = f"question {number} (id {merged['id']})" if "id" in merged else f"object {number}"
                    yield called, {key: merged[key] for key in merged if key not in ("paragraphs", "qas")}
    except (AttributeError, TypeError) as error:
        raise DataError("is neither in SQuAD's layout nor a list of objects", where=path) from error


def _jsonl(path: str, on_warning: OnWarning | None) -> Iterator[Record]:
    for line, text in lines(path, on_warning):
        if text.strip():
            value = parse_json(text, path, line)
            if not isinstance(value, dict):
                raise DataError("is no JSON object", where=f"{path}:{line}")
            yield line, value


def _parquet(path: str, _: OnWarning | None) -> Iterator[Record]:
    import pyarrow  # type: ignore[import-untyped]  # here, because it is slow to load and few files need it
    import pyarrow.parquet  # type: ignore[import-untyped]

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                for record in batch.to_pylist():
                    number += 1
                    yield number, record
    except UnicodeDecodeError as error:
        raise DataError("holds text that is not UTF-8", where=path) from error
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"is not Parquet: {error}", where=path) from error


def names(path: str, column: str) -> list[str]:
    """The names that a Parquet file itself gives to a column of numbered labels, as the Hub's files do; often none."""
    import pyarrow.parquet

    try:
        text = (pyarrow.parquet.read_schema(path).metadata or {}).get(b"huggingface", b"{}")
        feature = json.loads(text)["info"]["features"][column]
        given = feature.get("names") or feature.get("feature", {}).get("names")
    except (pyarrow.ArrowException, OSError, ValueError, KeyError, TypeError, AttributeError):
        return []  # nothing is said, or reading the rows will say what is wrong
    return [str(name) for name in given or ()]


def inside(record: Any, name: str) -> Any:
    """The value called `name`, or the one that `question.choices.0.text` leads to; None if there is none."""
    if name in record:
        return record[name]
    for step in name.split("."):
        if isinstance(record, list) and step.isdecimal():
            record = dict(enumerate(record)).get(int(step))
        else:
            record = record.get(step) if isinstance(record, dict) else None
    return record


def reject_surrogates(row: Row, columns: Sequence[str]) -> None:
    """Refuse a row with half a character (a lone surrogate), which JSON can spell but UTF-8 cannot.

    Raises:
        DataError: one of these columns has one, be it inside of lists and objects.
    """
    for name in columns:
        if not _encodes(row.values.get(name)):
            raise DataError(f"{name} holds half a character (a lone surrogate)", where=row.where)


def _encodes(value: Any) -> bool:
    if isinstance(value, dict | list):
        return all(map(_encodes, value.values() if isinstance(value, dict) else value))
    try:
        return not isinstance(value, str) or value.encode() is not None
    except UnicodeEncodeError:
        return False


OBJECTS: dict[str, Callable[[str, OnWarning | None], Iterator[Record]]] = {
    ".jsonl": _jsonl, ".json-lines": _jsonl, ".ndjson": _jsonl, ".json": _json, ".parquet": _parquet,
}  # fmt: skip
"""How to read a file of records, by the ending of its name."""
