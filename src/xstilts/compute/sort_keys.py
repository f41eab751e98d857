"""Sort keys: a similarity and an id in one integer, so that one sort orders by both."""

from __future__ import annotations

import torch
from torch import Tensor


def sort_keys(values: Tensor, ids: Tensor) -> Tensor:
    """Integers that sort like the float32 values; of equal values the lower id comes out higher."""
    bits = (values + 0.0).view(torch.int32)  # + 0.0 turns -0.0 into 0.0
    return (bits ^ (bits >> 31 & 0x7FFFFFFF)).long() << 32 | 2**32 - 1 - ids


def similarities(keys: Tensor) -> Tensor:
    """The values of sort keys."""
    bits = (keys >> 32).int()
    return (bits ^ (bits >> 31 & 0x7FFFFFFF)).view(torch.float32)


def numbers(keys: Tensor) -> Tensor:
    """The ids of sort keys."""
    return 2**32 - 1 - (keys & 2**32 - 1)
