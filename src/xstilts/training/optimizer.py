"""AdamW with clipping; a word table may be updated only in the rows that a batch reads."""

# Shape suffixes: V = rows of the table, H = its width, N = some of its rows, T = tokens

from __future__ import annotations

import torch
from torch import Tensor, nn

from xstilts.training.settings import BETA1, BETA2, EPSILON
from xstilts.training.word_table import RowwiseUpdate

CLIP = 1.0
"""Norm to which gradients are clipped."""


class Optimizer:
    """AdamW over all weights, after clipping their gradients together; what has one dimension does not decay.

    With a `table`, its gradient comes as rows, and a row stands still until `prepare` or `flush` brings it up to date:
    `prepare` before each forward pass, `flush` before weights are read otherwise. The result is that of the dense
    update, as exactly as float32 tells.

    Args:
        modules: all that is trained, the table in it.
        table: whose rows are updated one by one; None updates all weights densely.
        lr: the largest learning rate there will be.
        weight_decay: of weights with two dimensions or more.
        updates: how many there will be at most.

    Attributes:
        dense: the parameters whose gradients are not rows.
    """

    def __init__(
        self, modules: nn.Module, table: nn.Embedding | None, *, lr: float, weight_decay: float, updates: int
    ) -> None:
        possible = table is not None and lr * weight_decay < 1  # what stays of a weight must have a logarithm
        self._rows = RowwiseUpdate(table, weight_decay, updates) if table is not None and possible else None
        self.dense = [p for p in modules.parameters() if self._rows is None or p is not self._rows.weight]
        groups = [
            {"params": [p for p in self.dense if p.ndim >= 2], "weight_decay": weight_decay},
            {"params": [p for p in self.dense if p.ndim < 2], "weight_decay": 0.0},
        ]
        fused = self.dense[0].device.type in ("cpu", "cuda")
        self._adam = torch.optim.AdamW(groups, lr=lr, betas=(BETA1, BETA2), eps=EPSILON, fused=fused)

    def prepare(self, ids_T: Tensor) -> None:
        """Bring the rows of these ids up to date, before a forward pass reads them."""
        if self._rows is not None:
            self._rows.catch_up(self._rows.all_V if self._rows.whole else torch.unique(ids_T))

    def flush(self) -> None:
        """Bring the whole table up to date.

        Where weights are rounded depends on when they are brought up to date: to be the same to the bit, two runs flush
        after the same updates. A checkpoint needs none: it holds the weights as they stand.
        """
        if self._rows is not None:
            self._rows.catch_up(self._rows.all_V)

    def close(self) -> None:
        """Flush, and leave the table as it was found."""
        self.flush()
        if self._rows is not None:
            self._rows.table.sparse = False

    @torch.no_grad()
    def step(self, lr: float, scale: float = 1.0) -> Tensor:
        """Clip, update and drop the gradients.

        Args:
            lr: the learning rate of this update.
            scale: what the loss was multiplied by. If it is not 1 and the gradients overflowed, they are only dropped.

        Returns:
            The norm of all gradients before clipping.
        """
        gradients, rows = [p.grad for p in self.dense if p.grad is not None], self.table_gradient()
        if rows is not None:
            gradients.append(rows[1])
        norm = nn.utils.get_total_norm(gradients) / scale
        if gradients and (scale == 1.0 or norm.isfinite()):
            torch._foreach_mul_(gradients, (CLIP / (norm + 1e-6)).clamp(max=1.0) / scale)
            for group in self._adam.param_groups:
                group["lr"] = lr
            self._adam.step()
            if self._rows is not None and rows is not None:
                self._rows.step(lr, *rows)
        self._adam.zero_grad(set_to_none=True)
        if self._rows is not None:
            self._rows.weight.grad = None
        return norm

    def table_gradient(self) -> tuple[Tensor, Tensor] | None:
        """The ids [N], ascending, of rows with a gradient, and these gradients [N, H]; None if there is none."""
        gradient = None if self._rows is None else self._rows.weight.grad
        if self._rows is None or gradient is None:
            return None
        if not gradient.is_sparse:  # the table is read elsewhere too, as by a tied decoder: whole, in each forward pass
            self._rows.whole = True
            gradient = gradient.to_sparse(1)
        self._rows.weight.grad = gradient = gradient.coalesce()
        return gradient.indices()[0], gradient.values()

    def state_dict(self) -> dict[str, Tensor]:
        """All that goes on from here to the bit, beside the weights as they stand; nothing is flushed.

        Of the table only the rows that ever had a gradient are in it. The tensors may be those in use.
        """
        states = self._adam.state_dict()["state"]
        state = {f"{i}.{name}": value for i, values in states.items() for name, value in values.items()}
        return state | (self._rows.state_dict() if self._rows is not None else {})

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from a state, with the weights that stood beside it."""
        states: dict[int, dict[str, Tensor]] = {}
        for key, value in state.items():
            place, name = key.split(".")
            if place != "table":
                states.setdefault(int(place), {})[name] = value
        self._adam.load_state_dict({"state": states, "param_groups": self._adam.state_dict()["param_groups"]})
        if self._rows is not None:
            self._rows.load_state_dict(state)
