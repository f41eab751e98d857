"""Recipes: a study as the user writes it in YAML, with its encoder, phases of training, and tasks to evaluate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Annotated, Literal

from pydantic import Field, PrivateAttr, model_validator

from xstilts.errors import UserError
from xstilts.formats.base import ClassificationHead
from xstilts.model.shape import NewEncoder
from xstilts.study.phase import Name, Names, OuterSettings, Phase, Settings, duplicates
from xstilts.tasks.task import Task
from xstilts.tasks.user_tasks import task_file
from xstilts.utils import yaml as strict_yaml
from xstilts.utils.models import PathText, Seed, Strict
from xstilts.utils.yaml import KeyPathError

TaskName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=100)]


class Start(Strict):
    """One of several encoders of a study, with settings of its own."""

    encoder: PathText | NewEncoder
    settings: OuterSettings = Settings()
    """These override the recipe's settings; a phase's settings override these."""


Keep = Literal["best", "all", "intermediate", "none"]
"""The encoders that stay on the disk when the steps that start from them are done."""


class Recipe(Strict):
    """A study: an encoder, phases with choices, seeds, and the tasks to evaluate. `xstilts.load_recipe` makes it.

    >>> from xstilts import load_recipe
    >>> recipe = load_recipe("quickstart")
    >>> recipe.name, recipe.seeds, [phase.name for phase in recipe.phases]
    ('quickstart', (1, 2), ['pretrain', 'intermediate', 'target'])
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    encoder: PathText | NewEncoder | None = None
    """A Hub id (`name@revision`), a folder (`{data}` is the data folder), or the shape of a new encoder."""
    encoders: dict[Name, Start] | None = Field(default=None, min_length=2)
    """Several encoders, by the names that reports give them; each has its own branches and its own baseline."""
    phases: tuple[Phase, ...] = Field(min_length=1)
    evaluate: Names
    ensembles: dict[TaskName, Names] = Field(default={})
    """Means of the predictions of several evaluated tasks, each by the name that reports give it."""
    seeds: tuple[Seed, ...] = Field(default=(1, 2, 3), min_length=1)
    settings: OuterSettings = Settings()
    """For all phases; a phase's own override them."""
    languages: tuple[str, ...] | None = Field(default=None, min_length=1)
    """The languages to score; by default all languages of each task."""
    missing: Literal["error", "skip"] = "error"
    """Whether a language without files is an error or is left out."""
    use: tuple[PathText, ...] = ()
    """YAML files with the user's own tasks, beside the recipe."""
    first_piece: Literal["literal", "written"] | None = None
    """The `first_piece` of its tag tasks that name none of their own (`formats/tag.py`)."""
    head: ClassificationHead = "stock"
    """The head of classification and multiple choice."""
    keep: Keep = "best"
    """`best`: of each target the best run on dev. `intermediate`: the encoders that a later training starts from."""
    trust_remote_code: str | None = None
    """The name of the encoder whose own code may run."""
    trust_local_code: tuple[str, ...] = ()
    """What may run: the user's own Python modules, as metrics of the tasks, and programs that translate answers."""
    note: str = Field(default="", max_length=1000)
    """What a reader of the plan must know."""
    _document: strict_yaml.Document | None = PrivateAttr(None)
    _command: str = PrivateAttr("")
    _tasks: Mapping[str, Task] | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        for i in duplicates(self.seeds):
            raise KeyPathError(f"seeds names {self.seeds[i]} twice", "seeds", i)
        for i in duplicates(phase.name for phase in self.phases):
            raise KeyPathError(f"two phases are called '{self.phases[i].name}'", "phases", i, "name")
        for i, phase in enumerate(self.phases[:-1]):
            if phase.each is not None:
                raise KeyPathError("only the last phase can have each", "phases", i, "each")
        if self.encoder is None and self.encoders is None:
            raise ValueError("needs either encoder or encoders")
        if self.encoder is not None and self.encoders is not None:
            raise KeyPathError("both encoder and encoders are given: remove one", "encoders")
        own = self.own_encoders
        for i, phase in enumerate(self.phases):
            if own and phase.choices is not None:
                message = f"would not reach the target with the encoder {own[0]}: train it in a recipe of its own"
                raise KeyPathError(message, "phases", i)
        if self.trust_remote_code not in (None, *(start.encoder for start in self.starts.values()), *own):
            raise KeyPathError("must be the name of the encoder", "trust_remote_code")
        return self

    @property
    def tasks(self) -> Mapping[str, Task]:
        """The tasks that it may name, the built-in ones among them.

        Raises:
            UserError: nobody has read and checked it with its tasks.
        """
        if self._tasks is None:
            raise UserError("is not checked yet", where=self.name, hint="make it with xstilts.load_recipe")
        return self._tasks

    def note_tasks(self, tasks: Mapping[str, Task]) -> None:
        """Remember the tasks that it may name."""
        self._tasks = tasks

    @property
    def own_encoders(self) -> tuple[str, ...]:
        """The encoders of single targets."""
        starts = [start.settings for start in (self.encoders or {}).values()]
        places = [self.settings, *(phase.settings for phase in self.phases), *starts]
        of_tasks = (settings for place in places for settings in (place.tasks or {}).values())
        return tuple(settings.encoder for settings in of_tasks if settings.encoder is not None)

    def where(self, *path: str | int) -> str:
        """The place of a part of the recipe, for a message; has file and line if the recipe came from a file."""
        return self._document.where(path) if self._document else f"{self.name}: {strict_yaml.dotted(path)}"

    def note_document(self, document: strict_yaml.Document) -> None:
        """Remember the file that the recipe came from, for messages and for the origins of its settings."""
        self._document = document
        self.settings.note_origins(document, ("settings",))
        for name, start in (self.encoders or {}).items():
            start.settings.note_origins(document, ("encoders", name, "settings"))
        for i, phase in enumerate(self.phases):
            phase.settings.note_origins(document, ("phases", i, "settings"))

    def note_command(self, name: str, scale: str) -> None:
        """Remember how the recipe was named, for the command that runs it."""
        self._command = f"xstilts run {quote(name)}" + (f" --scale {quote(scale)}" if scale else "")

    @property
    def command(self) -> str:
        """The command that runs it; empty if it came from no file."""
        return self._command

    @property
    def text(self) -> str:
        """Its file as it was written, or a mapping as YAML; empty if nobody has read it."""
        return self._document.text if self._document else ""

    def data_check_options(self, data: Path | None) -> str:
        """The options with which `xstilts data check` finds the recipe's tasks and files."""
        folder = self._document.path.parent if self._document else Path()
        uses = "".join(f" --use {quote(str(task_file(folder, use)))}" for use in self.use)
        return uses + (f" --data {quote(str(data))}" if data else "")

    @property
    def starts(self) -> Mapping[str, Start]:
        """The encoders that the study starts from, by name; a single encoder has an empty name."""
        if self.encoders is not None:
            return self.encoders
        assert self.encoder is not None, "one of the two is given"
        return {"": Start(encoder=self.encoder)}
