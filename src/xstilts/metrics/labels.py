"""Scores of labels, tags and language models; all in percent but perplexity."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from xstilts.errors import StepFailed


def accuracy(references: Sequence[Any], predictions: Sequence[Any]) -> float:
    """Percent of predictions that equal their reference (XNLI, PAWS-X, XCOPA, Tatoeba).

    >>> accuracy(["yes", "no", "no", "yes"], ["yes", "no", "yes", "yes"])
    75.0
    """
    same_length(references, predictions)
    right = sum(bool(a == b) for a, b in zip(references, predictions, strict=True))
    return 100.0 * right / len(references)


def positive_f1(references: Sequence[str], predictions: Sequence[str]) -> float:
    """F1 in percent of finding the label "1" (QQP); 0 where it is neither asked for nor given.

    >>> positive_f1(["1", "1", "1", "0"], ["1", "0", "1", "1"])  # precision 2/3, recall 2/3
    66.66666666666666
    """
    same_length(references, predictions)
    right, found = ({i for i, label in enumerate(labels) if label == "1"} for labels in (references, predictions))
    return overlap(right, found).f1


def accuracy_f1(references: Sequence[str], predictions: Sequence[str]) -> float:
    """The mean of accuracy and `positive_f1` (QQP in jiant).

    >>> accuracy_f1(["1", "0", "0", "0"], ["1", "1", "0", "0"])  # of 75 and 66.7
    70.83333333333333
    """
    return (accuracy(references, predictions) + positive_f1(references, predictions)) / 2


def token_accuracy(references: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]]) -> float:
    """Percent of tokens with the right tag, over the tokens of all sentences.

    >>> token_accuracy([["DET", "NOUN"], ["VERB", "ADV"]], [["DET", "VERB"], ["VERB", "ADV"]])
    75.0
    """
    _same_sentences(references, predictions)
    pairs = [pair for sentences in zip(references, predictions, strict=True) for pair in zip(*sentences, strict=True)]
    assert pairs, "there are no tokens to score"
    return 100.0 * sum(a == b for a, b in pairs) / len(pairs)


class Overlap(NamedTuple):
    """How far what was found is what is right, in percent."""

    f1: float
    precision: float
    recall: float


def overlap(right: set[Any], found: set[Any]) -> Overlap:
    """Compare two sets; 0 where nothing is in common, even if both are empty.

    >>> overlap({1, 2, 3, 4}, {1, 2, 9, 8})
    Overlap(f1=50.0, precision=50.0, recall=50.0)
    """
    both = len(right & found)
    precision = both / len(found) if found else 0.0
    recall = both / len(right) if right else 0.0
    f1 = 2 * precision * recall / (precision + recall) if both else 0.0
    return Overlap(100.0 * f1, 100.0 * precision, 100.0 * recall)


def chunk_f1(references: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]]) -> float:
    """Micro F1 in percent over the chunks that tags mark (POS, NER); see `chunk_scores`.

    >>> chunk_f1([["B-PER", "I-PER", "O", "B-LOC"]], [["B-PER", "I-PER", "O", "O"]])
    66.66666666666666
    """
    return chunk_scores(references, predictions).f1


def chunk_scores(references: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]]) -> Overlap:
    """Chunk F1, precision and recall exactly as seqeval 0.0.12 counts, the version behind XTREME's numbers.

    A chunk is right when its type, first token and last token are. The first letter of a tag is its position in the
    chunk (B, I, E, S, O); what follows the last `-` is its type. IOB is read leniently: an `I-` after `O` or after
    another type opens a chunk. A bare part of speech is read the same way, so a run of one tag is one chunk, except
    that each tag that begins with S (SYM, SCONJ) is a chunk by itself. The end of a sentence ends every chunk.

    >>> chunk_scores([["NOUN", "NOUN", "VERB"]], [["NOUN", "NOUN", "NOUN"]])
    Overlap(f1=0.0, precision=0.0, recall=0.0)
    """
    _same_sentences(references, predictions)
    return overlap(set(chunks(references)), set(chunks(predictions)))


def chunks(sentences: Iterable[Sequence[str]]) -> Iterable[tuple[str, int, int]]:
    """Type, first token, last token of each chunk; tokens are counted over all sentences, with one more after each."""
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

    Raises:
        StepFailed: there are no such tokens.

    >>> round(perplexity([], [(math.log(2), 1), (3 * math.log(4), 2)]), 4)  # e^(7 log 2 / 3) = 2^(7/3)
    5.0397
    """
    count = sum(count for _, count in predictions)
    if not count:
        raise StepFailed("no piece of this text can be hidden", hint="its lines are empty or special tokens only")
    mean = sum(nats for nats, _ in predictions) / count
    return math.exp(mean) if mean < 700 else math.inf  # the largest float is e^709


def same_length(references: Sequence[Any], predictions: Sequence[Any]) -> None:
    """Assert that there is something to score, and a prediction for each reference."""
    assert len(references) == len(predictions), f"{len(references)} references, {len(predictions)} predictions"
    assert references, "there is nothing to score"


def _same_sentences(references: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]]) -> None:
    same_length(references, predictions)
    assert all(len(a) == len(b) for a, b in zip(references, predictions, strict=True)), "a sentence misses tags"
