"""Word alignment: links the words of sentences and their translations, and carries spans and tags along the links.

    links = align([(source_words, target_words), ...], progress)

sil-thot's eflomal learns from the pairs themselves, in both directions. S: words of the source, T: of the target.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import unicodedata
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xstilts import languages
from xstilts.errors import UserError
from xstilts.translate.entities import BY_CHARACTER
from xstilts.translate.projection import Marked, Projected, Route, Span
from xstilts.translate.translator import Sentence, Translator
from xstilts.utils.progress import Progress

PACKAGE = "sil-thot"
FEW = 100
"""Links learned from fewer sentences are a guess."""
_UNSPACED = BY_CHARACTER | {"lo", "km", "my"}
_PREFIX = 5
"""A word counts by its first letters, so that its inflected forms learn from each other."""
Words: TypeAlias = Sequence[str]


class Links(NamedTuple):
    """The linked words of a sentence and its translation, as pairs of indices (source, target)."""

    both: frozenset[tuple[int, int]]
    """Links that both directions found; a word has at most one."""
    either: frozenset[tuple[int, int]]
    """Links that one direction or both found."""


def check_installed() -> str:
    """Check that the aligner is installed; returns its name and version.

    Raises:
        UserError: it is not.
    """
    try:
        importlib.import_module("thot.alignment")
    except ImportError:
        message = f"projection by word alignment needs the package {PACKAGE}"
        raise UserError(message, where="--markers align", hint='pip install "xstilts[mt]"') from None
    return f"{PACKAGE} {importlib.metadata.version(PACKAGE)}, eflomal"


def align(pairs: Sequence[tuple[Words, Words]], progress: Progress) -> list[Links]:
    """Learn the links of sentence pairs (source words, target words) from these pairs alone.

    Raises:
        UserError: the aligner is not installed.
    """
    check_installed()
    keys = [(tuple(map(_key, source)), tuple(map(_key, target))) for source, target in pairs]
    found = _align([key for key in dict.fromkeys(keys) if key[0] and key[1]], progress)
    return [found.get(key, Links(frozenset(), frozenset())) for key in keys]


def _align(pairs: Sequence[tuple[Words, Words]], progress: Progress) -> dict[tuple[Words, Words], Links]:
    from thot.alignment import EflomalAlignmentModel

    if len(pairs) < FEW:
        progress.say(f"only {len(pairs)} different sentences to learn word alignment from: expect wrong links")
    directions = []
    for number in (0, 1):
        model = EflomalAlignmentModel()
        model.deterministic = True
        for pair in pairs:
            model.add_sentence_pair(pair[number], pair[1 - number], 1)
        if pairs:
            model.start_training()
            rounds = model.scheduled_iterations
            for done in range(rounds):
                model.train()
                progress.update(number * rounds + done + 1, 2 * rounds, "rounds of word alignment")
            model.end_training()
        directions.append(model)
    found = {}
    for pair in pairs:
        (_, direct), (_, inverse) = (
            model.get_best_alignment(pair[number], pair[1 - number]) for number, model in enumerate(directions)
        )
        links_ST, other_ST = direct.to_numpy(), inverse.to_numpy().T
        both, either = (_pairs(links) for links in (links_ST & other_ST, links_ST | other_ST))
        found[pair] = Links(both, either)
    return found


def _pairs(links_ST: NDArray[np.bool_]) -> frozenset[tuple[int, int]]:
    sources, targets = (indices.tolist() for indices in links_ST.nonzero())
    return frozenset(zip(sources, targets, strict=True))


def _key(word: str) -> str:
    return word.lower()[:_PREFIX]


def word_spans(text: str, language: str) -> list[Span]:
    """The words of a text: runs of letters and digits. Other signs are words of their own.

    So are the letters of languages without blanks between words.

    >>> [[text[a:b] for a, b in word_spans(text, code)] for text, code in (("$5 (हिन्दी).", "hi"), ("去Bern。", "zh"))]
    [['$', '5', '(', 'हिन्दी', ')', '.'], ['去', 'Bern', '。']]
    """
    by_character = languages.base(language) in _UNSPACED
    spans: list[Span] = []
    open_to = ""  # the kinds of characters that go on with the last word: letters, numbers, marks
    for at, character in enumerate(text):
        kind = unicodedata.category(character)
        alone = by_character and kind == "Lo"
        if character.isspace() or not character.isprintable():
            open_to = ""
        elif kind[0] in open_to and not alone:
            spans[-1] = (spans[-1][0], at + 1)
        else:
            spans.append((at, at + 1))
            open_to = "M" if alone else "LNM" if kind[0] in "LN" else ""
    return spans


def project_spans(marked: Sequence[Marked], translator: Translator) -> list[Projected]:
    """Translate texts without markers sentence by sentence, and find their spans along the links of their words.

    Raises:
        UserError: the engine fails, or the aligner is not installed.
    """
    check_installed()
    translated = translator.sentences((one.plain for one in marked), split=True)
    languages_ = translator.pair
    pairs = []
    for sentence in (sentence for text in translated for sentence in text):
        sides = zip((sentence.source, sentence.text), languages_, strict=True)
        pairs.append(tuple([text[a:b] for a, b in word_spans(text, code)] for text, code in sides))
    links = iter(align([(source, target) for source, target in pairs], translator.progress))
    return [
        _projected(one, text, [next(links) for _ in text], languages_)
        for one, text in zip(marked, translated, strict=True)
    ]


def _projected(marked: Marked, text: Sequence[Sentence], links: Sequence[Links], pair: tuple[str, str]) -> Projected:
    """The spans of a text in its translated sentences."""
    target_of: dict[int, list[Span]] = {}
    first, offsets = 0, accumulate((len(one.text) + len(one.after) for one in text), initial=0)
    for sentence, linked, offset in zip(text, links, offsets, strict=False):
        targets = [(start + offset, end + offset) for start, end in word_spans(sentence.text, pair[1])]
        for source, target in linked.either:
            target_of.setdefault(first + source, []).append(targets[target])
        first += len(word_spans(sentence.source, pair[0]))
    words = word_spans(marked.plain, pair[0])
    if len(words) != first:
        target_of = {}  # a sentence ends inside a word, so words and links do not belong together
    spans = []
    for start, end in marked.spans:
        numbers = [number for number, word in enumerate(words) if word[0] < end and word[1] > start]
        found = [target for number in numbers for target in target_of.get(number, ())]
        spans.append((min(a for a, _ in found), max(b for _, b in found)) if found else None)
    routes: tuple[Route, ...] = tuple("align" if span else "dropped" for span in spans)
    return Projected(Sentence.join(text), tuple(spans), routes, marked)


def project_tags(
    sentences: Sequence[tuple[Words, Words]], links: Sequence[Links]
) -> tuple[list[list[str] | None], Counter[str]]:
    """Tag the words of translations; also how many words each route tagged.

    A word has the tag of the word to which both directions link it. Otherwise it has the tag that it mostly has in
    the other sentences, or that of a word to which one direction links it.

    Args:
        sentences: the tags of a sentence, and the words of its translation.
        links: the links of their words.

    Returns:
        For each sentence its tags, None if a word has none.
    """
    linked = [{t: tags[s] for s, t in sorted(one.both)} for (tags, _), one in zip(sentences, links, strict=True)]
    elsewhere: dict[str, Counter[str]] = {}
    for (_, target), tag_of in zip(sentences, linked, strict=True):
        for at, tag in tag_of.items():
            elsewhere.setdefault(target[at].lower(), Counter())[tag] += 1
    mostly = {word: min(tags, key=lambda tag: (-tags[tag], tag)) for word, tags in elsewhere.items()}
    routes: Counter[str] = Counter()
    tagged: list[list[str] | None] = []
    for (tags, target), tag_of, one in zip(sentences, linked, links, strict=True):
        one_way = {t: tags[s] for s, t in sorted(one.either, reverse=True)}
        found = []
        for at, word in enumerate(target):
            ways = (("linked", tag_of.get(at)), ("elsewhere", mostly.get(word.lower())), ("one_way", one_way.get(at)))
            route, tag = next(((route, tag) for route, tag in ways if tag), ("untagged", ""))
            routes[route] += 1
            found.append(tag)
        tagged.append(None if "" in found or not found else found)
    return tagged, routes
