"""Task: the format, data, languages and metrics of a task, and its training defaults."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

from pydantic import Field, PrivateAttr, ValidationInfo, field_validator, model_validator

from xstilts import languages
from xstilts.errors import nearest
from xstilts.formats.base import Format
from xstilts.metrics import METRICS, local
from xstilts.metrics.chunks import miscounted
from xstilts.tasks.source import Source, known_codes, part_numbers
from xstilts.utils.models import Strict

TrainIn: TypeAlias = Literal["listed", "all", "each"]
"""How a task's `train_languages` are given: a list, `all` of its languages together, or `each` by itself."""
Split: TypeAlias = Literal["train", "stop", "dev", "test"]
"""`stop`: the examples for early stopping, if they are not the task's own English dev set."""


class TranslateBack(Strict):
    """The engine that translates predicted answers to the language of the original texts."""

    command: str = ""
    """A program from stdin to stdout. `{from}`, `{to}`, `{from3}`, `{to3}` stand for the languages."""
    model: str = ""
    """A folder or Hub id, perhaps `@revision`."""

    @model_validator(mode="after")
    def _one_engine(self) -> TranslateBack:
        if bool(self.command.strip()) == bool(self.model.strip()):
            raise ValueError("needs either a command or a model")
        try:
            shlex.split(self.command)
        except ValueError as error:
            raise ValueError(f"the command cannot be read: {error}") from error
        return self

    @property
    def program(self) -> str:
        """The program of the command; empty for a model."""
        return next(iter(shlex.split(self.command)), "")


