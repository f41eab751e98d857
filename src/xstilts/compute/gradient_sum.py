"""Sums the gradients of processes that train together, many tensors at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from xstilts.compute import distributed, memory
from xstilts.compute.private import copy_all

BUCKET = 2**23
"""The numbers that are sent at once, 32 MiB; a larger tensor is sent as it is."""


class GradientSum:
    """Adds up the gradients of all processes, copied into a flat bucket, which is allocated once."""

    def __init__(self) -> None:
        self._bucket: Tensor | None = None

    def sum(self, parameters: Sequence[Tensor]) -> None:
        """Give each parameter the sum of its gradients; a missing one counts as zeros if another process has one.

        Args:
            parameters: of the same shapes in all processes.

        Raises:
            StepFailed: another process has failed in this update.
            Lost: another process has ended.
        """
        if distributed.world_size() == 1:
            return
        if self._bucket is None:
            self._bucket = parameters[0].new_empty(min(BUCKET, sum(one.numel() for one in parameters)))
        distributed.meet()  # nobody waits below for a process that has failed
        has_P = torch.tensor([one.grad is not None for one in parameters], dtype=torch.uint8)
        distributed.reduce_numbers(has_P, dist.ReduceOp.MAX)
        used = [one for one, has in zip(parameters, has_P.tolist(), strict=True) if has]
        for parameter in used:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        try:
            for gradients in buckets([one.grad for one in used if one.grad is not None], len(self._bucket)):
                self._sum(gradients)
        except RuntimeError as error:
            if memory.is_out_of_memory(error):
                raise
            raise distributed.lost() from error

    @torch.no_grad()
    def _sum(self, gradients: Sequence[Tensor]) -> None:
        assert self._bucket is not None
        if len(gradients) == 1:
            dist.all_reduce(gradients[0])
            return
        sizes = [one.numel() for one in gradients]
        flat = self._bucket[: sum(sizes)]
        torch.cat([one.reshape(-1) for one in gradients], out=flat)
        dist.all_reduce(flat)
        sums = [part.view_as(one) for part, one in zip(torch.split(flat, sizes), gradients, strict=True)]
        copy_all([*gradients], sums)


def buckets(tensors: Iterable[Tensor], most: int) -> Iterator[list[Tensor]]:
    """Successive tensors that have at most so many numbers together; a larger one is alone."""
    bucket, size = list[Tensor](), 0
    for one in tensors:
        if bucket and size + one.numel() > most:
            yield bucket
            bucket, size = [], 0
        bucket.append(one)
        size += one.numel()
    if bucket:
        yield bucket
