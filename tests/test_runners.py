"""Several workers, and several concurrent runs, give one process's results; no step is lost or done twice."""

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Files
from xstilts.errors import UserError
from xstilts.execution.local import ProcessRunner, worker_environment
from xstilts.execution.retention import Retention
from xstilts.execution.runner import Resources, RunSpec, StepRequest, StepResult
from xstilts.execution.scheduler import Scheduler
from xstilts.store.run_folder import Store, lock_shared
from xstilts.store.step_record import StepState
from xstilts.study.load import read
from xstilts.study.plan import plan
from xstilts.study.step import Step
from xstilts.utils.progress import Progress

KILLS = Path(__file__).parents[1] / "benchmarks" / "kills.py"
COMMAND = [sys.executable, "-c", "import sys; from xstilts.cli import main; sys.argv[0] = 'xstilts'; main()"]


@pytest.fixture
def several(study: Files) -> Files:
    """A study of two branches and two seeds: six trainings, and as many scorings."""
    study.edit("recipe.yaml", "seeds: [1]", "seeds: [1, 2]")
    study.edit("recipe.yaml", "phases:\n", "phases:\n  - {name: middle, choices: [[], [mine]], settings: {steps: 4}}\n")
    return study


def results(out: Path) -> dict[str, bytes]:
    """Score rows and weights."""
    paths = [*out.glob("steps/*/scores.jsonl"), *out.glob("steps/*/**/*.safetensors")]
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


@pytest.fixture
def whole(several: Files) -> dict[str, bytes]:
    """What an undisturbed run in this process leaves."""
    assert several.call("run", several.folder / "recipe.yaml", "--out", several.folder / "whole").code == 0
    return results(several.folder / "whole")


