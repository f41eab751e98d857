"""Stories: passages of facts, questions on them with exactly one answer, and right and wrong retellings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from xstilts.playground.world import (
    ENTAILING_CHANGES,
    NOUNS_OF,
    PEOPLE,
    QUESTIONS,
    VERBS,
    Fact,
    Place,
    Thing,
    change,
    draw_fact,
    flip,
    pick,
)


def as_definite(thing: Thing, definite: bool = True) -> Thing:
    """The thing with a definite article (`the`, not `a`), or an indefinite one; names have no article."""
    return thing if thing.named else replace(thing, definite=definite)


def other_action(rng: Random, fact: Fact) -> Fact:
    """Another fact with the same agent and partner."""
    return replace(draw_fact(rng), agent=as_definite(fact.agent), partner=fact.partner)


def parts(fact: Fact) -> list[str]:
    """The parts of a fact's sentence that a question can ask for: O, S, P and T; S only without a partner."""
    has = {"O": True, "S": fact.partner is None, "P": fact.place is not None, "T": bool(fact.time)}
    return [part for part, is_present in has.items() if is_present]


def question_about(fact: Fact, part: str) -> Fact:
    """The fact with a question word instead of a part."""
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
    """Index of the only fact that answers the question; no other has the same noun in that part."""
    part: str
    """The part of its sentence that is the answer."""
    question: Fact


def draw_passage(rng: Random, facts: int, less_detail: float) -> Passage:
    """A story of so many facts with a question, which drops the share `less_detail` of the fact's details."""
    while True:
        facts_drawn = [draw_fact(rng)]
        while len(facts_drawn) < facts:
            facts_drawn.append(other_action(rng, facts_drawn[-1]) if flip(rng, 0.5) else draw_fact(rng))
        fact = pick(rng, facts_drawn)
        is_person = fact.patient.category == "worker"
        askable = [part for part in parts(fact) if part != "O" or not is_person]  # questions on it ask `what`
        if not askable or any(one.patient.noun in _participants(one) for one in facts_drawn):
            continue
        part = pick(rng, askable)
        question = question_about(_drop_details(rng, fact, less_detail), part)
        noun = _noun_of(fact, part)
        answers = [one for one in facts_drawn if _could_answer(one, question, part) or _noun_of(one, part) == noun]
        if len(answers) == 1:
            return Passage(tuple(facts_drawn), facts_drawn.index(fact), part, question)


def _noun_of(fact: Fact, part: str) -> str | None:
    """A fact's noun in a part; the time itself for T."""
    place = fact.place.noun if fact.place else None
    return {"S": fact.agent.noun, "O": fact.patient.noun, "P": place, "T": fact.time}[part]


def _drop_details(rng: Random, fact: Fact, share: float) -> Fact:
    for drop_detail in ENTAILING_CHANGES:
        fact = drop_detail(rng, fact) if flip(rng, share) else fact
    return replace(fact, agent=as_definite(fact.agent), patient=as_definite(fact.patient))


def _participants(fact: Fact) -> set[str]:
    return {fact.agent.noun, fact.agent.category} | ({fact.partner.noun} if fact.partner else set())


def _could_answer(fact: Fact, question: Fact, part: str) -> bool:
    """Whether a reader could take the fact for an answer, even one who confuses agent and patient."""
    nouns = {*_participants(fact), fact.patient.noun, fact.patient.category}
    return all((
        (question.verb, question.tense) == (fact.verb, fact.tense),
        part == "S" or question.agent.noun in nouns,
        part == "O" or question.patient.noun in nouns,
        _noun_of(fact, "P") if part == "P" else _noun_of(question, "P") in (None, _noun_of(fact, "P")),
        fact.time if part == "T" else question.time in ("", fact.time),
    ))  # fmt: skip


def draw_retellings(rng: Random) -> tuple[Fact, Fact, list[Fact]]:
    """A fact, a retelling with less detail, and three retellings with a wrong agent, patient or verb."""
    fact = draw_fact(rng)
    retelling = change(rng, fact, ENTAILING_CHANGES) or fact
    retelling = replace(retelling, agent=as_definite(retelling.agent), patient=as_definite(retelling.patient))
    names = (*_participants(fact), fact.patient.noun, fact.patient.category)
    wrong = [
        replace(retelling, agent=_another(rng, retelling.agent, names)),
        replace(retelling, patient=_another(rng, retelling.patient, names)),
        replace(retelling, verb=pick(rng, [verb for verb in VERBS[fact.patient.category] if verb != fact.verb])),
    ]
    return fact, retelling, wrong


def _another(rng: Random, thing: Thing, taken: tuple[str, ...]) -> Thing:
    nouns = PEOPLE if thing.named else NOUNS_OF[thing.category]
    return replace(thing, noun=pick(rng, [noun for noun in nouns if noun not in taken]))
