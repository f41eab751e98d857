"""Kills a study's main process or one of its workers at random moments, and sees that nothing is lost or done twice.

A small study on the playground is done once without interruption. Then it is done again and again by two workers, of
which one, or the main process, is killed with -9 at a random moment; after a main process is killed its workers must
end by themselves, and the same command goes on. In the end score rows and weights must equal the undisturbed ones', to
the bit, and no step may have been done twice: each `done.json` is watched, and must never change.
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
SOON = 20.0
"""Seconds in which the workers of a killed main process must have ended."""
GIVEN_UP = ("and so did the one before", "no worker process can be started")
"""Messages where a step's worker was killed twice, or three workers before they were ready."""


class Watched:
    """A run folder, of which no step may be done twice."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self._seen: dict[str, tuple[int, int]] = {}

    def look(self) -> int:
        """See what is done by now, and that what was done before is still the same; gives the number of steps."""
        now = {path.parent.name: path.stat() for path in self.out.glob("steps/*/done.json")}
        records = {step: (stat.st_ino, stat.st_mtime_ns) for step, stat in now.items()}
        for step, record in self._seen.items():
            assert records.get(step) == record, f"step {step} was done twice"
        self._seen = records
        return len(records)

    def busy(self) -> bool:
        """Whether a step is under way: its claim is locked, and not just left by a killed worker."""
        locks = [line.split() for line in Path("/proc/locks").read_text(encoding="utf-8").splitlines()]
        held = {line[5].rsplit(":", 1)[1] for line in locks if line[1] == "FLOCK"}
        claims = self.out / "claims"
        with suppress(FileNotFoundError):  # it ends meanwhile
            return any(str(entry.inode()) in held for entry in os.scandir(claims))
        return False


class Study:
    """The study, in a folder of its own."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.folder, self.workers = folder, workers
        (folder / "mini.yaml").write_text(RECIPE, encoding="utf-8")
        (folder / "tasks.yaml").write_text(TASKS, encoding="utf-8")

    def start(self, out: str) -> subprocess.Popen[str]:
        """Run it in a process of its own."""
        code = "import sys; from xstilts.cli import main; sys.argv[0] = 'xstilts'; main()"
        arguments = ["run", self.folder / "mini.yaml", "--out", self.folder / out, "--checkpoint", "0.005"]
        command = [sys.executable, "-c", code, *map(str, arguments), "--workers", str(self.workers)]
        errors = (self.folder / f"{out}.err").open("w", encoding="utf-8")
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, text=True)

    def messages(self, out: str) -> str:
        """The messages of the last run."""
        return (self.folder / f"{out}.err").read_text(encoding="utf-8")

    def finish(self, out: str) -> None:
        """Run it to its end, undisturbed."""
        code = self.start(out).wait()
        assert code == 0, self.messages(out)

    def result(self, out: str) -> dict[str, bytes]:
        """Score rows and weights."""
        paths = [path for pattern in ("scores.jsonl", "**/*.safetensors") for path in
                 (self.folder / out).glob(f"steps/*/{pattern}")]  # fmt: skip
        return {str(path.relative_to(self.folder / out)): path.read_bytes() for path in paths}


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()]
    except OSError:
        return []


def alive(pid: int) -> bool:
    """Whether a process is there, and not just waits for somebody to take note of its end."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def kill(pid: int) -> None:
    """End a process at once, if it is still there."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@dataclass
class Hunt:
    """Kills at random moments, until there were so many."""

    study: Study
    times: int
    chance: random.Random
    longest: float
    """Seconds from one kill to the next at most."""
    mains: int = 0
    workers: int = 0
    slowest: float = 0.0
    """Seconds that workers have outlived their main process at most."""
    blamed: int = 0
    """Runs that have given up, for workers had died again and again."""

    @property
    def over(self) -> bool:
        """Whether there were enough kills."""
        return self.mains + self.workers >= self.times

    def round(self, out: str) -> Watched:
        """Do the study once, starting it again after each kill of the main process."""
        watched, complete = Watched(self.study.folder / out), False
        while not complete and not self.over:
            process = self.study.start(out)
            while not self.over and self._waited(process, watched) and self._hit(process):
                pass
            if self.over:
                self._end(process)
            if process.wait() >= 0:
                err = self.study.messages(out)
                assert "Traceback" not in err, err
                assert process.returncode == 0 or (process.returncode == 2 and any(why in err for why in GIVEN_UP)), err
                complete = process.returncode == 0
                self.blamed += not complete
            print(f"{self.workers} workers, {self.mains} mains; {out}: {watched.look()} steps", file=sys.stderr)
        self.study.finish(out)
        watched.look()
        return watched

    def _waited(self, process: subprocess.Popen[str], watched: Watched) -> bool:
        """Let a random time pass, most often from when a step is under way; whether the run still goes on."""
        starting = self.chance.random() < 0.2
        while not starting and not watched.busy() and process.poll() is None:
            time.sleep(0.01)
        until = time.monotonic() + self.chance.uniform(0, self.longest)
        while time.monotonic() < until and process.poll() is None:
            watched.look()
            time.sleep(0.01)
        return process.poll() is None

    def _hit(self, process: subprocess.Popen[str]) -> bool:
        """Kill a worker or the main process; whether this goes on."""
        workers = children(process.pid)
        if workers and self.chance.random() < 0.6:
            kill(self.chance.choice(workers))
            self.workers += 1
            return True
        self._end(process)
        self.mains += 1
        return False

    def _end(self, process: subprocess.Popen[str]) -> None:
        """Kill the main process, and see that its workers end by themselves."""
        workers = children(process.pid)
        kill(process.pid)
        process.wait()
        started = time.monotonic()
        while any(map(alive, workers)):
            assert time.monotonic() - started < SOON, "workers have outlived their main process"
            time.sleep(0.01)
        self.slowest = max(self.slowest, time.monotonic() - started)


def main() -> None:
    """Kill, and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=200, help="kills")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the victims")
    parser.add_argument("--longest", type=float, default=10.0, help="seconds from one kill to the next at most")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder:
        study, rounds = Study(Path(folder), options.workers), 0
        study.finish("whole")
        whole = study.result("whole")
        hunt = Hunt(study, options.times, random.Random(options.seed), options.longest)
        while not hunt.over:
            rounds += 1
            watched = hunt.round(f"killed-{rounds}")
            found = study.result(watched.out.name)
            other = sorted(name for name in found.keys() | whole.keys() if found.get(name) != whole.get(name))
            assert not other, f"not as in the uninterrupted run: {', '.join(other)}"
            assert not [*watched.out.rglob("*.tmp")], "something is left over"
    print(
        f"{hunt.workers} workers and {hunt.mains} main processes killed in {rounds} studies of {len(whole)} results: "
        f"no step done twice, score rows and weights equal to the uninterrupted run's. Workers outlived a main process "
        f"by {hunt.slowest:.1f} s at most; {hunt.blamed} runs gave up, for two workers had died of a step, or three "
        "before they were ready, and were started again."
    )


if __name__ == "__main__":
    main()
