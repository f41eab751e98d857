"""Recipes: in which order an encoder learns what; YAML in, every mistake reported at once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from xstilts import strict_yaml
from xstilts.errors import Collector, UserError, nearest
from xstilts.phase import Names, Phase, Seed, Settings, mixtures
from xstilts.source import PathText, Strict, home
from xstilts.task import Task
from xstilts.tasks import GROUPS, TASKS, from_yaml

TRAINED = ("bpe", "words")
"""Tokenizers that are trained; every other name is of one that is given."""


class NewEncoder(Strict):
    """An encoder that starts from random weights, with a tokenizer trained on the text of a task, or a given one."""

    text: str = ""
    """A masked-text task; its training text in all its languages trains the tokenizer."""
    layers: int = Field(default=2, ge=1, le=1000)
    hidden: int = Field(default=64, ge=8, le=10**5)
    heads: int = Field(default=2, ge=1, le=1000)
    vocabulary: int = Field(default=2000, ge=100, le=10**7)
    """Pieces at most, of a tokenizer that is trained."""
    tokenizer: PathText = "bpe"
    """`words` has a piece for each word, for text of few words; else a folder or Hub id with a fast tokenizer."""
    max_length: int = Field(default=128, ge=16, le=10**6)
    seed: Seed = 1

    @model_validator(mode="after")
    def _divides(self) -> NewEncoder:
        if self.hidden % self.heads:
            raise ValueError(f"hidden ({self.hidden}) must be a multiple of heads ({self.heads})")
        return self

    @model_validator(mode="after")
    def _one_tokenizer(self) -> NewEncoder:
        if self.given is None and not self.text:
            raise ValueError("needs `text`, a task whose text trains its tokenizer, or a `tokenizer` that is given")
        if self.given is not None and {"text", "vocabulary"} & self.model_fields_set:
            raise ValueError(f"has a tokenizer that is given ({self.given}): leave `text` and `vocabulary` out")
        return self

    @property
    def given(self) -> str | None:
        """The tokenizer's folder or Hub id; None if it is trained."""
        return None if self.tokenizer in TRAINED else self.tokenizer


class Recipe(Strict):
    """A study: an encoder, phases with choices, seeds, and what is scored at the end."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    encoder: PathText | NewEncoder
    """Hub id (`name@revision`), folder (`{data}` stands for the data folder), or the shape of a new encoder."""
    phases: tuple[Phase, ...] = Field(min_length=1)
    evaluate: Names
    seeds: tuple[Seed, ...] = Field(default=(1, 2, 3), min_length=1)
    settings: Settings = Settings()
    """For all phases, below the phases' own."""
    languages: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Only these are scored; all languages of a task by default."""
    missing: Literal["error", "skip"] = "error"
    """What to do about languages whose files are not there."""
    use: tuple[PathText, ...] = ()
    """YAML files with tasks of one's own, beside the recipe."""
    trust_remote_code: str | None = None
    """Name of the encoder whose own code may be run."""

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds names a seed twice")
        names = [phase.name for phase in self.phases]
        if len(set(names)) != len(names):
            raise ValueError("two phases have the same name")
        if any(phase.each is not None for phase in self.phases[:-1]):
            raise ValueError("only the last phase can have each")
        if self.trust_remote_code not in (None, self.encoder):
            raise ValueError("trust_remote_code must be the name of the encoder")
        return self


def shipped() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    folder = Path(str(resources.files("xstilts"))) / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.yaml")) if not path.stem.endswith("-tasks")}


