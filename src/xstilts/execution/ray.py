"""The Ray runner: steps on the nodes of a cluster, in workers that have a GPU each, a part of one, or some cores."""

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

import xstilts
from xstilts.errors import UserError
from xstilts.execution.local import ATTEMPTS, PATIENCE, Relay, ended
from xstilts.execution.runner import RunSpec, StepRequest, StepResult, worker
from xstilts.utils.progress import Progress

SILENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
"""What keeps Ray from reporting home, and from a warning about GPUs that are not asked for."""
os.environ.update({**SILENT, **os.environ})
if (
    Path.home() / ".ray" / "auth_token"
).is_file():  # `ray start` asks for it then, but who joins must say that he has it
    os.environ.setdefault("RAY_AUTH_MODE", "token")

import ray  # noqa: E402  (it reads these when it is imported)
from ray.exceptions import ActorUnavailableError, RayActorError, RayError  # noqa: E402

ANSWER, JOIN = 5.0, 60.0
"""Seconds in which a cluster's port must answer, and in which it must be joined."""
PROBE = "import ray, sys; ray.init(sys.argv[1], log_to_driver=False, logging_level=40)"
"""Joins a cluster in a process of its own: Ray tries long and prints much where that fails."""
TOGETHER = 0.2
"""Seconds for which what a worker says is gathered before it is sent."""
CROWDED = 30.0
"""Seconds without any worker after which it is said that the cluster has no room."""
STORE_BYTES = 80 * 2**20
"""Ray's memory for objects on this machine; nearly nothing goes through it."""
SHARED = "it must lie on a file system that all nodes share"


class Cluster:
    """A Ray cluster that is there, or one that is started on this machine for the time of the run.

    Args:
        address: HOST:PORT of its head node, `auto` for the one that runs on this machine; None starts one.
        workers: steps at once; by default one a GPU (or a part of one), or one a node where there are no GPUs.
        gpus: what each worker has, a part of one or one; by default one if the cluster has any.

    Raises:
        UserError: no cluster answers there; it has no node for such a worker.
    """

    def __init__(self, address: str | None = None, workers: int | None = None, gpus: float | None = None) -> None:
        self._workers, self._gpus = workers, gpus
        if address is not None:  # what is started here is started when it is needed
            _answers(address)
            self._room = self._join(address)

    def __call__(self, job: RunSpec, most: int, progress: Progress) -> Ray:
        """The runner of a run, with so many workers at most."""
        if not ray.is_initialized():
            self._room = self._join("local")
        room = self._room
        workers = min(self._workers or room.workers, most)
        each = (f"{room.gpus:g} GPU and " if room.gpus else "") + _many(room.cpus, "core")
        where = f"room for {room.workers} on {_many(room.nodes, 'node')}"
        progress.say(f"Ray: {_many(workers, 'worker')} with {each} each; {where}")
        return Ray(job, room, workers, progress)

    def _join(self, address: str) -> Room:
        # what Ray tells of its nodes goes to stdout, where the tables go; what matters of it is said by the runner
        ray._private.worker._worker_logs_enabled = False
        here = {"include_dashboard": False, "object_store_memory": STORE_BYTES} if address == "local" else {}
        try:
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **here)
        except (ConnectionError, RuntimeError, ValueError, RayError) as error:
            raise UserError(" ".join(str(error).split()), where="Ray") from error
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if self._gpus is None:
            on_cpu = os.environ.get("XSTILTS_DEVICE", "").startswith("cpu")
            self._gpus = 0 if on_cpu else min(1, sum(node.get("GPU", 0) for node in nodes))
        return room(nodes, self._gpus, self._workers)


def _many(number: int, thing: str) -> str:
    return f"{number} {thing}" + "s" * (number != 1)


def _answers(address: str) -> None:
    """See that a cluster answers at an address, and lets us in."""
    where = f"--address {address}"
    host, _, port = address.rpartition(":")
    if address != "auto":
        if not host or "/" in host or not port.isdecimal() or int(port) > 65535:
            hint = "HOST:PORT, as `ray start --head` prints it; the port is 6379 if not given there"
            raise UserError("is not the address of a Ray cluster", where=where, hint=hint)
        try:
            socket.create_connection((host, int(port)), timeout=ANSWER).close()
        except OSError as error:
            what, hint = f"nothing answers there: {error.strerror or error}", "start a cluster with `ray start --head`"
            raise UserError(what, where=where, hint=hint) from error
    try:
        probe = subprocess.run([sys.executable, "-c", PROBE, address], capture_output=True, text=True, timeout=JOIN)
    except subprocess.TimeoutExpired as error:
        raise UserError(f"no Ray cluster answers there in {JOIN:.0f} s", where=where) from error
    if "InvalidAuthToken" in probe.stderr:
        hint = "copy ~/.ray/auth_token from a machine of the cluster, and unset RAY_AUTH_MODE"
        raise UserError("the cluster asks for a token", where=where, hint=hint)
    if probe.returncode:
        raise UserError(" ".join(probe.stderr.rsplit("Error: ", 1)[-1].split()), where=where)


