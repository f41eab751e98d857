"""Private names of torch, transformers and Ray that this package needs, each behind a public one."""

# Shape suffixes: N = rows, I = inputs, O = outputs

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from torch import Tensor

ONEDNN: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
"""torch's compiler uses this for linear layers on a CPU; None if torch was built without oneDNN."""
_BF16: Any = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)


def has_fast_bf16() -> bool:
    """Whether oneDNN computes in bfloat16 on this processor; torch's own products take many times as long."""
    return _BF16 is not None and bool(_BF16())


def onednn_linear(x_NI: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """X W' + b, [N, O], by oneDNN."""
    result: Tensor = ONEDNN(x_NI, weight_OI, bias_O, "none", [], "")
    return result


def flash_attention(
    query_THD: Tensor, key_THD: Tensor, value_THD: Tensor, cu_seqlens: Tensor, longest: int, scale: float | None,
    dropout: float,
) -> Tensor:  # fmt: skip
    """Attention [T, H, D] within each sequence of a row, with dropout; torch's public function for rows has none."""
    ends = cu_seqlens, cu_seqlens, longest, longest
    forward = torch.ops.aten._flash_attention_forward
    out: Tensor = forward(query_THD, key_THD, value_THD, *ends, dropout, False, False, scale=scale)[0]
    return out


def multiply_all(tensors: list[Tensor], factor: Tensor) -> None:
    """Multiply tensors in place by one factor, without a kernel for each."""
    torch._foreach_mul_(tensors, factor)


def copy_all(tensors: list[Tensor], sources: list[Tensor]) -> None:
    """Copy tensors of equal shapes, without a kernel for each."""
    torch._foreach_copy_(tensors, sources)


def import_compiler() -> None:
    """Import torch's compiler, which optimizers and transformers import at their first use."""
    import_module("torch._dynamo")


def breaks_graph(error: Exception) -> bool:
    """Whether torch's compiler fails because it cannot make one graph of a function, or not one for all its inputs."""
    found = import_module("torch._dynamo.exc")
    return isinstance(error, found.Unsupported | found.FailOnRecompileLimitHit)


def attention_name(config: Any) -> str:
    """The attention function that a transformers configuration selects."""
    name: str = config._attn_implementation
    return name


def has_model(auto: Any, config: Any) -> bool:
    """Whether an `AutoModelFor...` class has a model for a configuration."""
    return type(config) in auto._model_mapping


def commit_hash(config: Any) -> str:
    """The commit of a model on the Hub, from its configuration; empty for a folder."""
    return getattr(config, "_commit_hash", None) or ""


def set_backend(tokenizer: Any, backend: Any) -> None:
    """Give a fast tokenizer of transformers the rules of a `tokenizers.Tokenizer`, as they are."""
    tokenizer._tokenizer = backend


def mute_ray_node_logs() -> None:
    """Keep Ray's messages about its nodes off stdout, where tables go; Ray has no public setting for it."""
    import_module("ray")._private.worker._worker_logs_enabled = False
