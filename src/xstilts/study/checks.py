"""Checks of a recipe: names, languages, tokenizers, size, and whether each task can be trained and scored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any

from xstilts.errors import Collector, UserError, nearest
from xstilts.formats.pooling import PARTS
from xstilts.languages import among
from xstilts.metrics import local
from xstilts.model.shape import TRAINABLE_TOKENIZERS, NewEncoder
from xstilts.study.defaults import choice_steps, target_settings
from xstilts.study.phase import Settings, mixtures_of
from xstilts.study.recipe import Recipe
from xstilts.tasks import GROUPS
from xstilts.tasks.task import Task
from xstilts.tasks.user_tasks import task_names
from xstilts.utils import yaml as strict_yaml
from xstilts.utils.models import expand_user

MAX_STEPS = 100_000
"""The most trainings and evaluations of a recipe, before equal ones are folded."""


def check_names(document: strict_yaml.Document, tasks: Mapping[str, Task], found: Collector) -> None:
    """Note every unknown task or group; a task of a task file that `use` lacks is one mistake."""
    beside: dict[str, str] | None = None
    noted = set[str]()
    for path, names in _named_tasks(document.value):
        known = [*tasks, *GROUPS] if path[-1] in ("evaluate", "each") else list(tasks)
        for name in strings_in(names):
            if name in known or name in noted:
                continue
            beside = _tasks_beside(document) if beside is None else beside
            hint = nearest(name, known)
            if name in beside:
                noted.add(name)
                use = [*strings_in(document.value.get("use")), beside[name]]
                hint = f"{beside[name]} has it: write `use: [{', '.join(use)}]`"
            found.add(f"unknown task '{name}'", where=document.where(path), hint=hint)


def _named_tasks(value: Mapping[str, Any]) -> Iterator[tuple[strict_yaml.KeyPath, Any]]:
    """The names of tasks and groups in a recipe that may still have mistakes, each with its place."""
    yield ("evaluate",), value.get("evaluate")
    ensembles = value.get("ensembles")
    for name, members in ensembles.items() if isinstance(ensembles, dict) else ():
        yield ("ensembles", name), members
    for p, phase in enumerate(value.get("phases") or ()):
        if isinstance(phase, dict):
            yield ("phases", p, "each"), phase.get("each")
            choices = phase.get("choices")
            for c, choice in enumerate(choices if isinstance(choices, list) else ()):
                mixtures = choice.get("merge", choice.get("chain")) if isinstance(choice, dict) else None
                for mixture in mixtures if isinstance(mixtures, list) else [choice]:
                    parts = mixture if isinstance(mixture, list) else [mixture]
                    yield (
                        ("phases", p, "choices", c),
                        [part.get("task") if isinstance(part, dict) else part for part in parts],
                    )
    for path, start in _named_encoders(value):
        if isinstance(start, dict):
            yield (*path, "text"), start.get("text")
    yield from _named_in_settings(value)


def _tasks_beside(document: strict_yaml.Document) -> dict[str, str]:
    """The tasks of the task files in a recipe's folder, each with its file."""
    found: dict[str, str] = {}
    for path in sorted(document.path.parent.glob("*.y*ml"), reverse=True):
        with suppress(UserError):
            found |= dict.fromkeys(task_names(strict_yaml.load(path)), path.name)
    return found


def expand_groups(names: tuple[str, ...]) -> list[str]:
    """Task names with groups replaced by their members, each once, in order."""
    return list(dict.fromkeys(task for name in names for task in GROUPS.get(name, (name,))))


def unusable_tasks(recipe: Recipe, tasks: Mapping[str, Task]) -> Iterator[tuple[strict_yaml.KeyPath, str, str]]:
    """The tasks that cannot be trained or scored as planned: the place in the recipe, the problem, and a hint."""
    evaluated = expand_groups(recipe.evaluate)
    for i, group in enumerate(recipe.evaluate):
        for name in expand_groups((group,)):
            if not tasks[name].scored:
                task = tasks[name]
                lacks = not task.data.keys() & {"dev", "test"}
                own = " and ".join(split for split in ("dev", "test") if split in task.data)
                what = "has neither dev nor test data" if lacks else f"is trained on its {own} data"
                hint = "give it `data` for one of these, or do not evaluate it"
                if "test" in task.data and set(task.languages) - set(task.train_languages):
                    hint = f"leave {', '.join(task.train_languages)} out of its `languages`, or give it other test data"
                yield ("evaluate", i), f"the task '{name}' {what}", hint
    for p, phase in enumerate(recipe.phases):
        for c, choice in enumerate(phase.choices or ()):
            for task in (tasks[part.task] for mixture in mixtures_of(choice) for part in mixture):
                yield from ((("phases", p, "choices", c), *problem) for problem in _training_problems(task))
                if task.train_in == "each":
                    what = f"the task '{task.name}' has `train_languages: each`, a training for each language"
                    yield ("phases", p, "choices", c), what, "name it in the last phase's `each`, or write `all`"
        for i, group in enumerate(phase.each or ()):
            names = [name for name in expand_groups((group,)) if name in evaluated and tasks[name].trainable]
            yield from (
                (("phases", p, "each", i), *problem) for name in names for problem in _training_problems(tasks[name])
            )


