"""Commands for studies: check, plan, run, gc, report."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from xstilts.cli.common import DataOption, JsonOption, RecipeArgument, as_document, console, say, screen
from xstilts.errors import UserError

if TYPE_CHECKING:
    from xstilts.runners.ray import Cluster

app = typer.Typer()

MANY = 4
"""Tasks beyond which a run shows the overview only, not a table for each."""


@app.command()
def check(recipe: RecipeArgument) -> None:
    """Say everything that is wrong with a recipe."""
    from xstilts.plan import plan as lay_out
    from xstilts.recipe import read

    made = lay_out(*read(recipe))
    say(f"{recipe}: nothing wrong; {made.trainings} trainings, {made.evaluations} evaluations")
    for note in made.notes:
        say(note)


@app.command()
def plan(recipe: RecipeArgument, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Show the steps of a recipe, and what disk they take; needs neither data nor weights."""
    from rich.table import Table

    from xstilts import disk
    from xstilts.plan import plan as lay_out
    from xstilts.recipe import read

    made = lay_out(*read(recipe))
    if as_json:
        as_document(made.to_json() | {"disk": disk.needed(made, data).to_json()})
        return
    table = Table("step", "from", "seed", "what")
    for step in made.steps.values():
        origin = " ".join(step.parents) or step.encoder
        table.add_row(step.id, origin, "" if step.seed is None else str(step.seed), step.title)
    console().print(table)
    folded = made.trainings_before_folding - made.trainings
    say(
        f"{made.trainings} trainings ({folded} equal ones folded), {made.evaluations} pairs of task and language scored"
    )
    say(disk.needed(made, data).line())


@app.command()
def run(
    recipe: RecipeArgument,
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
    from xstilts.plan import plan as lay_out
    from xstilts.progress import Progress, second
    from xstilts.recipe import read

    made = lay_out(*read(recipe))
    from xstilts.run import Resources  # torch from here on
    from xstilts.run import run as do

    resources = Resources(checkpoint, tokens, compile)
    if runner == "ray":
        outcome = do(made, out, data, Progress(), resources, workers, _cluster(address, workers, gpus))
    elif gpus is not None:
        raise UserError("goes with --runner ray only", where="--gpus")
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
    from xstilts.runners.ray import Cluster

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
    from xstilts import garbage
    from xstilts.disk import spelled
    from xstilts.store import alone, existing

    with alone(existing(out)) as store:
        found = garbage.find(store, only=recipe or (), forget=forget or ())
        for thing in (*found.steps, *found.features):
            say(f"{thing.name}  {spelled(thing.bytes):>8}  {thing.title}".rstrip())
        if not found.steps and not found.features and not found.forgotten:
            say(f"nothing to remove: all is needed by {', '.join(found.kept)}")
            return
        what = f"{len(found.steps)} steps and {len(found.features)} sets of features, {spelled(found.bytes)}"
        say(f"{what}, that {', '.join(found.kept) or 'no recipe'} does not need")
        if found.forgotten:
            say(f"recipes to be forgotten: {', '.join(found.forgotten)}")
        asks = sys.stdin.isatty() and sys.stdout.isatty()
        if yes or (asks and typer.confirm("remove this?")):
            garbage.remove(store, found)
            say("removed")
        else:
            say("nothing was removed" + ("" if asks else ": that takes --yes"))


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="A run folder.", metavar="DIR")],
    recipe: Annotated[str | None, typer.Option(help="Which recipe's results; the newest by default.")] = None,
    layout: Annotated[Literal["default", "overview", "languages", "benchmark"], typer.Option()] = "default",
    format: Annotated[Literal["table", "markdown", "csv", "latex", "json", "submission"], typer.Option()] = "table",
    to: Annotated[
        Path | None,
        typer.Option(help="Where the format `submission` writes; DIR/submission/RECIPE by default.", metavar="FOLDER"),
    ] = None,
) -> None:
    """Show the results of a run folder; the layout `benchmark` shows test scores, the others dev where there is one.

    The format `submission` writes the predictions of the test split as the leaderboard wants them, and the labels.
    """
    if format == "submission":
        _hand_in(folder, recipe, to)
    elif to is not None:
        raise UserError("goes with --format submission only", where="--to")
    else:
        _report(folder, recipe, layout, format)


def _report(folder: Path, name: str | None, layout: str = "default", format: str = "table") -> None:
    from xstilts.report import LAYOUTS, build, render
    from xstilts.store import existing

    store = existing(folder)
    study = store.study(name)
    made = build(study, store.scores(study), layout=LAYOUTS[layout], notes=store.notes(study))
    say(render(made, format, **screen()))


def _hand_in(folder: Path, name: str | None, to: Path | None) -> None:
    from xstilts.store import existing
    from xstilts.submission import write_study

    store = existing(folder)
    study = store.study(name)
    written = write_study(store, study, to or folder / "submission" / study.name)
    for line in written.lines():
        say(line)
