"""Commands for tasks and their data: score, tasks, show, data, corpus."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from xstilts.cli.common import DataOption, JsonOption, UseOption, as_document, console, say, screen
from xstilts.errors import UserError

app = typer.Typer()
data_app = typer.Typer(no_args_is_help=True, help="Check the data there are, or fetch them.")
app.add_typer(data_app, name="data")


@app.command()
def score(
    predictions: Annotated[Path, typer.Option(help="Files named as {task}/test-{language}.tsv, .json or .jsonl.")],
    labels: Annotated[Path, typer.Option(help="Files of the same names.")],
    benchmark: Annotated[
        str, typer.Option(help="xtreme, xtreme-r, or another group of tasks.", metavar="NAME")
    ] = "xtreme",
    as_json: JsonOption = False,
) -> None:
    """Score a folder in the leaderboard's layout as the official evaluation does."""
    from xstilts.leaderboard import score as scoring
    from xstilts.report import draw

    scored = scoring.score(predictions, labels, scoring.benchmark(benchmark), benchmark)
    if as_json:
        as_document(scored.to_json())
        sys.stderr.write("".join(f"{line}\n" for line in scored.warnings()))
    else:
        say(draw(scoring.tables(scored), scored.warnings(), **screen()))


@app.command()
def tasks(as_json: JsonOption = False, data: DataOption = None) -> None:
    """List the tasks there are."""
    from rich.table import Table

    from xstilts.data.availability import describe, summary

    rows = describe(data)
    if as_json:
        as_document(rows)
        return
    table = Table("task", "format", "main metric", "languages", "train", "dev", "test")
    for row in rows:
        table.add_row(*summary(row, found=data is not None))
    console().print(table)
    say("\n".join(f"{row['task']}: {row['note']}" for row in rows if row["note"]))
    if data is None:
        say("\ngive --data DIR to see what of the data is there; --json says where each file is looked for")


@app.command()
def show(
    task: Annotated[str, typer.Argument(help="A task.")],
    language: Annotated[str, typer.Argument(help="A language of it.", metavar="LANG")],
    index: Annotated[int, typer.Argument(help="Which example, from 0.", min=0)],
    split: Annotated[Literal["train", "dev", "test"] | None, typer.Option()] = None,
    data: DataOption = None,
    encoder: Annotated[
        str | None, typer.Option(help="An encoder, for its pieces; a step of a run folder also predicts.")
    ] = None,
    use: UseOption = None,
) -> None:
    """Follow one row: row, example, pieces, targets, and the prediction of a trained step."""
    from xstilts.predict.show import lines

    for line in lines(task, language, index, split=split, data=data, encoder=encoder, use=use or []):
        say(line)


@data_app.command("check")
def check_data(
    names: Annotated[
        list[str] | None, typer.Argument(help="Tasks, or groups of them; all by default.", metavar="[TASK]...")
    ] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
    use: UseOption = None,
) -> None:
    """Find and read every split of the tasks, and compare the number of examples with the official one."""
    from rich.table import Table

    from xstilts.data import check
    from xstilts.data.availability import folder
    from xstilts.utils.progress import Progress

    rows = check.check(check.chosen(names or [], use or []), folder(data), Progress().say)
    if as_json:
        as_document([row.to_json() for row in rows])
    else:
        table = Table("task", "split", "languages", "examples", "labels")
        table.add_column("where", overflow="fold")
        for line in check.folded(rows):
            table.add_row(*line)
        console().print(table)
        for note in dict.fromkeys(note for row in rows for note in row.notes):
            say(f"note: {note}")
    if problems := list(dict.fromkeys(problem for row in rows for problem in row.problems)):
        raise UserError("\n".join(problems))


@data_app.command("fetch")
def fetch_data(
    names: Annotated[list[str], typer.Argument(help="Tasks, or groups of them.", metavar="TASK...")],
    data: DataOption = None,
    use: UseOption = None,
) -> None:
    """Download what is not there from the Hugging Face Hub; other commands then find it in the Hub's local cache."""
    from xstilts.data import check, fetch
    from xstilts.data.availability import folder
    from xstilts.utils.progress import Progress

    fetch.fetch(check.chosen(names, use or []), folder(data), Progress().say)


@app.command()
def corpus(
    names: Annotated[
        list[str], typer.Argument(help="Codes of languages, or the groups xtreme, xtreme-r.", metavar="LANG...")
    ],
    out: Annotated[Path, typer.Option(help="Where {lang}.txt is written: DATA/mlm_text.", metavar="DIR")],
    places: Annotated[
        list[str] | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="A dump (.xml.bz2), Parquet, JSON Lines or text; {lang} is the code. The Hub's Wikipedia by default.",
        ),
    ] = None,
    snapshot: Annotated[str | None, typer.Option(help="Which of the Hub's copies of Wikipedia.")] = None,
    limit: Annotated[int | None, typer.Option(help="Sentences of a language at most, drawn at random.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Of the drawing.", min=0)] = 1,
    workers: Annotated[
        int, typer.Option(help="Processes that read a dump's markup; the number of cores by default.", min=1)
    ] = os.cpu_count() or 1,
) -> None:
    """Make raw text for masked language modelling, a file each language; what was made of the same stays."""
    from xstilts.corpus.build import SNAPSHOT, WIKIPEDIA, Wish, build, chosen
    from xstilts.utils.progress import Progress

    if places and snapshot:
        raise UserError("goes with the Hub's Wikipedia only, not with --from", where="--snapshot")
    wiki = WIKIPEDIA.replace("{snapshot}", snapshot or SNAPSHOT)
    wish = Wish(tuple(places or [wiki]), out, limit, seed, workers)
    for built in build(chosen(names), wish, Progress()):
        say(f"{built.path}: {built.sentences:,} sentences{'' if built.new else ', there already'}")
