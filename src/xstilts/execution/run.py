"""Runs a plan: checks everything the user gave, then does the steps that are not done yet."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError

from xstilts.compute import distributed
from xstilts.errors import StepFailed, UserError
from xstilts.execution.dispatch import Dispatcher
from xstilts.execution.inputs import StepInputs
from xstilts.execution.local import InProcessRunner, ProcessRunner
from xstilts.execution.preflight import Outcome, Run
from xstilts.execution.runner import Runner, RunSpec, Worker
from xstilts.execution.steps import Resources, StepExecutor
from xstilts.store.retention import Retention
from xstilts.store.run_folder import Store, opened, usable
from xstilts.study.plan import Plan
from xstilts.utils.os_errors import as_user_error
from xstilts.utils.progress import Progress, several

__all__ = ["Outcome", "Resources", "run"]

RunnerFactory = Callable[[RunSpec, int, Progress], Runner]
"""Makes a runner that does several steps at once: told the run, how many workers at most, how to show what they do."""


def run(
    plan: Plan,
    out: Path,
    data: Path | None,
    progress: Progress,
    resources: Resources | None = None,
    workers: int | None = 1,
    make_runner: RunnerFactory | None = None,
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
        workers: processes that do one step each at a time; None leaves it to `make_runner`.
        make_runner: makes the runner that has them; None for this machine, where one worker is this process.

    Raises:
        UserError: anything wrong with the data, the encoder or the run folder; a full disk.
    """
    if (workers, make_runner) != (1, None) and several():
        what = "several workers do several steps at once, torchrun's processes do one step together: choose one of them"
        raise UserError(what, where="--workers")
    with distributed.process_group(), as_user_error(out, SafetensorError):
        store = usable(out) if distributed.rank() == 0 else Store(out)
        executor = StepExecutor(plan, store, StepInputs(plan, data), progress, resources or Resources())
        job = Run(executor)
        if distributed.rank() == 0:
            job.checked()
            with opened(store, progress.say):
                store.note_read(job.read)
                retention = Retention(store)
                with retention.noted(plan.study()) as replaced:
                    if replaced:
                        progress.say(
                            f"the report now shows this recipe, not the earlier one named '{plan.recipe.name}'"
                        )
                    retention.tidy(plan.steps)
                    _do_all(job, make_runner, workers, retention)
            distributed.broadcast("")
        elif distributed.broadcast(True):
            _follow(executor)
        else:
            raise SystemExit(2)  # the first process says why
    if executor.inputs.missing:
        progress.say(f"left out, for there are no files: {', '.join(executor.inputs.missing)}")
    return job.outcome


def _follow(executor: StepExecutor) -> None:
    """Take part in the trainings that the first process begins."""
    while id := distributed.broadcast(""):
        with suppress(StepFailed):  # which the first process notes
            executor.do(executor.plan.steps[id])


def _do_all(job: Run, make_runner: RunnerFactory | None, workers: int | None, retention: Retention) -> None:
    # asked again, for another run may have done some before this one held the folder
    executor, pending = job.executor, job.pending()
    done = len(executor.plan.steps) - len(pending)
    if done:
        executor.progress.say(f"{done} of {done + len(pending)} steps are done already")
    if not pending:
        return
    if (workers, make_runner) == (1, None):
        here: Runner = InProcessRunner(Worker(executor))
    else:
        executor.forget()
        asked = RunSpec(executor.plan, executor.store.folder.absolute(), executor.inputs.data, executor.resources)
        here = (make_runner or ProcessRunner)(asked, min(workers or len(pending), len(pending)), executor.progress)
    try:
        Dispatcher(job, here, pending, retention).go()
    except KeyboardInterrupt:
        if not isinstance(here, InProcessRunner):
            executor.progress.say("the workers are asked to end; once more Ctrl-C ends them at once")
        raise
    finally:
        here.stop()
