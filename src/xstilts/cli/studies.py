"""Commands for studies: check, plan, run, gc."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from xstilts.cli.common import (
    DataOption,
    JsonOption,
    RecipeArgument,
    ScaleOption,
    console,
    print_json,
    say,
)
from xstilts.cli.reports import show_report
from xstilts.cli.tracking import TrackOption, tracked
from xstilts.errors import Collector, UserError, counted

if TYPE_CHECKING:
    from xstilts.execution.ray import Cluster
    from xstilts.study.plan import Plan

app = typer.Typer()

MAX_LISTED = 100
"""Longer plans are listed only with --json."""
MAX_TABLES = 4
"""`run` shows a table per task for up to this many tasks; for more, only the overview."""


@app.command()
def check(recipe: RecipeArgument, scale: ScaleOption = "full", data: DataOption = None) -> None:
    """Check a recipe and its data, and show all mistakes.

    Reads the data files that a run would read; those beside the recipe need no data folder.
    """
    from xstilts.data.availability import folder
    from xstilts.study.load import read
    from xstilts.study.plan import plan as make_plan

    planned, notes = make_plan(*read(recipe, scale)), list[str]()
    found = Collector(planned.recipe.data_check_options(data))
    found.errors += _unusable_encoders(planned, data)
    from xstilts.execution.data_check import check_all_data

    check_all_data(planned, folder(data), found, notes.append)
    found.raise_any()
    say("\n".join([f"{recipe}: no mistakes; {_size(planned)}", *notes]))


def _size(planned: Plan, at_most: str = "") -> str:
    folded = planned.trainings_before_folding - planned.trainings
    folding = f" ({counted(folded, 'equal one')} folded)" if folded else ""
    return f"{counted(planned.trainings, 'training')}{folding}, {at_most}{counted(planned.evaluations, 'evaluation')}"


def _unusable_encoders(planned: Plan, data: Path | None) -> Iterator[UserError]:
    """An error for each encoder's path that a run on this machine would refuse."""
    from xstilts.model.encoder_folder import check
    from xstilts.utils.models import encoder_path

    for name in dict.fromkeys(step.encoder for step in planned.steps.values()):
        if name and (data is not None or "{data}" not in name):
            try:
                check(encoder_path(name, data))
            except UserError as error:
                yield error


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
    from rich.table import Table

    from xstilts.execution.inputs import StepInputs
    from xstilts.execution.pending import repeated_steps
    from xstilts.execution.redo import find_outdated
    from xstilts.store.run_folder import MARK, open_existing
    from xstilts.study import disk_usage
    from xstilts.study.load import read
    from xstilts.study.plan import plan as make_plan
    from xstilts.study.settings_lines import settings_lines

    planned = make_plan(*read(recipe, scale))
    store = open_existing(out) if (out / MARK).is_file() else None  # a plan needs no run folder
    outdated = find_outdated(planned, store, StepInputs(planned, data), Collector()) if store else None
    changed = outdated.ids if outdated else []
    done = [id for id in planned.steps if store.state(id).has_results and id not in changed] if store else []
    again = repeated_steps(planned, store) if store else []
    absent, disks = planned.absent(data), disk_usage.estimate(planned, data)
    unlabelled = planned.unlabelled(data)
    hours = _hours(planned, data) if probe else None
    unusable, found = [*_unusable_encoders(planned, data)], Collector()
    found.errors += [error for error in unusable if Path(error.where).exists()]  # others may be on another machine
    found.errors += planned.first_mistakes(data)
    if as_json:
        usages = [usage.to_json() for usage in disks]
        more = {
            "done": done,
            "again": again,
            "changed": changed,
            "absent": absent,
            "unlabelled": unlabelled,
            "disk": usages[0] if len(usages) == 1 else usages,
        }
        print_json(planned.to_json() | more | ({"hours": hours.to_json()} if hours else {}))
        found.raise_any()
        return
    if len(planned.steps) <= MAX_LISTED:
        table = Table("step", "from", "seed", "what")
        for step in planned.steps.values():
            origin = " ".join(step.parents) or step.encoder
            mark = "again: " if step.id in (*again, *changed) else "done: " if step.id in done else ""
            table.add_row(step.id, origin, "" if step.seed is None else str(step.seed), mark + step.title)
        console().print(table)
    else:
        say(f"{counted(len(planned.steps), 'step')}, listed with --json")
    say("\n".join([*settings_lines(planned), f"{_size(planned, 'at most ' if absent else '')}\n{planned.recipe.note}"]))
    for phase, updates in planned.budgets.items():
        say(f"{phase}: every choice but [] trains {counted(updates, 'labelled update')}")
    _say_done(out, len(planned.steps), len({*done} - {*again}), len({*again} - {*changed}))
    for line in outdated.lines(()) if outdated and changed else ():
        say(line)
    for name, usage in zip(planned.by_encoder, disks, strict=True):
        say(f"{name}: {usage.line()}" if name else usage.line())
    for line in hours.lines() if hours else ():
        say(line)
    _say_lacks(planned, absent, unlabelled, data)
    for error in unusable:
        if error not in found.errors:
            say(f"a run here would stop: {error}")
    found.raise_any()


