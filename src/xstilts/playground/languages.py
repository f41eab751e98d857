"""The playground's languages: a grammar with a generated lexicon turns facts into sentences."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from random import Random

from xstilts.playground.world import (
    ADPOSITIONS,
    NOUNS_OF,
    OPPOSITE,
    PEOPLE,
    QUESTIONS,
    SPOTS,
    SURNAMES,
    TIMES,
    TOWNS,
    VERBS,
    Fact,
    Thing,
    flip,
    pick,
)

VERSION = 1
"""Raise it when any generated text changes."""

NAMES = (*PEOPLE, *SURNAMES, *TOWNS)
FUNCTION_WORDS = ("a", "the", "and", "will", *ADPOSITIONS, *QUESTIONS.values())
CONTENT_WORDS = (
    *(noun for category, nouns in NOUNS_OF.items() for noun in (category, *nouns)),
    *dict.fromkeys(verb for verbs in VERBS.values() for verb in verbs),
    *OPPOSITE,
    *SPOTS,
    *(time for times in TIMES.values() for time in times),
)
LATIN = "abdefgiklmnoprstuvz"
SCRIPTS = {
    "Latin": LATIN,
    "Greek": "αβδεφγικλμνοπρστυωζ",
    "Cyrillic": "абдефгиклмнопрстувз",
    "Armenian": "աբդեֆգիկլմնոպրստուվզ".replace("ու", "ւ"),
    "Georgian": "აბდეფგიკლმნოპრსტუვზ",
}
"""Each script's letters for those of `LATIN`."""


@dataclass(frozen=True)
class Grammar:
    """A language's word order and suffixes, and how much of its lexicon is English.

    `clause` orders subject, verb, object, place and time; `phrase` orders determiner, quantity, adjective and head (a
    language without articles has no D). Missing suffixes are empty; without `future`, an auxiliary marks the future.
    """

    code: str
    name: str
    script: str = "Latin"
    clause: str = "SVOPT"
    phrase: str = "DQAH"
    postpositions: bool = False
    plural: str = ""
    past: str = ""
    future: str = ""
    object: str = ""
    english: float = 0.0
    """Share of the lexicon that is borrowed from English unchanged."""
    onsets: Sequence[str] = field(default=("b", "d", "k", "l", "m", "n", "r", "s", "t", "v"))
    vowels: str = "aeiou"
    codas: Sequence[str] = field(default=("", "", "n", "r", "s"))


GRAMMARS = {
    grammar.code: grammar
    for grammar in (
        Grammar("en", "English", plural="s", past="ed", english=1.0),
        Grammar("qaa", "Arlish", plural="en", past="et", english=0.7),
        Grammar("qab", "Bentine", phrase="DQHA", plural="is", past="av", english=0.6),
        Grammar("qac", "Corvan", "Greek", "SVOTP", "DQHA", plural="a", past="it", future="or", english=0.5),
        Grammar("qad", "Delmic", "Cyrillic", "TSVOP", "QHA", plural="i", past="al", future="et", english=0.42),
        Grammar("qae", "Eretan", "Cyrillic", "TSOVP", "QAH", True, "lar", "di", "ek", english=0.34),
        Grammar("qaf", "Folmari", "Armenian", "STPOV", "AHQ", True, "ner", "ts", "um", "in", english=0.26),
        Grammar("qag", "Gurani", "Georgian", "PTVSO", "HAQ", True, "bi", "da", "os", "s", english=0.18),
    )
}
"""English and the constructed languages, from near to far."""

LANGUAGES = tuple(GRAMMARS)


@dataclass(frozen=True)
class Word:
    """An inflected word with its universal part of speech and its entity tag."""

    form: str
    tag: str
    entity: str = "O"


