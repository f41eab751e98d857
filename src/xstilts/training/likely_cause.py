"""Says the likely cause of a training that ended at chance: one sentence, from its settings and its log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xstilts.errors import counted
from xstilts.formats.base import IGNORED, Format
from xstilts.model.features import FeatureSet
from xstilts.training.settings import TrainSpec, as_written

_Losses: TypeAlias = NDArray[np.float64]
"""The loss of each update."""
FEW_UPDATES, SMALL_LR, LARGE_LR = 500, 1e-5, 2e-4
"""Trainings with fewer updates, or with a learning rate outside these two, often end at chance.

Mosbach et al. 2021 need more than three epochs on RTE (468 updates), with rates of 1e-5 to 3e-5. Narrow encoders take
ten times that rate.
"""
FELL, STILL_FALLING, LEARNED = 0.05, 0.02, 0.5
"""Falls of the loss that count, as shares of the first loss: at all; at the end; to the level of learned data."""


def likely_cause(
    spec: TrainSpec, rows: Sequence[Mapping[str, Any]], *, one_label: bool, one_answer: bool, small_dev: str = ""
) -> str:
    """The likely cause, for the user; empty without a log.

    Args:
        spec: the settings of the training.
        rows: the rows of its log.
        one_label: whether all training examples have the same label.
        one_answer: whether all dev examples got the same answer. The answer may be a text, which no record repeats.
        small_dev: what `small_dev` says of its dev set.
    """
    losses = _losses(rows)
    if not losses.size:
        return ""
    if one_label:
        return "all training examples have the same label, so there is nothing to learn"
    if small_dev:
        return small_dev
    size = len(losses)
    start, end = _mean(losses, 0, 1), _mean(losses, 9, 10)
    slope = _mean(losses, 6, 8) - _mean(losses, 8, 10)
    ran = f"{counted(size, 'update')} at lr {as_written(spec.lr)}"
    ran += ", and all dev examples get the same answer" if one_answer else ""
    length = "`epochs`" if spec.steps is None else "`steps`"
    fell = end < (1 - FELL) * start
    if end < LEARNED * start:
        return (
            f"the training loss fell from {start:.2f} to {end:.2f}, but dev stayed at chance: "
            "compare the texts and labels of train and dev"
        )
    if fell and slope > STILL_FALLING * start and spec.lr >= SMALL_LR:
        return f"the loss was still falling ({start:.2f} to {end:.2f}) after {ran}: raise {length}"
    if size < FEW_UPDATES:
        return f"{ran}: raise " + (f"`lr` or {length}" if spec.lr < LARGE_LR else length)
    if spec.lr < SMALL_LR:
        return f"{ran}: raise `lr`"
    advice = "lower `lr`" if spec.lr >= LARGE_LR else "check that the labels follow from the texts, or try another `lr`"
    return f"the loss went from {start:.2f} to {end:.2f} in {ran}: {advice}"


def small_dev(best: float, chance: float, examples: int, metric: str) -> str:
    """A sentence if a training ended at chance because its dev set is small; else empty.

    Its best score is then at least half the way from chance to 100.

    >>> small_dev(90.0, 75.0, 20, "f1")
    'the dev set of 20 examples is too small to tell 90.0 from chance (75.0): give it more examples'
    """
    if best < (chance + 100) / 2:
        return ""
    what = f"{chance:.1f}" + ", the share of its commonest label" * (metric == "accuracy")
    size = counted(examples, "example")
    return f"the dev set of {size} is too small to tell {best:.1f} from chance ({what}): give it more examples"


def _mean(losses: _Losses, first: int, last: int) -> float:
    """The mean loss between two tenths of the training."""
    begin = len(losses) * first // 10
    return float(losses[begin : max(begin + 1, len(losses) * last // 10)].mean())


def _losses(rows: Sequence[Mapping[str, Any]]) -> _Losses:
    """The loss of each update; updates that share a row of the log have its mean."""
    by_step = {row["step"]: row["loss"] for row in rows}
    steps = np.array([0, *by_step])
    return np.repeat(np.array([*by_step.values()], float), np.diff(steps))


def has_one_label(format: Format, features: FeatureSet) -> bool:
    """Whether all examples have the same label; false if they have other targets than labels."""
    found = np.setdiff1d(np.unique(features.targets_M), [IGNORED])
    return bool(getattr(format, "labels", None)) and len(found) == 1


def has_one_answer(predictions: Sequence[Any]) -> bool:
    """Whether several predictions are all the same."""
    found = {label for labels in predictions for label in (labels if isinstance(labels, list | tuple) else [labels])}
    return len(found) == 1 and len(predictions) > 1
