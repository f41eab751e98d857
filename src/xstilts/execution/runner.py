"""The interface of runners: requests to workers, and their results.

The main process checks the inputs. The `Scheduler` then picks the next step for each free slot of a runner. A `Worker`
does the step and returns its result. A runner is in-process, on this machine, or on a Ray cluster.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from xstilts.errors import UserError
from xstilts.execution.steps import Resources
from xstilts.study.plan import Plan


@dataclass(frozen=True)
class RunSpec:
    """A run as sent to its workers; the paths must be valid in their processes."""

    plan: Plan
    out: Path
    """The run folder, which all workers read and write."""
    data: Path | None
    resources: Resources


@dataclass(frozen=True)
class StepRequest:
    """A step for a worker to do."""

    step: str
    slot: int
    """The runner's slot, from 0; the worker of a slot keeps the encoder of its last step in memory."""
    number: int
    """The step's number among `total`, for progress."""
    total: int
    repeat: bool = False
    """Whether to repeat a finished step, to make its removed encoder again."""


@dataclass(frozen=True)
class StepResult:
    """How a step ended.

    done      this worker did it
    already   another run did it before
    busy      another run is doing it; try again later
    failed    the step cannot be finished (`error` says why); steps that do not depend on it go on
    refused   the run must end; `error` is for the user
    broken    a bug; `detail` is the traceback
    died      the worker died (`detail` says how); try the step again
    lost      the worker's machine is gone; try the step again once its claim is free
    """

    step: str
    status: Literal["done", "already", "busy", "failed", "refused", "broken", "died", "lost"]
    error: UserError | None = None
    detail: str = ""


class Runner(Protocol):
    """Does steps, each in one of a fixed number of slots."""

    @property
    def slots(self) -> int:
        """How many steps may run at once."""

    @property
    def free_slots(self) -> list[int]:
        """The slots where a step may start now."""

    def start(self, request: StepRequest) -> None:
        """Start a step in a free slot."""

    def wait(self, seconds: float | None = None) -> StepResult | None:
        """The next result; None after `seconds`, or when other slots have become free."""

    def stop(self) -> None:
        """End all workers, even in the middle of a step; their checkpoints stay. A second interrupt ends them at once.

        Called once, at the end of every run.
        """
