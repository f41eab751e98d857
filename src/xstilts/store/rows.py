"""What evaluation leaves on disk: score rows, prediction rows, the study that says what they belong to.

Rows are JSON, one a line. Which branch of a study a row belongs to is not written in the row, for a folded step belongs
to several branches; a study's cells say it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from math import isinf, isnan
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, FiniteFloat, Strict, TypeAdapter, ValidationError, ValidationInfo

from xstilts import metrics
from xstilts.utils.files import T, parse_json, write_atomic

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
    chance: FiniteFloat | None = None
    """The score of the best prediction that ignores its input (`Format.trivial_predictions`); None if unknown."""


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
    return [parse_json(one, kind.__name__.lower(), line, f"{path}:{i}") for i, line in lines.items()]


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
    parts = []
    for split in splits:
        values = [score.value for score in scores if (score.metric, score.split) == (metric, split)]
        if values:
            parts.append(f"{split} {sum(values) / len(values):.1f} over {len(values)} languages")
    return ", ".join(parts)
