"""Runs a plan: checks all inputs, then does the pending steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError

from xstilts.compute import distributed
from xstilts.errors import StepFailed, UserError
from xstilts.execution.dispatch import Dispatcher, Outcome
from xstilts.execution.inputs import StepInputs
from xstilts.execution.local import InProcessRunner, ProcessRunner
from xstilts.execution.pending import pending_steps
from xstilts.execution.preflight import check_inputs
from xstilts.execution.redo import Confirm
from xstilts.execution.retention import Retention, best_run_notes
from xstilts.execution.runner import Runner, RunSpec
from xstilts.execution.steps import Resources, StepExecutor
from xstilts.execution.texts import add_texts
from xstilts.execution.worker import Worker
from xstilts.store.run_folder import Store, lock_shared, open_or_new
from xstilts.study.plan import Plan
from xstilts.study.step import Step
from xstilts.utils.os_errors import as_user_error
from xstilts.utils.progress import Progress, is_distributed

__all__ = ["Outcome", "Resources", "run"]

RunnerFactory = Callable[[RunSpec, int, Progress], Runner]
"""Makes a runner from the run, the largest useful number of workers, and the progress."""


def run(
    plan: Plan,
    out: Path,
    data: Path | None,
    progress: Progress,
    resources: Resources | None = None,
    workers: int | None = 1,
    make_runner: RunnerFactory | None = None,
    confirm_redo: Confirm = None,
) -> Outcome:
    """Do the pending steps of a plan.

    All inputs are checked before the run folder is made. If a step fails (its loss is not a number), its dependents are
    skipped and the other steps go on. Under torchrun all processes do each training together; the first process does
    everything else. Several runs may share a folder: no step is done twice.

    Args:
        plan: the steps to do.
        out: the run folder.
        data: the folder with the data sets.
        progress: shows how far the run is.
        resources: what each worker may use.
        workers: the number of worker processes, with one step each at a time; None: `make_runner` chooses.
        make_runner: makes the runner; None: this machine, where a single worker is this process.
        confirm_redo: asks whether to redo the finished steps whose input files have changed.

    Raises:
        UserError: an error in the data, the encoder or the run folder; changed input files, without leave to redo the
            steps; a full disk.
    """
    if (workers, make_runner) != (1, None) and is_distributed():
        what = "several workers do several steps at once, torchrun's processes do one step together: choose one of them"
        raise UserError(what, where="--workers")
    plan, left_out = plan.with_training_data(data)
    with distributed.process_group(), as_user_error(out, SafetensorError):
        is_main = distributed.rank() == 0
        store = open_or_new(out) if is_main else Store(out)
        executor = StepExecutor(plan, store, StepInputs(plan, data), progress, resources or Resources())
        outcome = _run_main(executor, workers, make_runner, confirm_redo) if is_main else _join_trainings(executor)
        for note in best_run_notes(store, plan.study()) if is_main else ():
            progress.say(note)
    if missing := [*left_out, *executor.inputs.missing]:
        progress.say(f"left out because files are missing: {', '.join(missing)}")
    return outcome


def _run_main(
    executor: StepExecutor, workers: int | None, make_runner: RunnerFactory | None, confirm_redo: Confirm
) -> Outcome:
    """Check the inputs, then do the pending steps; tells torchrun's other processes when to join a training."""
    plan, store, progress = executor.plan, executor.store, executor.progress
    # a cluster's workers have devices of their own, and check these themselves
    checked, redo = check_inputs(executor, confirm_redo, here=make_runner is None)
    with lock_shared(store, progress.say):
        store.note_checked(checked)
        retention = Retention(store)
        with retention.registered(plan.study()) as earlier:
            if earlier:
                show = f"xstilts report {store.folder} --recipe {earlier}"
                progress.say(f"the earlier '{plan.recipe.name}' stays as '{earlier}': {show}")
            store.undo(redo)
            retention.remove_unneeded(plan.steps)
            outcome = _do_pending(executor, workers, make_runner, retention)
            if executor.resources.with_text:
                add_texts(plan, store, executor.inputs)
    distributed.broadcast("")
    return outcome


def _join_trainings(executor: StepExecutor) -> Outcome:
    """Join the trainings that the first process begins."""
    while id := distributed.broadcast(""):
        with suppress(StepFailed):  # the first process reports it
            executor.do(executor.plan.steps[id])
    return Outcome()


def _do_pending(
    executor: StepExecutor, workers: int | None, make_runner: RunnerFactory | None, retention: Retention
) -> Outcome:
    plan, progress = executor.plan, executor.progress
    outcome = Outcome()
    for first in (True, False):  # the scores may choose a run whose encoder an earlier run of the recipe has removed
        given_up = {*outcome.failed, *outcome.skipped}
        pending = [step for step in pending_steps(plan, executor.store) if step.id not in given_up]
        done = len(plan.steps) - len(pending)
        if done and first:
            progress.say(f"{done} of {len(plan.steps)} steps are done already")
        if not pending:
            break
        _dispatch(executor, workers, make_runner, retention, pending, outcome)
    return outcome


def _dispatch(
    executor: StepExecutor,
    workers: int | None,
    make_runner: RunnerFactory | None,
    retention: Retention,
    pending: Sequence[Step],
    outcome: Outcome,
) -> None:
    """Do these steps; adds to the outcome."""
    plan, progress = executor.plan, executor.progress
    if (workers, make_runner) == (1, None):
        runner: Runner = InProcessRunner(Worker(executor))
    else:
        executor.forget()
        spec = RunSpec(plan, executor.store.folder.absolute(), executor.inputs.data, executor.resources)
        runner = (make_runner or ProcessRunner)(spec, min(workers or len(pending), len(pending)), progress)
    before = signal.getsignal(signal.SIGTERM)
    if not isinstance(runner, InProcessRunner) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a job's time limit ends the workers as Ctrl-C does
    try:
        Dispatcher(executor, runner, pending, retention, outcome).run()
    except KeyboardInterrupt:
        if not isinstance(runner, InProcessRunner):
            progress.say("asking the workers to end; press Ctrl-C again to end them at once")
        raise
    finally:
        runner.stop()
        if signal.getsignal(signal.SIGTERM) is signal.default_int_handler:
            signal.signal(signal.SIGTERM, before)
