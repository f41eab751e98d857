"""The runners on this machine: in this process, or in several worker processes."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from multiprocessing.connection import wait as wait_for_any
from pathlib import Path

import torch

from xstilts.compute import device
from xstilts.errors import UserError
from xstilts.execution import worker_process
from xstilts.execution.runner import RunSpec, StepRequest, StepResult
from xstilts.execution.worker import Worker
from xstilts.store.run_folder import Store
from xstilts.training.checkpoint import temporary_file
from xstilts.utils.progress import Progress

STOP_SECONDS = 60.0
"""Seconds that workers have to end after a request; trainings write a checkpoint first, which may take longer."""
DISK_SPEED = 50e6
"""The bytes of a checkpoint that a slow disk takes in a second."""
PROGRAM = worker_process.__file__
"""The file that a worker process runs."""
ATTEMPTS = 3
"""The run ends after this many processes in a row died before they were ready."""


class InProcessRunner:
    """Does the steps in this process, one after the other."""

    slots = 1

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._request: StepRequest | None = None

    @property
    def free_slots(self) -> list[int]:
        """Slot 0, unless a step is requested."""
        return [] if self._request else [0]

    def start(self, request: StepRequest) -> None:
        """Store the request; `wait` does the step."""
        self._request = request

    def wait(self, seconds: float | None = None) -> StepResult | None:
        """Do the requested step."""
        request, self._request = self._request, None
        if request is not None:
            return self._worker.do(request)
        time.sleep(seconds or 0)
        return None

    def stop(self) -> None:
        """Do nothing; there are no processes."""


@dataclass
class _Slot:
    """A worker process, its pipe, and its current step."""

    process: subprocess.Popen[bytes]
    pipe: Connection
    step: str | None = None
    ready: bool = False


class ProcessRunner:
    """Does the steps in processes of this machine, which share its cores or have a GPU each.

    A worker ends by itself when the main process dies. A worker that dies is replaced.

    Args:
        spec: the run.
        workers: the number of processes.
        progress: shows how far each worker is.
    """

    def __init__(self, spec: RunSpec, workers: int, progress: Progress) -> None:
        self._spec, self._store, self._table = pickle.dumps(spec), Store(spec.out), progress.worker_table(workers)
        self._environments = [dict(worker_environment(slot, workers)) for slot in range(workers)]
        self._failed_starts = 0
        self._workers: list[_Slot] = []
        try:
            for slot in range(workers):
                self._workers.append(self._start_process(slot))
        except BaseException:
            self.stop()
            raise

    @property
    def slots(self) -> int:
        """The number of processes."""
        return len(self._environments)

    @property
    def free_slots(self) -> list[int]:
        """The slots without a step."""
        return [slot for slot, worker in enumerate(self._workers) if worker.step is None]

    def _start_process(self, slot: int) -> _Slot:
        pipe, worker_pipe = Pipe()
        command = [sys.executable, "-P", PROGRAM, str(worker_pipe.fileno())]
        with _interrupts_blocked(), self._table.streams() as (stdout, stderr):
            process = subprocess.Popen(
                command, pass_fds=[worker_pipe.fileno()], stdin=subprocess.DEVNULL, stdout=stdout,
                stderr=stderr, env={**os.environ, **self._environments[slot], "PYTHONUNBUFFERED": "1"},
            )  # fmt: skip
        worker_pipe.close()
        with suppress(BrokenPipeError):  # `wait` handles the death
            pipe.send(sys.path)
            pipe.send_bytes(self._spec)
        return _Slot(process, pipe)

    def start(self, request: StepRequest) -> None:
        """Send a step to the process of its slot."""
        worker = self._workers[request.slot]
        worker.step = request.step
        with suppress(BrokenPipeError):
            worker.pipe.send(request)

    def wait(self, seconds: float | None = None) -> StepResult | None:
        """Wait for the next result; shows the workers' progress meanwhile."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            pipes = wait_for_any([worker.pipe for worker in self._workers], left)
            for slot, worker in enumerate(self._workers):
                if worker.pipe in pipes and (result := self._receive(slot, worker)):
                    return result
            if left == 0.0:
                return None

    def _receive(self, slot: int, worker: _Slot) -> StepResult | None:
        """Handle one message of a worker; returns it if it is a result."""
        try:
            kind, *values = worker.pipe.recv()
        except (EOFError, ConnectionResetError):
            return self._replace(slot, worker)
        if kind == "result":
            worker.step = None
            return values[0]  # type: ignore[no-any-return]
        if kind == "ready":
            worker.ready, self._failed_starts = True, 0
        else:
            getattr(self._table[slot], kind)(*values)
        return None

    def _replace(self, slot: int, worker: _Slot) -> StepResult | None:
        """Replace a process that died."""
        worker.pipe.close()
        code = worker.process.wait()
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        self._failed_starts += not worker.ready
        if self._failed_starts == ATTEMPTS:
            raise UserError(f"no worker process can be started: the last one {how}", where="--workers")
        self._table[slot].clear()
        self._workers[slot] = self._start_process(slot)
        return StepResult(worker.step, "died", detail=how) if worker.step else None

    def stop(self) -> None:
        """Ask all processes to end, and kill those that do not."""
        try:
            for worker in self._workers:
                worker.process.terminate()
            deadline = time.monotonic() + STOP_SECONDS
            for worker in self._workers:
                wait_for_end(worker.process, temporary_file(self._store.step(worker.step or "")), deadline)
        finally:
            for worker in self._workers:
                worker.process.kill()
                worker.process.wait()
                worker.pipe.close()
            self._table.close()


def wait_for_end(process: subprocess.Popen[bytes], checkpoint: Path, deadline: float) -> None:
    """Wait until a process has ended, or until a time, which is later the more bytes of a checkpoint it writes."""
    most = 0
    while (left := deadline - time.monotonic()) > 0:
        with suppress(subprocess.TimeoutExpired):
            process.wait(min(left, 1.0))
            return
        written = checkpoint.stat().st_size if checkpoint.exists() else 0
        if written > most:
            most, deadline = written, max(deadline, time.monotonic() + STOP_SECONDS + written / DISK_SPEED)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Block Ctrl-C, so that processes started meanwhile ignore it; a terminal sends it to all its processes."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def worker_environment(slot: int, workers: int) -> Mapping[str, str]:
    """The environment variables that give a worker its threads, and its GPU if there is one."""
    share = {"OMP_NUM_THREADS": str(max(1, device.THREADS // workers))}
    asked = os.environ.get("XSTILTS_DEVICE", "cuda")
    if asked.startswith("cuda:"):  # one GPU for all
        share[device.GPU_SHARE] = str(1 / workers)
    elif asked == "cuda" and (number := torch.cuda.device_count()):
        visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(number)))
        share["CUDA_VISIBLE_DEVICES"] = visible.split(",")[slot % number]
        share[device.GPU_SHARE] = str(1 / len(range(slot % number, workers, number)))
    return share
