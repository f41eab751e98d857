"""Plans: a recipe as a list of steps, each once; reads neither data nor weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from xstilts import languages
from xstilts.data.availability import (
    first_mistakes,
    languages_found,
    missing_data,
    train_line,
    unlabelled_data,
    without_training_data,
)
from xstilts.errors import Collector, UserError
from xstilts.formats import Tag
from xstilts.study.checks import check_size, expand_groups, small_budgets, unusable_tasks
from xstilts.study.defaults import (
    BUDGET,
    each_language,
    scored_languages,
    unused_settings,
    with_each_language,
    with_first_piece,
)
from xstilts.study.ensembles import plan_ensembles, with_ensembles
from xstilts.study.index import Cell, Study, StudyTask
from xstilts.study.phase import Settings
from xstilts.study.planner import ALL, BASELINE, Planner, encoder_name, trains_on_own_data
from xstilts.study.recipe import Recipe, Start
from xstilts.study.step import Step
from xstilts.tasks.references import data_of
from xstilts.tasks.task import Task


@dataclass
class Plan:
    """The steps of a study, each after those it starts from, and the cells of its report."""

    recipe: Recipe
    tasks: Mapping[str, Task]
    steps: dict[str, Step] = field(default_factory=dict)
    cells: list[Cell] = field(default_factory=list)
    trainings_before_folding: int = 0
    parts: dict[str, Plan] = field(default_factory=dict)
    """The plan of each encoder, by its name, if there are several."""

    @property
    def trainings(self) -> int:
        """Trainings after folding."""
        return sum(step.kind == "train" for step in self.steps.values())

    @property
    def evaluations(self) -> int:
        """Pairs of a task and a language that are scored, after folding."""
        return sum(len(step.scoring.languages) for step in self.steps.values() if step.scoring)

    @property
    def by_encoder(self) -> dict[str, Plan]:
        """Each encoder's plan, by its name in `encoders` ("" for a single one); by the encoder for a target's own."""
        plans = dict[str, Plan]()
        for name, part in (self.parts or {"": self}).items():
            mine = encoder_name(part.recipe.encoder)
            own = {id: step for id, step in part.steps.items() if step.kind != "ensemble"}
            for encoder in dict.fromkeys([mine, *(step.encoder for step in own.values())]):
                steps = {id: step for id, step in own.items() if step.encoder == encoder}
                cells = [cell for cell in part.cells if cell.step in steps]
                recipe = part.recipe if encoder == mine else part.recipe.model_copy(update={"encoder": encoder})
                label = name if encoder == mine else encoder
                plans.setdefault(label, replace(part, recipe=recipe, steps=steps, cells=cells))
        return {name: one for name, one in plans.items() if one.steps}

    def starts_from_pretrained(self, step: Step) -> bool:
        """Whether a step reads the recipe's pretrained encoder; task vectors need the encoder before their parents."""
        if step.merging is not None and step.merging.how == "vectors":
            return self.starts_from_pretrained(self.steps[step.parents[0]])
        return not step.parents and step.kind != "create"

    def keeps_encoder(self, step: Step) -> bool:
        """Whether the encoder of a step stays on the disk, whatever its scores, when no pending step reads it."""
        if self.recipe.keep == "intermediate":
            return step.id in self._trained_from
        return self.recipe.keep == "all" and step.has_encoder

    def encoder_inputs(self, step: Step) -> tuple[str, ...]:
        """The steps whose encoders a step reads: its parents, and for task vectors also the step before them."""
        base = self.steps[step.parents[0]].parent if step.merging and step.merging.how == "vectors" else None
        return (*step.parents, base) if base else step.parents

    @cached_property
    def _trained_from(self) -> set[str]:
        return {id for step in self.steps.values() if step.kind == "train" for id in step.parents}

    @property
    def notes(self) -> list[str]:
        """Notes for the user before a run: the recipe's own, unused settings, the dev and test data not scored."""
        notes = [*([self.recipe.note] if self.recipe.note else []), *unused_settings(self.recipe)]
        for name in dict.fromkeys(cell.task for cell in self.cells):
            task = self.tasks[name]
            notes += [
                f"{name}: its {split} data are not scored, because the task trains on some of them"
                for split in ("dev", "test")
                if split in task.data and split not in task.scored
            ]
        return notes

    @property
    def dev_notes(self) -> list[str]:
        """A note on each scored task with a single dev set."""
        notes = []
        for task in (self.tasks[name] for name in dict.fromkeys(cell.task for cell in self.cells)):
            if task.shares_dev and "dev" in task.scored:
                code = task.train_languages[0]
                name = language.name if (language := languages.find(code)) else code
                notes.append(f"{task.name}: its dev set is {name} alone: for early stopping and the choice of runs")
        return notes

    @property
    def budgets(self) -> dict[str, int]:
        """The labelled updates that each choice of a phase with `budget: updates` trains, by the phase's name."""
        budgets = {}
        for name, part in (self.parts or {"": self}).items():
            for phase in part.recipe.phases:
                settings = phase.settings.over(part.recipe.settings)
                if phase.choices is not None and settings.budget == "updates":
                    budgets[_with_encoder(name, phase.name)] = settings.steps or BUDGET
        return budgets

    def absent(self, data: Path | None) -> list[str]:
        """The data that the plan needs but cannot find, one line each."""
        lines = [
            line
            for task, languages, trained in self._reads()
            for line in missing_data(task, languages, data, trained=trained)
        ]
        return [*lines, *self.unaveraged(data)]

    def unaveraged(self, data: Path | None) -> list[str]:
        """One line for each ensemble whose members have files in no common language."""
        lines, scored = [], self._scored()
        for name, members in self.recipe.ensembles.items():
            tasks = [self.tasks[member] for member in members]
            if data is None and not all(task.own for task in tasks):
                continue
            found = [{*languages_found(task, scored.get(task.name, ()), data)} for task in tasks]
            if not set.intersection(*found):
                lines.append(f"{name}: any language in which all of {', '.join(members)} have files")
        return lines

    def first_mistakes(self, data: Path | None) -> list[UserError]:
        """The mistakes in the first rows of the files that it reads."""
        return [
            error
            for task, languages, trained in self._reads()
            for error in first_mistakes(task, languages, data, trained=trained)
        ]

    def _reads(self) -> Iterator[tuple[Task, tuple[str, ...], bool]]:
        """Each task whose data the steps read, the languages that they score, and whether they train on it."""
        trained = {self.tasks[part.task].name for step in self.steps.values() for part in step.parts}
        trained |= {step.new.text for step in self.steps.values() if step.new is not None and step.new.text}
        scored = self._scored()
        for name in sorted(trained | scored.keys(), key=list(self.tasks).index):
            yield self.tasks[name], scored.get(name, ()), name in trained

    def _scored(self) -> dict[str, tuple[str, ...]]:
        """The languages that the steps score, by task."""
        scored: dict[str, dict[str, None]] = {}
        for scoring in (step.scoring for step in self.steps.values() if step.scoring):
            scored.setdefault(self.tasks[scoring.task].name, {}).update(dict.fromkeys(scoring.languages))
        return {name: tuple(codes) for name, codes in scored.items()}

    def with_training_data(self, data: Path | None) -> tuple[Plan, list[str]]:
        """The plan without what `missing: skip` leaves out of its trainings, and a line on each task with such data.

        Of a task with `train_languages` `all` or `each`, languages without training data are left out; `each` loses
        their steps. A task without training data in all its languages stays, so that its run names the files.
        """
        found = {} if self.recipe.missing == "error" else self._without_training_data(data)
        if not found:
            return self, []
        tasks, gone = dict(self.tasks), set[str]()
        for name, codes in found.items():
            kept = tuple(code for code in tasks[name].train_languages if code not in codes)
            tasks[name] = tasks[name].model_copy(update={"train_languages": kept})
            gone |= {each_language(name, code) for code in codes if tasks[name].train_in == "each"}
        return self._without(tasks, gone), [train_line(tasks[name], codes, data) for name, codes in found.items()]

    def _without_training_data(self, data: Path | None) -> dict[str, tuple[str, ...]]:
        """The languages of each task with `train_languages` `all` or `each` that have no training data; not all."""
        found = {task.name: without_training_data(task, data) for task, _, trained in self._reads()
                 if trained and task.train_in != "listed"}  # fmt: skip
        return {name: codes for name, codes in found.items() if 0 < len(codes) < len(self.tasks[name].train_languages)}

    def _without(self, tasks: Mapping[str, Task], gone: Set[str]) -> Plan:
        """The same plan of changed tasks, without the steps of some and those that depend on these."""
        steps: dict[str, Step] = {}
        for id, step in self.steps.items():
            read = {*(part.task for part in step.parts), *([step.scoring.task] if step.scoring else [])}
            if gone.isdisjoint(read) and steps.keys() >= {*step.parents} and step.kind != "ensemble":
                steps[id] = step
        cells = [cell for cell in self.cells if cell.step in steps]
        for ensemble, cell in [*plan_ensembles(self.recipe, tasks, steps, cells)]:  # of the members that stay
            steps.setdefault(ensemble.id, ensemble)
            cells.append(cell)
        parts = {name: part._without(tasks, gone) for name, part in self.parts.items()}
        return replace(self, tasks=tasks, steps=steps, cells=cells, parts=parts)

    def unlabelled(self, data: Path | None) -> list[str]:
        """The data that are predicted and not scored, because they have no labels; one line for each split."""
        scored = self._scored().items()
        return [line for name, codes in scored for line in unlabelled_data(self.tasks[name], codes, data)]

    def study(self) -> Study:
        """The index of the study, for its reports."""
        branches = list(dict.fromkeys(cell.branch for cell in self.cells))
        names = list(dict.fromkeys(cell.task for cell in self.cells))
        parts = self.parts or {"": self}
        trained = [part.task for step in self.steps.values() for part in step.parts]
        return Study(
            name=self.recipe.name,
            encoder=", ".join(self.parts) or encoder_name(self.recipe.encoder),
            seeds=self.recipe.seeds,
            branches=tuple(branches),
            baseline=None if self.parts else self._baseline(),
            tasks=tuple(self._study_task(self.tasks[name]) for name in names),
            cells=tuple(self.cells),
            baselines={branch: other for name, part in parts.items() for branch, other in part._baselines(name)},
            catalogue_names={
                name: task.catalogue_name for name, task in self.tasks.items() if task.catalogue_name != name
            },
            steps={id: self.encoder_inputs(step) for id, step in self.steps.items()},
            kept=tuple(id for id, step in self.steps.items() if self.keeps_encoder(step)),
            keep_best=self.recipe.keep == "best",
            data={name: data_of(self.tasks[name]) for name in dict.fromkeys((*trained, *names))},
            recipe_text=self.recipe.text,
            recipe_command=self.recipe.command,
        )

    def _baselines(self, encoder: str) -> Iterator[tuple[str, str]]:
        """Each branch of this encoder, with the branch that its gains are measured against."""
        baseline = self._baseline()
        for branch in dict.fromkeys(cell.branch for cell in self.cells if baseline):
            yield _with_encoder(encoder, branch), _with_encoder(encoder, baseline or "")

    def _baseline(self) -> str | None:
        """The branch that gains are measured against; None if it is the only one."""
        branches = {cell.branch for cell in self.cells}
        return next((name for name in (BASELINE, ALL) if name in branches and len(branches) > 1), None)

    def _study_task(self, task: Task) -> StudyTask:
        trained = task.train_languages if task.trainable else ()
        return StudyTask(
            name=task.name,
            format=task.format.name,
            metric=task.metric,
            metrics=task.metrics,
            languages=scored_languages(task, self.recipe),
            train_language=trained[0] if trained else "",
            note=task.note,
            file=task.format.file,
            first_piece=task.format.first_piece if isinstance(task.format, Tag) else "",
            trained_on_own_data=trains_on_own_data(self.recipe.phases[-1], task),
            is_intermediate=task.name not in (*expand_groups(self.recipe.evaluate), *self.recipe.ensembles),
            more_train_languages=trained[1:],
            train=task.data["train"] if trained and isinstance(task.format, Tag) else None,
            trained_in_each=any(cell.task == task.name and cell.language for cell in self.cells),
            draws_shots=bool(task.shots or any(one.shots for one in self._settings(task))),
            pseudo_test={code: {name: value for name, value in x.items()} for code, x in task.pseudo_test.items()},
            layer=getattr(task.format, "layer", None),
        )

    def _settings(self, task: Task) -> Iterator[Settings]:
        """The last phase's settings of a task, with each encoder."""
        for recipe in (part.recipe for part in (self.parts or {"": self}).values()):
            yield recipe.phases[-1].settings.over(recipe.settings).of(task.name)

    def to_json(self) -> dict[str, Any]:
        """The plan as `xstilts plan --json` prints it."""
        return {
            "recipe": self.recipe.name,
            "trainings": self.trainings,
            "trainings_before_folding": self.trainings_before_folding,
            "evaluations": self.evaluations,
            "budgets": self.budgets,
            "steps": [
                step.row() | ({"origins": dict(step.origins)} if step.training else {}) for step in self.steps.values()
            ],
        }


