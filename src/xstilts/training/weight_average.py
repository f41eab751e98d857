"""Checkpoint averaging: the mean of the weights along one training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from xstilts.compute import distributed


class Mean:
    """The running mean of a training's weights at evenly spaced points; it is one more copy of them, on the CPU.

    This is checkpoint averaging (Schmidt, Vulić, Glavaš 2023: Free Lunch). A weight that two modules share counts once;
    buffers, such as position ids, are not averaged. Of processes that train together only the first has the mean.

    Attributes:
        count: the number of points so far.
        points: the updates, counted from 1, after which the weights are added.
    """

    def __init__(self, modules: nn.Module, snapshots: int | None, total: int) -> None:
        """Plan `snapshots` points in `total` updates, one of them the last update; no points if None."""
        self.count = 0
        self._modules = modules
        self.points = {-(-k * total // snapshots) for k in range(1, snapshots + 1)} if snapshots else set()
        self._values: dict[str, Tensor] = {}

    def add(self) -> None:
        """Add the current weights."""
        self.count += 1
        if distributed.rank() != 0:
            return
        for name, weight in self._modules.named_parameters():
            if name in self._values:
                self._values[name].lerp_(weight.detach().to("cpu"), 1 / self.count)
            else:
                self._values[name] = weight.detach().to("cpu", copy=True)

    def finish(self) -> None:
        """Use the final weights as the mean if the training stopped before the first point."""
        if self.points and not self.count:
            self.add()

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Give the modules the mean as weights within this block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for name, weight in self._modules.named_parameters():
            mean, self._values[name] = self._values[name], weight.detach().to("cpu")
            weight.data = mean.to(weight.device)

    def state_dict(self) -> dict[str, Tensor]:
        """The mean so far, as tensors, for a checkpoint."""
        return {"count": torch.tensor(self.count), **{f"mean.{name}": value for name, value in self._values.items()}}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` returned."""
        self.count = int(state["count"])
        self._values = {
            name.removeprefix("mean."): value.to("cpu", copy=True) for name, value in state.items() if name != "count"
        }
