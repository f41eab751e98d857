"""Distributed training: the processes that torchrun or accelerate started, and what they tell one another.

Messages have a group of their own on the CPU; gradients have another (`gradient_sum`). Each message begins with a
meeting of all processes. A process that has failed says so at the next meeting, so that all raise its error.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from xstilts.compute import device
from xstilts.errors import StepFailed, UserError

T = TypeVar("T")

CONNECT_TIMEOUT = timedelta(minutes=5)
"""How long a process waits for the others at the start."""
GRADIENT_TIMEOUT = timedelta(minutes=10)
"""How long a process waits for the others' gradients; they add them after a meeting, so all are there."""
MESSAGE_TIMEOUT = timedelta(days=7)
"""How long a process waits at a meeting: the first may be scoring. The end of a process ends the wait at once."""
PATIENCE = 45.0
"""Seconds that a failed process waits for the others before it ends alone."""
SIGNALS = timedelta(seconds=1)
"""How often a waiting process handles signals."""


class Lost(UserError):
    """Another process has ended without a message."""


class _Messages:
    """The group for messages."""

    group: Any = None
    closed = False
    """Whether no process waits for a message any more."""
    shared: BaseException | None = None
    """The last failure of a step that all processes raised."""


def world_size() -> int:
    """Number of processes that train together; 1 without torchrun."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


# --- the group ------------------------------------------------------------------------------------------------------


@contextmanager
def process_group() -> Iterator[None]:
    """Within this block the processes that torchrun started are connected; an error of one ends the block in all.

    Process 0 raises the error; the others exit without a message.

    Raises:
        UserError: WORLD_SIZE announces several processes, but they cannot be found.
        Lost: another process has ended without a message.
    """
    if os.environ.get("WORLD_SIZE", "1") in ("", "1"):
        yield
        return
    store, unsaid = _connect(), None
    try:
        yield
        meet()
        _leave(store)
    except BaseException as error:
        if not _tell(error) or rank() == 0:
            unsaid = error
            raise
        raise SystemExit(_exit_code(error)) from None
    finally:
        with _limited(unsaid):  # NCCL may wait for processes that have ended
            dist.destroy_process_group()
        _Messages.group, _Messages.closed = None, False


def _connect() -> Any:
    """Connect the processes; returns their common store."""
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
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=GRADIENT_TIMEOUT)
    _Messages.group = dist.new_group(backend="gloo", timeout=MESSAGE_TIMEOUT)
    return store


def _leave(store: Any) -> None:
    """Wait until all processes have read the last message: a connection that closes earlier may crash its reader."""
    with suppress(RuntimeError):  # the process that has the store may leave first
        store.set(f"left by {rank()}", "")
        store.wait([f"left by {other}" for other in range(world_size())], timedelta(seconds=PATIENCE))


# --- meetings -------------------------------------------------------------------------------------------------------


def meet(number: int = 0, failure: BaseException | None = None) -> int:
    """Wait for all processes; returns the largest of their numbers.

    Args:
        number: of this process.
        failure: its error, if it has failed.

    Raises:
        StepFailed: a step has failed in one process; all raise this.
        Lost: another process has ended without a message.
    """
    if world_size() == 1:
        return number
    flags = torch.tensor([failure is not None, number], dtype=torch.int64)
    reduce_numbers(flags, dist.ReduceOp.MAX)
    failed, largest = flags.tolist()
    if failed:
        _raise_together(_exchange(_portable(failure)))
    return int(largest)


def reduce_numbers(numbers: Tensor, operation: Any = dist.ReduceOp.SUM) -> None:
    """Combine the numbers of all processes in place; they are on the CPU."""
    try:
        work = dist.all_reduce(numbers, operation, group=_Messages.group, async_op=True)
        while not work.is_completed():
            with suppress(RuntimeError):  # the time is over
                work.wait(SIGNALS)
        work.wait()
    except RuntimeError as error:
        raise lost() from error
    except BaseException:  # a signal; the others would wait for what this process does not send
        _Messages.closed = True
        raise


def _exchange(value: Any) -> list[Any]:
    """The values of all processes, in their order, after a meeting."""
    values = [None] * world_size()
    try:
        dist.all_gather_object(values, value, group=_Messages.group)
    except RuntimeError as error:
        raise lost() from error
    return values


def lost() -> Lost:
    """The error if a connection has failed."""
    _Messages.closed = True
    hint = "torchrun says how; run the same command again to continue"
    return Lost("another process of this training has ended", where="torchrun", hint=hint)


def _raise_together(failures: Sequence[BaseException | None]) -> None:
    """Raise the first error that ends the run, or else the first failure of the step."""
    errors = [failure for failure in failures if failure is not None]
    ending = next((error for error in errors if not isinstance(error, StepFailed)), None)
    _Messages.closed, _Messages.shared = ending is not None, ending or errors[0]
    raise ending or errors[0]


def _portable(error: BaseException | None) -> BaseException | None:
    """The error as all processes can raise it; a bug has its traceback as text."""
    if error is None or isinstance(error, UserError | KeyboardInterrupt):
        return error
    return ProcessError(f"in process {rank()}:\n" + "".join(traceback.format_exception(error)))


class ProcessError(Exception):
    """A bug in another process; the message has its traceback."""


@contextmanager
def failing_together() -> Iterator[None]:
    """Within this block a `StepFailed` of one process is raised in all; at its end they wait for one another."""
    try:
        yield
    except StepFailed as failure:
        try:
            if failure is not _Messages.shared:
                with _limited(failure):
                    meet(failure=failure)
            raise
        finally:
            if not _Messages.closed:  # the run goes on, and a failure holds every tensor of its step
                _Messages.shared = None
    meet()


def _tell(error: BaseException) -> bool:
    """Tell all processes why this one ends the run; returns whether process 0 knows that it does."""
    if _Messages.closed:
        return error is _Messages.shared or isinstance(error, Lost)
    _Messages.shared = None
    with _limited(error), suppress(BaseException):
        meet(failure=error)
    return _Messages.shared is not None


def _exit_code(error: BaseException) -> int:
    return 130 if isinstance(error, KeyboardInterrupt) else 2


@contextmanager
def _limited(error: BaseException | None) -> Iterator[None]:
    """End this process with its error if the block takes longer than `PATIENCE`: the others may never meet it."""
    timer = threading.Timer(PATIENCE, _end, [error])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()  # until its end the thread holds the error, and with it every tensor of the step


def _end(error: BaseException | None) -> None:
    if isinstance(error, UserError):
        sys.stderr.write(f"error: {error}\n")
    elif isinstance(error, Exception):
        sys.stderr.write("".join(traceback.format_exception(error)))
    sys.stderr.flush()
    os._exit(2)


# --- messages -------------------------------------------------------------------------------------------------------


def shard(number: int) -> tuple[int, int]:
    """This process's part of `number` items: the first and last + 1."""
    return number * rank() // world_size(), number * (rank() + 1) // world_size()


def sum_numbers(numbers: Sequence[float]) -> list[float]:
    """The sums of all processes' numbers."""
    if world_size() == 1:
        return [*numbers]
    meet()
    sums = torch.tensor(numbers, dtype=torch.float64)
    reduce_numbers(sums)
    return sums.tolist()


def broadcast(value: T) -> T:
    """The value of process 0."""
    if world_size() == 1:
        return value
    meet()
    box: list[T] = [value]
    try:
        dist.broadcast_object_list(box, src=0, group=_Messages.group)
    except RuntimeError as error:
        raise lost() from error
    return box[0]


def main_process_first(do: Callable[[], T]) -> T:
    """Call a function in process 0, then in the others, which find its files on the disk."""
    if rank() == 0:
        result = do()
        meet()
        return result
    meet()
    return do()


def all_gather(value: Any) -> list[Any]:
    """The values of all processes, in their order."""
    if world_size() == 1:
        return [value]
    meet()
    return _exchange(value)
