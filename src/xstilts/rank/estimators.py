"""Estimates of transfer from features and labels: LogME, H-score, similarity of texts; in float64, without torch."""

# Shape suffixes: N = labelled features, H = hidden size, R = rank of the features, C = classes, G = grid

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xstilts.errors import UserError

Array = NDArray[np.float64]

SMALLEST = 1e-12
"""What counts as nothing beside the largest: eigenvalues of constant features, noise where labels are told exactly."""
GRID = 200
"""Ratios of the two precisions that are tried before the best of them is refined."""
SHUFFLES = 5
"""Times that labels are shuffled to tell what features tell by chance."""


class _Turned(NamedTuple):
    """Features in the coordinates of their principal axes, as far as they vary along these."""

    value_R: Array
    """Sums of squares along the axes: the eigenvalues of F'F."""
    sums_CR: Array
    """Sums of each class's features along the axes."""
    count_C: Array
    """Examples of each class."""


def logme(features_NH: NDArray[Any], labels_N: NDArray[Any]) -> float:
    """Logarithm of the maximum evidence that a linear model of the features gives the labels, in nats an example.

    You et al. 2021, "LogME: Practical Assessment of Pre-trained Models for Transfer Learning" (arXiv:2102.11005): each
    class's 0-1 labels are a Gaussian linear model of the features (no intercept, prior precision a, noise precision b);
    the log evidence is maximised over a and b, divided by N, and averaged over the classes that occur. For a given
    a / b the best b has a closed form, so one number is searched, first on a grid, for there may be two maxima. It
    does not change when the features are rotated or scaled, examples are reordered, or classes renamed. Values compare
    features of the same labels; across label sets they mean nothing.

    Raises:
        UserError: fewer than two classes, a feature that is not finite, or features that are all zero.
    """
    from scipy.optimize.elementwise import find_minimum

    turned, examples = _turned(features_NH, labels_N, centred=False), len(labels_N)
    explained_CR = turned.sums_CR**2 / turned.value_R  # squared length of the labels along each axis
    residual_C = np.maximum(turned.count_C - explained_CR.sum(1), SMALLEST * turned.count_C)

    def evidence(misfit: Array, log_shrink: Array) -> Array:
        """For each class an example's share of the log evidence, at the best noise precision for the ratio."""
        best: Array = 0.5 * (np.log(examples / (2 * np.pi * misfit)) - 1 + log_shrink / examples)
        return best

    def negative_evidence(log_C: Array, class_C: NDArray[np.int64]) -> Array:
        shrink_CR = _shrink(log_C, turned.value_R)
        return -evidence(residual_C[class_C] + (explained_CR[class_C] * shrink_CR).sum(1), np.log(shrink_CR).sum(1))

    low, high = np.log(turned.value_R.min() * SMALLEST), np.log(turned.value_R.max() / SMALLEST)
    grid_G, step = np.linspace(low, high, GRID, retstep=True)
    shrink_GR = _shrink(grid_G, turned.value_R)
    best_C = grid_G[evidence(residual_C[:, None] + explained_CR @ shrink_GR.T, np.log(shrink_GR).sum(1)).argmax(1)]
    classes = np.arange(len(best_C))
    refined = find_minimum(negative_evidence, (best_C - step, best_C, best_C + step), args=(classes,))
    # where the evidence is flat nothing is refined
    return -float(np.where(refined.success, refined.f_x, negative_evidence(best_C, classes)).mean())


def _shrink(log_G: Array, value_R: Array) -> Array:
    """[G, R] t / (t + value) at the ratios t whose logarithms are given: what the prior leaves unexplained."""
    ratio_G1 = np.exp(log_G)[:, None]
    shrink_GR: Array = ratio_G1 / (ratio_G1 + value_R)
    return shrink_GR


