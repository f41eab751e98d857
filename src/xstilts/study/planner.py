"""Plans the steps of a study with one encoder: branch by branch, phase by phase; equal steps become one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, Literal, TypeAlias

from xstilts.errors import UserError
from xstilts.model.shape import NewEncoder
from xstilts.study.checks import expand_groups
from xstilts.study.defaults import (
    PRECISION,
    choice_steps,
    each_language,
    evaluated_languages,
    resolve_training,
    scored_languages,
    target_settings,
)
from xstilts.study.ensembles import plan_ensembles
from xstilts.study.identity import step_id, task_identity
from xstilts.study.index import Cell
from xstilts.study.phase import Chain, Choice, Merge, Mixture, Part, Phase, Settings, choice_name, mixtures_of
from xstilts.study.recipe import Recipe
from xstilts.study.step import EvalSpec, Kind, MergeSpec, Step
from xstilts.tasks.task import Task

BASELINE, ALL = "none", "all"
"""Names of branches: the one without intermediate training, and the only one of a study without choices."""
_AVERAGES = {"checkpoints": "checkpoints", "runs": "runs", "both": "checkpoints and runs"}
"""The values of a phase's `average`, as branch names spell them."""
_Choices: TypeAlias = Sequence[tuple[Phase, Choice]]
"""A branch's choice in each phase with choices."""


@dataclass(frozen=True)
class _State:
    """The state of a branch with one seed after some of its phases."""

    step: Step | None = None
    """Its last step; None before the first, for a pretrained encoder."""
    mixture: Mixture = ()
    """The tasks that its last step was trained on, and for which it has heads."""
    encoder: str = ""
    """The encoder that it started from, if that is not the recipe's."""
    name: str = ""
    """The name of its last choice, for titles."""
    seeded: bool = False
    """Whether it depends on the seed."""
    on_target: bool = False
    """Whether its last training was on the evaluated task's own data."""

    @property
    def after(self) -> str:
        """The end of the next step's title."""
        return f" after {self.name}" if self.name else ""


