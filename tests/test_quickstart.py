"""The quickstart: its step ids are pinned exactly, its table in README within a tolerance.

A change of an id makes every run folder repeat that step. If it is meant, print the new ids with
    python -c "from xstilts.study import load, plan; print(*plan.plan(*load.read('quickstart')).steps)"
The table is renewed with `xstilts run quickstart`, whose output README and the docs then quote. `docs/quickstart` has
its rows.
"""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import CliResult
from xstilts.reports.legend import short_names
from xstilts.study.index import Study
from xstilts.study.load import read
from xstilts.study.plan import plan

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
IDS = """
a8b62ec93852 0d38ee86f7c4 6d84a8077e25 9de776e1542e 19db1b438549 dc0c0bc949e0 9e0700589744 820607e52e01 fb2c5df69a93
674125c755d4 be6b95d6a94f b52aa1889e01 ee1ba175a171 100bea6fb536 b68c90e80f43 897790dab121 af4df7484e68 8745167274b6
752dda35dca8 4be78b2709dd de19e7ea3ca0 c5daf0c35ebb d578296515eb b15d78f1004c 43a24d42c199 9fe8c5fe550c c614e661d745
58acba6b5df4 165869b33277 7b96ed4ac9c8 8d5372dfdf90 03aff8b15eb3 c34e2182a286 9a9d71abf7c6 27ffa2e56e15 46557f86e0f9
34d288357523 a5d26956da29 a9df87b56951 ae269cac0490 c1a9cec5f425 8f9ec421fd4e b2a011f24231 1fb67a578d7b 00da92b46dab
a1ef9799b23f 347267ff7ff1 5ed94d518352 e566edc1bd78 a5cfb6779500 23b136ccc30b 7cb0987a8555 65c1505b22ec b8fbde793683
1475a2174e43 66e720f85c2f acfe51c4a1d5 21b486c95384 b76fd05165fb 2d517e32e094 725ef6ede851 8b3cbf32de74
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


def test_the_rows_in_docs_give_the_table_in_readme(xstilts: Callable[..., CliResult]) -> None:
    result = xstilts("report", ROOT / "docs/quickstart")
    assert result.code == 0
    assert numbers(result.out) == numbers(quoted())
    steps = {path.name for path in (ROOT / "docs/quickstart/steps").iterdir()}
    assert steps == {*IDS.split()}


def test_the_interval_in_readme_is_that_of_the_rows_in_docs(xstilts: Callable[..., CliResult]) -> None:
    quoted = re.search(r"the loss in `(\w+)` is significant\n\(95 % interval (\S+) to (\S+), p = ([\d.]+)\)", README)
    assert quoted
    shown = xstilts("report", ROOT / "docs/quickstart", "--layout", "significance").out
    found = re.search(rf"^{quoted[1]} +\S+ +\[(\S+), (\S+)\] +([\d.]+)$", shown, re.M)  # of the first task
    assert found
    assert [float(x) for x in quoted.groups()[1:]] == pytest.approx([float(x) for x in found.groups()], abs=0.6)


@pytest.mark.slow
def test_the_quickstart_reproduces_the_table_in_readme(tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    result = xstilts("run", "quickstart", "--out", tmp_path / "runs")
    assert result.code == 0
    expected, found = numbers(quoted()), numbers(result.out)
    assert found.keys() == expected.keys()
    for (task, metric), values in expected.items():
        tolerance = MEAN_TOLERANCE if task == "all tasks" else TASK_TOLERANCE
        assert found[task, metric][:2] == pytest.approx(values[:2], abs=tolerance), task
