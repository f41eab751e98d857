"""Recipes: in which order an encoder learns what; YAML in, every mistake reported at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, PrivateAttr, model_validator

from xstilts.model.shape import NewEncoder
from xstilts.study.phase import Name, Names, Phase, Settings, duplicates
from xstilts.utils import yaml as strict_yaml
from xstilts.utils.models import PathText, Seed, Strict
from xstilts.utils.yaml import PartError


class Start(Strict):
    """One of several encoders of a study, with settings of its own."""

    encoder: PathText | NewEncoder
    settings: Settings = Settings()
    """They override the recipe's; a phase's override them."""


Keep = Literal["all", "intermediate", "none"]
"""Which encoders stay on the disk when the steps that start from them are done."""


class Recipe(Strict):
    """A study: an encoder, phases with choices, seeds, and the tasks to evaluate."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    encoder: PathText | NewEncoder | None = None
    """A Hub id (`name@revision`), a folder (`{data}` is the data folder), or the shape of a new encoder."""
    encoders: dict[Name, Start] | None = Field(default=None, min_length=2)
    """Several encoders, by the names that reports give them; each has its own branches and its own baseline."""
    phases: tuple[Phase, ...] = Field(min_length=1)
    evaluate: Names
    seeds: tuple[Seed, ...] = Field(default=(1, 2, 3), min_length=1)
    settings: Settings = Settings()
    """For all phases; a phase's own override them."""
    languages: tuple[str, ...] | None = Field(default=None, min_length=1)
    """The languages that are scored; by default all of a task."""
    missing: Literal["error", "skip"] = "error"
    """Whether a language without files is an error or is left out."""
    use: tuple[PathText, ...] = ()
    """YAML files with the user's own tasks, beside the recipe."""
    keep: Keep = "intermediate"
    """`intermediate`: those that a later training starts from."""
    trust_remote_code: str | None = None
    """The encoder whose own code may run, by its name."""
    trust_local_code: tuple[str, ...] = ()
    """The user's own Python modules whose code may run, as metrics of the tasks."""
    _document: strict_yaml.Document | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        for i in duplicates(self.seeds):
            raise PartError(f"seeds names {self.seeds[i]} twice", "seeds", i)
        for i in duplicates(phase.name for phase in self.phases):
            raise PartError(f"two phases are called '{self.phases[i].name}'", "phases", i, "name")
        for i, phase in enumerate(self.phases[:-1]):
            if phase.each is not None:
                raise PartError("only the last phase can have each", "phases", i, "each")
        if self.encoder is None and self.encoders is None:
            raise ValueError("needs either encoder or encoders")
        if self.encoder is not None and self.encoders is not None:
            raise PartError("encoder and encoders are both there: remove one", "encoders")
        if self.trust_remote_code not in (None, *(start.encoder for start in self.starts.values())):
            raise PartError("must be the name of the encoder", "trust_remote_code")
        return self

    def where(self, *path: str | int) -> str:
        """A part of the recipe for a message: with file and line if it was read from a file."""
        return self._document.where(path) if self._document else f"{self.name}: {strict_yaml.dotted(path)}"

    @property
    def starts(self) -> Mapping[str, Start]:
        """The encoders that the study starts from, by name; the name of a single one is empty."""
        if self.encoders is not None:
            return self.encoders
        assert self.encoder is not None, "one of the two is there"
        return {"": Start(encoder=self.encoder)}
