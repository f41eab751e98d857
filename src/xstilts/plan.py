"""Plans: a recipe as a list of steps with identities, equal work folded; neither data nor weights are looked at."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Literal

from xstilts.errors import UserError
from xstilts.recipe import Mixture, NewEncoder, Part, Phase, Recipe, Settings, expanded
from xstilts.results import Cell, Study, TaskLine
from xstilts.source import Source, Strict
from xstilts.task import Task
from xstilts.tasks import GROUPS, WIDE

Kind = Literal["create", "train", "evaluate"]

MULTI_TASK_EPOCHS = 3
"""Table 4's epochs for a mixture."""


class Learned(Strict):
    """One task of a training, with the batch, length and epochs that hold for it."""

    task: str
    weight: float
    batch: int
    max_length: int
    epochs: int


class Training(Strict):
    """The settings of one training, every one decided."""

    parts: tuple[Learned, ...]
    lr: float
    steps: int | None
    warmup: float
    weight_decay: float
    precision: Literal["fp32", "bf16"]
    eval_every: int | None
    patience: int


class Scoring(Strict):
    """The settings of one evaluation, every one decided."""

    task: str
    head: int | None
    """Which head of the parent training's; None for tasks that need none of these."""
    languages: tuple[str, ...]
    max_length: int
    precision: Literal["fp32", "bf16"]
    limit: int | None


@dataclass(frozen=True)
class Step:
    """One piece of work. Its id is a hash of all that decides its outcome but the content of the data files.

    `parent` is the step whose encoder it starts from, None for the recipe's own encoder. `seed` is None only for the
    evaluation of an encoder that no study seed has touched.
    """

    id: str
    kind: Kind
    parent: str | None
    encoder: str
    seed: int | None
    title: str
    training: Training | None = None
    scoring: Scoring | None = None
    new: NewEncoder | None = None

    @property
    def parts(self) -> tuple[Learned, ...]:
        """The tasks it trains on, none if it is no training."""
        return self.training.parts if self.training else ()

    @property
    def name(self) -> str:
        """The title, with the seed where there is one."""
        return self.title if self.seed is None else f"{self.title}, seed {self.seed}"

    def row(self) -> dict[str, Any]:
        """The step as JSON."""
        known = {"id": self.id, "kind": self.kind, "title": self.title, "parent": self.parent, "seed": self.seed}
        for name in ("training", "scoring", "new"):
            value = getattr(self, name)
            if value is not None:
                known[name] = value.model_dump(mode="json")
        return known


@dataclass
class Plan:
    """The steps of a study in an order in which they can be done, and what they are for."""

    recipe: Recipe
    tasks: Mapping[str, Task]
    steps: dict[str, Step] = field(default_factory=dict)
    cells: list[Cell] = field(default_factory=list)
    trainings_before_folding: int = 0

    @property
    def trainings(self) -> int:
        """Trainings after folding."""
        return sum(step.kind == "train" for step in self.steps.values())

    @property
    def evaluations(self) -> int:
        """Pairs of a task and a language that are scored, after folding."""
        return sum(len(step.scoring.languages) for step in self.steps.values() if step.scoring)

    @property
    def notes(self) -> list[str]:
        """What a user should know before it runs: splits that are not scored although the task has them."""
        said = []
        for name in dict.fromkeys(cell.task for cell in self.cells):
            task = self.tasks[name]
            said += [
                f"{name}: its {split} data are not scored, for the task is trained on some of them"
                for split in ("dev", "test")
                if split in task.data and split not in task.scored
            ]
        return said

    def study(self) -> Study:
        """What a report needs to know of the plan."""
        branches = list(dict.fromkeys(cell.branch for cell in self.cells))
        names = list(dict.fromkeys(cell.task for cell in self.cells))
        return Study(
            name=self.recipe.name,
            encoder=_encoder_name(self.recipe.encoder),
            seeds=self.recipe.seeds,
            branches=tuple(branches),
            baseline=_BASELINE if _BASELINE in branches and len(branches) > 1 else None,
            tasks=tuple(self._line(self.tasks[name]) for name in names),
            cells=tuple(self.cells),
        )

    def _line(self, task: Task) -> TaskLine:
        trained = task.train_languages if task.trainable else ()
        return TaskLine(
            name=task.name,
            format=task.format.name,
            metric=task.metric,
            metrics=task.metrics,
            languages=scored_languages(task, self.recipe),
            train_language=trained[0] if len(trained) == 1 else "",
            note=task.note,
            file=task.format.file,
        )

    def to_json(self) -> dict[str, Any]:
        """The plan as `xstilts plan --json` prints it."""
        return {
            "recipe": self.recipe.name,
            "trainings": self.trainings,
            "trainings_before_folding": self.trainings_before_folding,
            "evaluations": self.evaluations,
            "steps": [step.row() for step in self.steps.values()],
        }


