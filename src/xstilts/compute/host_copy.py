"""Copies of results into the processor's memory, which a GPU makes while it and the processor go on."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class HostCopy:
    """A copy that has begun; elsewhere than on CUDA it is complete at once."""

    def __init__(self, source: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        if source.device.type != "cuda":
            self._host = source.cpu()
            return
        self._host = torch.empty(source.shape, dtype=source.dtype, pin_memory=True)
        self._host.copy_(source, non_blocking=True)
        self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._event.record(torch.cuda.current_stream(source.device))

    def numpy(self) -> NDArray[Any]:
        """The array, as soon as it is there; pinned memory is scarce, so nothing keeps it."""
        if self._event is None:
            return np.asarray(self._host.numpy())
        self._event.synchronize()
        return np.array(self._host.numpy())
