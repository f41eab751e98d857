"""AdamW with gradient clipping; it can update only the rows of the word table that a batch reads."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from xstilts.compute.private import multiply_all
from xstilts.training.settings import BETA1, BETA2, EPSILON
from xstilts.training.word_table import RowwiseUpdate

CLIP = 1.0
"""The norm to which gradients are clipped."""


class Optimizer:
    """AdamW over all weights, after clipping their gradients together; weights of one dimension do not decay.

    With a `table`, a row of it changes only when a batch reads it or `flush` brings it up to date: call `prepare`
    before the forward passes of an update, `flush` before anything else reads the weights. The result is that of the
    dense update, up to rounding in float32.

    Args:
        modules: all trained modules, including the table.
        table: the embedding that is updated row by row; None updates all weights densely.
        lr: the largest learning rate of the training.
        weight_decay: the decay of weights with two dimensions or more.
        updates: the largest possible number of updates.
    """

    def __init__(
        self, modules: nn.Module, table: nn.Embedding | None, *, lr: float, weight_decay: float, updates: int
    ) -> None:
        possible = table is not None and lr * weight_decay < 1  # the row-wise update takes the logarithm of 1 - product
        self._rows = RowwiseUpdate(table, weight_decay, updates) if table is not None and possible else None
        self._dense = [p for p in modules.parameters() if self._rows is None or p is not self._rows.weight]
        groups = [
            {"params": [p for p in self._dense if p.ndim >= 2], "weight_decay": weight_decay},
            {"params": [p for p in self._dense if p.ndim < 2], "weight_decay": 0.0},
        ]
        fused = self._dense[0].device.type in ("cpu", "cuda", "mps")
        self._adam = torch.optim.AdamW(groups, lr=lr, betas=(BETA1, BETA2), eps=EPSILON, fused=fused)

    @property
    def parameters(self) -> list[Tensor]:
        """All that may have a gradient: the weights, and the rows of the table that an update reads."""
        return [*self._dense, *(() if self._rows is None else (self._rows.weight, self._rows.rows_NH))]

    def prepare(self, ids: ArrayLike) -> None:
        """Bring the rows of these ids up to date: all that the forward passes of the next update read.

        Of several processes each has the ids of the whole batch, so that all add up gradients of the same rows.
        """
        if self._rows is not None:
            self._rows.prepare(np.unique(ids))

    def flush(self) -> None:
        """Bring the whole table up to date.

        Each time rounds the weights: two runs are equal to the bit only if they flush after the same updates. A
        checkpoint does not flush: it holds the weights as they are.
        """
        if self._rows is not None:
            self._rows.catch_up()

    def close(self) -> None:
        """Flush, and let go of the table."""
        if self._rows is not None:
            self._rows.close()

    @torch.no_grad()
    def step(self, lr: float, scale: float = 1.0) -> Tensor:
        """Clip the gradients, update the weights, then clear the gradients.

        Args:
            lr: the learning rate of this update.
            scale: the factor of the loss. If it is not 1 and the gradients overflowed, the weights stay as they are.

        Returns:
            The norm of all gradients before clipping.
        """
        table = None if self._rows is None else self._rows.gradient()
        gradients = [one for one in (*(p.grad for p in self._dense), table) if one is not None]
        norm = nn.utils.get_total_norm(gradients) / scale
        if gradients and (scale == 1.0 or norm.isfinite()):
            multiply_all(gradients, (CLIP / (norm + 1e-6)).clamp(max=1.0) / scale)
            for group in self._adam.param_groups:
                group["lr"] = lr
            self._adam.step()
            if self._rows is not None and table is not None:
                self._rows.step(lr, table)
        self.zero_grad()
        if self._rows is not None:
            self._rows.end_update()
        return norm

    def zero_grad(self) -> None:
        """Clear the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def state_dict(self) -> dict[str, Tensor]:
        """The state that continues exactly, together with the current weights; flushes nothing.

        Of the table it has only the rows that ever had a gradient. The tensors are not copies.
        """
        states = self._adam.state_dict()["state"]
        state = {f"{i}.{name}": value for i, values in states.items() for name, value in values.items()}
        return state | (self._rows.state_dict() if self._rows is not None else {})

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what `state_dict` returned; the weights of that moment must be loaded, too."""
        states: dict[int, dict[str, Tensor]] = {}
        for key, value in state.items():
            index, name = key.split(".")
            if index != "table":
                states.setdefault(int(index), {})[name] = value
        self._adam.load_state_dict({"state": states, "param_groups": self._adam.state_dict()["param_groups"]})
        if self._rows is not None:
            self._rows.load_state_dict(state)
