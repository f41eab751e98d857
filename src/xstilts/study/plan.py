"""Plans: a recipe as a list of steps with identities, equal work folded; neither data nor weights are looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, Literal, TypeAlias

from xstilts.data.availability import absent
from xstilts.errors import Collector, UserError
from xstilts.model.shape import NewEncoder
from xstilts.study.checks import expand_groups, unusable_tasks
from xstilts.study.defaults import check_size, resolve_training, scored_languages
from xstilts.study.identity import step_id, task_identity
from xstilts.study.index import Cell, Study, StudyTask
from xstilts.study.phase import Chain, Choice, Merge, Mixture, Part, Phase, choice_name, mixtures_of
from xstilts.study.recipe import Recipe
from xstilts.study.step import Kind, Merging, Scoring, Step
from xstilts.tasks.task import Task


@dataclass
class Plan:
    """The steps of a study in an order in which they can be done, and what they are for."""

    recipe: Recipe
    tasks: Mapping[str, Task]
    steps: dict[str, Step] = field(default_factory=dict)
    cells: list[Cell] = field(default_factory=list)
    trainings_before_folding: int = 0
    parts: dict[str, Plan] = field(default_factory=dict)
    """The plan of each encoder by itself, where there are several, by its name."""

    @property
    def trainings(self) -> int:
        """Trainings after folding."""
        return sum(step.kind == "train" for step in self.steps.values())

    @property
    def evaluations(self) -> int:
        """Pairs of a task and a language that are scored, after folding."""
        return sum(len(step.scoring.languages) for step in self.steps.values() if step.scoring)

    def starts_from_pretrained(self, step: Step) -> bool:
        """Whether a step reads the recipe's own encoder; vectors start where their parents did."""
        if step.merging is not None and step.merging.how == "vectors":
            return self.starts_from_pretrained(self.steps[step.parents[0]])
        return not step.parents and step.kind != "create"

    def keeps_encoder(self, step: Step) -> bool:
        """Whether the encoder of a step stays on the disk once all that starts from it is done."""
        if self.recipe.keep == "intermediate":
            return step.id in self._trained_from
        return self.recipe.keep == "all" and step.kind != "evaluate"

    def encoder_inputs(self, step: Step) -> tuple[str, ...]:
        """The steps whose encoders a step reads: what it starts from, and what its vectors are counted from."""
        base = self.steps[step.parents[0]].parent if step.merging and step.merging.how == "vectors" else None
        return (*step.parents, base) if base else step.parents

    @cached_property
    def _trained_from(self) -> set[str]:
        return {id for step in self.steps.values() if step.kind == "train" for id in step.parents}

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

    def absent(self, data: Path | None) -> list[str]:
        """Data that the plan reads and that are not there, in words."""
        trained = {part.task for step in self.steps.values() for part in step.parts}
        trained |= {step.new.text for step in self.steps.values() if step.new is not None and step.new.text}
        scored = {step.scoring.task: step.scoring.languages for step in self.steps.values() if step.scoring}
        return [
            line
            for name in sorted(trained | scored.keys(), key=list(self.tasks).index)
            for line in absent(self.tasks[name], scored.get(name, ()), data, trained=name in trained)
        ]

    def study(self) -> Study:
        """What a report needs to know of the plan."""
        branches = list(dict.fromkeys(cell.branch for cell in self.cells))
        names = list(dict.fromkeys(cell.task for cell in self.cells))
        parts = self.parts or {"": self}
        return Study(
            name=self.recipe.name,
            encoder=", ".join(self.parts) or _encoder_name(self.recipe.encoder),
            seeds=self.recipe.seeds,
            branches=tuple(branches),
            baseline=None if self.parts else self._baseline(),
            tasks=tuple(self._line(self.tasks[name]) for name in names),
            cells=tuple(self.cells),
            baselines={branch: other for name, part in parts.items() for branch, other in part._against(name)},
            catalogue_names={
                name: task.catalogue_name for name, task in self.tasks.items() if task.catalogue_name != name
            },
            steps={id: self.encoder_inputs(step) for id, step in self.steps.items()},
            kept=tuple(id for id, step in self.steps.items() if self.keeps_encoder(step)),
        )

    def _against(self, encoder: str) -> Iterator[tuple[str, str]]:
        """Each branch of this encoder, and the one that its gains are measured against."""
        baseline = self._baseline()
        for branch in dict.fromkeys(cell.branch for cell in self.cells if baseline):
            yield _of(encoder, branch), _of(encoder, baseline or "")

    def _baseline(self) -> str | None:
        """The branch that gains are measured against, if there are others."""
        branches = {cell.branch for cell in self.cells}
        return next((name for name in (_BASELINE, _ALL) if name in branches and len(branches) > 1), None)

    def _line(self, task: Task) -> StudyTask:
        trained = task.train_languages if task.trainable else ()
        return StudyTask(
            name=task.name,
            format=task.format.name,
            metric=task.metric,
            metrics=task.metrics,
            languages=scored_languages(task, self.recipe),
            train_language=trained[0] if len(trained) == 1 else "",
            note=task.note,
            file=task.format.file,
            trained_on_own_data=_trains(self, self.recipe.phases[-1], task.name),
            is_intermediate=task.name not in expand_groups(self.recipe.evaluate),
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


_Chosen: TypeAlias = Sequence[tuple[Phase, Choice]]
"""What a branch does in each phase with choices."""
_Known: TypeAlias = dict[tuple[str, int, str], tuple[str, _Chosen]]
"""The step, and the branch that it was planned for, by branch's name, seed, task."""
_BASELINE, _ALL = "none", "all"
_AVERAGES = {"checkpoints": "checkpoints", "runs": "runs", "both": "checkpoints and runs"}


@dataclass(frozen=True)
class _Lineage:
    """Where a branch has come to: its last step, what the heads of that step have learned, what to call it.

    `seeded` tells whether one seed of the study had a part in it, `target` whether its task's own training did.
    """

    step: Step | None = None
    learned: Mixture = ()
    name: str = ""
    seeded: bool = False
    target: bool = False

    @property
    def after(self) -> str:
        """The step before, as a title ends."""
        return f" after {self.name}" if self.name else ""


def plan(recipe: Recipe, tasks: Mapping[str, Task]) -> Plan:
    """Lay out a recipe.

    Raises:
        UserError: a task cannot be trained or scored as the recipe says, an evaluated task needs a head that no phase
            trains, two branches have one name, or there is more to do than a study can be meant to.
    """
    made = Plan(recipe, tasks)
    found = Collector()
    for place, what, hint in unusable_tasks(recipe, tasks):
        found.add(what, where=recipe.where(*place), hint=hint)
    found.raise_any()
    check_size(recipe)
    for name, start in recipe.starts.items():
        settings = start.settings.over(recipe.settings)
        own = recipe.model_copy(update={"encoder": start.encoder, "encoders": None, "settings": settings})
        part = Plan(own, tasks)
        _lay_out(part)
        if recipe.encoders is None:
            return part
        made.parts[name] = part
        for id, step in part.steps.items():
            made.steps.setdefault(id, replace(step, title=_of(name, step.title)))
        made.cells += [replace(cell, branch=_of(name, cell.branch)) for cell in part.cells]
        made.trainings_before_folding += part.trainings_before_folding
    return made


def _of(encoder: str, name: str) -> str:
    """A branch or title of one encoder of several."""
    return f"{encoder}: {name}" if encoder and name != _ALL else encoder or name


def _lay_out(made: Plan) -> None:
    """Plan what is done with one encoder."""
    recipe, tasks = made.recipe, made.tasks
    root = _create(made, recipe.encoder) if isinstance(recipe.encoder, NewEncoder) else None
    options = [[(phase, choice) for choice in phase.choices or ()] for phase in recipe.phases if phase.each is None]
    last = next((phase for phase in recipe.phases if phase.each is not None), None)
    names = [name for name in expand_groups(recipe.evaluate) if scored_languages(tasks[name], recipe)]
    known: _Known = {}
    for chosen in product(*options):
        branch, told = _branch(chosen), len(made.cells)
        ends: dict[str, dict[int, _Lineage]] = {name: {} for name in names}
        for seed in recipe.seeds:
            at = _Lineage(root)
            for phase, choice in chosen:
                at = _choose(made, at, phase, choice, seed)
                intermediate = [part.task for part in at.learned if phase.scored and choice and part.task not in names]
                for name in intermediate:
                    if made.tasks[name].scored and scored_languages(tasks[name], recipe):
                        _evaluate(made, at, name, seed, branch, f"score {name}{at.after}")
            for name in names:
                ends[name][seed] = end = _target(made, at, name, seed, last)
                _evaluate(made, end, name, seed, branch, f"score {name}{at.after}")
        for name in names:
            for averaged, by_seed in _averages(made, ends[name], last) if last else ():
                for seed, end in by_seed.items():
                    _evaluate(made, end, name, seed, branch + averaged, f"score {name}{at.after}{averaged}")
        _tell_apart(recipe, made.cells[told:], chosen, known)


def _tell_apart(recipe: Recipe, cells: Sequence[Cell], chosen: _Chosen, known: _Known) -> None:
    """Note the cells of a branch, and refuse one that another branch has by the same name but from another step."""
    for cell in cells:
        step, other = known.setdefault((cell.branch, cell.seed, cell.task), (cell.step, chosen))
        if step != cell.step:
            raise UserError(
                f"two branches would both be called '{cell.branch}': {_numbers(other)}; {_numbers(chosen)}",
                where=recipe.where("phases"),
                hint="rename a task or a phase",
            )


def _numbers(chosen: _Chosen) -> str:
    """A branch by the numbers of its choices, for where names do not tell."""
    return ", ".join(
        f"choice {phase.choices.index(choice) + 1} of {phase.name}"
        for phase, choice in chosen
        if phase.choices and len(phase.choices) > 1
    )


def _branch(chosen: _Chosen) -> str:
    """Name a branch by its choices in the phases where there is a choice, and the phases where that is not enough."""
    open_phases = [(phase, choice) for phase, choice in chosen if len(phase.choices or ()) > 1]
    named = []
    for phase, choice in open_phases:
        places = sum(choice in (other.choices or ()) for other, _ in open_phases)
        if choice:
            name = (
                f"({choice_name(choice)})"
                if isinstance(choice, Chain) and len(open_phases) > 1
                else choice_name(choice)
            )
            named.append(name + (f" in {phase.name}" if places > 1 else ""))
    return " > ".join(named) or (_BASELINE if open_phases else _ALL)


def _choose(made: Plan, at: _Lineage, phase: Phase, choice: Choice, seed: int) -> _Lineage:
    """Plan what a branch does in a phase: nothing, a training or a chain of them, or several that are merged."""
    if isinstance(choice, Merge):
        ends = [_train(made, at, phase, mixture, seed, role="intermediate") for mixture in choice.merge]
        merging = Merging(how=choice.how, scale=choice.scale)
        step = _merge(made, ends, merging, f"{phase.name}: {choice_name(choice)}{at.after}")
        return _Lineage(step, (), choice_name(choice), ends[0].seeded)
    for mixture in mixtures_of(choice):
        at = _train(made, at, phase, mixture, seed, role="intermediate")
    return at


def _merge(made: Plan, ends: Sequence[_Lineage], merging: Merging, title: str) -> Step:
    seeds = {end.step.seed for end in ends if end.step}
    seed = seeds.pop() if len(seeds) == 1 else None
    content = merging.model_copy(update={"heads": ()}).identity()
    return _add(made, "merge", [end.step for end in ends if end.step], seed, title, content, merging=merging)


def _averages(made: Plan, runs: Mapping[int, _Lineage], last: Phase) -> Iterator[tuple[str, Mapping[int, _Lineage]]]:
    """The averages that the last phase asks for, of a task's runs by seed; what it did not train stays as it is."""
    means, seeds = runs, f"seeds {', '.join(map(str, runs))}"
    trained = all(end.target for end in runs.values())
    if trained and last.average_checkpoints:
        means = {seed: _average(made, [end], "checkpoints", "checkpoints") for seed, end in runs.items()}
    for kind, words in _AVERAGES.items():
        if kind in last.average:
            of = runs if kind == "runs" else means
            if trained and kind != "checkpoints":
                of = dict.fromkeys(runs, _average(made, [*of.values()], "mean", seeds))
            yield f", {words} averaged", of


def _average(made: Plan, ends: Sequence[_Lineage], how: Literal["checkpoints", "mean"], of: str) -> _Lineage:
    first = ends[0]
    assert first.step is not None, "these are trainings"
    merging = Merging(how=how, heads=tuple(part.task for part in first.learned))
    step = _merge(made, ends, merging, f"average of {of} of {first.step.title}")
    return replace(first, step=step, seeded=first.seeded and step.seed is not None)


def _target(made: Plan, at: _Lineage, name: str, seed: int, last: Phase | None) -> _Lineage:
    """Plan the training of one task's own where the last phase says so."""
    if last is None or not _trains(made, last, name):
        return at
    return replace(_train(made, at, last, (Part(task=name),), seed, role="target"), target=True)


def _trains(made: Plan, last: Phase, name: str) -> bool:
    """Whether the last phase trains a task on its own data."""
    return name in expand_groups(last.each or ()) and made.tasks[name].trainable


def _evaluate(made: Plan, at: _Lineage, name: str, seed: int, branch: str, title: str) -> None:
    """Plan the scoring of one task, for one cell of the report."""
    task, recipe = made.tasks[name], made.recipe
    last = recipe.phases[-1]
    settings = last.settings.over(recipe.settings) if last.each is not None else recipe.settings
    head = None
    if task.format.head.trained:
        fitting = (i for i, part in enumerate(at.learned) if _same_labels(made.tasks[part.task], task))
        head = next(fitting, None)
        if head is None:
            raise UserError(
                f"nothing in the recipe trains a head for the task '{name}'",
                where=recipe.where("evaluate"),
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
    content = scoring.identity() | {"identity": task_identity(task, ("dev", "test"), task.metrics)}
    own_seed = seed if at.seeded else None
    step = _add(made, "evaluate", at.step, own_seed, title, content, scoring=scoring)
    made.cells.append(Cell(branch=branch, seed=seed, task=name, step=step.id))


def _same_labels(one: Task, other: Task) -> bool:
    """Whether a head of one task can be used for another; labels that are left open come from the training data."""
    return one.format == other.format and (not one.format.open or one.data.get("train") == other.data.get("train"))


def _train(made: Plan, at: _Lineage, phase: Phase, mixture: Mixture, seed: int, *, role: str) -> _Lineage:
    recipe, tasks = made.recipe, made.tasks
    training = resolve_training(phase.settings.over(recipe.settings), mixture, tasks, role)
    snapshots = phase.snapshots if phase.average_checkpoints else None
    training = training.model_copy(update={"snapshots": snapshots, "head_seed": phase.heads_from})
    content = training.identity()
    for part, row in zip(mixture, content["parts"], strict=True):
        task = tasks[part.task]
        row["task"] = task_identity(task, ("train", "stop", "dev"), (task.stop_metric,))
    made.trainings_before_folding += 1
    title = f"{phase.name}: {choice_name(mixture)}{at.after}"
    own_seed = seed if phase.seed is None else phase.seed
    step = _add(made, "train", at.step, own_seed, title, content, training=training)
    return _Lineage(step, mixture, choice_name(mixture), at.seeded or phase.seed is None)


def _create(made: Plan, shape: NewEncoder) -> Step:
    """The step that makes a new encoder."""
    text = task_identity(made.tasks[shape.text], ("train",)) if shape.text else {}
    content = shape.identity() | {"text": text}
    return _add(made, "create", None, None, "new encoder", content, new=shape)


def _add(
    made: Plan, kind: Kind, at: Step | Sequence[Step] | None, seed: int | None, title: str, content: dict[str, Any],
    **rest: Any,
) -> Step:  # fmt: skip
    encoder = _encoder_name(made.recipe.encoder)
    parents = tuple(step.id for step in ([at] if isinstance(at, Step) else at or ()))
    id = step_id(kind, "" if kind == "create" else encoder, parents, seed, content)
    return made.steps.setdefault(id, Step(id, kind, parents, encoder, seed, title, **rest))


def _encoder_name(encoder: str | NewEncoder | None) -> str:
    return encoder if isinstance(encoder, str) else "new"
