"""The command for reports."""

from __future__ import annotations

import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from xstilts.cli.common import DataOption, say, screen
from xstilts.errors import UserError, counted

app = typer.Typer()


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="A run folder, or DIR:RECIPE.", metavar="DIR")],
    recipe: Annotated[str | None, typer.Option(help="The recipe; by default the newest.")] = None,
    layout: Annotated[
        str,
        typer.Option(
            help="Scores: default, brief, overview, languages, benchmark, pseudo. Runs: selection, significance. Why "
            "scores differ by language or layer: wikipedia, families, scripts, transfer, tags, entities, layers. The "
            "paper's tables: "
            "table2, table3, table6, table7, table8, table9, table10, table11, table12, table13, table14, table15.",
            show_default=False,
        ),
    ] = "default",
    beside: Annotated[
        Literal["paper"] | None, typer.Option(help="Show the published numbers and the differences, too.")
    ] = None,
    compare: Annotated[
        str | None,
        typer.Option(
            help="Show the differences from another recipe of this folder, or another DIR or DIR:RECIPE.",
            metavar="OTHER",
        ),
    ] = None,
    format: Annotated[
        Literal["table", "markdown", "csv", "latex", "json", "svg", "html", "submission", "rows"],
        typer.Option(help="The output format; `html` is a page with everything."),
    ] = "table",
    open_page: Annotated[bool, typer.Option("--open", help="Show the page of `--format html` in the browser.")] = False,
    data: DataOption = None,
    to: Annotated[
        Path | None,
        typer.Option(
            help="Output folder of `submission` and `rows`; default: DIR/FORMAT/RECIPE. File of `html`; default: "
            "DIR/report.html, with --compare DIR/comparison.html.",
            metavar="PATH",
        ),
    ] = None,
    select: Annotated[
        Literal["paper", "dev", "english-dev"] | None,
        typer.Option(
            help="How `--format submission` selects the runs in its folder `best`; default: english-dev for your own "
            "tasks, paper for the catalogue's."
        ),
    ] = None,
) -> None:
    """Show the results of a run folder: dev scores if all languages of a task have them, else test scores.

    The layout `benchmark` shows test scores, `selection` the selected run of each task, `significance` tests whether
    branches differ from the baseline. A table of the paper shows only the numbers that the study has. The format
    `submission` writes test predictions and labels as files for the leaderboard; `rows` copies what reports need,
    without encoders and texts, to publish it; `html` writes one page with scores, significance, trainings, examples
    and settings, which needs no network. `--compare` shows the scores of two recipes and their differences.
    The layouts `tags` and `entities` read the training data again, from --data. `svg` draws a layout's figures.
    docs/analyses.md says which layout answers which question about languages.
    """
    given = {"--layout": layout != "default", "--beside": beside is not None, "--select": select is not None}
    given |= {
        "--to": to is not None,
        "--open": open_page,
        f"--format {format}": format in ("html", "submission", "rows"),
    }
    _check_options([option for option, is_given in given.items() if is_given], format, compare)
    from xstilts.reports.report import folder_and_recipe
    from xstilts.reports.report import report as make_report

    if format == "html":
        _write_page(*folder_and_recipe(folder, recipe), compare, to, open_page)
    elif format == "submission":
        _export_predictions(*folder_and_recipe(folder, recipe), to, select)
    elif format == "rows":
        _copy_rows(*folder_and_recipe(folder, recipe), to)
    else:
        shown = make_report(folder, recipe=recipe, layout=layout, beside=beside, compare=compare, data=data)
        say(shown.render(format, **screen()))


def _check_options(given: Sequence[str], format: str, compare: str | None) -> None:
    """Check that these options go together."""
    of_page = ("--to", "--open", "--format html") if format == "html" else ()
    if compare is not None and (refused := [option for option in given if option not in of_page]):
        raise UserError("cannot be used with --compare", where=refused[0])
    own = {"submission": ("--select", "--to"), "rows": ("--to",), "html": ("--to", "--open")}
    allowed = own.get(format, ("--layout", "--beside"))
    for option in given:
        if option not in (*allowed, f"--format {format}"):
            needs = {"--select": "submission", "--to": "submission, rows or html", "--open": "html"}
            cannot = f"cannot be used with --format {format}"
            raise UserError(cannot if format in own else f"needs --format {needs[option]}", where=option)


def _export_predictions(folder: Path, name: str | None, to: Path | None, rule: str | None) -> None:
    from xstilts.leaderboard.export import export_study
    from xstilts.reports import select
    from xstilts.store.run_folder import open_existing

    store = open_existing(folder)
    study = store.study(name)
    selection = select(study, store.scores(study))
    chosen = selection.of(rule) if rule else selection.best()
    written = export_study(store, study, to or folder / "submission" / study.name, chosen)
    for line in written.lines():
        say(line)


def _write_page(folder: Path, name: str | None, compare: str | None, to: Path | None, open_page: bool) -> None:
    from xstilts.analysis.results import read_results
    from xstilts.html.compare import compare_page
    from xstilts.html.page import PAGE, report_page
    from xstilts.reports.report import compare_with
    from xstilts.store.run_folder import open_existing

    if compare is not None:
        _save_page(compare_page(*compare_with(folder, name, compare)), to or folder / "comparison.html", open_page)
        return
    store = open_existing(folder)
    _save_page(report_page(store, read_results(store, name)), to or folder / PAGE, open_page)


def _save_page(page: str, path: Path, open_page: bool) -> None:
    from xstilts.html.render import write_page
    from xstilts.utils.os_errors import as_user_error

    with as_user_error(path):
        write_page(path, page)
    say(str(path))
    if open_page and not webbrowser.open(path.resolve().as_uri()):
        say("no browser was found")


def _copy_rows(folder: Path, name: str | None, to: Path | None) -> None:
    from xstilts.store.rows_only import copy_rows
    from xstilts.store.run_folder import open_existing
    from xstilts.study.disk_usage import format_bytes

    store = open_existing(folder)
    study = store.study(name)
    copied = copy_rows(store, study, to or folder / "rows" / study.name)
    unfinished = f"; {copied.unfinished} are not finished" if copied.unfinished else ""
    say(f"{copied.folder}: the rows of {counted(copied.steps, 'step')}, {format_bytes(copied.bytes)}{unfinished}")
