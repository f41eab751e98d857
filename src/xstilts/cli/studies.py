"""Commands for studies: check, plan, run, gc, report."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from xstilts.cli.common import DataOption, JsonOption, RecipeArgument, ScaleOption, as_document, console, say, screen
from xstilts.errors import UserError

if TYPE_CHECKING:
    from xstilts.execution.ray import Cluster

app = typer.Typer()

LISTED = 100
"""Steps beyond which a plan does not list them."""
MANY = 4
"""Tasks beyond which a run shows the overview only, not a table for each."""


@app.command()
def check(recipe: RecipeArgument, scale: ScaleOption = "full") -> None:
    """Say everything that is wrong with a recipe."""
    from xstilts.study.load import read
    from xstilts.study.plan import plan as lay_out

    made = lay_out(*read(recipe, scale))
    say(f"{recipe}: nothing wrong; {made.trainings} trainings, {made.evaluations} evaluations")
    for note in made.notes:
        say(note)


@app.command()
def plan(
    recipe: RecipeArgument,
    scale: ScaleOption = "full",
    out: Annotated[Path, typer.Option(help="The run folder, for what is done there.")] = Path("runs"),
    data: DataOption = None,
    probe: Annotated[bool, typer.Option("--probe", help="Measure a few updates of each kind, to say hours.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the steps of a recipe, what is done of it, what is not there, and what disk it takes.

    Needs neither data nor weights, but with --probe, which says how long it takes on this machine.
    """
    from rich.table import Table

    from xstilts.store.run_folder import MARK, existing
    from xstilts.study import disk_usage
    from xstilts.study.load import read
    from xstilts.study.plan import plan as lay_out

    made = lay_out(*read(recipe, scale))
    store = existing(out) if (out / MARK).is_file() else None  # plans need no run folder
    done = [id for id in made.steps if store.state(id).has_results] if store else []
    absent, disks = made.absent(data), disk_usage.estimate(made, data)
    hours = _hours(made, data) if probe else None
    if as_json:
        known = [one.to_json() for one in disks]
        more = {"done": done, "absent": absent, "disk": known[0] if len(known) == 1 else known}
        as_document(made.to_json() | more | ({"hours": hours.to_json()} if hours else {}))
        return
    if len(made.steps) <= LISTED:
        table = Table("step", "from", "seed", "what")
        for step in made.steps.values():
            origin = " ".join(step.parents) or step.encoder
            mark = "done: " if step.id in done else ""
            table.add_row(step.id, origin, "" if step.seed is None else str(step.seed), mark + step.title)
        console().print(table)
    else:
        say(f"{len(made.steps):,} steps, listed with --json")
    folded = made.trainings_before_folding - made.trainings
    scored = f"{'at most ' if absent else ''}{made.evaluations:,} pairs of task and language scored"
    say(f"{made.trainings:,} trainings ({folded} equal ones folded), {scored}")
    if done:
        say(f"done in {out}: {len(done):,} of {len(made.steps):,} steps")
    for name, one in zip(made.parts or [""], disks, strict=True):
        say(f"{name}: {one.line()}" if name else one.line())
    for line in hours.lines() if hours else ():
        say(line)
    if absent and data is None:
        say("not there without --data: " + ", ".join(dict.fromkeys(line.partition(":")[0] for line in absent)))
    elif absent:
        say("\n  ".join(["not there:", *absent]))


def _hours(made: Any, data: Path | None) -> Any:
    from xstilts.execution.time_estimate import probe  # torch from here on
    from xstilts.utils.progress import Progress

    return probe(made, data, Progress())


