"""Splits plain text into sentences at Unicode's boundaries; normalizes whitespace and drops fragments."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from icu4py.breakers import SentenceBreaker

MIN_WORDS, MIN_CHARACTERS, MIN_UNSPACED = 3, 10, 6
"""A sentence has at least this many words and characters, or characters of a script without spaces."""
MAX_THAI_OR_LAO = 300
"""Longer Thai and Lao sentences are split at spaces, the only separator of sentences in these scripts."""

_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u0f00-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""Scripts without spaces: Thai, Lao, Tibetan, Burmese, Khmer, kana, ideograms."""
_THAI_OR_LAO = re.compile("[\u0e00-\u0eff]")


def sentences(text: str, code: str) -> Iterator[str]:
    r"""Yield the sentences of a text, in order.

    A line is a paragraph, and no sentence crosses lines. ICU finds the boundaries (UAX #29) for the language;
    CLDR lists the abbreviations that do not end a sentence. A run of whitespace becomes one space; other text stays.

    Args:
        text: one paragraph per line.
        code: the language code; if ICU does not know it, Unicode's default boundaries hold.

    >>> list(sentences("Mr. Achebe wrote many books.  Who\thas read them? No.", "en"))
    ['Mr. Achebe wrote many books.', 'Who has read them?']
    """
    paragraphs = (" ".join(line.split()) for line in text.split("\n"))
    for sentence in boundaries("\n".join(filter(long_enough, paragraphs)), code):
        yield from filter(long_enough, _clauses(sentence))


def long_enough(text: str) -> bool:
    """Whether a text with normalized whitespace is long enough for a sentence.

    >>> [long_enough(text) for text in ("See also", "Watoto wanacheza mpira.", "猫睡在石墙上。", "猫睡。")]
    [False, True, True, False]
    """
    spaced = len(text) >= MIN_CHARACTERS and text.count(" ") >= MIN_WORDS - 1
    return spaced or len(_UNSPACED.findall(text)) >= MIN_UNSPACED


def boundaries(text: str, code: str) -> Iterator[str]:
    """Yield all parts of a text between ICU's boundaries, without blanks at their ends; some may be empty."""
    carried = ""
    for part in SentenceBreaker(text, f"{code}@ss=standard"):  # one for the whole text: creating it is slow
        # without a space between, UAX #29 leaves an opening quotation mark or bracket at the end of a sentence
        end = len(part)
        while end and unicodedata.category(part[end - 1]) in ("Ps", "Pi"):
            end -= 1
        yield (carried + part[:end]).strip()
        carried = part[end:]
    yield carried


def _clauses(sentence: str) -> Iterator[str]:
    if len(sentence) <= MAX_THAI_OR_LAO or not _THAI_OR_LAO.search(sentence):
        yield sentence
        return
    part = ""
    for clause in sentence.split(" "):
        if part and len(part) + 1 + len(clause) > MAX_THAI_OR_LAO:
            yield part
            part = clause
        else:
            part = f"{part} {clause}" if part else clause
    yield part
