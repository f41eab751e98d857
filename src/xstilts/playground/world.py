"""The tiny world: its people and things, random facts, and changes that keep or break entailment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TypeVar

T = TypeVar("T")

PEOPLE = ("Mira", "Tomas", "Lena", "Viktor", "Sara", "Oskar", "Nadia", "Pavel")
SURNAMES = ("Novak", "Silva", "Berg", "Moretti")
TOWNS = ("Lomar", "Tarvik", "Bresno", "Quilla", "Veldin", "Marisk")
NOUNS_OF = {
    "worker": ("doctor", "baker", "farmer", "teacher", "driver"),
    "creature": ("dog", "cat", "horse", "goat", "bird"),
    "fruit": ("pear", "lemon", "plum", "melon", "fig"),
    "vehicle": ("car", "truck", "van", "boat", "tram"),
}
"""The nouns of each category; the category's name is their hypernym."""
CATEGORY_OF = {noun: category for category, nouns in NOUNS_OF.items() for noun in nouns}
VERBS = {
    "worker": ("help", "thank", "call", "follow", "watch", "paint"),
    "creature": ("train", "walk", "wash", "follow", "watch", "paint"),
    "fruit": ("pick", "peel", "cook", "want", "watch", "paint"),
    "vehicle": ("repair", "park", "wash", "want", "push", "paint"),
}
"""The verbs that take a patient of each category."""
OPPOSITES = {
    "worker": (("rich", "poor"), ("happy", "sad")),
    "creature": (("big", "small"), ("happy", "sad"), ("fast", "slow")),
    "fruit": (("big", "small"), ("sweet", "sour"), ("clean", "dirty")),
    "vehicle": (("big", "small"), ("fast", "slow"), ("clean", "dirty")),
}
OPPOSITE = {a: b for pairs in OPPOSITES.values() for pair in pairs for a, b in (pair, pair[::-1])}
SPOTS = ("garden", "market", "forest", "school", "river")
ADPOSITIONS = ("in", "near", "behind")
TIMES = {"past": ("yesterday", "recently"), "future": ("tomorrow", "soon")}
QUESTIONS = {"agent": "who", "patient": "what", "place": "where", "time": "when"}


@dataclass(frozen=True)
class Thing:
    """A person or thing, as a fact mentions it: `3 big dogs`, `the farmer`, `Mira Novak`."""

    noun: str
    adjective: str = ""
    count: int = 1
    definite: bool = False
    """Whether it has the article `the` instead of `a`."""
    surname: str = ""

    @property
    def category(self) -> str:
        """Its category in `NOUNS_OF`; people with a name are workers."""
        return self.noun if self.noun in NOUNS_OF else CATEGORY_OF.get(self.noun, "worker")

    @property
    def named(self) -> bool:
        """Whether it is a person with a name."""
        return self.noun in PEOPLE


@dataclass(frozen=True)
class Place:
    """Where something happens: in a town, or in, near or behind a spot."""

    adposition: str
    noun: str


@dataclass(frozen=True)
class Fact:
    """An agent does something to a patient, perhaps with a partner, in a place, at a time."""

    agent: Thing
    verb: str
    patient: Thing
    tense: str
    partner: Thing | None = None
    place: Place | None = None
    time: str = ""


def pick(rng: Random, items: Sequence[T]) -> T:
    """One of the items. Only `Random.random` promises the same numbers in every version of Python."""
    return items[int(rng.random() * len(items))]


def flip(rng: Random, share: float) -> bool:
    """True with the probability `share`."""
    return rng.random() < share


def _someone(rng: Random) -> Thing:
    if flip(rng, 0.6):
        return Thing(pick(rng, PEOPLE), surname=pick(rng, SURNAMES) if flip(rng, 0.25) else "")
    return _something(rng, "creature" if flip(rng, 0.4) else "worker")


def _something(rng: Random, category: str) -> Thing:
    thing = Thing(pick(rng, NOUNS_OF[category]) if flip(rng, 0.9) else category)
    thing = replace(thing, adjective=_adjective(rng, category) if flip(rng, 0.45) else "")
    return replace(thing, count=2 + int(rng.random() * 8)) if flip(rng, 0.35) else thing


def _adjective(rng: Random, category: str) -> str:
    return pick(rng, pick(rng, OPPOSITES[category]))


def _place(rng: Random) -> Place:
    if flip(rng, 0.5):
        return Place("in", pick(rng, TOWNS))
    return Place(pick(rng, ADPOSITIONS), pick(rng, SPOTS))


