"""Processes that train together: they end together when one fails, and train as one."""

import errno
import gc
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from conftest import Files, failing_at
from xstilts.compute import distributed, gradient_sum
from xstilts.compute.device import device
from xstilts.compute.gradient_sum import GradientSum, buckets
from xstilts.errors import StepFailed, UserError
from xstilts.execution import local
from xstilts.execution.steps import StepExecutor
from xstilts.model import evaluate
from xstilts.model.encoder import Encoder
from xstilts.model.trained import TrainedModel
from xstilts.training import word_table
from xstilts.training.checkpoint import Checkpoint
from xstilts.training.early_stopping import BestWeights
from xstilts.training.optimizer import Optimizer

FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
LIMIT = 60.0
"""Seconds in which all processes end after one has failed."""


def send(number: int) -> Callable[..., Any]:
    return lambda *_: os.kill(os.getpid(), number)


def by_rows(add: Callable[..., None]) -> Callable[..., None]:
    """The processes update the word table by rows, and send no other of its gradients; memory is full once."""
    word_table.MIN_NUMBERS = 1
    Encoder.hidden = failing_at(Encoder.hidden, 3, FULL)  # type: ignore[method-assign]

    def add_rows(self: GradientSum, parameters: list[Tensor]) -> None:
        add(self, parameters)
        *_, table, rows = parameters
        assert table.grad is None and rows.grad is not None and len(rows) < len(table)

    return add_rows


def stays_equal(close: Callable[[Optimizer], None]) -> Callable[[Optimizer], None]:
    """The processes update the word table by rows, and at the end compare their weights."""
    word_table.MIN_NUMBERS = 1

    def close_and_compare(self: Optimizer) -> None:
        close(self)
        first, *others = distributed.all_gather([one.detach() for one in self.parameters])
        for other in others:
            assert all(one.equal(another) for one, another in zip(first, other, strict=True)), "weights differ"

    return close_and_compare


FAULTS: dict[str, tuple[Any, str, Callable[[Any], Any]]] = {
    "full once": (Encoder, "hidden", lambda f: failing_at(f, 3, FULL)),
    "full for good": (Encoder, "hidden", lambda f: failing_at(f, 3, FULL, times=99)),
    "full in the update": (Optimizer, "step", lambda f: failing_at(f, 4, FULL)),
    "bug": (Encoder, "hidden", lambda f: failing_at(f, 3, ValueError("an oversight"))),
    "failed on dev": (evaluate, "head_outputs", lambda f: failing_at(f, 2, StepFailed("no number"))),
    "full disk": (TrainedModel, "save", lambda f: failing_at(f, 1, OSError(errno.ENOSPC, "No space left", "there"))),
    "no checkpoint": (Checkpoint, "_write", lambda f: failing_at(f, 3, OSError(errno.ENOSPC, "No space", "there"))),
    "other files": (StepExecutor, "_origin", lambda f: lambda *given: [*f(*given), "sha256"]),
    "cannot read": (Checkpoint, "_read", lambda _: lambda _: None),
    "killed": (Optimizer, "step", lambda f: lambda *a: (f(*a), os.kill(os.getpid(), signal.SIGKILL))[0]),
    "by rows": (GradientSum, "sum", by_rows),
    "stays equal": (Optimizer, "close", stays_equal),
    "small buckets": (gradient_sum, "BUCKET", lambda _: 1000),
    "interrupted": (Optimizer, "step", lambda f: lambda *a: (os.kill(os.getpid(), signal.SIGINT), f(*a))[1]),
}  # fmt: skip
"""What may happen to a process: where, and what then becomes of a function."""


def process(rank: int, size: int, port: int, folder: Path, arguments: list[str], fault: str) -> None:
    """The command line in one of several processes."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "OMP_NUM_THREADS": "1"}
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    sys.argv = ["xstilts", *arguments]
    from xstilts import cli

    if fault:
        where, name, change = FAULTS[fault]
        setattr(where, name, change(getattr(where, name)))
    with (folder / f"{rank}.txt").open("w") as sys.stdout:
        sys.stderr = sys.stdout
        try:
            cli.main()
        except Exception:
            traceback.print_exc()
            sys.exit(1)


@dataclass(frozen=True)
class Ended:
    """How the processes ended: exit codes, what each printed, and the seconds that it took."""

    codes: list[int | None]
    printed: list[str]
    seconds: float


def together(study: Files, size: int, out: str, *more: object, rank: int | None = 0, fault: str = "") -> Ended:
    """Run the study in several processes; one of them, or all, have a fault."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["xstilts.execution.run", "transformers.models.xlm_roberta.modeling_xlm_roberta"])
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    arguments = ["run", study.folder / "recipe.yaml", "--out", study.folder / out, *more]
    started = time.monotonic()
    processes = [
        context.Process(
            target=process,
            args=(i, size, port, study.folder, [*map(str, arguments)], fault if rank in (i, None) else ""),
        )
        for i in range(size)
    ]
    for one in processes:
        one.start()
    for one in processes:
        one.join(max(1.0, started + 2 * LIMIT - time.monotonic()))
    stuck = [i for i, one in enumerate(processes) if one.is_alive()]
    for one in processes:
        one.kill()
        one.join()
    printed = [(study.folder / f"{i}.txt").read_text(encoding="utf-8") for i in range(size)]
    assert not stuck, printed
    return Ended([one.exitcode for one in processes], printed, time.monotonic() - started)


