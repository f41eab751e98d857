"""Defaults: the settings, languages and formats that a recipe leaves open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from xstilts.formats import Tag
from xstilts.study.phase import Choice, Mixture, Settings, mixtures_of
from xstilts.study.recipe import Recipe
from xstilts.tasks import GROUPS, WITH_MORE_LANGUAGES
from xstilts.tasks.task import Task
from xstilts.training.settings import PATIENCE, Mixing, TaskSettings, TrainSpec

INTERMEDIATE_LR, MASKED_TEXT_LR, TARGET_LR = 1e-5, 5e-6, 3e-6
"""Learning rates of intermediate trainings, of intermediate trainings with raw text, and of target trainings
(appendix A)."""
MULTI_TASK_EPOCHS = 3
"""Epochs of several labelled tasks in one mixture (Table 4)."""
BUDGET = 45_000
"""Labelled updates of each choice with `budget: updates`, about the mean of the paper's nine tasks (Table 4)."""
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


def evaluated_languages(task: Task, recipe: Recipe) -> tuple[str, ...]:
    """The same, and the training language of a task with a dev set in it alone: runs are selected by its scores."""
    languages = scored_languages(task, recipe)
    dev = task.languages_of("dev") if task.shares_dev and "dev" in task.scored else ()
    return (*languages, *(code for code in dev if code not in languages))


def with_first_piece(tasks: Mapping[str, Task], recipe: Recipe) -> Mapping[str, Task]:
    """The tasks; tag tasks that name no `first_piece` of their own have the recipe's, if it gives one."""
    if recipe.first_piece is None:
        return tasks
    changed = {}
    for name, task in tasks.items():
        if isinstance(task.format, Tag) and "first_piece" not in task.format.model_fields_set:
            format = task.format.model_copy(update={"first_piece": recipe.first_piece})
            changed[name] = task.model_copy(update={"format": format})
    return {**tasks, **changed}


def is_labelled(task: Task) -> bool:
    """Whether a task has labels; raw text has none."""
    return task.format.head.kind != "vocabulary"


def choice_steps(settings: Settings, choice: Choice, tasks: Mapping[str, Task]) -> tuple[int | None, ...]:
    """The setting `steps` of each mixture that a choice trains.

    With `budget: updates` the mixtures of a chain or merge share the choice's updates equally, the first ones taking
    what is left over. Mixtures of raw text alone are not counted. A share is 0 if the budget is too small.
    """
    mixtures = mixtures_of(choice)
    if settings.budget != "updates":
        return (settings.steps,) * len(mixtures)
    labelled = [any(is_labelled(tasks[part.task]) for part in mixture) for mixture in mixtures]
    share, left_over = divmod(settings.steps or BUDGET, max(1, sum(labelled)))
    return tuple(
        share + (sum(labelled[:i]) < left_over) if labelled[i] else settings.steps for i in range(len(mixtures))
    )


def resolve_training(settings: Settings, mixture: Mixture, tasks: Mapping[str, Task], role: str) -> TrainSpec:
    """Fill in the settings that a recipe leaves open: from the task (Tables 4 and 5), then from the phase's role."""
    alone = settings.of(mixture[0].task) if len(mixture) == 1 else settings
    num_labelled = sum(is_labelled(tasks[part.task]) for part in mixture)
    intermediate_lr = INTERMEDIATE_LR if num_labelled == len(mixture) else MASKED_TEXT_LR
    parts = []
    for part in mixture:
        task, own = tasks[part.task], settings.of(part.task)
        own_epochs = MULTI_TASK_EPOCHS if num_labelled > 1 and is_labelled(task) else task.epochs
        given = TaskSettings(
            task=part.task,
            weight=part.weight,
            batch=own.batch or task.batch,
            max_length=own.max_length or task.max_length,
            epochs=own.epochs or own_epochs,
            raw_text=len(mixture) > 1 and not is_labelled(task),
        )
        parts.append(given)
    return TrainSpec(
        parts=tuple(parts),
        lr=alone.lr or (TARGET_LR if role == "target" else intermediate_lr),
        steps=alone.steps,
        warmup=WARMUP if alone.warmup is None else alone.warmup,
        weight_decay=WEIGHT_DECAY if alone.weight_decay is None else alone.weight_decay,
        precision=alone.precision or PRECISION,
        eval_every=alone.eval_every,
        patience=alone.patience or PATIENCE,
        weights=alone.weights or "best",
        mixing=(settings.mixing or Mixing()) if len(mixture) > 1 else None,
    )
