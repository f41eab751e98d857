"""What evaluation leaves on disk: score rows, prediction rows, the study that says what they belong to.

Rows are JSON, one a line. Which branch of a study a row belongs to is not written in the row, for a folded step belongs
to several branches; a study's cells say it.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from math import isinf, isnan
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field, FiniteFloat, Strict, TypeAdapter, ValidationError, ValidationInfo

from xstilts import metrics
from xstilts.errors import UserError

T = TypeVar("T")

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says when there is no room for a file."""
_ROUNDING = 1e-6


def _possible(value: float, read: ValidationInfo) -> float:
    """See that a value can be one of its metric's; only a perplexity grows without end."""
    metric = metrics.METRICS.get(read.data.get("metric", ""))
    if isnan(value) or (isinf(value) and (metric is None or metric.percent)):
        raise ValueError("should be a finite number")
    if metric is not None and metric.percent and not -_ROUNDING <= value <= 100 + _ROUNDING:
        raise ValueError("should be a percentage, from 0 to 100")
    return value


@dataclass(frozen=True)
class Score:
    """One metric of one step on one language of a task.

    `value` is in the metric's unit (percent, but for perplexity), over `n` examples. `seed` is None for an encoder that
    was never trained with a study's seed, or is the mean over all of them; then the row serves every seed.
    """

    task: str
    language: str
    split: str
    metric: str
    value: Annotated[float, Strict(), AfterValidator(_possible)]
    n: Annotated[int, Strict(), Field(ge=1, lt=2**63)]
    step: str
    encoder: str
    seed: int | None
    note: str = ""
    """What a reader must know before believing the number."""
    chance: FiniteFloat | None = None
    """What the best answer that looks at nothing gets (see `Format.blind`); None where that is not told."""


@dataclass(frozen=True)
class Prediction:
    """What a step answered to the example with this index (from 0), as a JSON value in the task's own terms.

    `id` is what the data set calls the example; `reference` is the right answer, None where the split has no labels.
    """

    task: str
    language: str
    split: str
    index: int
    id: str
    prediction: Any
    reference: Any


@dataclass(frozen=True)
class Cell:
    """One evaluation that a study asks for: `steps/<step>/scores.jsonl` holds its rows.

    Several cells may share a step, because equal work is done once.
    """

    branch: str
    seed: int
    task: str
    step: str


@dataclass(frozen=True)
class TaskLine:
    """What a report must know of a task; `metric` is the main one of `metrics`."""

    name: str
    format: str
    metric: str
    metrics: tuple[str, ...]
    languages: tuple[str, ...]
    train_language: str
    note: str = ""
    file: str = ""
    """Which kind of file holds its predictions in the leaderboard's layout."""
    own: bool = False
    """Whether the last phase trains it on its own data."""
    practised: bool = False
    """Whether it is no target: a phase before trains on it, and its own dev data tell how that went."""


@dataclass(frozen=True)
class Study:
    """One recipe as it was planned: its branches, its tasks, the step that holds the rows of each."""

    name: str
    encoder: str
    seeds: tuple[int, ...]
    branches: tuple[str, ...]
    baseline: str | None
    """The branch that gains are measured against."""
    tasks: tuple[TaskLine, ...]
    cells: tuple[Cell, ...]
    baselines: Mapping[str, str] = field(default_factory=dict)
    """For each branch the one that its gains are measured against, if any; several encoders have several."""
    stand_ins: Mapping[str, str] = field(default_factory=dict)
    """What a user's own tasks stand for (see `Task.stands_for`), by their names."""

    steps: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """All steps of the plan, each with those whose encoders it reads: what the recipe needs of its store."""
    kept: tuple[str, ...] = ()
    """Steps whose encoders stay on the disk."""

    @property
    def targets(self) -> tuple[TaskLine, ...]:
        """The tasks that the study is about: all but those whose own scores only tell how a phase before went."""
        return tuple(task for task in self.tasks if not task.practised)

    @property
    def starts(self) -> tuple[str, ...]:
        """The branches that gains are measured against: one for each encoder that has such a branch."""
        return tuple(branch for branch in self.branches if branch in {self.baseline, *self.baselines.values()})

    def against(self, branch: str) -> str | None:
        """The branch that a branch's gains are measured against: its encoder's baseline; None for that itself."""
        other = self.baselines.get(branch, self.baseline)
        return None if other == branch else other

    def without(self, done: Set[tuple[str, str, int | None]]) -> tuple[Cell, ...]:
        """The cells whose task, branch and seed are not among `done`; a seed of None there is every seed."""
        return tuple(
            cell
            for cell in self.cells
            if not done & {(cell.task, cell.branch, cell.seed), (cell.task, cell.branch, None)}
        )

    def facts(self) -> dict[str, Any]:
        """What every report in JSON says of its study."""
        names = ("encoder", "seeds", "branches", "baseline")
        return {"study": self.name, **{name: getattr(self, name) for name in names}}

    def to_json(self) -> str:
        """One JSON document."""
        return TypeAdapter(Study).dump_json(self, indent=1).decode()

    @staticmethod
    def from_json(text: str | bytes, *, where: str = "") -> Study:
        """Read what `to_json` wrote; `where` is the file, for the message.

        Raises:
            UserError: if it is no study.
        """
        study = _parse(TypeAdapter(Study), "study", text, where)
        if unknown := study._unknown():
            raise UserError(f"this is no study: {unknown}", where=where)
        return study

    def _unknown(self) -> str:
        """The first name that one part of the study has of another, and the other has not."""
        parts: dict[str, Collection[object]] = {
            "branch": {*self.branches, None}, "seed": self.seeds, "task": {task.name for task in self.tasks}
        }  # fmt: skip
        asked: list[tuple[str, object]] = [("branch", self.baseline)]
        asked += [("branch", branch) for pair in self.baselines.items() for branch in pair]
        asked += [(part, getattr(cell, part)) for cell in self.cells for part in parts]
        wrong = [f"there is no {part} {name!r}" for part, name in asked if name not in parts[part]]
        wrong += [f"{task.name} has no {task.metric}" for task in self.tasks if task.metric not in task.metrics]
        return next(iter(wrong), "")


