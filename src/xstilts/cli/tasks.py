"""Commands for tasks and their data: score, tasks, show, data, corpus."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from xstilts.cli.common import DataOption, JsonOption, UseOption, console, print_json, say, screen
from xstilts.errors import UserError, counted

app = typer.Typer()
data_app = typer.Typer(no_args_is_help=True, help="Check data sets, or download them.")
app.add_typer(data_app, name="data")


@app.command()
def score(
    predictions: Annotated[Path, typer.Option(help="Folder of files {task}/test-{language}.tsv, .json or .jsonl.")],
    labels: Annotated[Path, typer.Option(help="Folder of files with the same names.")],
    benchmark: Annotated[
        str, typer.Option(help="xtreme, xtreme-r, or another group of tasks.", metavar="NAME")
    ] = "xtreme",
    as_json: JsonOption = False,
) -> None:
    """Score a folder of predictions in the leaderboard's layout, as the official code does."""
    from xstilts.leaderboard import score as scoring
    from xstilts.reports import draw

    scored = scoring.score(predictions, labels, scoring.benchmark(benchmark), benchmark)
    if as_json:
        print_json(scored.to_json())
        sys.stderr.write("".join(f"{line}\n" for line in scored.warnings()))
    else:
        say(draw(scoring.tables(scored), scored.warnings(), **screen()))


@app.command()
def tasks(as_json: JsonOption = False, data: DataOption = None) -> None:
    """List the built-in tasks."""
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
        say("\nadd --data DIR to see which data exist; --json shows the paths that are searched")


@app.command()
def show(
    task: Annotated[str, typer.Argument(help="A task.")],
    language: Annotated[str, typer.Argument(help="One of its languages.", metavar="LANG")],
    index: Annotated[int, typer.Argument(help="The number of the example, from 0.", min=0)],
    split: Annotated[
        Literal["train", "dev", "test"] | None, typer.Option(help="Default: the first of dev, test, train with files.")
    ] = None,
    data: DataOption = None,
    encoder: Annotated[
        str | None, typer.Option(help="An encoder, to show its tokens; a trained step of a run folder also predicts.")
    ] = None,
    use: UseOption = None,
) -> None:
    """Show one example at every stage: row, example, tokens, targets, and the prediction of a trained step."""
    from xstilts.predict.show import show_example

    for line in show_example(task, language, index, split=split, data=data, encoder=encoder, use=use or []):
        say(line)


@data_app.command("check")
def check_data(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Tasks or groups; default: those of --use, else all.", metavar="[TASK]..."),
    ] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
    use: UseOption = None,
) -> None:
    """Read every split of the tasks, and compare the number of examples with the official number."""
    from rich.table import Table

    from xstilts.data import check
    from xstilts.data.availability import folder
    from xstilts.utils.progress import Progress

    selected = check.select_tasks(names or [], use or [])
    rows = check.check(selected, folder(data), Progress().say)
    missing, mistakes = check.misplaced(selected, rows)
    if as_json:
        print_json([row.to_json() for row in rows])
    else:
        table = Table("task", "split", "languages", "examples", "median length", "labels")
        table.add_column("where", overflow="fold")
        for line in check.summaries(rows):
            table.add_row(*line)
        console().print(table)
        for note in dict.fromkeys(note for row in rows for note in row.notes):
            say(f"note: {note}")
        for message in missing:
            say(f"missing: {message}")
        if lines := check.unlabelled(rows):
            say(f"without labels, so predicted and not scored: {lines}")
    mistakes += dict.fromkeys(problem for row in rows for problem in row.problems)
    if all(row.missing for row in rows) and not mistakes:
        mistakes.append(f"{data or 'no data folder'}: none of these files are there (--data names the data folder)")
    if mistakes:
        raise UserError("\n".join(mistakes))


@data_app.command("fetch")
def fetch_data(
    names: Annotated[list[str], typer.Argument(help="Tasks or groups.", metavar="TASK...")],
    data: DataOption = None,
    use: UseOption = None,
) -> None:
    """Download missing data from the Hugging Face Hub to its local cache, which all commands search."""
    from xstilts.data import check, fetch
    from xstilts.data.availability import folder
    from xstilts.utils.progress import Progress

    fetch.fetch(check.select_tasks(names, use or []), folder(data), Progress().say)