_BASELINE = "none"


@dataclass(frozen=True)
class _Lineage:
    """Where a branch has come to: its last step, what that step learned, and whether a study seed had a part in it."""

    step: Step | None = None
    learned: Mixture = ()
    seeded: bool = False


def plan(recipe: Recipe, tasks: Mapping[str, Task]) -> Plan:
    """Lay out a recipe.

    Raises:
        UserError: an evaluated task needs a head that no phase trains, or a task to train on has no training data.
    """
    made = Plan(recipe, tasks)
    root = _create(made, recipe.encoder) if isinstance(recipe.encoder, NewEncoder) else None
    options = [[(phase, mixture) for mixture in phase.choices or ()] for phase in recipe.phases if phase.each is None]
    last = next((phase for phase in recipe.phases if phase.each is not None), None)
    for chosen in product(*options):
        for seed in recipe.seeds:
            at = _Lineage(root)
            for phase, mixture in chosen:
                if mixture:
                    at = _train(made, at, phase, mixture, seed, role="intermediate")
            for name in expanded(recipe.evaluate):
                if not scored_languages(tasks[name], recipe):
                    continue
                step = _evaluate(made, at, name, seed, last)
                made.cells.append(Cell(branch=_branch(chosen), seed=seed, task=name, step=step.id))
    return made


def _branch(chosen: Sequence[tuple[Phase, Mixture]]) -> str:
    """Name a branch by its choices in the phases where there is a choice, and the phases where that is not enough."""
    open_phases = [(phase, mixture) for phase, mixture in chosen if len(phase.choices or ()) > 1]
    named = []
    for phase, mixture in open_phases:
        places = sum(mixture in (other.choices or ()) for other, _ in open_phases)
        if mixture:
            named.append(_mixture_name(mixture) + (f" in {phase.name}" if places > 1 else ""))
    return " > ".join(named) or (_BASELINE if open_phases else "all")


def _mixture_name(mixture: Mixture) -> str:
    return "+".join(_part_name(part) for part in mixture)


def _after(at: _Lineage) -> str:
    """What the step before has learned, in words."""
    return f" after {_mixture_name(at.learned)}" if at.learned else ""


def _part_name(part: Part) -> str:
    return part.task if part.weight == 1 else f"{part.weight:g}x{part.task}"


def _evaluate(made: Plan, at: _Lineage, name: str, seed: int, last: Phase | None) -> Step:
    """Plan the scoring of one task, training its head first where the recipe says so."""
    task, recipe = made.tasks[name], made.recipe
    if not task.scored:
        what = (
            "has neither dev nor test data" if not task.data.keys() & {"dev", "test"} else "is trained on its dev data"
        )
        raise UserError(f"the task '{name}' {what}", where=f"{recipe.name}: evaluate",
                        hint="give it `data` for one of these, or do not evaluate it")  # fmt: skip
    settings, after = last.settings.over(recipe.settings) if last else recipe.settings, _after(at)
    if last is not None and name in expanded(last.each or ()) and task.trainable:
        at = _train(made, at, last, (Part(task=name),), seed, role="target")
    head = None
    if task.format.head.trained:
        fitting = (i for i, part in enumerate(at.learned) if _same_labels(made.tasks[part.task], task))
        head = next(fitting, None)
        if head is None:
            raise UserError(
                f"nothing in the recipe trains a head for the task '{name}'",
                where=recipe.name,
                hint="name it in the last phase's `each`, or train on a task with the same labels",
            )
    scoring = Scoring(
        task=name,
        head=head,
        languages=scored_languages(task, recipe),
        max_length=settings.max_length or task.max_length,
        precision=settings.precision or "fp32",
        limit=settings.limit,
    )
    content = {**scoring.model_dump(mode="json"), "identity": _identity(task, ("dev", "test"), task.metrics)}
    title = f"score {name}{after}"
    return _add(made, "evaluate", at.step, seed if at.seeded else None, title, content, scoring=scoring)