def small_budgets(recipe: Recipe, tasks: Mapping[str, Task]) -> Iterator[tuple[strict_yaml.KeyPath, str, str]]:
    """The choices with fewer updates than trainings to share them: the place in the recipe, the problem, and a hint."""
    for p, phase in enumerate(recipe.phases):
        possible = [phase.settings.over(start.settings.over(recipe.settings)) for start in recipe.starts.values()]
        for c, choice in enumerate(phase.choices or ()):
            too_small = [settings.steps for settings in possible if 0 in choice_steps(settings, choice, tasks)]
            if too_small:
                what = f"{len(mixtures_of(choice))} trainings cannot share {too_small[0]} updates"
                yield ("phases", p, "choices", c), what, "give more steps, or remove `budget: updates`"


def _training_problems(task: Task) -> Iterator[tuple[str, str]]:
    """Why a task cannot be trained, with a hint."""
    if not task.trainable:
        yield f"the task '{task.name}' has no training data", ""
    elif task.format.head.kind == "mean":
        yield f"nothing can be trained on the task '{task.name}'", "its format finds translations; it is only scored"


def check_recipe(recipe: Recipe, tasks: Mapping[str, Task], found: Collector) -> None:
    """Note every mistake of a recipe whose types and names are right."""
    _check_languages(recipe, tasks, found)
    for path, what, hint in (*unusable_tasks(recipe, tasks), *small_budgets(recipe, tasks)):
        found.add(what, where=recipe.where(*path), hint=hint)
    evaluated = expand_groups(recipe.evaluate)
    for p, phase in enumerate(recipe.phases):
        for name in phase.each or ():
            if not set(expand_groups((name,))) & set(evaluated):
                where = recipe.where("phases", p, "each")
                found.add(f"'{name}' is not evaluated", where=where, hint="name it in `evaluate` or remove it here")
        if phase.average_runs and len(recipe.seeds) == 1:
            where = recipe.where("phases", p, "average")
            found.add(
                "there is only one run, because the recipe has one seed", where=where, hint="give it more `seeds`"
            )
    _check_local_metrics(recipe, tasks, found)
    _check_programs(recipe, tasks, found)
    _check_poolings(recipe, tasks, found)
    for path, shape in _new_encoders(recipe):
        _check_new_encoder(shape, tasks, recipe.where(*path, "text"), found)
        _check_layers(shape, path, recipe, tasks, found)


def local_metrics(recipe: Recipe, tasks: Mapping[str, Task]) -> Iterator[tuple[Task, str]]:
    """The user's own metrics, `module:function`, of the tasks that a recipe trains or evaluates."""
    choices = [choice for phase in recipe.phases for choice in phase.choices or ()]
    trained = [part.task for choice in choices for mixture in mixtures_of(choice) for part in mixture]
    for task in (tasks[name] for name in dict.fromkeys([*expand_groups(recipe.evaluate), *trained])):
        yield from ((task, name) for name in task.metrics if ":" in name)


def _check_local_metrics(recipe: Recipe, tasks: Mapping[str, Task], found: Collector) -> None:
    """Note the user's metrics that the recipe does not trust or that cannot be loaded; only trusted code runs."""
    files: dict[str, dict[str, str]] = {}
    for task, name in local_metrics(recipe, tasks):
        module, trusted = name.partition(":")[0], recipe.trust_local_code
        if module not in trusted:
            what = f"the task '{task.name}' has the metric {name}, whose code the recipe does not trust"
            hint = f"if you trust it, add `trust_local_code: [{', '.join([*trusted, module])}]`"
            found.add(what, where=recipe.where("trust_local_code"), hint=hint)
            continue
        where = recipe.where("trust_local_code", trusted.index(module))
        try:
            file = local.load(name, task.code_folder)
        except UserError as error:
            found.add(error.message, where=where, hint=error.hint)
            continue
        if files.setdefault(module, file) != file:
            found.add(f"two task files have a {module}.py beside them", where=where, hint="rename one of them")


