"""Commands for studies: check, plan, run, gc."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from xstilts.cli.common import (
    DataOption,
    JsonOption,
    RecipeArgument,
    ScaleOption,
    print_json,
    say,
    screen,
)
from xstilts.cli.tracking import TrackOption, tracked
from xstilts.errors import Collector, UserError, counted

if TYPE_CHECKING:
    from xstilts.execution.ray import Cluster

app = typer.Typer()


@app.command()
def check(recipe: RecipeArgument, scale: ScaleOption = "full", data: DataOption = None) -> None:
    """Check a recipe and its data, and show all mistakes.

    Reads the data files that a run would read; those beside the recipe need no data folder.
    """
    from xstilts.data.availability import folder
    from xstilts.execution.data_check import check_all_data
    from xstilts.execution.plan_status import size_line, unusable_encoders
    from xstilts.study.load import read
    from xstilts.study.plan import plan as make_plan

    planned, notes = make_plan(*read(recipe, scale)), list[str]()
    found = Collector(planned.recipe.data_check_options(data))
    found.errors += unusable_encoders(planned, data)
    check_all_data(planned, folder(data), found, notes.append)
    found.raise_any()
    say("\n".join([f"{recipe}: no mistakes; {size_line(planned)}", *notes]))


@app.command()
def plan(
    recipe: RecipeArgument,
    scale: ScaleOption = "full",
    out: Annotated[Path, typer.Option(help="The run folder, to mark the steps that are done.")] = Path("runs"),
    data: DataOption = None,
    probe: Annotated[bool, typer.Option("--probe", help="Time a few updates to estimate the hours.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show a recipe's steps, which are done, which data are missing, and how much disk space they take.

    Only --probe, which estimates the time on this machine, needs data and weights.
    """
    from xstilts.execution.plan_status import plan_status
    from xstilts.study.load import read
    from xstilts.study.plan import plan as make_plan

    status = plan_status(make_plan(*read(recipe, scale)), out, data)
    hours = _hours(status.plan, data) if probe else None
    if as_json:
        print_json(status.to_json() | ({"hours": hours.to_json()} if hours else {}))
    else:
        say(status.text(hours=hours, **screen(piped=None)))
    status.raise_mistakes()


def _hours(planned: Any, data: Path | None) -> Any:
    from xstilts.execution.time_estimate import estimate_time  # loads torch
    from xstilts.utils.progress import Progress

    with Progress() as progress:
        return estimate_time(planned, data, progress)


@app.command()
def run(
    recipe: RecipeArgument,
    scale: ScaleOption = "full",
    out: Annotated[Path, typer.Option(help="The run folder; steps that are already done are not repeated.")] = Path(
        "runs"
    ),
    data: DataOption = None,
    checkpoint: Annotated[
        float,
        typer.Option(help="A killed training loses at most this many minutes.", min=0, metavar="MINUTES"),
    ] = 10,
    tokens: Annotated[
        int | None, typer.Option(help="Maximum tokens per forward pass; fewer take less memory.", min=1)
    ] = None,
    compile: Annotated[bool, typer.Option("--compile", help="Train with torch.compile.")] = False,
    with_text: Annotated[
        bool, typer.Option("--with-text", help="Add the examples' texts to all predictions, earlier ones included.")
    ] = False,
    runner: Annotated[
        Literal["local", "ray"], typer.Option(help="Where the steps run: on this machine, or on a Ray cluster.")
    ] = "local",
    workers: Annotated[
        int | None,
        typer.Option(
            help="Steps that run at once, each with one GPU or its share of the cores. Default: 1; with ray, as many "
            "as fit.",
            min=1,
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(envvar="RAY_ADDRESS", help="A Ray cluster; default: Ray starts one here.", metavar="HOST:PORT"),
    ] = None,
    gpus: Annotated[
        float | None, typer.Option(help="GPUs of each Ray worker: 1, a part such as 0.5, or 0.", min=0, max=1)
    ] = None,
    redo: Annotated[
        bool, typer.Option("--redo", help="Repeat finished steps whose files have changed, without asking.")
    ] = False,
    track: TrackOption = None,
) -> None:
    """Run the steps of a recipe that are not done yet, then show the scores."""
    from xstilts.api import run_plan
    from xstilts.study.load import read
    from xstilts.study.plan import plan as make_plan
    from xstilts.utils.progress import Progress, is_secondary_process

    planned = make_plan(*read(recipe, scale))
    from xstilts.execution.run import Resources  # loads torch

    if runner != "ray" and (gpus is not None or address not in (None, os.environ.get("RAY_ADDRESS"))):
        raise UserError("needs --runner ray", where="--address" if gpus is None else "--gpus")
    cluster = _cluster(address, workers, gpus) if runner == "ray" else None
    at_once = workers if cluster else workers or 1
    resources, progress = Resources(checkpoint, tokens, compile, with_text), Progress()
    with tracked(out, None if is_secondary_process() else track, progress.say):
        finished = run_plan(planned, out, data, progress, resources, at_once, cluster, _confirm_redo(redo))
    if is_secondary_process():
        return
    say(finished.report().render(**screen()))
    if finished.brief:
        say(f"scores per language: xstilts report {out} --layout languages")
    if finished.failure:
        raise finished.failure


def _confirm_redo(redo: bool) -> Callable[[], bool] | None:
    """Always yes, or a question on the terminal; None without a terminal."""
    if redo:
        return lambda: True
    interactive = sys.stdin.isatty() and sys.stderr.isatty()
    return (lambda: typer.confirm("do these steps again?", err=True)) if interactive else None


def _cluster(address: str | None, workers: int | None, gpus: float | None) -> Cluster:
    if find_spec("ray") is None:
        raise UserError("Ray is not installed", where="--runner ray", hint="pip install 'xstilts[ray]'")
    from xstilts.execution.ray import Cluster

    return Cluster(address, workers, gpus)


@app.command()
def gc(
    out: Annotated[Path, typer.Option(help="The run folder.")] = Path("runs"),
    recipe: Annotated[
        list[str] | None, typer.Option(help="Keep only what this recipe needs; repeat for several recipes.")
    ] = None,
    forget: Annotated[
        list[str] | None, typer.Option(help="Remove this recipe and what only it needs; repeat for several recipes.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove without asking.")] = False,
) -> None:
    """List the files in a run folder that no recipe needs; remove them with --yes."""
    from xstilts.store import prune
    from xstilts.store.run_folder import lock_exclusive, open_existing
    from xstilts.study.disk_usage import format_bytes

    with lock_exclusive(open_existing(out)) as store:
        found = prune.find(store, only=recipe or (), forget=forget or ())
        for step in found.steps:
            say(f"{step.name}  {format_bytes(step.bytes):>8}  {step.title}".rstrip())
        if not found.steps and not found.features and not found.forgotten:
            say(f"nothing to remove: every file is needed by {', '.join(found.kept)}")
            return
        unneeded = f"{counted(len(found.steps), 'step')} and {counted(len(found.features), 'set')} of features"
        say(f"{unneeded}, {format_bytes(found.bytes)}, not needed by {', '.join(found.kept) or 'any recipe'}")
        if found.forgotten:
            say(f"recipes to forget: {', '.join(found.forgotten)}")
        interactive = sys.stdin.isatty() and sys.stdout.isatty()
        if yes or (interactive and typer.confirm("remove this?")):
            prune.remove(store, found)
            say("removed")
        else:
            say("nothing was removed" + ("" if interactive else ": add --yes to remove it"))