def _same_labels(one: Task, other: Task) -> bool:
    """Whether a head of one task can be used for another; labels that are left open come from the training data."""
    return one.format == other.format and (not one.format.open or one.data.get("train") == other.data.get("train"))


def scored_languages(task: Task, recipe: Recipe) -> tuple[str, ...]:
    """The languages of a task that a recipe asks for; those of XTREME-R only by its group or by name."""
    if recipe.languages is not None:
        return tuple(code for code in task.all_languages if code in recipe.languages)
    wide = any(group in recipe.evaluate and task.name in GROUPS[group] for group in WIDE)
    return task.all_languages if wide else task.languages


def _train(made: Plan, at: _Lineage, phase: Phase, mixture: Mixture, seed: int, *, role: str) -> _Lineage:
    recipe, tasks = made.recipe, made.tasks
    for part in mixture:
        where = f"{recipe.name}: phase {phase.name}"
        if not tasks[part.task].trainable:
            raise UserError(f"the task '{part.task}' has no training data", where=where)
        if tasks[part.task].format.head.kind == "mean":
            raise UserError(f"nothing can be trained on the task '{part.task}'", where=where,
                            hint="its format finds translations; it is only scored")  # fmt: skip
    training = _decided(phase.settings.over(recipe.settings), mixture, tasks, role)
    content = training.model_dump(mode="json")
    for part, row in zip(mixture, content["parts"], strict=True):
        task = tasks[part.task]
        row["task"] = _identity(task, ("train", "stop", "dev"), (task.stop_metric,))
    made.trainings_before_folding += 1
    title = f"{phase.name}: {_mixture_name(mixture)}{_after(at)}"
    own_seed = seed if phase.seed is None else phase.seed
    step = _add(made, "train", at.step, own_seed, title, content, training=training)
    return _Lineage(step, mixture, at.seeded or phase.seed is None)


def _decided(settings: Settings, mixture: Mixture, tasks: Mapping[str, Task], role: str) -> Training:
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
    )


def _identity(task: Task, splits: Sequence[str], metrics: tuple[str, ...] = ()) -> dict[str, Any]:
    """What of a task decides an outcome: its shape and its data, never its name."""
    sources: dict[str, Source] = {split: task.data[split] for split in splits if split in task.data}
    if "stop" in sources:
        sources.pop("dev", None)
    return {
        "format": [task.format.name, task.format.version, task.format.model_dump(mode="json")],
        "data": {split: source.model_dump(mode="json") for split, source in sources.items()},
        "train_languages": task.train_languages if "train" in sources else (),
        "metrics": metrics,
    }


def _create(made: Plan, shape: NewEncoder) -> Step:
    """The step that makes a new encoder."""
    text = _identity(made.tasks[shape.text], ("train",)) if shape.text else {}
    content = {**shape.model_dump(mode="json"), "text": text}
    return _add(made, "create", None, None, "new encoder", content, new=shape)


def _add(
    made: Plan, kind: Kind, at: Step | None, seed: int | None, title: str, content: dict[str, Any], **rest: Any
) -> Step:
    encoder = _encoder_name(made.recipe.encoder)
    parent = at.id if at else None
    said = json.dumps([kind, parent or ("" if kind == "create" else encoder), seed, content], sort_keys=True)
    step = Step(
        hashlib.sha256(said.encode()).hexdigest()[:12],
        kind,
        parent,
        encoder,
        seed,
        title,
        **rest,
    )
    return made.steps.setdefault(step.id, step)


def _encoder_name(encoder: str | NewEncoder) -> str:
    return encoder if isinstance(encoder, str) else "new"