def _check_programs(recipe: Recipe, tasks: Mapping[str, Task], found: Collector) -> None:
    """Note the programs that translate answers back, unless the recipe trusts them."""
    for task in (tasks[name] for name in expand_groups(recipe.evaluate)):
        trusted, program = recipe.trust_local_code, task.translate_back.program if task.translate_back else ""
        if program and program not in trusted:
            what = f"the task '{task.name}' runs the program {program}, which the recipe does not trust"
            hint = f"if you trust it, add `trust_local_code: [{', '.join([*trusted, program])}]`"
            found.add(what, where=recipe.where("trust_local_code"), hint=hint)


def _new_encoders(recipe: Recipe) -> Iterator[tuple[strict_yaml.KeyPath, NewEncoder]]:
    """The new encoders of a recipe, each with its place in the recipe."""
    for name, start in recipe.starts.items():
        if isinstance(start.encoder, NewEncoder):
            yield (("encoders", name, "encoder") if recipe.encoders else ("encoder",)), start.encoder


def _check_languages(recipe: Recipe, tasks: Mapping[str, Task], found: Collector) -> None:
    evaluated = expand_groups(recipe.evaluate)
    known = {code for name in evaluated for code in tasks[name].all_languages}
    chosen = recipe.languages or ()
    for i, language in enumerate(chosen):
        if language not in known:
            where = recipe.where("languages", i)
            what = f"no evaluated task has the language '{language}'"
            found.add(what, where=where, hint=among(language, known))
    if not chosen or found.errors:
        return
    for name in evaluated:
        if not set(chosen) & set(tasks[name].all_languages):
            hint = f"add one of {', '.join(tasks[name].all_languages)}, or do not evaluate it"
            what = f"the evaluated task '{name}' has none of these languages"
            found.add(what, where=recipe.where("languages"), hint=hint)


def _check_new_encoder(shape: NewEncoder, tasks: Mapping[str, Task], where: str, found: Collector) -> None:
    raw = {name: task for name, task in tasks.items() if task.format.head.kind == "vocabulary"}
    if shape.given is not None:
        pass
    elif shape.text not in raw:
        found.add(f"'{shape.text}' is not a task of raw text", where=where, hint=nearest("", raw))
    elif not raw[shape.text].trainable:
        texts = [name for name, task in raw.items() if task.trainable]
        found.add(f"'{shape.text}' has no training data", where=where, hint=nearest("", texts))


def _check_poolings(recipe: Recipe, tasks: Mapping[str, Task], found: Collector) -> None:
    """Note settings of retrieval where nothing is retrieved."""
    retrieved = _retrieval(recipe, tasks)
    for path, settings in _settings(recipe):
        for field in ("poolings", "score_layers"):
            if getattr(settings, field) is not None and not retrieved:
                what = "is for retrieval, but no evaluated task finds texts"
                found.add(what, where=recipe.where(*path, field), hint="evaluate tatoeba, bucc2018 or one like them")
        for name, own in (settings.tasks or {}).items():
            for field in ("layer", "poolings", "score_layers"):
                if getattr(own, field) is not None and tasks[name].format.head.kind != "mean":
                    what = f"is for retrieval; the task '{name}' has the format {tasks[name].format.name}"
                    found.add(what, where=recipe.where(*path, "tasks", name, field), hint="remove it")


def _check_layers(
    shape: NewEncoder, path: strict_yaml.KeyPath, recipe: Recipe, tasks: Mapping[str, Task], found: Collector
) -> None:
    """Note layers that are to be pooled and that a new encoder does not have."""
    start = recipe.starts[str(path[1]) if len(path) > 1 else ""].settings.over(recipe.settings)
    settings_of, where = target_settings(recipe, start).of, recipe.where(*path, "layers")
    for task, settings in ((task, settings_of(task.name)) for task in _retrieval(recipe, tasks)):
        if settings.encoder is not None:
            continue
        layers = settings.score_layers if settings.score_layers not in (None, "all") else ()
        own = task.format.head.layer if settings.layer is None else settings.layer
        deepest = max(own or 0, *layers, 0)
        if deepest > shape.layers:
            what = f"the encoder has {shape.layers}, but the task '{task.name}' pools layer {deepest}"
            hint = "lower `score_layers`" if deepest in layers else "lower the task's `layer`"
            found.add(what, where=where, hint=hint)
        if "concat" in (settings.poolings or ()) and shape.layers < PARTS:
            what = f"the encoder has {shape.layers}, but `poolings: concat` needs {PARTS}"
            found.add(what, where=where, hint="leave concat out of `poolings`")


