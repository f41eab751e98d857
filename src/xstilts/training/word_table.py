"""The row-wise update of a word table (the input embeddings): AdamW only in the rows that a batch reads.

In a large multilingual encoder most parameters are in the word table (192 of 278 million in XLM-R base), and a batch
reads a few hundred of its rows. The other rows have no gradient, but Adam still moves them for a while, and they decay.
Both can be computed later from the state at the last gradient, so a row catches up when a batch next reads it.

The processor knows the batch's ids before they move to an accelerator, and keeps what it must know of each row itself:
so all sizes are known, and an update waits for nothing.
"""

# Shape suffixes: V = rows of the table, H = its width, N = some of its rows, J = updates after a gradient, T = tokens

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import embedding

from xstilts.compute import device, distributed
from xstilts.training.settings import BETA1, BETA2, EPSILON

RATIO = BETA1 / math.sqrt(BETA2)
"""The factor by which a weight's step (first moment over the root of the second) shrinks in an update without a
gradient."""
LONGEST_STEP = (1 - BETA1) / math.sqrt((1 - BETA2) * (1 - RATIO**2))
"""The longest possible step after a gradient, as a multiple of the learning rate (by Cauchy-Schwarz: 7.3)."""
TAIL = math.ceil(math.log(2**-24 * (1 - RATIO) / LONGEST_STEP, RATIO))
"""The number of updates in which a row still moves after its last gradient (200). All later steps together are smaller
than the rounding of a float32 as large as the learning rate."""
MIN_NUMBERS, MIN_NUMBERS_ON_CUDA = 2**23, 2**27
"""The smallest table for which row-wise updates are faster, in numbers; a GPU alone is estimated to
update a smaller one within the time of their many small calls."""
BLOCK, BLOCK_ON_CUDA = 3 * 2**17, 2**25
"""The numbers that are computed at once: they fit a processor's cache, or keep a GPU busy."""
STEPS = 8
"""The missed steps of a row that are computed at once, at least."""
_J = np.arange(2 * TAIL + 1)
RATIO_J = np.where(_J <= TAIL, RATIO**_J, 0.0)
"""What is left of a step after so many updates: nothing after the tail."""
EPSILON_J = EPSILON * BETA2 ** (-_J / 2)

Ids: TypeAlias = NDArray[np.int64]


def word_table(base: Any) -> nn.Embedding | None:
    """An encoder's word table if row-wise updates make it faster: a large, plain, trained embedding on a CPU or GPU."""
    table = base.get_input_embeddings()
    if type(table) is not nn.Embedding or table.max_norm is not None or table.scale_grad_by_freq:
        return None
    weight, alone = table.weight, distributed.world_size() == 1
    least = {"cpu": MIN_NUMBERS, "cuda": MIN_NUMBERS_ON_CUDA if alone else MIN_NUMBERS}
    large = weight.numel() >= least.get(weight.device.type, math.inf)
    return table if large and weight.requires_grad else None


_read: list[tuple[Tensor, Tensor]] = []
"""In an update: the place of each of the table's ids in the update's rows (-1, which no embedding accepts, if it has
none), and these rows. It is a global, because the sizes in a module's hook are constants to torch's compiler, and does
not name its table, because the compiler would make a graph for each name."""


def _from_rows(_: nn.Module, args: Any, kwargs: Any, __: Tensor) -> Tensor | None:
    """A hook that reads embeddings from the rows of an update."""
    if not _read:
        return None
    place_V, rows_NH = _read[0]
    return embedding(place_V[args[0] if args else kwargs["input"]], rows_NH)


