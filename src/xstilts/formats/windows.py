"""Splits a long context into windows, and finds the best span of characters from the head's scores."""

# Shape suffixes: N = pieces of the context, W = pieces of the context in a window, L = pieces of a forward pass,
# S and D = candidate starts and ends, E = examples

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xstilts.formats.base import HeadOutputs


def windows(pieces: int, size: int, stride: int) -> list[tuple[int, int]]:
    """Piece span (end excluded) of each window; one starts every `stride` pieces, until the last piece is in.

    >>> windows(10, 6, 3)
    [(0, 6), (3, 9), (6, 10)]
    """
    step = min(stride, size)  # no gap between two windows
    count = 1 + max(0, -(-(pieces - size) // step))
    return [(k * step, min(k * step + size, pieces)) for k in range(count)]


def max_context_window(bounds: Sequence[tuple[int, int]], pieces: int) -> NDArray[np.int64]:
    """For each piece the window with the most context around it, [N]; the first one on ties.

    jiant's measure: pieces on the shorter side, plus a hundredth of the window's length.

    >>> max_context_window([(0, 6), (3, 9), (6, 10)], 10).tolist()
    [0, 0, 0, 0, 0, 1, 1, 1, 2, 2]
    """
    piece_N = np.arange(pieces)
    scores = [np.minimum(piece_N - a, b - 1 - piece_N) + 0.01 * (b - a) for a, b in bounds]
    inside = [(piece_N >= a) & (piece_N < b) for a, b in bounds]
    window_N: NDArray[np.int64] = np.where(inside, scores, -np.inf).argmax(axis=0)
    return window_N


def window_info(start: int, span_W2: NDArray[np.int32], best_W: NDArray[np.bool_]) -> NDArray[np.int32]:
    """What `best_spans` must know of a window, as one row of integers.

    First the position of its first context piece. Then the first character of each piece, or its complement (~) if
    another window has more context around the piece. Then the last + 1 character of each.
    """
    first_W = np.where(best_W, span_W2[:, 0], ~span_W2[:, 0])
    return np.concatenate([[start], first_W, span_W2[:, 1]]).astype(np.int32)


class RankedSpan(NamedTuple):
    """A span of the context: the sum of its start and end scores, and its characters, end excluded."""

    score: float
    start: int
    end: int


class BestSpans(NamedTuple):
    """The best span of each example."""

    score_E: NDArray[np.float64]
    """Sum of its start and end scores; -inf if there is no span."""
    null_E: NDArray[np.float64]
    """The no-answer score: the lowest score of a window's first token."""
    span_E2: NDArray[np.int64]
    """Character span, end excluded."""


def best_spans(examples: int, outputs: HeadOutputs, n_best: int, max_length: int) -> BestSpans:
    """The best span of each example over its windows, the first one on ties.

    Args:
        examples: number of examples.
        outputs: scores [L, 2] of each window, with the `decode_info` of `window_info`.
        n_best: how many of a window's best starts, and best ends, make candidate spans.
        max_length: maximum length of a span in pieces.
    """
    best = BestSpans(np.full(examples, -np.inf), np.full(examples, np.inf), np.zeros((examples, 2), np.int64))
    for example, scores_L2, decode_info in zip(outputs.example_F, outputs.scores, outputs.decode_info, strict=True):
        scores_L2 = np.asarray(scores_L2, np.float64)
        best.null_E[example] = min(best.null_E[example], scores_L2[0].sum())
        score, span = _best_of_window(scores_L2, decode_info, n_best, max_length)
        if score > best.score_E[example]:
            best.score_E[example], best.span_E2[example] = score, span
    return best


def ranked_spans(examples: int, outputs: HeadOutputs, n_best: int, max_length: int) -> list[list[RankedSpan]]:
    """The `n_best` best spans of each example over its windows, best first; the first is that of `best_spans`.

    Arguments as in `best_spans`.
    """
    found: list[list[RankedSpan]] = [[] for _ in range(examples)]
    for example, scores_L2, decode_info in zip(outputs.example_F, outputs.scores, outputs.decode_info, strict=True):
        sums_SD, start_S, end_D = _candidates(np.asarray(scores_L2, np.float64), decode_info, n_best, max_length)
        best_N = np.argsort(-sums_SD, axis=None, kind="stable")[:n_best]
        found[example] += [
            RankedSpan(float(sums_SD[s, d]), int(start_S[s]), int(end_D[d]))
            for s, d in zip(*np.unravel_index(best_N, sums_SD.shape), strict=True)
            if np.isfinite(sums_SD[s, d])
        ]
    ranked = (sorted(spans, key=lambda span: -span.score) for spans in found)
    # a piece without characters, such as a lone blank's sign, makes the same span as the next one
    return [[*{(span.start, span.end): span for span in reversed(spans)}.values()][::-1][:n_best] for spans in ranked]


def _best_of_window(
    scores_L2: NDArray[np.float64], decode_info: NDArray[np.int32], n_best: int, max_length: int
) -> tuple[float, tuple[int, int]]:
    """Score and characters of the best span of a window; on ties the better start wins, then the better end."""
    sums_SD, start_S, end_D = _candidates(scores_L2, decode_info, n_best, max_length)
    if not np.isfinite(sums_SD).any():
        return -np.inf, (0, 0)
    s, d = divmod(int(sums_SD.argmax()), len(end_D))
    return float(sums_SD[s, d]), (int(start_S[s]), int(end_D[d]))


def _candidates(
    scores_L2: NDArray[np.float64], decode_info: NDArray[np.int32], n_best: int, max_length: int
) -> tuple[NDArray[np.float64], NDArray[np.int32], NDArray[np.int32]]:
    """The sums of a window's candidate spans, -inf for those not valid, and the characters of the starts and ends."""
    start, (first_W, last_W) = decode_info[0], np.split(decode_info[1:], 2)
    start_S, end_D = (np.argsort(-scores_L2[:, k], kind="stable")[:n_best] - start for k in (0, 1))
    start_S = start_S[(start_S >= 0) & (start_S < len(first_W))]
    start_S = start_S[first_W[start_S] >= 0]
    end_D = end_D[(end_D >= 0) & (end_D < len(first_W))]
    length_SD = end_D - start_S[:, None] + 1
    nonempty_SD = last_W[end_D] > first_W[start_S][:, None]
    valid_SD = (length_SD >= 1) & (length_SD <= max_length) & nonempty_SD
    sums_SD = np.where(valid_SD, scores_L2[start_S + start, 0][:, None] + scores_L2[end_D + start, 1], -np.inf)
    return sums_SD, first_W[start_S], last_W[end_D]
