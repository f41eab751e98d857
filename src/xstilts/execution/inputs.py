"""What a run reads: the files of data and encoder that each step needs, found before anything is written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from xstilts import metrics
from xstilts.data.examples import LocatedSplit, locate
from xstilts.errors import Collector, UserError
from xstilts.metrics import local
from xstilts.model import new_encoder
from xstilts.study.checks import local_metrics
from xstilts.study.plan import Plan
from xstilts.study.step import Step
from xstilts.tasks.task import Split, Task
from xstilts.utils.files import digest
from xstilts.utils.models import expand_user

FILES = ("config.json", "tokenizer.json", "model.safetensors", "model.safetensors.index.json")
"""What of an encoder on the Hub tells its content."""
STOP_EXAMPLES = 500
"""Dev examples of each file that early stopping looks at (the paper's first 500)."""


@dataclass
class StepInputs:
    """The inputs of a plan's steps; `missing` gathers languages, or splits, that are left out for want of files."""

    plan: Plan
    data: Path | None
    missing: list[str] = field(default_factory=list)
    _closed: dict[str, Task] = field(default_factory=dict)
    _code: dict[str, dict[str, str]] = field(default_factory=dict)
    """By own metric the file that it comes from, with its sha256."""

    def __post_init__(self) -> None:
        """Load the metrics whose code the recipe trusts; every process of a run does it here."""
        for task, name in local_metrics(self.plan.recipe, self.plan.tasks):
            if name.partition(":")[0] in self.plan.recipe.trust_local_code:
                self._code[name] = local.load(name, task.code_folder)

    def task(self, name: str) -> Task:
        """A task whose format is closed, with the training data if it was left open.

        Raises:
            UserError: the training data that it takes are not there, or cannot be read.
        """
        if name not in self._closed:
            task = self.plan.tasks[name]
            if task.format.needs_labels:
                task = task.model_copy(update={"format": task.format.with_labels_from(self.train_set(task).stream())})
            self._closed[name] = task
        return self._closed[name]

    def encoder_name(self, step: Step) -> str:
        """The recipe's encoder, or the tokenizer given to a new one, as a folder or Hub id, `{data}` filled in."""
        name = step.encoder if step.new is None else step.new.given or ""
        name = name.replace("{data}", str(self.data)) if self.data else name
        return expand_user(name)

    def require_encoder(self, step: Step) -> str:
        """The same, to be loaded now.

        Raises:
            UserError: it lies beside the data folder, and none was given.
        """
        name = self.encoder_name(step)
        if "{data}" in name:
            what = f"the recipe's {'encoder' if step.new is None else 'tokenizer'} lies beside the data folder"
            raise UserError(what, where=name, hint="give the data folder with --data or XSTILTS_DATA")
        return name

    def train_set(self, task: Task) -> LocatedSplit:
        """The examples that a task is trained on.

        Raises:
            MissingData: they are not there.
        """
        return locate(task, task.data["train"], task.train_languages, self.data, train=True)

    def encoder_files(self, step: Step) -> dict[str, str]:
        """The sha256 of the files of the recipe's own encoder, for a step that reads it.

        For a step that makes a new encoder those of the tokenizer that is given to it.
        """
        if step.new is not None:
            return {} if step.new.given is None else new_encoder.files(self.encoder_name(step))
        return _files(self.encoder_name(step)) if self.plan.starts_from_pretrained(step) else {}

    def metric_files(self, step: Step) -> dict[str, str]:
        """The sha256 of the files whose own metrics score a step, or stop its training early."""
        training = [self.plan.tasks[part.task] for part in step.parts]
        names = [task.stop_metric for task in training if self.stop_set(task) is not None]
        names += self.plan.tasks[step.scoring.task].metrics if step.scoring else ()
        return {path: sha256 for name in names for path, sha256 in self._code.get(name, {}).items()}

    def splits(self, pending: Sequence[Step], found: Collector) -> Iterable[tuple[LocatedSplit, bool]]:
        """Every split that the steps read, once, and whether it must have labels; what is missing goes to `found`."""
        seen: set[str] = set()
        for step in pending:
            for part in step.parts:
                task = self.plan.tasks[part.task]
                with found.catch():
                    yield from _once(self.train_set(task), True, seen)
                stop = self.stop_set(task)
                if stop is not None:
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

    def stop_set(self, task: Task) -> LocatedSplit | None:
        """The examples for early stopping; None where there are none, or for text (it takes no part)."""
        source = task.stop_source()
        if source is None or not metrics.get(task.stop_metric).higher_is_better:
            return None
        try:
            open_task = self.plan.tasks[task.name]  # which takes labels that the training data do not have
            return locate(open_task, source, task.train_languages, self.data, STOP_EXAMPLES, each=True)
        except UserError:
            return None

    def eval_splits(self, step: Step, language: str) -> dict[Split, LocatedSplit]:
        """The splits of an evaluated task in a language that are there.

        Raises:
            MissingData: neither dev nor test is there, and the recipe does not say to skip such languages.
        """
        assert step.scoring is not None
        task = self.plan.tasks[step.scoring.task]
        there: dict[Split, LocatedSplit] = {}
        missing = Collector()
        for split in task.scored:
            with missing.catch():
                there[split] = locate(task, task.data[split], (language,), self.data, step.scoring.limit)
        if not there and self.plan.recipe.missing == "error":
            missing.raise_any()
        if not there or ("test" in task.scored and "test" not in there):  # dev is published for few languages
            note = f"{task.name} {language}" + (" test" if there else "")
            if note not in self.missing:
                self.missing.append(note)
        return there


def _once(located: LocatedSplit, needs_labels: bool, seen: set[str]) -> Iterable[tuple[LocatedSplit, bool]]:
    key = f"{located.task.format!r} {located.content} {needs_labels}"
    if key not in seen:
        seen.add(key)
        yield located, needs_labels


def _files(name: str) -> dict[str, str]:
    """The files of an encoder, as far as they are on this machine, with their sha256."""
    folder = Path(name)
    if not folder.is_dir():
        return new_encoder.files(name, FILES)
    return {str(path): digest(path) for path in sorted(folder.iterdir()) if path.suffix in (".json", ".safetensors")}
