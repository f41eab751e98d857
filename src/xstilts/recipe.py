"""Recipes: in which order an encoder learns what; YAML in, every mistake reported at once."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr, ValidationError, model_validator

from xstilts import strict_yaml
from xstilts.errors import Collector, UserError, nearest
from xstilts.phase import Name, Names, Phase, Seed, Settings, mixtures, repeated
from xstilts.source import PathText, Strict, home
from xstilts.strict_yaml import Misplaced
from xstilts.task import Task
from xstilts.tasks import GROUPS, RECIPES, TASKS, from_yaml, task_file

FULL, SCALES = "full", "scales"
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


class Start(Strict):
    """One of several encoders of a study, with settings that hold for it alone."""

    encoder: PathText | NewEncoder
    settings: Settings = Settings()
    """Above the recipe's own, below the phases'."""


Keep = Literal["all", "intermediate", "none"]
"""Which encoders stay on the disk once all that starts from them is done."""


class Recipe(Strict):
    """A study: an encoder, phases with choices, seeds, and what is scored at the end."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    encoder: PathText | NewEncoder | None = None
    """Hub id (`name@revision`), folder (`{data}` stands for the data folder), or the shape of a new encoder."""
    encoders: dict[Name, Start] | None = Field(default=None, min_length=2)
    """Several in its place, by the names that reports give them: each is a study of its own, with its own baseline."""
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
    keep: Keep = "intermediate"
    """Which encoders stay on the disk: all, those that a later training starts from, or none."""
    trust_remote_code: str | None = None
    """Name of the encoder whose own code may be run."""
    _document: strict_yaml.Document | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        for i in repeated(self.seeds):
            raise Misplaced(f"seeds names {self.seeds[i]} twice", "seeds", i)
        for i in repeated(phase.name for phase in self.phases):
            raise Misplaced(f"two phases are called '{self.phases[i].name}'", "phases", i, "name")
        for i, phase in enumerate(self.phases[:-1]):
            if phase.each is not None:
                raise Misplaced("only the last phase can have each", "phases", i, "each")
        if self.encoder is None and self.encoders is None:
            raise ValueError("needs either encoder or encoders")
        if self.encoder is not None and self.encoders is not None:
            raise Misplaced("encoder and encoders are both there: remove one", "encoders")
        if self.trust_remote_code not in (None, *(start.encoder for start in self.starts.values())):
            raise Misplaced("must be the name of the encoder", "trust_remote_code")
        return self

    def where(self, *place: str | int) -> str:
        """A place in the recipe, as error messages want it: with file and line if it was read from a file."""
        return self._document.where(place) if self._document else f"{self.name}: {strict_yaml.spelled(place)}"

    @property
    def starts(self) -> Mapping[str, Start]:
        """The encoders that the study starts from, by name; a single one has none."""
        if self.encoders is not None:
            return self.encoders
        assert self.encoder is not None, "one of the two is there"
        return {"": Start(encoder=self.encoder)}


def shipped() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    files = sorted(RECIPES.glob("*.yaml"))  # some hold the tasks of others
    return {path.stem: path for path in files if "\nphases:" in path.read_text(encoding="utf-8")}