def draw_fact(rng: Random) -> Fact:
    """A random fact of this world."""
    agent, category = _someone(rng), pick(rng, tuple(NOUNS_OF))
    patient = Thing(pick(rng, PEOPLE)) if category == "worker" and flip(rng, 0.5) else _something(rng, category)
    if patient.noun == agent.noun:
        return draw_fact(rng)
    tense = pick(rng, ("past", "future"))
    fact = Fact(agent, pick(rng, VERBS[category]), patient, tense)
    if agent.named and not agent.surname and flip(rng, 0.2):
        fact = replace(fact, partner=Thing(pick(rng, [name for name in PEOPLE if name != agent.noun])))
    if flip(rng, 0.5):
        fact = replace(fact, place=_place(rng))
    return replace(fact, time=pick(rng, TIMES[tense])) if flip(rng, 0.4) else fact


Change = Callable[[Random, Fact], Fact]
"""Changes a fact, or returns it unchanged if it does not apply."""


def _drop_place(rng: Random, fact: Fact) -> Fact:  # noqa: ARG001
    return replace(fact, place=None)


def _drop_time(rng: Random, fact: Fact) -> Fact:  # noqa: ARG001
    return replace(fact, time="")


def _drop_adjective(rng: Random, fact: Fact) -> Fact:  # noqa: ARG001
    return replace(fact, patient=replace(fact.patient, adjective=""))


def _drop_partner(rng: Random, fact: Fact) -> Fact:  # noqa: ARG001
    return replace(fact, partner=None)


def _use_hypernym(rng: Random, fact: Fact) -> Fact:  # noqa: ARG001
    return fact if fact.patient.named else replace(fact, patient=replace(fact.patient, noun=fact.patient.category))


def _other_count(rng: Random, fact: Fact) -> Fact:
    if fact.patient.count == 1:
        return fact
    others = [count for count in range(2, 10) if count != fact.patient.count]
    return replace(fact, patient=replace(fact.patient, count=pick(rng, others)))


def _opposite(rng: Random, fact: Fact) -> Fact:  # noqa: ARG001
    if not fact.patient.adjective:
        return fact
    return replace(fact, patient=replace(fact.patient, adjective=OPPOSITE[fact.patient.adjective]))


def _other_place(rng: Random, fact: Fact) -> Fact:
    if fact.place is None:
        return fact
    others = [noun for noun in (TOWNS if fact.place.noun in TOWNS else SPOTS) if noun != fact.place.noun]
    return replace(fact, place=replace(fact.place, noun=pick(rng, others)))


def _other_time(rng: Random, fact: Fact) -> Fact:
    if not fact.time:
        return fact
    tense = "past" if fact.tense == "future" else "future"
    return replace(fact, tense=tense, time=pick(rng, TIMES[tense]))


def _swap_roles(rng: Random, fact: Fact) -> Fact:  # noqa: ARG001
    if fact.partner or fact.patient.category not in ("worker", "creature"):
        return fact
    return replace(fact, agent=fact.patient, patient=fact.agent)


def _add_place(rng: Random, fact: Fact) -> Fact:
    return fact if fact.place else replace(fact, place=_place(rng))


def _add_time(rng: Random, fact: Fact) -> Fact:
    return fact if fact.time else replace(fact, time=pick(rng, TIMES[fact.tense]))


def _add_adjective(rng: Random, fact: Fact) -> Fact:
    if fact.patient.adjective or fact.patient.named:
        return fact
    return replace(fact, patient=replace(fact.patient, adjective=_adjective(rng, fact.patient.category)))


ENTAILING_CHANGES: tuple[Change, ...] = (_drop_place, _drop_time, _drop_adjective, _drop_partner, _use_hypernym)
"""The fact entails the changed one."""
CONTRADICTING_CHANGES: tuple[Change, ...] = (_other_count, _opposite, _other_place, _other_time)
"""The fact contradicts the changed one."""
NEUTRAL_CHANGES: tuple[Change, ...] = (_add_place, _add_time, _add_adjective)
"""The fact neither entails nor contradicts the changed one."""


def change(rng: Random, fact: Fact, changes: Sequence[Change]) -> Fact | None:
    """The fact after a random one of the changes that apply to it; None if none applies."""
    changed = [other for each in changes if (other := each(rng, fact)) != fact]
    return pick(rng, changed) if changed else None
