"""Defaults: the settings, languages and formats that a recipe leaves open."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from xstilts.formats import Tag
from xstilts.study.phase import Choice, Mixture, Part, Settings, mixtures_of
from xstilts.study.recipe import Recipe
from xstilts.tasks import GROUPS, PAPER_TABLES, TASKS, WITH_MORE_LANGUAGES
from xstilts.tasks.task import Task
from xstilts.tasks.user_tasks import USER_DATA_ORIGINS
from xstilts.training.settings import DEV_SHARE, PATIENCE, Mixing, TaskSettings, TrainSpec
from xstilts.utils.models import Precision

INTERMEDIATE_LR, MASKED_TEXT_LR, TARGET_LR = 1e-5, 5e-6, 3e-6
"""Learning rates of intermediate trainings, of intermediate trainings with raw text, and of target trainings
(appendix A)."""
USER_DATA_LR = 2e-5
"""Learning rate of trainings on the user's own data (Mosbach et al. 2021; mmBERT's evaluation).

Mosbach et al. have the same warm-up and weight decay as jiant, and correct Adam's bias, as our optimizer does.
"""
MULTI_TASK_EPOCHS = 3
"""Epochs of several labelled tasks in one mixture (Table 4)."""
BUDGET = 45_000
"""Labelled updates of each choice with `budget: updates`, about the mean of the paper's nine tasks (Table 4)."""
WARMUP = 0.1
"""Share of the updates in which the learning rate rises (jiant's scripts for the paper)."""
WEIGHT_DECAY = 0.01
"""The weight decay of weight matrices (jiant's optimizer)."""
PRECISION: Precision = "auto"
SCORING = ("limit", "layer", "poolings", "score_layers")
"""The settings that only the final scoring reads."""
PAPER, JIANT, USER_DATA = "paper, appendix A", "jiant's scripts", USER_DATA_ORIGINS["batch"]


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


def target_settings(recipe: Recipe, start: Settings) -> Settings:
    """The settings of trainings on the evaluated tasks' own data, and of scoring.

    Args:
        recipe: the study.
        start: the encoder's settings, with gaps filled from the recipe's.
    """
    last = recipe.phases[-1]
    return start if last.each is None else last.settings.over(start)


def unused_settings(recipe: Recipe) -> Iterator[str]:
    """A line on each phase with settings that `target_settings` does not take, although only scoring reads them."""
    for phase in recipe.phases:
        given = [phase.settings, *(phase.settings.tasks or {}).values()]
        names = [name for name in SCORING if any(getattr(one, name) is not None for one in given)]
        if names and phase.each is None:
            place = "the recipe's `settings`" + ("" if recipe.phases[-1].each is None else " or the phase with `each`")
            yield f"{phase.name}: no effect in this phase: {', '.join(names)}; scoring takes it from {place}"


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


def with_each_language(tasks: Mapping[str, Task]) -> Mapping[str, Task]:
    """The tasks, and a task in one language, called `TASK LANGUAGE`, for each training of `train_languages: each`."""
    more = {
        each_language(name, code): task.in_language(code)
        for name, task in tasks.items()
        if task.train_in == "each"
        for code in task.train_languages
    }
    return {**tasks, **more}


def each_language(task: str, code: str) -> str:
    """The name of a task in one language; no task of a user has such a name.

    >>> each_language("tydiqa", "sw")
    'tydiqa sw'
    """
    return f"{task} {code}"


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


@dataclass(frozen=True)
class ResolvedTraining:
    """The settings of a training, and where each comes from.

    The origins are named like the fields of `TrainSpec`, those of a task's own `TASK.batch`, `TASK.epochs` and
    `TASK.max_length`.
    """

    spec: TrainSpec
    origins: Mapping[str, str]


class _Resolver:
    """Takes the first given value of each setting, and notes where it comes from."""

    def __init__(self) -> None:
        self.origins: dict[str, str] = {}

    def first(self, name: str, settings: Settings, default: Any, origin: str, *, task: str = "") -> Any:
        """The setting's value in `settings`, or else the default."""
        given = getattr(settings, name)
        self.origins[f"{task}.{name}" if task else name] = origin if given is None else settings.origin(name)
        return default if given is None else given