@app.command()
def run(
    recipe: RecipeArgument,
    scale: ScaleOption = "full",
    out: Annotated[Path, typer.Option(help="The run folder; what is done there is not done again.")] = Path("runs"),
    data: DataOption = None,
    checkpoint: Annotated[
        float,
        typer.Option(help="Minutes of a training that a kill loses at most.", min=0, metavar="MINUTES"),
    ] = 10,
    tokens: Annotated[
        int | None, typer.Option(help="Tokens of a batch that are computed at once; less takes less memory.", min=1)
    ] = None,
    compile: Annotated[bool, typer.Option("--compile", help="Let torch compile the trainings' forward pass.")] = False,
    runner: Annotated[
        Literal["local", "ray"], typer.Option(help="Where the steps are done: on this machine, or on a cluster.")
    ] = "local",
    workers: Annotated[
        int | None,
        typer.Option(
            help="Steps at once, each with a GPU or its share of the cores; 1, with ray all there is room for.", min=1
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(envvar="RAY_ADDRESS", help="A Ray cluster; without it, ray starts one here.", metavar="HOST:PORT"),
    ] = None,
    gpus: Annotated[
        float | None, typer.Option(help="With ray, of each worker: 1, a part of one such as 0.5, or 0.", min=0, max=1)
    ] = None,
) -> None:
    """Do a recipe, or what is left of it, and show the table."""
    from xstilts.study.load import read
    from xstilts.study.plan import plan as lay_out
    from xstilts.utils.progress import Progress, second

    made = lay_out(*read(recipe, scale))
    from xstilts.execution.run import Resources  # torch from here on
    from xstilts.execution.run import run as do

    resources = Resources(checkpoint, tokens, compile)
    if runner == "ray":
        outcome = do(made, out, data, Progress(), resources, workers, _cluster(address, workers, gpus))
    elif gpus is not None or address not in (None, os.environ.get("RAY_ADDRESS")):
        raise UserError("goes with --runner ray only", where="--address" if gpus is None else "--gpus")
    else:
        outcome = do(made, out, data, Progress(), resources, workers or 1)
    if second():
        return
    many = len(made.study().tasks) > MANY
    _report(out, made.recipe.name, "overview" if many else "default")
    if many:
        say(f"every language: xstilts report {out} --layout languages")
    if outcome.failed:
        lines = [f"{made.steps[id].name}: {why}" for id, why in outcome.failed.items()]
        after = f"; {len(outcome.skipped)} steps that build on them were left out" if outcome.skipped else ""
        raise UserError("\n".join([f"{len(lines)} steps failed{after}", *lines]))


def _cluster(address: str | None, workers: int | None, gpus: float | None) -> Cluster:
    if find_spec("ray") is None:
        raise UserError("Ray is not installed", where="--runner ray", hint="pip install 'xstilts[ray]'")
    from xstilts.execution.ray import Cluster

    return Cluster(address, workers, gpus)


@app.command()
def gc(
    out: Annotated[Path, typer.Option(help="The run folder.")] = Path("runs"),
    recipe: Annotated[
        list[str] | None, typer.Option(help="Keep only what this recipe needs; may be given several times.")
    ] = None,
    forget: Annotated[
        list[str] | None, typer.Option(help="A recipe whose results may go; may be given several times.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it without asking.")] = False,
) -> None:
    """List what a run folder holds that none of its recipes needs, and remove it with --yes."""
    from xstilts.store import prune
    from xstilts.store.run_folder import alone, existing
    from xstilts.study.disk_usage import format_bytes

    with alone(existing(out)) as store:
        found = prune.find(store, only=recipe or (), forget=forget or ())
        for step in found.steps:
            say(f"{step.name}  {format_bytes(step.bytes):>8}  {step.title}".rstrip())
        if not found.steps and not found.features and not found.forgotten:
            say(f"nothing to remove: all is needed by {', '.join(found.kept)}")
            return
        what = f"{len(found.steps)} steps and {len(found.features)} sets of features, {format_bytes(found.bytes)}"
        say(f"{what}, not needed by {', '.join(found.kept) or 'any recipe'}")
        if found.forgotten:
            say(f"recipes to be forgotten: {', '.join(found.forgotten)}")
        asks = sys.stdin.isatty() and sys.stdout.isatty()
        if yes or (asks and typer.confirm("remove this?")):
            prune.remove(store, found)
            say("removed")
        else:
            say("nothing was removed" + ("" if asks else ": that takes --yes"))


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="A run folder.", metavar="DIR")],
    recipe: Annotated[str | None, typer.Option(help="Which recipe's results; the newest by default.")] = None,
    layout: Annotated[
        str,
        typer.Option(
            help="overview, languages, benchmark, selection, significance, or a table of the paper: table2, table3, "
            "table6 to table15."
        ),
    ] = "default",
    beside: Annotated[
        Literal["paper"] | None, typer.Option(help="Put the published numbers beside ours, and the differences.")
    ] = None,
    format: Annotated[Literal["table", "markdown", "csv", "latex", "json", "submission"], typer.Option()] = "table",
    to: Annotated[
        Path | None,
        typer.Option(help="Where the format `submission` writes; DIR/submission/RECIPE by default.", metavar="FOLDER"),
    ] = None,
    select: Annotated[
        Literal["paper", "dev", "english-dev"] | None,
        typer.Option(help="The rule by which the format `submission` fills its folder `best`; `paper` by default."),
    ] = None,
) -> None:
    """Show the results of a run folder; the layout `benchmark` shows test scores, the others dev where there is one.

    `selection` shows which runs are selected for each task, `significance` whether branches differ from the baseline.
    The paper's tables are filled with the numbers that there are; what a study has not, its tables leave out.
    The format `submission` writes the predictions of the test split as the leaderboard wants them, and the labels.
    """
    if format == "submission":
        for option, is_given in (("--layout", layout != "default"), ("--beside", beside is not None)):
            if is_given:
                raise UserError("does not go with --format submission", where=option)
        _export_predictions(folder, recipe, to, select or "paper")
    elif to is not None or select is not None:
        raise UserError("goes with --format submission only", where="--select" if to is None else "--to")
    else:
        _report(folder, recipe, layout, format, beside is not None)


def _report(
    folder: Path, name: str | None, layout: str = "default", format: str = "table", beside: bool = False
) -> None:
    from xstilts.report import layouts, render
    from xstilts.store.run_folder import existing
    from xstilts.store.step_record import StepState

    layouts.check(layout, beside=beside)
    store = existing(folder)
    study = store.study(name)
    scores = store.scores(study)
    if not scores and format == "table":
        done = sum(store.state(id) is not StepState.MISSING for id in study.steps)
        say(f"{study.name}: nothing is scored yet; done: {done} of {len(study.steps)} steps")
    elif layout == "significance":
        from xstilts.report.significance import compare  # numpy from here on
        from xstilts.report.significance_tables import document as tested
        from xstilts.utils.progress import each

        found = compare(study, scores, store.predictions, watched=lambda tasks: each(tasks, "comparing, task by task"))
        say(render(tested(found), format, **screen()))
    else:
        shown = layouts.show(study, scores, layout, beside=beside, notes=store.notes(study))
        say(render(shown, format, **screen()))


def _export_predictions(folder: Path, name: str | None, to: Path | None, rule: str) -> None:
    from xstilts.leaderboard.export import export_study
    from xstilts.report import select
    from xstilts.store.run_folder import existing

    store = existing(folder)
    study = store.study(name)
    chosen = select(study, store.scores(study)).of(rule)
    written = export_study(store, study, to or folder / "submission" / study.name, chosen)
    for line in written.lines():
        say(line)
