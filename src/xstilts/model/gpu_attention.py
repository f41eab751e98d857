"""Attention within the sequences of a packed row on a GPU, which needs no padding."""

# Shape suffixes: T = tokens of the row, H = heads, D = a head's width

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import cache, wraps
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from xstilts.compute.memory import is_out_of_memory
from xstilts.compute.private import flash_attention

F = TypeVar("F", bound=Callable[..., Any])

FLASH_WIDTH = 192
"""The widest head for which all GPUs have a backward pass with dropout."""


def constant(function: F) -> F:
    """Make a function whose result for a device never changes, and which torch's compiler does not look into."""
    cached = cache(function)

    @wraps(function)
    def call(*devices: torch.device) -> Any:
        return cached(*devices)

    return cast("F", torch.compiler.assume_constant_result(call))  # type: ignore[no-untyped-call]


def use_varlen(kind: str, dtype: torch.dtype, width: int) -> bool:
    """Whether torch's attention for packed rows applies, which needs no grid and no mask.

    Args:
        kind: `flash` for a GPU with this attention, else the type of the device.
        dtype: of the computation.
        width: of a head.
    """
    narrow = dtype in (torch.bfloat16, torch.float16)
    return kind == "flash" and narrow and width % 8 == 0 and width <= 256


@constant
def attention_kind(where: torch.device) -> str:
    """`flash` for an NVIDIA GPU since Ampere with a torch that has attention for packed rows with windows."""
    if where.type != "cuda" or torch.version.hip is not None or not _varlen_arguments():
        return where.type
    able = torch.backends.cuda.is_flash_attention_available() and torch.cuda.get_device_capability(where) >= (8, 0)
    return "flash" if able else where.type


def may_drop(where: torch.device, width: int) -> bool:
    """Whether the private kernel for packed rows takes dropout, with heads of a width."""
    return width <= FLASH_WIDTH and flash_drops(where)


@constant
def flash_drops(where: torch.device) -> bool:
    """Whether the private kernel for packed rows with dropout works on a GPU: tried once, on two sequences.

    All weights of a sequence are equal there, so an output is the mean of what was kept. A gradient times the values is
    the outputs times their own gradient, but only if the backward pass drops the same weights.

    Raises:
        RuntimeError: memory is full.
    """
    ends, rate = (64, 256), 0.25
    try:
        with torch.random.fork_rng([where]), torch.enable_grad(), torch.autocast(where.type, enabled=False):
            value_THD = torch.ones(256, 2, 32, dtype=torch.bfloat16, device=where)
            value_THD[ends[0] :] = 3
            same_THD = torch.zeros_like(value_THD)
            cu_seqlens = torch.tensor([0, *ends], dtype=torch.int32, device=where)
            value_THD.requires_grad_()
            out_THD = flash_attention(same_THD, same_THD, value_THD, cu_seqlens, 192, None, rate).float()
            parts = out_THD.detach().tensor_split([ends[0]])
            uneven_THD = torch.cat(
                [part - part.mean() for part in parts]
            )  # other dropped weights give a product near 0
            (grad_THD,) = torch.autograd.grad(out_THD, value_THD, uneven_THD)
    except (RuntimeError, TypeError, AttributeError, NotImplementedError) as error:
        if is_out_of_memory(error):
            raise
        return False  # another version of torch
    out_THD, value_THD = out_THD.detach(), value_THD.detach()
    means = [float(part.mean()) / size for part, size in zip(parts, (1, 3), strict=True)]
    ratio = float((grad_THD.float() * value_THD).sum() / (uneven_THD * out_THD).sum())
    drops = float(out_THD[ends[0] :].std()) > 0.5 * (rate / (1 - rate) * 9 / 192) ** 0.5
    return drops and all(abs(mean - 1) < 0.1 for mean in means) and abs(ratio - 1) < 0.1


@constant
def _varlen_arguments() -> tuple[str, ...]:
    """The arguments of torch's public function; none if this version has no such function, or one without windows."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return ()
    known = tuple(inspect.signature(varlen_attn).parameters)
    return known if {"scale", "window_size"} <= {*known} else ()


def varlen_attention(
    rows_THD: Sequence[Tensor],
    cu_seqlens: Tensor,
    longest: int,
    dtype: torch.dtype,
    scaling: float | None,
    sliding_window: int | None,
) -> Tensor:
    """[T, H, D]: attention within each sequence of queries, keys and values."""
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = (x.to(dtype) for x in rows_THD)
    reach = -1 if sliding_window is None else sliding_window - 1
    more: dict[str, Any] = {}
    if q.shape[1] != k.shape[1]:
        if "enable_gqa" in _varlen_arguments():
            more["enable_gqa"] = True
        else:  # torch 2.11 needs as many heads of keys and values as of queries
            k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    ends = cu_seqlens, cu_seqlens, longest, longest
    out = varlen_attn(q, k, v, *ends, scale=scaling, window_size=(reach, reach), **more)
    return cast("Tensor", out)