def weights(out: Path) -> dict[str, dict[str, Tensor]]:
    return {str(path.relative_to(out)): load_file(path) for path in out.glob("steps/*/**/*.safetensors")}


def losses(out: Path) -> list[float]:
    """Those of the log."""
    (log,) = out.glob("steps/*/log.jsonl")
    return [json.loads(line)["loss"] for line in log.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def longer(study: Files) -> Files:
    """The study with eight updates, and a look at dev after every second."""
    study.edit("recipe.yaml", "steps: 2", "steps: 8, eval_every: 2")
    return study


@pytest.mark.parametrize(("fault", "rank", "size", "message"), [
    ("full for good", 1, 2, "does not fit into memory"),
    ("full in the update", 2, 3, "memory is full"),
    ("full in the update", 0, 2, "memory is full"),
    ("failed on dev", 0, 3, "no number after update 4 of 8"),
])  # fmt: skip
def test_a_step_that_fails_in_one_process_fails_in_all(
    fault: str, rank: int, size: int, message: str, longer: Files
) -> None:
    """The run goes on: the task that needs no training is scored, and the failure is reported at its end."""
    ended = together(longer, size, "out", "--checkpoint", "0", rank=rank, fault=fault)
    assert ended.codes == [2] + [0] * (size - 1), ended.printed
    assert ended.printed[0].count(message) == 2, "once for the step, once at the end"
    assert not any(ended.printed[1:]) and "Traceback" not in ended.printed[0]
    assert len([*longer.out.glob("steps/*/scores.jsonl")]) == 1
    assert bool([*longer.out.glob("steps/*/checkpoint.pt")]) == (fault != "failed on dev")


@pytest.mark.parametrize(("fault", "rank", "size", "message", "code"), [
    ("bug", 1, 2, "ValueError: an oversight", 1),
    ("bug", 0, 2, "ValueError: an oversight", 1),
    ("full disk", 0, 3, "error: there: the disk is full", 2),
    ("no checkpoint", 0, 2, "error: there: the disk is full", 2),
    ("killed", 1, 3, "error: torchrun: another process of this training has ended", 2),
])  # fmt: skip
def test_an_error_in_one_process_ends_all_with_one_message(
    fault: str, rank: int, size: int, message: str, code: int, longer: Files
) -> None:
    ended = together(longer, size, "out", "--checkpoint", "0", rank=rank, fault=fault)
    assert ended.codes[0] == code and 0 not in ended.codes, ended.printed
    assert ended.printed[0].count(message) == 1, ended.printed[0]
    assert not any(ended.printed[1:]), ended.printed


@pytest.mark.parametrize(("rank", "size"), [(1, 2), (0, 3)])
def test_an_interrupt_of_one_process_writes_a_checkpoint_and_ends_all(rank: int, size: int, longer: Files) -> None:
    """The log has a row for two updates, of which the first is done by then."""
    longer.edit("recipe.yaml", "steps: 8, eval_every: 2", "steps: 100, eval_every: 50")
    ended = together(longer, size, "out", rank=rank, fault="interrupted")
    assert ended.codes == [130] * size, ended.printed
    assert ended.printed[0].count("interrupted; run the same command again") == 1 and not any(ended.printed[1:])
    again, whole = together(longer, size, "out"), together(longer, size, "whole")
    assert again.codes == whole.codes == [0] * size
    assert "resumes at update 1" in again.printed[0]
    got, expected = weights(longer.out), weights(longer.folder / "whole")
    assert got.keys() == expected.keys()
    for path, tensors in expected.items():
        assert all(tensor.equal(got[path][name]) for name, tensor in tensors.items())
    resumed, usual = losses(longer.out), losses(longer.folder / "whole")
    assert len(usual) > 50 and resumed == pytest.approx(usual, abs=1e-5)


def test_processes_do_not_train_on_different_files(longer: Files) -> None:
    """Each computer may have a copy of the data, or a GPU with another precision."""
    ended = together(longer, 2, "out", rank=1, fault="other files")
    assert ended.codes == [2] * 2, ended.printed
    assert ended.printed[0].count("one process has other data, weights or devices than another") == 1


def test_processes_do_not_resume_at_different_updates(longer: Files) -> None:
    """They would train with other weights and batches than one another, and nobody would see it."""
    assert together(longer, 2, "out", fault="interrupted").codes == [130] * 2
    ended = together(longer, 2, "out", rank=1, fault="cannot read")
    assert ended.codes == [2] * 2, ended.printed
    assert "checkpoint.pt: one process would resume at update 0, another at update 1" in ended.printed[0]
    assert [*longer.out.glob("steps/*/checkpoint.pt")]


@pytest.mark.parametrize(
    ("rank", "size", "fault"),
    [
        (2, 3, "full once"),
        (None, 2, "small buckets"),
        (None, 2, "by rows"),
        (None, 3, "by rows"),
    ],
)
def test_the_weights_are_those_of_one_process(rank: int | None, size: int, fault: str, longer: Files) -> None:
    """Of a batch of four examples one of three processes has two, and computes them one by one if memory is full."""
    assert longer.run("--out", longer.folder / "alone").code == 0
    ended = together(longer, size, "out", rank=rank, fault=fault)
    assert ended.codes == [0] * size, ended.printed
    got, expected = weights(longer.out), weights(longer.folder / "alone")
    for path, tensors in expected.items():
        for name, tensor in tensors.items():
            torch.testing.assert_close(got[path][name], tensor, atol=1e-5, rtol=0, msg=f"{path} {name}")


def test_all_processes_have_the_same_weights_where_the_first_averages_them(longer: Files) -> None:
    longer.edit("recipe.yaml", "each: [mine]}", "each: [mine], average: checkpoints, snapshots: 8}")
    longer.edit("recipe.yaml", "lr: 1e-3", "lr: 0.01, warmup: 0, weight_decay: 0.1")
    ended = together(longer, 2, "out", rank=None, fault="stays equal")
    assert ended.codes == [0] * 2, ended.printed


def test_only_the_first_process_holds_the_best_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        layer = torch.nn.Linear(2, 2)
        best = BestWeights(layer, patience=2)
        best.update(50.0, 1)
        resumed = BestWeights(layer, patience=2)
        resumed.load_state_dict(best.state_dict() | {"weights": layer.state_dict()})
        assert [bool(one.state_dict()["weights"]) for one in (best, resumed)] == [rank == 0] * 2
        assert (resumed.score, resumed.best_update) == (50.0, 1)


# --- parts ----------------------------------------------------------------------------------------------------------


def test_gradients_are_sent_in_a_few_buckets() -> None:
    sizes = [3, 5, 20, 1, 1, 7, 2]
    found = [[len(one) for one in bucket] for bucket in buckets([torch.zeros(size) for size in sizes], 8)]
    assert found == [[3, 5], [20], [1, 1], [7], [2]]


def test_a_failed_process_ends_alone_if_the_others_do_not_come(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They may wait within NCCL, which no message reaches."""
    ended: list[int] = []
    monkeypatch.setattr(distributed, "PATIENCE", 0.05)
    monkeypatch.setattr(os, "_exit", ended.append)
    with distributed._limited(StepFailed("one example does not fit")):
        time.sleep(0.5)
    assert ended == [2] and capsys.readouterr().err == "error: one example does not fit\n"
    with distributed._limited(StepFailed("in time")):
        pass
    time.sleep(0.1)
    assert ended == [2]


def test_a_failure_that_all_raise_holds_no_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run goes on, and its next training needs their memory."""
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "reduce_numbers", lambda *_: None)
    monkeypatch.setattr(distributed, "_exchange", lambda value: [pickle.loads(pickle.dumps(value))])
    hidden: list[weakref.ref[Tensor]] = []

    def step() -> None:
        tensor = torch.ones(3)
        hidden.append(weakref.ref(tensor))
        raise StepFailed("no number")

    with suppress(StepFailed), distributed.failing_together():
        step()
    gc.collect()
    assert hidden[0]() is None


def test_the_watch_over_a_failed_process_ends_with_it() -> None:
    """Its thread would hold the error, and so the tensors of the step."""
    for _ in range(50):
        with distributed._limited(StepFailed("in time")):
            pass
        assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]


def test_each_process_has_the_gpu_of_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """No GPU is needed to see which one a process asks for."""
    for name, value in (("WORLD_SIZE", "64"), ("LOCAL_RANK", "63"), ("XSTILTS_DEVICE", "cuda")):
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=r"'cuda:63' .*at most as many processes"):
        device()
    for named in ("cuda:1", "mps"):
        monkeypatch.setenv("XSTILTS_DEVICE", named)
        with pytest.raises(UserError, match=f"'{named}' is one device, but each of torchrun's processes needs its own"):
            device()
    monkeypatch.setenv("XSTILTS_DEVICE", "cpu")
    assert device() == torch.device("cpu")


def test_a_large_checkpoint_has_time_to_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker has a second here, but it still writes for three; one that writes nothing is given up."""
    monkeypatch.setattr(local, "STOP_SECONDS", 1.0)
    code = "import sys, time\nfor k in range(30): print(k, file=open(sys.argv[1], 'a')); time.sleep(0.1)"
    for program, file, ends in ((code, "a", True), ("import time; time.sleep(60)", "b", False)):
        process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / file)])
        local.wait_for_end(process, tmp_path / file, time.monotonic() + 1.0)
        assert (process.poll() == 0) == ends
        process.kill()
        process.wait()