def _say_done(out: Path, steps: int, done: int, again: int) -> None:
    if done or again:
        say(f"done in {out}: {done:,} of {counted(steps, 'step')}")
    if again:
        say(f"to be trained again: {counted(again, 'step')}, whose encoders are gone and needed; scores stay")


def _say_lacks(planned: Plan, absent: Sequence[str], unlabelled: Sequence[str], data: Path | None) -> None:
    """Name the data that are missing, and those that have no labels."""
    from xstilts.data.availability import on_hub

    tasks = {line: planned.tasks[line.partition(":")[0]] for line in absent}
    brief = dict.fromkeys(task.name for task in tasks.values() if data is None and not task.own)
    if brief:
        say("missing without --data: " + ", ".join(brief))
    if lines := [line for line, task in tasks.items() if task.name not in brief]:
        say("\n  ".join(["missing:", *lines]))
    if names := dict.fromkeys(task.name for task in tasks.values() if on_hub(task)):
        say(f"from the Hub: xstilts data fetch {' '.join(names)}")
    if unlabelled:
        say("\n  ".join(["without labels, so predicted and not scored:", *unlabelled]))


def _hours(planned: Any, data: Path | None) -> Any:
    from xstilts.execution.time_estimate import estimate_time  # loads torch
    from xstilts.utils.progress import Progress

    return estimate_time(planned, data, Progress())


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
    from xstilts.study.load import read
    from xstilts.study.plan import plan as make_plan
    from xstilts.utils.progress import Progress, is_secondary_process

    planned = make_plan(*read(recipe, scale))
    from xstilts.execution.run import Resources  # loads torch
    from xstilts.execution.run import run as run_plan
    from xstilts.html.live import LivePage
    from xstilts.html.page import PAGE

    resources = Resources(checkpoint, tokens, compile, with_text)
    confirm, progress = _confirm_redo(redo), Progress()
    if runner == "ray":
        cluster, at_once = _cluster(address, workers, gpus), workers
    elif gpus is not None or address not in (None, os.environ.get("RAY_ADDRESS")):
        raise UserError("needs --runner ray", where="--address" if gpus is None else "--gpus")
    else:
        cluster, at_once = None, workers or 1
    page = LivePage(out, planned.recipe.name, progress.say)
    progress.on_step = page.update
    with tracked(out, None if is_secondary_process() else track, progress.say), page:
        outcome = run_plan(planned, out, data, progress, resources, at_once, cluster, confirm)
    if is_secondary_process():
        return
    page.finish(changed=bool(outcome.done or outcome.failed))
    progress.say(f"everything on one page: {out / PAGE}")
    from xstilts.store.recipes import name_of

    planned = planned.with_training_data(data)[0]
    study = planned.study()
    many = len(study.tasks) > MAX_TABLES
    # another run may have replaced it
    show_report(out, name_of(out / "recipes", study) or study.name, "brief" if many else "default")
    if many:
        say(f"scores per language: xstilts report {out} --layout languages")
    if outcome.failed:
        lines = [f"{planned.steps[id].name}: {reason}" for id, reason in outcome.failed.items()]
        were = "that depends on them was" if len(outcome.skipped) == 1 else "that depend on them were"
        skipped = f"; {counted(len(outcome.skipped), 'step')} {were} skipped" if outcome.skipped else ""
        raise UserError("\n".join([f"{counted(len(lines), 'step')} failed{skipped}", *lines]))


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
