"""What a recipe leaves open, decided: settings, languages, and what of a task decides an outcome."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from xstilts.errors import UserError
from xstilts.study.checks import expand_groups
from xstilts.study.phase import Mixture, Settings, mixtures_of
from xstilts.study.recipe import Recipe
from xstilts.tasks import GROUPS, WIDE
from xstilts.tasks.task import Task
from xstilts.training.settings import Learned, Mixing, Training

MULTI_TASK_EPOCHS = 3
"""Table 4's epochs for a mixture."""
MAX_STEPS = 100_000
"""Trainings and scorings that a recipe may ask for, before equal ones are folded."""


def scored_languages(task: Task, recipe: Recipe) -> tuple[str, ...]:
    """The languages of a task that a recipe asks for; those of XTREME-R only by its group or by name."""
    if recipe.languages is not None:
        return tuple(code for code in task.all_languages if code in recipe.languages)
    wide = any(group in recipe.evaluate and task.name in GROUPS[group] for group in WIDE)
    return task.all_languages if wide else task.languages


def resolve_training(settings: Settings, mixture: Mixture, tasks: Mapping[str, Task], role: str) -> Training:
    """Fill in what the recipe leaves open: from the task (Tables 4 and 5), then from the phase's role (appendix A)."""
    masked = any(tasks[part.task].format.head.kind == "vocabulary" for part in mixture)
    default_lr = 3e-6 if role == "target" else 5e-6 if masked else 1e-5
    parts = []
    for part in mixture:
        task = tasks[part.task]
        epochs = settings.epochs or (task.epochs if len(mixture) == 1 else MULTI_TASK_EPOCHS)
        batch, length = settings.batch or task.batch, settings.max_length or task.max_length
        parts.append(Learned(task=part.task, weight=part.weight, batch=batch, max_length=length, epochs=epochs))
    return Training(
        parts=tuple(parts),
        lr=settings.lr or default_lr,
        steps=settings.steps,
        warmup=0.1 if settings.warmup is None else settings.warmup,
        weight_decay=0.01 if settings.weight_decay is None else settings.weight_decay,
        precision=settings.precision or "fp32",
        eval_every=settings.eval_every,
        patience=settings.patience or 30,
        mixing=(settings.mixing or Mixing()) if len(mixture) > 1 else None,
    )


def check_size(recipe: Recipe) -> None:
    """Refuse what would take too long just to be laid out: choices of many phases multiply.

    Raises:
        UserError: it asks for more than `MAX_STEPS` trainings and scorings.
    """
    phases = [phase.choices for phase in recipe.phases if phase.choices is not None]
    branches = prod(map(len, phases))
    trainings = sum(
        branches // len(choices) * sum(len(mixtures_of(choice)) for choice in choices) for choices in phases
    )
    ends = branches * len(expand_groups(recipe.evaluate)) * (2 if recipe.phases[-1].each else 1)
    steps = len(recipe.starts) * len(recipe.seeds) * (trainings + ends)
    if max(branches, steps) > MAX_STEPS:
        raise UserError(
            f"asks for more than {MAX_STEPS:,} trainings and scorings, before equal ones are folded",
            where=recipe.where("phases"),
            hint="give fewer choices: those of all phases are multiplied",
        )