class RowwiseUpdate:
    """AdamW on a table: a row has the moments of its last gradient, and weights that are brought up to date later.

    With t the update of the last gradient, Adam moves a row in update t + j by

        lr[t + j] / c1[t + j] * m beta1^j / (sqrt(v beta2^j / c2[t + j]) + epsilon)
          = lr[t + j] sqrt(c2[t + j]) / c1[t + j] * ratio^j * m / (sqrt(v) + epsilon sqrt(c2[t + j] / beta2^j))

    where c1 and c2 are 1 - beta^(t + j). Before it, the weights shrink by 1 - lr x decay. `_current` sums such steps.

    Attributes:
        weight: the table; it has a gradient only if another module, such as a tied decoder, reads it.
        rows_NH: the rows that an update reads, as they are now; their gradient is that of the table.
        whole: whether another module reads the table; then each forward pass needs all rows, and each update moves all.
    """

    def __init__(self, table: nn.Embedding, weight_decay: float, updates: int) -> None:
        self.weight, self.whole = table.weight, False
        self._where, self._padding_id, self._weight_decay = table.weight.device, table.padding_idx, weight_decay
        self._block = BLOCK_ON_CUDA if self._where.type == "cuda" else BLOCK
        size = table.num_embeddings
        self._use(np.zeros(0, np.int64))
        self._place_V = torch.full((size,), -1, device=self._where)
        self._first_VH, self._second_VH = torch.zeros_like(table.weight), torch.zeros_like(table.weight)
        self._seen_V, self._last_V = np.full(size, -TAIL), np.zeros(size, np.int64)
        """The update of each row's last gradient, -TAIL if there was none, and that up to which its weights are
        computed."""
        self._done = 0
        count = np.arange(updates + TAIL + 1)
        self._root_c2 = np.sqrt(1 - BETA2**count)
        self._past = np.zeros((2, len(count)))
        """For each update: lr sqrt(c2) / c1, divided by the total decay so far; and the logarithm of that decay. The
        first is zero for later updates."""
        _read.clear()  # of an earlier table, whose training failed
        self._hook = table.register_forward_hook(_from_rows, with_kwargs=True)

    # --- an update ------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def prepare(self, ids_N: Ids) -> None:
        """Make `rows_NH` of these distinct ids, the only ones that the forward passes of the next update may read."""
        if self.whole:
            self.catch_up()
            return
        ids_N, moves_N = self._longest_first(ids_N)
        self._use(ids_N)
        self._place_V.index_copy_(0, self._at_N, torch.arange(len(ids_N), device=self._where))
        for part in self._parts(len(ids_N)):
            self.rows_NH[part] = self._current(ids_N[part], self._at_N[part], moves_N[part])
        assert not _read, "another table is in an update"
        _read.append((self._place_V, self.rows_NH.requires_grad_()))

    def _use(self, ids_N: Ids) -> None:
        """Make room for the rows of these ids."""
        self._ids_N, self._at_N = ids_N, device.send(ids_N, self._where)
        self.rows_NH = torch.empty_like(self.weight[: len(ids_N)])

    @torch.no_grad()
    def gradient(self) -> Tensor | None:
        """The gradient of all that was read: of `rows_NH`, or of the whole table; None if there is none."""
        if self.rows_NH.grad is not None:
            for place in np.flatnonzero(self._ids_N == self._padding_id).tolist():
                self.rows_NH.grad[place].zero_()
        if self.weight.grad is None:
            return self.rows_NH.grad
        if self.rows_NH.grad is not None:
            self.weight.grad.index_add_(0, self._at_N, self.rows_NH.grad)
            self.rows_NH.grad = None
        self.whole = True
        return self.weight.grad

    @torch.no_grad()
    def step(self, lr: float, gradient_NH: Tensor) -> None:
        """Update all rows; only those of this `gradient` have one."""
        if self.whole:
            self.catch_up()
            self._use(np.arange(len(self.weight)))
            self.rows_NH = self.weight.detach()
        self._done += 1
        now, decay = self._done, lr * self._weight_decay
        total_decay = self._past[1, now - 1] + math.log1p(-decay)
        length = lr * self._root_c2[now] / (1 - BETA1**now)
        self._past[:, now] = length * math.exp(-total_decay), total_decay
        gap_N = now - self._seen_V[self._ids_N]
        kept_2N = device.send(np.stack([BETA1**gap_N, BETA2**gap_N]).astype(np.float32), self._where)
        for part in self._parts(len(gap_N)):
            at_N, rows_NH, new_NH = self._at_N[part], self.rows_NH.detach()[part], gradient_NH[part]
            first_N1, second_N1 = kept_2N[:, part, None]
            first_NH = (self._first_VH[at_N] * first_N1).add_(new_NH, alpha=1 - BETA1)
            second_NH = (self._second_VH[at_N] * second_N1).addcmul_(new_NH, new_NH, value=1 - BETA2)
            step_NH = second_NH.sqrt().add_(EPSILON * self._root_c2[now])
            step_NH = torch.div(first_NH, step_NH, out=step_NH).mul_(length)
            self.weight.index_copy_(0, at_N, rows_NH - step_NH.add_(rows_NH, alpha=decay))
            self._first_VH.index_copy_(0, at_N, first_NH)
            self._second_VH.index_copy_(0, at_N, second_NH)
        self._seen_V[self._ids_N] = self._last_V[self._ids_N] = now

    def end_update(self) -> None:
        """Remove `rows_NH`; without `step` before it, the table stays as it was."""
        self._place_V.index_fill_(0, self._at_N, -1)
        _read.clear()
        self._use(self._ids_N[:0])

    # --- missed steps ---------------------------------------------------------------------------------------------

    @torch.no_grad()
    def catch_up(self) -> None:
        """Bring the whole table up to date."""
        ids_N, moves_N = self._longest_first(np.flatnonzero(self._last_V < self._done))
        at_N = device.send(ids_N, self._where)
        for part in self._parts(len(ids_N)):
            self.weight.index_copy_(0, at_N[part], self._current(ids_N[part], at_N[part], moves_N[part]))
        self._last_V[ids_N] = self._done

    def _longest_first(self, ids_N: Ids) -> tuple[Ids, Ids]:
        """The ids by the number of steps that they have missed, and these numbers."""
        moves_N = np.minimum(self._seen_V[ids_N] + TAIL, self._done) - self._last_V[ids_N]
        order_N = np.argsort(-moves_N, kind="stable")
        return ids_N[order_N], moves_N[order_N].clip(min=0)

    def _parts(self, rows: int, steps: int = 1) -> Iterator[slice]:
        """Parts of so many rows that are computed at once, with so many steps of each."""
        size = max(1, self._block // (steps * self.weight.shape[1]))
        yield from (slice(first, min(first + size, rows)) for first in range(0, rows, size))

    def _current(self, ids_N: Ids, at_N: Tensor, moves_N: Ids) -> Tensor:
        """The rows [N, H] of these ids as they are now; the first have missed the most steps."""
        decay_N = self._past[1, self._done] - self._past[1, self._last_V[ids_N]]
        shrunk_N = np.expm1(decay_N).astype(np.float32)  # 1 plus so small a number would be rounded to 1 in float32
        rows_NH = self.weight[at_N]
        change_NH = rows_NH * device.send(shrunk_N, self._where)[:, None]
        for part in self._parts(int(np.count_nonzero(moves_N)), STEPS):
            change_NH[part] -= self._moved(ids_N[part], at_N[part], int(moves_N[part.start]))
        return rows_NH.add_(change_NH)

    def _moved(self, ids_N: Ids, at_N: Tensor, most: int) -> Tensor:
        """The sum [N, H] of the steps that rows have missed, at most so many of each."""
        now, last_N, seen_N = self._done, self._last_V[ids_N], self._seen_V[ids_N]

        def next_NJ(values: NDArray[np.float64], after_N: Ids) -> NDArray[np.float64]:
            return sliding_window_view(values, most)[after_N + 1]

        length_NJ = next_NJ(self._past[0], last_N) * next_NJ(RATIO_J * math.exp(self._past[1, now]), last_N - seen_N)
        epsilon_NJ = next_NJ(self._root_c2, last_N) * next_NJ(EPSILON_J, last_N - seen_N)
        length_NJ, epsilon_NJ = device.send(np.stack([length_NJ, epsilon_NJ]).astype(np.float32), self._where)
        root_N1H = self._second_VH[at_N].sqrt_()[:, None]
        sum_N1H = torch.zeros_like(root_N1H)
        with device.without_tf32():
            for j in range(0, most, size := max(1, self._block // root_N1H.numel())):
                steps_NJH = (root_N1H + epsilon_NJ[:, j : j + size, None]).reciprocal_()
                sum_N1H.baddbmm_(length_NJ[:, None, j : j + size], steps_NJH)
        return sum_N1H[:, 0].mul_(self._first_VH[at_N])

    # --- the whole training ---------------------------------------------------------------------------------------

    def close(self) -> None:
        """Bring the whole table up to date, and leave it alone."""
        self.catch_up()
        self._hook.remove()

    def state_dict(self) -> dict[str, Tensor]:
        """The moments of rows that ever had a gradient, and the update that each row has reached."""
        ids_N, past = np.flatnonzero(self._seen_V > 0), self._past[:, : self._done + 1]
        numbers = {"ids": ids_N, "seen": self._seen_V[ids_N], "last": self._last_V, "past": np.ascontiguousarray(past)}
        at_N = device.send(ids_N, self._where)
        state = {name: torch.from_numpy(value) for name, value in numbers.items()}
        state |= {"first": self._first_VH[at_N], "second": self._second_VH[at_N], "whole": torch.tensor(self.whole)}
        return {f"table.{name}": value for name, value in state.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what `state_dict` returned."""
        ids_N, past = state["table.ids"].numpy(), state["table.past"].numpy()
        self._done, self.whole = past.shape[1] - 1, bool(state["table.whole"])
        self._past[:, : self._done + 1] = past
        self._last_V[:] = state["table.last"].numpy()
        self._seen_V[ids_N] = state["table.seen"].numpy()
        at_N = device.send(ids_N, self._where)
        for moment_VH, name in ((self._first_VH, "first"), (self._second_VH, "second")):
            moment_VH.index_copy_(0, at_N, state[f"table.{name}"].to(moment_VH))
