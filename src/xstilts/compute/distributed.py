"""Distributed training: the processes that torchrun or accelerate started, and what they exchange."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous
from torch.nn import Parameter

from xstilts.compute import device
from xstilts.errors import UserError

T = TypeVar("T")

CONNECT_TIMEOUT, TIMEOUT = timedelta(minutes=5), timedelta(days=7)
"""How long a process waits for the others: at the start, and later, while one of them may be scoring."""


def world_size() -> int:
    """Number of processes that train together; 1 without torchrun."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


@contextmanager
def process_group() -> Iterator[None]:
    """Within this block the processes that torchrun started are connected.

    Raises:
        UserError: WORLD_SIZE announces several processes, but they cannot be found.
    """
    if os.environ.get("WORLD_SIZE", "1") in ("", "1"):
        yield
        return
    where = device.device()
    if where.type == "cuda":
        torch.cuda.set_device(where)
    try:
        store, rank, size = next(rendezvous("env://", timeout=CONNECT_TIMEOUT))
    except (ValueError, RuntimeError) as error:
        what = f"announces several processes, but they cannot be found: {error}"
        hint = "start the run with torchrun or accelerate launch, or unset WORLD_SIZE"
        raise UserError(what, where="WORLD_SIZE", hint=hint) from error
    backend = "nccl" if where.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
    try:
        yield
        dist.barrier()  # a process that leaves while others send to it may crash them
    finally:
        dist.destroy_process_group()


def shard(number: int) -> tuple[int, int]:
    """This process's part of `number` items: the first and last + 1."""
    return number * rank() // world_size(), number * (rank() + 1) // world_size()


def sum_gradients(parameters: Iterable[Parameter]) -> None:
    """Sum the gradients of all processes; a missing gradient counts as zeros if another process has one."""
    if world_size() == 1:
        return
    every = list(parameters)
    has_P = torch.tensor([float(p.grad is not None) for p in every], device=every[0].device)
    dist.all_reduce(has_P)
    for parameter, has in zip(every, has_P.tolist(), strict=True):
        if has:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)


def all_reduce_sum(value: Tensor) -> Tensor:
    """The sum of all processes' values."""
    if world_size() > 1:
        dist.all_reduce(value)
    return value


def broadcast(value: T) -> T:
    """The value of process 0."""
    if world_size() == 1:
        return value
    box: list[T] = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def main_process_first(do: Callable[[], T]) -> T:
    """Call a function in process 0, then in the others, which find its files on the disk."""
    if rank() == 0:
        result = do()
        broadcast(None)
        return result
    broadcast(None)
    return do()


def all_gather(value: Any) -> list[Any]:
    """The values of all processes, in their order."""
    values = [value]
    if world_size() > 1:
        values = [None] * world_size()
        dist.all_gather_object(values, value)
    return values