def _retrieval(recipe: Recipe, tasks: Mapping[str, Task]) -> list[Task]:
    """The evaluated tasks of retrieval."""
    evaluated = (tasks[name] for name in expand_groups(recipe.evaluate))
    return [task for task in evaluated if task.format.head.kind == "mean"]


def _settings(recipe: Recipe) -> Iterator[tuple[strict_yaml.KeyPath, Settings]]:
    """The settings of a recipe, of its encoders and of its phases, each with its place in the recipe."""
    yield ("settings",), recipe.settings
    yield from ((("encoders", name, "settings"), start.settings) for name, start in (recipe.encoders or {}).items())
    yield from ((("phases", p, "settings"), phase.settings) for p, phase in enumerate(recipe.phases))


def check_tokenizers(recipe: Recipe, found: Collector) -> None:
    """Note every given tokenizer of a new encoder that is not on this machine or cannot be used."""
    for path, shape in _new_encoders(recipe):
        if shape.given is not None:
            with found.catch():
                _check_tokenizer(shape.given, recipe.where(*path, "tokenizer"))


def _check_tokenizer(name: str, where: str) -> None:
    """Refuse a tokenizer that is not on this machine, without loading it; only a run knows the folder `{data}`."""
    try:
        folder = Path(expand_user(name))
    except UserError as error:
        raise UserError(error.message, where=where) from error
    if folder.is_dir() and not (folder / "tokenizer.json").is_file():
        raise UserError(f"'{name}' has no fast tokenizer (tokenizer.json)", where=where)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"'{name}' is a file; a tokenizer is a folder with tokenizer.json", where=where)
    if "{data}" in name or folder.exists():
        return
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UserError(f"there is no folder '{name}'", where=where)
    if "/" not in name and (hint := nearest(name, TRAINABLE_TOKENIZERS)).startswith("did you mean"):
        raise UserError(f"'{name}' is neither a way to train a tokenizer nor a folder", where=where, hint=hint)


def strings_in(value: Any) -> list[str]:
    """The strings of a list, or one string; the typed model refuses everything else."""
    return [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str)]


def _named_encoders(value: Mapping[str, Any]) -> Iterator[tuple[strict_yaml.KeyPath, Any]]:
    """The encoders of a recipe that may still have mistakes, each with its place in the recipe."""
    if value.get("encoder") is not None:
        yield ("encoder",), value["encoder"]
    encoders = value.get("encoders")
    for name, start in encoders.items() if isinstance(encoders, dict) else ():
        if isinstance(start, dict):
            yield ("encoders", name, "encoder"), start.get("encoder")


def _named_in_settings(value: Mapping[str, Any]) -> Iterator[tuple[strict_yaml.KeyPath, str]]:
    """The tasks that have settings of their own, each with its place in a recipe that may still have mistakes."""
    encoders, phases = value.get("encoders"), value.get("phases")
    places: list[tuple[strict_yaml.KeyPath, Any]] = [((), value)]
    places += [(("encoders", name), start) for name, start in (encoders.items() if isinstance(encoders, dict) else ())]
    places += [(("phases", p), phase) for p, phase in enumerate(phases if isinstance(phases, list) else ())]
    for path, place in places:
        settings = place.get("settings") if isinstance(place, dict) else None
        tasks = settings.get("tasks") if isinstance(settings, dict) else None
        yield from (((*path, "settings", "tasks", name), name) for name in (tasks if isinstance(tasks, dict) else ()))


def check_size(recipe: Recipe, tasks: Mapping[str, Task]) -> None:
    """Refuse a recipe with too many branches to plan: the numbers of choices in its phases multiply.

    Raises:
        UserError: the recipe needs more than `MAX_STEPS` trainings and evaluations.
    """
    phases = [phase.choices for phase in recipe.phases if phase.choices is not None]
    branches = prod(map(len, phases))
    trainings = sum(
        branches // len(choices) * sum(len(mixtures_of(choice)) for choice in choices) for choices in phases
    )
    evaluated = (tasks[name] for name in expand_groups(recipe.evaluate))
    targets = sum(len(task.train_languages) if task.train_in == "each" else 1 for task in evaluated)
    target_steps = branches * targets * (2 if recipe.phases[-1].each else 1)
    steps = len(recipe.starts) * len(recipe.seeds) * (trainings + target_steps)
    if max(branches, steps) > MAX_STEPS:
        raise UserError(
            f"needs more than {MAX_STEPS:,} trainings and evaluations, before equal ones are folded",
            where=recipe.where("phases"),
            hint="give fewer choices: their numbers in all phases are multiplied",
        )
