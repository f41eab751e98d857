"""Attention with dropout or in bfloat16 on a CPU, within the sequences of a packed row.

torch's own takes twice as long. With dropout it draws number by number, checks each row of scores for a fully masked
one and copies queries, keys and values into batches of heads; in bfloat16 its backward pass is slower than in float32.
"""

# Shape suffixes: T = real tokens, H = heads, D = a head's width, S = slots of all grids and heads, N = a grid's
# sequences times heads, L = its longest sequence

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from xstilts.compute.dropout import factors


@dataclass(frozen=True)
class HeadGrids:
    """Where the heads of a row's tokens are in [N, L, D] grids, one after another."""

    sources_S: Tensor
    """The head of a token, numbered T-first, in each slot; padding has any."""
    slots: Tensor
    """[T * H]: the slot of each head of a token."""
    padding: Tensor
    """The slots that are padding."""
    shapes: tuple[tuple[int, int], ...]
    """(N, L) of each grid."""
    biases: tuple[Tensor, ...]
    """[N, 1, L] of each grid: minus infinity at padding, else 0."""

    @classmethod
    def of(cls, slots_T: Tensor, grids: Sequence[Tensor], heads: int) -> HeadGrids:
        """From each token's slot in the grids without heads, and the [B, L] masks of their real tokens."""
        tokens = torch.full((sum(real.numel() for real in grids),), -1)
        tokens[slots_T] = torch.arange(len(slots_T))
        head_H1 = torch.arange(heads)[:, None]
        sources, shapes, biases = [], [], []
        for real_BL, part in zip(grids, torch.split(tokens, [real.numel() for real in grids]), strict=True):
            tokens_B1L = part.view(len(real_BL), 1, -1)
            sources.append(torch.where(tokens_B1L < 0, -1, tokens_B1L * heads + head_H1).flatten())
            shapes.append((len(real_BL) * heads, real_BL.shape[1]))
            bias_BL = torch.zeros(real_BL.shape).masked_fill_(~real_BL, -torch.inf)
            biases.append(bias_BL.repeat_interleave(heads, 0)[:, None])
        sources_S = torch.cat(sources)
        real = (sources_S >= 0).nonzero()[:, 0]
        slots = torch.empty(len(real), dtype=torch.long)
        slots[sources_S[real]] = real
        return cls(sources_S.clamp(min=0), slots, (sources_S < 0).nonzero()[:, 0], tuple(shapes), tuple(biases))

    def split(self, rows_THD: Tensor) -> tuple[Tensor, ...]:
        """[T, H, D] -> [N, L, D] of each grid; padding has numbers of some token."""
        return self.views(rows_THD.reshape(-1, rows_THD.shape[-1]).index_select(0, self.sources_S))

    def views(self, grids_SD: Tensor) -> tuple[Tensor, ...]:
        """[S, D] -> [N, L, D] of each grid."""
        parts = torch.split(grids_SD, [n * length for n, length in self.shapes])
        return tuple(part.view(*shape, -1) for part, shape in zip(parts, self.shapes, strict=True))

    def join(self, grids: Sequence[Tensor], heads: int) -> Tensor:
        """[N, L, D] of each grid -> [T, H, D]."""
        joined = torch.cat([grid.flatten(0, 1) for grid in grids]).index_select(0, self.slots)
        return joined.view(-1, heads, joined.shape[-1])


class Attention(torch.autograd.Function):
    """softmax(scale x queries x keys'), times dropout's factors, times values; queries, keys, values are [T, H, D].

    Products are in the type of the queries, the softmax is in float32.
    """

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, grids: HeadGrids, scale: float, rate: float
                ) -> Tensor:  # fmt: skip
        """[T, H, D]."""
        outputs, saved = [], []
        for q, k, v, bias in zip(*(grids.split(x) for x in (queries, keys, values)), grids.biases, strict=True):
            scores = torch.baddbmm(bias.to(q.dtype), q, k.transpose(1, 2), alpha=scale)
            weights = torch.softmax(scores.float(), -1)
            kept = factors(weights.shape, rate) if rate else torch.ones(())
            outputs.append(torch.bmm((weights * kept).to(v.dtype), v))
            saved += [q, k, v, weights, kept]
        ctx.save_for_backward(*saved)
        ctx.grids, ctx.scale = grids, scale
        return grids.join(outputs, queries.shape[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of queries, keys and values."""
        (grad_THD,), grids, saved = grads, ctx.grids, ctx.saved_tensors
        grads_SD = grad_THD.reshape(-1, grad_THD.shape[-1]).index_select(0, grids.sources_S)
        grads_SD.index_fill_(0, grids.padding, 0)
        into: tuple[list[Tensor], ...] = ([], [], [])
        for i, grad in enumerate(grids.views(grads_SD)):
            q, k, v, weights, kept = saved[5 * i : 5 * i + 5]
            into[2].append(torch.bmm((weights * kept).to(v.dtype).transpose(1, 2), grad))
            grad_weights = torch.bmm(grad, v.transpose(1, 2)) * kept
            dots = (grad_weights * weights).sum(-1, keepdim=True)
            grad_scores = ((grad_weights - dots) * weights * ctx.scale).to(q.dtype)
            into[0].append(torch.bmm(grad_scores, k))
            into[1].append(torch.bmm(grad_scores.transpose(1, 2), q))
        joined = [grids.join(parts, grad_THD.shape[1]) for parts in into]
        return *joined, None, None, None
