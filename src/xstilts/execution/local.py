"""The local runner: steps in this process, or in several processes of this machine."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection, Pipe
from multiprocessing.connection import wait as ready

import torch

from xstilts.compute import device
from xstilts.errors import UserError
from xstilts.execution.runner import RunSpec, StepRequest, StepResult, Worker, worker
from xstilts.utils.progress import Progress

PATIENCE = 60.0
"""Seconds that workers have to end by themselves once they are asked to; trainings write a checkpoint before."""
PROGRAM = """
import sys
sys.path[:] = {path!r}
import os, select, threading
from multiprocessing.connection import Connection

def watch():
    gone = select.poll()
    gone.register({pipe}, 0)
    gone.poll()
    os._exit(1)

pipe = Connection({pipe})
job = pipe.recv_bytes()
threading.Thread(target=watch, daemon=True).start()
from xstilts.execution.local import serve
serve(pipe, job)
"""
"""What a worker process runs: it takes its job, and looks out for the end of the main process, before it imports torch,
which takes seconds. When the main process is gone it ends at once, as if killed.
"""
ATTEMPTS = 3
"""Processes in a row that may die before they are ready."""


class InProcessRunner:
    """Steps are done in this process, one after the other."""

    slots = 1

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._order: StepRequest | None = None

    @property
    def free(self) -> list[int]:
        """This process, if it has no step."""
        return [] if self._order else [0]

    def start(self, order: StepRequest) -> None:
        """Take a step; it is done while it is waited for."""
        self._order = order

    def wait(self, seconds: float | None = None) -> StepResult | None:
        """Do the step that was started."""
        order, self._order = self._order, None
        if order is not None:
            return self._worker.do(order)
        time.sleep(seconds or 0)
        return None

    def stop(self) -> None:
        """Nothing is left behind."""


# --- the main process's side of several -------------------------------------------------------------------------------


@dataclass
class _Slot:
    """A process, how to talk to it, and the step that it does."""

    process: subprocess.Popen[bytes]
    pipe: Connection
    step: str | None = None
    ready: bool = False


class ProcessRunner:
    """Steps are done in processes of this machine, which share its cores or have a GPU each.

    A process ends by itself when the main process is gone, for it sees the end of its pipe; one that dies is replaced.

    Args:
        job: the run.
        workers: how many processes.
        progress: where they say how far they are.
    """

    def __init__(self, job: RunSpec, workers: int, progress: Progress) -> None:
        self._job, self._lanes = pickle.dumps(job), progress.lanes(workers)
        self._environments = [dict(environment(slot, workers)) for slot in range(workers)]
        self._failures = 0
        self._open: list[_Slot] = []
        try:
            for slot in range(workers):
                self._open.append(self._begun(slot))
        except BaseException:
            self.stop()
            raise

    @property
    def slots(self) -> int:
        """The number of processes."""
        return len(self._environments)

    @property
    def free(self) -> list[int]:
        """Those without a step."""
        return [slot for slot, at in enumerate(self._open) if at.step is None]

    def _begun(self, slot: int) -> _Slot:
        mine, its = Pipe()
        code = PROGRAM.format(path=sys.path, pipe=its.fileno())
        with _uninterrupted():
            process = subprocess.Popen(
                [sys.executable, "-c", code], pass_fds=[its.fileno()], stdin=subprocess.DEVNULL,
                env={**os.environ, **self._environments[slot]},
            )  # fmt: skip
        its.close()
        with suppress(BrokenPipeError):  # which is found out when it is waited for
            mine.send_bytes(self._job)
        return _Slot(process, mine)

    def start(self, order: StepRequest) -> None:
        """Send a step to the process of its slot."""
        at = self._open[order.slot]
        at.step = order.step
        with suppress(BrokenPipeError):
            at.pipe.send(order)

    def wait(self, seconds: float | None = None) -> StepResult | None:
        """The next step that has ended; meanwhile it is shown how far they are."""
        until = None if seconds is None else time.monotonic() + seconds
        while True:
            left = None if until is None else max(0.0, until - time.monotonic())
            heard = ready([at.pipe for at in self._open], left)
            for slot, at in enumerate(self._open):
                if at.pipe in heard and (ended := self._heard(slot, at)):
                    return ended
            if left == 0.0:
                return None

    def _heard(self, slot: int, at: _Slot) -> StepResult | None:
        """Take one message of a worker."""
        try:
            what, *values = at.pipe.recv()
        except (EOFError, ConnectionResetError):
            return self._died(slot, at)
        if what == "ended":
            at.step = None
            return values[0]  # type: ignore[no-any-return]
        if what == "ready":
            at.ready, self._failures = True, 0
        else:
            getattr(self._lanes[slot], what)(*values)
        return None

    def _died(self, slot: int, at: _Slot) -> StepResult | None:
        """Put another process in the slot of one that is gone."""
        at.pipe.close()
        code = at.process.wait()
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        self._failures += not at.ready
        if self._failures == ATTEMPTS:
            raise UserError(f"no worker process can be started: the last one {how}", where="--workers")
        self._lanes[slot].row = ("", "", "")
        self._open[slot] = self._begun(slot)
        return StepResult(at.step, "died", text=how) if at.step else None

    def stop(self) -> None:
        """Ask all processes to end, and end those that do not."""
        try:
            for at in self._open:
                at.process.terminate()
            until = time.monotonic() + PATIENCE
            for at in self._open:
                with suppress(subprocess.TimeoutExpired):
                    at.process.wait(max(0.0, until - time.monotonic()))
        finally:
            for at in self._open:
                at.process.kill()
                at.process.wait()
                at.pipe.close()
            self._lanes.close()


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C goes to all processes of a terminal: those that are started meanwhile do not hear it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def environment(slot: int, workers: int) -> Mapping[str, str]:
    """What tells a worker its share of the machine: its threads, and its GPU where there are any."""
    share = {"OMP_NUM_THREADS": str(max(1, device.THREADS // workers))}
    if os.environ.get("XSTILTS_DEVICE", "cuda") == "cuda" and (number := torch.cuda.device_count()):
        shown = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(number)))
        share["CUDA_VISIBLE_DEVICES"] = shown.split(",")[slot % number]
    return share


# --- the worker's side ------------------------------------------------------------------------------------------------


class Relay(Progress):
    """Sends the main process what is to be shown."""

    def __init__(self, send: Callable[[tuple[object, ...]], None]) -> None:
        self.live, self._send = False, send

    def step(self, number: int, total: int, title: str) -> None:
        """A step begins."""
        self._send(("step", number, total, title))

    def at(self, done: int, total: int, what: str, seconds_left: float | None = None) -> None:
        """It has come so far."""
        self._send(("at", done, total, what, seconds_left))

    def end(self, text: str) -> None:
        """It ends."""
        self._send(("end", text))

    def say(self, text: str) -> None:
        """A line that stays."""
        self._send(("say", text))


def serve(pipe: Connection, job: bytes) -> None:
    """Do the steps that come through a pipe, until somebody asks to end."""
    signal.signal(signal.SIGTERM, _end)
    try:
        with worker(pickle.loads(job), Relay(pipe.send)) as here:
            pipe.send(("ready",))
            if not pipe.poll():  # the first steps are others'
                for name in ("torch._dynamo", "transformers.modeling_utils"):  # a step's first seconds go into these
                    import_module(name)
            while True:
                pipe.send(("ended", ended(here, pipe.recv())))
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
    except (SystemExit, EOFError, BrokenPipeError):
        pass
    except BaseException:
        traceback.print_exc()
    finally:  # without the time that Python takes to leave
        sys.stderr.flush()
        os._exit(1)


def ended(here: Worker, order: StepRequest) -> StepResult:
    """Do a step, and tell also of a mistake of ours how it went."""
    try:
        return here.do(order)
    except Exception:
        return StepResult(order.step, "broken", text=traceback.format_exc())


def _end(*_: object) -> None:
    raise SystemExit
