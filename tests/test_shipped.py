"""The recipes that come with the package: they can be planned, and score nothing that they have trained on."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Said
from xstilts.plan import Plan, plan
from xstilts.recipe import expanded, read, shipped
from xstilts.task import Task
from xstilts.tasks import GROUPS, TASKS, from_yaml

STAND_INS = shipped()["real-mini"].with_name("real-mini-tasks.yaml")


def mixtures(made: Plan) -> set[frozenset[str]]:
    return {frozenset(part.task for part in step.parts) for step in made.steps.values() if len(step.parts) > 1}


def shares_rows(one: Task, other: Task) -> bool:
    """Whether something that the one trains on is scored in the other."""
    codes = {*one.train_languages, *other.all_languages}
    return any(one.data["train"].overlaps(other.data[split], sorted(codes)) for split in other.scored)


@pytest.mark.parametrize("name", shipped())
def test_no_recipe_scores_what_it_has_trained_on(name: str) -> None:
    made = plan(*read(name))
    trained = {part.task for step in made.steps.values() for part in step.parts}
    scored = expanded(made.recipe.evaluate)
    pairs = [(a, b) for a in trained for b in scored if shares_rows(made.tasks[a], made.tasks[b])]
    assert trained and not pairs


def test_a_stand_in_stops_by_no_example_that_it_trains_on() -> None:
    tasks = from_yaml(STAND_INS, TASKS)
    assert {task.name for task in tasks.values() if task.stop_source() is None} == {"text-mini"}
    assert not [name for name, task in tasks.items() if shares_rows(task, task)]
    cut = tasks["cosmosqa-mini"]
    whole = cut.model_copy(update={"data": cut.data | {"train": cut.data["dev"]}})
    assert shares_rows(whole, cut), "or the test could not fail"


def test_the_mixtures_are_those_of_all_tasks_with_and_without_text() -> None:
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
def test_the_stand_ins_can_be_read(shared: Path, xstilts: Callable[..., Said]) -> None:
    names = [name for name in from_yaml(STAND_INS, TASKS) if name != "text-mini"]  # a million lines
    said = xstilts("data", "check", *names, "--use", STAND_INS, "--data", shared / "data", "--json")
    assert said.code == 0, said.err
    english = [row for row in json.loads(said.out) if row["language"] == "en" and row["split"] != "test"]
    assert {row["task"] for row in english} == {*names} and all(row["examples"] for row in english)
