"""Reads Mewsli-X: mentions of entities in news articles are queries, descriptions of entities are candidates.

Source: the data set's `schema.py` for the layout, its `preprocess_mention` and `preprocess_entity_description` for the
texts. Its `get-mewsli-x.sh` makes the files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from xstilts.errors import DataError

_BRACES = re.compile(r"\{(.*?)\}")


def mentions(article: Mapping[str, Any], where: str) -> Iterator[dict[str, Any]]:
    """Yield a query per mention of an article: the mention, and its sentence with braces around the mention.

    >>> span = {"start": 4, "end": 7, "text": "Ada"}
    >>> context = {"language": "en", "text": "So: Ada wrote {it}. Yes.", "sentence_spans": [{"start": 0, "end": 19}]}
    >>> found = [{"example_id": "e1", "entity_id": "Q7259", "mention_span": span}]
    >>> next(mentions({"context": context, "mentions": found}, "a.jsonl:1"))["query"]
    'Ada: So: { Ada } wrote (it).'

    Raises:
        DataError: not in the layout, an article without text, or a mention outside all sentences.
    """
    try:
        context = article["context"]
        text, sentences = context["text"], [_span(span) for span in context["sentence_spans"]]
        if not text:
            raise DataError("the article has no text", where=where, hint="get-mewsli-x.sh adds it from WikiNews")
        for mention in article["mentions"]:
            (first, end), name = _span(mention["mention_span"]), mention["mention_span"]["text"]
            sentence = next((each for each in sentences if each[0] <= first and end <= each[1]), None)
            if sentence is None or text[first:end] != name:
                raise DataError(f"the mention '{name}' is not at its span", where=where)
            before = _BRACES.sub(r"(\1)", text[sentence[0] : first])
            after = _BRACES.sub(r"(\1)", text[end : sentence[1]])
            query = _one_line(f"{name}: {before} {{ {name} }} {after}")
            yield {"query": query, "id": mention["example_id"], "relevant": [mention["entity_id"]],
                   "language": context["language"]}  # fmt: skip
    except (AttributeError, KeyError, TypeError) as error:
        raise DataError(f"is not an article in Mewsli-X's layout: {error}", where=where) from error


def entity(value: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A candidate: the description of an entity.

    Raises:
        DataError: not in the layout.
    """
    try:
        text = value["description"]
        sentences = [text[first:end] for first, end in map(_span, value["sentence_spans"])]
        return {"candidate": _one_line(" ".join(sentences)), "id": value["entity_id"]}
    except (KeyError, TypeError) as error:
        raise DataError(f"is not an entity in Mewsli-X's layout: {error}", where=where) from error


def _span(value: Mapping[str, int]) -> tuple[int, int]:
    return value["start"], value["end"]


def _one_line(text: str) -> str:
    return " ".join(text.splitlines()).replace("  ", " ").strip()
