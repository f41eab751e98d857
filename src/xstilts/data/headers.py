"""Knows a table's header by its names, and a column by nearly its name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

COLUMN_NAMES = frozenset(
    "text texts sentence sentences premise hypothesis label labels review reviews tweet comment content question query "
    "context passage answer answers title body document message utterance headline token tokens tag tags id idx index "
    "guid lang language category class sentiment score rating stars target source input output gold split".split()
)
"""Words that name columns: a first row of these alone is a header."""


def is_like(name: str, wanted: str) -> bool:
    """Whether a column's name is nearly the wanted one: `Label`, `label `, `lable`, `gold_label`."""
    one, other = name.strip().casefold(), wanted.strip().casefold()
    return other in one or difflib.SequenceMatcher(None, one, other).ratio() >= 0.75


def looks_like_header(cells: Sequence[str]) -> bool:
    """Whether every cell is a usual name of a column, such as `sentence`, `Tweet_Text` or `label2`."""
    parts = [re.findall(r"[A-Z]*[a-z]+|[A-Z]+", cell) for cell in cells if re.fullmatch(r"[A-Za-z][\w -]{,40}", cell)]
    return len(parts) == len(cells) and all(part.lower() in COLUMN_NAMES for name in parts for part in name)