def read(name: str) -> tuple[Recipe, dict[str, Task]]:
    """Read a recipe file, or one shipped in the package, and the tasks it may name.

    Raises:
        UserError: all mistakes of the recipe and of the task files it uses.
    """
    path = Path(name)
    if not path.suffix and not os.path.lexists(path):
        known = shipped()
        if name not in known:
            raise UserError(f"no recipe '{name}'", hint=nearest(name, known))
        path = known[name]
    document = strict_yaml.load(path)
    found = Collector()
    tasks = dict(TASKS)
    for use in _listed(document.value.get("use")):
        with found.catch():
            tasks |= from_yaml(path.parent / use, tasks, spelled=use)
    if not found.errors:  # else a name may be unknown only because its file is broken
        _check_names(document, tasks, found)
    recipe = None
    try:
        recipe = Recipe.model_validate(document.value)
    except ValidationError as error:
        found.errors.extend(strict_yaml.mistakes(error, Recipe, document))
    if recipe is not None and not found.errors:
        _check_meaning(recipe, tasks, found, document)
    found.raise_any()
    assert recipe is not None
    return recipe, tasks


def _listed(value: Any) -> list[str]:
    """The strings of a list, or of one string; what else is there is for the typed model to refuse."""
    return [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str)]


def _check_names(document: strict_yaml.Document, tasks: Mapping[str, Task], found: Collector) -> None:
    """Note every unknown task or group; the document may still have mistakes of other kinds."""
    value = document.value
    named: list[tuple[strict_yaml.Place, Any]] = [(("evaluate",), value.get("evaluate"))]
    for p, phase in enumerate(value.get("phases") or ()):
        if isinstance(phase, dict):
            named.append((("phases", p, "each"), phase.get("each")))
            choices = phase.get("choices")
            for c, choice in enumerate(choices if isinstance(choices, list) else ()):
                several = choice.get("merge", choice.get("chain")) if isinstance(choice, dict) else None
                for mixture in several if isinstance(several, list) else [choice]:
                    parts = mixture if isinstance(mixture, list) else [mixture]
                    names = [part.get("task") if isinstance(part, dict) else part for part in parts]
                    named.append((("phases", p, "choices", c), names))
    if isinstance(value.get("encoder"), dict):
        named.append((("encoder", "text"), value["encoder"].get("text")))
    for place, names in named:
        known = [*tasks, *GROUPS] if place[-1] in ("evaluate", "each") else list(tasks)
        for name in _listed(names):
            if name not in known:
                found.add(f"unknown task '{name}'", where=document.where(place), hint=nearest(name, known))


def expanded(names: tuple[str, ...]) -> list[str]:
    """Task names with groups replaced by their members, each once, in order."""
    return list(dict.fromkeys(task for name in names for task in GROUPS.get(name, (name,))))


def unfit(recipe: Recipe, tasks: Mapping[str, Task]) -> Iterator[tuple[strict_yaml.Place, str, str]]:
    """Tasks that cannot be what the recipe asks of them: each with its place, what is wrong, and a hint."""
    evaluated = expanded(recipe.evaluate)
    for i, group in enumerate(recipe.evaluate):
        for name in expanded((group,)):
            if not tasks[name].scored:
                lacks = not tasks[name].data.keys() & {"dev", "test"}
                what = "has neither dev nor test data" if lacks else "is trained on its dev data"
                hint = "give it `data` for one of these, or do not evaluate it"
                yield ("evaluate", i), f"the task '{name}' {what}", hint
    for p, phase in enumerate(recipe.phases):
        for c, choice in enumerate(phase.choices or ()):
            names = [part.task for mixture in mixtures(choice) for part in mixture]
            yield from ((("phases", p, "choices", c), *wrong) for name in names for wrong in _idle(tasks[name]))
        for i, group in enumerate(phase.each or ()):
            own = [name for name in expanded((group,)) if name in evaluated and tasks[name].trainable]
            yield from ((("phases", p, "each", i), *wrong) for name in own for wrong in _idle(tasks[name]))


def _idle(task: Task) -> Iterator[tuple[str, str]]:
    """What keeps a task from being trained on."""
    if not task.trainable:
        yield f"the task '{task.name}' has no training data", ""
    elif task.format.head.kind == "mean":
        yield f"nothing can be trained on the task '{task.name}'", "its format finds translations; it is only scored"


