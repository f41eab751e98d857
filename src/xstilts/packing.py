"""Padding-free batches: an attention function that keeps the sequences of one packed row apart.

The model is handed one row of all real tokens, so that everything but attention touches no padding. This function takes
the row's queries, keys and values apart into sequences, attends within each, and puts the result into a row again.
"""

# Shape suffixes: T = real tokens of the batch, B = sequences, L = longest sequence, H = heads, D = a head's width

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

NAME = "xstilts_packed"


@dataclass(frozen=True)
class Layout:
    """Where each token of a packed row stands in the padded [B, L] grid."""

    slots_T: Tensor
    real_BL: Tensor

    @classmethod
    def of(cls, lengths_B: Tensor) -> Layout:
        """The layout of sequences of the given lengths."""
        longest = int(lengths_B.max())
        real_BL = torch.arange(longest, device=lengths_B.device) < lengths_B[:, None]
        return cls(real_BL.flatten().nonzero().flatten(), real_BL)


_layout: ContextVar[Layout] = ContextVar("layout")


@contextmanager
def packed(layout: Layout) -> Iterator[None]:
    """Within this block the attention function reads packed rows by `layout`."""
    token = _layout.set(layout)
    try:
        yield
    finally:
        _layout.reset(token)


class _Pad(torch.autograd.Function):
    """[T, ...] -> [B*L, ...], zeros between; backward is `_Unpad`, without the sums a general gather would need."""

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
    """[T, ...] -> [B, L, ...] with zeros at the padding."""
    padded: Tensor = _Pad.apply(rows, layout.slots_T, layout.real_BL.numel())  # type: ignore[no-untyped-call]
    return padded.view(*layout.real_BL.shape, *rows.shape[1:])


def unpad(grid: Tensor, layout: Layout) -> Tensor:
    """[B, L, ...] -> [T, ...], the padding left out."""
    rows: Tensor = _Unpad.apply(grid.flatten(0, 1), layout.slots_T)  # type: ignore[no-untyped-call]
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
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend within each sequence of a packed row; returns [1, T, H, D] as transformers' interface asks.

    `sliding_window` w lets a token see those with |i - j| < w, as ModernBERT's local layers do.
    """
    assert attention_mask is None, "a packed row has no padding to mask"
    layout = _layout.get()
    q, k, v = (pad(x[0].transpose(0, 1), layout).transpose(1, 2) for x in (query_1HTD, key_1HTD, value_1HTD))
    mask = layout.real_BL[:, None, None, :]
    if sliding_window is not None and sliding_window < layout.real_BL.shape[1]:
        at_L = torch.arange(layout.real_BL.shape[1], device=q.device)
        near_LL = (at_L[:, None] - at_L).abs() < sliding_window
        # padded queries may see padded keys: a row that sees nothing would be NaN, and is thrown away anyway
        mask = near_LL & (mask | ~layout.real_BL[:, None, :, None])
    out = scaled_dot_product_attention(
        q, k, v, attn_mask=mask, dropout_p=dropout, scale=scaling, enable_gqa=q.shape[1] != k.shape[1]
    )
    return unpad(out.transpose(1, 2), layout)[None], None


def no_mask(*_: Any, **__: Any) -> None:
    """The mask function that belongs to `attention`: the layout says all."""


def register() -> None:
    """Make `attention` known to transformers under `NAME`."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, no_mask)
