"""The playground: a tiny world, told in English and in constructed languages, so that everything runs offline.

>>> next(rows("nli", "en", "test"))["label"]
'entailment'
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from xstilts.playground.kinds import KINDS, rows, splits
from xstilts.playground.languages import GRAMMARS, LANGUAGES, NAMES, VERSION, tongue

__all__ = ["KINDS", "LANGUAGES", "NAMES", "VERSION", "Description", "describe", "rows", "splits", "tongue"]


@dataclass(frozen=True)
class Description:
    """What readers want to know of a language."""

    code: str
    name: str
    script: str
    word_order: str
    shared: float
    """Share of its word types, over the parallel test sentences, that the English sentences have too."""


@cache
def describe(language: str) -> Description:
    """What a language is like, with its distance from English as measured."""
    grammar = GRAMMARS[language]
    order = "".join(part for part in grammar.clause if part in "SVO")
    return Description(grammar.code, grammar.name, grammar.script, order, round(_shared(language), 3))


def _shared(language: str) -> float:
    own, english = (
        {word for row in rows("pos", code, "test") for word in row["words"]}  # type: ignore[attr-defined]
        for code in (language, "en")
    )
    return len(own & english) / len(own)
