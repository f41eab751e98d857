"""Resolves a ranking request: the tasks, samples of their data, and the study that measured gains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xstilts.data.availability import folder
from xstilts.data.check import select_tasks
from xstilts.data.examples import locate
from xstilts.errors import Collector, UserError
from xstilts.model.encoder_folder import check
from xstilts.rank.embeddings import Sample, sample
from xstilts.rank.study_gains import StudyGains, check_names, open_study
from xstilts.store.step_record import encoder_of
from xstilts.tasks.task import Task
from xstilts.tasks.user_tasks import with_user_tasks

DEFAULT = "intermediate"
"""The default candidates: the paper's nine."""


@dataclass(frozen=True)
class RankRequest:
    """A ranking request. Names may be groups; empty lists mean the study's tasks, or the paper's nine."""

    targets: Sequence[str]
    among: Sequence[str]
    encoder: str | None = None
    data: Path | None = None
    limit: int = 1000
    """Most examples of a task that are read."""
    use: Sequence[Path] = ()
    run: Path | None = None
    recipe: str | None = None


@dataclass(frozen=True)
class ResolvedRequest:
    """A request whose names are resolved: tasks, samples of their data, the study with the measured gains."""

    targets: list[str]
    among: list[str]
    tasks: Mapping[str, Task]
    samples: Mapping[str, Sample]
    study_gains: StudyGains | None
    encoder: str

    def candidates(self, target: str) -> list[str]:
        """The candidates of a target, without itself."""
        return [name for name in self.among if name != target]


def resolve(request: RankRequest) -> ResolvedRequest:
    """Resolve a request. Every mistake in it is reported at once, before any data are read.

    Raises:
        UserError: lists all mistakes in the request.
    """
    folder(request.data)
    study_gains = open_study(request.run, request.recipe) if request.run else None
    if request.recipe and study_gains is None:
        raise UserError("goes with --run only", where="--recipe")
    tasks = with_user_tasks(request.use)
    found = Collector()
    with found.catch():
        targets = _task_names(
            request.targets, request.use, [*study_gains.targets] if study_gains else [], "a target is missing"
        )
    with found.catch():
        single = [name for name in study_gains.study.branches if name in tasks] if study_gains else [DEFAULT]
        among = _task_names(request.among, request.use, single, "no branch of the study trains on one known task alone")
    found.raise_any()
    given = study_gains is None or bool(request.targets and request.among)
    for name in among:
        if given and name in targets:
            found.add(f"'{name}' is a target and a candidate", hint="leave one of them out")
        if not tasks[name].trainable:
            found.add(f"the candidate '{name}' has no training data")
    if study_gains:
        found.errors += check_names(study_gains, targets, among)
    if len(among) < 2:
        found.add(f"'{''.join(among)}' is the only candidate: there is nothing to rank", where="--among")
    encoder = ""
    with found.catch():
        encoder = _encoder_path(request.encoder or (study_gains.encoder if study_gains else ""), request)
    found.raise_any()
    samples: dict[str, Sample] = {}
    for name in dict.fromkeys([*targets, *among]):
        with found.catch():
            samples[name] = sample(tasks[name], request.data, request.limit)
    if found.errors and study_gains and not request.use:
        found.add("is not given", where="--use", hint="name the files under `use` in the study's recipe")
    found.raise_any()
    if study_gains:
        found.errors += [
            one
            for name in among
            for one in _trained_on_other_data(study_gains, tasks[name], samples[name], request.data)
        ]
    found.raise_any()
    return ResolvedRequest(targets, among, tasks, samples, study_gains, encoder)


def _trained_on_other_data(
    study_gains: StudyGains, task: Task, sample: Sample, data: Path | None
) -> Iterator[UserError]:
    """An error if the study trained a task of this name on other data."""
    files = locate(task, task.data["train"], (sample.language,), data, train=True).files
    if not study_gains.trained_on(task.name, files):
        hint = "give the recipe's own tasks with --use, and its data folder with --data"
        yield UserError(f"the study has trained '{task.name}' on other data", where=next(iter(files)), hint=hint)


def _encoder_path(name: str, request: RankRequest) -> str:
    """The encoder's folder or Hub id.

    Raises:
        UserError: no encoder is named, its folder holds none, or `encoder_of` refuses the name.
    """
    if not name:
        raise UserError("is missing: a folder, or an id of the Hub", where="--encoder")
    place = encoder_of(name, request.data, *([request.run] if request.run else []))
    if (Path(place) / "encoder").is_dir():  # of a step
        place = str(Path(place) / "encoder")
    check(place)
    return place


def _task_names(given: Sequence[str], use: Sequence[Path], default: Sequence[str], nothing: str) -> list[str]:
    """The tasks behind these names, which may be groups, or the default ones."""
    if not (given or default):
        raise UserError(nothing, hint="tasks of a recipe's own are named with --use FILE")
    return [task.name for task in select_tasks(given or default, use)]
