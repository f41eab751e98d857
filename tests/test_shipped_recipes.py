"""The recipes of the package can be planned, and none is scored on its training data."""

import json
import re
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import pytest

from conftest import CliResult, without_torch
from xstilts.study.defaults import BUDGET
from xstilts.study.load import read, shipped
from xstilts.study.phase import Chain
from xstilts.study.plan import Plan, plan
from xstilts.tasks import GROUPS, TASKS
from xstilts.tasks.source import File, Source
from xstilts.tasks.task import Task
from xstilts.tasks.user_tasks import from_yaml

STAND_INS = shipped()["real-mini"].with_name("real-mini-tasks.yaml")


def mixtures(made: Plan) -> set[frozenset[str]]:
    return {frozenset(part.task for part in step.parts) for step in made.steps.values() if len(step.parts) > 1}


def shares_rows(one: Task, other: Task) -> bool:
    """Whether something that the one trains on is scored in the other."""
    sources = [other.data[split] for split in other.scored]
    given = repr((one.data["train"], sources, one.train_languages, other.all_languages))
    if given not in SHARED:  # most recipes have the same tasks
        trained = [file for layout in one.data["train"].layouts for file in layout]
        SHARED[given] = any(overlap(file, one, source, other) for file in trained for source in sources)
    return SHARED[given]


def overlap(file: File, one: Task, source: Source, other: Task) -> bool:
    """Whether a training file of the one shares rows with a scored source of the other, in languages that they read."""
    codes = set(one.train_languages if file.per_language else other.all_languages)
    if all(scored.per_language for layout in source.layouts for scored in layout):
        codes &= {*other.all_languages}
    return Source(layouts=((file,),)).overlaps(source, sorted(codes))


SHARED: dict[str, bool] = {}


STUDIES = {
    "paper-table2": 417, "paper-table3": 270, "task-order": 351, "how-many-tasks": 90, "other-languages": 60,
    "xtreme-baseline": 36, "in-language": 246, "few-shot": 246, "joint": 9, "translate-train": 126,
    "translate-train-all": 15, "translate-test": 12, "ensemble": 138,
}  # fmt: skip
"""Trainings of the recipes that also have a scale `mini`."""
OTHER_LANGUAGES = ("in-language", "few-shot", "joint", "translate-train", "translate-train-all", "translate-test",
                   "ensemble")  # fmt: skip
SCALES = [(name, "full") for name in shipped()] + [(name, "mini") for name in STUDIES]


@pytest.mark.parametrize(("name", "scale"), SCALES)
def test_no_recipe_is_scored_on_its_training_data(name: str, scale: str) -> None:
    made = plan(*read(name, scale))
    trained = {part.task for step in made.steps.values() for part in step.parts}
    scored = {cell.task for cell in made.cells}
    pairs = [(a, b) for a in trained for b in scored if shares_rows(made.tasks[a], made.tasks[b])]
    assert trained and not pairs


@pytest.mark.parametrize(("name", "trainings"), STUDIES.items())
def test_a_recipe_has_the_expected_trainings_and_a_mini_scale(name: str, trainings: int) -> None:
    assert plan(*read(name)).trainings == trainings
    small = plan(*read(name, "mini"))
    assert small.recipe.name == f"{name}-mini"
    assert {step.encoder for step in small.steps.values()} == {"{data}/../models/mini-xlmr"}
    targets = {step.training.steps for step in small.steps.values() if step.training and "target: " in step.title}
    assert targets == ({100} if name in OTHER_LANGUAGES else {300})
    assert {step.scoring.limit for step in small.steps.values() if step.scoring} == {200}


def test_the_papers_table_2_is_planned_without_data_or_weights(tmp_path: Path) -> None:
    result = json.loads(without_torch("plan", "paper-table2", "--json", "--data", tmp_path))
    assert (result["trainings"], result["trainings_before_folding"]) == (417, 477)
    assert "mnli: training data" in result["absent"] and "tatoeba: all languages" in result["absent"]
    assert (result["disk"]["encoders"], result["disk"]["temporary"], result["done"]) == (6, 9, [])


def test_task_order_has_all_orders_of_the_best_three_and_random_ones() -> None:
    chains = [choice.chain for choice in read("task-order")[0].phases[0].choices or () if isinstance(choice, Chain)]
    orders = [tuple(mixture[0].task for mixture in chain) for chain in chains]
    best = set(permutations(("squad1", "mnli", "hellaswag")))
    assert best < set(orders) and len(set(orders)) == 12
    assert {len(set(order)) for order in orders} == {3} and {*chain_of(orders)} == set(GROUPS["intermediate"])


@pytest.mark.parametrize("scale", ["equal", "mini"])
@pytest.mark.parametrize("name", ["task-order", "how-many-tasks"])
def test_with_equal_budgets_every_branch_has_the_same_number_of_labelled_updates(
    name: str, scale: str, xstilts: Callable[..., CliResult]
) -> None:
    planned = json.loads(xstilts("plan", name, "--scale", scale, "--json").out)
    steps = {step["id"]: step for step in planned["steps"]}
    totals = []
    for step in steps.values():
        if step["kind"] == "train" and "target: " in step["title"] and step["parent"]:
            updates, parent = 0, steps.get(step["parent"])
            while parent:
                updates, parent = updates + parent["training"]["steps"], steps.get(parent["parent"])
            totals.append(updates)
    assert len(totals) > 20 and {*totals} == {*planned["budgets"].values()} == {BUDGET if scale == "equal" else 300}
    assert json.loads(xstilts("plan", name, "--json").out)["budgets"] == {}


