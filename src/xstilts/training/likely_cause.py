"""Says the likely cause of a training that ended at chance: one sentence, from its settings and its log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

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
    spec: TrainSpec, rows: Sequence[Mapping[str, Any]], only_label: str | None, only_answer: str | None
) -> str:
    """The likely cause, for the user; empty without a log.

    Args:
        spec: the settings of the training.
        rows: the rows of its log.
        only_label: the label of all training examples, if they have the same.
        only_answer: the label that all dev examples got, if they got the same.
    """
    losses = _losses(rows)
    if not losses.size:
        return ""
    if only_label is not None:
        return f"all training examples have the label '{only_label}', so there is nothing to learn"
    size = len(losses)
    start, end = _mean(losses, 0, 1), _mean(losses, 9, 10)
    slope = _mean(losses, 6, 8) - _mean(losses, 8, 10)
    ran = f"{size:,} update{'s' if size > 1 else ''} at lr {as_written(spec.lr)}"
    ran += "" if only_answer is None else f", and all dev examples get '{only_answer}'"
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


def _mean(losses: _Losses, first: int, last: int) -> float:
    """The mean loss between two tenths of the training."""
    begin = len(losses) * first // 10
    return float(losses[begin : max(begin + 1, len(losses) * last // 10)].mean())


def _losses(rows: Sequence[Mapping[str, Any]]) -> _Losses:
    """The loss of each update; updates that share a row of the log have its mean."""
    by_step = {row["step"]: row["loss"] for row in rows}
    steps = np.array([0, *by_step])
    return np.repeat(np.array([*by_step.values()], float), np.diff(steps))


def only_label(format: Format, features: FeatureSet) -> str | None:
    """The label of all examples, if they have the same; None if they differ, or have other targets than labels."""
    labels = getattr(format, "labels", None)
    found = np.setdiff1d(np.unique(features.targets_M), [IGNORED])
    return str(labels[int(found[0])]) if labels and len(found) == 1 else None


def only_answer(predictions: Sequence[Any]) -> str | None:
    """The label in all predictions, if it is the same."""
    found = {label for labels in predictions for label in (labels if isinstance(labels, list | tuple) else [labels])}
    return str(found.pop()) if len(found) == 1 and predictions else None
