"""The Ray runner: workers on the nodes of a cluster, each with a GPU, a part of one, or only cores."""

from __future__ import annotations

import logging
import os
import queue
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xstilts.compute.private import mute_ray_node_logs
from xstilts.errors import UserError, counted
from xstilts.execution.local import ATTEMPTS, STOP_SECONDS
from xstilts.execution.runner import RunSpec, StepRequest, StepResult
from xstilts.execution.worker import RemoteProgress, open_worker
from xstilts.utils.progress import Progress
from xstilts.utils.version import __version__

QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
"""Keeps Ray from sending usage statistics, and from a warning about GPUs that were not requested."""
os.environ.update({**QUIET, **os.environ})
# with this file `ray start` requires the token, and a process that joins must enable it
if (Path.home() / ".ray" / "auth_token").is_file():
    os.environ.setdefault("RAY_AUTH_MODE", "token")

import ray  # noqa: E402  (reads the environment when imported)
from ray.exceptions import ActorUnavailableError, RayActorError, RayError  # noqa: E402

ANSWER_SECONDS, JOIN_SECONDS = 5.0, 60.0
"""Time limits for a cluster's port to answer, and for joining the cluster."""
JOIN_PROGRAM = "import ray, sys; ray.init(sys.argv[1], log_to_driver=False, logging_level=40)"
"""Joins a cluster in a separate process, because on failure Ray retries for long and prints a lot."""
BATCH_SECONDS = 0.2
"""How long a worker collects messages before it sends them."""
NO_ROOM_SECONDS = 30.0
"""The run reports that the cluster has no room after this time without a worker."""
STORE_BYTES = 80 * 2**20
"""Ray's object memory on this machine; the runner hardly uses it."""
SHARED_HINT = "it must lie on a file system that all nodes share"


class Cluster:
    """A running Ray cluster, or one started on this machine for this run.

    Args:
        address: HOST:PORT of its head node, `auto` for the cluster on this machine, None to start one.
        workers: steps at once; by default one per GPU (or part of one), or one per node without GPUs.
        gpus: GPUs of each worker, at most one; by default one if the cluster has any.

    Raises:
        UserError: no cluster answers, or no node has room for such a worker.
    """

    def __init__(self, address: str | None = None, workers: int | None = None, gpus: float | None = None) -> None:
        self._workers, self._gpus = workers, gpus
        if address is not None:  # a local cluster is started only when needed
            _check_reachable(address)
            self._capacity = self._join(address)

    def __call__(self, spec: RunSpec, useful: int, progress: Progress) -> RayRunner:
        """The runner of a run, with at most `useful` workers."""
        if not ray.is_initialized():
            self._capacity = self._join("local")
        capacity = self._capacity
        workers = min(self._workers or capacity.workers, useful)
        each = (f"{capacity.gpus:g} GPU and " if capacity.gpus else "") + counted(capacity.cpus, "core")
        where = f"room for {capacity.workers} on {counted(capacity.nodes, 'node')}"
        progress.say(f"Ray: {counted(workers, 'worker')} with {each} each; {where}")
        return RayRunner(spec, capacity, workers, progress)

    def _join(self, address: str) -> Capacity:
        mute_ray_node_logs()
        local = {"include_dashboard": False, "object_store_memory": STORE_BYTES} if address == "local" else {}
        try:
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **local)
        except (ConnectionError, RuntimeError, ValueError, RayError) as error:
            raise UserError(" ".join(str(error).split()), where="Ray") from error
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if self._gpus is None:
            on_cpu = os.environ.get("XSTILTS_DEVICE", "").startswith("cpu")
            self._gpus = 0 if on_cpu else min(1, sum(node.get("GPU", 0) for node in nodes))
        return capacity_for(nodes, self._gpus, self._workers)


