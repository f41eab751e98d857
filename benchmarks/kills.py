"""Kills a study's main process or workers at random moments, and checks that no step is lost or done twice.

It runs a small study on the playground once without interruption, then again and again with two workers. It kills a
worker or the main process with -9 at random moments. After a main process is killed, its workers must end by
themselves, and the same command must continue. At the end score rows and weights must equal those of the uninterrupted
run, bit by bit. No step may be done twice: each `done.json` must never change.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

RECIPE = """\
name: mini
encoder: {text: text, layers: 1, hidden: 16, heads: 2, vocabulary: 300, max_length: 64}
use: [tasks.yaml]
seeds: [1, 2]
settings: {limit: 20, lr: 1e-3, batch: 8, eval_every: 50, steps: 100}
phases:
  - {name: pretrain, choices: [[text]], seed: 1}
  - {name: middle, choices: [[], [play-same]]}
  - {name: target, each: [play-nli, play-ner]}
evaluate: [play-nli, play-ner, play-parallel]
languages: [en, qaa]
"""
TASKS = 'text: {like: play-text, languages: [en], train_languages: [en], data: {train: "playground:text/dev"}}\n'
END_SECONDS = 20.0
"""The workers of a killed main process must end within these seconds."""
GAVE_UP = ("and so did the one before", "no worker process can be started")
"""Messages if a step's worker was killed twice, or three workers in a row before they were ready."""


class WatchedFolder:
    """A run folder in which no step may be done twice."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self._seen: dict[str, tuple[int, int]] = {}

    def check_steps(self) -> int:
        """Check that finished steps have not changed; returns their number."""
        now = {path.parent.name: path.stat() for path in self.out.glob("steps/*/done.json")}
        records = {step: (stat.st_ino, stat.st_mtime_ns) for step, stat in now.items()}
        for step, record in self._seen.items():
            assert records.get(step) == record, f"step {step} was done twice"
        self._seen = records
        return len(records)

    def busy(self) -> bool:
        """Whether a step is running: its claim is locked, not only left by a killed worker."""
        locks = [line.split() for line in Path("/proc/locks").read_text(encoding="utf-8").splitlines()]
        held = {line[5].rsplit(":", 1)[1] for line in locks if line[1] == "FLOCK"}
        claims = self.out / "claims"
        with suppress(FileNotFoundError):  # the step may end meanwhile
            return any(str(entry.inode()) in held for entry in os.scandir(claims))
        return False


class Study:
    """The study in its own folder."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.folder, self.workers = folder, workers
        (folder / "mini.yaml").write_text(RECIPE, encoding="utf-8")
        (folder / "tasks.yaml").write_text(TASKS, encoding="utf-8")

    def start(self, out: str) -> subprocess.Popen[str]:
        """Start a run in its own process."""
        code = "import sys; from xstilts.cli import main; sys.argv[0] = 'xstilts'; main()"
        arguments = ["run", self.folder / "mini.yaml", "--out", self.folder / out, "--checkpoint", "0.005"]
        command = [sys.executable, "-c", code, *map(str, arguments), "--workers", str(self.workers)]
        errors = (self.folder / f"{out}.err").open("w", encoding="utf-8")
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, text=True)

    def messages(self, out: str) -> str:
        """The messages of the last run."""
        return (self.folder / f"{out}.err").read_text(encoding="utf-8")

    def finish(self, out: str) -> None:
        """Run it to its end without kills."""
        code = self.start(out).wait()
        assert code == 0, self.messages(out)

    def result(self, out: str) -> dict[str, bytes]:
        """Score rows and weights."""
        paths = [path for pattern in ("scores.jsonl", "**/*.safetensors") for path in
                 (self.folder / out).glob(f"steps/*/{pattern}")]  # fmt: skip
        return {str(path.relative_to(self.folder / out)): path.read_bytes() for path in paths}


