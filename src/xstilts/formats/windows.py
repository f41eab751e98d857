"""A context longer than a forward pass is read in windows; what a head says of them becomes one span of characters."""

# Shape suffixes: N = pieces of the context, W = pieces of the context in a window, L = pieces of a forward pass,
# S and D = the starts and ends that are looked at, E = examples

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xstilts.formats.base import HeadOutputs


def windows(pieces: int, room: int, stride: int) -> list[tuple[int, int]]:
    """First and last + 1 piece of each window; the next one begins `stride` pieces on, until the last piece is in.

    >>> windows(10, 6, 3)
    [(0, 6), (3, 9), (6, 10)]
    """
    step = min(stride, room)  # so that no piece is left between two windows
    count = 1 + max(0, -(-(pieces - room) // step))
    return [(k * step, min(k * step + room, pieces)) for k in range(count)]


def max_context_window(parts: Sequence[tuple[int, int]], pieces: int) -> NDArray[np.int64]:
    """For each piece the window that shows most of its surroundings, [N]; the first one on ties.

    jiant's measure: pieces on the poorer side, plus a hundredth of the window's length.

    >>> max_context_window([(0, 6), (3, 9), (6, 10)], 10).tolist()
    [0, 0, 0, 0, 0, 1, 1, 1, 2, 2]
    """
    at_N = np.arange(pieces)
    scores = [np.minimum(at_N - a, b - 1 - at_N) + 0.01 * (b - a) for a, b in parts]
    inside = [(at_N >= a) & (at_N < b) for a, b in parts]
    deepest_N: NDArray[np.int64] = np.where(inside, scores, -np.inf).argmax(axis=0)
    return deepest_N


def window_info(at: int, span_W2: NDArray[np.int32], deep_W: NDArray[np.bool_]) -> NDArray[np.int32]:
    """What has to be known of a window to decode it, as one row of integers.

    That is the position of its first context piece, then the first character of each piece, complemented where another
    window shows more of the piece's surroundings, then the last + 1 character of each.
    """
    first_W = np.where(deep_W, span_W2[:, 0], ~span_W2[:, 0])
    return np.concatenate([[at], first_W, span_W2[:, 1]]).astype(np.int32)


class BestSpans(NamedTuple):
    """The best span of each example."""

    score_E: NDArray[np.float64]
    """Sum of the scores of its two ends; -inf where there is no span."""
    null_E: NDArray[np.float64]
    """The lowest score of the first token of a window, which stands for no answer."""
    span_E2: NDArray[np.int64]
    """First and last + 1 character."""


def best_spans(examples: int, outputs: HeadOutputs, n_best: int, most: int) -> BestSpans:
    """The best span of each example over its windows, the first one on ties.

    Args:
        examples: how many there are.
        outputs: scores [L, 2] of each window, with the `decode_info` that `noted` made.
        n_best: the starts, and the ends, of a window that are looked at.
        most: pieces that a span may have.
    """
    found = BestSpans(np.full(examples, -np.inf), np.full(examples, np.inf), np.zeros((examples, 2), np.int64))
    for example, scores_L2, decode_info in zip(outputs.example_F, outputs.scores, outputs.decode_info, strict=True):
        scores_L2 = np.asarray(scores_L2, np.float64)
        found.null_E[example] = min(found.null_E[example], scores_L2[0].sum())
        score, span = _best_of_window(scores_L2, decode_info, n_best, most)
        if score > found.score_E[example]:
            found.score_E[example], found.span_E2[example] = score, span
    return found


def _best_of_window(
    scores_L2: NDArray[np.float64], decode_info: NDArray[np.int32], n_best: int, most: int
) -> tuple[float, tuple[int, int]]:
    """Score and characters of the best span of a window; on ties that of the better start, then of the better end."""
    at, (first_W, last_W) = decode_info[0], np.split(decode_info[1:], 2)
    start_S, end_D = (np.argsort(-scores_L2[:, k], kind="stable")[:n_best] - at for k in (0, 1))
    start_S = start_S[(start_S >= 0) & (start_S < len(first_W))]
    start_S = start_S[first_W[start_S] >= 0]
    end_D = end_D[(end_D >= 0) & (end_D < len(first_W))]
    length_SD = end_D - start_S[:, None] + 1
    holds_SD = last_W[end_D] > first_W[start_S][:, None]
    fits_SD = (length_SD >= 1) & (length_SD <= most) & holds_SD
    if not fits_SD.any():
        return -np.inf, (0, 0)
    sums_SD = np.where(fits_SD, scores_L2[start_S + at, 0][:, None] + scores_L2[end_D + at, 1], -np.inf)
    s, d = divmod(int(sums_SD.argmax()), len(end_D))
    return float(sums_SD[s, d]), (int(first_W[start_S[s]]), int(last_W[end_D[d]]))
