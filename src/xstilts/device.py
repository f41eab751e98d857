"""The hardware: which device, which precision, how many threads, and where random numbers start."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch

from xstilts.errors import UserError

Precision = Literal["fp32", "bf16"]

NARROW = 128
"""Hidden size below which one thread is used."""
THREADS = torch.get_num_threads()
"""Threads that torch would use by itself (OMP_NUM_THREADS sets them)."""


def device() -> torch.device:
    """The accelerator if there is one, else the CPU; `XSTILTS_DEVICE` overrides (cpu, cuda, cuda:1, mps)."""
    named = os.environ.get("XSTILTS_DEVICE")
    if named:
        return _named(named)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _named(name: str) -> torch.device:
    try:
        found = torch.device(name)
        torch.zeros(1, device=found).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        hint = "cpu, cuda, cuda:1, mps; unset it to use the accelerator if there is one"
        raise UserError(f"there is no device '{name}' here", where="XSTILTS_DEVICE", hint=hint) from error
    return found


def autocast(where: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """Forward passes in `precision`; weights and updates stay float32."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(where.type, dtype=torch.bfloat16)


def spread(hidden: int) -> None:
    """Use one thread for a narrow encoder, all there are for others.

    Sharing out matrices this small costs more than it brings, far more where other programs run beside; and with one
    thread the numbers are the same whatever the number of cores.
    """
    torch.set_num_threads(1 if hidden < NARROW else THREADS)


def seed(value: int) -> None:
    """Start torch's random numbers (new heads, dropout) on every device."""
    torch.manual_seed(value)


def peak_memory(where: torch.device) -> int:
    """Bytes at the peak so far: the accelerator's allocations, or the process's resident memory on a CPU."""
    if where.type == "cuda":
        return torch.cuda.max_memory_allocated(where)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
