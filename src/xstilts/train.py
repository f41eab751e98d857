"""The training loop: the only one, for every phase and every format."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xstilts import device
from xstilts.batching import CAP, Batch, Masking, collate, generator, shares, shuffled, updates_of
from xstilts.encoder import Encoder
from xstilts.errors import StepFailed
from xstilts.features import FeatureSet
from xstilts.heads import Head
from xstilts.optimizer import Optimizer, word_table
from xstilts.plan import Learned, Training

MILDER = "try a lower lr, or precision fp32"
"""What to do about numbers that overflow."""


@dataclass(frozen=True)
class Learning:
    """One task of a mixture, ready to be trained on."""

    plan: Learned
    head: Head
    features: FeatureSet
    masking: Masking | None

    @property
    def capped(self) -> int:
        """Examples that count in a mixture."""
        return min(self.features.examples, CAP)


@dataclass(frozen=True)
class Trained:
    """What came of a training."""

    updates: int
    best_update: int
    best: float | None
    """Dev score of the weights that were kept; None without early stopping."""
    seconds: float


@dataclass(frozen=True)
class Logged:
    """A line of the log: the mean loss (nats) since the last one, and the speed over the same updates."""

    step: int
    total: int
    task: str
    loss: float
    lr: float
    seconds: float
    examples_per_second: float
    tokens_per_second: float
    dev: float | None = None


def total_updates(learning: Sequence[Learning], training: Training) -> int:
    """Updates of a training: as given, or by the epochs of its tasks.

    A single task takes epochs x ceil(examples / batch); in a mixture of labelled tasks each counts its examples up to
    2^17. Text to be masked comes on top, by its share of the sampling.
    """
    if training.steps is not None:
        return training.steps
    single = len(learning) == 1

    def asked(part: Learning) -> int:
        examples = part.features.examples if single else part.capped
        return updates_of(examples, part.plan.batch, part.plan.epochs)

    probability = mixture(learning)
    labelled = [i for i, part in enumerate(learning) if part.masking is None]
    if not labelled:
        return sum(asked(part) for part in learning)
    return round(sum(asked(learning[i]) for i in labelled) / float(probability[labelled].sum()))


def mixture(learning: Sequence[Learning]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The probability of each task at each update."""
    return shares([part.features.examples for part in learning], [part.plan.weight for part in learning])