@app.command()
def corpus(
    names: Annotated[
        list[str], typer.Argument(help="Language codes, or the groups xtreme, xtreme-r.", metavar="LANG...")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write {lang}.txt to, such as DATA/mlm_text.", metavar="DIR")],
    sources: Annotated[
        list[str] | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="A Wikipedia dump (.xml.bz2), Parquet, JSON Lines or text; {lang} stands for the code. Default: "
            "Wikipedia on the Hub.",
        ),
    ] = None,
    snapshot: Annotated[str | None, typer.Option(help="A snapshot of Wikipedia on the Hub.")] = None,
    limit: Annotated[int | None, typer.Option(help="Maximum sentences per language, sampled at random.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Seed of the sampling.", min=0)] = 1,
    workers: Annotated[
        int,
        typer.Option(help="Processes that parse a dump's markup; default: one per core.", min=1, show_default=False),
    ] = os.cpu_count() or 1,
) -> None:
    """Make raw text for masked language modelling, one file per language.

    A file made from the same input is not made again.
    """
    from xstilts.corpus.build import SNAPSHOT, WIKIPEDIA, CorpusRequest, build, language_codes
    from xstilts.utils.progress import Progress

    if sources and snapshot:
        raise UserError("cannot be used with --from", where="--snapshot")
    wiki = WIKIPEDIA.replace("{snapshot}", snapshot or SNAPSHOT)
    request = CorpusRequest(tuple(sources or [wiki]), out, limit, seed, workers)
    with Progress() as progress:
        for built in build(language_codes(names), request, progress):
            say(f"{built.path}: {counted(built.sentences, 'sentence')}{'' if built.new else ', already made'}")


def _listed(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


@app.command()
def translate(
    task: Annotated[str, typer.Argument(help="A task with labels.")],
    to: Annotated[str, typer.Option(help="Languages to translate into: de,ru,sw.", metavar="LANGS")],
    engine: Annotated[Literal["command", "hf", "ct2", "playground"], typer.Option(help="What translates.")],
    out: Annotated[Path, typer.Option(help="Folder for the translations.", metavar="DIR")],
    data: DataOption = None,
    source: Annotated[str, typer.Option("--from", help="Languages to translate from.", metavar="LANGS")] = "en",
    split: Annotated[
        str, typer.Option(help="Such as train,dev. Default: those without data in the language.", show_default=False)
    ] = "",
    command: Annotated[
        str,
        typer.Option(help="With --engine command: a program, such as 'apertium -u {from3}-{to3}'.", show_default=False),
    ] = "",
    model: Annotated[str, typer.Option(help="With --engine hf or ct2: a folder or Hub id.", show_default=False)] = "",
    prompt: Annotated[
        str,
        typer.Option(help="For a chat model: 'Translate this from {from} to {to}: {text}'.", show_default=False),
    ] = "",
    limit: Annotated[int | None, typer.Option(help="The first rows of each split.", min=1)] = None,
    markers: Annotated[
        Literal["letters", "html", "brackets", "align"] | None,
        typer.Option(help="Around answers and entities; default: letters. Tags of words: align."),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            help="Data folder with the same rows in the target languages: BLEU and chrF.",
            metavar="DIR",
            show_default=False,
        ),
    ] = None,
    use: UseOption = None,
) -> None:
    """Translate a task's data; labels stay, answers and entities are found again."""
    from xstilts.data.availability import folder
    from xstilts.data.check import select_tasks
    from xstilts.translate.engine import EngineSpec
    from xstilts.translate.translate import TranslationRequest
    from xstilts.translate.translate import translate as translate_task
    from xstilts.utils.progress import Progress

    for selected in select_tasks([task], use or []):
        request = TranslationRequest(
            selected, folder(data), out, EngineSpec(engine, command, model, prompt), _listed(source),
            _listed(to), _listed(split), limit, markers, reference,
        )  # fmt: skip
        with Progress() as progress:
            for line in translate_task(request, progress):
                say(line)
