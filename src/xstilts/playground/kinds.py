"""The kinds of rows the playground gives: one small function each, from drawn facts to a row in one language."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from random import Random
from typing import TypeAlias

from xstilts.playground.languages import LANGUAGES, VERSION, Tongue, text, tongue
from xstilts.playground.stories import draw_passage, draw_retellings, known, other_deed, parts, question_about
from xstilts.playground.world import CONTRARY, RICHER, WEAKER, Fact, change, draw_fact, often, pick

Values: TypeAlias = dict[str, object]
Maker: TypeAlias = Callable[[Random, Tongue, int], Iterator[Values]]

SEED = 2020
NLI_LABELS = ("entailment", "neutral", "contradiction")
CONSTRUCTED = LANGUAGES[1:]


@dataclass(frozen=True)
class Kind:
    """How rows of one kind are made, and how many.

    `make` draws so many rows; it must draw the same whatever the language, which is what keeps test sets parallel.
    """

    make: Maker
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
    if split not in splits(kind, language):
        raise KeyError(f"{kind}/{language}/{split}")
    stream = f"{SEED} {VERSION} {kind} {split}" + ("" if found.parallel else f" {language}")
    yield from found.make(Random(stream), tongue(language), found.sizes[split])


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


def _is_held_out(fact: Fact) -> bool:
    """Whether it is the fact of a parallel sentence, with or without articles."""
    plain = replace(fact, agent=known(fact.agent, False), patient=known(fact.patient, False))
    return plain in _held_out()


def _retold(draw: Random, fact: Fact) -> Fact:
    """The same with less detail, as of someone and something known."""
    for _ in range(2):
        fact = change(draw, fact, WEAKER) or fact
    return replace(fact, agent=known(fact.agent), patient=known(fact.patient))


def _story(draw: Random, speaker: Tongue, index: int) -> Values:
    """A fact, and mostly a second sentence on the same ones: another deed, the same retold, or a question before it."""
    fact, style, fronted = draw_fact(draw), draw.random(), often(draw, 0.25)
    follows = None if style < 0.5 else other_deed(draw, fact) if style < 0.75 else _retold(draw, fact)
    if _is_held_out(fact) or (follows and _is_held_out(follows)):
        return _story(draw, speaker, index)
    sentences = text(speaker.say(fact, fronted=fronted))
    if style < 0.2:
        sentences = f"{text(speaker.say(question_about(fact, pick(draw, parts(fact))), end='?'))} {sentences}"
    if follows:
        sentences = f"{sentences} {text(speaker.say(follows, fronted=often(draw, 0.25)))}"
    return {"text": sentences}


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


def _each(make: Callable[[Random, Tongue, int], Values]) -> Maker:
    """Makes the rows one by one, from their number."""

    def maker(draw: Random, speaker: Tongue, count: int) -> Iterator[Values]:
        return (make(draw, speaker, index) for index in range(count))

    return maker


def _mined(draw: Random, speaker: Tongue, count: int) -> Iterator[Values]:
    """Two pools of sentences, half of each with a translation in the other; then nothing tells which."""
    each, facts = count // 2, dict[Fact, None]()
    while len(facts) < each + each // 2:
        facts[draw_fact(draw)] = None
    both, *alone = (list(facts)[start : start + each // 2] for start in range(0, len(facts), each // 2))
    here, there = (sorted(both + others, key=lambda _: draw.random()) for others in alone)
    ids = {fact: f"en-{number:03}" for number, fact in enumerate(there)}
    for number, fact in enumerate(here):
        id = f"{speaker.grammar.code}-{number:03}"
        yield {"query": text(speaker.say(fact)), "id": id, "relevant": [ids[fact]] if fact in ids else []}
    for fact in there:
        yield {"candidate": text(tongue("en").say(fact)), "id": ids[fact]}


def _choice(draw: Random, speaker: Tongue, index: int) -> Values:  # noqa: ARG001
    fact, retelling, wrong = draw_retellings(draw)
    endings = sorted([retelling, *wrong], key=lambda _: draw.random())
    context, *texts = (text(speaker.say(one, fronted=often(draw, 0.25))) for one in (fact, *endings))
    return {"context": context, "endings": texts, "label": endings.index(retelling)}


def _questioned(facts: int, vague: float, unanswered: float = 0.0) -> Callable[[Random, Tongue, int], Values]:
    """Makes texts of so many facts with a question; a share of them lack the fact that would answer it."""

    def make(draw: Random, speaker: Tongue, index: int) -> Values:
        without = often(draw, unanswered)
        passage = draw_passage(draw, facts + without, vague)
        story = [(fact, often(draw, 0.25)) for fact in passage.facts]
        sentences = [text(speaker.say(fact, fronted=fronted)) for fact, fronted in story]
        fact, fronted = story[passage.at]
        answer, start = speaker.find(fact, passage.part, fronted=fronted)
        start += sum(len(sentence) + 1 for sentence in sentences[: passage.at])
        if without:
            del sentences[passage.at]
        return {
            "id": f"{index:04}",
            "context": " ".join(sentences),
            "question": text(speaker.say(passage.question, end="?")),
            "answers": [] if without else [{"text": answer, "answer_start": start}],
        }

    return make


KINDS = {
    "text": Kind(_each(_story), {"train": 8000, "dev": 200}, train_languages=LANGUAGES, parallel=False),
    "nli": Kind(_each(_nli), {"train": 4200, "dev": 300, "test": 300}),
    "paraphrase": Kind(_each(_paraphrase), {"train": 4000, "dev": 300, "test": 300}),
    "pos": Kind(_each(_tagged), {"train": 2000, "dev": 200, "test": 300}),
    "ner": Kind(_each(_entities), {"train": 2000, "dev": 200, "test": 300}),
    "choice": Kind(_each(_choice), {"train": 3000, "dev": 200, "test": 300}),
    "questions": Kind(_each(_questioned(2, 0.3)), {"train": 4000, "dev": 200, "test": 300}),
    "passages": Kind(_each(_questioned(3, 0.3)), {"dev": 200, "test": 300}, parallel=False),
    "facts": Kind(_each(_questioned(2, 0.6)), {"train": 2000, "dev": 200, "test": 300}, parallel=False),
    "maybe": Kind(_each(_questioned(2, 0.3, unanswered=0.33)), {"train": 4000, "dev": 200, "test": 300}),
    "mined": Kind(_mined, {"dev": 400, "test": 400}, CONSTRUCTED),
    "parallel": Kind(_each(_pair), {"test": 300}, CONSTRUCTED),
}
