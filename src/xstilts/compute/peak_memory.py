"""The most memory that a step takes: the process's, and the accelerator's."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_peak(where: torch.device) -> None:
    """Begin a new peak on this device and, where the system allows it, of this process."""
    with suppress(OSError):
        _CLEAR.write_text("5")  # Linux: the peak becomes the memory of now
    if where.type == "cuda":
        torch.cuda.init()  # type: ignore[no-untyped-call]  # the counters exist from then on
        torch.cuda.reset_peak_memory_stats(where)


def peak_bytes(where: torch.device) -> dict[str, int]:
    """Bytes since `reset_peak`: `memory_bytes` of the process on Linux, `accelerator_bytes` on CUDA."""
    found = dict[str, int]()
    with suppress(OSError):
        lines = dict(line.split(":", 1) for line in _STATUS.read_text(encoding="utf-8").splitlines())
        if "VmHWM" in lines:
            found["memory_bytes"] = int(lines["VmHWM"].split()[0]) * 1024
    if where.type == "cuda":
        found["accelerator_bytes"] = torch.cuda.max_memory_allocated(where)
    return found
