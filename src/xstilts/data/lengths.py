"""Counts how long the texts of a split are: in words, or in characters where a language writes no blanks."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from xstilts import languages

WITHOUT_BLANKS = frozenset(languages.codes("bo dz ja km lo my th zh"))
"""Languages that part no words by blanks."""


@dataclass(frozen=True)
class Length:
    """The median and the maximum of the lengths of some texts."""

    unit: str
    """`words` or `characters`."""
    median: float
    maximum: int


class Lengths:
    """The lengths of the texts of one language; the two texts of a pair count together."""

    def __init__(self, language: str) -> None:
        self._blanks = languages.base(language) not in WITHOUT_BLANKS
        self._lengths = array("L")

    def add(self, texts: str | Sequence[str]) -> None:
        """Count the text or texts of an example."""
        parts = [texts] if isinstance(texts, str) else texts
        self._lengths.append(sum(len(part.split()) if self._blanks else len(part) for part in parts))

    def length(self) -> Length | None:
        """Median and maximum; None without texts."""
        if not self._lengths:
            return None
        return Length("words" if self._blanks else "characters", median(self._lengths), max(self._lengths))
