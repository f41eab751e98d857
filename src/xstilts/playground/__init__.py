"""The playground: a tiny world, told in English and in constructed languages, so that everything runs offline.

>>> next(rows("nli", "en", "test"))["label"]
'entailment'
"""

from __future__ import annotations

from xstilts.playground.kinds import KINDS, rows, splits
from xstilts.playground.languages import LANGUAGES, NAMES, VERSION, tongue

__all__ = ["KINDS", "LANGUAGES", "NAMES", "VERSION", "rows", "splits", "tongue"]
