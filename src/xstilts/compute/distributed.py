"""One training on several devices: the processes that torchrun or accelerate have started, and what they exchange."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed
from torch.distributed.rendezvous import rendezvous
from torch.nn import Parameter

from xstilts.compute import device
from xstilts.errors import UserError

T = TypeVar("T")

MEETING, PATIENCE = timedelta(minutes=5), timedelta(days=7)
"""How long a process waits for the others to begin with; and later, when one of them may be scoring."""


def size() -> int:
    """Number of processes that train together; 1 without torchrun."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Number of this process among them, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


@contextmanager
def joined() -> Iterator[None]:
    """Within this block the processes that were started together know of each other.

    Raises:
        UserError: the environment speaks of several processes, but they cannot be found.
    """
    if os.environ.get("WORLD_SIZE", "1") in ("", "1"):
        yield
        return
    where = device.device()
    if where.type == "cuda":
        torch.cuda.set_device(where)
    try:
        store, rank, size = next(rendezvous("env://", timeout=MEETING))
    except (ValueError, RuntimeError) as error:
        what = f"speaks of several processes, but they cannot be found: {error}"
        hint = "start the run with torchrun or accelerate launch, or unset WORLD_SIZE"
        raise UserError(what, where="WORLD_SIZE", hint=hint) from error
    backend = "nccl" if where.type == "cuda" else "gloo"
    distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
    try:
        yield
        distributed.barrier()  # one that leaves while others still send to it may be aborted by their threads
    finally:
        distributed.destroy_process_group()


def share(number: int) -> tuple[int, int]:
    """The first and last + 1 of so many things that are this process's."""
    return number * rank() // size(), number * (rank() + 1) // size()


def sum_gradients(parameters: Iterable[Parameter]) -> None:
    """Add up the gradients of all processes; a process without one where another has one counts as zeros."""
    if size() == 1:
        return
    every = list(parameters)
    has_P = torch.tensor([float(p.grad is not None) for p in every], device=every[0].device)
    distributed.all_reduce(has_P)
    for parameter, has in zip(every, has_P.tolist(), strict=True):
        if has:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            distributed.all_reduce(parameter.grad)


def summed(value: Tensor) -> Tensor:
    """The sum of all processes' values."""
    if size() > 1:
        distributed.all_reduce(value)
    return value


def said(value: T) -> T:
    """What process 0 says."""
    if size() == 1:
        return value
    box: list[T] = [value]
    distributed.broadcast_object_list(box, src=0)
    return box[0]


def first(do: Callable[[], T]) -> T:
    """Do something in process 0, then in the others, which find what it has left on the disk."""
    if rank() == 0:
        made = do()
        said(None)
        return made
    said(None)
    return do()


def gathered(value: Any) -> list[Any]:
    """The values of all processes, by their number."""
    values = [value]
    if size() > 1:
        values = [None] * size()
        distributed.all_gather_object(values, value)
    return values
