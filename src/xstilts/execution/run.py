"""Runs a plan: checks everything the user gave, then does the steps that are not done yet."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError

from xstilts.compute import distributed
from xstilts.errors import StepFailed, UserError
from xstilts.execution.dispatch import Dispatcher, Outcome
from xstilts.execution.inputs import StepInputs
from xstilts.execution.local import InProcessRunner, ProcessRunner
from xstilts.execution.preflight import check_inputs, pending_steps
from xstilts.execution.runner import Runner, RunSpec
from xstilts.execution.steps import Resources, StepExecutor
from xstilts.execution.worker import Worker
from xstilts.store.retention import Retention
from xstilts.store.run_folder import Store, lock_shared, open_or_new
from xstilts.study.plan import Plan
from xstilts.utils.os_errors import as_user_error
from xstilts.utils.progress import Progress, is_distributed

__all__ = ["Outcome", "Resources", "run"]

RunnerFactory = Callable[[RunSpec, int, Progress], Runner]
"""Makes a runner with several workers; gets the run, the largest useful number of workers, and the progress."""


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

    All inputs are checked before the run folder is made. If a step fails (its loss is not a number), the steps that
    start from it are skipped and the others go on. Under torchrun all processes do each training together; the first
    process does everything else. Several runs may use one folder at the same time: no step is done twice.

    Args:
        plan: the steps to do.
        out: the run folder.
        data: the folder with the data sets.
        progress: shows how far the run is.
        resources: what each worker may use.
        workers: the number of worker processes, each doing one step at a time; None leaves it to `make_runner`.
        make_runner: makes the runner; None for this machine, where a single worker is this process.

    Raises:
        UserError: anything wrong with the data, the encoder or the run folder; a full disk.
    """
    if (workers, make_runner) != (1, None) and is_distributed():
        what = "several workers do several steps at once, torchrun's processes do one step together: choose one of them"
        raise UserError(what, where="--workers")
    with distributed.process_group(), as_user_error(out, SafetensorError):
        is_main = distributed.rank() == 0
        store = open_or_new(out) if is_main else Store(out)
        executor = StepExecutor(plan, store, StepInputs(plan, data), progress, resources or Resources())
        outcome = _run_main(executor, workers, make_runner) if is_main else _join_trainings(executor)
    if executor.inputs.missing:
        progress.say(f"left out, because there are no files: {', '.join(executor.inputs.missing)}")
    return outcome


def _run_main(executor: StepExecutor, workers: int | None, make_runner: RunnerFactory | None) -> Outcome:
    """Check the inputs, then do the pending steps; other processes of torchrun are told when to join in."""
    plan, store, progress = executor.plan, executor.store, executor.progress
    passed = False
    try:
        checked = check_inputs(executor, pending_steps(plan, store))
        passed = True
    finally:
        distributed.broadcast(passed)
    with lock_shared(store, progress.say):
        store.note_checked(checked)
        retention = Retention(store)
        with retention.registered(plan.study()) as replaced:
            if replaced:
                progress.say(f"the report now shows this recipe, not the earlier one named '{plan.recipe.name}'")
            retention.remove_unneeded(plan.steps)
            outcome = _do_pending(executor, workers, make_runner, retention)
    distributed.broadcast("")
    return outcome


def _join_trainings(executor: StepExecutor) -> Outcome:
    """Take part in the trainings that the first process begins."""
    if not distributed.broadcast(True):
        raise SystemExit(2)  # the first process says why
    while id := distributed.broadcast(""):
        with suppress(StepFailed):  # the first process reports it
            executor.do(executor.plan.steps[id])
    return Outcome()


def _do_pending(
    executor: StepExecutor, workers: int | None, make_runner: RunnerFactory | None, retention: Retention
) -> Outcome:
    plan, progress = executor.plan, executor.progress
    pending = pending_steps(plan, executor.store)  # another run may have done some before this one held the folder
    done = len(plan.steps) - len(pending)
    if done:
        progress.say(f"{done} of {len(plan.steps)} steps are done already")
    if not pending:
        return Outcome()
    if (workers, make_runner) == (1, None):
        runner: Runner = InProcessRunner(Worker(executor))
    else:
        executor.forget()
        spec = RunSpec(plan, executor.store.folder.absolute(), executor.inputs.data, executor.resources)
        runner = (make_runner or ProcessRunner)(spec, min(workers or len(pending), len(pending)), progress)
    try:
        return Dispatcher(executor, runner, pending, retention).run()
    except KeyboardInterrupt:
        if not isinstance(runner, InProcessRunner):
            progress.say("the workers are asked to end; once more Ctrl-C ends them at once")
        raise
    finally:
        runner.stop()
