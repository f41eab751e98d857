"""The quickstart: its step ids are pinned exactly, its table in README within a tolerance.

A change of an id makes every run folder repeat that step. If it is meant, print the new ids with
    python -c "from xstilts.study import load, plan; print(*plan.plan(*load.read('quickstart')).steps)"
The table is renewed with `xstilts run quickstart`, whose output README and the docs then quote.
"""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import CliResult
from xstilts.report.legend import short_names
from xstilts.study.index import Study
from xstilts.study.load import read
from xstilts.study.plan import plan

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
IDS = """
a8b62ec93852 0d38ee86f7c4 59aa17d5f863 54dad820e31e 8acfdb62ae89 2485aa12c377 9e0700589744 820607e52e01 fb2c5df69a93
674125c755d4 be6b95d6a94f b52aa1889e01 ee1ba175a171 100bea6fb536 b68c90e80f43 897790dab121 af4df7484e68 3ccd86841aba
68bf7c903ca1 2b8bd7b82a20 08d30a3f0c35 c5daf0c35ebb d578296515eb b15d78f1004c 43a24d42c199 9fe8c5fe550c c614e661d745
58acba6b5df4 165869b33277 7b96ed4ac9c8 54991066beb1 06360dae43b5 9ebb94c78dca 44767c8047b5 fa5f9d3127f9 604ad6fd77f0
32f2167afdde e33f721a26c3 e32dbf577f80 d1a82ec8e5cc b2f8aaa401d2 f4f33b233161 cb88967645c7 d3df80969fbd 80a2d80f3370
8a45dbea37b1 3d43d97c72e5 51d70907293f 6cca280be7f7 bec45e173cd3 879e1356aeec 278511e0562c b3bd0df93135 1047a6b9294f
a4a396a6a736 8675d82418a9 472e178b6abb d4c2e6adf01b 30c724d67709 d13c4ab20657 0bfa0d5c01a4 a76ea8db6308
"""
MEAN_TOLERANCE, TASK_TOLERANCE = 3.0, 10.0
"""Points between README's table and another machine's, which rounds differently: of the mean over tasks, of a task."""
ROW = re.compile(r"^([a-z- ]+?)†? +([a-z0-9_]+) +(\d+\.\d)(?: ±\d+\.\d)? +(\d+\.\d)(?: ±\d+\.\d)? ([+-]\d+\.\d)$", re.M)
"""A row of the table: task, metric, the score of each of two branches, the gain."""


def numbers(text: str) -> dict[tuple[str, str], list[float]]:
    """The numbers of a table, by its tasks and metrics, in order."""
    return {(task, metric): [float(one) for one in rest] for task, metric, *rest in ROW.findall(text)}


def quoted() -> str:
    """The table in README."""
    return README.partition("<!-- quickstart: begin -->")[2].partition("<!-- quickstart: end -->")[0]


def study() -> Study:
    return plan(*read("quickstart")).study()


def test_the_step_ids_of_the_quickstart_are_pinned() -> None:
    assert list(plan(*read("quickstart")).steps) == IDS.split()


def test_the_table_in_readme_has_the_rows_and_columns_of_the_study() -> None:
    lines = quoted().strip().splitlines()
    targets = study().targets
    assert lines[1] == f"quickstart: mean over languages, dev, median over {len(study().seeds)} seeds"
    assert lines[2].split() == ["task", *short_names(study().branches).values()]
    assert list(numbers(quoted())) == [*((task.name, task.metric) for task in targets), ("all tasks", "mean")]
    dagger = {line.partition("†")[0] for line in lines if re.match(r"[a-z-]+†", line)}
    assert dagger == {task.name for task in targets if "dev" not in read("quickstart")[1][task.name].data}


@pytest.mark.slow
def test_the_quickstart_reproduces_the_table_in_readme(tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    result = xstilts("run", "quickstart", "--out", tmp_path / "runs")
    assert result.code == 0
    expected, found = numbers(quoted()), numbers(result.out)
    assert found.keys() == expected.keys()
    for (task, metric), values in expected.items():
        tolerance = MEAN_TOLERANCE if task == "all tasks" else TASK_TOLERANCE
        assert found[task, metric][:2] == pytest.approx(values[:2], abs=tolerance), task