def resolve_training(
    settings: Settings, mixture: Mixture, tasks: Mapping[str, Task], role: Literal["intermediate", "target"],
    steps: int | None = None,
) -> ResolvedTraining:  # fmt: skip
    """Fill in the settings that a recipe leaves open: from the task, then from the phase's role.

    A catalogue task has the paper's settings (Tables 4 and 5), a task on the user's own data those of later studies.
    With `budget: updates`, `steps` is the training's share.
    """
    labelled = [tasks[part.task] for part in mixture if is_labelled(tasks[part.task])]
    papers_length = _has_papers_length(settings, labelled)
    if steps is not None:
        settings = settings.model_copy(update={"steps": steps})
    alone = settings.of(tasks[mixture[0].task].name) if len(mixture) == 1 else settings
    resolver = _Resolver()
    parts = tuple(
        _resolve_task(part, settings.of(tasks[part.task].name), tasks[part.task], resolver, labelled, len(mixture))
        for part in mixture
    )
    lr, lr_origin = _default_lr(labelled, len(mixture), role)
    schedule_origin = USER_DATA if lr_origin == USER_DATA else JIANT
    stops = bool(labelled) and alone.weights != "last" and alone.eval_every is None
    spec = TrainSpec(
        parts=parts,
        lr=resolver.first("lr", alone, lr, lr_origin),
        steps=alone.steps,
        warmup=resolver.first("warmup", alone, WARMUP, schedule_origin),
        weight_decay=resolver.first("weight_decay", alone, WEIGHT_DECAY, schedule_origin),
        precision=resolver.first("precision", alone, PRECISION, "default"),
        eval_every=alone.eval_every,
        patience=resolver.first("patience", alone, PATIENCE, PAPER),
        weights=resolver.first("weights", alone, "best", PAPER),
        mixing=resolver.first("mixing", settings, Mixing(), "paper, section 3.1") if len(mixture) > 1 else None,
        dev_share=DEV_SHARE if stops and not papers_length else None,
    )
    for name in ("steps", "eval_every"):
        if getattr(spec, name) is not None:
            resolver.origins[name] = alone.origin(name)
    if settings.budget == "updates":
        resolver.origins["steps"] = f"budget: updates, {settings.origin('budget')}"
    return ResolvedTraining(spec, resolver.origins)


def _has_papers_length(settings: Settings, labelled: Sequence[Task]) -> bool:
    """Whether a training takes as long as the paper says; then it keeps the paper's interval of evaluations."""
    own = [settings.of(task.name) for task in labelled]
    changed = any(one.epochs or one.steps or one.shots for one in own)
    return not changed and not any(task.has_user_data or task.shots for task in labelled)


def _resolve_task(
    part: Part, own: Settings, task: Task, resolver: _Resolver, labelled: Sequence[Task], num_tasks: int
) -> TaskSettings:
    """The settings of a task in a training."""
    shared = len(labelled) > 1 and is_labelled(task) and not task.has_user_data
    epochs, epochs_origin = (MULTI_TASK_EPOCHS, "paper, Table 4") if shared else (task.epochs, _origin(task, "epochs"))
    return TaskSettings(
        task=part.task,
        weight=part.weight,
        batch=resolver.first("batch", own, task.batch, _origin(task, "batch"), task=part.task),
        max_length=resolver.first("max_length", own, task.max_length, _origin(task, "max_length"), task=part.task),
        epochs=resolver.first("epochs", own, epochs, epochs_origin, task=part.task),
        raw_text=num_tasks > 1 and not is_labelled(task),
        shots=resolver.first("shots", own, task.shots, _origin(task, "shots"), task=part.task),
    )


def _default_lr(labelled: Sequence[Task], num_tasks: int, role: Literal["intermediate", "target"]) -> tuple[float, str]:
    """The default learning rate and its origin; a catalogue task among the labelled ones keeps the paper's."""
    if labelled and all(task.has_user_data for task in labelled):
        return USER_DATA_LR, USER_DATA
    if role == "target":
        return TARGET_LR, PAPER
    return (INTERMEDIATE_LR if len(labelled) == num_tasks else MASKED_TEXT_LR), PAPER


def _origin(task: Task, field: Literal["batch", "epochs", "max_length", "shots"]) -> str:
    """Where a task's own setting comes from: its task file, the paper, or the catalogue."""
    name = task.like or ("" if task.origins else task.name)
    if field in task.origins:
        return task.origins[field]
    if field == "max_length" and name in PAPER_TABLES:
        return JIANT
    if field == "shots" or (field == "epochs" and not is_labelled(task)):
        return "default"
    return PAPER_TABLES.get(name) or (f"built-in task {name}" if name in TASKS else "default")
