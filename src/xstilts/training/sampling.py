"""Sampling of tasks: how often each task of a mixture is drawn, the number of updates, and their order."""

# Shape suffixes: U = updates, P = tasks of the mixture

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from xstilts.errors import UserError
from xstilts.model.batch import generator
from xstilts.training.settings import Mixing, TaskSettings, TrainSpec, Weight


def probabilities(
    sizes: Sequence[int], weights: Sequence[Weight], rule: Mixing, done: NDArray[np.float64] | float = 0.0
) -> NDArray[np.float64]:
    """Sampling probabilities [..., P] of the tasks of a mixture.

    Args:
        sizes: the number of examples of each task.
        weights: the weight of each task.
        rule: the mixing rule.
        done: the finished share of the training, from 0 to 1; a number or an array of any shape.

    >>> probabilities([262144, 131072, 65536], [1, 1, 1], Mixing()).round(2).tolist()
    [0.4, 0.4, 0.2]
    >>> probabilities([9, 9], [1, (0, 20)], Mixing(), done=0.1).round(2).tolist()
    [0.33, 0.67]
    """
    start_P, end_P = np.array(
        [weight if isinstance(weight, tuple) else (weight, weight) for weight in weights], float
    ).T
    at = np.minimum(np.asarray(done, float), 1.0)[..., None]
    shares = rule.unnormalized(sizes) * (start_P + (end_P - start_P) * at)
    return np.asarray(shares / shares.sum(-1, keepdims=True))


def num_updates(examples: int, batch: int, epochs: int) -> int:
    """The number of updates of a task with so many examples."""
    return epochs * -(-examples // batch)


def draw(
    sizes: Sequence[int], weights: Sequence[Weight], rule: Mixing, counted: Sequence[int], target: int,
    rng: np.random.Generator,
) -> NDArray[np.int16]:  # fmt: skip
    """The task of each update of a training, [U].

    Tasks are drawn until the counted ones together have `target` updates. The others come on top, in proportion to the
    sampling share. If the share of the counted tasks decays below a tenth of its mean, the expected number of updates
    is drawn: the last counted updates might take thousands of others.

    Args:
        sizes: the number of examples of each task.
        weights: the weight of each task.
        rule: the mixing rule.
        counted: the indices of the tasks that count: the labelled ones, or all tasks if there is only raw text.
        target: the number of updates of the counted tasks together.
        rng: draws the tasks.

    Raises:
        UserError: the share of the counted tasks is so small that the training would be too long.
    """
    shares = probabilities(sizes, weights, rule, np.linspace(0, 1, 1001))[:, counted].sum(-1)
    expected = target / shares.mean()
    if not expected <= MAX_UPDATES:
        what = f"the share of the labelled tasks is so small that the mixture would take {expected:.0e} updates"
        raise UserError(what, hint="raise their weight, or give the raw text a smaller one")
    steps = round(expected)
    total = steps if shares[-1] < LOW_SHARE * shares.mean() else None
    drawn: list[NDArray[np.int16]] = []
    done = reached = 0
    while done < total if total is not None else reached < target:
        at_U = np.arange(done, done + BLOCK if total is None else min(done + BLOCK, total))
        block_U = _draw_block(probabilities(sizes, weights, rule, at_U / steps), rng)
        reached_U = reached + np.isin(block_U, counted).cumsum()
        if total is None:
            block_U = block_U[: np.searchsorted(reached_U, target) + 1]
        drawn.append(block_U)
        done, reached = done + len(block_U), int(reached_U[-1])
    return np.concatenate(drawn)


def _draw_block(probabilities_UP: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int16]:
    edges_UP = probabilities_UP.cumsum(-1)
    edges_UP /= edges_UP[:, -1:]
    return np.asarray((rng.random(len(edges_UP))[:, None] >= edges_UP).sum(-1), np.int16)


BLOCK = 2**16
"""Updates that are drawn at once."""


MAX_UPDATES = 10**8
"""The most updates of a training."""


LOW_SHARE = 0.1
"""If the final share of the labelled tasks is below this share of its mean, the expected number of updates is drawn."""


def schedule(parts: Sequence[TaskSettings], sizes: Sequence[int], spec: TrainSpec, seed: int) -> NDArray[np.int16]:
    """The task of each update of a training, [U].

    A task has epochs x ceil(examples / batch) updates. If several labelled tasks are mixed, each counts its examples up
    to the rule's cap. `steps` replaces these numbers. Raw text comes on top of the labelled tasks; alone it is counted.

    Args:
        parts: the tasks.
        sizes: the number of examples of each task.
        spec: the settings of the training.
        seed: the seed of the choice of tasks.
    """
    rule = spec.mixing or Mixing(cap=None)
    labelled = [i for i, part in enumerate(parts) if not part.raw_text]
    counted = labelled or list(range(len(parts)))
    epochs = [
        num_updates(rule.capped(sizes[i]) if len(labelled) > 1 else sizes[i], parts[i].batch, parts[i].epochs)
        for i in counted
    ]
    weights = [part.weight for part in parts]
    return draw(sizes, weights, rule, counted, spec.steps or sum(epochs), generator(seed, "tasks"))
