"""Exact nearest neighbours between two sets of vectors, both ways in one pass."""

# Shape suffixes: F = all vectors, H = their size, N = vectors of a side, K = neighbours, P = pairs or candidates,
# R, C = rows and columns of a tile, S = members of a group, G = groups of a row

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xstilts.compute import memory
from xstilts.compute.device import device, has_room, product, without_tf32
from xstilts.compute.sort_keys import numbers, similarities, sort_keys
from xstilts.errors import OutOfMemory

TILE = 2048, 1024
"""Rows and columns of a tile of similarities; its 8 MiB fit into a processor's cache."""
TILE_ON_CUDA = 16_384, 8_192
"""The same on a GPU, where each tile costs a few waits; 512 MiB."""
GROUP = 32
"""Only the largest of so many similarities is compared first; a divisor of both sides of a tile."""

Floats: TypeAlias = NDArray[np.float32]


class Nearest(NamedTuple):
    """The neighbours of each row of one side on the other side, nearest first, then by number."""

    ids_NK: NDArray[np.int64]
    cosines_NK: NDArray[np.float32]


@without_tf32()
def neighbours(
    vectors_FH: NDArray[np.float32], x_N: NDArray[np.int64], y_N: NDArray[np.int64], k: int,
    done: Callable[[int], None] | None = None,
) -> tuple[Nearest, Nearest]:  # fmt: skip
    """The k nearest neighbours by cosine, exact: of each x among all y, and of each y among all x.

    Each tile of similarities serves both directions. Beside the vectors, which may be memory-mapped, memory holds one
    tile, its vectors and a few numbers per row. If memory is full, the search begins again with smaller tiles. A vector
    that is zero or not finite has cosine 0 to all others.

    Args:
        vectors_FH: all vectors, of any length.
        x_N: indices of one side's vectors; not empty.
        y_N: indices of the other side's vectors.
        k: number of neighbours; all if the other side has fewer.
        done: called with the number of rows of x that are done.

    Raises:
        OutOfMemory: memory is full.
    """
    where, vectors = device(), torch.from_numpy(np.asarray(vectors_FH))
    tile = TILE_ON_CUDA if where.type == "cuda" else TILE
    resident = has_room(where, 4 * len(y_N) * vectors.shape[1])
    while True:
        found = memory.attempt(partial(_search, vectors, x_N, y_N, k, done, tile, resident, where), where)
        if found is not None:
            return found
        tile, resident = (tile[0] // 2, tile[1] // 2), False
        if min(tile) < GROUP:
            raise OutOfMemory("memory is full in the search for neighbours", hint=memory.GO_ON)


def _search(
    vectors: Tensor, x_N: NDArray[np.int64], y_N: NDArray[np.int64], k: int, done: Callable[[int], None] | None,
    tile: tuple[int, int], resident: bool, where: torch.device,
) -> tuple[Nearest, Nearest]:  # fmt: skip
    """The search with tiles of so many rows and columns at most; `resident`: the device keeps all of y."""
    rows, columns = (min(most, -(-len(side) // GROUP) * GROUP) for most, side in zip(tile, (x_N, y_N), strict=True))
    x_units, y_units = _Units(vectors, x_N, rows, where), _Units(vectors, y_N, columns, where, resident=resident)
    y_best = [_Best(columns, min(k, len(x_N)), where) for _ in range(0, len(y_N), columns)]
    x_blocks = []
    for at in range(0, len(x_N), rows):
        x_RH, x_best = x_units.load(at), _Best(rows, min(k, len(y_N)), where)
        for first, block_best in zip(range(0, len(y_N), columns), y_best, strict=True):
            tile_RC = product(x_RH, y_units.load(first))
            tile_RC[len(x_N) - at :] = tile_RC[:, len(y_N) - first :] = -torch.inf
            tile_RSG, tile_SGC = tile_RC.view(rows, GROUP, -1), tile_RC.view(GROUP, -1, columns)
            x_best.update(tile_RSG, tile_RSG.amax(1), first)
            block_best.update(tile_SGC.permute(2, 0, 1), tile_SGC.amax(0).T.contiguous(), at)
        x_blocks.append(x_best.result())
        if done:
            done(min(at + rows, len(x_N)))
    return _concatenate(x_blocks, len(x_N)), _concatenate([best.result() for best in y_best], len(y_N))


def _concatenate(blocks: Sequence[Nearest], rows: int) -> Nearest:
    ids, cosines = zip(*blocks, strict=True)
    return Nearest(np.concatenate(ids)[:rows], np.concatenate(cosines)[:rows])


class _Units:
    """The vectors of one side, scaled to length 1 a block at a time."""

    def __init__(
        self, vectors_FH: Tensor, side_N: NDArray[np.int64], size: int, where: torch.device, *, resident: bool = False
    ) -> None:
        """With `resident`, blocks stay on the device once they are there."""
        self.vectors, self.side, self.where = vectors_FH, torch.from_numpy(side_N), where
        self.block = torch.zeros(size, vectors_FH.shape[1])
        self.resident = resident
        self._loaded: dict[int, Tensor] = {}

    def load(self, at: int) -> Tensor:
        """The block of unit vectors that starts at a row; rows past the end are arbitrary."""
        if not self.resident:
            return self._copy(at)
        if at not in self._loaded:
            self._loaded[at] = self._copy(at)
        return self._loaded[at]

    def _copy(self, at: int) -> Tensor:
        side = self.side[at : at + len(self.block)]
        torch.index_select(self.vectors, 0, side, out=self.block[: len(side)])
        units_RH = self.block.to(self.where, copy=self.resident)
        lengths_R1 = torch.linalg.vector_norm(units_RH, dim=1, keepdim=True)
        units_RH /= lengths_R1.clamp(min=torch.finfo(torch.float32).tiny)
        units_RH[~lengths_R1[:, 0].isfinite()] = 0
        return units_RH


class _Best:
    """The k best of each of n rows so far, and candidates that are not sorted in yet."""

    def __init__(self, n: int, k: int, where: torch.device) -> None:
        self.keys_NK = sort_keys(torch.full((n, k), -torch.inf), torch.zeros(n, k, dtype=torch.int64)).to(where)
        self.threshold_N1 = torch.full((n, 1), -torch.inf, device=where)
        """Candidates must exceed it."""
        self.waiting: list[tuple[Tensor, Tensor]] = []
        self.count = 0

    def update(self, tile_NSG: Tensor, tops_NG: Tensor, first: int) -> None:
        """Add the candidates of a tile, given the largest similarity of each group.

        Member s of group g has the number first + s x G + g.
        """
        (n, k), groups = self.keys_NK.shape, tops_NG.shape[1]
        hits_NG = tops_NG > self.threshold_N1
        if groups >= k and hits_NG.count_nonzero() > n * k:
            kth_N1 = tops_NG.topk(k).values[:, -1:]  # at least k similarities are this high
            self.threshold_N1 = self.threshold_N1.maximum(kth_N1.nextafter(kth_N1.new_tensor(-torch.inf)))
            hits_NG = tops_NG > self.threshold_N1
        row_P, group_P = hits_NG.nonzero(as_tuple=True)
        hit_P, member_P = (tile_NSG[row_P, :, group_P] > self.threshold_N1[row_P]).nonzero(as_tuple=True)
        row_P, group_P = row_P[hit_P], group_P[hit_P]
        self.waiting.append((row_P, sort_keys(tile_NSG[row_P, member_P, group_P], first + member_P * groups + group_P)))
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
        self.threshold_N1 = self.threshold_N1.maximum(similarities(self.keys_NK[:, -1:]))
        self.waiting, self.count = [], 0

    def result(self) -> Nearest:
        """The neighbours so far."""
        self.sort()
        keys_NK = self.keys_NK.cpu()
        return Nearest(numbers(keys_NK).numpy(), similarities(keys_NK).numpy())
