"""Runs a plan: checks everything the user gave, then does the steps that are not done yet."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError

from xstilts.compute import distributed as parallel
from xstilts.errors import StepFailed, UserError
from xstilts.execution.dispatch import _Course
from xstilts.execution.inputs import Intake
from xstilts.execution.local import Here, Local
from xstilts.execution.preflight import Outcome, Run
from xstilts.execution.runner import Job, Runner, Worker
from xstilts.execution.steps import Resources, Work
from xstilts.store.retention import Keeping
from xstilts.store.run_folder import Store, opened, usable
from xstilts.study.plan import Plan
from xstilts.utils.os_errors import told
from xstilts.utils.progress import Progress, several

__all__ = ["Outcome", "Resources", "run"]

Hire = Callable[[Job, int, Progress], Runner]
"""Makes a runner that does several steps at once: told the run, how many workers at most, how to show what they do."""


def run(
    plan: Plan,
    out: Path,
    data: Path | None,
    progress: Progress,
    resources: Resources | None = None,
    workers: int | None = 1,
    hire: Hire | None = None,
) -> Outcome:
    """Do what is not done yet.

    Everything the user gave is checked before the run folder is made. A step that fails (its loss is not a number) is
    left out with those that start from it, and the others go on. Under torchrun all processes do each training
    together, and the first does the rest. Other runs may use the same folder at the same time: no step is done twice.

    Args:
        plan: what is to be done.
        out: the run folder.
        data: the folder with the data sets.
        progress: told how it goes.
        resources: what each worker may use.
        workers: processes that do one step each at a time; None leaves it to `hire`.
        hire: makes the runner that has them; None for this machine, where one worker is this process.

    Raises:
        UserError: anything wrong with the data, the encoder or the run folder; a full disk.
    """
    if (workers, hire) != (1, None) and several():
        what = "several workers do several steps at once, torchrun's processes do one step together: choose one of them"
        raise UserError(what, where="--workers")
    with parallel.joined(), told(out, SafetensorError):
        store = usable(out) if parallel.rank() == 0 else Store(out)
        work = Work(plan, store, Intake(plan, data), progress, resources or Resources())
        job = Run(work)
        if parallel.rank() == 0:
            job.checked()
            with opened(store, progress.say):
                store.note_read(job.read)
                keeping = Keeping(store)
                with keeping.noted(plan.study()) as replaced:
                    if replaced:
                        progress.say(
                            f"the report now shows this recipe, not the earlier one named '{plan.recipe.name}'"
                        )
                    keeping.tidy(plan.steps)
                    _do_all(job, hire, workers, keeping)
            parallel.said("")
        elif parallel.said(True):
            _follow(work)
        else:
            raise SystemExit(2)  # the first process says why
    if work.intake.missing:
        progress.say(f"left out, for there are no files: {', '.join(work.intake.missing)}")
    return job.outcome


def _follow(work: Work) -> None:
    """Take part in the trainings that the first process begins."""
    while id := parallel.said(""):
        with suppress(StepFailed):  # which the first process notes
            work.do(work.plan.steps[id])


def _do_all(job: Run, hire: Hire | None, workers: int | None, keeping: Keeping) -> None:
    # asked again, for another run may have done some before this one held the folder
    work, pending = job.work, job.pending()
    done = len(work.plan.steps) - len(pending)
    if done:
        work.progress.say(f"{done} of {done + len(pending)} steps are done already")
    if not pending:
        return
    if (workers, hire) == (1, None):
        here: Runner = Here(Worker(work))
    else:
        work.forget()
        asked = Job(work.plan, work.store.folder.absolute(), work.intake.data, work.resources)
        here = (hire or Local)(asked, min(workers or len(pending), len(pending)), work.progress)
    try:
        _Course(job, here, pending, keeping).go()
    except KeyboardInterrupt:
        if not isinstance(here, Here):
            work.progress.say("the workers are asked to end; once more Ctrl-C ends them at once")
        raise
    finally:
        here.stop()
