"""Splits a raw text into words, for tags; a word is a place in the text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import accumulate

_JOINERS = frozenset("'\u2019-.,:@&\u00b7")
"""Characters that stay within a word where a letter or digit stands on either side: `it's`, `e-mail`, `3.14`."""
_IDEOGRAPHS = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
"""Characters of Chinese and Japanese, each of which is a word, as in PAN-X."""


def split_words(text: str) -> list[tuple[int, int]]:
    """The first character and the last + 1 of each word.

    Blanks part words. A mark of punctuation is a word of its own, several equal ones are one, and those within a word
    stay in it. Each character of Chinese and Japanese is a word. Scripts without blanks, such as Thai, are not split.

    >>> text = "Anna's e-mail: 3.14 km, 東京..."
    >>> [text[a:b] for a, b in split_words(text)]
    ["Anna's", 'e-mail', ':', '3.14', 'km', ',', '東', '京', '...']
    """
    places: list[tuple[int, int]] = []
    for found in re.finditer(r"\S+", text):
        chunk, start = found[0], found.start()
        plain = chunk.isalnum() and (chunk.isascii() or not _IDEOGRAPHS.search(chunk))
        places += [(start, found.end())] if plain else [(start + a, start + b) for a, b in _parts(chunk)]
    return places


def _parts(chunk: str) -> Iterator[tuple[int, int]]:
    """The places of the words in a text without blanks."""
    kinds = [_kind(char) for char in chunk]
    start = 0
    for i in range(1, len(chunk) + 1):
        if i == len(chunk) or not _continues(chunk, kinds, i):
            yield start, i
            start = i


def _kind(char: str) -> str:
    """`W`: a part of a word; `I`: a word of its own; `P`: punctuation."""
    if _IDEOGRAPHS.match(char):
        return "I"
    category = unicodedata.category(char)
    return "W" if category[0] in "LMN" or category in ("Cf", "Co", "Pc") else "P"


def _continues(chunk: str, kinds: Sequence[str], i: int) -> bool:
    """Whether character i belongs to the word of the character before it."""
    before, kind = kinds[i - 1], kinds[i]
    if "I" in (before, kind):
        return before == "I" and unicodedata.category(chunk[i])[0] == "M"  # a mark on the character
    if before == kind:
        return kind == "W" or chunk[i - 1] == chunk[i]
    joiner = i - 1 if before == "P" else i
    within = chunk[joiner] in _JOINERS and 0 < joiner < len(chunk) - 1
    return within and kinds[joiner - 1] == kinds[joiner + 1] == "W"


def word_places(words: Sequence[str]) -> list[tuple[int, int]]:
    """The places of words in the text that they make, joined by blanks.

    >>> word_places(["New", "York"])
    [(0, 3), (4, 8)]
    """
    ends = accumulate(len(word) + 1 for word in words)
    return [(end - 1 - len(word), end - 1) for word, end in zip(words, ends, strict=True)]
