"""Metrics of labels, tags and language models; all in percent except perplexity."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from xstilts.errors import StepFailed
from xstilts.metrics.chunks import chunks
from xstilts.metrics.metric import Array, Metric, share


def equal(references: Sequence[Any], predictions: Sequence[Any]) -> Array:
    """1 if the prediction equals the reference, else 0, and a count of 1 (XNLI, PAWS-X, XCOPA, Tatoeba); [N, 2].

    >>> METRICS["accuracy"].score(["yes", "no", "no", "yes"], ["yes", "no", "yes", "yes"])
    75.0
    """
    right = [bool(a == b) for a, b in zip(references, predictions, strict=True)]
    return np.column_stack([np.array(right, np.float64), np.ones(len(right))])


def overlaps(references: Iterable[Iterable[Any]], predictions: Iterable[Iterable[Any]]) -> Array:
    """For each example the number of items in both sets, in the predicted set, in the right set; [N, 3]."""
    pairs = [(set(right), set(predicted)) for right, predicted in zip(references, predictions, strict=True)]
    counts = [(len(right & predicted), len(predicted), len(right)) for right, predicted in pairs]
    return np.array(counts, np.float64).reshape(-1, 3)


def precision(sums: Array) -> Array:
    """Percent of the predicted items that are right; 0 if none is predicted."""
    return share(sums[..., 0], sums[..., 1])


def recall(sums: Array) -> Array:
    """Percent of the right items that are predicted; 0 if none is right."""
    return share(sums[..., 0], sums[..., 2])


def f1(sums: Array) -> Array:
    """The harmonic mean of precision and recall, in percent; 0 if nothing is in common.

    >>> float(f1(np.array([2.0, 4.0, 4.0])))
    50.0
    """
    both, predicted, right = sums[..., 0], sums[..., 1], sums[..., 2]
    p, r = both / np.where(predicted > 0, predicted, 1), both / np.where(right > 0, right, 1)
    harmonic: Array = 100.0 * (2 * p * r / np.where(both > 0, p + r, 1))
    return harmonic


def positive(references: Sequence[str], predictions: Sequence[str]) -> Array:
    """Overlap of the examples with the label "1" (QQP); F1 is 0 if no reference and no prediction is "1".

    >>> METRICS["positive_f1"].score(["1", "1", "1", "0"], ["1", "0", "1", "1"])  # precision 2/3, recall 2/3
    66.66666666666666
    """
    return overlaps(*([{1} if label == "1" else () for label in labels] for labels in (references, predictions)))


def equal_and_positive(references: Sequence[str], predictions: Sequence[str]) -> Array:
    """`equal` and `positive` side by side, [N, 5]: for the mean of accuracy and F1 (QQP in jiant).

    >>> METRICS["accuracy_f1"].score(["1", "0", "0", "0"], ["1", "1", "0", "0"])  # of 75 and 66.7
    70.83333333333333
    """
    return np.hstack([equal(references, predictions), positive(references, predictions)])


def _mean_of_accuracy_and_f1(sums: Array) -> Array:
    mean: Array = (share(sums[..., 0], sums[..., 1]) + f1(sums[..., 2:])) / 2
    return mean


def equal_tags(references: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]]) -> Array:
    """For each sentence the number of tokens with the right tag, and of all tokens; [N, 2].

    >>> METRICS["token_accuracy"].score([["DET", "NOUN"], ["VERB", "ADV"]], [["DET", "VERB"], ["VERB", "ADV"]])
    75.0
    """
    pairs = zip(references, predictions, strict=True)
    return np.array([[sum(a == b for a, b in zip(*pair, strict=True)), len(pair[0])] for pair in pairs], np.float64)


def chunk_overlaps(references: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]]) -> Array:
    """Overlap of the chunks that tags mark (POS, NER), exactly as seqeval 0.0.12, XTREME's version, counts them.

    A chunk is right if its type, first token and last token are right. `B-PER` has the position B in the chunk (B, I,
    E, S) and the type PER: all that follows the first `-`, where seqeval 0.0.12 takes what follows the last. An `I-`
    after `O` or another type starts a chunk. A bare tag (a part of speech) is its own type, and its first letter its
    position: a run of one tag is one chunk, but each tag that begins with S (SYM, SCONJ) is a chunk by itself. The end
    of a sentence ends every chunk. A chunk belongs to the sentence of its last token.

    >>> METRICS["chunk_f1"].score([["NOUN", "NOUN", "VERB"]], [["NOUN", "NOUN", "NOUN"]])
    0.0
    >>> METRICS["chunk_f1"].score([["B-PER", "I-PER", "O", "B-LOC"]], [["B-PER", "I-PER", "O", "O"]])
    66.66666666666666
    """
    for right, predicted in zip(references, predictions, strict=True):
        if len(right) != len(predicted):
            raise ValueError(f"a sentence has {len(right)} tokens, but {len(predicted)} predicted tags")
    ends_N = np.cumsum([len(sentence) + 1 for sentence in references])
    right_chunks, predicted_chunks = set(chunks(references)), set(chunks(predictions))

    def count(some: set[tuple[str, int, int]]) -> Array:
        sentences = np.searchsorted(ends_N, np.array([last for _, _, last in some], np.int64), side="right")
        return np.bincount(sentences, minlength=len(ends_N)).astype(np.float64)

    return np.column_stack([count(right_chunks & predicted_chunks), count(predicted_chunks), count(right_chunks)])


def likelihoods(references: Sequence[Any], predictions: Sequence[tuple[float, int]]) -> Array:  # noqa: ARG001
    """For each example the sum of negative log-likelihoods of its masked tokens in nats, and their number; [N, 2].

    References are ignored: the likelihoods are already those of the right tokens.

    >>> round(METRICS["perplexity"].score(["", ""], [(math.log(2), 1), (3 * math.log(4), 2)]), 4)  # 2^(7/3)
    5.0397
    """
    return np.array(predictions, np.float64).reshape(-1, 2)


def _perplexity(sums: Array) -> Array:
    """Exponential of the mean negative log-likelihood. Raises StepFailed if there are no tokens at all."""
    if not sums[..., 1].any():
        raise StepFailed("no token of this text can be masked", hint="its lines are empty or have only special tokens")
    with np.errstate(all="ignore"):  # a sample may have no token
        means = sums[..., 0] / sums[..., 1]
    perplexities: Array = np.vectorize(_exp, otypes=[float])(means)
    return perplexities


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf  # the largest float is e^709


F1_PRECISION_RECALL = {"f1": f1, "precision": precision, "recall": recall}
"""What XTREME's evaluator prints for an F1 of sets."""

METRICS = {
    metric.name: metric
    for metric in (
        Metric("accuracy", equal),
        Metric("positive_f1", positive, f1),
        Metric("accuracy_f1", equal_and_positive, _mean_of_accuracy_and_f1),
        Metric("token_accuracy", equal_tags),
        Metric("chunk_f1", chunk_overlaps, f1, official=F1_PRECISION_RECALL),
        Metric("perplexity", likelihoods, _perplexity, higher_is_better=False, percent=False),
    )
}
