"""Commands that write a first task file and a first recipe: new task, new recipe."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from xstilts.cli.common import say

app = typer.Typer(no_args_is_help=True, help="Write a task file for your data, or a recipe for task files.")


@app.command("task")
def new_task(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Data files of one task, or their folder: CSV, TSV, JSON, Parquet, CoNLL.", metavar="FILE..."
        ),
    ],
    text: Annotated[
        list[str] | None,
        typer.Option(help="A column with texts (without a header its number); twice for a pair.", metavar="COLUMN"),
    ] = None,
    label: Annotated[
        str, typer.Option(help="The column with the labels, or its number.", metavar="COLUMN", show_default=False)
    ] = "",
    lang: Annotated[
        str,
        typer.Option(
            help="The language of files whose names say none; several codes, such as en,ceb, are languages in names.",
            metavar="CODES",
            show_default=False,
        ),
    ] = "",
    name: Annotated[str, typer.Option(help="The task's name.", show_default=False)] = "",
    out: Annotated[
        Path | None, typer.Option(help="The task file. Default: beside the data.", metavar="FILE", show_default=False)
    ] = None,
) -> None:
    """Write a task file for data files: format, columns, labels, languages and splits are guesses to correct."""
    from xstilts.data.columns import Named
    from xstilts.data.new_task import TaskRequest, summary, write_task

    codes = tuple(code.strip() for code in lang.split(",") if code.strip())
    new = write_task(TaskRequest(tuple(files), Named(tuple(text or ()), label), codes, name, out))
    path = quote(str(new.path))
    next_steps = f"correct its guesses, then:\n  xstilts data check --use {path}\n  xstilts new recipe {path}"
    say("\n".join([*summary(new), next_steps]))


@app.command("recipe")
def new_recipe(
    task_files: Annotated[
        list[Path],
        typer.Argument(help="A task file; a second one may have the intermediate task.", metavar="FILE..."),
    ],
    encoder: Annotated[str, typer.Option(help="A Hub id, or a folder.")] = "FacebookAI/xlm-roberta-base",
    intermediate: Annotated[
        str, typer.Option(help="The intermediate task, or none. Default: mnli.", metavar="TASK", show_default=False)
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option(help="The recipe. Default: beside the first task file.", metavar="FILE", show_default=False),
    ] = None,
) -> None:
    """Write a small recipe for task files: their tasks, each without and with an intermediate task before."""
    from xstilts.study.new_recipe import write_recipe

    written = write_recipe(task_files, encoder, intermediate, out)
    path = quote(str(written.path))
    fetch = [f"  xstilts data fetch {name}" for name in written.to_fetch]
    say("\n".join([f"{written.path}: written; next:", *fetch, f"  xstilts check {path}", f"  xstilts run {path}"]))
