"""The training loop: the only one, for every phase and every format."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xstilts.compute import device, distributed
from xstilts.compute.gradient_sum import GradientSum
from xstilts.compute.memory import TokenBudget
from xstilts.errors import UserError
from xstilts.model.batch import Batch
from xstilts.model.encoder import Encoder
from xstilts.model.heads import Head
from xstilts.training.batches import BatchLoader, LoadedBatch, TrainTask
from xstilts.training.checkpoint import Checkpoint
from xstilts.training.early_stopping import BestWeights, dev_score_at, evaluation_interval
from xstilts.training.log import LogRow, TrainingLog
from xstilts.training.optimizer import Optimizer
from xstilts.training.sampling import schedule
from xstilts.training.settings import TrainSpec, as_written
from xstilts.training.weight_average import Mean
from xstilts.training.word_table import word_table

TOKENS = 8192
"""The most tokens in one forward and backward pass; a larger batch is split, which does not change the update."""


@dataclass(frozen=True)
class Trained:
    """The result of a training."""

    updates: int
    best_update: int
    best: float | None
    """The dev score of the final weights; None without early stopping."""
    seconds: float
    earlier_seconds: float
    """Those before the training resumed."""
    shares: dict[str, int]
    """The number of updates of each task."""
    mean: Mean
    """The mean of the weights at the points that the settings ask for."""


def task_order(tasks: Sequence[TrainTask], spec: TrainSpec, seed: int) -> NDArray[np.int16]:
    """The task of each update, [U]; see `schedule`."""
    sizes = [task.features.examples for task in tasks]
    return schedule([task.settings for task in tasks], sizes, spec, seed)


def examples_seen(sizes: Sequence[int], batches: Sequence[int], order_U: NDArray[np.int16]) -> int:
    """The examples in the batches of a training, counted each time.

    >>> examples_seen([10], [4], np.zeros(4, np.int16))  # batches of 4, 4, 2 and 4
    14
    """
    seen = 0
    for size, batch, updates in zip(sizes, batches, np.bincount(order_U, minlength=len(sizes)).tolist(), strict=True):
        epochs, rest = divmod(updates, -(-size // batch))
        seen += epochs * size + rest * batch
    return seen


def train(
    encoder: Encoder,
    tasks: Sequence[TrainTask],
    spec: TrainSpec,
    *,
    seed: int,
    dev: Callable[[], float] | None,
    log: Callable[[LogRow], None],
    dev_examples: int = 0,
    checkpoint: Checkpoint | None = None,
    tokens: int = TOKENS,
) -> Trained:
    """Train an encoder and its heads in place; at the end they have the weights with the best dev score.

    On a CPU a training that is killed and resumes from its checkpoint gets exactly the weights of an uninterrupted one.

    Args:
        encoder: the encoder; its language-model head is trained, too, if a task masks text.
        tasks: the tasks; each update is one batch of one task.
        spec: the settings.
        seed: the seed of the order of examples, the choice of tasks, masked tokens and dropout.
        dev: returns the score on the dev examples in percent, for early stopping; None trains to the end.
        log: receives a row every few updates, and after each evaluation on the dev examples.
        dev_examples: the number of dev examples.
        checkpoint: saves the state now and then; None: no checkpoints.
        tokens: the most tokens in one pass; changes only memory and speed.

    Raises:
        StepFailed: the loss, or an output for a dev example, is not a number.
        OutOfMemory: one example is too large for the memory.
    """
    session = _Session(encoder, tasks, spec, seed, log, tokens, dev_examples)
    state = checkpoint.load() if checkpoint else None
    if state is not None:
        session.load_state_dict(state)
    state = None  # else the file's tensors would stay in memory
    session.modules.train()
    with checkpoint.delayed_signals() if checkpoint else nullcontext():
        while not session.ended:
            session.step()
            if dev is not None and session.evaluation_due():
                session.evaluate(dev)
            if checkpoint is not None and distributed.meet(checkpoint.due()):
                checkpoint.write(session.state_dict())
    return session.finish()


class _Session:
    """A training and all of its state; a checkpoint saves this state."""

    def __init__(
        self,
        encoder: Encoder,
        tasks: Sequence[TrainTask],
        spec: TrainSpec,
        seed: int,
        log: Callable[[LogRow], None],
        tokens: int,
        dev_examples: int,
    ) -> None:
        self.encoder, self.tasks, self.spec, self._budget = encoder, tasks, spec, TokenBudget(tokens)
        self.modules = nn.ModuleList([encoder, *(task.head for task in tasks)])
        self.order_U = task_order(tasks, spec, seed)
        self.total, self.update = len(self.order_U), 0
        sizes, batches = [task.features.examples for task in tasks], [task.settings.batch for task in tasks]
        seen = examples_seen(sizes, batches, self.order_U)
        self._evaluation_interval = evaluation_interval(spec, self.total, seen, dev_examples)
        device.seed(seed + distributed.rank())
        masks = any(task.masking for task in tasks)  # then the language-model head reads the whole word table
        table = None if masks else word_table(encoder.base)
        self.optimizer = Optimizer(self.modules, table, lr=spec.lr, weight_decay=spec.weight_decay, updates=self.total)
        self._gradients = GradientSum()
        # no method of this session, all of which the loader would keep in memory
        self._split = partial(split_share, padded=not encoder.packs)
        self._loader = BatchLoader(tasks, self.order_U, seed, self._split, self._budget, encoder.device)
        self._scale = device.LossScale(encoder.device, spec.precision)
        log_every = max(1, min(100, self.total // 50))
        self._log = TrainingLog(self.total, log_every, log, [task.settings.task for task in tasks])
        self._best = BestWeights(self.modules, spec.patience)
        self._mean = Mean(self.modules, spec.snapshots, self.total)

    # --- one update -----------------------------------------------------------------------------------------------

    def step(self) -> None:
        """One update: a batch of one task."""
        loaded = self._loader.load(self.update)
        batch = loaded.batch
        lr = self.spec.lr * lr_factor(self.update, self.total, self.spec.warmup_updates(self.total))
        self.optimizer.prepare(np.append(batch.ids_T, self.encoder.pad_id))
        with device.deterministic(self.encoder.device):
            loss = self._compute_gradients(self.tasks[loaded.task].head, loaded)
            self._gradients.sum(self.optimizer.parameters)
            self._scale.update(self.optimizer.step(lr, self._scale.value))
        self.update += 1
        self._budget.note_update()
        self._log.add(self.update, loaded.task, loss, lr, batch)
        if self.update in self._mean.points:  # in all processes, whose weights stay equal to the bit
            self.optimizer.flush()
            self._mean.add()

    def _compute_gradients(self, head: Head, loaded: LoadedBatch) -> Tensor:
        """Sum the gradients of a batch, in parts if it is large; returns this process's share of the loss."""

        def split(tokens: int) -> list[Batch]:
            return loaded.parts if tokens == loaded.tokens else self._split(head, loaded.batch, tokens)

        work, on = partial(self._backward, head, head.num_targets(loaded.batch)), self.encoder.device
        state = device.random_state(on) if self.encoder.is_compiled else []
        while True:
            try:
                return self._budget.compute(split, work, on)
            except UserError:
                raise
            except Exception as error:  # whatever compilers raise, in either pass
                if not self.encoder.uncompile(error):
                    raise
                device.set_random_state(on, state)  # the same dropout

    def _backward(self, head: Head, num_targets: int, parts: Sequence[Batch]) -> Tensor:
        """Add the gradients of some parts, or leave none at all after an error."""
        on = self.encoder.device
        total = torch.zeros((), device=on)
        try:
            with device.shared_casts(on, self.spec.precision):
                for part in parts:
                    share = head.num_targets(part) / max(num_targets, 1)
                    if share:
                        part = part.to(on)
                        with device.autocast(on, self.spec.precision):
                            loss = head.loss(head(self.encoder.hidden(part), part), part) * share
                        with device.without_autocast(on):
                            (loss * self._scale.value).backward()  # type: ignore[no-untyped-call]
                        total += loss.detach()
        except BaseException:
            self.optimizer.zero_grad()
            raise
        return total

    # --- early stopping -------------------------------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        """Whether all updates are done, or the dev score has not risen for long."""
        return self.update == self.total or self._best.stop

    def evaluation_due(self) -> bool:
        """Whether to evaluate on the dev examples after this update."""
        return self.update % self._evaluation_interval == 0 or self.update == self.total

    def evaluate(self, dev: Callable[[], float]) -> None:
        """Evaluate on the dev examples."""
        self._log.flush()
        self.optimizer.flush()
        self.modules.eval()
        main = distributed.rank() == 0
        score = distributed.broadcast(dev_score_at(dev, self.update, self.total) if main else 0.0)
        self.modules.train()
        self._log.add_dev_score(score)
        self._best.update(score, self.update)

    def finish(self) -> Trained:
        """Put the best weights back, and return the result."""
        self._log.flush()
        self.optimizer.close()
        self._best.restore()
        self._mean.finish()
        self.modules.eval()
        best = self._best
        return Trained(
            self.update, best.best_update or self.update, best.score, self._log.seconds, self._log.earlier_seconds,
            self._log.shares, self._mean,
        )  # fmt: skip

    # --- checkpoints ----------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The whole state, as numbers, texts and tensors."""
        return {
            "update": self.update,
            "tokens": self._budget.tokens,
            "threads": torch.get_num_threads(),
            "scale": self._scale.state_dict(),
            "modules": self.modules.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            **self._loader.state_dict(),
            "best": self._best.state_dict(),
            "mean": self._mean.state_dict(),
            "training_log": self._log.state_dict(),
            "random": distributed.all_gather(device.random_state(self.encoder.device)),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; also the number of threads, on which rounding depends."""
        torch.set_num_threads(state["threads"])
        self.update, self._budget.tokens = state["update"], min(state["tokens"], self._budget.most)
        self._scale.load_state_dict(state["scale"])
        self.modules.load_state_dict(state["modules"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._loader.load_state_dict(state)
        self._best.load_state_dict(state["best"])
        if distributed.rank() == 0:
            self._mean.load_state_dict(state["mean"])
        self._log.load_state_dict(state["training_log"])
        if len(state["random"]) == distributed.world_size():
            device.set_random_state(self.encoder.device, state["random"][distributed.rank()])


def split_share(head: Head, batch: Batch, tokens: int, *, padded: bool) -> list[Batch]:
    """This process's share of a batch, in parts of at most `tokens` tokens; whether padding counts as tokens."""
    mine = batch.examples_between(*distributed.shard(batch.examples))
    return mine.split(tokens, whole=head.softmax_over_choices, padded=padded) if mine else []


def warmup_notes(spec: TrainSpec, total: int) -> list[str]:
    """A note if a training of `total` updates ends before its warm-up."""
    warmup = spec.warmup_updates(total)
    lr = as_written(spec.lr)
    text = f"the warm-up of {warmup:,} updates is longer than the training of {total:,}, so lr stays below {lr}"
    return [text] if warmup > total else []


def lr_factor(done: int, total: int, warmup: int) -> float:
    """The share of the learning rate after `done` updates: linear warm-up, then linear decay to 0 at `total`.

    >>> [lr_factor(k, 10, 2) for k in (0, 1, 2, 6)]
    [0.0, 0.5, 1.0, 0.5]
    """
    if done < warmup:
        return done / warmup
    return (total - done) / max(1, total - warmup)