def _parse(adapter: TypeAdapter[T], name: str, text: str | bytes, where: str) -> T:
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        raise UserError(f"this is no {name}: {first_mistake(error)}", where=where) from None


def first_mistake(error: ValidationError) -> str:
    """The first thing that a typed model found wrong: the field, and what."""
    first = error.errors()[0]
    field = ".".join(map(str, first["loc"]))
    return f"{field}: {first['msg']}" if field else first["msg"]


def read_study(path: Path) -> Study:
    """What a recipe needs, as `Store.save_study` has written it.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        study = Study.from_json(path.read_bytes(), where=str(path))
        if not path.name.startswith(f"{study.name}."):
            raise UserError(f"is the recipe '{study.name}', and not of that name", where=str(path))
        return study
    except UserError as error:
        hint = "run the recipe again to write it anew, or delete it"
        raise UserError(error.what, where=error.where, hint=hint) from error


def read_json(path: Path) -> Any:
    """The document in a JSON file.

    Raises:
        ValueError: the file holds none, or one that is nested too deep.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("is nested too deep") from error


def write_rows(path: Path, rows: Iterable[Score] | Iterable[Prediction]) -> None:
    """Write rows as JSON lines, all of them or none (see `write_atomic`)."""
    write_atomic(path, "".join(json.dumps(vars(row), ensure_ascii=False) + "\n" for row in rows))


def read_rows(path: Path, kind: type[T]) -> list[T]:
    """Read rows of a kind (`Score`, `Prediction`).

    Raises:
        UserError: for a line that is no such row, with file:line.
    """
    # only "\n" ends a row: JSON leaves U+2028 and its like unescaped, where `splitlines` would break
    lines = {i: line for i, line in enumerate(path.read_bytes().split(b"\n"), start=1) if line.strip()}
    one, many = _adapters(kind)  # type: ignore[arg-type]  # every class is hashable
    with suppress(ValidationError):  # a file at once takes a fraction of the time of its lines one by one
        rows: list[T] = many.validate_json(b"[" + b",\n".join(lines.values()) + b"]")
        if len(rows) == len(lines):
            return rows
    return [_parse(one, kind.__name__.lower(), line, f"{path}:{i}") for i, line in lines.items()]


def missing_or_twice(rows: Sequence[Prediction], scores: Sequence[Score]) -> str:
    """What an evaluation's predictions lack of what its scores are over, or have twice; empty if they are whole."""
    there = Counter((row.task, row.language, row.split) for row in rows)
    different = Counter(at[:3] for at in {(row.task, row.language, row.split, row.index) for row in rows})
    for score in scores:
        key = score.task, score.language, score.split
        if not there[key] == different[key] == score.n:
            rows_of = f"{there[key]:,} rows of {' '.join(key)}, {different[key]:,} of them different"
            return f"has {rows_of}, for {score.n:,} examples"
    return ""


@cache
def _adapters(kind: Hashable) -> tuple[TypeAdapter[Any], TypeAdapter[Any]]:
    known: Any = kind
    return TypeAdapter(known), TypeAdapter(list[known])


def means(scores: Sequence[Score], metric: str, splits: Sequence[str]) -> str:
    """The mean of a metric over the languages of each split, in words; empty if there is none."""
    said = []
    for split in splits:
        values = [score.value for score in scores if (score.metric, score.split) == (metric, split)]
        if values:
            said.append(f"{split} {sum(values) / len(values):.1f} over {len(values)} languages")
    return ", ".join(said)


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a file so that it is there whole or not at all: beside its name, flushed to the disk, renamed.

    Missing folders are made; text is written as UTF-8.

    Raises:
        UserError: when the disk is full; nothing is left behind.
    """
    content = data.encode() if isinstance(data, str) else data
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")  # two machines may write it at once
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        if error.errno in FULL:
            what = f"the disk is full: {len(content):,} bytes could not be written ({error.strerror})"
            hint = "free some space or raise the quota, then run the same command again: finished steps are kept"
            raise UserError(what, where=str(path), hint=hint) from error
        raise
    finally:
        with suppress(OSError):  # it is gone already unless something went wrong
            beside.unlink()
