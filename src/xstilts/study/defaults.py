"""Defaults: the settings and languages that a recipe leaves open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from xstilts.study.phase import Mixture, Settings
from xstilts.study.recipe import Recipe
from xstilts.tasks import GROUPS, WITH_MORE_LANGUAGES
from xstilts.tasks.task import Task
from xstilts.training.settings import PATIENCE, Mixing, TaskSettings, TrainSpec

INTERMEDIATE_LR, MASKED_TEXT_LR, TARGET_LR = 1e-5, 5e-6, 3e-6
"""Learning rates of intermediate trainings, of intermediate trainings with raw text, and of target trainings
(appendix A)."""
MULTI_TASK_EPOCHS = 3
"""Epochs of a mixture (Table 4)."""
WARMUP = 0.1
"""Share of the updates in which the learning rate rises (jiant's scripts for the paper)."""
WEIGHT_DECAY = 0.01
"""The weight decay of weight matrices (jiant's optimizer)."""
PRECISION: Literal["fp32", "bf16"] = "fp32"


def scored_languages(task: Task, recipe: Recipe) -> tuple[str, ...]:
    """The languages in which a recipe scores a task; XTREME-R's only if it names them or evaluates that group."""
    if recipe.languages is not None:
        return tuple(code for code in task.all_languages if code in recipe.languages)
    wide = any(group in recipe.evaluate and task.name in GROUPS[group] for group in WITH_MORE_LANGUAGES)
    return task.all_languages if wide else task.languages


def resolve_training(settings: Settings, mixture: Mixture, tasks: Mapping[str, Task], role: str) -> TrainSpec:
    """Fill in the settings that a recipe leaves open: from the task (Tables 4 and 5), then from the phase's role."""
    masked = any(tasks[part.task].format.head.kind == "vocabulary" for part in mixture)
    intermediate_lr = MASKED_TEXT_LR if masked else INTERMEDIATE_LR
    parts = []
    for part in mixture:
        task = tasks[part.task]
        epochs = settings.epochs or (task.epochs if len(mixture) == 1 else MULTI_TASK_EPOCHS)
        batch, length = settings.batch or task.batch, settings.max_length or task.max_length
        parts.append(TaskSettings(task=part.task, weight=part.weight, batch=batch, max_length=length, epochs=epochs))
    return TrainSpec(
        parts=tuple(parts),
        lr=settings.lr or (TARGET_LR if role == "target" else intermediate_lr),
        steps=settings.steps,
        warmup=WARMUP if settings.warmup is None else settings.warmup,
        weight_decay=WEIGHT_DECAY if settings.weight_decay is None else settings.weight_decay,
        precision=settings.precision or PRECISION,
        eval_every=settings.eval_every,
        patience=settings.patience or PATIENCE,
        mixing=(settings.mixing or Mixing()) if len(mixture) > 1 else None,
    )
