"""What of a tag task's labels was in its training data, and how accurate its predictions are there and elsewhere."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import fmean, median
from typing import TypeAlias

from xstilts.analysis.results import StudyResults
from xstilts.errors import UserError
from xstilts.formats.tag import Tagged
from xstilts.metrics.chunks import chunks
from xstilts.store.rows import Prediction
from xstilts.study.index import StudyTask

Counts: TypeAlias = dict[str, tuple[int, int]]
"""For each set of n-grams or entities: how many are predicted right, and how many there are."""

SIZES = (3, 4)
"""Of the n-grams."""


@dataclass(frozen=True)
class SetAccuracy:
    """A branch's accuracy on a set of a language's n-grams or entities, in percent, as the median over the seeds.

    `n` is the size of the set; an empty one has no accuracy. `runs` counts the seeds.
    """

    task: str
    branch: str
    language: str
    split: str
    set: str
    n: int
    runs: int
    accuracy: float | None


def set_accuracies(
    results: StudyResults, task: StudyTask, count: Callable[[Sequence[Prediction]], Counts]
) -> Iterator[SetAccuracy]:
    """The accuracies of every branch in every language: on dev, or on test for a language without dev labels."""
    finished = {score.step for score in results.scores}
    cells = [cell for cell in results.study.cells if cell.task == task.name and cell.step in finished]
    counted = {step: _by_language(results.predictions(step), task, count) for step in {cell.step for cell in cells}}
    for branch in results.study.branches:
        runs = [counted[cell.step] for cell in cells if cell.branch == branch]
        for language in task.languages:
            found = [run[language] for run in runs if language in run]
            for name in found[0][1] if found else ():
                parts = [counts[name] for _, counts in found]
                shares = [100 * right / total for right, total in parts if total]
                accuracy = median(shares) if shares else None
                yield SetAccuracy(task.name, branch, language, found[0][0], name, parts[0][1], len(found), accuracy)


def _by_language(
    rows: Iterable[Prediction], task: StudyTask, count: Callable[[Sequence[Prediction]], Counts]
) -> dict[str, tuple[str, Counts]]:
    """The split and the counts of each language with labels."""
    by_split: dict[tuple[str, str], list[Prediction]] = defaultdict(list)
    for row in rows:
        if row.task == task.name and row.reference is not None:
            by_split[row.language, row.split].append(row)
    shown = {language: split for split in ("test", "dev") for language, of in by_split if of == split}
    return {language: (split, count(by_split[language, split])) for language, split in shown.items()}


def marks_chunks(results: StudyResults, task: StudyTask) -> bool:
    """Whether a task's tags mark chunks, such as entities, and are not each a word's own."""
    finished = {score.step for score in results.scores if score.task == task.name}
    rows = results.predictions(min(finished)) if finished else ()
    return any(re.match("[BIES]-", tag) for row in rows if row.reference for tag in row.reference)


def ngram_counter(train: Iterable[Tagged]) -> Callable[[Sequence[Prediction]], Counts]:
    """Counts n-grams of tags by whether the training data have them; one is right if all its tags are.

    >>> count = ngram_counter([Tagged(("a", "dog", "barks"), ("DET", "NOUN", "VERB"))])
    >>> row = Prediction("pos", "de", "dev", 0, "0", ["DET", "NOUN", "VERB", "X"], ["DET", "NOUN", "VERB", "ADV"])
    >>> count([row])
    {'3-grams seen': (1, 1), '3-grams unseen': (0, 1), '4-grams seen': (0, 0), '4-grams unseen': (0, 1)}
    """
    tags = [example.tags for example in train if example.tags]
    known = {size: {gram for sentence in tags for gram in _ngrams(sentence, size)} for size in SIZES}

    def count(rows: Sequence[Prediction]) -> Counts:
        right, total = Counter[str](), Counter[str]()
        for row in rows:
            for size in SIZES:
                pairs = zip(_ngrams(row.reference, size), _ngrams(row.prediction, size), strict=True)
                for gram, predicted in pairs:
                    name = f"{size}-grams {'seen' if gram in known[size] else 'unseen'}"
                    total[name] += 1
                    right[name] += gram == predicted
        names = [f"{size}-grams {kind}" for size in SIZES for kind in ("seen", "unseen")]
        return {name: (right[name], total[name]) for name in names}

    return count


def _ngrams(tags: Sequence[str], size: int) -> Iterator[tuple[str, ...]]:
    return zip(*(tags[i:] for i in range(size)), strict=False)


SEEN, UNSEEN, SHORT, LATIN, FREQUENT = "seen", "not seen", "short", "Latin", "frequent"


def entity_counter(train: Iterable[Tagged]) -> Callable[[Sequence[Prediction]], Counts]:
    """Counts the entities of XTREME's five sets; one is right if its words and its type are predicted exactly.

    Seen: two or more consecutive words of it are an entity of the training data. Short: at most two words.
    Latin: all its letters are. Frequent: its words are an entity at least twice in these rows.

    Raises:
        UserError: the predictions have no texts.
    """
    known = {words for example in train if example.tags for words, *_ in _entities(example.words, example.tags)}

    def count(rows: Sequence[Prediction]) -> Counts:
        found = [(_entities(row.text, row.reference), {*chunks([row.prediction])}) for row in _with_words(rows)]
        times = Counter(words for entities, _ in found for words, *_ in entities)
        right, total = Counter[str](), Counter[str]()
        for (words, *chunk), predicted in ((entity, predicted) for entities, predicted in found for entity in entities):
            sets = {
                SEEN: (is_seen := _is_seen(words, known)),
                UNSEEN: not is_seen,
                SHORT: len(words) <= 2,
                LATIN: _is_latin(words),
                FREQUENT: times[words] > 1,
            }
            for name in (name for name, holds in sets.items() if holds):
                total[name] += 1
                right[name] += tuple(chunk) in predicted
        return {name: (right[name], total[name]) for name in (SEEN, UNSEEN, SHORT, LATIN, FREQUENT)}

    return count


def _with_words(rows: Sequence[Prediction]) -> Sequence[Prediction]:
    if any(not isinstance(row.text, list) or len(row.text) != len(row.reference) for row in rows):
        hint = "run the recipe again with --with-text, which adds them to what is done"
        raise UserError("the predictions have no words", where=rows[0].task, hint=hint)
    return rows


def _entities(words: Sequence[str], tags: Sequence[str]) -> list[tuple[tuple[str, ...], str, int, int]]:
    """The words, type, first and last word's number of each entity."""
    return [(tuple(words[first : last + 1]), kind, first, last) for kind, first, last in chunks([tags])]


