"""Batches: their order, their tensors, and how they are split."""

# Shape suffixes: T = tokens, B = forward passes, M = marked positions, E = examples

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from xstilts.languages import ENGLISH
from xstilts.model.features import FeatureSet
from xstilts.model.packing import Layout

MLM_SHARE, MLM_MASKED, MLM_RANDOM = 0.15, 0.8, 0.1
"""Share of pieces that are masked; of these, the shares replaced by the mask token and by a random piece."""


@dataclass(frozen=True)
class Batch:
    """The real tokens of B forward passes in one row, without padding.

    positions_M are positions in the row, targets_M their classes; types_T is each token's text of a pair (0 or 1).
    """

    examples: int
    ids_T: Tensor
    lengths_B: Tensor
    types_T: Tensor
    positions_M: Tensor
    targets_M: Tensor
    num_positions_B: Tensor
    """Number of positions of each forward pass."""
    example_B: Tensor
    """The example of each forward pass, numbered from 0 in the batch."""
    language: str = field(default=ENGLISH, kw_only=True)
    """Of the texts; an input of some encoders."""
    layout: Layout | None = field(default=None, kw_only=True)
    """One grid for its forward passes; given on an accelerator, which would have to wait for its shape."""
    right_E: Tensor | None = field(default=None, kw_only=True)
    """The right ending of each example of a multiple choice: the positions where `targets_M` is 1; given likewise."""

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device; its layout and indices are computed before it moves.

        Only CUDA copies while the processor goes on: on Apple's GPUs such a copy may read memory that is reused.
        """
        batch = self if device.type == "cpu" else self.prepared()
        return batch._each(lambda x: x.to(device, non_blocking=device.type == "cuda"))

    def prepared(self, *, pin: bool = False) -> Batch:
        """The same batch on the CPU with all that an accelerator would have to wait for.

        Args:
            pin: into memory from which a GPU copies while the processor goes on.
        """
        batch = self if self.layout else replace(self, layout=self.grid(), right_E=self.right_endings())
        return batch._each(Tensor.pin_memory) if pin else batch

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The same batch with its tensors changed."""
        moved: dict[str, Any] = {name: change(x) for name, x in vars(self).items() if isinstance(x, Tensor)}
        return replace(self, **moved, layout=self.layout and self.layout.each(change))

    def grid(self) -> Layout:
        """One padded grid for its forward passes."""
        return self.layout or Layout.one_grid(self.lengths_B)

    def right_endings(self) -> Tensor:
        """The positions [E] where `targets_M` is 1."""
        return (self.targets_M == 1).nonzero()[:, 0] if self.right_E is None else self.right_E

    @property
    def tokens(self) -> int:
        """Real tokens."""
        return len(self.ids_T)

    def pass_of_each_token(self, tokens: int) -> Tensor:
        """The number [T] of the forward pass of each token, of so many."""
        passes_B = torch.arange(len(self.lengths_B), device=self.lengths_B.device)
        return torch.repeat_interleave(passes_B, self.lengths_B, output_size=tokens)

    def pad_to_multiple_of(self, multiple: int, pad_id: int) -> Batch:
        """The batch with one more sequence of `pad_id`, so that its tokens are a multiple of `multiple`."""
        more = -self.tokens % multiple
        if not more:
            return self
        ids_T, types_T = pad(self.ids_T, (0, more), value=pad_id), pad(self.types_T, (0, more))
        return replace(self, ids_T=ids_T, types_T=types_T, lengths_B=pad(self.lengths_B, (0, 1), value=more))

    def passes(self, first: int, end: int) -> Batch:
        """The forward passes from `first` to before `end`, as a batch."""
        tokens, positions = (np.concatenate([[0], x.cumsum(0)]) for x in (self.lengths_B, self.num_positions_B))
        in_T, in_M, in_B = slice(tokens[first], tokens[end]), slice(positions[first], positions[end]), slice(first, end)
        example_B = self.example_B[in_B] - self.example_B[first]
        return Batch(
            int(example_B[-1]) + 1, self.ids_T[in_T], self.lengths_B[in_B], self.types_T[in_T],
            self.positions_M[in_M] - in_T.start, self.targets_M[in_M], self.num_positions_B[in_B], example_B,
            language=self.language,
        )  # fmt: skip

    def examples_between(self, first: int, end: int) -> Batch | None:
        """The examples from `first` to before `end`, as a batch; None if there are none."""
        if first == end:
            return None
        if end - first == self.examples:
            return self
        edges = torch.searchsorted(self.example_B, torch.tensor([first, end]))
        return self.passes(*edges.tolist())

    def split(self, tokens: int, *, whole: bool, padded: bool) -> list[Batch]:
        """Split into batches of at most `tokens` tokens, each with at least one forward pass.

        Args:
            tokens: the most in one batch.
            whole: whether all forward passes of an example stay together.
            padded: whether padding counts too.
        """
        example_B, lengths_B = self.example_B.tolist(), self.lengths_B.tolist()
        starts, longest, sum_, unit = [0], 0, 0, 0
        for f, length in enumerate(lengths_B):
            longest, sum_ = max(longest, length), sum_ + length
            if not whole or f == 0 or example_B[f] != example_B[f - 1]:
                unit = f
            size = (f + 1 - starts[-1]) * longest if padded else sum_
            if size > tokens and unit > starts[-1]:
                starts.append(unit)
                longest, sum_ = max(lengths_B[unit : f + 1]), sum(lengths_B[unit : f + 1])
        if len(starts) == 1:
            return [self]
        return [self.passes(first, end) for first, end in pairwise([*starts, len(lengths_B)])]


