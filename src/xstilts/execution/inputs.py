"""Finds the data and encoder files that each step reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from xstilts import metrics
from xstilts.data.availability import is_misplaced
from xstilts.data.examples import LocatedSplit, locate
from xstilts.data.find import find_or_empty
from xstilts.errors import Collector, IncompleteData, UserError
from xstilts.metrics import local
from xstilts.model import encoder_folder
from xstilts.study.checks import local_metrics
from xstilts.study.plan import Plan
from xstilts.study.step import Step
from xstilts.tasks.source import Source
from xstilts.tasks.task import Split, Task
from xstilts.training.settings import STOP_EXAMPLES, TrainSpec
from xstilts.utils.files import digest
from xstilts.utils.models import encoder_path

FILES = ("config.json", "tokenizer.json", "model.safetensors", "model.safetensors.index.json")
"""The files of an encoder on the Hub that identify its content."""


@dataclass
class StepInputs:
    """The inputs of a plan's steps; `missing` collects languages and splits without files."""

    plan: Plan
    data: Path | None
    missing: list[str] = field(default_factory=list)
    _labelled: dict[str, Task] = field(default_factory=dict)
    _misplaced: dict[tuple[str, Split], bool] = field(default_factory=dict)
    _code: dict[str, dict[str, str]] = field(default_factory=dict)
    """For each of the user's metrics the sha256 of its file."""

    def __post_init__(self) -> None:
        """Load the metrics whose code the recipe trusts, in every process of a run."""
        for task, name in local_metrics(self.plan.recipe, self.plan.tasks):
            if name.partition(":")[0] in self.plan.recipe.trust_local_code:
                self._code[name] = local.load(name, task.code_folder)

    def task(self, name: str) -> Task:
        """A task; if its format needs labels, they are read from the training data.

        Raises:
            UserError: the training data are missing or cannot be read.
        """
        if name not in self._labelled:
            task = self.plan.tasks[name]
            if task.format.needs_labels:
                task = task.model_copy(update={"format": task.format.with_labels_from(self.train_set(task).stream())})
            self._labelled[name] = task
        return self._labelled[name]

    def encoder_name(self, step: Step) -> str:
        """The folder or Hub id of the recipe's encoder, or of a new encoder's tokenizer, with `{data}` filled in."""
        name = step.encoder if step.new is None else step.new.given or ""
        return encoder_path(name, self.data)

    def require_encoder(self, step: Step) -> str:
        """The same name, for loading.

        Raises:
            UserError: the name contains `{data}`, but no data folder was given.
        """
        name = self.encoder_name(step)
        if "{data}" in name:
            what = f"the recipe's {'encoder' if step.new is None else 'tokenizer'} lies beside the data folder"
            raise UserError(what, where=name, hint="give the data folder with --data or XSTILTS_DATA")
        return name

    def train_set(self, task: Task, training: TrainSpec | None = None) -> LocatedSplit:
        """The training examples of a task, without those that its training stops on, before any are drawn.

        Raises:
            MissingData: there are no such files.
        """
        rows = self._all_train_rows(task)
        held_out = None if training is not None and training.weights == "last" else self._stop_source(task)[1]
        return rows if held_out is None else rows.without(held_out)

    def _all_train_rows(self, task: Task) -> LocatedSplit:
        return locate(task, task.data["train"], task.train_languages, self.data, train=True)

    def encoder_files(self, step: Step) -> dict[str, str]:
        """The sha256 of the files of the recipe's encoder if the step starts from it.

        For a step that makes a new encoder: of its given tokenizer's files.
        """
        if step.new is not None:
            return {} if step.new.given is None else encoder_folder.files(self.encoder_name(step))
        return _files(self.encoder_name(step)) if self.plan.starts_from_pretrained(step) else {}

    def metric_files(self, step: Step) -> dict[str, str]:
        """The sha256 of the user's metric files that score a step or stop its training."""
        trained = [self.plan.tasks[part.task] for part in step.parts]
        names = [task.stop_metric for task in trained if self.stop_set(task, step.training) is not None]
        names += self.plan.tasks[step.scoring.task].metrics if step.scoring else ()
        return {path: sha256 for name in names for path, sha256 in self._code.get(name, {}).items()}

    def misplaced(self, task: Task, split: Split) -> bool:
        """Whether the user's task file names files that are there in no language."""
        key = task.name, split
        if key not in self._misplaced:
            self._misplaced[key] = is_misplaced(self.plan.tasks[task.name], split, self.data)  # in all its languages
        return self._misplaced[key]

    def training_sets(self) -> Iterable[LocatedSplit]:
        """The labelled training sets of all steps that exist, each once."""
        seen: set[str] = set()
        for training in (step.training for step in self.plan.steps.values() if step.training is not None):
            for task in (self.plan.tasks[part.task] for part in training.parts):
                if task.format.head.trained:
                    with suppress(UserError):
                        yield from (located for located, _ in _once(self.train_set(task, training), True, seen))

    def splits(self, pending: Sequence[Step], found: Collector) -> Iterable[tuple[LocatedSplit, bool]]:
        """Each split that the steps read, once, and whether it needs labels; errors go to `found`."""
        seen: set[str] = set()
        alike = {_reads(step): step for step in reversed(pending)}
        for step in reversed(alike.values()):
            for part in step.parts:
                task = self.plan.tasks[part.task]
                with found.catch():
                    yield from _once(self.train_set(task, step.training), True, seen)
                for split in ("stop", "dev"):
                    if self.misplaced(task, split):  # or the training would stop on nothing
                        with found.catch():
                            locate(task, task.data[split], task.languages_of(split), self.data)
                with found.catch():
                    if (stop := self.stop_set(task, step.training)) is not None:
                        yield from _once(stop, True, seen)
            if step.new is not None and step.new.text:
                task = self.plan.tasks[step.new.text]
                with found.catch():
                    yield from _once(self.train_set(task), False, seen)
            if step.scoring is not None:
                for language in step.scoring.languages:
                    with found.catch():
                        for located in self.eval_splits(step, language).values():
                            yield from _once(located, False, seen)

    def stop_set(self, task: Task, training: TrainSpec | None = None) -> LocatedSplit | None:
        """The examples for early stopping; None if there are none, or for raw text, or if the last weights count."""
        if training is not None and training.weights == "last":
            return None
        other, held_out = self._stop_source(task)
        if held_out is None:
            return other
        try:
            return self._all_train_rows(task).held_out(held_out, STOP_EXAMPLES)
        except UserError:
            return None

    def _stop_source(self, task: Task) -> tuple[LocatedSplit | None, str | None]:
        """The examples for early stopping, or else the part of the training rows to hold out; both None if none.

        Raises:
            IncompleteData: a part of these examples is missing.
        """
        if not metrics.get(task.stop_metric).higher_is_better:
            return None, None
        try:
            if source := task.stop_source():
                as_planned = self.plan.tasks[task.name]  # accepts labels that are not in the training data
                found = locate(as_planned, source, self._with_files(source, task), self.data, STOP_EXAMPLES, each=True)
                if not task.held_out or found.labelled:
                    return found, None
        except IncompleteData:
            raise
        except UserError:
            pass
        return None, task.held_out

    def _with_files(self, source: Source, task: Task) -> Sequence[str]:
        """The training languages with data for early stopping; if no language has them, all."""
        roots = [] if self.data is None else [self.data]
        codes = task.train_languages
        return [code for code in codes if len(codes) > 1 and find_or_empty(source, code, roots)] or codes

    def stop_notes(self, steps: Sequence[Step]) -> list[str]:
        """A note on each trained task that stops on a part of its training data, or on its test set."""
        held_out, on_test = dict[tuple[str, object], list[str]](), dict[str, list[str]]()
        stopping = [step for step in steps if step.training is not None and step.training.weights == "best"]
        for name in dict.fromkeys(part.task for step in stopping for part in step.parts):
            task = self.plan.tasks[name]
            facts: dict[str, object] = {}
            with suppress(IncompleteData):  # `splits` reports it
                facts = {} if (stop := self.stop_set(task)) is None else self.stop_facts(task, stop)
            code = [] if name == task.name else [*task.train_languages]
            if part := facts.get("held_out"):
                held_out.setdefault((task.name, part), []).extend(code)
            if facts.get("test"):
                on_test.setdefault(task.name, []).extend(code)
        notes = [
            f"{_named(name, codes)}: early stopping uses part {part} of its training data, which is left out of the "
            "training"
            for (name, part), codes in held_out.items()
        ]
        optimistic = "early stopping uses test data, so scores on them are optimistic"
        return notes + [f"{_named(name, codes)}: {optimistic}" for name, codes in on_test.items()]

    def stop_facts(self, task: Task, stop: LocatedSplit) -> dict[str, object]:
        """What a training records of its early stopping: file names, part of the training rows, whether it is test."""
        files = {path for _, found in stop.found for path in found.files}
        held_out = self._stop_source(task)[1]
        on_test = False
        if "test" in task.scored and held_out is None:
            with suppress(UserError):
                test = [found for _, found in locate(task, task.data["test"], task.train_languages, self.data).found]
                on_test = any(
                    found.file.may_share_rows(other.file) and not {*found.files}.isdisjoint(other.files)
                    for _, found in stop.found
                    for other in test
                )
        return {"files": sorted({Path(path).name for path in files}), "held_out": held_out, "test": on_test}

    def eval_splits(self, step: Step, language: str) -> dict[Split, LocatedSplit]:
        """The existing splits of an evaluated task in a language.

        Raises:
            MissingData: dev and test are missing, and the recipe does not skip such languages; or a split of the
                user's own is missing in all languages.
            IncompleteData: a part of either is missing.
        """
        assert step.scoring is not None
        task = self.plan.tasks[step.scoring.task]
        found_splits: dict[Split, LocatedSplit] = {}
        splits = [split for split in task.scored if language in task.languages_of(split)]
        missing, misplaced = Collector(), Collector()
        for split in splits:
            with (misplaced if self.misplaced(task, split) else missing).catch():
                found_splits[split] = locate(task, task.data[split], (language,), self.data, step.scoring.limit)
        if incomplete := [error for error in missing.errors if isinstance(error, IncompleteData)]:
            raise incomplete[0]
        misplaced.raise_any()
        if not found_splits and self.plan.recipe.missing == "error":
            missing.raise_any()
        # many languages have no dev set, so a language with one split is noted only if its test set is missing
        if not found_splits or ("test" in splits and "test" not in found_splits):
            note = f"{task.name} {language}" + (" test" if found_splits else "")
            if note not in self.missing:
                self.missing.append(note)
        return found_splits


def _named(task: str, codes: Sequence[str]) -> str:
    """A task, with the languages that it is trained in one by one."""
    return f"{task} ({', '.join(codes)})" if codes else task


def _reads(step: Step) -> tuple[object, ...]:
    """What decides which splits a step reads."""
    last = step.training is not None and step.training.weights == "last"
    scoring = step.scoring and (step.scoring.task, step.scoring.languages, step.scoring.limit)
    return tuple(part.task for part in step.parts), last, step.new and step.new.text, scoring


def _once(located: LocatedSplit, needs_labels: bool, seen: set[str]) -> Iterable[tuple[LocatedSplit, bool]]:
    key = f"{located.task.format!r} {located.content} {needs_labels}"
    if key not in seen:
        seen.add(key)
        yield located, needs_labels


def _files(name: str) -> dict[str, str]:
    """The sha256 of an encoder's files on this machine."""
    folder = Path(name)
    if not folder.is_dir():
        return encoder_folder.files(name, FILES)
    return {str(path): digest(path) for path in sorted(folder.iterdir()) if path.suffix in (".json", ".safetensors")}