@dataclass(frozen=True)
class Room:
    """How many workers a cluster has room for, and what each of them has."""

    workers: int
    nodes: int
    cpus: int
    gpus: float


def room(nodes: Sequence[Mapping[str, float]], gpus: float, workers: int | None) -> Room:
    """Share the cores of a cluster out among workers: as many each as leave room for all of them.

    >>> room([{"CPU": 16, "GPU": 2}, {"CPU": 8, "GPU": 1}], gpus=0.5, workers=None)
    Room(workers=6, nodes=2, cpus=4, gpus=0.5)
    >>> room([{"CPU": 16}, {"CPU": 16}], gpus=0, workers=None)
    Room(workers=2, nodes=2, cpus=16, gpus=0)

    Args:
        nodes: the resources of each node, as Ray names them.
        gpus: what a worker needs, at most one.
        workers: how many are wanted; None for one a GPU (or part of one), or one a node.

    Raises:
        UserError: no node has room for one.
    """

    def fit(cpus: int) -> list[int]:
        per_gpu = int(1 / gpus + 1e-9) if gpus else 0
        by_cpu = [int(node.get("CPU", 0)) // cpus for node in nodes]
        return [min(n, int(node.get("GPU", 0)) * per_gpu) if gpus else n for n, node in zip(by_cpu, nodes, strict=True)]

    most = sum(fit(1))
    if not most:
        has = f"{sum(node.get('GPU', 0) for node in nodes):g} GPUs"
        raise UserError(f"no node of the cluster has {gpus:g} GPU and a core; all together have {has}", where="--gpus")
    usual = most if gpus else sum(map(bool, fit(1)))
    wanted = min(workers or usual, most)
    cores = max(int(node.get("CPU", 0)) for node in nodes)
    cpus = max(cpus for cpus in range(1, cores + 1) if sum(fit(cpus)) >= wanted)
    return Room(sum(fit(cpus)), sum(map(bool, fit(cpus))), cpus, gpus)


# --- the main process's side ------------------------------------------------------------------------------------------


@dataclass
class _Slot:
    """A worker, what it will say next, and the step that it does."""

    actor: Any
    said: Any
    """Ray's reference to the answer that is waited for; None while the worker has nothing to do."""
    ready: bool = False
    step: str | None = None


class Ray:
    """Steps are done by workers on the nodes of a cluster; for one that dies another is begun where there is room.

    Args:
        job: the run.
        room: what each worker has.
        workers: how many; those for which there is no room begin when there is.
        progress: where they say how far they are.
    """

    def __init__(self, job: RunSpec, room: Room, workers: int, progress: Progress) -> None:
        number, sign = tempfile.mkstemp(prefix=".ray-", suffix=".tmp", dir=job.out)
        os.close(number)
        environment = {} if room.gpus else {"CUDA_VISIBLE_DEVICES": ""}
        self._site = _Site(job, xstilts.__version__, Path.cwd(), Path(sign), environment)
        self._lanes, self._say = progress.lanes(workers), progress.say
        self._kind = ray.remote(_Remote).options(num_cpus=room.cpus, num_gpus=room.gpus, scheduling_strategy="SPREAD")
        self._failures, self._none_since = 0, time.monotonic()
        self._at: list[_Slot] = []
        for _ in range(workers):
            self._at.append(self._begun())

    @property
    def slots(self) -> int:
        """The number of workers, also of those that have not begun yet."""
        return len(self._at)

    def _begun(self) -> _Slot:
        actor = self._kind.remote(self._site)
        return _Slot(actor, actor.hear.remote())

    @property
    def free(self) -> list[int]:
        """Those that have begun, and have no step."""
        return [slot for slot, at in enumerate(self._at) if at.ready and at.step is None]

    def start(self, order: StepRequest) -> None:
        """Send a step to the worker of its slot."""
        at = self._at[order.slot]
        at.step, at.said = order.step, at.actor.hear.remote(order)

    def wait(self, seconds: float | None = None) -> StepResult | None:
        """The next step that has ended; meanwhile it is shown how far they are."""
        until, free = None if seconds is None else time.monotonic() + seconds, self.free
        while True:
            left = CROWDED if until is None else min(CROWDED, max(0.0, until - time.monotonic()))
            saying = {at.said: slot for slot, at in enumerate(self._at) if at.said is not None}
            if not saying:
                time.sleep(left)
            for said in ray.wait([*saying], timeout=left)[0] if saying else ():
                if (ended := self._heard(saying[said])) or self.free != free:
                    return ended
            if until is not None and time.monotonic() >= until:
                return None
            self._crowded()

    def _crowded(self) -> None:
        """Say once when there is no worker for long."""
        if any(at.ready for at in self._at):
            self._none_since = time.monotonic()
        elif time.monotonic() - self._none_since > CROWDED:
            self._none_since = float("inf")
            self._say("the cluster has no room for a worker now; this run waits until it has (`ray status` shows why)")

    def _heard(self, slot: int) -> StepResult | None:
        """Take what a worker has said."""
        at, ended = self._at[slot], None
        try:
            said = ray.get(at.said)
        except RayActorError as error:
            return self._gone(slot, error)
        except RayError as error:
            raise UserError(f"the cluster failed: {_last_line(error)}", where="Ray", hint="run again") from error
        for what, *values in said:
            match what:
                case "ready":
                    at.ready, self._failures = True, 0
                case "ended":
                    (ended,), at.step = values, None
                case "refused":
                    raise values[0]
                case "broken":
                    raise RuntimeError(f"a worker on another node:\n{values[0]}")
                case _:
                    getattr(self._lanes[slot], what)(*values)
        at.said = at.actor.hear.remote() if at.step else None
        return ended

    def _gone(self, slot: int, error: RayActorError) -> StepResult | None:
        """Begin another worker for one that is gone, or cannot be reached any more."""
        at = self._at[slot]
        ray.kill(at.actor)
        # that a node is dead is known after some time; until then its workers cannot be reached
        lost = isinstance(error, ActorUnavailableError) or error.preempted or "node has died" in str(error)
        self._failures += not at.ready and not lost
        if self._failures == ATTEMPTS:
            raise UserError(f"no worker can be started on the cluster: {_last_line(error)}", where="Ray") from error
        self._lanes[slot].row = ("", "", "")
        self._at[slot] = self._begun()
        if at.step is None:
            return None
        if lost:
            return StepResult(at.step, "lost", text="its node died")
        short = "NODE_OUT_OF_MEMORY" in str(error)
        return StepResult(at.step, "died", text="was killed, for its node ran out of memory" if short else "died")

    def stop(self) -> None:
        """End all workers at once; a cluster that was started for this run ends with them."""
        try:
            ending = [at.said or at.actor.hear.remote() for at in self._at]
            for at in self._at:
                ray.kill(at.actor)
            ray.wait(ending, num_returns=len(ending), timeout=PATIENCE)
        finally:
            self._lanes.close()
            self._site.sign.unlink(missing_ok=True)
            ray.shutdown()


def _last_line(error: Exception) -> str:
    return [line.strip() for line in str(error).splitlines() if line.strip()][-1]


# --- the worker's side ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Site:
    """A run, and how a worker makes sure that it is at the place where the main process is."""

    job: RunSpec
    version: str
    """The main process's version of this package."""
    here: Path
    """The main process's working directory, from which names of files start."""
    sign: Path
    """A file in the run folder, which is there for the time of this run only."""
    environment: Mapping[str, str]

    def enter(self) -> None:
        """See that the package is the same, and that the folders are to be seen here.

        Raises:
            UserError: they are not.
        """
        os.environ.update(self.environment)
        with suppress(OSError):
            os.chdir(self.here)
        host, out, data = socket.gethostname(), self.job.out, self.job.data
        if self.version != xstilts.__version__:
            what = f"xstilts {xstilts.__version__} is installed there, {self.version} where the run was started"
            raise UserError(what, where=f"node {host}", hint="install the same version on every node")
        if not self.sign.is_file():
            raise UserError("this run's folder is not to be seen there", where=f"node {host}: {out}", hint=SHARED)
        if data is not None and not data.is_dir():
            raise UserError("the data folder is not to be seen there", where=f"node {host}: {data}", hint=SHARED)


class _Remote:
    """A worker: a thread does the steps, one at a time, and Ray's calls ask what there is to be said."""

    def __init__(self, site: _Site) -> None:
        self._orders: queue.SimpleQueue[StepRequest] = queue.SimpleQueue()
        self._said: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        threading.Thread(target=self._work, args=(site,), daemon=True).start()

    def _work(self, site: _Site) -> None:
        try:
            site.enter()
            with worker(site.job, Relay(self._said.put)) as here:
                self._said.put(("ready",))
                while True:
                    self._said.put(("ended", ended(here, self._orders.get())))
        except UserError as error:
            self._said.put(("refused", error))
        except Exception:
            self._said.put(("broken", traceback.format_exc()))

    def hear(self, order: StepRequest | None = None) -> list[tuple[Any, ...]]:
        """Take a step, if one is given, and wait until there is something to be said."""
        if order is not None:
            self._orders.put(order)
        said, until = [self._said.get()], time.monotonic() + TOGETHER
        with suppress(queue.Empty):
            while said[-1][0] != "ended" and (left := until - time.monotonic()) > 0:
                said.append(self._said.get(timeout=left))
        return said
