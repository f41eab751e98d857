"""Sort keys: a similarity and a number in one integer, so that one sort orders by both."""

from __future__ import annotations

import torch
from torch import Tensor


def sort_keys(values: Tensor, ids: Tensor) -> Tensor:
    """Integers that sort as the float32 values do and, where these are equal, the lower number above the higher."""
    bits = (values + 0.0).view(torch.int32)  # + 0.0 makes one zero of two
    return (bits ^ (bits >> 31 & 0x7FFFFFFF)).long() << 32 | 2**32 - 1 - ids


def similarities(keys: Tensor) -> Tensor:
    """The values in such keys."""
    bits = (keys >> 32).int()
    return (bits ^ (bits >> 31 & 0x7FFFFFFF)).view(torch.float32)


def numbers(keys: Tensor) -> Tensor:
    """The numbers in such keys."""
    return 2**32 - 1 - (keys & 2**32 - 1)
