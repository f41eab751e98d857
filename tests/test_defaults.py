"""A task on the user's own data has training defaults of its own, and `plan` says where each setting comes from."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from conftest import CliResult, Files

TASKS = """\
moods:
  format: classify
  texts: [text]
  labels: [glad, sad]
  data: {train: moods.csv, dev: moods-dev.csv, test: moods-test.csv}
short-moods: {like: moods, max_length: 32}
letters:
  like: xnli
  batch: 8
  data: {train: letters.tsv}
more-xnli: {like: xnli, languages: [yo], data: {test: "{lang}.tsv"}}
prose: {like: masked-text, train_languages: [en], data: {train: prose.txt}}
"""
RECIPE = """\
name: mine
encoder: some/encoder
seeds: [1]
use: [tasks.yaml]
phases: PHASES
evaluate: [moods, xnli]
"""


@pytest.fixture
def plan(tmp_path: Path, xstilts: Callable[..., CliResult]) -> Callable[..., CliResult]:
    """Call `plan` for a recipe with these phases, and more lines at its end."""

    def call(phases: str, *options: str, more: str = "") -> CliResult:
        (tmp_path / "tasks.yaml").write_text(TASKS)
        (tmp_path / "mine.yaml").write_text(RECIPE.replace("PHASES", phases) + more)
        return xstilts("plan", tmp_path / "mine.yaml", *options)

    return call


@pytest.fixture
def first(plan: Callable[..., CliResult]) -> Callable[..., dict[str, Any]]:
    """The first training that is planned for phases, or with `each` the one on its first task."""

    def call(phases: str, *, more: str = "") -> dict[str, Any]:
        steps = json.loads(plan(phases, "--json", more=more).out)["steps"]
        training: dict[str, Any] = next(step["training"] for step in steps if step["kind"] == "train")
        return training

    return call


def target(task: str, settings: str = "") -> str:
    return f"[{{name: target, each: [{', '.join(dict.fromkeys([task, 'moods', 'xnli']))}]{settings}}}]"


def choice(*tasks: str) -> str:
    return f"[{{name: first, choices: [[{', '.join(tasks)}]]}}, {{name: target, each: [moods, xnli]}}]"


def numbers(training: dict[str, Any]) -> tuple[float, list[tuple[int, int]], float | None]:
    return training["lr"], [(part["batch"], part["epochs"]) for part in training["parts"]], training["dev_share"]


def test_a_task_on_my_data_takes_the_settings_of_studies_on_small_data(first: Callable[..., dict[str, Any]]) -> None:
    assert numbers(first(target("moods"))) == (2e-5, [(16, 10)], 0.2)
    assert numbers(first(choice("moods"))) == (2e-5, [(16, 10)], 0.2), "before the target, too"
    assert numbers(first(choice("short-moods"))) == (2e-5, [(16, 10)], 0.2), "it is like a task on my data"


def test_a_catalogue_task_on_my_data_keeps_what_i_wrote_and_has_nothing_of_the_paper(
    first: Callable[..., dict[str, Any]],
) -> None:
    assert numbers(first(choice("letters"))) == (2e-5, [(8, 10)], 0.2)


@pytest.mark.parametrize(
    ("tasks", "expected"),
    [
        (["more-xnli"], (1e-5, [(4, 2)], None)),  # MNLI's training data; only the test set is mine
        (["xnli"], (1e-5, [(4, 2)], None)),
        (["prose"], (1e-5, [(8, 1)], None)),  # raw text has no labels to learn from
    ],
)
def test_the_catalogues_training_data_keep_the_papers_settings(
    first: Callable[..., dict[str, Any]], tasks: list[str], expected: object
) -> None:
    assert numbers(first(choice(*tasks)))[1:] == expected[1:]  # type: ignore[index]


def test_in_a_mixture_each_task_keeps_its_epochs_and_a_catalogue_task_keeps_the_papers_rate(
    first: Callable[..., dict[str, Any]],
) -> None:
    assert numbers(first(choice("moods", "mnli"))) == (1e-5, [(16, 10), (24, 3)], 0.2)
    assert numbers(first(choice("moods", "letters"))) == (2e-5, [(16, 10), (8, 10)], 0.2)
    assert numbers(first(choice("moods", "prose")))[0] == 2e-5


def test_my_settings_win(first: Callable[..., dict[str, Any]]) -> None:
    given = first(target("moods", ", settings: {lr: 1e-4, epochs: 3}"), more="settings: {batch: 24, epochs: 5}\n")
    assert numbers(given) == (1e-4, [(24, 3)], 0.2)
    assert first(target("moods"), more="settings: {eval_every: 50}\n")["dev_share"] is None
    assert first(target("moods"), more="settings: {weights: last}\n")["dev_share"] is None
    assert first(choice("xnli"), more="settings: {steps: 60}\n")["dev_share"] == 0.2, "no longer the paper's length"


def test_plan_says_where_each_setting_comes_from(plan: Callable[..., CliResult]) -> None:
    out = plan(choice("mnli"), more="settings: {eval_every: 40, tasks: {moods: {max_length: 64}}}\n").out
    starts = ("all trainings", "first: mnli", "target: moods")
    lines = {start: line for start in starts for line in out.splitlines() if line.startswith(f"{start}: ")}
    assert "lr 2e-5, batch 16, warmup 0.1, weight_decay 0.01 (own task: Mosbach et al. 2021)" in lines["target: moods"]
    assert "epochs 10 (own task: mmBERT's evaluation)" in lines["target: moods"]
    assert (
        "max_length 64, eval_every 40: at most 78 % as many dev as training examples (mine.yaml, line 7)"
        in lines["target: moods"]
    )
    assert "lr 1e-5 (paper, appendix A)" in lines["first: mnli"]
    assert "epochs 2, batch 24 (paper, Table 4)" in lines["first: mnli"] and "(jiant's scripts)" in lines["first: mnli"]
    assert "precision auto (default)" in lines["all trainings"] and "precision" not in lines["target: moods"]
    assert max(map(len, lines.values())) < 400


def test_trainings_with_equal_settings_have_one_line(tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    recipe = RECIPE.replace("PHASES", choice("moods")).replace("[moods, xnli]", "moods")
    (tmp_path / "tasks.yaml").write_text(TASKS)
    (tmp_path / "mine.yaml").write_text(recipe)
    lines = xstilts("plan", tmp_path / "mine.yaml").out.splitlines()
    assert [line.partition(": ")[0] for line in lines if "lr 2e-5" in line] == ["all trainings"]
    assert not [line for line in lines if line.endswith(": ")]


def test_plan_json_has_the_origin_of_each_setting(plan: Callable[..., CliResult]) -> None:
    steps = json.loads(plan(choice("letters"), "--json", more="settings: {steps: 70}\n").out)["steps"]
    origins = next(step["origins"] for step in steps if step["kind"] == "train")
    assert origins["letters.batch"] == "tasks.yaml, line 9" and origins["steps"] == "mine.yaml, line 7"
    assert origins["lr"] == "own task: Mosbach et al. 2021" and origins["letters.max_length"] == "jiant's scripts"
    assert all("origins" not in step for step in steps if step["kind"] != "train")


def test_a_setting_of_a_scale_has_its_own_line(plan: Callable[..., CliResult]) -> None:
    more = "settings: {lr: 1e-4}\nscales:\n  small:\n    settings:\n      lr: 3e-4\n"
    assert "lr 1e-4 (mine.yaml, line 7)" in plan(target("moods"), more=more).out
    assert "lr 3e-4 (mine.yaml, line 11)" in plan(target("moods"), "--scale", "small", more=more).out


@pytest.mark.parametrize(("rows", "dev_rows"), [(12, 400), (60, 30), (300, 20)])
def test_the_dev_examples_scored_are_at_most_a_fifth_of_the_training_examples_seen(
    study: Files, rows: int, dev_rows: int
) -> None:
    moods = {"glad": "a happy day", "sad": "a grey evening"}
    for name, count in (("moods", rows), ("moods-dev", dev_rows), ("moods-test", 4)):
        lines = [f"{moods[label]} {i},{label}" for i in range(count) for label in [("glad", "sad")[i % 2]]]
        study.write(f"{name}.csv", "\n".join(["text,label", *lines, ""]))
    study.write("tasks.yaml", TASKS)
    recipe = (study.folder / "recipe.yaml").read_text(encoding="utf-8")
    encoder = next(line for line in recipe.splitlines() if line.startswith("encoder:"))
    own = RECIPE.replace("encoder: some/encoder", encoder).replace("PHASES", target("moods"))
    study.write("recipe.yaml", own.replace("[moods, xnli]", "[moods]"))
    assert study.run().code == 0
    (log,) = (path for path in study.out.glob("steps/*/log.jsonl") if path.stat().st_size)
    evaluations = [row for row in map(json.loads, log.read_text().splitlines()) if "dev" in row]
    scored = min(dev_rows, 500) if len(evaluations) > 1 else min(dev_rows, rows * 10 // 5)
    assert len(evaluations) * scored <= rows * 10 / 5
    assert evaluations[-1]["step"] == evaluations[-1]["total"] == 10 * -(-rows // 16)
    assert len({b["step"] - a["step"] for a, b in pairwise(evaluations[:-1])}) <= 1, "at equal distances"
    assert len(evaluations) == {12: 1, 60: 4, 300: 22}[rows]
