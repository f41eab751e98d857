"""Score rows and prediction rows on disk, as JSON lines.

A row does not name its branch, because one step may serve several branches; the cells of a study map steps to branches.
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
from xstilts.errors import counted
from xstilts.formats.pooling import PoolingKind
from xstilts.utils.files import T, parse_json, write_atomic

_ROUNDING = 1e-6
LAYERS = "layers.jsonl"
"""The file of an evaluation with its `LayerScore` rows, if the recipe asks for some."""
OPTIONAL = ("probabilities", "text")
"""The fields that are left out of a row without them."""


def _check_range(value: float, info: ValidationInfo) -> float:
    """Check that a value is in its metric's range; only a perplexity may be infinite."""
    metric = metrics.METRICS.get(info.data.get("metric", ""))
    if isnan(value) or (isinf(value) and (metric is None or metric.percent)):
        raise ValueError("should be a finite number")
    if metric is not None and metric.percent and not -_ROUNDING <= value <= 100 + _ROUNDING:
        raise ValueError("should be a percentage, from 0 to 100")
    return value


@dataclass(frozen=True)
class Score:
    """One metric of one step on one language of a task.

    `value` is in the metric's unit (percent, except perplexity), over `n` examples. `seed` is None if the encoder
    depends on no seed of the study, or is the mean over all seeds; then the row serves every seed.
    """

    task: str
    language: str
    split: str
    metric: str
    value: Annotated[float, Strict(), AfterValidator(_check_range)]
    n: Annotated[int, Strict(), Field(ge=1, lt=2**63)]
    step: str
    encoder: str
    seed: int | None
    chance: FiniteFloat | None = None
    """The score of the best prediction that ignores its input (`Format.trivial_predictions`); None if unknown."""


@dataclass(frozen=True, kw_only=True)
class LayerScore(Score):
    """The same score with another pooling; in a file of its own, so that no view mixes poolings."""

    pooling: PoolingKind
    layers: Annotated[tuple[int, ...], Field(min_length=1)]
    """The pooled hidden states (0: embeddings); several only for `concat`."""


@dataclass(frozen=True)
class Prediction:
    """A step's prediction for the example with this index (from 0), as a JSON value of the task's kind.

    `id` is the user's or the data set's own id of the example, else its index; `reference` is the label, None if the
    split has no labels. A file of an earlier version has no `probabilities`.
    """

    task: str
    language: str
    split: str
    index: int
    id: str
    prediction: Any
    reference: Any
    probabilities: dict[str, float] | None = None
    """Of labels, of the numbers of endings, or of some answers, without those that round to 0; None for other tasks."""
    text: Any = None
    """The text or texts of the example, if the user has asked for them."""


def write_rows(path: Path, rows: Iterable[Score] | Iterable[Prediction]) -> None:
    """Write rows as JSON lines, all or none (see `write_atomic`)."""
    write_atomic(path, "".join(json.dumps(_fields(row), ensure_ascii=False) + "\n" for row in rows))


def _fields(row: Score | Prediction) -> dict[str, Any]:
    """The fields of a row, without optional ones that it lacks."""
    return {name: value for name, value in vars(row).items() if value is not None or name not in OPTIONAL}


def read_rows(path: Path, kind: type[T]) -> list[T]:
    """Read rows of one kind, such as `Score` or `Prediction`.

    Raises:
        UserError: a line is not a row of this kind; names file:line.
    """
    # not `splitlines`: it also splits at U+2028 and the like, which JSON leaves unescaped
    lines = {i: line for i, line in enumerate(path.read_bytes().split(b"\n"), start=1) if line.strip()}
    one, many = _adapters(kind)  # type: ignore[arg-type]  # every class is hashable
    with suppress(ValidationError):  # much faster than line by line
        rows: list[T] = many.validate_json(b"[" + b",\n".join(lines.values()) + b"]")
        if len(rows) == len(lines):
            return rows
    return [parse_json(one, kind.__name__.lower(), line, f"{path}:{i}") for i, line in lines.items()]


def find_row_problem(rows: Sequence[Prediction], scores: Sequence[Score]) -> str:
    """Describe missing or duplicate predictions, compared with the scores' counts; empty if there are none."""
    total = Counter((row.task, row.language, row.split) for row in rows)
    distinct = Counter(key[:3] for key in {(row.task, row.language, row.split, row.index) for row in rows})
    for score in scores:
        key = score.task, score.language, score.split
        if not total[key] == distinct[key] == score.n:
            counts = f"{total[key]:,} rows of {' '.join(key)}, {distinct[key]:,} of them different"
            return f"has {counts}, for {score.n:,} examples"
    return ""


@cache
def _adapters(kind: Hashable) -> tuple[TypeAdapter[Any], TypeAdapter[Any]]:
    row_type: Any = kind
    return TypeAdapter(row_type), TypeAdapter(list[row_type])


def means(scores: Sequence[Score], metric: str, splits: Sequence[str]) -> str:
    """A metric's mean over languages for each split, as text; empty if there are no scores."""
    parts = []
    for split in splits:
        values = [score.value for score in scores if (score.metric, score.split) == (metric, split)]
        if values:
            parts.append(f"{split} {sum(values) / len(values):.1f} over {counted(len(values), 'language')}")
    return ", ".join(parts)


def mean_score(scores: Sequence[Score], metric: str) -> float | None:
    """A metric's mean over languages, on dev if it has dev scores, else on test; None without scores."""
    for split in ("dev", "test"):
        values = [score.value for score in scores if (score.metric, score.split) == (metric, split)]
        if values:
            return sum(values) / len(values)
    return None
