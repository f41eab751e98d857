"""Exact translation of English in the playground: parses a sentence to its fact, and says it in another language."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from xstilts.playground.languages import get_language
from xstilts.playground.world import ADPOSITIONS, OPPOSITE, PEOPLE, QUESTIONS, SURNAMES, TIMES, Fact, Place, Thing

_TOKEN = re.compile(r" *(?:</?[a-z]+>|\w+|[.?])")
_TIMES = {time for times in TIMES.values() for time in times} | {QUESTIONS["time"]}


def translate(text: str, language: str) -> str:
    """Translate English sentences. Tags such as `<b>...</b>` around a part of a sentence stand around that part again.

    >>> translate("Mira will watch <b>the big dog</b> in Lomar.", "qae")
    'Вививун <b>big салур</b> косунек Дулу ре.'

    Raises:
        ValueError: not a sentence of the playground, or a tag does not stand around a part.
    """
    return " ".join(_sentence(sentence, language) for sentence in re.split(r"(?<=[.?]) ", text))


def _sentence(sentence: str, code: str) -> str:
    tokens = [token.strip() for token in _TOKEN.findall(sentence)]
    words = [token for token in tokens if not token.startswith("<")]
    fact, fronted = _Parser(words, sentence).fact()
    english, target = get_language("en"), get_language(code)
    if [word.form for word in english.say(fact, fronted=fronted, end=words[-1])] != words:
        raise ValueError(f"the sentence: {sentence}")
    places, there = (language.places(fact, fronted=fronted) for language in (english, target))
    before, after = defaultdict[int, str](str), defaultdict[int, str](str)
    for (start, end), name in _tags(tokens, sentence):
        part = next((part for part, place in places.items() if place == (start, end)), None)
        if part is None:
            raise ValueError(f"the part in <{name}>: {sentence}")
        first, last = there[part]
        before[first] += f"<{name}>"
        after[last - 1] = f"</{name}>{after[last - 1]}"
    spoken = ""
    for number, word in enumerate(target.say(fact, fronted=fronted, end=words[-1])):
        blank = " " if spoken and word.tag != "PUNCT" else ""
        spoken += f"{blank}{before[number]}{word.form}{after[number]}"
    return spoken


def _tags(tokens: Sequence[str], sentence: str) -> list[tuple[tuple[int, int], str]]:
    """The word indices of each pair of tags, longer ones first."""
    found, opened, count = list[tuple[tuple[int, int], str]](), dict[str, int](), 0
    for token in tokens:
        if token.startswith("</"):
            if (name := token[2:-1]) not in opened:
                raise ValueError(f"the tag {token}: {sentence}")
            found.append(((opened.pop(name), count), name))
        elif token.startswith("<"):
            opened[token[1:-1]] = count
        else:
            count += 1
    if opened:
        raise ValueError(f"the tag <{min(opened)}>, which is not closed: {sentence}")
    return sorted(found, key=lambda tag: tag[0][0] - tag[0][1])


class _Parser:
    """Reads a sentence's words from left to right."""

    def __init__(self, words: Sequence[str], sentence: str) -> None:
        self._words, self._sentence, self._at = words, sentence, 0

    def fact(self) -> tuple[Fact, bool]:
        """The fact that the sentence states, and whether its time or place comes first."""
        place, time = self._place(), self._time()
        fronted = bool(place or time)
        agent = self._thing()
        partner = self._thing() if self._next("and") else None
        verb, tense = self._verb()
        patient = self._thing()
        place = place or self._place()
        time = time or self._time()
        if self._at != len(self._words) - 1 or self._words[-1] not in (".", "?"):
            raise ValueError(f"the sentence: {self._sentence}")
        return Fact(agent, verb, patient, tense, partner, place, time), fronted

    def _word(self) -> str:
        return self._words[self._at] if self._at < len(self._words) else ""

    def _next(self, *known: str) -> str:
        """The next word if it is one of these, else an empty text."""
        word = self._word()
        if word not in known:
            return ""
        self._at += 1
        return word

    def _take(self) -> str:
        self._at += 1
        return self._words[self._at - 1] if self._at <= len(self._words) else ""

    def _thing(self) -> Thing:
        if name := self._next(*PEOPLE):
            return Thing(name, surname=self._next(*SURNAMES))
        if word := self._next(QUESTIONS["agent"], QUESTIONS["patient"]):
            return Thing(word)
        definite = self._next("the", "a") == "the"
        count = int(self._take()) if self._word().isdecimal() else 1
        adjective, noun = self._next(*OPPOSITE), self._take()
        return Thing(noun.removesuffix("s") if count > 1 else noun, adjective, count, definite)

    def _verb(self) -> tuple[str, str]:
        return (self._take(), "future") if self._next("will") else (self._take().removesuffix("ed"), "past")

    def _place(self) -> Place | None:
        if word := self._next(QUESTIONS["place"]):
            return Place("", word)
        if not (adposition := self._next(*ADPOSITIONS)):
            return None
        self._next("the")
        return Place(adposition, self._take())

    def _time(self) -> str:
        return self._next(*_TIMES)
