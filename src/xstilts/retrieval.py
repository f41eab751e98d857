"""Retrieval: the nearest neighbours of two sets of vectors, found in one pass, and the pairs that these make."""

# Shape suffixes: F = all vectors, H = their size, N = vectors of a side, K = neighbours, P = pairs or candidates,
# R, C = rows and columns of a tile, S = members of a group, G = groups of a row

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xstilts.device import device, product

TILE = 2048, 1024
"""Rows and columns of similarities that are looked at together; at 8 MiB they stay in a processor's cache."""
GROUP = 32
"""Similarities of which the largest is looked at first; a divisor of both sides of a tile."""

Margin: TypeAlias = Literal["ratio", "distance", "absolute"]
"""How a cosine is weighed against the mean of those to the neighbours on both sides."""
Floats: TypeAlias = NDArray[np.float32]
Matching: TypeAlias = Literal["max", "intersect", "fwd", "bwd"]
"""Which pairs are taken: the best that share no row; those that choose each other; each x with its best y; each y."""


class Nearest(NamedTuple):
    """For each row of one side its neighbours on the other, the nearest first; equal ones by number."""

    ids_NK: NDArray[np.int64]
    cosines_NK: NDArray[np.float32]


class Pairs(NamedTuple):
    """Rows of two sides that belong together."""

    x_P: NDArray[np.int64]
    y_P: NDArray[np.int64]
    scores_P: NDArray[np.float32]

    def at(self, which_P: Any) -> Pairs:
        """Some of them, by numbers or by a mask."""
        return Pairs(self.x_P[which_P], self.y_P[which_P], self.scores_P[which_P])

    def sorted(self) -> Pairs:
        """Those with a score above 0, the best first."""
        pairs = self.at(self.scores_P > 0)
        return pairs.at(np.argsort(-pairs.scores_P, kind="stable"))


