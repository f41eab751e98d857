"""Scores of predictions against references, one function each, all in percent but perplexity.

Each takes the references of one task in one language beside the predictions, in the same order, and knows nothing of
where they come from. They follow XTREME's evaluate.py (google-research/xtreme, 838c13b).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from xstilts.errors import UserError, nearest


def accuracy(references: Sequence[Any], predictions: Sequence[Any]) -> float:
    """Percent of predictions that equal their reference (XNLI, PAWS-X, XCOPA, Tatoeba).

    >>> accuracy(["yes", "no", "no", "yes"], ["yes", "no", "yes", "yes"])
    75.0
    """
    _same_length(references, predictions)
    right = sum(bool(a == b) for a, b in zip(references, predictions, strict=True))
    return 100.0 * right / len(references)


def token_accuracy(references: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]]) -> float:
    """Percent of tokens with the right tag, over the tokens of all sentences.

    >>> token_accuracy([["DET", "NOUN"], ["VERB", "ADV"]], [["DET", "VERB"], ["VERB", "ADV"]])
    75.0
    """
    _same_sentences(references, predictions)
    pairs = [pair for sentences in zip(references, predictions, strict=True) for pair in zip(*sentences, strict=True)]
    assert pairs, "there are no tokens to score"
    return 100.0 * sum(a == b for a, b in pairs) / len(pairs)


class ChunkScores(NamedTuple):
    """Micro-averaged scores over chunks, in percent."""

    f1: float
    precision: float
    recall: float


def chunk_f1(references: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]]) -> float:
    """Micro F1 in percent over the chunks that tags mark (POS, NER); see `chunk_scores`.

    >>> chunk_f1([["B-PER", "I-PER", "O", "B-LOC"]], [["B-PER", "I-PER", "O", "O"]])
    66.66666666666666
    """
    return chunk_scores(references, predictions).f1


def chunk_scores(references: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]]) -> ChunkScores:
    """Chunk F1, precision and recall exactly as seqeval 0.0.12 counts, the version behind XTREME's numbers.

    A chunk is right when its type, first token and last token are. The first letter of a tag is its position in the
    chunk (B, I, E, S, O); what follows the last `-` is its type. IOB is read leniently: an `I-` after `O` or after
    another type opens a chunk. A bare part of speech is read the same way, so a run of one tag is one chunk, except
    that each tag that begins with S (SYM, SCONJ) is a chunk by itself. The end of a sentence ends every chunk.

    >>> chunk_scores([["NOUN", "NOUN", "VERB"]], [["NOUN", "NOUN", "NOUN"]])
    ChunkScores(f1=0.0, precision=0.0, recall=0.0)
    """
    _same_sentences(references, predictions)
    right, found = set(_chunks(references)), set(_chunks(predictions))
    both = len(right & found)
    precision = both / len(found) if found else 0.0
    recall = both / len(right) if right else 0.0
    f1 = 2 * precision * recall / (precision + recall) if both else 0.0
    return ChunkScores(100.0 * f1, 100.0 * precision, 100.0 * recall)


def _chunks(sentences: Iterable[Sequence[str]]) -> Iterable[tuple[str, int, int]]:
    """Type, first token, last token of each chunk; tokens are counted over all sentences."""
    tags = [tag for sentence in sentences for tag in (*sentence, "O")]
    begin, before, type_before = 0, "O", ""
    for i, tag in enumerate(tags):
        at, type_ = tag[0], tag.rpartition("-")[2]
        changed = type_ != type_before
        if before in "ES" or (before in "BI" and at in "BSO") or (before not in "O." and changed):
            yield type_before, begin, i - 1
        if at in "BS" or (at in "EI" and before in "ESO") or (at not in "O." and changed):
            begin = i
        before, type_before = at, type_


def perplexity(references: Sequence[Any], predictions: Sequence[tuple[float, int]]) -> float:  # noqa: ARG001
    """Perplexity of masked tokens: e to the mean negative log-likelihood. Not a percentage; lower is better.

    Args:
        references: not looked at; the likelihoods are those of the right tokens already.
        predictions: for each example the sum of the negative log-likelihoods in nats, beside the number of tokens.

    >>> round(perplexity([], [(math.log(2), 1), (3 * math.log(4), 2)]), 4)  # e^(7 log 2 / 3) = 2^(7/3)
    5.0397
    """
    count = sum(count for _, count in predictions)
    assert count, "there are no tokens to score"
    mean = sum(nats for nats, _ in predictions) / count
    return math.exp(mean) if mean < 700 else math.inf  # the largest float is e^709


def _same_length(references: Sequence[Any], predictions: Sequence[Any]) -> None:
    assert len(references) == len(predictions), f"{len(references)} references, {len(predictions)} predictions"
    assert references, "there is nothing to score"


def _same_sentences(references: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]]) -> None:
    _same_length(references, predictions)
    assert all(len(a) == len(b) for a, b in zip(references, predictions, strict=True)), "a sentence misses tags"


@dataclass(frozen=True)
class Metric:
    """A score: its name, the function `(references, predictions) -> float`, how to read the number."""

    name: str
    function: Callable[..., float]
    higher_is_better: bool = True
    percent: bool = True
    """Whether it is a percentage, so that a mean over tasks has a meaning."""
    by_language: bool = False
    """Whether the function takes the language's code as its third argument."""

    def score(self, references: Sequence[Any], predictions: Sequence[Any], language: str) -> float:
        """The score of predictions in a language."""
        rest = (language,) if self.by_language else ()
        return self.function(references, predictions, *rest)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", accuracy),
        Metric("token_accuracy", token_accuracy),
        Metric("chunk_f1", chunk_f1),
        Metric("perplexity", perplexity, higher_is_better=False, percent=False),
    )
}
"""Every metric that a task can name."""


def get(name: str) -> Metric:
    """Look a metric up by name.

    Raises:
        UserError: for an unknown one.

    >>> get("accuracy").percent
    True
    """
    if name not in METRICS:
        raise UserError(f"there is no metric '{name}'", hint=nearest(name, METRICS))
    return METRICS[name]
