"""The playground: data about a tiny world in English and in constructed languages; everything runs offline.

>>> next(rows("nli", "en", "test"))["label"]
'entailment'
"""

from __future__ import annotations

from xstilts.playground.datasets import DATASETS, rows, splits
from xstilts.playground.languages import LANGUAGES, NAMES, VERSION, get_language
from xstilts.playground.translation import translate

__all__ = ["DATASETS", "LANGUAGES", "NAMES", "VERSION", "get_language", "rows", "splits", "translate"]
