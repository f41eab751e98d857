"""The row-wise update of a word table (the input embeddings): AdamW only in the rows that a batch reads.

In a large multilingual encoder most parameters are in the word table (192 of 278 million in XLM-R base), and a batch
reads a few hundred of its rows. The other rows have no gradient, but Adam still moves them for a while, and they decay.
Both can be computed later from the state at the last gradient, so a row catches up when a batch next reads it.
"""

# Shape suffixes: V = rows of the table, H = its width, N = some of its rows, J = updates after a gradient

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from xstilts.training.settings import BETA1, BETA2, EPSILON

RATIO = BETA1 / math.sqrt(BETA2)
"""The factor by which a weight's step (first moment over the root of the second) shrinks in an update without a
gradient."""
LONGEST_STEP = (1 - BETA1) / math.sqrt((1 - BETA2) * (1 - RATIO**2))
"""The longest possible step after a gradient, as a multiple of the learning rate (by Cauchy-Schwarz: 7.3)."""
TAIL = math.ceil(math.log(2**-24 * (1 - RATIO) / LONGEST_STEP, RATIO))
"""The number of updates in which a row still moves after its last gradient (200). All later steps together are smaller
than the rounding of a float32 as large as the learning rate."""
MIN_NUMBERS = 2**23
"""The smallest table for which row-wise updates are faster, in numbers."""
CHUNK = 512
"""Rows that catch up at a time; they fit a processor's cache."""


def word_table(base: Any) -> nn.Embedding | None:
    """An encoder's word table if row-wise updates make it faster: a large, plain, trained embedding on a CPU."""
    table = base.get_input_embeddings()
    if type(table) is not nn.Embedding or table.max_norm is not None or table.scale_grad_by_freq:
        return None
    weight = table.weight
    return table if weight.requires_grad and weight.device.type == "cpu" and weight.numel() >= MIN_NUMBERS else None