def children(pid: int) -> list[int]:
    """The child processes of a process."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()]
    except OSError:
        return []


def alive(pid: int) -> bool:
    """Whether a process runs and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def kill(pid: int) -> None:
    """Kill a process if it still exists."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@dataclass
class Killer:
    """Kills processes at random moments, `times` in all."""

    study: Study
    times: int
    rng: random.Random
    longest: float
    """Most seconds between two kills."""
    main_kills: int = 0
    worker_kills: int = 0
    slowest: float = 0.0
    """Most seconds that workers outlived their main process."""
    gave_up: int = 0
    """Runs that gave up because workers had died repeatedly."""

    @property
    def enough(self) -> bool:
        """Whether there were enough kills."""
        return self.main_kills + self.worker_kills >= self.times

    def round(self, out: str) -> WatchedFolder:
        """Run the study to its end, starting it again after each kill of the main process."""
        watched, complete = WatchedFolder(self.study.folder / out), False
        while not complete and not self.enough:
            process = self.study.start(out)
            while not self.enough and self._wait(process, watched) and self._kill_one(process):
                pass
            if self.enough:
                self._end(process)
            if process.wait() >= 0:
                err = self.study.messages(out)
                assert "Traceback" not in err, err
                assert process.returncode == 0 or (process.returncode == 2 and any(why in err for why in GAVE_UP)), err
                complete = process.returncode == 0
                self.gave_up += not complete
            print(
                f"{self.worker_kills} workers, {self.main_kills} mains; {out}: {watched.check_steps()} steps",
                file=sys.stderr,
            )
        self.study.finish(out)
        watched.check_steps()
        return watched

    def _wait(self, process: subprocess.Popen[str], watched: WatchedFolder) -> bool:
        """Wait a random time, mostly from the start of a step; returns whether the run still goes on."""
        starting = self.rng.random() < 0.2
        while not starting and not watched.busy() and process.poll() is None:
            time.sleep(0.01)
        until = time.monotonic() + self.rng.uniform(0, self.longest)
        while time.monotonic() < until and process.poll() is None:
            watched.check_steps()
            time.sleep(0.01)
        return process.poll() is None

    def _kill_one(self, process: subprocess.Popen[str]) -> bool:
        """Kill a worker or the main process; returns whether the main process lives."""
        workers = children(process.pid)
        if workers and self.rng.random() < 0.6:
            kill(self.rng.choice(workers))
            self.worker_kills += 1
            return True
        self._end(process)
        self.main_kills += 1
        return False

    def _end(self, process: subprocess.Popen[str]) -> None:
        """Kill the main process, and check that its workers end by themselves."""
        workers = children(process.pid)
        kill(process.pid)
        process.wait()
        started = time.monotonic()
        while any(map(alive, workers)):
            assert time.monotonic() - started < END_SECONDS, "workers outlived their main process"
            time.sleep(0.01)
        self.slowest = max(self.slowest, time.monotonic() - started)


def main() -> None:
    """Kill processes, and compare the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=200, help="number of kills")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="seed of the kills")
    parser.add_argument("--longest", type=float, default=10.0, help="most seconds between two kills")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder:
        study, rounds = Study(Path(folder), options.workers), 0
        study.finish("whole")
        whole = study.result("whole")
        killer = Killer(study, options.times, random.Random(options.seed), options.longest)
        while not killer.enough:
            rounds += 1
            watched = killer.round(f"killed-{rounds}")
            found = study.result(watched.out.name)
            different = sorted(name for name in found.keys() | whole.keys() if found.get(name) != whole.get(name))
            assert not different, f"differs from the uninterrupted run: {', '.join(different)}"
            assert not [*watched.out.rglob("*.tmp")], "a temporary file is left over"
    print(
        f"{killer.worker_kills} workers and {killer.main_kills} main processes killed in {rounds} studies of "
        f"{len(whole)} results: no step done twice, score rows and weights equal to the uninterrupted run's. "
        f"Workers outlived a main process by {killer.slowest:.1f} s at most; {killer.gave_up} runs gave up "
        "because two workers had died of a step, or three before they were ready, and were started again."
    )


if __name__ == "__main__":
    main()