def chain_of(orders: list[tuple[str, ...]]) -> list[str]:
    return [name for order in orders for name in order]


def test_several_encoders_have_their_own_branches_baselines_and_settings() -> None:
    study = plan(*read("how-many-tasks")).study()
    assert study.baseline is None and study.encoder == "XLM-R, mT5" and len(study.branches) == 16
    assert study.baselines["mT5: squad1+mnli"] == "mT5: none" and "XLM-R: squad1" in study.branches
    made = plan(*read("xtreme-baseline"))
    assert made.study().branches == ("mBERT", "XLM-R") and made.study().baselines == {}
    resolved = {(step.encoder.rpartition("/")[2], step.training.lr, step.training.parts[0].batch)
               for step in made.steps.values() if step.training}  # fmt: skip
    assert resolved == {("bert-base-multilingual-cased", 2e-5, 32), ("xlm-roberta-large", 3e-5, 16)}


def test_a_mini_task_stops_by_no_example_of_its_training_set() -> None:
    tasks = from_yaml(STAND_INS, TASKS)
    assert {task.name for task in tasks.values() if task.stop_source() is None} == {"text-mini"}
    assert not [name for name, task in tasks.items() if shares_rows(task, task)]
    cut = tasks["cosmosqa-mini"]
    whole = cut.model_copy(update={"data": cut.data | {"train": cut.data["dev"]}})
    assert shares_rows(whole, cut), "or the test could not fail"


def test_the_multi_task_recipes_mix_all_tasks_with_and_without_text() -> None:
    nine = {name if name == "commonsenseqa" else f"{name}-mini" for name in GROUPS["intermediate"]}
    assert len(nine) == 9
    assert mixtures(plan(*read("multi-task"))) == {frozenset(nine), frozenset({*nine, "text-mini"})}
    trainable = {name: TASKS[name] for name in GROUPS["playground"] if TASKS[name].trainable}
    sources = {task.data["train"]: name for name, task in reversed(trainable.items())}
    assert len(sources) == len(trainable) - 1  # two tasks have the same training data
    played = frozenset(sources.values())
    assert mixtures(plan(*read("play-multi-task"))) == {played, played | {"play-text"}}


def test_two_recipes_of_the_playground_share_their_pretrained_encoder() -> None:
    one, two = (plan(*read(name)).steps for name in ("quickstart", "play-multi-task"))
    shared = [one[id].title for id in one.keys() & two.keys() if one[id].kind == "train"]
    assert "pretrain: play-text" in shared


@pytest.mark.real
def test_the_mini_tasks_can_be_read(shared: Path, xstilts: Callable[..., CliResult]) -> None:
    names = [name for name in from_yaml(STAND_INS, TASKS) if name != "text-mini"]  # a million lines
    result = xstilts("data", "check", *names, "--use", STAND_INS, "--data", shared / "data", "--json")
    assert result.code == 0, result.err
    english = [row for row in json.loads(result.out) if row["language"] == "en" and row["split"] != "test"]
    assert {row["task"] for row in english} == {*names} and all(row["examples"] for row in english)


def test_the_page_of_studies_has_the_numbers_of_trainings_that_are_planned() -> None:
    page = " ".join((Path(__file__).parents[1] / "docs/studies.md").read_text(encoding="utf-8").split())
    rows = re.findall(r"\| `([\w-]+)` \| [^|]+ \| (\d+) \| (\d+) \|", page)
    planned = {name: (plan(*read(name)).trainings, plan(*read(name, "mini")).trainings) for name in STUDIES}
    assert {name: (int(full), int(mini)) for name, full, mini in rows} == planned
    shared = []
    for scale in ("full", "mini"):
        one, other = ({id for id, step in plan(*read(name, scale)).steps.items() if step.training} for name in TABLES)
        shared += [len(one & other), len(other)]
    [numbers] = re.findall(
        r"(\d+) of the (\d+) trainings of `paper-table3` are done: [^(]*\([^)]*?(\d+) of (\d+)\)", page
    )
    assert [int(number) for number in numbers] == shared


TABLES = ("paper-table2", "paper-table3")


def test_the_ensemble_shares_the_trainings_of_its_two_baselines() -> None:
    """So under one `--out` it needs none of its own."""
    for scale in ("full", "mini"):
        of = {name: {id for id, step in plan(*read(name, scale)).steps.items() if step.training}
              for name in ("ensemble", "translate-train", "translate-test")}  # fmt: skip
        assert of["ensemble"] <= of["translate-train"] | of["translate-test"]
    means = [step for step in plan(*read("ensemble")).steps.values() if step.ensemble]
    members = {step.ensemble.task: [len(member) for member in step.ensemble.members] for step in means if step.ensemble}
    assert members["xquad-ensemble"] == [11, 1] and len(means) == 15, "eleven trainings in translation, one in English"


def test_translate_test_stops_on_english_dev_sets() -> None:
    """Their own dev sets are translations, which are in no training language."""
    for scale, baseline in (("full", "xtreme-baseline"), ("mini", "translate-test")):
        tasks, others = plan(*read("translate-test", scale)).tasks, plan(*read(baseline, scale)).tasks
        for name in ("xnli", "pawsx") if scale == "full" else ("xnli",):
            assert stop_paths(tasks[f"{name}-to-en"]) == stop_paths(others[name])


def stop_paths(task: Task) -> list[tuple[str, str | None]]:
    source = task.stop_source()
    return [(file.path, file.part) for layout in source.layouts for file in layout] if source else []
