"""Plan and run a study from Python; the command line calls the same functions."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from xstilts.errors import UserError
from xstilts.execution.plan_status import PlanStatus, plan_status
from xstilts.html.live import LivePage
from xstilts.reports.live_scores import LiveScores
from xstilts.reports.report import Report, report
from xstilts.store.recipes import name_of
from xstilts.study.load import FULL, load_recipe
from xstilts.study.plan import Plan
from xstilts.study.plan import plan as plan_recipe
from xstilts.study.recipe import Recipe
from xstilts.utils.callback import CallbackError, CallbackProgress
from xstilts.utils.progress import Progress, StepProgress, is_secondary_process

if TYPE_CHECKING:
    from xstilts.execution.redo import Confirm
    from xstilts.execution.run import Resources, RunnerFactory

Folder: TypeAlias = str | os.PathLike[str]
MAX_TABLES = 4
"""A run's report has a table per task for up to this many tasks; for more, only the overview."""


def plan(
    recipe: Recipe | Folder | Mapping[str, Any], *, scale: str = FULL, data: Folder | None = None,
    out: Folder = "runs",
) -> PlanStatus:  # fmt: skip
    """Plan a recipe, and compare the plan with a run folder and the data; needs neither weights nor torch.

    Args:
        recipe: what `load_recipe` returns or takes.
        scale: as in `load_recipe`; not for a recipe that is loaded already.
        data: the folder with the data sets; by default the environment variable XSTILTS_DATA.
        out: the run folder, which need not exist.

    Returns:
        The `steps`, which ids are `done`, and which data are `missing`; it prints as `xstilts plan` does.

    Raises:
        UserError: the mistakes of the recipe, of an encoder's folder, and in the first rows of the data.

    >>> status = plan("quickstart")
    >>> len(status.steps), status.steps[0].kind, status.missing
    (62, 'create', [])
    """
    status = plan_status(_planned(recipe, scale), Path(out), data_folder(data))
    status.raise_mistakes()
    return status


def run(
    recipe: Recipe | PlanStatus | Folder | Mapping[str, Any], *, scale: str = FULL, data: Folder | None = None,
    out: Folder | None = None, workers: int = 1, on_progress: Callable[[StepProgress], object] | None = None,
    redo: bool = False, checkpoint: float = 10, tokens: int | None = None,
) -> Report:  # fmt: skip
    """Do the steps of a recipe that are not done yet.

    An interrupt (Ctrl-C, or the notebook's stop button) writes a checkpoint; the same call continues. Several workers
    need no `if __name__ == "__main__"`.

    Args:
        recipe: what `plan` returns or takes.
        scale: as in `load_recipe`; not for a recipe or plan that is there already.
        data: the folder with the data sets; by default that of the plan, or the environment variable XSTILTS_DATA.
        out: the run folder; by default that of the plan, or `runs`. Steps that it has are not repeated.
        workers: the steps that run at once, in processes of their own if there are several.
        on_progress: gets an event for each change, in this process and thread; then nothing is drawn, and notes go to
            the logger `xstilts`. An exception ends the run as an interrupt does, and comes out of this call.
        redo: whether to repeat finished steps whose files have changed.
        checkpoint: the most minutes that a killed training loses.
        tokens: the most tokens of a forward pass; fewer take less memory.

    Returns:
        The report, as `report(out)` makes it: scores by language, for more than four tasks only their means.

    Raises:
        UserError: mistakes in the recipe, the data or an encoder, before anything is written; files have changed; at
            the end, steps that have failed, after the others are done.

    >>> run("study.yaml", workers=2, on_progress=lambda event: print(event.name, event.done))  # doctest: +SKIP
    """
    from xstilts.execution.run import Resources  # loads torch

    for name, value, least in (("workers", workers, 1), ("tokens", tokens, 1), ("checkpoint", checkpoint, 0)):
        if value is not None and value < least:
            raise UserError(f"needs at least {least}, got {value}", where=name)
    if isinstance(recipe, PlanStatus):
        data, out = recipe.data if data is None else data, recipe.out if out is None else out
    progress = Progress() if on_progress is None else CallbackProgress(on_progress)
    planned, folder = _planned(recipe, scale), Path("runs" if out is None else out)
    resources, confirm = Resources(minutes=checkpoint, tokens=tokens), (lambda: True) if redo else None
    try:
        finished = run_plan(planned, folder, data_folder(data), progress, resources, workers, confirm_redo=confirm)
    except CallbackError as stopped:
        raise stopped.error from None
    if finished.failure:
        raise finished.failure
    return finished.report()


@dataclass(frozen=True)
class Finished:
    """A run that came to its end, perhaps with failed steps."""

    plan: Plan
    out: Path
    failure: UserError | None

    @property
    def brief(self) -> bool:
        """Whether its tasks are too many for a table each."""
        return len(self.plan.study().tasks) > MAX_TABLES

    def report(self) -> Report:
        """The report of its recipe."""
        study = self.plan.study()
        name = name_of(self.out / "recipes", study) or study.name  # another run may have replaced it
        return report(self.out, recipe=name, layout="brief" if self.brief else "default")


def run_plan(
    planned: Plan, out: Path, data: Path | None, progress: Progress, resources: Resources, workers: int | None = 1,
    make_runner: RunnerFactory | None = None, confirm_redo: Confirm = None,
) -> Finished:  # fmt: skip
    """Run a plan; keep the page of its study, and the scores on a terminal, up to date; see `execution.run.run`."""
    from xstilts.execution.run import run

    page, scores = LivePage(out, planned.recipe.name, progress.say), LiveScores(out, planned.recipe.name)

    def on_step() -> None:
        if progress.live:
            scores.update()
        page.update()

    progress.on_step = on_step
    progress.show_scores(scores.lines)
    with progress, page:
        outcome = run(planned, out, data, progress, resources, workers, make_runner, confirm_redo)
    if not is_secondary_process():
        page.finish(changed=bool(outcome.done or outcome.failed))
    done = planned.with_training_data(data)[0]
    return Finished(done, out, outcome.error(done))


def data_folder(data: Folder | None) -> Path | None:
    """The data folder; by default that of the environment, as on the command line."""
    named = data or os.environ.get("XSTILTS_DATA")
    return Path(named) if named else None


def _planned(recipe: Recipe | PlanStatus | Folder | Mapping[str, Any], scale: str) -> Plan:
    if isinstance(recipe, Recipe | PlanStatus):
        if scale != FULL:
            raise UserError("the recipe is loaded already", where="scale", hint="give it to load_recipe")
        return recipe.plan if isinstance(recipe, PlanStatus) else plan_recipe(recipe, recipe.tasks)
    loaded = load_recipe(recipe, scale=scale)
    return plan_recipe(loaded, loaded.tasks)