class RowwiseUpdate:
    """AdamW on a table: a row has the moments of its last gradient, and the weights of its last `catch_up`.

    With t the update of the last gradient, Adam moves a row in update t + j by

        lr[t + j] / c1[t + j] * m beta1^j / (sqrt(v beta2^j / c2[t + j]) + epsilon)
          = lr[t + j] sqrt(c2[t + j]) / c1[t + j] * ratio^j * m / (sqrt(v) + epsilon sqrt(c2[t + j] / beta2^j))

    where c1 and c2 are 1 - beta^(t + j). Before it, the weights shrink by 1 - lr x decay. `catch_up` sums such steps.
    """

    def __init__(self, table: nn.Embedding, weight_decay: float, updates: int) -> None:
        self.table, self.weight, self.weight_decay = table, table.weight, weight_decay
        self.whole = False
        """Whether every forward pass reads the whole table."""
        table.sparse = True
        rows, where = len(table.weight), table.weight.device
        self.all_V = torch.arange(rows, device=where)
        self.first_VH, self.second_VH = torch.zeros_like(table.weight), torch.zeros_like(table.weight)
        self.seen_V = torch.full((rows,), -TAIL, device=where)
        """The update of each row's last gradient; -TAIL if there was none."""
        self.last_V = torch.zeros(rows, dtype=torch.long, device=where)
        """The update up to which each row's weights are computed."""
        self.done = 0
        count = torch.arange(updates + TAIL + 1, dtype=torch.float64, device=where)
        self.root_c2 = (1 - BETA2**count).sqrt()
        self.past = torch.zeros(2, len(count), dtype=torch.float64, device=where)
        """For each update: lr sqrt(c2) / c1, divided by the total decay so far; and the logarithm of that decay. The
        first is zero for later updates."""
        self.after_J = torch.arange(1, TAIL + 1, device=where)

    @torch.no_grad()
    def catch_up(self, ids_N: Tensor) -> None:
        """Bring the weights of rows up to date; the ids must be distinct."""
        ids_N = ids_N[self.last_V[ids_N] < self.done]
        moves_N = (self.seen_V[ids_N] + TAIL).clamp(max=self.done) - self.last_V[ids_N]
        moves_N, order_N = moves_N.clamp(min=0).sort(descending=True, stable=True)
        ids_N = ids_N[order_N]
        for ids, moves in zip(torch.split(ids_N, CHUNK), torch.split(moves_N, CHUNK), strict=True):
            decay_N1 = (self.past[1, self.done] - self.past[1, self.last_V[ids]]).expm1()[:, None]
            rows_NH = self.weight[ids]
            change_NH = rows_NH * decay_N1.float()  # expm1: 1 plus so small a number would be rounded to 1 in float32
            movers = int((moves > 0).sum())
            if movers:
                change_NH[:movers] -= self._moved(ids[:movers], moves[:movers])
            self.weight.index_copy_(0, ids, rows_NH.add_(change_NH))
        self.last_V[ids_N] = self.done

    def _moved(self, ids_N: Tensor, moves_N: Tensor) -> Tensor:
        """The sum of the steps that rows have missed; `moves_N` has their numbers, in descending order."""
        missed_J1 = self.after_J[: int(moves_N[0]), None]
        at_JN = self.last_V[ids_N] + missed_J1
        after_JN = (at_JN - self.seen_V[ids_N]).double()
        length_JN1 = (self.past[0, at_JN] * self.past[1, self.done].exp() * RATIO**after_JN).float()[..., None]
        epsilon_JN1 = (EPSILON * self.root_c2[at_JN] * BETA2 ** (-after_JN / 2)).float()[..., None]
        first_NH, root_NH = self.first_VH[ids_N], self.second_VH[ids_N].sqrt_()
        moved_NH, step_NH = torch.zeros_like(root_NH), torch.empty_like(root_NH)
        rows_J = (moves_N >= missed_J1).sum(1).tolist()
        for n, length_N1, epsilon_N1 in zip(rows_J, length_JN1, epsilon_JN1, strict=True):
            step = torch.add(root_NH[:n], epsilon_N1[:n], out=step_NH[:n])
            moved_NH[:n].addcmul_(torch.div(first_NH[:n], step, out=step), length_N1[:n])
        return moved_NH

    def step(self, lr: float, ids_N: Tensor, gradient_NH: Tensor) -> None:
        """Update all rows; only these have a gradient."""
        self.catch_up(ids_N)
        self.done += 1
        now, decay = self.done, lr * self.weight_decay
        total_decay = self.past[1, now - 1] + math.log1p(-decay)
        length = lr * self.root_c2[now] / (1 - BETA1**now)
        self.past[:, now] = torch.stack([length * (-total_decay).exp(), total_decay])
        gap_N1 = (now - self.seen_V[ids_N]).double()[:, None]
        first_NH = self.first_VH[ids_N] * (BETA1**gap_N1).float() + (1 - BETA1) * gradient_NH
        second_NH = self.second_VH[ids_N] * (BETA2**gap_N1).float() + (1 - BETA2) * gradient_NH.square()
        step_NH = first_NH / (second_NH.sqrt() + (EPSILON * self.root_c2[now]).float()) * length.float()
        rows_NH = self.weight[ids_N]
        self.weight.index_copy_(0, ids_N, rows_NH - step_NH.add_(rows_NH, alpha=decay))
        self.first_VH.index_copy_(0, ids_N, first_NH)
        self.second_VH.index_copy_(0, ids_N, second_NH)
        self.seen_V[ids_N] = self.last_V[ids_N] = now

    def state_dict(self) -> dict[str, Tensor]:
        """The moments of rows that ever had a gradient, and the update that each row has reached."""
        ids_N = (self.seen_V > 0).nonzero()[:, 0]
        state = {"ids": ids_N, "seen": self.seen_V[ids_N], "last": self.last_V, "past": self.past[:, : self.done + 1]}
        state |= {"first": self.first_VH[ids_N], "second": self.second_VH[ids_N], "whole": torch.tensor(self.whole)}
        return {f"table.{name}": value.contiguous() for name, value in state.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what `state_dict` returned."""
        ids_N, past = state["table.ids"].to(self.all_V), state["table.past"]
        self.done, self.whole = past.shape[1] - 1, bool(state["table.whole"])
        self.past[:, : self.done + 1] = past
        self.last_V.copy_(state["table.last"])
        self.seen_V[ids_N] = state["table.seen"].to(ids_N)
        for moment_VH, name in ((self.first_VH, "first"), (self.second_VH, "second")):
            moment_VH.index_copy_(0, ids_N, state[f"table.{name}"].to(moment_VH))
