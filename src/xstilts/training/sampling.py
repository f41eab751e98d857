"""Sampling of tasks: how often each task of a mixture is drawn, how many updates that makes, in which order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from xstilts.errors import UserError
from xstilts.model.batch import generator
from xstilts.training import sampling
from xstilts.training.settings import Mixing, TaskSettings, TrainSpec, Weight


def probabilities(
    sizes: Sequence[int], weights: Sequence[Weight], rule: Mixing, done: NDArray[np.float64] | float = 0.0
) -> NDArray[np.float64]:
    """Sampling probabilities [..., P] of the tasks of a mixture.

    Args:
        sizes: examples of each task.
        weights: of each task.
        rule: the paper's, or another.
        done: share of the training that lies behind, from 0 to 1; a number or an array of any shape.

    >>> probabilities([262144, 131072, 65536], [1, 1, 1], Mixing()).round(2).tolist()
    [0.4, 0.4, 0.2]
    >>> probabilities([9, 9], [1, (0, 20)], Mixing(), done=0.1).round(2).tolist()
    [0.33, 0.67]
    """
    start_P, end_P = np.array(
        [weight if isinstance(weight, tuple) else (weight, weight) for weight in weights], float
    ).T
    at = np.minimum(np.asarray(done, float), 1.0)[..., None]
    mass = rule.masses(sizes) * (start_P + (end_P - start_P) * at)
    return np.asarray(mass / mass.sum(-1, keepdims=True))


def updates_of(examples: int, batch: int, epochs: int) -> int:
    """Updates that a task of so many examples asks for."""
    return epochs * -(-examples // batch)


def draw(
    sizes: Sequence[int], weights: Sequence[Weight], rule: Mixing, labelled: Sequence[int], asked: Sequence[int],
    steps: int | None, rng: np.random.Generator,
) -> NDArray[np.int16]:  # fmt: skip
    """Which task each update of a training takes its batch from, [U].

    Without `steps` the labelled tasks together have as many updates as they ask for, epochs x ceil(min(examples, cap) /
    batch) each, and raw text comes on top by its share of the sampling: tasks are drawn until the labelled ones have
    had theirs. Raw text alone has what it asks for.

    Args:
        sizes: examples of each task.
        weights: of each task.
        rule: of the shares.
        labelled: which of the tasks are labelled; the others are raw text.
        asked: updates that each task asks for.
        steps: a number of updates, whatever the tasks ask for.
        rng: decides the order.

    Raises:
        UserError: the labelled tasks have so small a share that it would never end.
    """
    some = [part for part in range(len(sizes)) if part in labelled] or list(range(len(sizes)))
    wanted, ends = sum(asked[part] for part in some), steps
    if steps is None:
        shares = probabilities(sizes, weights, rule, np.linspace(0, 1, 1001))[:, some].sum(-1)
        expected = wanted / shares.mean()
        if not expected <= MOST:
            what = f"the mixture would take {expected:.0e} updates, so small is the share of the labelled tasks"
            raise UserError(what, hint="raise their weight, or give steps")
        steps = round(expected)
        ends = steps if shares[-1] == 0 else None  # or the labelled tasks would never have had theirs
    drawn: list[NDArray[np.int16]] = []
    done = had = 0
    while done < ends if ends is not None else had < wanted:
        at_U = np.arange(done, done + BLOCK if ends is None else min(done + BLOCK, ends))
        block_U = _drawn(probabilities(sizes, weights, rule, at_U / steps), rng)
        had_U = had + np.isin(block_U, some).cumsum()
        if ends is None:
            block_U = block_U[: np.searchsorted(had_U, wanted) + 1]
        drawn.append(block_U)
        done, had = done + len(block_U), int(had_U[-1])
    return np.concatenate(drawn)


def _drawn(chances_UP: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int16]:
    edges_UP = chances_UP.cumsum(-1)
    edges_UP /= edges_UP[:, -1:]
    return np.asarray((rng.random(len(edges_UP))[:, None] >= edges_UP).sum(-1), np.int16)


BLOCK = 2**16
"""Updates that are drawn at once."""


MOST = 10**8
"""Updates of a training at most."""


def schedule(
    parts: Sequence[TaskSettings], sizes: Sequence[int], labelled: Sequence[int], training: TrainSpec, seed: int
) -> NDArray[np.int16]:
    """Which task each update of a training takes its batch from, [U].

    A single task has epochs x ceil(examples / batch) updates; in a mixture each labelled task counts its examples up to
    the rule's cap, and raw text comes on top. `steps` overrides the number.

    Args:
        parts: the tasks.
        sizes: examples of each.
        labelled: which of the tasks are labelled; the others are raw text.
        training: the settings.
        seed: of the choice of tasks.
    """
    rule = training.mixing or Mixing(cap=None)
    asked = [
        sampling.updates_of(rule.counted(size), part.batch, part.epochs)
        for size, part in zip(sizes, parts, strict=True)
    ]
    weights = [part.weight for part in parts]
    return sampling.draw(sizes, weights, rule, labelled, asked, training.steps, generator(seed, "tasks"))
