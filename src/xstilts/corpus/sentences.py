"""Sentences of plain text, by Unicode's boundaries, with whitespace made single and scraps left out."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from icu4py.breakers import SentenceBreaker

WORDS, CHARACTERS, SIGNS = 3, 10, 6
"""A sentence has at least so many words and characters, or so many signs of a script without blanks."""
LONG = 300
"""Characters from which on Thai and Lao are cut at a blank, which is all that parts sentences there."""

_SIGNS = re.compile(
    "[\u0e00-\u0eff\u0f00-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""Thai, Lao, Tibetan, Burmese, Khmer, kana, ideograms."""
_THAI_OR_LAO = re.compile("[\u0e00-\u0eff]")


def sentences(text: str, code: str) -> Iterator[str]:
    r"""The sentences of a text, in order.

    A line is a paragraph; no sentence goes beyond it. Boundaries are those of UAX #29 as ICU has them for the
    language, with CLDR's list of abbreviations that end no sentence. Whitespace becomes one blank; nothing else in a
    sentence is changed.

    Args:
        text: paragraphs, a line each.
        code: the language's code; one that ICU does not know has Unicode's own boundaries.

    >>> list(sentences("Mr. Achebe wrote many books.  Who\thas read them? No.", "en"))
    ['Mr. Achebe wrote many books.', 'Who has read them?']
    """
    paragraphs = (" ".join(line.split()) for line in text.split("\n"))
    for sentence in _cut("\n".join(filter(enough, paragraphs)), code):
        yield from filter(enough, _clauses(sentence))


def enough(text: str) -> bool:
    """Whether a sentence, its whitespace single, is no scrap.

    >>> [enough(text) for text in ("See also", "Watoto wanacheza mpira.", "猫睡在石墙上。", "猫睡。")]
    [False, True, True, False]
    """
    return (len(text) >= CHARACTERS and text.count(" ") >= WORDS - 1) or len(_SIGNS.findall(text)) >= SIGNS


def _cut(text: str, code: str) -> Iterator[str]:
    carried = ""
    for part in SentenceBreaker(text, f"{code}@ss=standard"):  # of the whole text, because making one takes long
        # UAX #29 leaves an opening quotation mark or bracket with the sentence before if there is no blank between
        end = len(part)
        while end and unicodedata.category(part[end - 1]) in ("Ps", "Pi"):
            end -= 1
        yield (carried + part[:end]).strip()
        carried = part[end:]
    yield carried


def _clauses(sentence: str) -> Iterator[str]:
    if len(sentence) <= LONG or not _THAI_OR_LAO.search(sentence):
        yield sentence
        return
    part = ""
    for word in sentence.split(" "):
        if part and len(part) + 1 + len(word) > LONG:
            yield part
            part = word
        else:
            part = f"{part} {word}" if part else word
    yield part
