"""Measures the overhead of a step, and the gain of a second worker on a second core.

Both use small studies of the playground and one thread per worker:

1. The overhead per step: the time from the start of the first step to the end of the last, minus the seconds of the
   steps themselves (`done.json`); in an empty run folder, and in one with thousands of other steps. The target is
   0.1 s: 1 % of a step of ten seconds.
2. The time of independent small trainings and their scoring with one worker and with two, in turns: from the start of
   the first training to the end of the last step, and of the whole run. Two processes that only count, compared with
   one that counts twice as far, show the largest possible gain.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import figures
from xstilts.store.run_folder import Store, lock_shared
from xstilts.study.load import read
from xstilts.study.plan import Plan, plan

RECIPE = """\
name: small
encoder: {text: play-text, tokenizer: words, layers: 2, hidden: 64, heads: 4}
seeds: SEEDS
settings: {limit: 50, lr: 1e-3, batch: 16, eval_every: 1000, steps: STEPS}
phases:
  - {name: target, each: [play-nli, play-ner, play-same, play-pos]}
evaluate: [play-nli, play-ner, play-same, play-pos]
languages: [en, qaa]
"""
COUNT = 50_000_000
"""Iterations of a process that only counts."""
OVERHEAD, RATIO = 0.1, 0.6
"""Targets: seconds per step, and two workers' time divided by one worker's."""


@dataclass(frozen=True)
class RunTimes:
    """The seconds of a whole run, from the first training to the last step, and of each step."""

    whole: float
    between: float
    steps: list[float]

    @property
    def overhead(self) -> float:
        """Seconds of overhead per step."""
        return (self.between - sum(self.steps)) / len(self.steps)


def run_study(study_plan: Plan, out: Path, workers: int = 1) -> RunTimes:
    """Run the study beside the run folder in its own process, as a user does."""
    code = "import sys; from xstilts.cli import main; sys.argv[0] = 'xstilts'; main()"
    command = [sys.executable, "-c", code, "run", str(out.parent / "small.yaml"), "--out", str(out)]
    started = time.perf_counter()
    subprocess.run([*command, "--workers", str(workers)], stdout=subprocess.DEVNULL, check=True)
    whole = time.perf_counter() - started
    records = [Store(out).step(step.id) / "done.json" for step in study_plan.steps.values() if step.kind != "create"]
    seconds = [json.loads(path.read_text(encoding="utf-8"))["seconds"] for path in records]
    ends = [path.stat().st_mtime for path in records]
    begins = [end - duration for end, duration in zip(ends, seconds, strict=True)]
    return RunTimes(whole, max(ends) - min(begins), seconds)


def write_study(folder: Path, seeds: int, steps: int) -> Plan:
    """Write the recipe with these numbers of seeds and updates per training, and plan it."""
    text = RECIPE.replace("SEEDS", str([*range(1, seeds + 1)])).replace("STEPS", str(steps))
    (folder / "small.yaml").write_text(text, encoding="utf-8")
    return plan(*read(str(folder / "small.yaml")))


def core_ratio() -> float:
    """The time of two processes that count at once, divided by that of one that counts twice as far."""

    def seconds(*ends: int) -> float:
        started = time.perf_counter()
        counting = [subprocess.Popen([sys.executable, "-c", f"any(i < 0 for i in range({end}))"]) for end in ends]
        for process in counting:
            process.wait()
        return time.perf_counter() - started

    return seconds(COUNT, COUNT) / seconds(2 * COUNT)


def fill_folder(out: Path, number: int) -> Path:
    """Fill a run folder with finished steps of other recipes."""
    with lock_shared(Store(out)) as store:
        for i in range(number):
            store.step(f"other-{i}").mkdir()
            row = {"title": f"other {i}", "seed": 1, "parent": f"other-{i // 9}" if i else None}
            (store.step(f"other-{i}") / "step.json").write_text(json.dumps(row), encoding="utf-8")
            (store.step(f"other-{i}") / "done.json").write_text("{}", encoding="utf-8")
    return out


def main() -> None:
    """Measure, and print or write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="a file to write the figures into")
    parser.add_argument("--seeds", type=int, default=6, help="number of seeds, with eight steps each")
    parser.add_argument("--steps", type=int, default=200, help="updates of a training")
    parser.add_argument("--others", type=int, default=7_000, help="other steps in the full run folder")
    parser.add_argument("--times", type=int, default=3, help="turns of one worker and two")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        short = write_study(folder, options.seeds, 2)
        empty = run_study(short, folder / "empty")
        full = run_study(short, fill_folder(folder / "full", options.others))
        study_plan = write_study(folder, options.seeds, options.steps)
        turns = [
            [run_study(study_plan, folder / f"{workers}-{turn}", workers) for workers in (1, 2)]
            for turn in range(options.times)
        ]
    cores = statistics.median(core_ratio() for _ in range(options.times))
    ratio = statistics.median(two.between / one.between for one, two in turns)
    whole = statistics.median(two.whole / one.whole for one, two in turns)
    ones, twos = ([turn[i] for turn in turns] for i in range(2))
    overhead = max(empty.overhead, full.overhead)

    def median(runs: list[RunTimes], name: str) -> str:
        return f"{statistics.median(getattr(one, name) for one in runs):.1f}"

    text = f"""\
| overhead, seconds per step, {len(empty.steps)} steps | |
| --- | --- |
| in an empty run folder | {empty.overhead:.3f} |
| in one with {options.others:,} other steps | {full.overhead:.3f} |

Target: at most {OVERHEAD} ({figures.met(overhead <= OVERHEAD)}).

| {len(study_plan.steps) - 1} small steps, {options.times} turns, medians | one worker | two workers | ratio |
| --- | --- | --- | --- |
| seconds, first training to last step | {median(ones, "between")} | {median(twos, "between")} | {ratio:.2f} |
| with checks and the start of processes | {median(ones, "whole")} | {median(twos, "whole")} | {whole:.2f} |

Target of the first ratio: at most {RATIO} ({figures.met(ratio <= RATIO)}); of processes that only count {cores:.2f}."""
    figures.publish(options.write, "runner", text, "torch", "transformers")


if __name__ == "__main__":
    main()