def neighbours(
    vectors_FH: NDArray[np.float32], x_N: NDArray[np.int64], y_N: NDArray[np.int64], k: int,
    done: Callable[[int], None] | None = None,
) -> tuple[Nearest, Nearest]:  # fmt: skip
    """The k nearest by cosine, exactly and both ways: of each x among all y, and of each y among all x.

    Each tile of similarities serves both ways. Beyond the vectors, which may be mapped from the disk, memory holds one
    tile, the vectors it is made of, and a few numbers for each row. A vector of zeros, or one that is not finite, is at
    cosine 0 from all.

    Args:
        vectors_FH: all vectors, of any length.
        x_N: which of them are the one side; not empty.
        y_N: which are the other.
        k: neighbours, or all where the other side has fewer.
        done: told how many rows of x are done.
    """
    where, vectors = device(), torch.from_numpy(np.asarray(vectors_FH))
    rows, columns = (min(most, -(-len(side) // GROUP) * GROUP) for most, side in zip(TILE, (x_N, y_N), strict=True))
    x_units, y_units = _Units(vectors, x_N, rows, where), _Units(vectors, y_N, columns, where)
    y_best = [_Best(columns, min(k, len(x_N)), where) for _ in range(0, len(y_N), columns)]
    of_x = []
    for at in range(0, len(x_N), rows):
        x_RH, x_best = x_units.load(at), _Best(rows, min(k, len(y_N)), where)
        for first, block_best in zip(range(0, len(y_N), columns), y_best, strict=True):
            tile_RC = product(x_RH, y_units.load(first))
            tile_RC[len(x_N) - at :] = tile_RC[:, len(y_N) - first :] = -torch.inf
            tile_RSG, tile_SGC = tile_RC.view(rows, GROUP, -1), tile_RC.view(GROUP, -1, columns)
            x_best.offer(tile_RSG, tile_RSG.amax(1), first)
            block_best.offer(tile_SGC.permute(2, 0, 1), tile_SGC.amax(0).T.contiguous(), at)
        of_x.append(x_best.found())
        if done:
            done(min(at + rows, len(x_N)))
    return _joined(of_x, len(x_N)), _joined([best.found() for best in y_best], len(y_N))


def _joined(blocks: Sequence[Nearest], rows: int) -> Nearest:
    ids, cosines = zip(*blocks, strict=True)
    return Nearest(np.concatenate(ids)[:rows], np.concatenate(cosines)[:rows])


class _Units:
    """The vectors of one side, taken a block at a time and brought to length 1."""

    def __init__(self, vectors_FH: Tensor, side_N: NDArray[np.int64], size: int, where: torch.device) -> None:
        self.vectors, self.side, self.where = vectors_FH, torch.from_numpy(side_N), where
        self.block = torch.zeros(size, vectors_FH.shape[1])

    def load(self, at: int) -> Tensor:
        """The block of unit vectors that starts at a row; past the end it holds any others."""
        side = self.side[at : at + len(self.block)]
        torch.index_select(self.vectors, 0, side, out=self.block[: len(side)])
        units_RH = self.block.to(self.where)
        lengths_R1 = torch.linalg.vector_norm(units_RH, dim=1, keepdim=True)
        units_RH /= lengths_R1.clamp(min=torch.finfo(torch.float32).tiny)
        units_RH[~lengths_R1[:, 0].isfinite()] = 0
        return units_RH


class _Best:
    """The k best of each of n rows so far, and candidates that wait to be sorted in."""

    def __init__(self, n: int, k: int, where: torch.device) -> None:
        self.keys_NK = _keys(torch.full((n, k), -torch.inf), torch.zeros(n, k, dtype=torch.int64)).to(where)
        self.bar_N1 = torch.full((n, 1), -torch.inf, device=where)
        """What a candidate has to exceed."""
        self.waiting: list[tuple[Tensor, Tensor]] = []
        self.count = 0

    def offer(self, tile_NSG: Tensor, tops_NG: Tensor, first: int) -> None:
        """Look at a tile of similarities, and the largest of each group in it.

        Member s of group g has the number first + s x G + g.
        """
        (n, k), groups = self.keys_NK.shape, tops_NG.shape[1]
        hits_NG = tops_NG > self.bar_N1
        if groups >= k and hits_NG.count_nonzero() > n * k:
            kth_N1 = tops_NG.topk(k).values[:, -1:]  # so high are k similarities of k groups at least
            self.bar_N1 = self.bar_N1.maximum(kth_N1.nextafter(kth_N1.new_tensor(-torch.inf)))
            hits_NG = tops_NG > self.bar_N1
        row_P, group_P = hits_NG.nonzero(as_tuple=True)
        hit_P, member_P = (tile_NSG[row_P, :, group_P] > self.bar_N1[row_P]).nonzero(as_tuple=True)
        row_P, group_P = row_P[hit_P], group_P[hit_P]
        self.waiting.append((row_P, _keys(tile_NSG[row_P, member_P, group_P], first + member_P * groups + group_P)))
        self.count += len(row_P)
        if self.count >= n * k:
            self.sort()

    def sort(self) -> None:
        """Sort the waiting candidates in."""
        n, k = self.keys_NK.shape
        own = torch.arange(n, device=self.keys_NK.device).repeat_interleave(k), self.keys_NK.flatten()
        row_P, key_P = (torch.cat(parts) for parts in zip(own, *self.waiting, strict=True))
        order_P = key_P.argsort(descending=True)
        order_P = order_P[row_P[order_P].argsort(stable=True)]
        row_P, counts_N = row_P[order_P], row_P.bincount(minlength=n)
        rank_P = torch.arange(len(row_P), device=row_P.device) - (counts_N.cumsum(0) - counts_N)[row_P]
        self.keys_NK = key_P[order_P[rank_P < k]].view(n, k)
        self.bar_N1 = self.bar_N1.maximum(_similarity(self.keys_NK[:, -1:]))
        self.waiting, self.count = [], 0

    def found(self) -> Nearest:
        """Numbers and cosines."""
        self.sort()
        keys_NK = self.keys_NK.cpu()
        return Nearest((2**32 - 1 - (keys_NK & 2**32 - 1)).numpy(), _similarity(keys_NK).numpy())


def _keys(similarities: Tensor, ids: Tensor) -> Tensor:
    """Integers that sort as the similarities do and, where these are equal, the lower number above the higher."""
    bits = (similarities + 0.0).view(torch.int32)  # + 0.0 makes one zero of two
    return (bits ^ (bits >> 31 & 0x7FFFFFFF)).long() << 32 | 2**32 - 1 - ids


def _similarity(keys: Tensor) -> Tensor:
    bits = (keys >> 32).int()
    return (bits ^ (bits >> 31 & 0x7FFFFFFF)).view(torch.float32)


def margins(cosines: Floats, x_means: Floats, y_means: Floats, margin: Margin) -> Floats:
    """Scores of pairs from their cosines and the mean cosines of either side to its neighbours (Artetxe and Schwenk).

    >>> mean = np.array([0.5])
    >>> [margins(np.array([0.75]), mean, mean, margin).item() for margin in ("ratio", "distance", "absolute")]
    [1.5, 0.25, 0.75]
    """
    if margin == "absolute":
        return cosines
    means = (x_means + y_means) * np.float32(0.5)
    if margin == "distance":
        return cosines - means
    scores: Floats = np.divide(cosines, means, out=np.zeros_like(cosines), where=means != 0)
    return scores


def mine(of_x: Nearest, of_y: Nearest, margin: Margin = "ratio", matching: Matching = "max") -> Pairs:
    """The pairs that neighbours make, each with a score above 0, the best first.

    Every row proposes the neighbour with the best score. `max` takes the proposals of both sides by score, leaving out
    those with a row that is taken already (XTREME's utils_retrieve.py).
    """
    (y_of_x, x_scores), (x_of_y, y_scores) = _proposed(of_x, of_y, margin), _proposed(of_y, of_x, margin)
    forward = Pairs(np.arange(len(y_of_x)), y_of_x, x_scores)
    backward = Pairs(x_of_y, np.arange(len(x_of_y)), y_scores)
    if matching == "fwd":
        return forward.sorted()
    if matching == "bwd":
        return backward.sorted()
    if matching == "intersect":
        return forward.at(x_of_y[y_of_x] == forward.x_P).sorted()
    x_P, y_P = (np.concatenate(ids) for ids in ((forward.x_P, backward.x_P), (forward.y_P, backward.y_P)))
    return _unshared(Pairs(x_P, y_P, np.concatenate((x_scores, y_scores))).sorted())


def _proposed(own: Nearest, other: Nearest, margin: Margin) -> tuple[NDArray[np.int64], Floats]:
    """For each row the neighbour with the best score, and the score."""
    means_NK = np.broadcast_to(own.cosines_NK.mean(1, keepdims=True), own.ids_NK.shape)
    scores_NK = margins(own.cosines_NK, means_NK, other.cosines_NK.mean(1)[own.ids_NK], margin)
    row_N, best_N = np.arange(len(scores_NK)), scores_NK.argmax(1)
    return own.ids_NK[row_N, best_N], scores_NK[row_N, best_N]


def _unshared(pairs: Pairs) -> Pairs:
    """The pairs without those of which a row is in a pair before."""
    seen_x, seen_y, taken = set[int](), set[int](), list[int]()
    for p, (x, y) in enumerate(zip(pairs.x_P.tolist(), pairs.y_P.tolist(), strict=True)):
        if x not in seen_x and y not in seen_y:
            seen_x.add(x)
            seen_y.add(y)
            taken.append(p)
    return pairs.at(taken)


def cut(scores_P: NDArray[np.floating[Any]], right_P: NDArray[np.bool_], gold: int) -> float:
    """The score from which on to believe pairs, so that their F1 is best: midway between the last and the next.

    Where it is best to believe all, that is the last one's own score; 0 where none is right. Pairs of equal score are
    believed together.

    Args:
        scores_P: in any order.
        right_P: whether each is among the gold pairs.
        gold: number of gold pairs.

    >>> cut(np.array([0.9, 0.7, 0.5, 0.3]), np.array([True, False, True, False]), gold=2)
    0.4
    """
    if not right_P.any():
        return 0.0
    order_P = np.argsort(-scores_P, kind="stable")
    scores_P, right_P = scores_P[order_P].astype(np.float64), right_P[order_P].cumsum()
    precision_P, recall_P = right_P / np.arange(1, len(right_P) + 1), right_P / gold
    f1_P = 2 * precision_P * recall_P / np.maximum(precision_P + recall_P, 1e-9)
    f1_P[:-1][scores_P[:-1] == scores_P[1:]] = -1
    best = int(f1_P.argmax())
    return float(scores_P[best : best + 2].mean())
