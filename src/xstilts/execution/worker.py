"""The worker: does requested steps one at a time, and reports progress to the main process."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection

from safetensors import SafetensorError

from xstilts.compute import device, distributed, memory
from xstilts.compute.private import import_compiler
from xstilts.errors import OutOfMemory, StepFailed, UserError
from xstilts.execution.inputs import StepInputs
from xstilts.execution.pending import pending_steps
from xstilts.execution.precision import check_precision, check_step
from xstilts.execution.runner import RunSpec, StepRequest, StepResult
from xstilts.execution.steps import StepExecutor
from xstilts.store.run_folder import Store, lock_shared
from xstilts.store.step_record import StepState
from xstilts.training.settings import CHECKPOINT
from xstilts.utils.os_errors import as_user_error
from xstilts.utils.progress import Progress


@dataclass
class Worker:
    """Does one step at a time."""

    executor: StepExecutor

    def do(self, request: StepRequest) -> StepResult:
        """Claim a step and do it, unless another run has it; under torchrun the other processes join a training."""
        executor, step = self.executor, self.executor.plan.steps[request.step]
        try:
            with as_user_error(executor.store.folder, SafetensorError), executor.store.claim(step.id) as claimed:
                if not claimed:
                    return StepResult(step.id, "busy")
                state = executor.store.state(step.id)
                if state is StepState.DONE or (state is not StepState.MISSING and not request.repeat):
                    return StepResult(step.id, "already")
                check_step(step, executor.plan, executor.store)
                executor.progress.step(request.number, request.total, step.name, step.id, step.kind)
                if step.kind == "train":
                    distributed.broadcast(step.id)
                try:
                    executor.do(step)
                except StepFailed as failure:
                    if not isinstance(failure, OutOfMemory):
                        (executor.store.step(step.id) / CHECKPOINT).unlink(missing_ok=True)
                    executor.progress.end(str(failure))
                    return StepResult(step.id, "failed", copy(failure))  # whose traceback would hold all tensors
                finally:
                    memory.free(device.device())  # other workers may share the accelerator
        except UserError as error:
            return StepResult(step.id, "refused", error)
        return StepResult(step.id, "done")

    def do_remotely(self, request: StepRequest) -> StepResult:
        """Do a step for another process; returns the traceback of a bug instead of raising it."""
        try:
            return self.do(request)
        except Exception:
            return StepResult(request.step, "broken", detail=traceback.format_exc())


@contextmanager
def open_worker(spec: RunSpec, progress: Progress) -> Iterator[Worker]:
    """Make a worker in its own process; it also locks the run folder, because it may outlive the main process."""
    with lock_shared(Store(spec.out)) as store:
        check_precision(pending_steps(spec.plan, store), spec.plan, store)
        yield Worker(StepExecutor(spec.plan, store, StepInputs(spec.plan, spec.data), progress, spec.resources))


class RemoteProgress(Progress):
    """Sends progress to the main process: each call as a tuple of method name and arguments."""

    def __init__(self, send: Callable[[tuple[object, ...]], None]) -> None:
        self.live, self._send = False, send

    def step(self, number: int, total: int, title: str, id: str = "", kind: str = "") -> None:
        """Begin step `number` of `total`."""
        self._send(("step", number, total, title, id, kind))

    def update(
        self, done: int, total: int, details: str, seconds_left: float | None = None, loss: float | None = None
    ) -> None:
        """Show how far the step is."""
        self._send(("update", done, total, details, seconds_left, loss))

    def end(self, text: str) -> None:
        """End the step with one line that stays."""
        self._send(("end", text))

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self._send(("say", text))


def serve(pipe: Connection, spec: bytes) -> None:
    """Do the steps requested through a pipe, then exit when the main process ends it."""
    signal.signal(signal.SIGTERM, _exit)
    try:
        with open_worker(pickle.loads(spec), RemoteProgress(pipe.send)) as worker:
            pipe.send(("ready",))
            if not pipe.poll():  # no step yet: import now what the first step needs
                import_compiler()
                import_module("transformers.modeling_utils")
            while True:
                pipe.send(("result", worker.do_remotely(pipe.recv())))
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
    except (SystemExit, EOFError, BrokenPipeError):
        pass
    except BaseException:
        traceback.print_exc()
    finally:  # skips Python's slow shutdown
        sys.stderr.flush()
        os._exit(1)


def _exit(*_: object) -> None:
    raise SystemExit