def h_score(features_NH: NDArray[Any], labels_N: NDArray[Any], shrinkage: float | None = None) -> float:
    """How far the classes' mean features lie apart, beside how far features do at all: tr(cov(f)^-1 cov(E[f|y])).

    Bao et al. 2019, "An Information-Theoretic Approach to Transferability in Task Transfer Learning". It lies between 0
    and the number of classes less one. With few examples beside the hidden size the covariance is shrunk (Ibrahim et
    al. 2022, "Newer is not always better", arXiv:2110.06893): cov becomes (1 - s) cov + s tr(cov) / H, and the
    covariance of the means (1 - s) times itself.

    Args:
        features_NH: of the labelled positions.
        labels_N: their classes.
        shrinkage: s; Ledoit and Wolf's by default (2004, "A well-conditioned estimator for large-dimensional covariance
            matrices"). At 0 it is Bao's score, which does not change under any invertible map of the features.

    Raises:
        UserError: fewer than two classes, a feature that is not finite, or features that are all the same.
    """
    turned, (examples, hidden) = _turned(features_NH, labels_N, centred=True), features_NH.shape
    share = ledoit_wolf(features_NH) if shrinkage is None else shrinkage
    variance_R = turned.value_R / examples
    between_R = (turned.sums_CR**2 / turned.count_C[:, None]).sum(0) / examples
    within_R = (1 - share) * variance_R + share * variance_R.sum() / hidden
    return float(((1 - share) * between_R / within_R).sum())


def label_fit(features_NH: NDArray[Any], labels_N: NDArray[Any]) -> float:
    """What part of the labels the features tell linearly, from 0 for what shuffled labels get to 1 for all.

    An H-score grows with the classes, and is the higher the fewer examples there are, whatever these say. So that tasks
    can be compared, that of the same labels shuffled is taken away from it and from the most it can be: the number of
    classes less one, or the hidden size where that is less.

    Raises:
        UserError: see `h_score`.
    """
    rng = np.random.default_rng(0)
    by_chance = float(np.mean([h_score(features_NH, rng.permutation(labels_N)) for _ in range(SHUFFLES)]))
    most = min(len(np.unique(labels_N)) - 1, int(features_NH.shape[1]))
    return max(0.0, (h_score(features_NH, labels_N) - by_chance) / (most - by_chance))


def ledoit_wolf(features_NH: NDArray[Any]) -> float:
    """How far Ledoit and Wolf shrink the covariance towards a multiple of the identity: from 0 to 1."""
    centred_NH = np.asarray(features_NH, np.float64) - np.mean(features_NH, 0, np.float64)
    examples, hidden = centred_NH.shape
    square = float(((centred_NH.T @ centred_NH / examples) ** 2).sum())
    spread = square - float((centred_NH**2).sum() / examples) ** 2 / hidden
    noise = (float(((centred_NH**2).sum(1) ** 2).mean()) - square) / examples
    return 1.0 if spread <= SMALLEST * square else min(1.0, max(0.0, noise / spread))


def cosine(one_H: NDArray[Any], other_H: NDArray[Any]) -> float:
    """The cosine of two vectors; 0 if one of them is zero."""
    a_H, b_H = np.asarray(one_H, np.float64), np.asarray(other_H, np.float64)
    lengths = float(np.linalg.norm(a_H) * np.linalg.norm(b_H))
    return float(a_H @ b_H) / lengths if lengths else 0.0


def _turned(features_NH: NDArray[Any], labels_N: NDArray[Any], *, centred: bool) -> _Turned:
    """Features along their principal axes, those without any variation left out."""
    features_NH, labels_N = np.asarray(features_NH, np.float64), np.asarray(labels_N)
    assert features_NH.ndim == 2 and features_NH.shape[:1] == labels_N.shape, "a label for each row of features"
    classes, class_N, count_C = np.unique(labels_N, return_inverse=True, return_counts=True)
    if len(classes) < 2:
        what = "there is no label" if not len(classes) else f"all {len(labels_N):,} labels are the same"
        raise UserError(f"{what}: there is nothing to tell apart")
    if not np.isfinite(features_NH).all():
        raise UserError("a feature is not a number")
    largest = float(np.abs(features_NH).max())
    if centred:
        features_NH = features_NH - features_NH.mean(0)
    scale = float(np.abs(features_NH).max())
    if scale <= SMALLEST * largest:
        raise UserError(f"all features are {'the same' if centred else 'zero'}: they tell nothing")
    features_NH = features_NH / scale  # neither estimate changes
    value_H, axes_HH = np.linalg.eigh(features_NH.T @ features_NH)
    vary_H = value_H > value_H.max() * SMALLEST
    sums_CH = np.zeros((len(classes), features_NH.shape[1]))
    np.add.at(sums_CH, class_N, features_NH)
    return _Turned(value_H[vary_H], sums_CH @ axes_HH[:, vary_H], count_C.astype(np.float64))
