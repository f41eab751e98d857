"""The command for reports."""

from __future__ import annotations

import webbrowser
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from xstilts.cli.common import DataOption, say, screen
from xstilts.errors import UserError, counted, nearest

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
    folder, recipe = _folder_and_recipe(folder, recipe)
    if compare is not None:
        _compare(folder, recipe, compare, format, to, open_page)
    elif format == "submission":
        _export_predictions(folder, recipe, to, select)
    elif format == "rows":
        _copy_rows(folder, recipe, to)
    elif format == "html":
        _write_page(folder, recipe, to, open_page)
    else:
        show_report(folder, recipe, layout, format, beside is not None, data)


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


def show_report(
    folder: Path, name: str | None, layout: str = "default", format: str = "table", beside: bool = False,
    data: Path | None = None,
) -> None:  # fmt: skip
    """Print a recipe's report; by default of the newest recipe."""
    from xstilts.analysis.results import read_results
    from xstilts.reports import layouts, render
    from xstilts.store.run_folder import open_existing
    from xstilts.store.step_record import StepState
    from xstilts.store.train_data import train_examples

    layouts.check(layout, beside=beside)
    store = open_existing(folder)
    results = read_results(store, name)
    reader = partial(train_examples, store, data, results.study)
    by_layer = partial(store.layer_scores, results.study)
    results = replace(results, beside=beside, train_examples=reader, layer_scores=by_layer)
    study = results.study
    recipes = [*store.recipes()]
    others = f"recipes here, the last started last: {', '.join(recipes)}; shown: {study.name}"
    if not results.scores and format == "table":
        done = sum(store.state(id) is not StepState.MISSING for id in study.steps)
        say(f"{study.name}: no scores yet; done: {done:,} of {counted(len(study.steps), 'step')}")
        for note in results.notes:
            say(f"note: {note}")
        if len(recipes) > 1:
            say(others)
    else:
        shown = layouts.show(results, layout)
        legend = [*shown.legend, *([others] if len(recipes) > 1 else [])]
        say(render(replace(shown, legend=legend, facts={**shown.facts, "recipes": recipes}), format, **screen()))


def _folder_and_recipe(folder: Path, recipe: str | None) -> tuple[Path, str | None]:
    """The parts of `DIR:RECIPE`; a recipe alone is one of the default run folder."""
    if folder.exists() or recipe is not None:
        return folder, recipe
    if (Path("runs") / "recipes" / f"{folder}.json").is_file():
        return Path("runs"), str(folder)
    before, _, name = str(folder).rpartition(":")
    return (Path(before), name) if before else (folder, None)


def _compare(
    folder: Path, recipe: str | None, other: str, format: str, to: Path | None, open_page: bool
) -> None:  # fmt: skip
    from xstilts.analysis.results import read_results
    from xstilts.reports import render
    from xstilts.reports.recipe_comparison import Side, compare_recipes
    from xstilts.store.run_folder import open_existing
    from xstilts.store.study_differences import difference_notes

    store = open_existing(folder)
    there, name = (folder, other) if other in store.recipes() else _folder_and_recipe(Path(other), None)
    if not there.exists() and name is None:
        hint = nearest(other, store.recipes())
        raise UserError(f"'{other}' is no recipe of {folder}, and no run folder", where="--compare", hint=hint)
    stores = store, open_existing(there)
    results = read_results(store, recipe), read_results(stores[1], name)
    same_folder = folder.resolve() == there.resolve()
    places = zip((folder, there), results, strict=True)
    labels = [x.study.name if same_folder else f"{place}:{x.study.name}" for place, x in places]
    if labels[0] == labels[1]:
        hint = "--recipe names the first one"
        raise UserError(f"'{labels[0]}' is compared with itself", where="--compare", hint=hint)
    studies = [(label, of, x.study) for label, of, x in zip(labels, stores, results, strict=True)]
    sides = Side(labels[0], results[0]), Side(labels[1], results[1])
    shown = compare_recipes(*sides, notes=difference_notes(*studies))
    if format == "html":
        from xstilts.html.compare import compare_page

        _save_page(compare_page(shown, *sides), to or folder / "comparison.html", open_page)
    else:
        say(render(shown, format, **screen()))


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


def _write_page(folder: Path, name: str | None, to: Path | None, open_page: bool) -> None:
    from xstilts.analysis.results import read_results
    from xstilts.html.page import PAGE, report_page
    from xstilts.store.run_folder import open_existing

    store = open_existing(folder)
    _save_page(report_page(store, read_results(store, name)), to or folder / PAGE, open_page)


def _save_page(page: str, path: Path, open_page: bool) -> None:
    from xstilts.utils.files import write_atomic
    from xstilts.utils.os_errors import as_user_error

    with as_user_error(path):
        write_atomic(path, page)
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
