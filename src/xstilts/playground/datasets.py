"""The playground's data sets: one function each makes a row in a language from random facts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from random import Random
from typing import TypeAlias

from xstilts.playground.languages import LANGUAGES, VERSION, Language, get_language, text
from xstilts.playground.stories import as_definite, draw_passage, draw_retellings, other_action, parts, question_about
from xstilts.playground.world import (
    CONTRADICTING_CHANGES,
    ENTAILING_CHANGES,
    NEUTRAL_CHANGES,
    Fact,
    change,
    draw_fact,
    flip,
    pick,
)

Values: TypeAlias = dict[str, object]
MakeRows: TypeAlias = Callable[[Random, Language, int], Iterator[Values]]

SEED = 2020
NLI_CHANGES = {"entailment": ENTAILING_CHANGES, "neutral": NEUTRAL_CHANGES, "contradiction": CONTRADICTING_CHANGES}
CONSTRUCTED = LANGUAGES[1:]


@dataclass(frozen=True)
class Dataset:
    """How the rows of a data set are made, and how many each split has.

    `make` must draw the same random numbers in every language, so that test sets are parallel.
    """

    make: MakeRows
    sizes: dict[str, int]
    languages: tuple[str, ...] = LANGUAGES
    train_languages: tuple[str, ...] = ("en",)
    parallel: bool = True
    """Whether all languages have the same facts."""


def rows(dataset: str, language: str, split: str) -> Iterator[Values]:
    """The rows of a data set in a language, the same in every call.

    Raises:
        KeyError: no such data set, language or split (a data set may have training data in English only).
    """
    found = DATASETS[dataset]
    if split not in splits(dataset, language):
        raise KeyError(f"{dataset}/{language}/{split}")
    seed = f"{SEED} {VERSION} {dataset} {split}" + ("" if found.parallel else f" {language}")
    yield from found.make(Random(seed), get_language(language), found.sizes[split])


def splits(dataset: str, language: str) -> tuple[str, ...]:
    """The splits of a data set in a language."""
    found = DATASETS[dataset]
    return tuple(
        split for split in found.sizes if language in (found.train_languages if split == "train" else found.languages)
    )


@cache
def _parallel_facts() -> tuple[Fact, ...]:
    """The distinct facts of the parallel sentences."""
    rng, facts = Random(f"{SEED} {VERSION} parallel facts"), dict[Fact, None]()
    while len(facts) < DATASETS["parallel"].sizes["test"]:
        facts[draw_fact(rng)] = None
    return tuple(facts)


@cache
def _held_out() -> frozenset[Fact]:
    return frozenset(_parallel_facts())


def _is_held_out(fact: Fact) -> bool:
    """Whether a parallel sentence states the fact, with or without articles."""
    plain = replace(fact, agent=as_definite(fact.agent, False), patient=as_definite(fact.patient, False))
    return plain in _held_out()


def _with_less_detail(rng: Random, fact: Fact) -> Fact:
    """The fact with less detail and definite articles."""
    for _ in range(2):
        fact = change(rng, fact, ENTAILING_CHANGES) or fact
    return replace(fact, agent=as_definite(fact.agent), patient=as_definite(fact.patient))


def _story(rng: Random, language: Language, index: int) -> Values:
    """A fact, often with another action of the same agent, a retelling, or a question before it."""
    fact, style, fronted = draw_fact(rng), rng.random(), flip(rng, 0.25)
    follows = None if style < 0.5 else other_action(rng, fact) if style < 0.75 else _with_less_detail(rng, fact)
    if _is_held_out(fact) or (follows and _is_held_out(follows)):
        return _story(rng, language, index)
    sentences = text(language.say(fact, fronted=fronted))
    if style < 0.2:
        sentences = f"{text(language.say(question_about(fact, pick(rng, parts(fact))), end='?'))} {sentences}"
    if follows:
        sentences = f"{sentences} {text(language.say(follows, fronted=flip(rng, 0.25)))}"
    return {"text": sentences}


def _nli(rng: Random, language: Language, index: int) -> Values:
    label = tuple(NLI_CHANGES)[index % len(NLI_CHANGES)]
    while True:
        premise = draw_fact(rng)
        if hypothesis := change(rng, premise, NLI_CHANGES[label]):
            break
    first, second = (text(language.say(fact, fronted=flip(rng, 0.4))) for fact in (premise, hypothesis))
    return {"premise": first, "hypothesis": second, "label": label}


def _paraphrase(rng: Random, language: Language, index: int) -> Values:
    same, fact = index % 2 == 1, draw_fact(rng)
    other = fact if same else draw_fact(rng)
    first, second = text(language.say(fact)), text(language.say(other, fronted=True))
    return {"sentence1": first, "sentence2": second, "label": str(int(same))}


def _pos(rng: Random, language: Language, index: int) -> Values:  # noqa: ARG001
    words = language.say(draw_fact(rng), fronted=flip(rng, 0.25))
    return {"words": [word.form for word in words], "tags": [word.tag for word in words]}


def _ner(rng: Random, language: Language, index: int) -> Values:  # noqa: ARG001
    words = language.say(draw_fact(rng), fronted=flip(rng, 0.25))
    return {"words": [word.form for word in words], "tags": [word.entity for word in words]}


def _parallel(rng: Random, language: Language, index: int) -> Values:  # noqa: ARG001
    fact = _parallel_facts()[index]
    return {"source": text(language.say(fact)), "target": text(get_language("en").say(fact))}


def _each(make: Callable[[Random, Language, int], Values]) -> MakeRows:
    """Make the rows one by one, from their index."""

    def make_rows(rng: Random, language: Language, count: int) -> Iterator[Values]:
        return (make(rng, language, index) for index in range(count))

    return make_rows


def _mined(rng: Random, language: Language, count: int) -> Iterator[Values]:
    """Two shuffled sets of sentences; half of each have a translation in the other."""
    each, facts = count // 2, dict[Fact, None]()
    while len(facts) < each + each // 2:
        facts[draw_fact(rng)] = None
    shared, *unshared = (list(facts)[start : start + each // 2] for start in range(0, len(facts), each // 2))
    queries, candidates = (sorted(shared + others, key=lambda _: rng.random()) for others in unshared)
    ids = {fact: f"en-{number:03}" for number, fact in enumerate(candidates)}
    for number, fact in enumerate(queries):
        id = f"{language.grammar.code}-{number:03}"
        yield {"query": text(language.say(fact)), "id": id, "relevant": [ids[fact]] if fact in ids else []}
    for fact in candidates:
        yield {"candidate": text(get_language("en").say(fact)), "id": ids[fact]}


def _choice(rng: Random, language: Language, index: int) -> Values:  # noqa: ARG001
    fact, retelling, wrong = draw_retellings(rng)
    endings = sorted([retelling, *wrong], key=lambda _: rng.random())
    context, *texts = (text(language.say(one, fronted=flip(rng, 0.25))) for one in (fact, *endings))
    return {"context": context, "endings": texts, "label": endings.index(retelling)}


def _reading(facts: int, less_detail: float, unanswered: float = 0.0) -> Callable[[Random, Language, int], Values]:
    """Make contexts of so many facts with a question; the share `unanswered` lacks the answer."""

    def make(rng: Random, language: Language, index: int) -> Values:
        no_answer = flip(rng, unanswered)
        passage = draw_passage(rng, facts + no_answer, less_detail)
        story = [(fact, flip(rng, 0.25)) for fact in passage.facts]
        sentences = [text(language.say(fact, fronted=fronted)) for fact, fronted in story]
        fact, fronted = story[passage.at]
        answer, start = language.find(fact, passage.part, fronted=fronted)
        start += sum(len(sentence) + 1 for sentence in sentences[: passage.at])
        if no_answer:
            del sentences[passage.at]
        return {
            "id": f"{index:04}",
            "context": " ".join(sentences),
            "question": text(language.say(passage.question, end="?")),
            "answers": [] if no_answer else [{"text": answer, "answer_start": start}],
        }

    return make


DATASETS = {
    "text": Dataset(_each(_story), {"train": 8000, "dev": 200}, train_languages=LANGUAGES, parallel=False),
    "nli": Dataset(_each(_nli), {"train": 4200, "dev": 300, "test": 300}),
    "paraphrase": Dataset(_each(_paraphrase), {"train": 4000, "dev": 300, "test": 300}),
    "pos": Dataset(_each(_pos), {"train": 2000, "dev": 200, "test": 300}),
    "ner": Dataset(_each(_ner), {"train": 2000, "dev": 200, "test": 300}),
    "choice": Dataset(_each(_choice), {"train": 3000, "dev": 200, "test": 300}),
    "questions": Dataset(_each(_reading(2, 0.3)), {"train": 4000, "dev": 200, "test": 300}),
    "passages": Dataset(_each(_reading(3, 0.3)), {"dev": 200, "test": 300}, parallel=False),
    "facts": Dataset(_each(_reading(2, 0.6)), {"train": 2000, "dev": 200, "test": 300}, parallel=False),
    "maybe": Dataset(_each(_reading(2, 0.3, unanswered=0.33)), {"train": 4000, "dev": 200, "test": 300}),
    "mined": Dataset(_mined, {"dev": 400, "test": 400}, CONSTRUCTED),
    "parallel": Dataset(_each(_parallel), {"test": 300}, CONSTRUCTED),
}
