"""How long `xstilts report` takes over 100,000 score rows, from the start of Python to the printed table."""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from xstilts.store.run_folder import MARK, VERSION, Store
from xstilts.study.index import Cell, Study, StudyTask
from xstilts.tasks import GROUPS, TASKS

BRANCHES = ("none", *GROUPS["intermediate"], *(f"{name}+masked-text" for name in GROUPS["intermediate"]))


def fill(folder: Path, rows: int) -> int:
    """Write a store whose study is the paper's Table 2 with as many seeds as make that many rows; how many it has."""
    targets = [TASKS[name] for name in GROUPS["xtreme"]]
    of_seed = len(BRANCHES) * sum(len(task.languages) * len(task.metrics) * len(task.scored) for task in targets)
    seeds = tuple(range(1, rows // of_seed + 2))
    lines = [StudyTask(x.name, x.format.name, x.metric, x.metrics, x.languages, "en") for x in targets]
    random.seed(1)
    cells, count = [], 0
    for branch in BRANCHES:
        for seed in seeds:
            for task in targets:
                step = f"{len(cells):012x}"
                cells.append(Cell(branch, seed, task.name, step))
                written = [
                    {"task": task.name, "language": language, "split": split, "metric": metric,
                     "value": random.uniform(20, 90), "n": 1000, "step": step, "encoder": "xlm-r",
                     "seed": seed, "note": "", "chance": 12.5}
                    for language in task.languages for metric in task.metrics for split in task.scored
                ]  # fmt: skip
                count += len(written)
                at = folder / "steps" / step
                at.mkdir(parents=True)
                (at / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in written))
                (at / "step.json").write_text(json.dumps({"title": f"score {task.name}", "seed": seed, "parents": []}))
                (at / "done.json").write_text("{}\n")
    (folder / MARK).write_text(json.dumps({"format": "xstilts run folder", "version": VERSION}) + "\n")
    study = Study("table2", "FacebookAI/xlm-roberta-large", seeds, BRANCHES, "none", tuple(lines), tuple(cells))
    Store(folder).save_study(study)
    return count


def main(arguments: Sequence[str]) -> None:
    """Print the seconds of each layout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--layouts", nargs="+", default=["default", "overview", "table2", "benchmark"])
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        count = fill(Path(folder), given.rows)
        for layout in given.layouts:
            taken = []
            for _ in range(3):
                start = time.perf_counter()
                command = [
                    sys.executable,
                    "-c",
                    "from xstilts.cli import main; main()",
                    "report",
                    folder,
                    "--layout",
                    layout,
                ]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                taken.append(time.perf_counter() - start)
            print(f"{layout}: {min(taken):.2f} s for {count:,} rows, best of 3")


if __name__ == "__main__":
    main(sys.argv[1:])
