"""Predicts for files or the standard input, in order, as the rows come."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xstilts import languages
from xstilts.data.lines import STDIN
from xstilts.errors import DataError, Mistakes, UserError, counted, listed
from xstilts.formats.base import Example, Row
from xstilts.predict.inputs import Layout, RowReader, as_they_come
from xstilts.predict.outputs import JsonLines, SameLayout
from xstilts.predict.predictor import CHARACTERS, LOOK_AHEAD, Pool, Predictor, load
from xstilts.utils.models import Precision
from xstilts.utils.progress import CountBar, Progress


@dataclass(frozen=True)
class PredictRequest:
    """What the command is to predict, and how."""

    model: str
    files: tuple[str, ...] = ()
    """Empty: the standard input."""
    task: str | None = None
    language: str = "en"
    columns: Mapping[str, str] = field(default_factory=dict)
    """The names of columns in the files, by the names that the format has for them."""
    layout: Layout | None = None
    same: bool = False
    """Whether to write the input's own layout."""
    pool: str | None = None
    """A file of texts; find each text's neighbours in it."""
    vectors: bool = False
    top: int = 5
    precision: Precision = "auto"


def predict_files(request: PredictRequest, progress: Progress) -> Iterator[str]:
    """Yield the lines to print, those of rows that were computed together at a time.

    Raises:
        UserError: see `predictor.load`; a file cannot be read. After the last row: rows without a prediction.
    """
    files = [STDIN if name == "-" else name for name in request.files] or [STDIN]
    check(request, files)
    predictor, pool = load_requested(request)
    columns = _columns(request.columns, predictor)
    for note in predictor.notes:
        progress.say(note)
    if STDIN in files and sys.stdin.isatty():
        progress.say("reads the terminal, a text a line; Ctrl-D ends")
    reader = RowReader(predictor.format, columns, request.layout, request.language)
    writer = SameLayout(reader.layouts, columns) if request.same else JsonLines(predictor.format)
    truncated = 0
    try:
        for path in files:
            with CountBar(path, _lines_of(path)) as bar:
                for group in as_they_come(reader.rows(path), LOOK_AHEAD, CHARACTERS):
                    rows, results = _predicted(group, predictor, pool, request, reader)
                    truncated += sum("truncated" in result for result in results)
                    yield "".join(writer.write(*row, result) for row, result in zip(rows, results, strict=True))
                    bar.update(group[-1].line)
    except UserError as error:
        if earlier := reader.mistakes.errors:
            raise Mistakes([*earlier, error]) from error
        raise
    finally:
        for note in reader.notes():
            progress.say(note)
        if truncated:
            asked = getattr(predictor.format, "question_length", 0)
            most = f"{predictor.max_length} tokens at most" + (f", {asked} of a question" if asked else "")
            progress.say(f"{counted(truncated, 'row')} not read whole ({most}; `truncated` marks them)")
    if errors := reader.mistakes.errors:
        raise Mistakes([*errors, UserError("rows with these mistakes have no prediction; all others have one")])


def check(request: PredictRequest, files: Sequence[str] = ()) -> None:
    """Refuse options that do not go together, and files that are not there."""
    if request.same and len(files) > 1:
        raise UserError("writes one file at a time", where="--same")
    if request.vectors and request.pool:
        raise UserError("gives neighbours, not vectors; give one of the two", where="--pool")
    code = request.language
    if not languages.well_formed(code) or languages.as_code(code) != code:
        raise UserError(f"unknown language '{code}'", where="--language", hint=languages.hint(code))
    for path in (*files, *([request.pool] if request.pool else [])):
        if path != STDIN and not Path(path).is_file():
            if Path(path).exists() and not Path(path).is_dir():  # a pipe or device, which readers cannot read twice
                raise UserError("is no ordinary file", where=path, hint="copy it to a file first, or give it as stdin")
            raise UserError("is a folder" if Path(path).is_dir() else "no such file", where=path)


def _columns(given: Mapping[str, str], predictor: Predictor) -> dict[str, str]:
    """The columns that `--field` names; without a name before `=` it is the only text.

    Raises:
        UserError: the format has no such column, or several.
    """
    known = dict.fromkeys((*predictor.inputs, *predictor.format.fields)) if predictor.record else predictor.inputs
    columns = {}
    for name, column in given.items():
        if not name and len(predictor.inputs) > 1:
            hint = " ".join(f"--field {one}=COLUMN" for one in predictor.inputs)
            raise UserError("does not say which text is meant", where=f"--field {column}", hint=hint)
        if name and name not in known:
            raise UserError(f"has no '{name}'", where="--field", hint=f"the columns are {listed([*known], 8)}")
        columns[name or predictor.inputs[0]] = column
    return columns


def load_requested(request: PredictRequest) -> tuple[Predictor, Pool | None]:
    """The model, and the texts of the pool with their vectors.

    Raises:
        UserError: see `predictor.load`; a row of the pool's file cannot be read.
    """
    predictor = load(request.model, task=request.task, vectors=request.vectors or request.pool is not None,
                     precision=request.precision)  # fmt: skip
    if request.pool is None:
        return predictor, None
    reader = RowReader(predictor.format, _columns(request.columns, predictor), None, request.language)
    rows = reader.rows(request.pool)
    texts = [str(row.values[predictor.inputs[0]]) for row in rows if _example(row, predictor, reader) is not None]
    reader.mistakes.raise_any()
    if not texts:
        raise DataError("is empty", where=request.pool)
    return predictor, Pool(predictor, texts, request.language)


def _example(row: Row, predictor: Predictor, reader: RowReader) -> Example | None:
    """The example of a row; None if it has a mistake, which is collected."""
    with reader.mistakes.catch():
        return predictor.example(row)
    return None


def _predicted(
    group: Sequence[Row], predictor: Predictor, pool: Pool | None, request: PredictRequest, reader: RowReader
) -> tuple[list[tuple[Row, Example]], Sequence[dict[str, Any]]]:
    """The rows of a group that have no mistake, with their examples and predictions."""
    rows = [(row, example) for row in group if (example := _example(row, predictor, reader)) is not None]
    examples = [example for _, example in rows]
    if pool is not None:
        return rows, pool.neighbours(examples, language=request.language, top=request.top)
    return rows, predictor.results(examples, language=request.language, top=request.top)


def _lines_of(path: str) -> int | None:
    """The lines of a file of text, for the progress bar; None if it has none, or to count them would be no use."""
    if path == STDIN or not sys.stderr.isatty() or Path(path).suffix in (".gz", ".bz2", ".xz", ".parquet", ".json"):
        return None
    with Path(path).open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(2**20), b""))