class Task(Strict):
    """What a task is: format, data, languages, metrics, and training defaults.

    `xstilts.load_recipe` makes your own from the fields of docs/recipes.md, and reads the files that they name later.

    >>> from xstilts import load_recipe
    >>> task = load_recipe("quickstart").tasks["play-nli"]
    >>> task.format.name, task.metric, task.languages[:2]
    ('classify', 'accuracy', ('en', 'qaa'))
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=100)
    format: Format
    data: dict[Split, Source]
    languages: tuple[str, ...] = Field(default=("en",), min_length=1)
    more_languages: tuple[str, ...] = ()
    """Languages that XTREME-R adds; scored if a recipe evaluates its group of tasks, or names the languages."""
    metrics: tuple[str, ...] = Field(min_length=1)
    """Names in `metrics.METRICS`, or `module:function` of a user's own; the first is the main one."""
    train_languages: tuple[str, ...] = Field(default=("en",), min_length=1)
    """In a task file also `all` (its languages together) or `each` (a training for each of its languages)."""
    shots: int | None = Field(default=None, ge=1, le=10**9)
    """The training examples of each language that are drawn, by the run's seed; None: all."""
    batch: int = Field(default=32, ge=1, le=10**9)
    epochs: int = Field(default=3, ge=1, le=10**9)
    max_length: int = Field(default=256, ge=8, le=10**6)
    held_out: str | None = Field(default=None, pattern=r"^[1-9]\d*(-[1-9]\d*)?/[1-9]\d*$")
    """The part of the training rows that serves early stopping if no other data with labels do; `10/10` is the last
    tenth. A training that stops on it does not train on it."""
    like: str = ""
    """For a user's task: the built-in task that it is `like`, directly or through others."""
    translated_from: str = ""
    """The language of the original, if `train` is a translation; it is trained with the original's settings."""
    translate_back: TranslateBack | None = None
    """For translated questions: the answers are scored in the original language, against the original answers."""
    pseudo_test: dict[str, dict[Literal["bleu", "chrf"], float]] = Field(default={})
    """The languages whose test set (without one, dev set) is a machine translation, with its BLEU and chrF if known."""
    license: str = ""
    url: str = ""
    note: str = ""
    """What a reader must know before using the scores."""
    _code_folder: Path = PrivateAttr(Path())
    _has_user_data: bool = PrivateAttr(False)
    _train_in: TrainIn = PrivateAttr("listed")
    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    @field_validator("languages", "more_languages", "train_languages")
    @classmethod
    def _known_languages(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return known_codes(value)

    @field_validator("metrics")
    @classmethod
    def _known_metrics(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        form = info.data.get("format")
        for name in value:
            if ":" in name:
                _check_local(name, form)
                continue
            if name not in METRICS:
                raise ValueError(f"no metric '{name}'; {nearest(name, METRICS)}")
            if form is not None and name not in form.supported_metrics:
                raise ValueError(
                    f"{name} does not score the format {form.name}; known: {', '.join(form.supported_metrics)}"
                )
        return value

    @field_validator("held_out")
    @classmethod
    def _leaves_rows(cls, value: str | None) -> str | None:
        if value is not None:
            first, last, parts = part_numbers(value)
            if not first <= last <= parts or (first, last) == (1, parts):
                raise ValueError(f"cannot hold out part {value}; `10/10` is the last tenth")
        return value

    @model_validator(mode="after")
    def _check_files(self) -> Task:
        if twice := set(self.languages) & set(self.more_languages):
            raise ValueError(f"languages and more_languages both have '{min(twice)}'")
        for code in set(self.train_languages) - set(self.all_languages):
            same = [other for other in self.all_languages if languages.base(other) == code]
            if len(same) == 1:
                raise ValueError(f"languages has '{same[0]}', train_languages '{code}'; write one code in both")
        for split, source in self.data.items():
            codes = self.languages_of(split)
            if len(codes) > 1 and not source.per_language:
                raise ValueError(f"data.{split} is the same for all {len(codes)} languages; write {{lang}} in the path")
        return self

    @model_validator(mode="after")
    def _check_translate_back(self) -> Task:
        if self.translate_back is not None and self.format.name != "span":
            raise ValueError(f"translate_back is for answers, which the format {self.format.name} does not predict")
        return self

    @model_validator(mode="after")
    def _check_labels(self) -> Task:
        labels = getattr(self.format, "labels", None)
        if labels and "chunk_f1" in self.metrics and (found := miscounted(labels)):
            raise ValueError(f"{found[0]}; {found[1]}")
        return self

    def stop_source(self) -> Source | None:
        """The data for early stopping: `stop` if the task has it, else its dev set unless the task trains on that."""
        dev = None if self._trains_on("dev", self.train_languages) else self.data.get("dev")
        return self.data.get("stop", dev)

    @property
    def stop_metric(self) -> str:
        """The metric of early stopping: the main one, or on `stop` data, which another task has, the format's."""
        return self.format.metrics[0] if "stop" in self.data else self.metric

    def languages_of(self, split: Split) -> tuple[str, ...]:
        """The languages of a split."""
        of_training = split in ("train", "stop") or (split == "dev" and self.shares_dev)
        return self.train_languages if of_training else self.all_languages

    @property
    def shares_dev(self) -> bool:
        """Whether it has one dev set, which is in the training language, for test sets in other languages."""
        if not self.data.keys() >= {"train", "dev", "test"} or len(self.train_languages) > 1:
            return False
        one_file = not any(file.per_language for layout in self.data["dev"].layouts for file in layout)
        return one_file and self.train_languages != self.all_languages

    @property
    def all_languages(self) -> tuple[str, ...]:
        """All languages with dev or test data."""
        return self.languages + self.more_languages

    @cached_property
    def scored(self) -> tuple[Split, ...]:
        """The splits to score: dev and test, unless they share rows with the training data."""
        splits: tuple[Split, ...] = ("dev", "test")
        return tuple(
            split
            for split in splits
            if split in self.data
            and not self._trains_on(split, [code for code in self.train_languages if code in self.languages_of(split)])
        )

    def _trains_on(self, split: Split, codes: Sequence[str]) -> bool:
        """Whether the training data share rows with a split in one of these languages."""
        train, other = self.data.get("train"), self.data.get(split)
        return train is not None and other is not None and train.overlaps(other, codes)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with other fields, without the cached value of `scored`."""
        copy = super().model_copy(update=update, deep=deep)
        vars(copy).pop("scored", None)
        return copy

    @property
    def catalogue_name(self) -> str:
        """The name of the built-in task that it is like, with its training language unless that is English.

        A task `mnli-small` that is `like: mnli` has the name `mnli`; trained in German, `mnli-de`.
        """
        foreign = self.like and len(self.train_languages) == 1 and languages.base(self.train_languages[0]) != "en"
        return (self.like or self.name) + (f"-{self.train_languages[0]}" if foreign else "")

    @property
    def code_folder(self) -> Path:
        """The folder of the task file that names the metrics; modules of a user's metrics are searched there."""
        return self._code_folder

    @property
    def has_user_data(self) -> bool:
        """Whether a user's task file names its training data; such a task has training defaults of its own."""
        return self._has_user_data

    @property
    def train_in(self) -> TrainIn:
        """How its task file gives `train_languages`."""
        return self._train_in

    def in_language(self, code: str) -> Task:
        """The same task in one language, of a task that is trained in `each`."""
        one = self.model_copy(update={"languages": (code,), "more_languages": (), "train_languages": (code,)})
        one._train_in = "listed"
        return one

    @property
    def origins(self) -> Mapping[str, str]:
        """For a task of a task file: where `batch`, `epochs`, `data` and its other fields come from; else empty."""
        return self._origins

    @property
    def own(self) -> bool:
        """Whether a user's task file names some of its files."""
        return any(source.own for source in self.data.values())

    @property
    def trainable(self) -> bool:
        """Whether it has training data."""
        return "train" in self.data

    @property
    def metric(self) -> str:
        """The main metric's name."""
        return self.metrics[0]


def _check_local(name: str, form: Format | None) -> None:
    """Check that the name of a user's metric is well formed, and that its format has references to score."""
    if not local.NAME.fullmatch(name):
        raise ValueError(f"'{name}' is not `module:function`, such as my_metrics:kappa for my_metrics.py")
    if form is not None and form.head.kind == "vocabulary":
        raise ValueError(f"{name} does not score the format {form.name}; known: {', '.join(form.supported_metrics)}")