def _borrowing_rank(concept: str) -> float:
    """The order in which languages borrow words, from 0 (first) to 1; names come early."""
    digest = hashlib.sha256(concept.encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32 * (0.5 if concept in NAMES else 1.0)


class Language:
    """A grammar with its lexicon."""

    def __init__(self, grammar: Grammar) -> None:
        self.grammar = grammar
        self._letters = str.maketrans(LATIN, SCRIPTS[grammar.script])
        concepts = (*NAMES, *FUNCTION_WORDS, *CONTENT_WORDS)
        borrowed = set(sorted(concepts, key=_borrowing_rank)[: round(grammar.english * len(concepts))])
        self.lexicon: dict[str, str] = {}
        rng = Random(f"lexicon {grammar.code} {VERSION}")
        for concept in concepts:
            self.lexicon[concept] = concept if concept in borrowed else self._new_word(rng, concept, {*concepts})

    def _new_word(self, rng: Random, concept: str, english: set[str]) -> str:
        """A new word, unlike any other of this language or of English; function words are short."""
        syllables = 1 if concept in FUNCTION_WORDS else 2 if flip(rng, 0.7) else 3
        latin = "".join(pick(rng, self.grammar.onsets) + pick(rng, self.grammar.vowels) for _ in range(syllables))
        word = (latin + pick(rng, self.grammar.codas)).translate(self._letters)
        word = word.capitalize() if concept in NAMES else word
        taken = word in english or word in self.lexicon.values()
        return self._new_word(rng, concept, english) if taken else word

    def say(self, fact: Fact, *, fronted: bool = False, end: str = ".") -> list[Word]:
        """The words of a sentence that states the fact; `fronted` puts the time, or else the place, first."""
        return [*(word for _, words in self._parts(fact, fronted) for word in words), Word(end, "PUNCT")]

    def find(self, fact: Fact, part: str, *, fronted: bool = False) -> tuple[str, int]:
        """A part (S, V, O, P or T) of the sentence that states the fact, and its first character's index."""
        before: list[Word] = []
        for name, words in self._parts(fact, fronted):
            if name == part:
                return text(words), len(text(before)) + bool(before)
            before += words
        raise KeyError(part)

    def places(self, fact: Fact, *, fronted: bool = False) -> dict[str, tuple[int, int]]:
        """Where each part of `say` is, as word indices (end excluded).

        S, V, O, P and T; `agent` and `partner` within S; `where`, which is P without its adposition.
        """
        places, start = dict[str, tuple[int, int]](), 0
        for name, words in self._parts(fact, fronted):
            end = start + len(words)
            places[name] = (start, end)
            if name == "S":
                places["agent"] = (start, start + len(self._thing(fact.agent)))
                places["partner"] = (places["agent"][1] + 1, end)
            elif name == "P" and len(words) > 1:
                places["where"] = (start, end - 1) if self.grammar.postpositions else (start + 1, end)
            start = end
        return {name: place for name, place in places.items() if place[0] < place[1]}

    def _parts(self, fact: Fact, fronted: bool) -> list[tuple[str, list[Word]]]:
        order = self.grammar.clause
        if fronted:
            first = "T" if fact.time else "P"
            order = first + order.replace(first, "")
        parts = {
            "S": self._subject(fact),
            "V": self._verb(fact),
            "O": self._thing(fact.patient, self.grammar.object),
            "P": self._place(fact),
            "T": [Word(self.lexicon[fact.time], "ADV")] if fact.time else [],
        }
        return [(part, parts[part]) for part in order]

    def _subject(self, fact: Fact) -> list[Word]:
        if fact.partner is None:
            return self._thing(fact.agent)
        return [*self._thing(fact.agent), Word(self.lexicon["and"], "CCONJ"), *self._thing(fact.partner)]

    def _verb(self, fact: Fact) -> list[Word]:
        stem = self.lexicon[fact.verb]
        if fact.tense == "past":
            return [Word(stem + self._suffix(self.grammar.past), "VERB")]
        if self.grammar.future:
            return [Word(stem + self._suffix(self.grammar.future), "VERB")]
        return [Word(self.lexicon["will"], "AUX"), Word(stem, "VERB")]

    def _thing(self, thing: Thing, case: str = "") -> list[Word]:
        if thing.noun in QUESTIONS.values():
            return [Word(self.lexicon[thing.noun], "PRON")]
        if thing.named:
            surname = [Word(self.lexicon[thing.surname], "PROPN", "I-PER")] if thing.surname else []
            return [Word(self.lexicon[thing.noun], "PROPN", "B-PER"), *surname]
        suffix = self._suffix((self.grammar.plural if thing.count > 1 else "") + case)
        article = "the" if thing.definite else "a"
        parts = {
            "D": [Word(self.lexicon[article], "DET")] if thing.definite or thing.count == 1 else [],
            "Q": [Word(str(thing.count), "NUM")] if thing.count > 1 else [],
            "A": [Word(self.lexicon[thing.adjective], "ADJ")] if thing.adjective else [],
            "H": [Word(self.lexicon[thing.noun] + suffix, "NOUN")],
        }
        return [word for part in self.grammar.phrase for word in parts[part]]

    def _place(self, fact: Fact) -> list[Word]:
        if fact.place is None:
            return []
        noun = fact.place.noun
        if noun in QUESTIONS.values():
            return [Word(self.lexicon[noun], "ADV")]
        town = [Word(self.lexicon[noun], "PROPN", "B-LOC")] if noun in TOWNS else []
        where = town or self._thing(Thing(noun, definite=True))
        adposition = [Word(self.lexicon[fact.place.adposition], "ADP")]
        return [*where, *adposition] if self.grammar.postpositions else [*adposition, *where]

    def _suffix(self, latin: str) -> str:
        return latin if self.grammar.code == "en" else latin.translate(self._letters)


@cache
def get_language(code: str) -> Language:
    """The language with this code."""
    return Language(GRAMMARS[code])


def text(words: Sequence[Word]) -> str:
    """The written sentence: words separated by spaces, with none before punctuation."""
    return "".join(word.form if word.tag == "PUNCT" else f" {word.form}" for word in words).lstrip()