def _is_seen(words: tuple[str, ...], known: set[tuple[str, ...]]) -> bool:
    """Whether two or more consecutive words are a known entity.

    >>> known = {("New", "York"), ("Paris",)}
    >>> [_is_seen(tuple(text.split()), known) for text in ("New York City", "Paris Hilton", "York New")]
    [True, False, False]
    """
    spans = ((i, j) for i in range(len(words)) for j in range(i + 2, len(words) + 1))
    return any(words[i:j] in known for i, j in spans)


def _is_latin(words: Sequence[str]) -> bool:
    """Whether words have letters, all of them Latin.

    >>> [_is_latin([text]) for text in ("Łódź", "U2", "1984", "Афины", "Ω-3")]
    [True, True, False, False, False]
    """
    letters = {letter for letter in chain(*words) if letter.isalpha()}
    return bool(letters) and all(unicodedata.name(letter, "").startswith("LATIN") for letter in letters)


def mean_and_difference(
    values: Mapping[str, float | None], is_trained: Callable[[str], bool]
) -> tuple[float | None, float | None]:
    """The mean over the languages that a task is not trained on, and the training languages' mean minus it.

    >>> mean_and_difference({"en": 90.0, "de": 70.0, "sw": 50.0, "th": None}, lambda code: code == "en")
    (60.0, 30.0)
    """
    others = [value for code, value in values.items() if value is not None and not is_trained(code)]
    trained = [value for code, value in values.items() if value is not None and is_trained(code)]
    mean = fmean(others) if others else None
    return mean, fmean(trained) - mean if trained and mean is not None else None
