"""Writes translated rows: questions in SQuAD's JSON, tagged words a line each, others as JSON Lines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from xstilts.formats import Span, Tag
from xstilts.formats.base import Format
from xstilts.utils.files import write_atomic


def suffix_of(format: Format) -> str:
    """The suffix of the files with rows of a format."""
    return ".json" if isinstance(format, Span) else ".tsv" if isinstance(format, Tag) else ".jsonl"


def write_rows(path: Path, format: Format, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows, whose columns have the format's names, to a file with the suffix of the format."""
    if isinstance(format, Span):
        text = json.dumps({"version": "1.1", "data": _articles(rows)}, ensure_ascii=False) + "\n"
    elif isinstance(format, Tag):
        text = "".join(_word_lines(row) + "\n" for row in rows)
    else:
        text = "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)
    write_atomic(path, text)


def _articles(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """SQuAD's articles: neighbouring questions with one context share a paragraph, those with one title an article."""
    articles = []
    for title, of_title in groupby(rows, lambda row: row.get("title", "")):
        paragraphs = [
            {"context": context, "qas": [{k: v for k, v in row.items() if k not in ("title", "context")} for row in of]}
            for context, of in groupby(of_title, lambda row: row["context"])
        ]
        articles.append({"title": title, "paragraphs": paragraphs})
    return articles


def _word_lines(row: Mapping[str, Any]) -> str:
    """A line for each word with its tag, if there are tags."""
    tags = row.get("tags")
    cells = zip(row["words"], tags, strict=True) if tags else ((word,) for word in row["words"])
    return "".join("\t".join(cell) + "\n" for cell in cells)