def train(
    encoder: Encoder,
    learning: Sequence[Learning],
    training: Training,
    *,
    seed: int,
    dev: Callable[[], float] | None,
    log: Callable[[Logged], None],
) -> Trained:
    """Train an encoder and its heads in place; the weights of the best dev score are left in them.

    Args:
        encoder: trained with its language-model head, if some task masks text.
        learning: the tasks; each update is one batch of one task.
        training: the settings.
        seed: of the order of the examples, the choice of tasks, hidden pieces and dropout.
        dev: percent on the English dev examples, for early stopping; None trains to the end.
        log: called now and then, and after each look at the dev examples.

    Raises:
        StepFailed: the loss, or a score of a dev example, is not a number any more.
    """
    where = encoder.device
    device.seed(seed)
    modules = nn.ModuleList([encoder, *(part.head for part in learning)])
    total = total_updates(learning, training)
    hides = any(part.masking for part in learning)  # the language-model head reads the whole word table
    optimizer = Optimizer(modules, None if hides else word_table(encoder.base), lr=training.lr,
                          weight_decay=training.weight_decay, updates=total)  # fmt: skip
    batches = [_batches(part, seed, i) for i, part in enumerate(learning)]
    drawn = generator(seed, "tasks").choice(len(learning), size=total, p=mixture(learning))
    look_every = training.eval_every or max(1, min(1000, total // 20))
    meter = _Meter(total, max(1, min(100, total // 50)), log)
    best = _Best(modules, training.patience)
    started = time.perf_counter()
    modules.train()
    update = 0
    for update in range(1, total + 1):
        part = learning[drawn[update - 1]]
        batch = next(batches[drawn[update - 1]]).to(where)
        lr = training.lr * rate(update - 1, total, int(training.warmup * total))
        loss = _update(encoder, part.head, batch, optimizer, lr, training)
        meter.add(update, part.plan.task, loss, lr, batch)
        if dev is not None and (update % look_every == 0 or update == total):
            meter.flush()
            optimizer.flush()
            modules.eval()
            score = _look(dev, update, total)
            modules.train()
            meter.look(score)
            if best.over(score, update):
                break
    meter.flush()
    optimizer.close()
    best.restore()
    modules.eval()
    return Trained(update, best.update or update, best.score, time.perf_counter() - started)


def _look(dev: Callable[[], float], update: int, total: int) -> float:
    try:
        return dev()
    except StepFailed as failure:
        raise StepFailed(f"{failure.what} after update {update:,} of {total:,}", hint=MILDER) from failure


def _batches(part: Learning, seed: int, index: int) -> Iterator[Batch]:
    order, hidden = generator(seed, "order", index), generator(seed, "hidden", index)
    for passes in shuffled(part.features, part.plan.batch, order):
        yield collate(part.features, passes, part.masking, hidden)


def _update(encoder: Encoder, head: Head, batch: Batch, optimizer: Optimizer, lr: float, training: Training) -> Tensor:
    optimizer.prepare(batch.ids_T)
    with device.autocast(encoder.device, training.precision):
        loss = head.loss(head(encoder.hidden(batch), batch), batch)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step(lr)
    return loss.detach()


def rate(done: int, total: int, warmup: int) -> float:
    """Share of the learning rate after `done` updates: up over `warmup` updates, then down to nothing at `total`.

    >>> [rate(k, 10, 2) for k in (0, 1, 2, 6)]
    [0.0, 0.5, 1.0, 0.5]
    """
    if done < warmup:
        return done / warmup
    return (total - done) / max(1, total - warmup)


class _Best:
    """The best weights so far, and how long ago they were."""

    def __init__(self, modules: nn.Module, patience: int) -> None:
        self.modules, self.patience = modules, patience
        self.score: float | None = None
        self.update, self.since = 0, 0
        self._state: dict[str, Tensor] = {}

    def over(self, score: float, update: int) -> bool:
        """Note a score; True when it is time to stop."""
        if self.score is None or score > self.score:
            self.score, self.update, self.since = score, update, 0
            self._state = {
                name: value.detach().to("cpu", copy=True) for name, value in self.modules.state_dict().items()
            }
        else:
            self.since += 1
        return self.since >= self.patience

    def restore(self) -> None:
        """Put the best weights back."""
        if self._state:
            self.modules.load_state_dict(self._state)


class _Meter:
    """Gathers losses and speed, and logs them every so many updates."""

    def __init__(self, total: int, every: int, log: Callable[[Logged], None]) -> None:
        self.total, self.every, self.log = total, every, log
        self._start = time.perf_counter()
        self._last: Logged | None = None
        self._clear()

    def _clear(self) -> None:
        self._losses: list[Tensor] = []
        self._examples = self._tokens = 0
        self._since = time.perf_counter()

    def add(self, update: int, task: str, loss: Tensor, lr: float, batch: Batch) -> None:
        self._losses.append(loss)
        self._examples, self._tokens = self._examples + batch.examples, self._tokens + batch.tokens
        self._at = (update, task, lr)
        if len(self._losses) >= self.every:
            self.flush()

    def flush(self) -> None:
        """Log what was gathered; the losses come off the device only here.

        Raises:
            StepFailed: one of the losses is not a number.
        """
        if not self._losses:
            return
        update, task, lr = self._at
        losses = torch.stack(self._losses).tolist()
        first = next((i for i, loss in enumerate(losses) if not math.isfinite(loss)), None)
        if first is not None:
            wrong = update - len(losses) + 1 + first
            raise StepFailed(f"the loss is {losses[first]} at update {wrong:,} of {self.total:,}",
                             hint=MILDER)  # fmt: skip
        now = time.perf_counter()
        seconds = max(now - self._since, 1e-9)
        self._last = Logged(update, self.total, task, sum(losses) / len(losses), lr, now - self._start,
                            self._examples / seconds, self._tokens / seconds)  # fmt: skip
        self.log(self._last)
        self._clear()

    def look(self, dev: float) -> None:
        """Log a dev score beside the last loss; the time it took counts in no speed."""
        assert self._last is not None
        self.log(replace(self._last, seconds=time.perf_counter() - self._start, dev=dev))
        self._since = time.perf_counter()
