"""The tiny world: who and what is in it, facts about it, and how one fact follows from or rules out another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TypeVar

T = TypeVar("T")

PEOPLE = ("Mira", "Tomas", "Lena", "Viktor", "Sara", "Oskar", "Nadia", "Pavel")
SURNAMES = ("Novak", "Silva", "Berg", "Moretti")
TOWNS = ("Lomar", "Tarvik", "Bresno", "Quilla", "Veldin", "Marisk")
KINDS_OF = {
    "worker": ("doctor", "baker", "farmer", "teacher", "driver"),
    "creature": ("dog", "cat", "horse", "goat", "bird"),
    "fruit": ("pear", "lemon", "plum", "melon", "fig"),
    "vehicle": ("car", "truck", "van", "boat", "tram"),
}
"""What there is of each kind; the kind's own name is the word above them."""
KIND_OF = {noun: kind for kind, nouns in KINDS_OF.items() for noun in nouns}
VERBS = {
    "worker": ("help", "thank", "call", "follow", "watch", "paint"),
    "creature": ("train", "walk", "wash", "follow", "watch", "paint"),
    "fruit": ("pick", "peel", "cook", "want", "watch", "paint"),
    "vehicle": ("repair", "park", "wash", "want", "push", "paint"),
}
"""What can be done to each kind."""
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
    """Someone or something, as a fact mentions it: `3 big dogs`, `the farmer`, `Mira Novak`."""

    noun: str
    adjective: str = ""
    count: int = 1
    known: bool = False
    """Whether it was spoken of before (`the`, not `a`)."""
    surname: str = ""

    @property
    def kind(self) -> str:
        """Which of `KINDS_OF` it is; people with a name are workers."""
        return self.noun if self.noun in KINDS_OF else KIND_OF.get(self.noun, "worker")

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
    """Who does what to whom, and perhaps with whom, where and when."""

    agent: Thing
    verb: str
    patient: Thing
    tense: str
    partner: Thing | None = None
    place: Place | None = None
    time: str = ""


def pick(draw: Random, items: Sequence[T]) -> T:
    """One of the items, from the only method of `Random` that promises the same numbers for ever."""
    return items[int(draw.random() * len(items))]


def often(draw: Random, share: float) -> bool:
    """True in this share of the cases."""
    return draw.random() < share


def _someone(draw: Random) -> Thing:
    if often(draw, 0.6):
        return Thing(pick(draw, PEOPLE), surname=pick(draw, SURNAMES) if often(draw, 0.25) else "")
    return _something(draw, "creature" if often(draw, 0.4) else "worker")


def _something(draw: Random, kind: str) -> Thing:
    thing = Thing(pick(draw, KINDS_OF[kind]) if often(draw, 0.9) else kind)
    thing = replace(thing, adjective=_adjective(draw, kind) if often(draw, 0.45) else "")
    return replace(thing, count=2 + int(draw.random() * 8)) if often(draw, 0.35) else thing


def _adjective(draw: Random, kind: str) -> str:
    return pick(draw, pick(draw, OPPOSITES[kind]))


def _place(draw: Random) -> Place:
    if often(draw, 0.5):
        return Place("in", pick(draw, TOWNS))
    return Place(pick(draw, ADPOSITIONS), pick(draw, SPOTS))


def draw_fact(draw: Random) -> Fact:
    """A fact that happens in this world."""
    agent, kind = _someone(draw), pick(draw, tuple(KINDS_OF))
    patient = Thing(pick(draw, PEOPLE)) if kind == "worker" and often(draw, 0.5) else _something(draw, kind)
    if patient.noun == agent.noun:
        return draw_fact(draw)
    tense = pick(draw, ("past", "future"))
    fact = Fact(agent, pick(draw, VERBS[kind]), patient, tense)
    if agent.named and not agent.surname and often(draw, 0.2):
        fact = replace(fact, partner=Thing(pick(draw, [name for name in PEOPLE if name != agent.noun])))
    if often(draw, 0.5):
        fact = replace(fact, place=_place(draw))
    return replace(fact, time=pick(draw, TIMES[tense])) if often(draw, 0.4) else fact


Change = Callable[[Random, Fact], Fact]
"""Makes another fact of a fact; gives the same fact back where it does not apply."""


def _drop_place(draw: Random, fact: Fact) -> Fact:  # noqa: ARG001
    return replace(fact, place=None)


def _drop_time(draw: Random, fact: Fact) -> Fact:  # noqa: ARG001
    return replace(fact, time="")


def _drop_adjective(draw: Random, fact: Fact) -> Fact:  # noqa: ARG001
    return replace(fact, patient=replace(fact.patient, adjective=""))


def _drop_partner(draw: Random, fact: Fact) -> Fact:  # noqa: ARG001
    return replace(fact, partner=None)


def _widen(draw: Random, fact: Fact) -> Fact:  # noqa: ARG001
    return fact if fact.patient.named else replace(fact, patient=replace(fact.patient, noun=fact.patient.kind))


def _other_count(draw: Random, fact: Fact) -> Fact:
    if fact.patient.count == 1:
        return fact
    others = [count for count in range(2, 10) if count != fact.patient.count]
    return replace(fact, patient=replace(fact.patient, count=pick(draw, others)))


def _opposite(draw: Random, fact: Fact) -> Fact:  # noqa: ARG001
    if not fact.patient.adjective:
        return fact
    return replace(fact, patient=replace(fact.patient, adjective=OPPOSITE[fact.patient.adjective]))


def _other_place(draw: Random, fact: Fact) -> Fact:
    if fact.place is None:
        return fact
    others = [noun for noun in (TOWNS if fact.place.noun in TOWNS else SPOTS) if noun != fact.place.noun]
    return replace(fact, place=replace(fact.place, noun=pick(draw, others)))


def _other_time(draw: Random, fact: Fact) -> Fact:
    if not fact.time:
        return fact
    tense = "past" if fact.tense == "future" else "future"
    return replace(fact, tense=tense, time=pick(draw, TIMES[tense]))


def _swap(draw: Random, fact: Fact) -> Fact:  # noqa: ARG001
    if fact.partner or fact.patient.kind not in ("worker", "creature"):
        return fact
    return replace(fact, agent=fact.patient, patient=fact.agent)


def _add_place(draw: Random, fact: Fact) -> Fact:
    return fact if fact.place else replace(fact, place=_place(draw))


def _add_time(draw: Random, fact: Fact) -> Fact:
    return fact if fact.time else replace(fact, time=pick(draw, TIMES[fact.tense]))


def _add_adjective(draw: Random, fact: Fact) -> Fact:
    if fact.patient.adjective or fact.patient.named:
        return fact
    return replace(fact, patient=replace(fact.patient, adjective=_adjective(draw, fact.patient.kind)))


WEAKER: tuple[Change, ...] = (_drop_place, _drop_time, _drop_adjective, _drop_partner, _widen)
"""What still holds when the fact holds."""
CONTRARY: tuple[Change, ...] = (_other_count, _opposite, _other_place, _other_time)
"""What cannot hold as well."""
RICHER: tuple[Change, ...] = (_add_place, _add_time, _add_adjective)
"""What may hold or not."""


def change(draw: Random, fact: Fact, changes: Sequence[Change]) -> Fact | None:
    """The fact after one of the changes that apply to it; None if none does."""
    changed = [other for each in changes if (other := each(draw, fact)) != fact]
    return pick(draw, changed) if changed else None
