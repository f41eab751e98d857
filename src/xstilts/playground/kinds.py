"""The kinds of rows the playground gives: one small function each, from drawn facts to a row in one language."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from random import Random
from typing import TypeAlias

from xstilts.playground.languages import LANGUAGES, VERSION, Tongue, text, tongue
from xstilts.playground.world import (
    CONTRARY,
    QUESTIONS,
    RICHER,
    WEAKER,
    Fact,
    Place,
    Thing,
    change,
    draw_fact,
    often,
    pick,
)

Values: TypeAlias = dict[str, object]

SEED = 2020
NLI_LABELS = ("entailment", "neutral", "contradiction")
CONSTRUCTED = LANGUAGES[1:]


@dataclass(frozen=True)
class Kind:
    """How rows of one kind are made, and how many.

    `make` draws row `index`; it must draw the same whatever the language, which is what keeps test sets parallel.
    """

    make: Callable[[Random, Tongue, int], Values]
    sizes: dict[str, int]
    languages: tuple[str, ...] = LANGUAGES
    train_languages: tuple[str, ...] = ("en",)
    parallel: bool = True
    """Whether all languages say the same facts."""


def rows(kind: str, language: str, split: str) -> Iterator[Values]:
    """The rows of a kind in a language, always the same ones.

    Raises:
        KeyError: no such kind, language or split (a kind may have training data in English only).
    """
    found = KINDS[kind]
    if split not in found.sizes or language not in (found.train_languages if split == "train" else found.languages):
        raise KeyError(f"{kind}/{language}/{split}")
    stream = f"{SEED} {VERSION} {kind} {split}" + ("" if found.parallel else f" {language}")
    draw, speaker = Random(stream), tongue(language)
    for index in range(found.sizes[split]):
        yield found.make(draw, speaker, index)


def splits(kind: str, language: str) -> tuple[str, ...]:
    """The splits that a kind has in a language."""
    found = KINDS[kind]
    return tuple(
        split for split in found.sizes if language in (found.train_languages if split == "train" else found.languages)
    )


@cache
def _translated() -> tuple[Fact, ...]:
    """The facts of the parallel sentences, each once."""
    draw, facts = Random(f"{SEED} {VERSION} parallel facts"), dict[Fact, None]()
    while len(facts) < KINDS["parallel"].sizes["test"]:
        facts[draw_fact(draw)] = None
    return tuple(facts)


@cache
def _held_out() -> frozenset[Fact]:
    return frozenset(_translated())


def _known(thing: Thing, known: bool = True) -> Thing:
    return thing if thing.named else replace(thing, known=known)


def _is_held_out(fact: Fact) -> bool:
    """Whether it is the fact of a parallel sentence, with or without articles."""
    plain = replace(fact, agent=_known(fact.agent, False), patient=_known(fact.patient, False))
    return plain in _held_out()


def _question(draw: Random, fact: Fact) -> Fact:
    """The fact with what is asked for in place of what is known."""
    asked: list[Fact] = [replace(fact, patient=Thing(QUESTIONS["patient"]))]
    if fact.partner is None:
        asked.append(replace(fact, agent=Thing(QUESTIONS["agent"])))
    if fact.place:
        asked.append(replace(fact, place=Place("", QUESTIONS["place"])))
    if fact.time:
        asked.append(replace(fact, time=QUESTIONS["time"]))
    return pick(draw, asked)


def _other_deed(draw: Random, fact: Fact) -> Fact:
    """Something else that the same ones do."""
    return replace(draw_fact(draw), agent=_known(fact.agent), partner=fact.partner)


def _retold(draw: Random, fact: Fact) -> Fact:
    """The same with less detail, as of someone and something known."""
    for _ in range(2):
        fact = change(draw, fact, WEAKER) or fact
    return replace(fact, agent=_known(fact.agent), patient=_known(fact.patient))


def _story(draw: Random, speaker: Tongue, index: int) -> Values:
    """A fact, and mostly a second sentence on the same ones: another deed, the same retold, or a question before it."""
    fact, style, fronted = draw_fact(draw), draw.random(), often(draw, 0.25)
    follows = None if style < 0.5 else _other_deed(draw, fact) if style < 0.75 else _retold(draw, fact)
    if _is_held_out(fact) or (follows and _is_held_out(follows)):
        return _story(draw, speaker, index)
    said = text(speaker.say(fact, fronted=fronted))
    if style < 0.2:
        said = f"{text(speaker.say(_question(draw, fact), end='?'))} {said}"
    if follows:
        said = f"{said} {text(speaker.say(follows, fronted=often(draw, 0.25)))}"
    return {"text": said}


def _nli(draw: Random, speaker: Tongue, index: int) -> Values:
    label = NLI_LABELS[index % len(NLI_LABELS)]
    changes = {"entailment": WEAKER, "neutral": RICHER, "contradiction": CONTRARY}[label]
    while True:
        premise = draw_fact(draw)
        if hypothesis := change(draw, premise, changes):
            break
    first, second = (text(speaker.say(fact, fronted=often(draw, 0.4))) for fact in (premise, hypothesis))
    return {"premise": first, "hypothesis": second, "label": label}


def _paraphrase(draw: Random, speaker: Tongue, index: int) -> Values:
    same, fact = index % 2 == 1, draw_fact(draw)
    other = fact if same else draw_fact(draw)
    first, second = text(speaker.say(fact)), text(speaker.say(other, fronted=True))
    return {"sentence1": first, "sentence2": second, "label": str(int(same))}


def _tagged(draw: Random, speaker: Tongue, index: int) -> Values:  # noqa: ARG001
    words = speaker.say(draw_fact(draw), fronted=often(draw, 0.25))
    return {"words": [word.form for word in words], "tags": [word.tag for word in words]}


def _entities(draw: Random, speaker: Tongue, index: int) -> Values:  # noqa: ARG001
    words = speaker.say(draw_fact(draw), fronted=often(draw, 0.25))
    return {"words": [word.form for word in words], "tags": [word.entity for word in words]}


def _pair(draw: Random, speaker: Tongue, index: int) -> Values:  # noqa: ARG001
    fact = _translated()[index]
    return {"source": text(speaker.say(fact)), "target": text(tongue("en").say(fact))}


KINDS = {
    "text": Kind(_story, {"train": 8000, "dev": 200}, train_languages=LANGUAGES, parallel=False),
    "nli": Kind(_nli, {"train": 4200, "dev": 300, "test": 300}),
    "paraphrase": Kind(_paraphrase, {"train": 4000, "dev": 300, "test": 300}),
    "pos": Kind(_tagged, {"train": 2000, "dev": 200, "test": 300}),
    "ner": Kind(_entities, {"train": 2000, "dev": 200, "test": 300}),
    "parallel": Kind(_pair, {"test": 300}, CONSTRUCTED),
}
