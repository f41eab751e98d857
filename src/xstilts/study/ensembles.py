"""Ensembles: means of the predictions of evaluated tasks, such as translate-train and translate-test."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from xstilts.errors import Collector, nearest
from xstilts.formats.base import Format
from xstilts.study.checks import expand_groups
from xstilts.study.defaults import scored_languages
from xstilts.study.identity import step_id
from xstilts.study.index import Cell
from xstilts.study.phase import duplicates
from xstilts.study.recipe import Recipe
from xstilts.study.step import EnsembleSpec, Step
from xstilts.tasks.task import Task


def with_ensembles(tasks: Mapping[str, Task], recipe: Recipe) -> Mapping[str, Task]:
    """The tasks, and one for each ensemble: its first member's, without training data, in the languages of all."""
    return {**tasks, **{name: _task(name, members, tasks, recipe) for name, members in recipe.ensembles.items()}}


def _task(name: str, members: Sequence[str], tasks: Mapping[str, Task], recipe: Recipe) -> Task:
    first = tasks[members[0]]
    data = {split: source for split, source in first.data.items() if split in ("dev", "test")}
    changes = {"name": name, "languages": _languages(members, tasks, recipe), "more_languages": (), "data": data,
               "like": first.like or first.name, "note": f"mean of {' and '.join(members)}"}  # fmt: skip
    return first.model_copy(update=changes)


def _languages(members: Sequence[str], tasks: Mapping[str, Task], recipe: Recipe) -> tuple[str, ...]:
    """The scored languages that all members have."""
    every = [scored_languages(tasks[member], recipe) for member in members]
    return tuple(code for code in every[0] if all(code in codes for codes in every))


def check_ensembles(recipe: Recipe, tasks: Mapping[str, Task], found: Collector) -> None:
    """Note every ensemble whose members are not evaluated, or whose predictions have no mean."""
    evaluated = expand_groups(recipe.evaluate)
    for name, members in recipe.ensembles.items():
        where = recipe.where("ensembles", name)
        if name in tasks:
            found.add(f"there is a task '{name}'", where=where, hint="give the ensemble another name")
        if len(members) < 2 or duplicates(members):
            found.add("needs two or more different tasks", where=where)
        for member in members:
            if member not in evaluated:
                hint = nearest(member, evaluated)
                found.add(f"'{member}' is not evaluated, so it has no predictions", where=where, hint=hint)
            elif not tasks[member].format.has_mean:
                what = f"the predictions of '{member}' have no mean: its format is {tasks[member].format.name}"
                found.add(what, where=where, hint="ensembles are of classify, choose and span tasks")
        for what, hint in _differences([tasks[member] for member in members], recipe):
            found.add(what, where=where, hint=hint)


def _differences(members: Sequence[Task], recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Why two members cannot be averaged, each with a hint."""
    first = members[0]
    for other in members[1:]:
        pair = f"'{first.name}' and '{other.name}'"
        if _answers(first.format) != _answers(other.format):
            yield f"{pair} have other labels or formats", "all members must predict the same"
        elif first.metrics != other.metrics:
            hint = f"the first has {', '.join(first.metrics)}; the second {', '.join(other.metrics)}"
            yield f"{pair} have other metrics", hint
        elif not _languages([first.name, other.name], {task.name: task for task in members}, recipe):
            yield f"{pair} have no scored language in common", ""
        elif _limit(first, recipe) != _limit(other, recipe):
            yield f"{pair} have another `limit`", "give both the same"


def _answers(format: Format) -> object:
    return format.name, getattr(format, "labels", ()), getattr(format, "no_answer", False)


def _limit(task: Task, recipe: Recipe) -> int | None:
    last = recipe.phases[-1]
    settings = last.settings.over(recipe.settings) if last.each is not None else recipe.settings
    return settings.of(task.name).limit


def plan_ensembles(
    recipe: Recipe, tasks: Mapping[str, Task], steps: Mapping[str, Step], cells: Sequence[Cell]
) -> Iterator[tuple[Step, Cell]]:
    """Each ensemble in each branch and with each seed, from the cells of its members."""
    runs: dict[tuple[str, int], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for cell in cells:
        runs[cell.branch, cell.seed][cell.task].append(cell.step)
    for name, members in recipe.ensembles.items():
        for (branch, seed), run in runs.items():
            if all(member in run for member in members):
                step = _step(name, tuple(tuple(run[member]) for member in members), tasks[name], recipe, steps)
                yield step, Cell(branch=branch, seed=seed, task=name, step=step.id)


def _step(
    name: str, members: tuple[tuple[str, ...], ...], task: Task, recipe: Recipe, steps: Mapping[str, Step]
) -> Step:
    parents = [steps[id] for member in members for id in member]
    seed = next((step.seed for step in parents if step.seed is not None), None)
    limits = [step.scoring.limit for step in parents if step.scoring]
    spec = EnsembleSpec(task=name, members=members, limit=limits[0])
    content = {"task": name, "members": members, "metrics": task.metrics}  # the name stands in its rows
    ids = tuple(dict.fromkeys(step.id for step in parents))
    encoder = " + ".join(dict.fromkeys(step.encoder for step in parents))
    title = f"average of {' and '.join(recipe.ensembles[name])}"
    return Step(step_id("ensemble", encoder, ids, seed, content), "ensemble", ids, encoder, seed, title, ensemble=spec)
