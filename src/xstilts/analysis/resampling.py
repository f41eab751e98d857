"""Scores of any choice of examples, at the speed of a matrix product: bootstrap, permutation test, Holm's correction.

A score is taken apart into what each example adds (`parts`), so that the score of a sample is a function of sums.
Shapes: R runs, S seeds, N examples, K numbers an example, B samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xstilts import metrics
from xstilts.metrics.labels import chunks

Array: TypeAlias = NDArray[np.float64]

SAMPLES = 1000
"""Bootstrap samples, and permutations at once."""
SEED = 20
ENOUGH = 20
"""A permutation test ends when so many permutations were at least as extreme as what was seen."""
EXACT = 12
"""Examples that differ, up to which all permutations (2^12) are looked at."""
LEVEL = 0.95
_TIE = 1e-9  # what is equal but for rounding is equally extreme
_AT_ONCE = 5_000_000  # drawn examples that are held in memory


@dataclass(frozen=True)
class Parts:
    """A metric taken apart."""

    of: Callable[[Sequence[Any], Sequence[Any]], Array]
    """References and predictions to what each example adds, [N, K]."""
    score: Callable[[Array], Array]
    """Sums [..., K] over examples to scores [...], in the metric's unit."""


def parts(name: str, language: str) -> Parts:
    """How to take a metric apart; one that is not known here is a mean over examples.

    >>> f1 = parts("positive_f1", "en")
    >>> each = f1.of(["1", "1", "0"], ["1", "0", "1"])  # right and found, size of both sides
    >>> each.tolist()
    [[1.0, 2.0], [0.0, 1.0], [0.0, 1.0]]
    >>> float(f1.score(each.sum(0)))
    50.0
    """
    if name in _PARTS:
        return _PARTS[name]
    metric = metrics.get(name)

    def of(references: Sequence[Any], predictions: Sequence[Any]) -> Array:
        pairs = zip(references, predictions, strict=True)
        return np.array([[metric.score([right], [given], language), 1.0] for right, given in pairs])

    return Parts(of, _ratio)


def _ratio(sums: Array) -> Array:
    return sums[..., 0] / np.where(sums[..., 1] > 0, sums[..., 1], 1)


def _f1(sums: Array) -> Array:
    return 200 * _ratio(sums)


def _sets(references: Sequence[Any], predictions: Sequence[Any]) -> Array:
    """What is right and found, and the sizes of both sides."""
    pairs = [(set(right), set(found)) for right, found in zip(references, predictions, strict=True)]
    return np.array([[len(right & found), len(right) + len(found)] for right, found in pairs], np.float64)


def _positive(references: Sequence[Any], predictions: Sequence[Any]) -> Array:
    return _sets(*([{1} if label == "1" else () for label in labels] for labels in (references, predictions)))


def _same(references: Sequence[Any], predictions: Sequence[Any]) -> Array:
    return np.array([[float(bool(a == b)), 1.0] for a, b in zip(references, predictions, strict=True)])


def _percent(sums: Array) -> Array:
    return 100 * _ratio(sums)


def _accuracy_positive(references: Sequence[Any], predictions: Sequence[Any]) -> Array:
    return np.hstack([_positive(references, predictions), _same(references, predictions)])


def _accuracy_f1(sums: Array) -> Array:
    return (_f1(sums) + _percent(sums[..., 2:])) / 2


def _tokens(references: Sequence[Any], predictions: Sequence[Any]) -> Array:
    pairs = zip(references, predictions, strict=True)
    return np.array([[sum(a == b for a, b in zip(*pair, strict=True)), len(pair[0])] for pair in pairs], np.float64)


def _chunks(references: Sequence[Any], predictions: Sequence[Any]) -> Array:
    """Cut over all sentences at once, as the metric does it; a chunk belongs to the sentence of its last token."""
    ends_N = np.cumsum([len(sentence) + 1 for sentence in references])
    right, found = set(chunks(references)), set(chunks(predictions))

    def count(some: set[tuple[str, int, int]]) -> NDArray[np.int64]:
        sentences = np.searchsorted(ends_N, np.array([last for _, _, last in some], np.int64), side="right")
        return np.bincount(sentences, minlength=len(ends_N))

    return np.stack([count(right & found), count(right) + count(found)], axis=1).astype(np.float64)


def _likelihoods(references: Sequence[Any], predictions: Sequence[Any]) -> Array:  # noqa: ARG001
    return np.array(predictions, np.float64).reshape(-1, 2)


def _perplexity(sums: Array) -> Array:
    with np.errstate(all="ignore"):  # a sample without a token has none
        means = sums[..., 0] / sums[..., 1]
        return np.where(means < 700, np.exp(means), np.inf)


_PARTS = {
    "accuracy": Parts(_same, _percent),
    "positive_f1": Parts(_positive, _f1),
    "accuracy_f1": Parts(_accuracy_positive, _accuracy_f1),
    "token_accuracy": Parts(_tokens, _percent),
    "chunk_f1": Parts(_chunks, _f1),
    "pair_f1": Parts(_sets, _f1),
    "perplexity": Parts(_likelihoods, _perplexity),
}


