"""Projection: marks spans of a text before translation and finds them in the translation.

    marked = mark(text, spans)
    projected = unmark(marked, translate(marked.text))
    if projected.missing:
        projected = projected.recover([translate(text) for text in projected.missing])

A span is (start, end) in characters, end excluded. The way is XTREME's (appendix C): markers; then the nearest match of
the span translated by itself; else no span.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Literal

import numpy as np

Markers = Literal["letters", "html", "brackets", "align"]
Route = Literal["tags", "align", "fuzzy", "dropped"]
Span = tuple[int, int]

MARKERS: Mapping[Markers, tuple[tuple[str, str], ...]] = {
    "letters": tuple((f"<{letter}>", f"</{letter}>") for letter in "bcdfhjmnpqrtxlkvszweiouyga"),
    "html": tuple((f"<{name}>", f"</{name}>") for name in ("b", "i", "u", "s", "em", "tt", "sub", "sup")),
    "brackets": (("[", "]"), ("{", "}"), ("⟦", "⟧"), ("【", "】")),
    "align": (),
}
"""The markers of a text's spans, in the order of use. Letters that are words (English `a`, Spanish `y`) or units (`g`)
come last: engines translate them. `align` has none: word alignment finds the spans."""
_SIGNS = {"<": "(?:[<＜‹〈]|&lt;)", ">": "(?:[>＞›〉]|&gt;)", "/": "[/／]"}
_SIGNS |= {"[": r"[\[［]", "]": r"[\]］]", "{": "[{｛]", "}": "[}｝]"}
_REMAINS = re.compile("[<>＜＞]|&[lg]t;")
_UNSPACED = "[\u3000-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"
"""A letter of Chinese or Japanese; Thai, Lao, Khmer and Burmese have blanks between phrases."""
_NO_BLANK = re.compile(rf"[(\[{{] | [,.)\]}}]|{_UNSPACED} {_UNSPACED}")
"""Places without a blank: inside brackets, before commas and full stops, in Chinese."""
_MAX_DISTANCE = 10
_WORD_ROUTES = {
    "linked": "by links in both directions", "elsewhere": "as in other sentences",
    "one_way": "by links in one direction", "untagged": "without a tag",
}  # fmt: skip


@dataclass(frozen=True)
class Marked:
    """A text with markers around its spans."""

    text: str
    """What the engine translates."""
    plain: str
    """The text without markers."""
    spans: tuple[Span, ...]
    markers: tuple[tuple[str, str] | None, ...]
    """Opening and closing marker of each span. Equal spans share theirs; None if no marker was left."""


@dataclass(frozen=True)
class Projected:
    """A translation without markers, and where the spans are in it."""

    text: str
    spans: tuple[Span | None, ...]
    """One for each span of the source, in the same order; None where it is lost."""
    routes: tuple[Route, ...]
    """How each span was found."""
    marked: Marked
    remains: bool = False
    """Whether the engine changed a marker, so that a part of it stands in the text; `recover` replaces the text."""

    @property
    def missing(self) -> list[str]:
        """What the engine has to translate for `recover`: with `remains` the text without markers, then lost spans."""
        plain = self.marked.plain
        lost = [plain[a:b] for (a, b), span in zip(self.marked.spans, self.spans, strict=True) if span is None]
        return [plain, *lost] if self.remains else lost

    def of(self, span: Span) -> tuple[Span | None, Route]:
        """Where a span of the source is in the translation, and how it was found.

        Raises:
            ValueError: the span was not marked.
        """
        index = self.marked.spans.index(_stripped(self.marked.plain, span))
        return self.spans[index], self.routes[index]

    def recover(self, translations: Sequence[str]) -> Projected:
        """Find lost spans by fuzzy match, given the translations of `missing`.

        Raises:
            ValueError: there are more or fewer translations.
        """
        if len(translations) != len(self.missing):
            raise ValueError(f"needs {len(self.missing)} translations, got {len(translations)}")
        text = translations[0].strip() if self.remains else self.text
        lost = iter(translations[self.remains :])
        spans, routes = list[Span | None](), list[Route]()
        for (start, _), span, route in zip(self.marked.spans, self.spans, self.routes, strict=True):
            if span is None or self.remains:
                answer = next(lost) if span is None else self.text[span[0] : span[1]]
                span = fuzzy_match(answer, text, start / len(self.marked.plain))
                route = "fuzzy" if span else "dropped"
            spans.append(span)
            routes.append(route)
        return replace(self, text=text, spans=tuple(spans), routes=tuple(routes), remains=False)


def mark(text: str, spans: Sequence[Span], markers: Markers = "letters") -> Marked:
    """Put markers around spans, which may touch, nest and overlap.

    A marker that the text has already is left out. Spans beyond the number of markers have none.

    >>> mark("a red house", [(2, 5), (2, 11)]).text
    'a <c><b>red</b> house</c>'

    Raises:
        ValueError: a span is outside the text, or has only blanks.
    """
    spans = [_stripped(text, span) for span in spans]
    free = (pair for pair in MARKERS[markers] if not any(_pattern(sign).search(text) for sign in pair))
    pairs = {span: next(free, None) for span in dict.fromkeys(spans)}
    inserts = []
    for (start, end), pair in pairs.items():
        if pair:  # at one place: closing markers first, the shorter span's first; then the longer span's opening marker
            inserts += [(start, 1, -end, pair[0]), (end, 0, -start, pair[1])]
    parts, at = [], 0
    for place, _, _, sign in sorted(inserts):
        parts += [text[at:place], sign]
        at = place
    return Marked("".join([*parts, text[at:]]), text, tuple(spans), tuple(pairs[span] for span in spans))


def unmark(marked: Marked, translation: str) -> Projected:
    """Take the markers out of a translation.

    A span is found if both of its markers stand there once, in order, around text. Blanks inside a marker, capitals,
    HTML entities and full-width signs do no harm.

    >>> unmark(mark("a red house", [(2, 5)]), "una casa < B > roja < / b >.")
    ... # doctest: +ELLIPSIS
    Projected(text='una casa roja.', spans=((9, 13),), routes=('tags',), ...)
    """
    pairs = dict.fromkeys(pair for pair in marked.markers if pair)
    tight = not _NO_BLANK.search(marked.plain)
    text, places = _without_markers(translation, list(chain.from_iterable(pairs)), tight)
    found = dict[tuple[str, str] | None, Span | None]()
    for opening, closing in pairs:
        starts, ends = places[opening], places[closing]
        span = (starts[0], ends[0]) if len(starts) == len(ends) == 1 else (0, 0)
        found[opening, closing] = _stripped(text, span) if text[slice(*span)].strip() else None
    spans = tuple(found.get(pair) for pair in marked.markers)
    remains = len(_REMAINS.findall(text)) > len(_REMAINS.findall(marked.plain)) and bool(pairs)
    return Projected(text, spans, tuple("tags" if span else "dropped" for span in spans), marked, remains)


def fuzzy_match(answer: str, text: str, where: float = 0.0) -> Span | None:
    """The part of the text with the smallest edit distance to the answer; None beyond min(10, length / 2).

    Of equal ones it is one that cuts no word, then the one nearest to the place `where` (a share of the text).

    >>> text = "La casa roja."
    >>> fuzzy_match("casas rojas", text), fuzzy_match("perro", text)
    ((3, 12), None)
    """
    answer = answer.strip()
    if not answer or not text:
        return None
    size = len(text) + 1  # a cost is distance * size + start, so that the smallest has the smallest start
    place_T = np.arange(size)
    code_T = np.array([0, *map(ord, text)])
    cost_T = place_T.copy()
    for character in answer:
        longer_T = cost_T + size
        replaced_T = cost_T[:-1] + size * (code_T[1:] != ord(character))
        longer_T[1:] = np.minimum(longer_T[1:], replaced_T)
        cost_T = np.minimum.accumulate(longer_T - place_T * size) + place_T * size
    distance_T, start_T = np.divmod(cost_T, size)
    distance = int(distance_T.min())
    if distance > min(_MAX_DISTANCE, len(answer) / 2):
        return None
    ends = np.flatnonzero(distance_T == distance)
    matches = [_stripped(text, (int(start_T[end]), int(end))) for end in ends if text[start_T[end] : end].strip()]
    return min(matches, key=lambda span: (_cuts_word(text, span), abs(span[0] / len(text) - where)), default=None)


def counts_line(routes: Mapping[str, int]) -> str:
    """How many spans each route found, or how many words it tagged.

    >>> counts_line({"tags": 197, "fuzzy": 2, "dropped": 1})
    '200 spans: 197 by tags (98.5 %), 2 by fuzzy match (1.0 %), 1 dropped (0.5 %)'
    """
    total = sum(routes.values())
    of_words = bool(routes.keys() & _WORD_ROUTES.keys())
    way = {"align": "by alignment"} if "align" in routes else {"tags": "by tags"}
    names = _WORD_ROUTES if of_words else way | {"fuzzy": "by fuzzy match", "dropped": "dropped"}
    parts = [f"{(n := routes.get(route, 0)):,} {name} ({n / max(1, total):.1%})" for route, name in names.items()]
    what = "words tagged by alignment (experimental)" if of_words else "spans"
    return f"{total:,} {what}: {', '.join(parts)}".replace("%", " %")


def _pattern(marker: str) -> re.Pattern[str]:
    """How engines write a marker."""
    return re.compile(r"\s*".join(_SIGNS.get(sign) or re.escape(sign) for sign in marker), re.IGNORECASE)


def _without_markers(translation: str, markers: Sequence[str], tight: bool) -> tuple[str, dict[str, list[int]]]:
    """The text without markers, and where each of them was in it.

    If the source is `tight`, without blanks before punctuation, neither are there any beside markers.
    """
    hits = sorted((hit.span(), marker) for marker in markers for hit in _pattern(marker).finditer(translation))
    found = list[tuple[str, int]]()
    text, at = "", 0
    for (start, end), marker in hits:
        text, found = _joined(text, translation[at:start], found, tight)
        found.append((marker, len(text)))
        at = end
    text, found = _joined(text, translation[at:], found, tight)
    text = text.rstrip()
    places: dict[str, list[int]] = {marker: [] for marker in markers}
    for marker, place in found:
        places[marker].append(min(place, len(text)))
    return text, places


def _joined(left: str, right: str, found: list[tuple[str, int]], tight: bool) -> tuple[str, list[tuple[str, int]]]:
    """The text on both sides of a marker, without the blanks that engines put there, and the places in it."""
    before, after = left.rstrip(), right.lstrip()
    if after and (not before or (tight and _NO_BLANK.search(f"{before[-1]} {after[0]}"))):
        left, right = before, after
    elif left != before:
        right = after
    return left + right, [(marker, min(place, len(left))) for marker, place in found]


def _stripped(text: str, span: Span) -> Span:
    """The span without blanks at its ends."""
    part = text[slice(*span)]
    if not (0 <= span[0] <= span[1] <= len(text)) or not part.strip():
        raise ValueError(f"no text at {span} of {len(text)} characters")
    return span[0] + len(part) - len(part.lstrip()), span[1] - len(part) + len(part.rstrip())


def _cuts_word(text: str, span: Span) -> bool:
    """Whether the span begins or ends inside a word."""
    return any(text[max(0, at - 1) : at].isalnum() and text[at : at + 1].isalnum() for at in span)