@dataclass
class Planner:
    """Collects the steps of a study with one encoder, and the cells of its report."""

    recipe: Recipe
    tasks: Mapping[str, Task]
    steps: dict[str, Step] = field(default_factory=dict)
    cells: list[Cell] = field(default_factory=list)
    trainings: int = 0
    """Trainings before equal ones are folded."""

    def plan_branches(self) -> None:
        """Plan every branch.

        Raises:
            UserError: an evaluated task needs a head that no phase trains, or two branches have the same name.
        """
        encoder = self.recipe.encoder
        start = _State(self._create(encoder) if isinstance(encoder, NewEncoder) else None)
        phases = [phase for phase in self.recipe.phases if phase.each is None]
        last = next((phase for phase in self.recipe.phases if phase.each is not None), None)
        named = [name for task in expand_groups(self.recipe.evaluate) for name in self._in_each_language(task, last)]
        evaluated = [name for name in named if self._languages(name)]
        planned: dict[tuple[str, int, str, str], tuple[str, _Choices]] = {}
        for choices in product(*([(phase, choice) for choice in phase.choices or ()] for phase in phases)):
            first_cell = len(self.cells)
            self._branch(start, choices, last, evaluated)
            for cell in self.cells[first_cell:]:
                at = cell.branch, cell.seed, cell.task, cell.language
                step, other = planned.setdefault(at, (cell.step, choices))
                if step != cell.step:
                    raise UserError(
                        f"two branches would both be called '{cell.branch}': {_positions(other)}; "
                        f"{_positions(choices)}",
                        where=self.recipe.where("phases"),
                        hint="rename a task or a phase",
                    )
        for ensemble, cell in plan_ensembles(self.recipe, self.tasks, self.steps, self.cells):
            self.steps.setdefault(ensemble.id, ensemble)
            self.cells.append(cell)

    def _branch(self, start: _State, choices: _Choices, last: Phase | None, evaluated: Sequence[str]) -> None:
        """Plan a branch with all seeds, and its averages."""
        branch = _branch_name(choices)
        runs: dict[str, dict[int, _State]] = {name: {} for name in evaluated}
        state = start
        for seed in self.recipe.seeds:
            state = start
            for phase, choice in choices:
                state = self._plan_choice(state, phase, choice, seed)
                scored = [part.task for part in state.mixture if phase.scored and choice and part.task not in evaluated]
                for name in scored:
                    if self.tasks[name].scored and self._languages(name):
                        self._evaluate(state, name, seed, branch, f"score {name}{state.after}")
            for name in evaluated:
                runs[name][seed] = self._train_target(state, name, seed, last)
                self._evaluate(runs[name][seed], name, seed, branch, f"score {name}{state.after}")
        for name in evaluated:
            for suffix, by_seed in self._averages(runs[name], last) if last else ():
                for seed, averaged in by_seed.items():
                    self._evaluate(averaged, name, seed, branch + suffix, f"score {name}{state.after}{suffix}")

    def _in_each_language(self, name: str, last: Phase | None) -> list[str]:
        """The names of a task in each language that it is trained in by itself; else its own name."""
        task = self.tasks[name]
        if last is None or task.train_in != "each" or not trains_on_own_data(last, task):
            return [name]
        return [each_language(name, code) for code in task.train_languages]

    def _languages(self, name: str) -> tuple[str, ...]:
        return scored_languages(self.tasks[name], self.recipe)

    def _plan_choice(self, state: _State, phase: Phase, choice: Choice, seed: int) -> _State:
        """Plan a choice of a phase: nothing, one training, a chain of them, or several that are merged."""
        settings = phase.settings.over(self.recipe.settings)
        steps = choice_steps(settings, choice, self.tasks)
        trainings = [(mixture, settings, number) for mixture, number in zip(mixtures_of(choice), steps, strict=True)]
        if isinstance(choice, Merge):
            runs = [self._train(state, phase, seed, *training, role="intermediate") for training in trainings]
            merging = MergeSpec(how=choice.how, scale=choice.scale)
            step = self._merge(runs, merging, f"{phase.name}: {choice_name(choice)}{state.after}")
            return _State(step, (), state.encoder, choice_name(choice), runs[0].seeded)
        for training in trainings:
            state = self._train(state, phase, seed, *training, role="intermediate")
        return state

    def _train_target(self, state: _State, name: str, seed: int, last: Phase | None) -> _State:
        """Plan the training on an evaluated task's own data, if the last phase asks for it."""
        settings = target_settings(self.recipe, self.recipe.settings)
        if (encoder := settings.of(self.tasks[name].name).encoder) is not None:
            state = _State(encoder=encoder)
        if last is None or not trains_on_own_data(last, self.tasks[name]):
            return state
        return replace(self._train(state, last, seed, (Part(task=name),), settings, role="target"), on_target=True)

    def _train(
        self, state: _State, phase: Phase, seed: int, mixture: Mixture, settings: Settings, steps: int | None = None, *,
        role: Literal["intermediate", "target"],
    ) -> _State:  # fmt: skip
        self.trainings += 1
        resolved = resolve_training(settings, mixture, self.tasks, role, steps)
        training = resolved.spec
        snapshots = phase.snapshots if phase.average_checkpoints else None
        classifies = any(self.tasks[part.task].format.head.kind == "sequence" for part in mixture)
        head = self.recipe.head if classifies else None
        training = training.model_copy(update={"snapshots": snapshots, "head_seed": phase.new_head_seed, "head": head})
        content = training.identity()
        for part, row in zip(mixture, content["parts"], strict=True):
            task = self.tasks[part.task]
            stops = training.weights == "best"
            row["task"] = task_identity(
                task, ("train", "stop", "dev") if stops else ("train",), (task.stop_metric,) if stops else ()
            )
        own_seed = seed if phase.seed is None else phase.seed
        title = f"{phase.name}: {choice_name(mixture)}{state.after}"
        step = self._add(
            "train", [state], own_seed, title, content, training=training, origins=resolved.origins,
            heading=f"{phase.name}: {choice_name(mixture)}",
        )  # fmt: skip
        return _State(step, mixture, state.encoder, choice_name(mixture), state.seeded or phase.seed is None)

    def _averages(self, runs: Mapping[int, _State], last: Phase) -> Iterator[tuple[str, Mapping[int, _State]]]:
        """The averages that the last phase asks for: a suffix of the branch name, and a state for each seed.

        A task that the last phase has not trained is scored without averaging.
        """
        trained = all(state.on_target for state in runs.values())
        means = runs
        if trained and last.average_checkpoints:
            means = {seed: self._average([run], "checkpoints", "checkpoints") for seed, run in runs.items()}
        for kind, spelled in _AVERAGES.items():
            if kind in last.average:
                averaged = runs if kind == "runs" else means
                if trained and kind != "checkpoints":
                    seeds = f"seeds {', '.join(map(str, runs))}"
                    averaged = dict.fromkeys(runs, self._average([*averaged.values()], "mean", seeds))
                yield f", {spelled} averaged", averaged

    def _average(self, runs: Sequence[_State], how: Literal["checkpoints", "mean"], what: str) -> _State:
        first = runs[0]
        assert first.step is not None, "only trainings are averaged"
        merging = MergeSpec(how=how, heads=tuple(part.task for part in first.mixture))
        step = self._merge(runs, merging, f"average of {what} of {first.step.title}")
        return replace(first, step=step, seeded=first.seeded and step.seed is not None)

    def _merge(self, runs: Sequence[_State], merging: MergeSpec, title: str) -> Step:
        seeds = {run.step.seed for run in runs if run.step}
        seed = seeds.pop() if len(seeds) == 1 else None
        content = merging.model_copy(update={"heads": ()}).identity()
        return self._add("merge", runs, seed, title, content, merging=merging)

    def _evaluate(self, state: _State, name: str, seed: int, branch: str, title: str) -> None:
        """Plan the scoring of a task, for one cell of the report."""
        task, recipe = self.tasks[name], self.recipe
        settings, retrieves = target_settings(recipe, recipe.settings).of(task.name), task.format.head.kind == "mean"
        poolings = settings.poolings or ("mean",) * (settings.score_layers is not None) if retrieves else ()
        scoring = EvalSpec(
            task=name,
            head=self._head(state, task),
            languages=evaluated_languages(task, recipe),
            max_length=settings.max_length or task.max_length,
            precision=settings.precision or PRECISION,
            limit=settings.limit,
            layer=settings.layer if retrieves else None,
            poolings=poolings,
            score_layers=(settings.score_layers or "all") if poolings else "all",
        )
        content = scoring.identity() | {"identity": task_identity(task, ("dev", "test"), task.metrics)}
        content |= {"translate_back": task.translate_back.identity()} if task.translate_back else {}
        own_seed = seed if state.seeded else None
        step = self._add("evaluate", [state], own_seed, title, content, scoring=scoring)
        language = "" if name == task.name else task.train_languages[0]
        self.cells.append(Cell(branch=branch, seed=seed, task=task.name, step=step.id, language=language))

    def _head(self, state: _State, task: Task) -> int | None:
        """The index of the trained head that scores a task; None for a task without a trained head."""
        if not task.format.head.trained:
            return None
        for i, part in enumerate(state.mixture):
            if _same_labels(self.tasks[part.task], task):
                return i
        raise UserError(
            f"nothing in the recipe trains a head for the task '{task.name}'",
            where=self.recipe.where("evaluate"),
            hint="name it in the last phase's `each`, or train on a task with the same labels",
        )

    def _create(self, shape: NewEncoder) -> Step:
        """Plan a new encoder."""
        text = task_identity(self.tasks[shape.text], ("train",)) if shape.text else {}
        return self._add("create", [], None, "new encoder", shape.identity() | {"text": text}, new=shape)

    def _add(
        self, kind: Kind, parents: Sequence[_State], seed: int | None, title: str, content: dict[str, Any],
        **spec: Any,
    ) -> Step:  # fmt: skip
        """Add a step unless an equal one is planned already; returns the planned step."""
        encoder = next((state.encoder for state in parents if state.encoder), encoder_name(self.recipe.encoder))
        ids = tuple(state.step.id for state in parents if state.step is not None)
        id = step_id(kind, "" if kind == "create" else encoder, ids, seed, content)
        return self.steps.setdefault(id, Step(id, kind, ids, encoder, seed, title, **spec))


