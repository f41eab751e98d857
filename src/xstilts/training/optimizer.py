"""AdamW with gradient clipping; it can update only the rows of the word table that a batch reads."""

# Shape suffixes: V = rows of the table, H = its width, N = some of its rows, T = tokens

from __future__ import annotations

import torch
from torch import Tensor, nn

from xstilts.compute.private import multiply_all
from xstilts.training.settings import BETA1, BETA2, EPSILON
from xstilts.training.word_table import RowwiseUpdate

CLIP = 1.0
"""The norm to which gradients are clipped."""


class Optimizer:
    """AdamW over all weights, after clipping their gradients together; weights of one dimension do not decay.

    With a `table`, its gradient comes as rows, and a row changes only when `prepare` or `flush` brings it up to date:
    call `prepare` before each forward pass, `flush` before anything else reads the weights. The result is that of the
    dense update, up to rounding in float32.

    Args:
        modules: all trained modules, including the table.
        table: the embedding that is updated row by row; None updates all weights densely.
        lr: the largest learning rate of the training.
        weight_decay: the decay of weights with two dimensions or more.
        updates: the largest possible number of updates.

    Attributes:
        dense: the parameters with dense gradients.
    """

    def __init__(
        self, modules: nn.Module, table: nn.Embedding | None, *, lr: float, weight_decay: float, updates: int
    ) -> None:
        possible = table is not None and lr * weight_decay < 1  # the row-wise update takes the logarithm of 1 - product
        self._rows = RowwiseUpdate(table, weight_decay, updates) if table is not None and possible else None
        self.dense = [p for p in modules.parameters() if self._rows is None or p is not self._rows.weight]
        groups = [
            {"params": [p for p in self.dense if p.ndim >= 2], "weight_decay": weight_decay},
            {"params": [p for p in self.dense if p.ndim < 2], "weight_decay": 0.0},
        ]
        fused = self.dense[0].device.type in ("cpu", "cuda", "mps")
        self._adam = torch.optim.AdamW(groups, lr=lr, betas=(BETA1, BETA2), eps=EPSILON, fused=fused)

    def prepare(self, ids_T: Tensor) -> None:
        """Bring the rows of these ids up to date, before a forward pass reads them."""
        if self._rows is not None:
            self._rows.catch_up(self._rows.all_V if self._rows.whole else torch.unique(ids_T))

    def flush(self) -> None:
        """Bring the whole table up to date.

        Each time rounds the weights: two runs are equal to the bit only if they flush after the same updates. A
        checkpoint does not flush: it holds the weights as they are.
        """
        if self._rows is not None:
            self._rows.catch_up(self._rows.all_V)

    def close(self) -> None:
        """Flush, and give the table dense gradients again."""
        self.flush()
        if self._rows is not None:
            self._rows.table.sparse = False

    @torch.no_grad()
    def step(self, lr: float, scale: float = 1.0) -> Tensor:
        """Clip the gradients, update the weights, then clear the gradients.

        Args:
            lr: the learning rate of this update.
            scale: the factor of the loss. If it is not 1 and the gradients overflowed, the weights stay as they are.

        Returns:
            The norm of all gradients before clipping.
        """
        gradients, rows = [p.grad for p in self.dense if p.grad is not None], self.table_gradient()
        if rows is not None:
            gradients.append(rows[1])
        norm = nn.utils.get_total_norm(gradients) / scale
        if gradients and (scale == 1.0 or norm.isfinite()):
            multiply_all(gradients, (CLIP / (norm + 1e-6)).clamp(max=1.0) / scale)
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
        """The ascending ids [N] of rows with a gradient, and these gradients [N, H]; None if there is none."""
        gradient = None if self._rows is None else self._rows.weight.grad
        if self._rows is None or gradient is None:
            return None
        if not gradient.is_sparse:  # another module, such as a tied decoder, reads the whole table in each forward pass
            self._rows.whole = True
            gradient = gradient.to_sparse(1)
        self._rows.weight.grad = gradient = gradient.coalesce()
        return gradient.indices()[0], gradient.values()

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