def read(name: str, scale: str = FULL) -> tuple[Recipe, dict[str, Task]]:
    """Read a recipe file, or one shipped in the package, and the tasks it may name.

    Args:
        name: a file, or a shipped recipe's name.
        scale: `full`, or one of the recipe's `scales`, whose keys then take the place of the recipe's own.

    Raises:
        UserError: all mistakes of the recipe and of the task files it uses; at `full` those of its scales, too.
    """
    path = Path(name)
    if not path.suffix and not os.path.lexists(path):
        known = shipped()
        if name not in known:
            raise UserError(f"no recipe '{name}'", hint=nearest(name, known))
        path = known[name]
    document, found = strict_yaml.load(path), Collector()
    scales = _scales(document, found)
    if scale not in (FULL, *scales):
        if not found.errors:
            found.add(f"has no scale '{scale}'", where=str(path), hint=nearest(scale, [FULL, *scales]))
        found.raise_any()
    load = cache(partial(_own_tasks, path.parent))
    with found.catch():
        recipe, tasks = _read(_scaled(document, scale, scales), load)
        _check_tokenizers(recipe, found)  # those of another scale may lie on another machine
    told = set(map(str, found.errors))
    for other in scales if scale == FULL else ():
        own = Collector()
        with own.catch():
            _read(_scaled(document, other, scales), load)
        for error in own.errors:
            clear = str(error) in told or f": {SCALES}.{other}" in error.where
            what = error.what if clear else f"{error.what}, at the scale '{other}'"
            found.add(what, where=error.where, hint=error.hint)
    found.raise_any()
    return (recipe if scale == FULL else recipe.model_copy(update={"name": f"{recipe.name}-{scale}"})), tasks


def _scales(document: strict_yaml.Document, found: Collector) -> dict[str, dict[str, Any]]:
    """What each scale of a recipe changes, by name; notes what is wrong with the scales as such."""
    scales = document.value.get(SCALES, {})
    kept = {}
    for name, part in scales.items() if isinstance(scales, dict) else ():
        where = document.where((SCALES, name))
        if name == FULL:
            found.add("is what the recipe is without a scale", where=where, hint="give the scale another name")
        elif not re.fullmatch(r"[A-Za-z0-9._-]{1,50}", name):
            found.add(f"{name!r} is no name of letters, digits, '.', '_', '-', 50 at most", where=where)
        elif not isinstance(part, dict):
            found.add("must be a mapping: what changes in the recipe", where=where)
        else:
            kept[name] = {key: value for key, value in part.items() if key != "name"}
            if "name" in part:
                found.add("is nothing that a scale can change", where=document.where((SCALES, name, "name")))
    if not isinstance(scales, dict):
        found.add("must be a mapping of names to what they change in the recipe", where=document.where((SCALES,)))
    return kept


def _scaled(document: strict_yaml.Document, scale: str, scales: Mapping[str, dict[str, Any]]) -> strict_yaml.Document:
    """The recipe at one of its scales: some of its keys in place of the recipe's."""
    own = scales.get(scale, {})
    gone = {SCALES, *own} | ({"encoder", "encoders"} if {"encoder", "encoders"} & own.keys() else set())
    value = {key: part for key, part in document.value.items() if key not in gone}
    return replace(document, value=value | own, moved=dict.fromkeys(own, (SCALES, scale)))


def _own_tasks(folder: Path, uses: tuple[str, ...]) -> dict[str, Task]:
    """The built-in tasks and those of task files beside a recipe.

    Raises:
        UserError: all mistakes of the files.
    """
    tasks, found = dict(TASKS), Collector()
    for use in uses:
        with found.catch():
            tasks |= from_yaml(task_file(folder, use), tasks, spelled=use)
    found.raise_any()
    return tasks


def _read(
    document: strict_yaml.Document, load: Callable[[tuple[str, ...]], dict[str, Task]]
) -> tuple[Recipe, dict[str, Task]]:
    """The recipe of a document, and the tasks that it may name.

    Raises:
        UserError: all mistakes of the recipe and of the task files it uses.
    """
    found, tasks = Collector(), dict[str, Task]()
    uses = _listed(document.value.get("use"))
    paths = tuple(use for use in uses if use.strip() and "\0" not in use)  # the typed model refuses the others
    with found.catch():
        tasks = load(paths)
    if not found.errors and len(paths) == len(uses):  # else a name may be unknown only because its file is broken
        _check_names(document, tasks, found)
    try:
        recipe = Recipe.model_validate(document.value)
    except ValidationError as error:
        found.errors.extend(strict_yaml.mistakes(error, Recipe, document))
    else:
        recipe._document = document
        if not found.errors:
            _check_meaning(recipe, tasks, found)
    found.raise_any()
    return recipe, tasks