def bootstrap(parts_RNK: Array, score: Callable[[Array], Array]) -> Array:
    """Scores [B, R] of all runs on the same samples of the examples, drawn with replacement.

    Data sets of one size get the same samples: what is the same example in several languages is drawn in all of them.
    """
    runs, n, k = parts_RNK.shape
    rng = np.random.default_rng([SEED, 0, n])
    flat = parts_RNK.transpose(1, 0, 2).reshape(n, runs * k)
    scores = []
    for some in _portions(SAMPLES, max(1, _AT_ONCE // n)):
        drawn = rng.integers(0, n, (some, n)) + n * np.arange(some)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=some * n).reshape(some, n)
        scores.append(score((weights.astype(np.float64) @ flat).reshape(some, runs, k)))
    return np.concatenate(scores)


def seeds_drawn(seeds: int) -> Array:
    """Weights [B, S] of seeds that are drawn with replacement, the same for all that have so many."""
    return np.random.default_rng([SEED, 1, seeds]).multinomial(seeds, [1 / seeds] * seeds, SAMPLES) / seeds


def interval(values_B: Array) -> tuple[float, float]:
    """The middle 95 % of bootstrap values (percentile method).

    >>> [round(end) for end in interval(np.arange(201.0))]
    [5, 195]
    """
    low, high = np.quantile(values_B, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Pair:
    """Two systems on the same examples, with what each example adds at each seed."""

    first_SNK: Array
    second_SNK: Array


def permutation(pairs: Sequence[Pair], score: Callable[[Array], Array], limit: int = SAMPLES) -> float:
    """How often systems that are exchanged at random, example by example, differ as much as they do; two-sided.

    What is compared is the mean of the scores' difference over seeds and over `pairs`, the languages. Example i is
    exchanged in all seeds and languages at once: the answers of several runs to one question, or to its translations,
    are no independent witnesses. All permutations are looked at if at most `EXACT` examples differ; otherwise random
    ones, until `ENOUGH` were as extreme or there were `limit`, and what was seen counts as one of them (Phipson and
    Smyth 2010), so that p is never 0.

    Returns:
        p, from 1 / (limit + 1) or 1 / 2^EXACT to 1.
    """
    changes = [pair.second_SNK - pair.first_SNK for pair in pairs]
    length = max(change.shape[1] for change in changes)
    differs_N = np.zeros(length, bool)
    for change in changes:
        differs_N[: change.shape[1]] |= change.any((0, 2))
    where = np.flatnonzero(differs_N)
    sides = []
    for pair, change in zip(pairs, changes, strict=True):
        here = where[: np.searchsorted(where, change.shape[1])]
        seeds, _, k = change.shape
        flat = change[:, here].transpose(1, 0, 2).reshape(len(here), seeds * k)
        sides.append((pair.first_SNK.sum(1), pair.second_SNK.sum(1), flat))

    def differences(swapped_BN: Array) -> Array:
        total = np.zeros(len(swapped_BN))
        for first_SK, second_SK, flat in sides:
            moved = (swapped_BN[:, : len(flat)] @ flat).reshape(-1, *first_SK.shape)
            total += (score(second_SK - moved) - score(first_SK + moved)).mean(1)
        return total / len(sides)

    seen = abs(differences(np.zeros((1, len(where))))[0]) - _TIE
    if len(where) <= EXACT:
        every = (np.arange(2 ** len(where))[:, None] >> np.arange(len(where))) & 1
        return float((abs(differences(every.astype(np.float64))) >= seen).mean())
    rng = np.random.default_rng([SEED, 2, len(where)])
    extreme, drawn = 0, 0
    for some in _portions(limit, min(SAMPLES, max(1, _AT_ONCE // len(where)))):
        bits = np.unpackbits(rng.integers(0, 256, (some, (len(where) + 7) // 8), np.uint8), axis=1)
        extreme += int((abs(differences(bits[:, : len(where)].astype(np.float64))) >= seen).sum())
        drawn += some
        if extreme >= ENOUGH:
            break
    return (1 + extreme) / (1 + drawn)


def _portions(total: int, most: int) -> Iterator[int]:
    for start in range(0, total, most):
        yield min(most, total - start)


def holm(values: Sequence[float]) -> list[float]:
    """P values corrected for their number (Holm 1979), in the order given.

    The smallest of m is multiplied by m, the next by m - 1, and so on; none gets smaller than the one before it. Where
    the result is below 0.05, the chance that any of the tests is below by luck alone is at most 5 %.

    >>> holm([0.01, 0.04, 0.03, 0.005])
    [0.03, 0.06, 0.06, 0.02]
    """
    adjusted, least = [1.0] * len(values), 0.0
    for rank, i in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        least = max(least, min(1.0, (len(values) - rank) * values[i]))
        adjusted[i] = least
    return adjusted
