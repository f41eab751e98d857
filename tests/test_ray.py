"""Studies on Ray: a real cluster of two nodes, one of which dies; interrupts; errors."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import CliResult, Files
from xstilts import __version__
from xstilts.errors import UserError

if importlib.util.find_spec("ray") is None:
    pytest.skip("needs Ray (pip install 'xstilts[ray]')", allow_module_level=True)

ENVIRONMENT = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
NODES = """
import os, signal, sys
from pathlib import Path
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
second = cluster.add_node(num_cpus=1)
print(cluster.address, flush=True)
if sys.stdin.readline():
    raylet = second.all_processes["raylet"][0].process.pid
    workers = Path(f"/proc/{raylet}/task/{raylet}/children").read_text().split()
    cluster.remove_node(second, allow_graceful=False)
    for worker in workers:
        os.kill(int(worker), signal.SIGKILL)
    sys.stdin.readline()
cluster.shutdown()
"""
"""A cluster of two nodes; the second is killed at the first line of input, all at the end of it."""


@pytest.fixture
def nodes() -> Iterator[subprocess.Popen[str]]:
    """The process of a cluster."""
    with subprocess.Popen(
        [sys.executable, "-c", NODES], env=ENVIRONMENT, encoding="utf-8",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as running:  # fmt: skip
        yield running
        assert running.stdin is not None
        running.stdin.close()


def begun(study: Files, *more: object) -> subprocess.Popen[str]:
    """A run of the study on Ray that has started."""
    code = "import sys; from xstilts.cli import main; sys.argv[0] = 'xstilts'; main()"
    arguments = ["run", study.folder / "recipe.yaml", "--out", study.out, "--checkpoint", "0.002", "--runner", "ray"]
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, [*arguments, *more])], env=ENVIRONMENT, encoding="utf-8",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def until(happened: Callable[[], bool], running: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 300
    while not happened():
        assert running.poll() is None and time.monotonic() < end, running.communicate()
        time.sleep(0.02)


def under_way(study: Files, since: float = 0.0) -> int:
    """The number of trainings that have kept a checkpoint since then."""
    with suppress(FileNotFoundError):  # one has just ended
        return sum(path.stat().st_mtime > since for path in study.out.glob("steps/*/checkpoint.pt"))
    return 0


def rows(out: Path) -> dict[str, bytes]:
    paths = [*out.glob("steps/*/scores.jsonl"), *out.glob("steps/*/**/*.safetensors")]
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


@pytest.mark.slow
def test_an_interrupt_and_a_node_that_dies_lose_nothing(study: Files, nodes: subprocess.Popen[str]) -> None:
    study.edit("recipe.yaml", "seeds: [1]", "seeds: [1, 2, 3, 4, 5]")
    study.edit("recipe.yaml", "steps: 2", "steps: 200")
    whole = study.call("run", study.folder / "recipe.yaml", "--out", study.folder / "whole")
    assert whole.code == 0, whole.err
    assert nodes.stdin is not None and nodes.stdout is not None
    address = nodes.stdout.readline().strip()

    running = begun(study, "--address", address, "--workers", 1)
    until(lambda: under_way(study) == 1, running)
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does it
    out, err = running.communicate(timeout=300)
    assert running.returncode == 130 and not out, err
    assert "asking the workers to end; press Ctrl-C again to end them at once\ninterrupted; run the same " in err

    before = {path: path.stat() for path in study.out.glob("steps/*/done.json")}
    now = time.time()
    running = begun(study, "--address", address)
    until(lambda: under_way(study, now) == 2, running)
    nodes.stdin.write("kill\n")
    nodes.stdin.flush()
    out, err = running.communicate(timeout=300)
    assert running.returncode == 0 and out == whole.out, err
    assert "Ray: 2 workers with 1 core each; room for 2 on 2 nodes\n" in err
    assert err.count("its node died; the step is tried again") == 1 and "resumes at update" in err
    assert rows(study.out) == rows(study.folder / "whole")
    assert all(path.stat().st_mtime_ns == stat.st_mtime_ns for path, stat in before.items())
    ended = [line.split(": ")[0] for line in err.splitlines() if "updates in" in line or "over 1 lang" in line]
    assert len(ended) == len({*ended}) and not [*study.out.glob("claims/*")] and not [*study.out.glob(".ray-*")]


def test_more_workers_than_the_cluster_has_are_refused(study: Files) -> None:
    running = begun(study, "--gpus", "0.5")
    out, err = running.communicate(timeout=300)
    assert (running.returncode, out) == (2, "")
    assert err == "error: --gpus: no node of the cluster has 0.5 GPU and a core; the cluster has 0 GPUs\n"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", "nothing answers there: Connection refused"),
        ("ray://localhost:10001", "is not the address of a Ray cluster"),
        ("somewhere", "is not the address of a Ray cluster"),
    ],
)
def test_an_address_without_a_cluster_is_refused(study: Files, address: str, message: str) -> None:
    result = study.run("--runner", "ray", "--address", address)
    assert result.code == 2 and result.err.startswith(f"error: --address {address}: {message}"), result.err
    assert result.err.count("\n") == 1 and not study.out.exists()


def test_without_ray_the_error_says_how_to_install_it(study: Files) -> None:
    arguments = ["run", str(study.folder / "recipe.yaml"), "--out", str(study.out), "--runner", "ray"]
    code = f"import sys; sys.modules['ray'] = None; sys.argv[1:] = {arguments!r}; from xstilts.cli import main; main()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8")
    assert (result.returncode, result.stderr) == (
        2, "error: --runner ray: Ray is not installed (pip install 'xstilts[ray]')\n"
    )  # fmt: skip


def test_gpus_needs_ray(study: Files) -> None:
    result: CliResult = study.run("--gpus", "1")
    assert (result.code, result.err) == (2, "error: --gpus: needs --runner ray\n")
    result = study.run("--address", "somewhere:6379")
    assert (result.code, result.err) == (2, "error: --address: needs --runner ray\n")


def test_a_node_without_the_folders_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from xstilts.execution.ray import _RemoteRun
    from xstilts.execution.runner import RunSpec
    from xstilts.execution.steps import Resources
    from xstilts.study.load import read
    from xstilts.study.plan import plan

    monkeypatch.chdir(tmp_path)
    spec = RunSpec(plan(*read("quickstart")), tmp_path / "runs", tmp_path / "data", Resources())
    remote_run = _RemoteRun(spec, __version__, tmp_path, tmp_path / "runs/.ray-1.tmp", {})
    (tmp_path / "runs").mkdir()
    with pytest.raises(UserError, match="runs: this node cannot see the run folder"):
        remote_run.enter()
    remote_run.marker.touch()
    with pytest.raises(UserError, match="data: this node cannot see the data folder"):
        remote_run.enter()
    (tmp_path / "data").mkdir()
    remote_run.enter()
    with pytest.raises(UserError, match="is installed there"):
        replace(remote_run, version="0.0.1").enter()