def _check_meaning(recipe: Recipe, tasks: Mapping[str, Task], found: Collector, document: strict_yaml.Document) -> None:
    _check_languages(recipe, tasks, found, document)
    for place, what, hint in unfit(recipe, tasks):
        found.add(what, where=document.where(place), hint=hint)
    evaluated = expanded(recipe.evaluate)
    for p, phase in enumerate(recipe.phases):
        for name in phase.each or ():
            if not set(expanded((name,))) & set(evaluated):
                where = document.where(("phases", p, "each"))
                found.add(f"'{name}' is not evaluated", where=where, hint="name it in `evaluate` or remove it here")
        if phase.average_runs and len(recipe.seeds) == 1:
            where = document.where(("phases", p, "average"))
            found.add("there is one run only, for the recipe has one seed", where=where, hint="give it more `seeds`")
    if isinstance(recipe.encoder, NewEncoder):
        if recipe.encoder.given is not None:
            with found.catch():
                _check_tokenizer(recipe.encoder.given, document.where(("encoder", "tokenizer")))
        _check_new(recipe.encoder, [tasks[name] for name in evaluated], tasks, found, document)


def _check_languages(
    recipe: Recipe, tasks: Mapping[str, Task], found: Collector, document: strict_yaml.Document
) -> None:
    evaluated = expanded(recipe.evaluate)
    known = {code for name in evaluated for code in tasks[name].all_languages}
    wanted = recipe.languages or ()
    for i, language in enumerate(wanted):
        if language not in known:
            where = document.where(("languages", i))
            found.add(f"no evaluated task has the language '{language}'", where=where, hint=nearest(language, known))
    if not wanted or found.errors:
        return
    for name in evaluated:
        if not set(wanted) & set(tasks[name].all_languages):
            hint = f"add one of {', '.join(tasks[name].all_languages)}, or do not evaluate it"
            found.add(f"the evaluated task '{name}' has none of these", where=document.where(("languages",)), hint=hint)


def _check_new(
    shape: NewEncoder,
    evaluated: Sequence[Task],
    tasks: Mapping[str, Task],
    found: Collector,
    document: strict_yaml.Document,
) -> None:
    raw = {name: task for name, task in tasks.items() if task.format.head.kind == "vocabulary"}
    where = document.where(("encoder", "text"))
    if shape.given is not None:
        pass
    elif shape.text not in raw:
        found.add(f"'{shape.text}' is not a task of raw text", where=where, hint=nearest("", raw))
    elif not raw[shape.text].trainable:
        texts = [name for name, task in raw.items() if task.trainable]
        found.add(f"'{shape.text}' has no training data", where=where, hint=nearest("", texts))
    for task in evaluated:
        if (task.format.head.layer or 0) > shape.layers:
            what = f"the encoder has {shape.layers}, but the task '{task.name}' looks at layer {task.format.head.layer}"
            found.add(what, where=document.where(("encoder", "layers")), hint="lower the task's `layer`")


def _check_tokenizer(name: str, where: str) -> None:
    """See without loading it whether a tokenizer can be given; `{data}` in its name is known only to a run."""
    try:
        folder = Path(home(name))
    except UserError as error:
        raise UserError(error.what, where=where) from error
    if folder.is_dir() and not (folder / "tokenizer.json").is_file():
        raise UserError(f"'{name}' has no fast tokenizer (tokenizer.json)", where=where)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"'{name}' is a file; a tokenizer is a folder with tokenizer.json", where=where)
    if "{data}" in name or folder.exists():
        return
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UserError(f"there is no folder '{name}'", where=where)
    if "/" not in name and (hint := nearest(name, TRAINED)).startswith("did you mean"):
        raise UserError(f"'{name}' is neither a way to train a tokenizer nor a folder", where=where, hint=hint)