def trains_on_own_data(phase: Phase, task: Task) -> bool:
    """Whether a phase trains a task on its own data, because its `each` names it."""
    return task.name in expand_groups(phase.each or ()) and task.trainable


def encoder_name(encoder: str | NewEncoder | None) -> str:
    """The name of an encoder in steps and reports."""
    return encoder if isinstance(encoder, str) else "new"


def _same_labels(one: Task, other: Task) -> bool:
    """Whether a head of one task fits another; some formats take their labels from the training data."""
    same_source = one.data.get("train") == other.data.get("train")
    return one.format == other.format and (same_source or not one.format.needs_labels)


def _branch_name(choices: _Choices) -> str:
    """The name of a branch: its choices in phases with several, with the phase's name if that is ambiguous."""
    several = [(phase, choice) for phase, choice in choices if len(phase.choices or ()) > 1]
    names = []
    for phase, choice in several:
        if choice:
            name = choice_name(choice)
            if isinstance(choice, Chain) and len(several) > 1:
                name = f"({name})"
            elsewhere = sum(choice in (other.choices or ()) for other, _ in several) > 1
            names.append(f"{name} in {phase.name}" if elsewhere else name)
    return " > ".join(names) or (BASELINE if several else ALL)


def _positions(choices: _Choices) -> str:
    """The positions of a branch's choices, which distinguish branches of the same name."""
    return ", ".join(
        f"choice {phase.choices.index(choice) + 1} of {phase.name}"
        for phase, choice in choices
        if phase.choices and len(phase.choices) > 1
    )
