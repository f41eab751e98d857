"""Commands for tasks and their data: score, tasks, show, data, corpus."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from xstilts.cli.common import DataOption, JsonOption, UseOption, console, print_json, say, screen
from xstilts.errors import UserError

app = typer.Typer()
data_app = typer.Typer(no_args_is_help=True, help="Check the data on this machine, or fetch them.")
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
    """Score a folder in the leaderboard's layout as the official code does."""
    from xstilts.leaderboard import score as scoring
    from xstilts.report import draw

    scored = scoring.score(predictions, labels, scoring.benchmark(benchmark), benchmark)
    if as_json:
        print_json(scored.to_json())
        sys.stderr.write("".join(f"{line}\n" for line in scored.warnings()))
    else:
        say(draw(scoring.tables(scored), scored.warnings(), **screen()))


@app.command()
def tasks(as_json: JsonOption = False, data: DataOption = None) -> None:
    """List all tasks."""
    from rich.table import Table

    from xstilts.data.availability import describe, summary

    rows = describe(data)
    if as_json:
        print_json(rows)
        return
    table = Table("task", "format", "main metric", "languages", "train", "dev", "test")
    for row in rows:
        table.add_row(*summary(row, found=data is not None))
    console().print(table)
    say("\n".join(f"{row['task']}: {row['note']}" for row in rows if row["note"]))
    if data is None:
        say("\nadd --data DIR to see which data are there; --json shows where each file is looked for")


@app.command()
def show(
    task: Annotated[str, typer.Argument(help="A task.")],
    language: Annotated[str, typer.Argument(help="One of its languages.", metavar="LANG")],
    index: Annotated[int, typer.Argument(help="The number of the example, from 0.", min=0)],
    split: Annotated[Literal["train", "dev", "test"] | None, typer.Option()] = None,
    data: DataOption = None,
    encoder: Annotated[
        str | None, typer.Option(help="An encoder, to show its tokens; a step of a run folder also predicts.")
    ] = None,
    use: UseOption = None,
) -> None:
    """Show one row at every stage: row, example, tokens, targets, and the prediction of a trained step."""
    from xstilts.predict.show import lines

    for line in lines(task, language, index, split=split, data=data, encoder=encoder, use=use or []):
        say(line)


@data_app.command("check")
def check_data(
    names: Annotated[
        list[str] | None, typer.Argument(help="Tasks or groups; all by default.", metavar="[TASK]...")
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
        print_json([row.to_json() for row in rows])
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
    names: Annotated[list[str], typer.Argument(help="Tasks or groups.", metavar="TASK...")],
    data: DataOption = None,
    use: UseOption = None,
) -> None:
    """Download missing data from the Hugging Face Hub to its local cache, where other commands find them."""
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
    snapshot: Annotated[str | None, typer.Option(help="Which of the Hub's snapshots of Wikipedia.")] = None,
    limit: Annotated[int | None, typer.Option(help="Sentences per language at most, sampled at random.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Seed of the sampling.", min=0)] = 1,
    workers: Annotated[
        int, typer.Option(help="Processes that read a dump's markup; the number of cores by default.", min=1)
    ] = os.cpu_count() or 1,
) -> None:
    """Make raw text for masked language modelling, one file per language; files of the same input are kept."""
    from xstilts.corpus.build import SNAPSHOT, WIKIPEDIA, CorpusRequest, build, chosen
    from xstilts.utils.progress import Progress

    if places and snapshot:
        raise UserError("goes with the Hub's Wikipedia only, not with --from", where="--snapshot")
    wiki = WIKIPEDIA.replace("{snapshot}", snapshot or SNAPSHOT)
    request = CorpusRequest(tuple(places or [wiki]), out, limit, seed, workers)
    for built in build(chosen(names), request, Progress()):
        say(f"{built.path}: {built.sentences:,} sentences{'' if built.new else ', there already'}")
