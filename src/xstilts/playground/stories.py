"""Stories: facts told one after another, questions on them with exactly one answer, and retellings that go wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from xstilts.playground.world import (
    KINDS_OF,
    PEOPLE,
    QUESTIONS,
    VERBS,
    WEAKER,
    Fact,
    Place,
    Thing,
    change,
    draw_fact,
    often,
    pick,
)


def known(thing: Thing, known: bool = True) -> Thing:
    """Someone or something as spoken of before (`the`, not `a`), or not; names need no article."""
    return thing if thing.named else replace(thing, known=known)


def other_deed(draw: Random, fact: Fact) -> Fact:
    """Something else that the same ones do."""
    return replace(draw_fact(draw), agent=known(fact.agent), partner=fact.partner)


def parts(fact: Fact) -> list[str]:
    """The parts of a fact's sentence that can be asked for: O, S, P and T; not two who act together."""
    there = {"O": True, "S": fact.partner is None, "P": fact.place is not None, "T": bool(fact.time)}
    return [part for part, is_there in there.items() if is_there]


def question_about(fact: Fact, part: str) -> Fact:
    """The fact with a question word in place of a part."""
    if part == "S":
        return replace(fact, agent=Thing(QUESTIONS["agent"]))
    if part == "O":
        return replace(fact, patient=Thing(QUESTIONS["patient"]))
    if part == "P":
        return replace(fact, place=Place("", QUESTIONS["place"]))
    return replace(fact, time=QUESTIONS["time"])


@dataclass(frozen=True)
class Passage:
    """Facts, and a question on one of them."""

    facts: tuple[Fact, ...]
    at: int
    """Which fact answers the question: no other does, and no other says the same in the part that is asked for."""
    part: str
    """Which part of its sentence is the answer."""
    question: Fact


def draw_passage(draw: Random, facts: int, vague: float) -> Passage:
    """A story of so many facts with a question; `vague` is the share of details that the question leaves out."""
    while True:
        facts_drawn = [draw_fact(draw)]
        while len(facts_drawn) < facts:
            facts_drawn.append(other_deed(draw, facts_drawn[-1]) if often(draw, 0.5) else draw_fact(draw))
        fact = pick(draw, facts_drawn)
        askable = [part for part in parts(fact) if part != "O" or fact.patient.kind != "worker"]  # one asks `what`
        if not askable or any(one.patient.noun in _who(one) for one in facts_drawn):
            continue
        part = pick(draw, askable)
        question = question_about(_vaguer(draw, fact, vague), part)
        answers = [one for one in facts_drawn if _may_answer(one, question, part) or _at(one, part) == _at(fact, part)]
        if len(answers) == 1:
            return Passage(tuple(facts_drawn), facts_drawn.index(fact), part, question)


def _at(fact: Fact, part: str) -> str | None:
    """What a fact has in a part, without its details."""
    where = fact.place.noun if fact.place else None
    return {"S": fact.agent.noun, "O": fact.patient.noun, "P": where, "T": fact.time}[part]


def _vaguer(draw: Random, fact: Fact, share: float) -> Fact:
    for weaker in WEAKER:
        fact = weaker(draw, fact) if often(draw, share) else fact
    return replace(fact, agent=known(fact.agent), patient=known(fact.patient))


def _who(fact: Fact) -> set[str]:
    return {fact.agent.noun, fact.agent.kind} | ({fact.partner.noun} if fact.partner else set())


def _may_answer(fact: Fact, question: Fact, part: str) -> bool:
    """Whether someone might take the fact for an answer, even if who does it to whom was mixed up."""
    there = {*_who(fact), fact.patient.noun, fact.patient.kind}
    return all((
        (question.verb, question.tense) == (fact.verb, fact.tense),
        part == "S" or question.agent.noun in there,
        part == "O" or question.patient.noun in there,
        _at(fact, "P") if part == "P" else _at(question, "P") in (None, _at(fact, "P")),
        fact.time if part == "T" else question.time in ("", fact.time),
    ))  # fmt: skip


def draw_retellings(draw: Random) -> tuple[Fact, Fact, list[Fact]]:
    """A fact, a retelling with less detail, and retellings that have someone, something or what is done wrong."""
    fact = draw_fact(draw)
    retelling = change(draw, fact, WEAKER) or fact
    retelling = replace(retelling, agent=known(retelling.agent), patient=known(retelling.patient))
    names = (*_who(fact), fact.patient.noun, fact.patient.kind)
    wrong = [
        replace(retelling, agent=_another(draw, retelling.agent, names)),
        replace(retelling, patient=_another(draw, retelling.patient, names)),
        replace(retelling, verb=pick(draw, [verb for verb in VERBS[fact.patient.kind] if verb != fact.verb])),
    ]
    return fact, retelling, wrong


def _another(draw: Random, thing: Thing, taken: tuple[str, ...]) -> Thing:
    nouns = PEOPLE if thing.named else KINDS_OF[thing.kind]
    return replace(thing, noun=pick(draw, [noun for noun in nouns if noun not in taken]))
