"""Metrics of answers to questions, in percent: exact match and word F1, by the rules of SQuAD 1.1, SQuAD 2 and MLQA.

The rules lower-case answers, remove punctuation and articles, and split into words, each in its own way. For each
question the best match with a right answer counts. A reference is the list of right answers; `[""]` or an empty list
means that there is none. A prediction is a text; None means that it is missing and scores 0.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from xstilts import languages
from xstilts.metrics.metric import Array, Metric, share


class Rules(NamedTuple):
    """How an answer is normalized and split into words."""

    articles: str = ""
    """A pattern; a space replaces what it matches."""
    unicode: bool = True
    """Whether to remove all Unicode punctuation (P*) or only ASCII's; ASCII's symbols go in both cases."""
    single: str = ""
    """A pattern of characters that are words by themselves."""
    unanswerable: bool = False
    """Whether an empty answer gets F1 = 1 if no right answer has a word."""


_ENGLISH = r"\b(?:a|an|the)\b"
SQUAD = Rules(_ENGLISH, unicode=False)
SQUAD2 = Rules(_ENGLISH, unicode=False, unanswerable=True)
MLQA = {
    "en": Rules(_ENGLISH),
    "de": Rules(r"\b(?:ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b"),
    "es": Rules(r"\b(?:un|una|unos|unas|el|la|los|las)\b"),
    "vi": Rules(r"\b(?:của|là|cái|chiếc|những)\b"),
    "ar": Rules("ال"),  # anywhere in a word: the rest of the official pattern never matches
    "zh": Rules(single="[\u4e00-\u9fa5]"),
}
"""By language; the others have no articles, and spaces between words."""


def mlqa_rules(language: str) -> Rules:
    """MLQA's rules for a language."""
    return MLQA.get(languages.base(language), Rules())


def words(text: str, rules: Rules = SQUAD) -> list[str]:
    """The words of a normalized answer.

    >>> words("The Mill's  wheel, and a door.")
    ['mills', 'wheel', 'and', 'door']
    >>> words("《红楼梦》 is a novel", mlqa_rules("zh"))
    ['红', '楼', '梦', 'is', 'a', 'novel']
    """
    normalized = "".join(char for char in text.lower() if not _punctuation(char, rules.unicode))
    if rules.articles:
        normalized = re.sub(rules.articles, " ", normalized)
    if rules.single:
        normalized = re.sub(rules.single, r" \g<0> ", normalized)
    return normalized.split()


def _punctuation(char: str, all_unicode: bool) -> bool:
    return char in string.punctuation or (all_unicode and unicodedata.category(char)[0] == "P")


def match(right: Sequence[str], answer: str | None, rules: Rules = SQUAD) -> tuple[float, float]:
    """The best exact match and the best F1 over the right answers of a question, from 0 to 1.

    >>> match(["the river", "a wide river"], "wide river")
    (1.0, 1.0)
    """
    if answer is None:
        return 0.0, 0.0
    golds, predicted = [words(text, rules) for text in right] or [[]], words(answer, rules)
    if rules.unanswerable:
        golds = [gold for gold in golds if gold] or [[]]
    return max(float(gold == predicted) for gold in golds), max(_f1(gold, predicted, rules) for gold in golds)


def _f1(gold: list[str], predicted: list[str], rules: Rules) -> float:
    if not gold and not predicted:
        return float(rules.unanswerable)
    return 2 * (Counter(gold) & Counter(predicted)).total() / (len(gold) + len(predicted))


def matches(references: Sequence[Sequence[str]], predictions: Sequence[str | None], rules: Rules = SQUAD) -> Array:
    """Exact match, F1 and a count of 1 per question, [N, 3]; English articles in every language (XQuAD, TyDiQA).

    >>> METRICS["em"].score([["the mill"], ["1894"]], ["Mill!", "in 1894"])
    50.0
    >>> METRICS["f1"].score([["the old mill"], ["1894"]], ["old stone", "in 1894 or so"])  # 1/2 and 2 * 1 / (1 + 4)
    45.0
    >>> METRICS["f1_em"].score([["the mill"], ["1894"]], ["Mill!", "in 1894 or so"])  # of 70 and 50
    60.0
    """
    pairs = zip(references, predictions, strict=True)
    return np.array([[*match(right, answer, rules), 1.0] for right, answer in pairs])


def squad2_matches(references: Sequence[Sequence[str]], predictions: Sequence[str | None]) -> Array:
    """The same by SQuAD 2's rules: the right answer to an unanswerable question is "", and any word is wrong.

    >>> METRICS["squad2_em"].score([[""], ["mill"], [""], ["1894"]], ["", "", "mill", "1894"])
    50.0
    >>> METRICS["squad2_f1"].score([[""], ["old mill"], [""], ["1894"]], ["", "mill", "mill", ""])  # 1, 2/3, 0, 0
    41.666666666666664
    >>> METRICS["squad2_f1_em"].score([[""], ["old mill"]], ["", "mill"])  # of 83.3 and 50
    66.66666666666666
    """
    return matches(references, predictions, SQUAD2)


def mlqa_matches(references: Sequence[Sequence[str]], predictions: Sequence[str | None], language: str) -> Array:
    """The same by MLQA's rules for the answers' language; in Chinese a character is a word.

    >>> METRICS["mlqa_em"].score([["die Mühle"], ["1894"]], ["„Mühle“", "the 1894"], "de")
    50.0
    >>> METRICS["mlqa_f1"].score([["石磨坊"]], ["磨坊。"], "zh")  # 2 * 2 / (3 + 2)
    80.0
    >>> METRICS["mlqa_f1_em"].score([["el molino viejo gris"], ["1894"]], ["molino", "¿1894?"], "es")  # of 75 and 50
    62.5
    """
    return matches(references, predictions, mlqa_rules(language))


def exact_match(sums: Array) -> Array:
    """Mean exact match in percent."""
    return share(sums[..., 0], sums[..., 2])


def word_f1(sums: Array) -> Array:
    """Mean F1 in percent."""
    return share(sums[..., 1], sums[..., 2])


def f1_and_exact_match(sums: Array) -> Array:
    """The mean of F1 and exact match; the leaderboard averages it."""
    mean: Array = (exact_match(sums) + word_f1(sums)) / 2
    return mean


_OFFICIAL = {"exact_match": exact_match, "f1": word_f1}

METRICS = {
    metric.name: metric
    for metric in (
        Metric("f1_em", matches, f1_and_exact_match, official=_OFFICIAL),
        Metric("f1", matches, word_f1),
        Metric("em", matches, exact_match),
        Metric("squad2_f1_em", squad2_matches, f1_and_exact_match, official=_OFFICIAL),
        Metric("squad2_f1", squad2_matches, word_f1),
        Metric("squad2_em", squad2_matches, exact_match),
        Metric("mlqa_f1_em", mlqa_matches, f1_and_exact_match, by_language=True, official=_OFFICIAL),
        Metric("mlqa_f1", mlqa_matches, word_f1, by_language=True),
        Metric("mlqa_em", mlqa_matches, exact_match, by_language=True),
    )
}
