"""Scores of answers to questions, in percent: exact match and word F1, by the rules of SQuAD 1.1, SQuAD 2 and MLQA.

Answers are lower-cased, lose punctuation and articles, and are cut into words; the rules differ in what these are. For
each question the best of the right answers counts. A reference is the list of right answers, where `[""]`, or an empty
list, says that there is none. A prediction is a text, or None where there is no prediction at all, which scores 0.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple


class Rules(NamedTuple):
    """What does not matter about an answer."""

    articles: str = ""
    """A pattern; what it matches is taken for a blank."""
    unicode: bool = True
    """Whether all punctuation of Unicode (P*) is deleted, or only that of ASCII; ASCII's symbols are in both cases."""
    single: str = ""
    """A pattern of characters that are words by themselves."""
    unanswerable: bool = False
    """Whether an empty answer is fully right, F1 included, where no right answer has a word."""


_ENGLISH = r"\b(?:a|an|the)\b"
SQUAD = Rules(_ENGLISH, unicode=False)
SQUAD2 = Rules(_ENGLISH, unicode=False, unanswerable=True)
MLQA = {
    "en": Rules(_ENGLISH),
    "de": Rules(r"\b(?:ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b"),
    "es": Rules(r"\b(?:un|una|unos|unas|el|la|los|las)\b"),
    "vi": Rules(r"\b(?:của|là|cái|chiếc|những)\b"),
    "ar": Rules("ال"),  # wherever it stands: the other half of the official pattern can match nothing
    "zh": Rules(single="[\u4e00-\u9fa5]"),
}
"""By language; the others have no articles, and blanks between words."""


def mlqa_rules(language: str) -> Rules:
    """MLQA's rules for a language."""
    return MLQA.get(language, Rules())


def words(text: str, rules: Rules = SQUAD) -> list[str]:
    """What matters of an answer.

    >>> words("The Mill's  wheel, and a door.")
    ['mills', 'wheel', 'and', 'door']
    >>> words("《红楼梦》 is a novel", mlqa_rules("zh"))
    ['红', '楼', '梦', 'is', 'a', 'novel']
    """
    kept = "".join(char for char in text.lower() if not _punctuation(char, rules.unicode))
    if rules.articles:
        kept = re.sub(rules.articles, " ", kept)
    if rules.single:
        kept = re.sub(rules.single, r" \g<0> ", kept)
    return kept.split()


def _punctuation(char: str, all_unicode: bool) -> bool:
    return char in string.punctuation or (all_unicode and unicodedata.category(char)[0] == "P")


class AnswerScores(NamedTuple):
    """Means over questions, in percent."""

    exact_match: float
    f1: float


def answer_scores(
    references: Sequence[Sequence[str]], predictions: Sequence[str | None], rules: Rules = SQUAD
) -> AnswerScores:
    """Exact match and F1.

    >>> answer_scores([["the river", "a wide river"], ["1894"]], ["wide river", None])
    AnswerScores(exact_match=50.0, f1=50.0)
    """
    assert len(references) == len(predictions), f"{len(references)} references, {len(predictions)} predictions"
    assert references, "there is nothing to score"
    each = [_best(*pair, rules) for pair in zip(references, predictions, strict=True) if pair[1] is not None]
    return AnswerScores(*(100.0 * sum(scores[i] for scores in each) / len(references) for i in (0, 1)))


def _best(right: Sequence[str], answer: str | None, rules: Rules) -> tuple[float, float]:
    """The best exact match and the best F1 over the right answers of a question, from 0 to 1."""
    golds, given = [words(text, rules) for text in right] or [[]], words(answer or "", rules)
    if rules.unanswerable:
        golds = [gold for gold in golds if gold] or [[]]
    return max(float(gold == given) for gold in golds), max(_f1(gold, given, rules) for gold in golds)


def _f1(gold: list[str], given: list[str], rules: Rules) -> float:
    if not gold and not given:
        return float(rules.unanswerable)
    return 2 * (Counter(gold) & Counter(given)).total() / (len(gold) + len(given))


def em(references: Sequence[Sequence[str]], predictions: Sequence[str | None]) -> float:
    """Exact match as SQuAD 1.1 has it, with English articles in every language (XQuAD, TyDiQA).

    >>> em([["the mill"], ["1894"]], ["Mill!", "in 1894"])
    50.0
    """
    return answer_scores(references, predictions).exact_match


def f1(references: Sequence[Sequence[str]], predictions: Sequence[str | None]) -> float:
    """Word F1 as SQuAD 1.1 has it, with English articles in every language (XQuAD, TyDiQA).

    >>> f1([["the old mill"], ["1894"]], ["old stone", "in 1894 or so"])  # 1/2 and 2 * 1 / (1 + 4)
    45.0
    """
    return answer_scores(references, predictions).f1


def f1_em(references: Sequence[Sequence[str]], predictions: Sequence[str | None]) -> float:
    """The mean of `f1` and `em`, which is what the leaderboard's averages take.

    >>> f1_em([["the mill"], ["1894"]], ["Mill!", "in 1894 or so"])  # of 70 and 50
    60.0
    """
    return sum(answer_scores(references, predictions)) / 2


def squad2_em(references: Sequence[Sequence[str]], predictions: Sequence[str | None]) -> float:
    """Exact match as SQuAD 2 has it: "" is the right answer to a question without one.

    >>> squad2_em([[""], ["mill"], [""], ["1894"]], ["", "", "mill", "1894"])
    50.0
    """
    return answer_scores(references, predictions, SQUAD2).exact_match


def squad2_f1(references: Sequence[Sequence[str]], predictions: Sequence[str | None]) -> float:
    """Word F1 as SQuAD 2 has it: 1 for "" as the answer to a question without one, 0 for any word.

    >>> squad2_f1([[""], ["old mill"], [""], ["1894"]], ["", "mill", "mill", ""])  # 1, 2/3, 0, 0
    41.666666666666664
    """
    return answer_scores(references, predictions, SQUAD2).f1


def squad2_f1_em(references: Sequence[Sequence[str]], predictions: Sequence[str | None]) -> float:
    """The mean of `squad2_f1` and `squad2_em`.

    >>> squad2_f1_em([[""], ["old mill"]], ["", "mill"])  # of 83.3 and 50
    66.66666666666666
    """
    return sum(answer_scores(references, predictions, SQUAD2)) / 2


def mlqa_em(references: Sequence[Sequence[str]], predictions: Sequence[str | None], language: str) -> float:
    """Exact match as MLQA has it, by the rules of the answers' language.

    >>> mlqa_em([["die Mühle"], ["1894"]], ["„Mühle“", "the 1894"], "de")
    50.0
    """
    return answer_scores(references, predictions, mlqa_rules(language)).exact_match


def mlqa_f1(references: Sequence[Sequence[str]], predictions: Sequence[str | None], language: str) -> float:
    """Word F1 as MLQA has it, by the rules of the answers' language; in Chinese a character is a word.

    >>> mlqa_f1([["石磨坊"]], ["磨坊。"], "zh")  # 2 * 2 / (3 + 2)
    80.0
    """
    return answer_scores(references, predictions, mlqa_rules(language)).f1


def mlqa_f1_em(references: Sequence[Sequence[str]], predictions: Sequence[str | None], language: str) -> float:
    """The mean of `mlqa_f1` and `mlqa_em`.

    >>> mlqa_f1_em([["el molino viejo gris"], ["1894"]], ["molino", "¿1894?"], "es")  # of 75 and 50
    62.5
    """
    return sum(answer_scores(references, predictions, mlqa_rules(language))) / 2