def plan(recipe: Recipe, tasks: Mapping[str, Task]) -> Plan:
    """Plan a recipe.

    Raises:
        UserError: a task cannot be trained or scored as planned, an evaluated task needs a head that no phase
            trains, two branches have one name, or the recipe needs more than `checks.MAX_STEPS` steps.
    """
    found = Collector()
    for path, what, hint in (*unusable_tasks(recipe, tasks), *small_budgets(recipe, tasks)):
        found.add(what, where=recipe.where(*path), hint=hint)
    found.raise_any()
    check_size(recipe, tasks)
    tasks = with_ensembles(with_each_language(with_first_piece(tasks, recipe)), recipe)
    parts = {name: _of_one_encoder(recipe, start, tasks) for name, start in recipe.starts.items()}
    if recipe.encoders is None:
        return parts[""]
    whole = Plan(recipe, tasks, parts=parts)
    for name, part in parts.items():
        for id, step in part.steps.items():
            named = replace(step, title=_with_encoder(name, step.title), heading=_with_encoder(name, step.heading))
            whole.steps.setdefault(id, named)
        whole.cells += [replace(cell, branch=_with_encoder(name, cell.branch)) for cell in part.cells]
        whole.trainings_before_folding += part.trainings_before_folding
    return whole


def _of_one_encoder(recipe: Recipe, start: Start, tasks: Mapping[str, Task]) -> Plan:
    settings = start.settings.over(recipe.settings)
    one = recipe.model_copy(update={"encoder": start.encoder, "encoders": None, "settings": settings, "note": ""})
    planner = Planner(one, tasks)
    planner.plan_branches()
    return Plan(one, tasks, planner.steps, planner.cells, planner.trainings)


def _with_encoder(encoder: str, name: str) -> str:
    """The name of a branch or step, with the encoder where there are several."""
    return f"{encoder}: {name}" if encoder and name != ALL else encoder or name
