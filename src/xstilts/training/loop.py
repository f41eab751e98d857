"""The training loop: the only one, for every phase and every format."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xstilts.compute import device, distributed
from xstilts.errors import StepFailed
from xstilts.languages import ENGLISH
from xstilts.model.batch import Batch, Masking, Shuffled, collate, generator
from xstilts.model.encoder import Encoder
from xstilts.model.features import FeatureSet
from xstilts.model.heads import Head
from xstilts.training.checkpoint import Checkpoint
from xstilts.training.early_stopping import BestWeights, evaluation_interval, try_dev_score
from xstilts.training.log import LogRow, TrainingLog
from xstilts.training.optimizer import Optimizer
from xstilts.training.sampling import schedule
from xstilts.training.settings import TaskSettings, TrainSpec
from xstilts.training.weight_average import Mean
from xstilts.training.word_table import word_table

TOKENS = 8192
"""Tokens that go through forward and backward together; a batch of more is split, to the same update."""


@dataclass(frozen=True)
class TrainTask:
    """One task of a mixture, ready to be trained on."""

    plan: TaskSettings
    head: Head
    features: FeatureSet
    masking: Masking | None
    language: str = ENGLISH
    """Of the texts, where they are in one."""


@dataclass(frozen=True)
class Trained:
    """What came of a training."""

    updates: int
    best_update: int
    best: float | None
    """Dev score of the weights that were kept; None without early stopping."""
    seconds: float
    shares: dict[str, int]
    """Updates by task."""
    mean: Mean
    """Of the weights at the points that the settings ask for."""


def order(learning: Sequence[TrainTask], training: TrainSpec, seed: int) -> NDArray[np.int16]:
    """Which task each update takes its batch from, [U]; see `schedule`."""
    labelled = [i for i, part in enumerate(learning) if part.masking is None]
    sizes = [part.features.examples for part in learning]
    return schedule([part.plan for part in learning], sizes, labelled, training, seed)


def train(
    encoder: Encoder,
    learning: Sequence[TrainTask],
    training: TrainSpec,
    *,
    seed: int,
    dev: Callable[[], float] | None,
    log: Callable[[LogRow], None],
    checkpoint: Checkpoint | None = None,
    tokens: int = TOKENS,
) -> Trained:
    """Train an encoder and its heads in place; the weights of the best dev score are left in them.

    On a CPU a training that is killed and goes on from its checkpoint ends with the same weights, to the bit, as
    one that was not.

    Args:
        encoder: trained with its language-model head, if some task masks text.
        learning: the tasks; each update is one batch of one task.
        training: the settings.
        seed: of the order of the examples, the choice of tasks, hidden pieces and dropout.
        dev: percent on the English dev examples, for early stopping; None trains to the end.
        log: called now and then, and after each look at the dev examples.
        checkpoint: of the state, if it is to outlive the process.
        tokens: that go through together; changes memory and speed only.

    Raises:
        StepFailed: the loss, or a score of a dev example, is not a number any more; not even one forward pass fits into
            the accelerator's memory.
    """
    session = _Session(encoder, learning, training, seed, log, tokens)
    state = checkpoint.load() if checkpoint else None
    if state is not None:
        session.load_state_dict(state)
    session.modules.train()
    with checkpoint.before_an_end() if checkpoint else nullcontext():
        while session.update < session.total:
            session.step()
            if dev is not None and session.evaluation_due() and session.should_stop(dev):
                break
            if checkpoint is not None and distributed.broadcast(checkpoint.due()):
                checkpoint.write(session.state_dict())
    return session.end()


class _Session:
    """A training under way: all that changes while it goes on, and so all that a checkpoint holds."""

    def __init__(
        self,
        encoder: Encoder,
        learning: Sequence[TrainTask],
        training: TrainSpec,
        seed: int,
        log: Callable[[LogRow], None],
        tokens: int,
    ) -> None:
        self.encoder, self.learning, self.training, self.tokens = encoder, learning, training, tokens
        self.modules = nn.ModuleList([encoder, *(part.head for part in learning)])
        self.order_U = order(learning, training, seed)
        self.total, self.update = len(self.order_U), 0
        self._evaluation_interval = evaluation_interval(training, self.total)
        device.seed(seed + distributed.rank())
        hides = any(part.masking for part in learning)  # then the language-model head reads the whole word table
        table = None if hides or distributed.world_size() > 1 else word_table(encoder.base)
        self.optimizer = Optimizer(
            self.modules, table, lr=training.lr, weight_decay=training.weight_decay, updates=self.total
        )
        self._shuffled = [
            Shuffled(part.features, part.plan.batch, generator(seed, "order", i)) for i, part in enumerate(learning)
        ]
        self._hidden = [generator(seed, "hidden", i) for i in range(len(learning))]
        self._scale = device.Scale(encoder.device, training.precision)
        self._log = TrainingLog(self.total, max(1, min(100, self.total // 50)), log, [p.plan.task for p in learning])
        self._best = BestWeights(self.modules, training.patience)
        self._mean = Mean(self.modules, training.snapshots, self.total)

    # --- one update -----------------------------------------------------------------------------------------------

    def step(self) -> None:
        """One update: a batch of one task."""
        i = int(self.order_U[self.update])
        part, hidden = self.learning[i], self._hidden[i]
        batch = collate(part.features, next(self._shuffled[i]), part.masking, hidden, part.language)
        lr = self.training.lr * lr_factor(self.update, self.total, int(self.training.warmup * self.total))
        self.optimizer.prepare(batch.ids_T)
        with device.deterministic(self.encoder.device):
            loss = self._compute_gradients(part.head, batch)
            distributed.sum_gradients(self.optimizer.dense)
            self._scale.update(self.optimizer.step(lr, self._scale.value))
        self.update += 1
        self._log.add(self.update, i, loss, lr, batch)
        if self.update in self._mean.points:
            self.optimizer.flush()
        self._mean.after(self.update)

    def _compute_gradients(self, head: Head, batch: Batch) -> Tensor:
        """Gather the gradients of a batch, in as many parts as it takes; returns this process's share of the loss."""
        num_targets, mine = head.num_targets(batch), batch.examples_between(*distributed.share(batch.examples))
        while True:
            parts = (
                mine.split(self.tokens, whole=head.softmax_over_choices, padded=not self.encoder.packs) if mine else []
            )
            try:
                return self._backward(head, parts, num_targets)
            except torch.OutOfMemoryError as error:
                self.halve_token_budget(parts, error)

    def _backward(self, head: Head, parts: Sequence[Batch], num_targets: int) -> Tensor:
        where = self.encoder.device
        total = torch.zeros((), device=where)
        for part in parts:
            share = head.num_targets(part) / max(num_targets, 1)
            if share:
                part = part.to(where)
                with device.autocast(where, self.training.precision):
                    loss = head.loss(head(self.encoder.hidden(part), part), part) * share
                (loss * self._scale.value).backward()  # type: ignore[no-untyped-call]
                total += loss.detach()
        return total

    def halve_token_budget(self, parts: Sequence[Batch], error: Exception) -> None:
        """Halve what goes through together.

        Raises:
            StepFailed: it is a single forward pass, or an example whose passes must go together.
        """
        largest = max(part.tokens for part in parts)
        if largest > self.tokens:
            what = f"the accelerator's memory has no room for one example of {largest:,} tokens"
            raise StepFailed(what, hint="try a shorter max_length, or precision bf16") from error
        self.modules.zero_grad(set_to_none=True)
        device.release(self.encoder.device)
        self.tokens = largest // 2

    # --- early stopping -------------------------------------------------------------------------------------------

    def evaluation_due(self) -> bool:
        """Whether the dev examples are looked at after this update."""
        return self.update % self._evaluation_interval == 0 or self.update == self.total

    def should_stop(self, dev: Callable[[], float]) -> bool:
        """Look at the dev examples; whether it is time to stop."""
        self._log.flush()
        self.optimizer.flush()
        self.modules.eval()
        score = distributed.broadcast(try_dev_score(dev, self.update, self.total) if distributed.rank() == 0 else 0.0)
        if isinstance(score, StepFailed):
            raise score
        self.modules.train()
        self._log.add_dev_score(score)
        return self._best.update(score, self.update)

    def end(self) -> Trained:
        """Put the best weights back."""
        self._log.flush()
        self.optimizer.close()
        self._best.restore()
        self._mean.end()
        self.modules.eval()
        best = self._best
        return Trained(
            self.update, best.best_update or self.update, best.score, self._log.seconds, self._log.shares, self._mean
        )

    # --- what outlives the process --------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """All of it, as numbers, texts and tensors."""
        return {
            "update": self.update,
            "tokens": self.tokens,
            "threads": torch.get_num_threads(),
            "scale": self._scale.state_dict(),
            "modules": self.modules.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "shuffled": [one.state_dict() for one in self._shuffled],
            "hidden": [one.bit_generator.state for one in self._hidden],
            "best": self._best.state_dict(),
            "mean": self._mean.state_dict(),
            "training_log": self._log.state_dict(),
            "random": distributed.all_gather(device.random_state(self.encoder.device)),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go where another session of the same training was; it used as many threads."""
        torch.set_num_threads(state["threads"])
        self.update, self.tokens = state["update"], state["tokens"]
        self._scale.load_state_dict(state["scale"])
        self.modules.load_state_dict(state["modules"])
        self.optimizer.load_state_dict(state["optimizer"])
        for shuffled, saved in zip(self._shuffled, state["shuffled"], strict=True):
            shuffled.load_state_dict(saved)
        for hidden, saved in zip(self._hidden, state["hidden"], strict=True):
            hidden.bit_generator.state = saved
        self._best.load_state_dict(state["best"])
        self._mean.load_state_dict(state["mean"])
        self._log.load_state_dict(state["training_log"])
        if len(state["random"]) == distributed.world_size():
            device.set_random_state(self.encoder.device, state["random"][distributed.rank()])


def lr_factor(done: int, total: int, warmup: int) -> float:
    """Share of the learning rate after `done` updates: up over `warmup` updates, then down to nothing at `total`.

    >>> [lr_factor(k, 10, 2) for k in (0, 1, 2, 6)]
    [0.0, 0.5, 1.0, 0.5]
    """
    if done < warmup:
        return done / warmup
    return (total - done) / max(1, total - warmup)
