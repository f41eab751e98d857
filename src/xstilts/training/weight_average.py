"""Weights averaged: along one training, and of finished steps weight by weight (their mean, or task vectors)."""

# Shape suffixes: N = numbers of a weight, S = sources

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Mean:
    """The running mean of a training's weights, at evenly spaced points, on the CPU: one more copy of them.

    This is checkpoint averaging (Schmidt, Vulić, Glavaš 2023: Free Lunch). A weight that two modules share counts once;
    buffers, such as position ids, are not averaged.

    Attributes:
        count: points that were reached.
        points: updates, counted from 1, after which the weights are taken in.
    """

    def __init__(self, modules: nn.Module, snapshots: int | None, total: int) -> None:
        """A mean at `snapshots` points of `total` updates, the last of them included; of none if that is None."""
        self.count = 0
        self._modules = modules
        self.points = {-(-k * total // snapshots) for k in range(1, snapshots + 1)} if snapshots else set()
        self._values: dict[str, Tensor] = {}

    def after(self, update: int) -> None:
        """Take the weights in, if this update is one of the points."""
        if update in self.points:
            self.add()

    def add(self) -> None:
        """Take the weights in as they are now."""
        self.count += 1
        for name, weight in self._modules.named_parameters():
            if name in self._values:
                self._values[name].lerp_(weight.detach().to("cpu"), 1 / self.count)
            else:
                self._values[name] = weight.detach().to("cpu", copy=True)

    def end(self) -> None:
        """A training that was stopped before the first point has the weights that it kept for a mean."""
        if self.points and not self.count:
            self.add()

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Meanwhile the modules have the mean for weights."""
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
        """All that it has gathered, as tensors."""
        return {"count": torch.tensor(self.count), **{f"mean.{name}": value for name, value in self._values.items()}}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state_dict` gave."""
        self.count = int(state["count"])
        self._values = {
            name.removeprefix("mean."): value.to("cpu", copy=True) for name, value in state.items() if name != "count"
        }