def begun(study: Files, out: Path, *more: str) -> subprocess.Popen[str]:
    """A run in a process group of its own."""
    arguments = ["run", str(study.folder / "recipe.yaml"), "--out", str(out), *more]
    return subprocess.Popen(
        [*COMMAND, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,
    )


def workers(process: subprocess.Popen[str]) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def until(what: Callable[[], object], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "this takes too long"
        time.sleep(0.005)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def ends(*result: str) -> list[str]:
    """The steps that were done, as the lines that end them tell."""
    return [
        match[1]
        for text in result
        for match in re.finditer(r"^\[\d+/\d+\] ([^\n]*?): (?!mine|[\d,]+/)", text, re.MULTILINE)
    ]


# --- several workers --------------------------------------------------------------------------------------------------


def test_two_workers_give_the_results_of_one_process(several: Files, whole: dict[str, bytes]) -> None:
    result = several.run("--workers", 2)
    assert result.code == 0 and results(several.out) == whole
    names = ends(result.err)
    assert len(names) == len(set(names)) == len([*several.out.glob("steps/*/done.json")])
    assert not [*several.out.rglob("*.tmp")] and not [*several.out.glob("claims/*")]
    again = several.run("--workers", 2)
    assert (again.code, again.out) == (0, result.out) and "[1/" not in again.err


def test_killed_workers_and_a_killed_main_process_lose_nothing(several: Files) -> None:
    several.edit("recipe.yaml", "settings: {steps: 2", "settings: {steps: 60")
    several.edit("recipe.yaml", "seeds: [1, 2]", "seeds: [1]")
    assert several.call("run", several.folder / "recipe.yaml", "--out", several.folder / "whole").code == 0
    process = begun(several, several.out, "--workers", "2", "--checkpoint", "0")
    assert process.stderr
    until(lambda: [*several.out.glob("claims/*")])
    for pid in workers(process):  # one of them is at work
        os.kill(pid, signal.SIGKILL)
    assert any("was killed by signal 9" in line for line in process.stderr)
    left = workers(process)
    process.kill()
    process.stderr.close()
    assert process.wait() == -signal.SIGKILL
    until(lambda: all(map(gone, left)))
    done = {path: path.stat().st_mtime_ns for path in several.out.glob("steps/*/done.json")}
    result = several.run("--workers", "2")
    assert result.code == 0 and results(several.out) == results(several.folder / "whole")
    assert done.items() <= {path: path.stat().st_mtime_ns for path in several.out.glob("steps/*/done.json")}.items()


@pytest.mark.parametrize("ask", [lambda pid: os.killpg(pid, signal.SIGINT), lambda pid: os.kill(pid, signal.SIGTERM)])
def test_an_interrupt_ends_the_workers_too(several: Files, ask: Callable[[int], None]) -> None:
    for steps in ("steps: 2", "steps: 4"):  # none ends before the signal
        several.edit("recipe.yaml", steps, "steps: 20000")
    process = begun(several, several.out, "--workers", "2")
    until(lambda: any(path.stat().st_size for path in several.out.glob("steps/*/log.jsonl")))
    left = workers(process)
    ask(process.pid)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130 and "Traceback" not in err
    assert err.endswith("interrupted; run the same command again to continue\n")
    assert len(left) == 2 and all(map(gone, left))
    assert [*several.out.glob("steps/*/checkpoint.pt")] and not [*several.out.glob("claims/*")]


def test_the_slurm_script_of_the_docs_goes_back_into_the_queue_until_the_study_is_done(study: Files) -> None:
    page = Path(__file__).parents[1] / "docs" / "slurm.md"
    script = page.read_text(encoding="utf-8").partition("```bash\n")[2].partition("```")[0]
    changes = {
        "cd /shared/project": f"cd {study.folder}",
        "source .venv/bin/activate\n": "",
        "study.yaml": "recipe.yaml",
    }
    for path, here in (changes | {"--data /shared/data --out /shared/runs": "--out out"}).items():
        assert path in script
        script = script.replace(path, here)
    study.write("study.sh", script)
    (study.folder / "bin").mkdir()
    for name, command in (("xstilts", f'exec {shlex.join(COMMAND)} "$@"'), ("scontrol", 'echo "$@" >> requeued')):
        study.write(f"bin/{name}", f"#!/bin/bash\n{command}\n").chmod(0o755)
    job = {"PATH": f"{study.folder / 'bin'}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "1"}

    def submitted() -> subprocess.Popen[bytes]:
        script = ["bash", study.folder / "study.sh"]
        return subprocess.Popen(script, env=os.environ | job, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    study.edit("recipe.yaml", "steps: 2", "steps: 100")
    first = submitted()
    until(lambda: any(path.stat().st_size for path in study.out.glob("steps/*/log.jsonl")))
    first.send_signal(signal.SIGUSR1)
    assert first.wait(300) == 0 and (study.folder / "requeued").read_text() == "requeue 7\n"
    assert [*study.out.glob("steps/*/checkpoint.pt")]
    assert submitted().wait(300) == 0
    assert len([*study.out.glob("steps/*/done.json")]) == len([*study.out.glob("steps/*")])
    assert (study.folder / "requeued").read_text() == "requeue 7\n", "a finished study is not requeued"


def test_workers_under_torchrun_are_refused(study: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = study.run("--workers", 2)
    assert result.code == 2 and result.err.startswith("error: --workers: several workers do several steps at once")


def test_workers_share_cores_and_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xstilts.compute.device.THREADS", 8)
    assert [worker_environment(slot, 3)["OMP_NUM_THREADS"] for slot in range(3)] == ["2"] * 3
    assert worker_environment(0, 20)["OMP_NUM_THREADS"] == "1"
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert [worker_environment(slot, 3)["CUDA_VISIBLE_DEVICES"] for slot in range(3)] == ["0", "1", "0"]
    assert [worker_environment(slot, 3)["XSTILTS_GPU_SHARE"] for slot in range(3)] == ["0.5", "1.0", "0.5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert [worker_environment(slot, 3)["CUDA_VISIBLE_DEVICES"] for slot in range(3)] == ["5", "7", "5"]
    monkeypatch.setenv("XSTILTS_DEVICE", "cuda:1")
    assert worker_environment(2, 4) == {"OMP_NUM_THREADS": "2", "XSTILTS_GPU_SHARE": "0.25"}
    monkeypatch.setenv("XSTILTS_DEVICE", "cpu")
    assert worker_environment(0, 4) == {"OMP_NUM_THREADS": "2"}


class ScriptedRunner:
    """A runner that does nothing, and says of trainings what it was told to."""

    slots = 2

    @property
    def free_slots(self) -> list[int]:
        return [slot for slot in range(2) if slot not in [request.slot for request in self._requests]]

    def __init__(self, says: Callable[[str], StepResult]) -> None:
        self._says, self._requests = says, list[StepRequest]()

    def __call__(self, spec: RunSpec, workers: int, progress: Progress) -> "ScriptedRunner":
        self._plan = spec.plan
        return self

    def start(self, request: StepRequest) -> None:
        self._requests.append(request)

    def wait(self, seconds: float | None = None) -> StepResult | None:
        id = self._requests.pop(0).step
        return self._says(id) if self._plan.steps[id].kind == "train" else StepResult(id, "done")

    def stop(self) -> None:
        self._requests.clear()


def test_a_step_that_kills_two_workers_has_failed(study: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted = ScriptedRunner(lambda id: StepResult(id, "died", detail="was killed by signal 9"))
    monkeypatch.setattr("xstilts.execution.run.ProcessRunner", scripted)
    result = study.run("--workers", 2)
    assert result.code == 2
    assert result.err.count("its worker was killed by signal 9; the step is tried again") == 1
    assert "error: 1 step failed; 1 step that depends on it was skipped\n" in result.err
    assert "error: target: mine, seed 1: its worker was killed by signal 9, and so did the one before" in result.err


def test_a_user_error_in_a_worker_ends_the_run(study: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted = ScriptedRunner(lambda id: StepResult(id, "refused", UserError("the disk is full", where="out")))
    monkeypatch.setattr("xstilts.execution.run.ProcessRunner", scripted)
    result = study.run("--workers", 2)
    assert result.code == 2 and result.err.endswith("error: out: the disk is full\n")


def test_a_worker_that_cannot_start_ends_the_run(study: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xstilts.execution.local.PROGRAM", str(study.write("broken.py", "raise SystemExit(7)\n")))
    result = study.run("--workers", 2)
    assert result.code == 2 and "no worker process can be started: the last one ended with exit code 7" in result.err


def test_an_exception_in_a_worker_is_shown(study: Files) -> None:
    made = plan(*read(str(study.folder / "recipe.yaml")))
    (study.out / "steps").mkdir(parents=True)
    runner = ProcessRunner(RunSpec(made, study.out, None, Resources()), 1, Progress(live=False))
    try:
        runner.start(StepRequest("no such step", 0, 1, 1))
        result = runner.wait()
    finally:
        runner.stop()
    assert result and result.status == "broken" and "KeyError: 'no such step'" in result.detail


# --- several runs -----------------------------------------------------------------------------------------------------


def test_two_concurrent_runs_share_the_steps(several: Files, whole: dict[str, bytes]) -> None:
    both = [begun(several, several.out) for _ in range(2)]
    result = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], result
    assert results(several.out) == whole
    names = ends(*result)
    assert len(names) == len(set(names)) == len([*several.out.glob("steps/*/done.json")])


def test_a_recipe_of_the_same_name_removes_no_encoder_in_use(study: Files) -> None:
    study.edit("recipe.yaml", "keep: all", "keep: none")
    first = plan(*read(str(study.folder / "recipe.yaml")))
    study.edit("recipe.yaml", "steps: 2", "steps: 3")
    other = plan(*read(str(study.folder / "recipe.yaml")))
    (training,) = (step.id for step in first.steps.values() if step.kind == "train")
    with lock_shared(Store(study.out)) as store:
        (store.begin(training, {}) / "encoder").mkdir()
        store.finish(training, {})
        with Retention(store).registered(first.study()):
            with Retention(store).registered(other.study()) as replaced:
                Retention(store).remove_unneeded([training])
                assert replaced and store.state(training) is StepState.DONE, "the first run has yet to score it"
            Retention(store).remove_unneeded([training])
            assert store.state(training) is StepState.DONE
        Retention(store).remove_unneeded([training])
        assert store.state(training) is not StepState.DONE
    assert [path.name for path in study.out.glob("recipes/*")] == ["tiny.json"]


def test_the_step_of_a_killed_run_is_taken_over(study: Files) -> None:
    assert study.run().code == 0
    (path,) = study.out.glob("steps/*/log.jsonl")
    (path.parent / "done.json").unlink()
    code = "import sys, time; from xstilts.store.run_folder import *; store = Store(Path(sys.argv[1]))\n"
    code += "with lock_shared(store), store.claim(sys.argv[2]): print('mine', flush=True); time.sleep(600)"
    command = [sys.executable, "-c", code, str(study.out), path.parent.name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as other:
        assert other.stdout and other.stdout.readline() == "mine\n"
        process = begun(study, study.out)
        assert process.stderr
        with process.stderr as stderr:
            assert any("another run works in this folder" in line for line in stderr)
            other.kill()
            assert "another run works" not in stderr.read()
    assert (process.wait(), other.returncode) == (0, -signal.SIGKILL)
    assert len([*study.out.glob("steps/*/done.json")]) == 3


def test_repeating_a_step_waits_for_running_dependents(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for id, parent in (("a", None), ("b", "a")):
        store.begin(id, {"parent": parent})
        store.finish(id, {})
    (store.step("a") / "done.json").unlink()
    with store.claim("b") as ours:
        assert ours
        redoing = threading.Thread(target=store.begin, args=("a", {"parent": None}))
        redoing.start()
        redoing.join(0.3)
        assert redoing.is_alive() and store.state("b").has_results
    redoing.join(300)  # it ends at once; a loaded machine takes longer
    assert not redoing.is_alive() and not store.state("b").has_results


# --- the order --------------------------------------------------------------------------------------------------------


def made(id: str, *parents: str, kind: str = "train") -> Step:
    return Step(id, kind, parents, "e", 1, id)  # type: ignore[arg-type]


def parents(step: Step) -> tuple[str, ...]:
    return step.parents


def test_one_slot_follows_the_order_of_the_plan() -> None:
    steps = [made("a"), made("b", "a"), made("c", "a"), made("d", "b", kind="evaluate")]
    scheduler, order = Scheduler(steps, 1, parents), []
    while step := scheduler.next(0):
        order.append(step.id)
        scheduler.note_result(0, StepResult(step.id, "done"))
        scheduler.mark_done(step.id)
    assert order == ["a", "b", "c", "d"]


def test_steps_with_many_dependents_come_first_and_slots_reuse_their_encoder() -> None:
    steps = [made("score", kind="evaluate"), made("lone"), made("a"), made("b", "a"), made("c", "b"),
             made("score-a", "a", kind="evaluate"), made("score-b", "b", kind="evaluate")]  # fmt: skip
    scheduler = Scheduler(steps, 2, parents)
    first, second = scheduler.next(0), scheduler.next(1)
    assert first and second and (first.id, second.id) == ("a", "score")
    scheduler.note_result(0, StepResult("a", "done"))
    scheduler.mark_done("a")
    assert (step := scheduler.next(0)) and step.id == "score-a", (
        "it scores what it has in memory before that is trained"
    )
    scheduler.note_result(0, StepResult("score-a", "done"))
    assert (step := scheduler.next(0)) and step.id == "b"
    scheduler.note_result(1, StepResult("score", "died"))
    scheduler.requeue("score")
    assert scheduler.drop_dependents("b") == ["c", "score-b"] and scheduler.drop_dependents("c") == [], (
        "each is lost once"
    )


def test_task_vectors_wait_for_their_base_encoder() -> None:
    reads = {"base": (), "other": (), "merged": ("mine", "other", "base")}  # mine is there, base is made once more
    scheduler = Scheduler(
        [made("base"), made("other"), made("merged", "mine", "other")], 2, lambda step: reads[step.id]
    )
    assert [step and step.id for step in (scheduler.next(0), scheduler.next(1))] == ["base", "other"]
    scheduler.mark_done("other")
    assert scheduler.next(1) is None
    scheduler.mark_done("base")
    assert (step := scheduler.next(0)) and step.id == "merged"


@pytest.mark.slow
def test_five_kills_at_random_moments() -> None:
    result = subprocess.run(
        [sys.executable, KILLS, "--times", "5", "--longest", "4"], capture_output=True, encoding="utf-8", check=False
    )
    assert result.returncode == 0, result.stderr
    assert "no step done twice" in result.stdout
