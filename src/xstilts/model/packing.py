"""Padding-free batches: an attention function that keeps the sequences of one packed row apart.

The model gets one row of all real tokens, so that only attention handles padding. This function splits the row's
queries, keys and values into sequences, attends within each, and joins the results into a row. On a GPU it passes the
row to torch's attention for packed rows.
"""

# Shape suffixes: T = real tokens of the batch, B = sequences, L = longest sequence, H = heads, D = a head's width

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from xstilts.compute.private import flash_attention
from xstilts.model import gpu_attention
from xstilts.model.cpu_attention import Attention, HeadGrids

NAME = "xstilts_packed"

SIMILAR, GRID_MIN = 0.75, 4
"""On a CPU a new grid begins at a sequence shorter than this share of the grid's longest, if the grid has this many
sequences, because every grid costs a few calls."""
GRID_PAIRS = 2**15
"""The most pairs of a query and a key in a grid of several sequences on a CPU, so that all heads' scores fit its cache:
without this limit eight sequences of 256 tokens take three times as long."""

ALIGNED = 16
"""Rows of a mask begin at a multiple of so many numbers."""


@dataclass(frozen=True)
class Layout:
    """The position of each token of a packed row in padded [B, L] grids, one after another."""

    slots_T: Tensor
    at_T: Tensor
    """Position of each token in its sequence."""
    grids: tuple[Tensor, ...]
    """For each grid, a mask of its real tokens."""
    cu_seqlens: Tensor
    """[B + 1] int32: the start of each sequence in the row, and the row's end."""
    windows: set[int] = field(default_factory=set)
    """The sliding windows of the model's layers."""
    masks: dict[tuple[int, int | None, torch.dtype], Tensor] = field(default_factory=dict)
    """The masks of SDPA, by grid, window and type; all layers share them."""
    by_heads: dict[int, HeadGrids] = field(default_factory=dict)
    """The grids of `cpu_attention`, by the number of heads; all layers share them."""

    @classmethod
    def one_grid(cls, lengths_B: Tensor) -> Layout:
        """One grid for sequences of the given lengths, in their order."""
        return cls._of(lengths_B, (torch.arange(len(lengths_B), device=lengths_B.device),))

    @classmethod
    def by_length(cls, lengths_B: Tensor) -> Layout:
        """Grids of sequences of similar length, for a CPU; small calls cost more on other devices."""
        lengths = lengths_B.tolist()
        groups: list[list[int]] = [[]]
        for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
            size, longest = len(groups[-1]), lengths[groups[-1][0]] if groups[-1] else 0
            shorter = size >= GRID_MIN and lengths[row] < SIMILAR * longest
            if shorter or (size and (size + 1) * longest**2 > GRID_PAIRS):
                groups.append([])
            groups[-1].append(row)
        return cls._of(lengths_B, [torch.tensor(group) for group in groups])

    @classmethod
    def _of(cls, lengths_B: Tensor, groups: Sequence[Tensor]) -> Layout:
        where = lengths_B.device
        starts_B, grids, size = torch.zeros_like(lengths_B), [], 0
        for rows in groups:
            longest = int(lengths_B[rows].max())
            grids.append(torch.arange(longest, device=where) < lengths_B[rows, None])
            starts_B[rows] = size + longest * torch.arange(len(rows), device=where)
            size += grids[-1].numel()
        starts_T = torch.repeat_interleave(starts_B, lengths_B)
        cu_seqlens = torch.nn.functional.pad(lengths_B.cumsum(0), (1, 0))
        before_T = torch.repeat_interleave(cu_seqlens[:-1], lengths_B, output_size=len(starts_T))
        at_T = torch.arange(len(starts_T), device=where) - before_T
        return cls(starts_T + at_T, at_T, tuple(grids), cu_seqlens.int())

    def with_padding(self, tokens: int) -> Layout:
        """The layout of a row that ends with so many more tokens, for a layout of one grid.

        They form sequences as long as the longest one, so that no grid becomes wider.
        """
        real_BL, where = self.real_BL, self.slots_T.device
        if not tokens:
            return self
        rows, more = -(-tokens // self.longest), torch.arange(tokens, device=where)
        real = torch.arange(rows * self.longest, device=where) < tokens
        ends = torch.arange(1, rows + 1, dtype=torch.int32, device=where) * self.longest
        return Layout(
            torch.cat((self.slots_T, real_BL.numel() + more)),
            torch.cat((self.at_T, more % self.longest)),
            (torch.cat((real_BL, real.view(rows, self.longest))),),
            torch.cat((self.cu_seqlens, len(self.slots_T) + ends.clamp(max=tokens))),
        )

    def each(self, change: Callable[[Tensor], Tensor]) -> Layout:
        """The same layout with its tensors changed, such as moved to another device."""
        grids = tuple(map(change, self.grids))
        return Layout(change(self.slots_T), change(self.at_T), grids, change(self.cu_seqlens))

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return max(real.shape[1] for real in self.grids)

    @property
    def real_BL(self) -> Tensor:
        """The real tokens of the only grid."""
        (grid,) = self.grids
        return grid


_layout: ContextVar[Layout] = ContextVar("layout")
_compiled: list[Layout | None] = []
"""The same inside `readable_by_compiler`."""


@contextmanager
def packed(layout: Layout) -> Iterator[None]:
    """Inside this context the attention function uses `layout`."""
    token = _layout.set(layout)
    try:
        yield
    finally:
        _layout.reset(token)


@contextmanager
def readable_by_compiler() -> Iterator[None]:
    """Inside this context compiled code, which cannot read a context variable, finds the layout of `packed`."""
    _compiled.append(_layout.get(None))
    try:
        yield
    finally:
        _compiled.clear()


class _Pad(torch.autograd.Function):
    """[T, ...] -> [B*L, ...], zeros between; backward is `_Unpad`, which needs no sums, unlike a general gather."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, slots_T: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(slots_T)
        return rows.new_zeros(size, *rows.shape[1:]).index_copy_(0, slots_T, rows)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return grads[0].index_select(0, ctx.saved_tensors[0]), None, None


class _Unpad(torch.autograd.Function):
    """[B*L, ...] -> [T, ...]; backward is `_Pad`."""

    @staticmethod
    def forward(ctx: Any, grid: Tensor, slots_T: Tensor) -> Tensor:
        ctx.save_for_backward(slots_T)
        ctx.size = len(grid)
        return grid.index_select(0, slots_T)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (slots_T,) = ctx.saved_tensors
        grad = grads[0]
        return grad.new_zeros(ctx.size, *grad.shape[1:]).index_copy_(0, slots_T, grad), None


def pad(rows: Tensor, layout: Layout) -> Tensor:
    """[T, ...] -> [B, L, ...] zero-padded, for a layout of one grid."""
    (grid,) = _grids(rows, layout)
    return grid


def _grids(rows: Tensor, layout: Layout) -> list[Tensor]:
    """[T, ...] -> [B, L, ...] of each grid."""
    sizes = [real.numel() for real in layout.grids]
    padded: Tensor = _Pad.apply(rows, layout.slots_T, sum(sizes))  # type: ignore[no-untyped-call]
    parts = torch.split(padded, sizes) if len(sizes) > 1 else (padded,)
    return [part.view(*real.shape, *rows.shape[1:]) for part, real in zip(parts, layout.grids, strict=True)]


def unpad(grid: Tensor, layout: Layout) -> Tensor:
    """[B, L, ...] -> [T, ...], without padding, for a layout of one grid."""
    return _rows([grid], layout)


def _rows(grids: Sequence[Tensor], layout: Layout) -> Tensor:
    """[B, L, ...] of each grid -> [T, ...]."""
    flat = [grid.flatten(0, 1) for grid in grids]
    rows: Tensor = _Unpad.apply(flat[0] if len(flat) == 1 else torch.cat(flat), layout.slots_T)  # type: ignore[no-untyped-call]
    return rows


def attention(
    module: torch.nn.Module,  # noqa: ARG001  (part of the interface)
    query_1HTD: Tensor,
    key_1HTD: Tensor,
    value_1HTD: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """Attend within each sequence of a packed row; returns [1, T, H, D], the shape that transformers expects.

    `sliding_window` w lets a token see those with |i - j| < w, as ModernBERT's local layers do.

    Raises:
        ValueError: the model passes a float or a float tensor, such as a bias or a cap, which this function ignores.
    """
    assert attention_mask is None, "a packed row has no padding to mask"
    for name, value in more.items():  # integers, switches and None are harmless
        if isinstance(value, float) or (isinstance(value, Tensor) and value.is_floating_point()):
            raise ValueError(f"attention with {name}")
    compiles = torch.compiler.is_compiling()
    layout = _compiled[0] if compiles else _layout.get()
    assert layout is not None
    if sliding_window is not None and not compiles:
        layout.windows.add(sliding_window)
    rows = [x[0].transpose(0, 1) for x in (query_1HTD, key_1HTD, value_1HTD)]
    where = query_1HTD.device
    dtype = torch.get_autocast_dtype(where.type) if torch.is_autocast_enabled(where.type) else query_1HTD.dtype
    if gpu_attention.use_varlen(gpu_attention.attention_kind(where), dtype, query_1HTD.shape[-1]):
        row = layout.cu_seqlens, layout.longest
        if not dropout:
            out = gpu_attention.varlen_attention(rows, *row, dtype, scaling, sliding_window)
            return out[None].to(query_1HTD.dtype), None
        if sliding_window is None and gpu_attention.may_drop(where, query_1HTD.shape[-1]):
            q, k, v = (x.to(dtype) for x in rows)
            out = flash_attention(q, k, v, *row, scaling, dropout)
            return out[None].to(query_1HTD.dtype), None
    plain = sliding_window is None and query_1HTD.shape == key_1HTD.shape
    if where.type == "cpu" and plain and not compiles and (dropout or dtype == torch.bfloat16):
        return _cpu_attention(rows, layout, dtype, scaling, dropout)[None].to(query_1HTD.dtype), None
    queries, keys, values = (_grids(_float32_on_cpu(x), layout) for x in rows)
    outputs = []
    with torch.autocast("cpu", enabled=False):  # autocast would make it bfloat16 again
        for i, grids in enumerate(zip(queries, keys, values, strict=True)):
            q, k, v = (grid_BLHD.transpose(1, 2) for grid_BLHD in grids)
            out = scaled_dot_product_attention(
                q, k, v, attn_mask=_mask(layout, i, sliding_window, dtype), dropout_p=dropout, scale=scaling,
                enable_gqa=q.shape[1] != k.shape[1],
            )  # fmt: skip
            outputs.append(out.transpose(1, 2))
    return _rows(outputs, layout)[None].to(query_1HTD.dtype), None


def _cpu_attention(
    rows_THD: Sequence[Tensor], layout: Layout, dtype: torch.dtype, scaling: float | None, dropout: float
) -> Tensor:
    """[T, H, D]: attention on a CPU with dropout or in bfloat16."""
    _, heads, width = rows_THD[0].shape
    if heads not in layout.by_heads:
        layout.by_heads[heads] = HeadGrids.of(layout.slots_T, layout.grids, heads)
    scale = width**-0.5 if scaling is None else scaling
    rows = (x.to(dtype) for x in rows_THD)
    out: Tensor = Attention.apply(*rows, layout.by_heads[heads], scale, dropout)  # type: ignore[no-untyped-call]
    return out


def _float32_on_cpu(x: Tensor) -> Tensor:
    """On a CPU as float32: attention is more than twice as fast as in bfloat16 there, above all backward."""
    return x.float() if x.device.type == "cpu" else x


def _mask(layout: Layout, grid: int, sliding_window: int | None, dtype: torch.dtype) -> Tensor:
    """The mask of a grid, made once for all layers; on a GPU as numbers, since SDPA would convert it in each layer."""
    key = grid, sliding_window, dtype
    if key in layout.masks:
        return layout.masks[key]
    mask = _bool_mask(layout.grids[grid], sliding_window)
    if mask.device.type != "cpu":
        mask = _additive(mask, dtype)
    if not torch.compiler.is_compiling():  # a compiler finds by itself that all layers have the same mask
        layout.masks[key] = mask
    return mask


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Minus infinity where a mask is false, else 0; its rows are aligned, so that no kernel copies them."""
    length = mask.shape[-1]
    room = torch.zeros(*mask.shape[:-1], -(-length // ALIGNED) * ALIGNED, dtype=dtype, device=mask.device)
    return room[..., :length].masked_fill_(~mask, -torch.inf)


def _bool_mask(real_BL: Tensor, sliding_window: int | None) -> Tensor:
    mask = real_BL[:, None, None, :]
    if sliding_window is not None and sliding_window < real_BL.shape[1]:
        at_L = torch.arange(real_BL.shape[1], device=real_BL.device)
        near_LL = (at_L[:, None] - at_L).abs() < sliding_window
        # padded queries may see padded keys, because a row that sees nothing would be NaN; `unpad` drops them
        mask = near_LL & (mask | ~real_BL[:, None, :, None])
    return mask


def no_mask(*_: Any, **__: Any) -> None:
    """The mask function of `attention`, which needs only the layout."""


def register() -> None:
    """Register `attention` with transformers as `NAME`."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, no_mask)