@dataclass(frozen=True)
class Masking:
    """How to mask tokens: the mask token's id, the size of the vocabulary, and the ids of special tokens."""

    mask_id: int
    vocabulary_size: int
    special: tuple[int, ...]

    def mask(self, ids_T: NDArray[np.int64], rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Mask pieces as BERT does (15 %, of which 80 % mask, 10 % random, 10 % unchanged); special tokens never.

        Returns the changed ids and the positions to predict: at least one, unless all tokens are special.
        """
        free = np.flatnonzero(~np.isin(ids_T, self.special))
        chosen = free[rng.random(len(free)) < MLM_SHARE]
        if not len(chosen) and len(free):
            chosen = rng.choice(free, 1)
        draw = rng.random(len(chosen))
        hidden = ids_T.copy()
        hidden[chosen[draw < MLM_MASKED]] = self.mask_id
        random = chosen[(draw >= MLM_MASKED) & (draw < MLM_MASKED + MLM_RANDOM)]
        hidden[random] = rng.integers(0, self.vocabulary_size, len(random))
        return hidden, chosen


def collate(
    features: FeatureSet,
    passes: Sequence[int] | NDArray[np.int64],
    masking: Masking | None,
    rng: np.random.Generator,
    language: str = ENGLISH,
) -> Batch:
    """Make tensors of the given forward passes; with `masking`, the positions are pieces that `rng` masks."""
    at, positions_at = features.ids_at, features.positions_at
    lengths = np.array([int(at[f + 1]) - int(at[f]) for f in passes])
    starts = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.concatenate([features.ids_T[at[f] : at[f + 1]] for f in passes]).astype(np.int64)
    types = np.zeros(len(ids), np.int64)
    for f, (start, end) in zip(passes, pairwise(starts), strict=True):
        if features.second_F[f]:
            types[start + features.second_F[f] : end] = 1
    if masking is None:
        positions = np.concatenate(
            [
                start + features.positions_M[positions_at[f] : positions_at[f + 1]]
                for f, start in zip(passes, starts, strict=False)
            ]
        )
        targets = np.concatenate([features.targets_M[positions_at[f] : positions_at[f + 1]] for f in passes]).astype(
            np.int64
        )
        num_positions_B = np.array([int(positions_at[f + 1]) - int(positions_at[f]) for f in passes])
    else:
        original = ids
        ids, positions = masking.mask(original, rng)
        targets = original[positions]
        num_positions_B = np.histogram(positions, bins=starts)[0]
    example_B = _examples(features, np.asarray(passes, features.first.dtype))
    arrays = (ids, lengths, types, positions.astype(np.int64), targets, num_positions_B, example_B)
    tensors = (torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)
    return Batch(int(example_B[-1]) + 1, *tensors, language=language)


def _examples(features: FeatureSet, passes_B: NDArray[Any]) -> NDArray[np.int64]:
    """The example of each pass, numbered from 0 in the batch; the passes of an example are adjacent.

    An example drawn twice counts as two. The passes have the type of `first`, so that numpy searches it on disk
    without a copy.
    """
    number_B = np.searchsorted(features.first, passes_B, side="right") - 1
    begins_B = (np.diff(number_B, prepend=-1) != 0) | (features.first[number_B] == passes_B)
    return np.cumsum(begins_B) - 1


class ShuffledBatches:
    """Endless batches of `batch` examples, shuffled anew each epoch; an epoch's last batch may be smaller."""

    def __init__(self, features: FeatureSet, batch: int, rng: np.random.Generator) -> None:
        self._features, self._batch, self._rng = features, batch, rng
        self._next_epoch()

    def _next_epoch(self) -> None:
        self._before, self._at = self._rng.bit_generator.state, 0
        self._order_E = self._rng.permutation(self._features.examples)

    def __iter__(self) -> Iterator[list[int]]:
        return self

    def __next__(self) -> list[int]:
        """The forward passes of the next batch."""
        if self._at >= len(self._order_E):
            self._next_epoch()
        chosen = self._features.drawn[self._order_E[self._at : self._at + self._batch]]
        self._at += self._batch
        first = self._features.first
        return [f for example in chosen for f in range(first[example], first[example + 1])]

    def state_dict(self) -> dict[str, Any]:
        """The position in the current epoch."""
        return {"before": self._before, "at": self._at}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue at the position of another over the same features."""
        self._rng.bit_generator.state = state["before"]
        self._next_epoch()
        self._at = state["at"]


def by_length(features: FeatureSet, tokens: int) -> Iterator[NDArray[np.int64]]:
    """All forward passes, longest first, as many at a time as fit `tokens` when padded to the longest."""
    lengths_F = features.lengths_F
    order = np.argsort(-lengths_F, kind="stable")
    start = 0
    while start < len(order):
        fit = max(1, tokens // int(lengths_F[order[start]]))
        yield order[start : start + fit]
        start += fit


def generator(*seed: Any) -> np.random.Generator:
    """A separate random stream for each purpose, identified by a seed and words such as `order`."""
    words = [part if isinstance(part, int) else int.from_bytes(str(part).encode()) for part in seed]
    return np.random.default_rng(words)
