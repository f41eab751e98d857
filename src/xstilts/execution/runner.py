"""What a run sends to its workers and gets back, and what every runner offers.

The main process checks the inputs. The `Scheduler` then picks the next step for each free slot of a runner. A `Worker`
does the step and returns its result. A runner is in-process, on this machine, or on a Ray cluster.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from safetensors import SafetensorError

from xstilts.compute import distributed
from xstilts.errors import StepFailed, UserError
from xstilts.execution.inputs import StepInputs
from xstilts.execution.steps import Resources, StepExecutor
from xstilts.store.run_folder import Store, opened
from xstilts.store.step_record import StepState
from xstilts.study.plan import Plan
from xstilts.training.settings import CHECKPOINT
from xstilts.utils.os_errors import as_user_error
from xstilts.utils.progress import Progress


@dataclass(frozen=True)
class RunSpec:
    """What a worker must know of a run, to be sent to another process; all paths must mean the same there."""

    plan: Plan
    out: Path
    """The store, which all workers read and write."""
    data: Path | None
    resources: Resources


@dataclass(frozen=True)
class StepRequest:
    """One step to be done: the id, in which slot, and which of how many it is, to be shown."""

    step: str
    slot: int
    """Which of the runner's slots, from 0; a worker that stays there keeps the encoder of its last step in memory."""
    number: int
    total: int
    again: bool = False
    """Whether it was done before, and its encoder is wanted that was removed."""


@dataclass(frozen=True)
class StepResult:
    """How a step went.

    done      by this worker
    already   by another run, before
    busy      another run is at it: to be tried again later
    failed    by itself (`error` says why); the steps that do not start from it go on
    refused   the run must end: `error` is for the user
    broken    a mistake of ours: `text` is the traceback
    died      the worker is gone, `text` says how; the step is to be tried again
    lost      its whole machine is gone, for which no step is to blame: to be tried again once its claim is free
    """

    step: str
    how: Literal["done", "already", "busy", "failed", "refused", "broken", "died", "lost"]
    error: UserError | None = None
    text: str = ""


class Runner(Protocol):
    """Where steps are done, each in one of a number of slots."""

    @property
    def slots(self) -> int:
        """How many steps may be under way."""

    @property
    def free(self) -> list[int]:
        """The places where a step may begin now."""

    def start(self, order: StepRequest) -> None:
        """Begin a step in a free slot."""

    def wait(self, seconds: float | None = None) -> StepResult | None:
        """The next step that has ended; None after so many seconds, or where other slots have become free."""

    def stop(self) -> None:
        """End all workers, also in the middle of a step; their checkpoints stay. A second interrupt ends them at once.

        It is called once, at the end of every run.
        """


@dataclass
class Worker:
    """Does one step at a time, whole."""

    executor: StepExecutor

    def do(self, order: StepRequest) -> StepResult:
        """Claim a step and do it, unless another run does; with several processes to a training call the others."""
        executor, step = self.executor, self.executor.plan.steps[order.step]
        try:
            with as_user_error(executor.store.folder, SafetensorError), executor.store.claim(step.id) as ours:
                if not ours:
                    return StepResult(step.id, "busy")
                state = executor.store.state(step.id)
                if state is StepState.DONE or (state is not StepState.MISSING and not order.again):
                    return StepResult(step.id, "already")
                executor.progress.step(order.number, order.total, step.name)
                if step.kind == "train":
                    distributed.broadcast(step.id)
                try:
                    executor.do(step)
                except StepFailed as failure:
                    (executor.store.step(step.id) / CHECKPOINT).unlink(missing_ok=True)
                    executor.progress.end(str(failure))
                    return StepResult(step.id, "failed", failure)
        except UserError as error:
            return StepResult(step.id, "refused", error)
        return StepResult(step.id, "done")


@contextmanager
def worker(job: RunSpec, progress: Progress) -> Iterator[Worker]:
    """A worker in a process of its own, which holds the store for itself, for it may outlive the main process a little.

    Args:
        job: the run.
        progress: told how each step goes; `Progress(live=False)` prints it here.
    """
    with opened(Store(job.out)) as store:
        yield Worker(StepExecutor(job.plan, store, StepInputs(job.plan, job.data), progress, job.resources))
