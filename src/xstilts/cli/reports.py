"""The command for reports."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from xstilts.cli.common import say, screen
from xstilts.errors import UserError, counted

app = typer.Typer()


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="A run folder.", metavar="DIR")],
    recipe: Annotated[str | None, typer.Option(help="The recipe; by default the newest.")] = None,
    layout: Annotated[
        str,
        typer.Option(
            help="default, brief, overview, languages, benchmark, selection, significance, or a table of the paper: "
            "table2, table3, table6, table7, table8, table9, table10, table11, table12, table13, table14, table15.",
            show_default=False,
        ),
    ] = "default",
    beside: Annotated[
        Literal["paper"] | None, typer.Option(help="Show the published numbers and the differences, too.")
    ] = None,
    format: Annotated[
        Literal["table", "markdown", "csv", "latex", "json", "submission", "rows"],
        typer.Option(help="The output format."),
    ] = "table",
    to: Annotated[
        Path | None,
        typer.Option(help="Output folder of `submission` and `rows`; default: DIR/FORMAT/RECIPE.", metavar="FOLDER"),
    ] = None,
    select: Annotated[
        Literal["paper", "dev", "english-dev"] | None,
        typer.Option(
            help="How `--format submission` selects the runs in its folder `best`; default: english-dev for your own "
            "tasks, paper for the catalogue's."
        ),
    ] = None,
) -> None:
    """Show the results of a run folder: dev scores if the task has a dev set, else test scores.

    The layout `benchmark` shows test scores, `selection` the selected run of each task, `significance` tests whether
    branches differ from the baseline. A table of the paper shows only the numbers that the study has. The format
    `submission` writes test predictions and labels as files for the leaderboard; `rows` copies what reports need,
    without encoders and texts, to publish it.
    """
    given = {"--layout": layout != "default", "--beside": beside is not None, "--select": select is not None}
    if format in ("submission", "rows"):
        for option in ("--layout", "--beside") if format == "submission" else given:
            if given[option]:
                raise UserError(f"cannot be used with --format {format}", where=option)
    if format == "submission":
        _export_predictions(folder, recipe, to, select)
    elif format == "rows":
        _copy_rows(folder, recipe, to)
    elif select is not None:
        raise UserError("needs --format submission", where="--select")
    elif to is not None:
        raise UserError("needs --format submission or rows", where="--to")
    else:
        show_report(folder, recipe, layout, format, beside is not None)


def show_report(
    folder: Path, name: str | None, layout: str = "default", format: str = "table", beside: bool = False
) -> None:
    """Print a recipe's report; by default of the newest recipe."""
    from xstilts.report import StudyResults, layouts, render
    from xstilts.store.label_notes import cause_notes, label_notes, unscored_steps
    from xstilts.store.run_folder import open_existing
    from xstilts.store.step_record import StepState

    layouts.check(layout, beside=beside)
    store = open_existing(folder)
    study = store.study(name)
    scores = store.scores(study)
    notes = [*store.notes(study), *cause_notes(store, study, scores), *label_notes(store, study)]
    recipes = [*store.recipes()]
    others = f"recipes here, the newest last: {', '.join(recipes)}; shown: {study.name}"
    if not scores and format == "table":
        done = sum(store.state(id) is not StepState.MISSING for id in study.steps)
        say(f"{study.name}: no scores yet; done: {done:,} of {counted(len(study.steps), 'step')}")
        for note in notes:
            say(f"note: {note}")
        if len(recipes) > 1:
            say(others)
    else:
        unscored = unscored_steps(store, study, scores)
        results = StudyResults(study, scores, store.predictions, notes, beside, store.example_scores, unscored)
        shown = layouts.show(results, layout)
        legend = [*shown.legend, *([others] if len(recipes) > 1 else [])]
        say(render(replace(shown, legend=legend, facts={**shown.facts, "recipes": recipes}), format, **screen()))


def _export_predictions(folder: Path, name: str | None, to: Path | None, rule: str | None) -> None:
    from xstilts.leaderboard.export import export_study
    from xstilts.report import select
    from xstilts.store.run_folder import open_existing

    store = open_existing(folder)
    study = store.study(name)
    selection = select(study, store.scores(study))
    chosen = selection.of(rule) if rule else selection.best()
    written = export_study(store, study, to or folder / "submission" / study.name, chosen)
    for line in written.lines():
        say(line)


def _copy_rows(folder: Path, name: str | None, to: Path | None) -> None:
    from xstilts.store.rows_only import copy_rows
    from xstilts.store.run_folder import open_existing
    from xstilts.study.disk_usage import format_bytes

    store = open_existing(folder)
    study = store.study(name)
    copied = copy_rows(store, study, to or folder / "rows" / study.name)
    unfinished = f"; {copied.unfinished} are not finished" if copied.unfinished else ""
    say(f"{copied.folder}: the rows of {counted(copied.steps, 'step')}, {format_bytes(copied.bytes)}{unfinished}")
