"""What is asked of a ranking, made out: tasks, samples of their data, and the study that has measured gains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xstilts.data.availability import folder
from xstilts.data.check import chosen
from xstilts.data.examples import locate
from xstilts.errors import Collector, UserError
from xstilts.model.encoder_folder import check
from xstilts.rank.embeddings import Sample, sample
from xstilts.rank.study_gains import Measured, check_names, measured
from xstilts.tasks.own import with_own
from xstilts.tasks.task import Task
from xstilts.utils.models import expand_user

DEFAULT = "intermediate"
"""Candidates where none are named: the paper's nine."""


@dataclass(frozen=True)
class Wish:
    """What is to be ranked; names may be groups. Empty ones are those of the study, or the paper's nine."""

    targets: Sequence[str]
    among: Sequence[str]
    encoder: str | None = None
    data: Path | None = None
    limit: int = 1000
    """Examples of a task that are looked at, at most."""
    use: Sequence[Path] = ()
    run: Path | None = None
    recipe: str | None = None


@dataclass(frozen=True)
class Asked:
    """A wish made out: tasks, samples of their data, and the study whose gains are looked up."""

    targets: list[str]
    among: list[str]
    tasks: Mapping[str, Task]
    samples: Mapping[str, Sample]
    known: Measured | None
    encoder: str

    def candidates(self, target: str) -> list[str]:
        """Those of a target, which is never its own."""
        return [name for name in self.among if name != target]


def asked(wish: Wish) -> Asked:
    """Make out a wish; every mistake in it is told at once, before data are read."""
    folder(wish.data)
    known = measured(wish.run, wish.recipe) if wish.run else None
    if wish.recipe and known is None:
        raise UserError("goes with --run only", where="--recipe")
    tasks = with_own(wish.use)
    found = Collector()
    with found.catch():
        targets = _names(wish.targets, wish.use, [*known.targets] if known else [], "a target is missing")
    with found.catch():
        single = [name for name in known.study.branches if name in tasks] if known else [DEFAULT]
        among = _names(wish.among, wish.use, single, "no branch of the study trains on one known task alone")
    found.raise_any()
    given = known is None or bool(wish.targets and wish.among)
    for name in among:
        if given and name in targets:
            found.add(f"'{name}' is a target and a candidate", hint="leave one of them out")
        if not tasks[name].trainable:
            found.add(f"the candidate '{name}' has no training data")
    if known:
        found.errors += check_names(known, targets, among)
    if len(among) < 2:
        found.add(f"'{''.join(among)}' is the only candidate: there is nothing to rank", where="--among")
    encoder = ""
    with found.catch():
        encoder = _encoder(wish.encoder or (known.encoder if known else ""), wish.data)
    found.raise_any()
    samples: dict[str, Sample] = {}
    for name in dict.fromkeys([*targets, *among]):
        with found.catch():
            samples[name] = sample(tasks[name], wish.data, wish.limit)
    if found.errors and known and not wish.use:
        found.add("is not given", where="--use", hint="name the files with which the study's recipe brings in tasks")
    found.raise_any()
    if known:
        found.errors += [one for name in among for one in _other_data(known, tasks[name], samples[name], wish.data)]
    found.raise_any()
    return Asked(targets, among, tasks, samples, known, encoder)


def _other_data(known: Measured, task: Task, sample: Sample, data: Path | None) -> Iterator[UserError]:
    """A candidate of whose name the study has a task with other training data."""
    files = locate(task, task.data["train"], (sample.language,), data, train=True).files
    if not known.read(task.name, files):
        hint = "give the recipe's own tasks with --use, and its data folder with --data"
        yield UserError(f"the study has trained '{task.name}' on other data", where=next(iter(files)), hint=hint)


def _encoder(name: str, data: Path | None) -> str:
    """The encoder's folder or Hub id.

    Raises:
        UserError: none is named, its folder cannot be one, or it lies beside a data folder that is not given.
    """
    if not name:
        raise UserError("is missing: a folder, or an id of the Hub", where="--encoder")
    if "{data}" in name and data is None:
        raise UserError("lies beside the data folder", where=name, hint="give the data folder with --data")
    place = expand_user(name.replace("{data}", str(data)))
    check(place)
    return place


def _names(given: Sequence[str], use: Sequence[Path], default: Sequence[str], nothing: str) -> list[str]:
    """The tasks of names that may be groups, or the default ones."""
    if not (given or default):
        raise UserError(nothing, hint="tasks of a recipe's own are named with --use FILE")
    return [task.name for task in chosen(given or default, use)]