def _listed(value: Any) -> list[str]:
    """The strings of a list, or of one string; what else is there is for the typed model to refuse."""
    return [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str)]


def _written(value: Mapping[str, Any]) -> Iterator[tuple[strict_yaml.Place, Any]]:
    """The encoders that a recipe names, each with its place; the document may still have mistakes."""
    if value.get("encoder") is not None:
        yield ("encoder",), value["encoder"]
    several = value.get("encoders")
    for name, start in several.items() if isinstance(several, dict) else ():
        if isinstance(start, dict):
            yield ("encoders", name, "encoder"), start.get("encoder")


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
    for place, start in _written(value):
        if isinstance(start, dict):
            named.append(((*place, "text"), start.get("text")))
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


def _check_meaning(recipe: Recipe, tasks: Mapping[str, Task], found: Collector) -> None:
    _check_languages(recipe, tasks, found)
    for place, what, hint in unfit(recipe, tasks):
        found.add(what, where=recipe.where(*place), hint=hint)
    evaluated = expanded(recipe.evaluate)
    for p, phase in enumerate(recipe.phases):
        for name in phase.each or ():
            if not set(expanded((name,))) & set(evaluated):
                where = recipe.where("phases", p, "each")
                found.add(f"'{name}' is not evaluated", where=where, hint="name it in `evaluate` or remove it here")
        if phase.average_runs and len(recipe.seeds) == 1:
            where = recipe.where("phases", p, "average")
            found.add("there is one run only, for the recipe has one seed", where=where, hint="give it more `seeds`")
    for place, shape in _shapes(recipe):
        _check_new(shape, place, recipe, tasks, found)


def _shapes(recipe: Recipe) -> Iterator[tuple[strict_yaml.Place, NewEncoder]]:
    """The new encoders of a recipe, each with its place."""
    for name, start in recipe.starts.items():
        if isinstance(start.encoder, NewEncoder):
            yield (("encoders", name, "encoder") if recipe.encoders else ("encoder",)), start.encoder


def _check_languages(recipe: Recipe, tasks: Mapping[str, Task], found: Collector) -> None:
    evaluated = expanded(recipe.evaluate)
    known = {code for name in evaluated for code in tasks[name].all_languages}
    wanted = recipe.languages or ()
    for i, language in enumerate(wanted):
        if language not in known:
            where = recipe.where("languages", i)
            found.add(f"no evaluated task has the language '{language}'", where=where, hint=nearest(language, known))
    if not wanted or found.errors:
        return
    for name in evaluated:
        if not set(wanted) & set(tasks[name].all_languages):
            hint = f"add one of {', '.join(tasks[name].all_languages)}, or do not evaluate it"
            found.add(f"the evaluated task '{name}' has none of these", where=recipe.where("languages"), hint=hint)


def _check_new(
    shape: NewEncoder, place: strict_yaml.Place, recipe: Recipe, tasks: Mapping[str, Task], found: Collector
) -> None:
    raw = {name: task for name, task in tasks.items() if task.format.head.kind == "vocabulary"}
    where = recipe.where(*place, "text")
    if shape.given is not None:
        pass
    elif shape.text not in raw:
        found.add(f"'{shape.text}' is not a task of raw text", where=where, hint=nearest("", raw))
    elif not raw[shape.text].trainable:
        texts = [name for name, task in raw.items() if task.trainable]
        found.add(f"'{shape.text}' has no training data", where=where, hint=nearest("", texts))
    for task in (tasks[name] for name in expanded(recipe.evaluate)):
        if (task.format.head.layer or 0) > shape.layers:
            what = f"the encoder has {shape.layers}, but the task '{task.name}' looks at layer {task.format.head.layer}"
            found.add(what, where=recipe.where(*place, "layers"), hint="lower the task's `layer`")


def _check_tokenizers(recipe: Recipe, found: Collector) -> None:
    for place, shape in _shapes(recipe):
        if shape.given is not None:
            with found.catch():
                _check_tokenizer(shape.given, recipe.where(*place, "tokenizer"))


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