def _check_reachable(address: str) -> None:
    """Check that a cluster answers at an address and accepts this process."""
    where = f"--address {address}"
    host, _, port = address.rpartition(":")
    if address != "auto":
        if not host or "/" in host or not port.isdecimal() or int(port) > 65535:
            hint = "HOST:PORT, as `ray start --head` prints it; the port is 6379 if not given there"
            raise UserError("is not the address of a Ray cluster", where=where, hint=hint)
        try:
            socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()
        except OSError as error:
            what, hint = f"nothing answers there: {error.strerror or error}", "start a cluster with `ray start --head`"
            raise UserError(what, where=where, hint=hint) from error
    try:
        probe = subprocess.run(
            [sys.executable, "-c", JOIN_PROGRAM, address], capture_output=True, text=True, timeout=JOIN_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(f"no Ray cluster answers there in {JOIN_SECONDS:.0f} s", where=where) from error
    if "InvalidAuthToken" in probe.stderr:
        hint = "copy ~/.ray/auth_token from a machine of the cluster, and unset RAY_AUTH_MODE"
        raise UserError("the cluster needs a token", where=where, hint=hint)
    if probe.returncode:
        raise UserError(" ".join(probe.stderr.rsplit("Error: ", 1)[-1].split()), where=where)


@dataclass(frozen=True)
class Capacity:
    """How many workers a cluster has room for, and what each worker gets."""

    workers: int
    nodes: int
    cpus: int
    gpus: float


def capacity_for(nodes: Sequence[Mapping[str, float]], gpus: float, workers: int | None) -> Capacity:
    """Divide a cluster's cores among workers: each gets as many as leave room for all workers.

    >>> capacity_for([{"CPU": 16, "GPU": 2}, {"CPU": 8, "GPU": 1}], gpus=0.5, workers=None)
    Capacity(workers=6, nodes=2, cpus=4, gpus=0.5)
    >>> capacity_for([{"CPU": 16}, {"CPU": 16}], gpus=0, workers=None)
    Capacity(workers=2, nodes=2, cpus=16, gpus=0)

    Args:
        nodes: the resources of each node, as Ray names them.
        gpus: the GPUs of a worker, at most one.
        workers: the number wanted; None for one per GPU (or part of one), or one per node.

    Raises:
        UserError: no node has room for a worker.
    """

    def fit(cpus: int) -> list[int]:
        per_gpu = int(1 / gpus + 1e-9) if gpus else 0
        by_cpu = [int(node.get("CPU", 0)) // cpus for node in nodes]
        return [min(n, int(node.get("GPU", 0)) * per_gpu) if gpus else n for n, node in zip(by_cpu, nodes, strict=True)]

    limit = sum(fit(1))
    if not limit:
        has = f"{sum(node.get('GPU', 0) for node in nodes):g} GPUs"
        raise UserError(f"no node of the cluster has {gpus:g} GPU and a core; the cluster has {has}", where="--gpus")
    default = limit if gpus else sum(map(bool, fit(1)))
    wanted = min(workers or default, limit)
    cores = max(int(node.get("CPU", 0)) for node in nodes)
    cpus = max(cpus for cpus in range(1, cores + 1) if sum(fit(cpus)) >= wanted)
    return Capacity(sum(fit(cpus)), sum(map(bool, fit(cpus))), cpus, gpus)


# --- the main process's side ------------------------------------------------------------------------------------------


@dataclass
class _Slot:
    """A worker, its next answer, and its current step."""

    actor: Any
    answer: Any
    """Ray's reference to the worker's next messages; None while the worker is idle."""
    ready: bool = False
    step: str | None = None


class RayRunner:
    """Does the steps in workers on the nodes of a cluster; replaces a worker that dies if there is room.

    Args:
        spec: the run.
        capacity: what each worker gets.
        workers: their number; a worker starts as soon as there is room for it.
        progress: shows how far each worker is.
    """

    def __init__(self, spec: RunSpec, capacity: Capacity, workers: int, progress: Progress) -> None:
        descriptor, marker = tempfile.mkstemp(prefix=".ray-", suffix=".tmp", dir=spec.out)
        os.close(descriptor)
        environment = {} if capacity.gpus else {"CUDA_VISIBLE_DEVICES": ""}
        self._remote_run = _RemoteRun(spec, __version__, Path.cwd(), Path(marker), environment)
        self._table, self._say = progress.worker_table(workers), progress.say
        actors = ray.remote(_RayWorker)
        self._actors = actors.options(num_cpus=capacity.cpus, num_gpus=capacity.gpus, scheduling_strategy="SPREAD")
        self._failed_starts, self._idle_since = 0, time.monotonic()
        self._slots: list[_Slot] = []
        for _ in range(workers):
            self._slots.append(self._start_worker())

    @property
    def slots(self) -> int:
        """The number of workers, including those that have not started yet."""
        return len(self._slots)

    def _start_worker(self) -> _Slot:
        actor = self._actors.remote(self._remote_run)
        return _Slot(actor, actor.poll.remote())

    @property
    def free_slots(self) -> list[int]:
        """The slots of started workers without a step."""
        return [slot for slot, worker in enumerate(self._slots) if worker.ready and worker.step is None]

    def start(self, request: StepRequest) -> None:
        """Send a step to the worker of its slot."""
        worker = self._slots[request.slot]
        worker.step, worker.answer = request.step, worker.actor.poll.remote(request)

    def wait(self, seconds: float | None = None) -> StepResult | None:
        """Wait for the next result; shows the workers' progress meanwhile."""
        deadline, free_before = None if seconds is None else time.monotonic() + seconds, self.free_slots
        while True:
            left = NO_ROOM_SECONDS if deadline is None else min(NO_ROOM_SECONDS, max(0.0, deadline - time.monotonic()))
            answers = {worker.answer: slot for slot, worker in enumerate(self._slots) if worker.answer is not None}
            if not answers:
                time.sleep(left)
            for answer in ray.wait([*answers], timeout=left)[0] if answers else ():
                if (result := self._receive(answers[answer])) or self.free_slots != free_before:
                    return result
            if deadline is not None and time.monotonic() >= deadline:
                return None
            self._report_no_room()

    def _report_no_room(self) -> None:
        """Report once that no worker has started for a long time."""
        if any(worker.ready for worker in self._slots):
            self._idle_since = time.monotonic()
        elif time.monotonic() - self._idle_since > NO_ROOM_SECONDS:
            self._idle_since = float("inf")
            self._say("the cluster has no room for a worker now; waiting (`ray status` shows why)")

    def _receive(self, slot: int) -> StepResult | None:
        """Handle the messages of a worker; returns the result if there is one."""
        worker, result = self._slots[slot], None
        try:
            messages = ray.get(worker.answer)
        except RayActorError as error:
            return self._replace(slot, error)
        except RayError as error:
            raise UserError(f"the cluster failed: {_last_line(error)}", where="Ray", hint="run again") from error
        for kind, *values in messages:
            match kind:
                case "ready":
                    worker.ready, self._failed_starts = True, 0
                case "result":
                    (result,), worker.step = values, None
                case "refused":
                    raise values[0]
                case "broken":
                    raise RuntimeError(f"a worker on another node:\n{values[0]}")
                case _:
                    getattr(self._table[slot], kind)(*values)
        worker.answer = worker.actor.poll.remote() if worker.step else None
        return result

    def _replace(self, slot: int, error: RayActorError) -> StepResult | None:
        """Replace a worker that is gone or can no longer be reached."""
        worker = self._slots[slot]
        ray.kill(worker.actor)
        # until Ray notices that a node died, it reports the node's workers as unavailable
        lost = isinstance(error, ActorUnavailableError) or error.preempted or "node has died" in str(error)
        self._failed_starts += not worker.ready and not lost
        if self._failed_starts == ATTEMPTS:
            raise UserError(f"no worker can be started on the cluster: {_last_line(error)}", where="Ray") from error
        self._table[slot].clear()
        self._slots[slot] = self._start_worker()
        if worker.step is None:
            return None
        if lost:
            return StepResult(worker.step, "lost", detail="its node died")
        killed = "NODE_OUT_OF_MEMORY" in str(error)
        how = "was killed because its node ran out of memory" if killed else "died"
        return StepResult(worker.step, "died", detail=how)

    def stop(self) -> None:
        """End all workers, and the cluster if it was started for this run."""
        try:
            ending = [worker.answer or worker.actor.poll.remote() for worker in self._slots]
            for worker in self._slots:
                ray.kill(worker.actor)
            ray.wait(ending, num_returns=len(ending), timeout=STOP_SECONDS)
        finally:
            self._table.close()
            self._remote_run.marker.unlink(missing_ok=True)
            ray.shutdown()


def _last_line(error: Exception) -> str:
    return [line.strip() for line in str(error).splitlines() if line.strip()][-1]


# --- the worker's side ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _RemoteRun:
    """A run as sent to a node, with the values that a worker checks there before it starts."""

    spec: RunSpec
    version: str
    """The main process's version of this package."""
    directory: Path
    """The main process's working directory, for relative paths."""
    marker: Path
    """A file in the run folder that exists only during this run."""
    environment: Mapping[str, str]

    def enter(self) -> None:
        """Set up this process, and check that it has the same package and the same folders.

        Raises:
            UserError: the version or a folder differs.
        """
        os.environ.update(self.environment)
        with suppress(OSError):
            os.chdir(self.directory)
        node, out, data = f"node {socket.gethostname()}", self.spec.out, self.spec.data
        if self.version != __version__:
            what = f"xstilts {__version__} is installed there, {self.version} where the run was started"
            raise UserError(what, where=node, hint="install the same version on every node")
        if not self.marker.is_file():
            raise UserError("this node cannot see the run folder", where=f"{node}: {out}", hint=SHARED_HINT)
        if data is not None and not data.is_dir():
            raise UserError("this node cannot see the data folder", where=f"{node}: {data}", hint=SHARED_HINT)


class _RayWorker:
    """A Ray actor; its thread does the steps, and `poll` sends it requests and returns its messages."""

    def __init__(self, run: _RemoteRun) -> None:
        self._requests: queue.SimpleQueue[StepRequest] = queue.SimpleQueue()
        self._messages: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        threading.Thread(target=self._do_steps, args=(run,), daemon=True).start()

    def _do_steps(self, run: _RemoteRun) -> None:
        try:
            run.enter()
            with open_worker(run.spec, RemoteProgress(self._messages.put)) as worker:
                self._messages.put(("ready",))
                while True:
                    self._messages.put(("result", worker.do_remotely(self._requests.get())))
        except UserError as error:
            self._messages.put(("refused", error))
        except Exception:
            self._messages.put(("broken", traceback.format_exc()))

    def poll(self, request: StepRequest | None = None) -> list[tuple[Any, ...]]:
        """Request a step, if one is given, and wait for the worker's next messages."""
        if request is not None:
            self._requests.put(request)
        messages, deadline = [self._messages.get()], time.monotonic() + BATCH_SECONDS
        with suppress(queue.Empty):
            while messages[-1][0] != "result" and (left := deadline - time.monotonic()) > 0:
                messages.append(self._messages.get(timeout=left))
        return messages
