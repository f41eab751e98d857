"""The commands predict, export and serve."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import typer

from xstilts.cli.common import say
from xstilts.errors import UserError

app = typer.Typer()

ModelArgument = Annotated[
    str,
    typer.Argument(
        help="A trained model: runs/best/RECIPE/TASK, the folder of a step, or a step's id in runs.",
        metavar="FOLDER|STEP",
    ),
]
TaskOption = Annotated[
    str | None, typer.Option(help="The task whose head predicts, if the model has several.", metavar="TASK")
]
PrecisionOption = Annotated[
    Literal["auto", "fp32", "bf16"],  # `Precision` would load pydantic for --help
    typer.Option(help="Of the forward passes; auto: bf16 on a GPU that has it."),
]


@app.command()
def predict(
    model: ModelArgument,
    files: Annotated[
        list[str] | None,
        typer.Argument(help="Texts: lines, JSON lines, CSV, TSV, CoNLL. Default: stdin.", metavar="[FILE]..."),
    ] = None,
    field: Annotated[
        list[str] | None,
        typer.Option(help="The column of the text; for several texts OURS=COLUMN each.", metavar="COLUMN"),
    ] = None,
    input: Annotated[
        Literal["lines", "jsonl", "csv", "tsv", "conll"] | None,
        typer.Option(help="How the rows are laid out, if the file's name does not say it."),
    ] = None,
    same: Annotated[bool, typer.Option("--same", help="Write the input's own layout with columns added.")] = False,
    language: Annotated[
        str, typer.Option(help="Of the texts; only thresholds and few encoders depend on it.", metavar="LANG")
    ] = "en",
    task: TaskOption = None,
    pool: Annotated[
        str | None, typer.Option(help="Find each text's nearest neighbours among these texts.", metavar="FILE")
    ] = None,
    vectors: Annotated[bool, typer.Option("--vectors", help="Write the vector of each text.")] = False,
    top: Annotated[int, typer.Option(help="Answers of a question, or neighbours of a text.", min=1)] = 5,
    precision: PrecisionOption = "auto",
) -> None:
    """Predict for new texts: JSON lines with labels, tags, answers, choices, neighbours or vectors, in order."""
    from xstilts.predict.predict_files import PredictRequest, predict_files
    from xstilts.utils.progress import Progress

    request = PredictRequest(model, tuple(files or ()), task, language, _columns(field), input, same, pool, vectors,
                             top, precision)  # fmt: skip
    for text in predict_files(request, Progress()):
        sys.stdout.write(text)
        sys.stdout.flush()


@app.command()
def export(
    model: ModelArgument,
    out: Annotated[str, typer.Argument(help="The folder to write.", metavar="OUT")],
    to: Annotated[
        Literal["hf", "hf-code", "sentence-transformers", "onnx"], typer.Option(help="What is to load it.")
    ] = "hf",
    task: Annotated[
        str | None, typer.Option(help="The task whose head is exported, if the model has several.", metavar="TASK")
    ] = None,
    card: Annotated[bool, typer.Option("--card", help="Write its card, README.md: scores, data, licences.")] = False,
    push: Annotated[
        str | None, typer.Option(help="Upload it with its card to the Hugging Face Hub.", metavar="OWNER/NAME")
    ] = None,
) -> None:
    """Write a trained model for transformers, sentence-transformers or an ONNX runtime, and compare the two."""
    from xstilts.predict import hub
    from xstilts.predict.export import export

    if push is not None:
        hub.check_push(push)
    found = export(model, out, to, task=task, card=push or (Path(out).resolve().name if card else None))
    for note in found.notes:
        say(note)
    say(f"{found.folder}: {found.reader}, within {found.difference:.0e} of the model on {found.texts} texts")
    if push is not None:
        say(f"{hub.push(found.folder, push)}: uploaded; a new repository is private until you make it public there")


@app.command()
def serve(
    model: ModelArgument,
    host: Annotated[str, typer.Option(help="The address to listen on.", metavar="ADDRESS")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes any free port.", min=0, max=65535)] = 8000,
    task: TaskOption = None,
    vectors: Annotated[bool, typer.Option("--vectors", help="Give the vector of each text.")] = False,
    pool: Annotated[
        str | None, typer.Option(help="Give each text's nearest neighbours among these texts.", metavar="FILE")
    ] = None,
    field: Annotated[list[str] | None, typer.Option(help="The column of the pool's texts.", metavar="COLUMN")] = None,
    queue: Annotated[int, typer.Option(help="Rows that may wait; with more it answers 503, busy.", min=1)] = 2048,
    precision: PrecisionOption = "auto",
) -> None:
    """Answer requests for predictions over HTTP, as JSON, until Ctrl-C."""
    for package in ("starlette", "uvicorn"):
        if find_spec(package) is None:
            raise UserError(f"needs the package {package}", where="serve", hint='pip install "xstilts[serve]"')
    if field and pool is None:
        raise UserError("names the column of a pool's texts; give the file with --pool", where="--field")
    from xstilts.predict import server
    from xstilts.predict.predict_files import PredictRequest, check, load_requested
    from xstilts.utils.progress import Progress

    limits = server.Limits(waiting_rows=queue, rows=min(server.Limits.rows, queue))
    request = PredictRequest(model, task=task, columns=_columns(field), pool=pool, vectors=vectors, precision=precision)
    check(request)
    server.serve(lambda: load_requested(request), Progress(), host=host, port=port, limits=limits)


def _columns(field: list[str] | None) -> dict[str, str]:
    """The columns that `--field` gives, by our names."""
    columns: dict[str, str] = {}
    for text in field or []:
        name, _, column = text.rpartition("=")
        if not column or name in columns:
            raise UserError("names no column" if not column else "is given twice", where=f"--field {text}")
        columns[name] = column
    return columns
