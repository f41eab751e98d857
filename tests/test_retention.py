"""Retention: which encoders stay on the disk; nothing but encoders and heads is ever removed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import Files
from xstilts.store.run_folder import Store
from xstilts.store.step_record import StepState

TWO = "phases:\n  - {name: first, choices: [[], [mine]], settings: {steps: 3}}"


@pytest.fixture
def two(study: Files) -> Iterator[Files]:
    """A baseline and a branch after one intermediate training, with a target each."""
    study.edit("recipe.yaml", "phases:", TWO)
    yield study


def kept(study: Files) -> dict[str, bool]:
    """Titles of the finished trainings, and whether their encoders are there."""
    store, titles = Store(study.out), {}
    for folder in sorted(study.out.glob("steps/*")):
        if (folder / "log.jsonl").exists():
            titles[store.title(folder.name)] = (folder / "encoder" / "model.safetensors").is_file()
            kept = titles[store.title(folder.name)]
            assert store.state(folder.name) is (StepState.DONE if kept else StepState.DROPPED)
            assert bool(list(folder.glob("head-*"))) == titles[store.title(folder.name)]
    return titles


FIRST, PLAIN, AFTER = "first: mine, seed 1", "target: mine, seed 1", "target: mine after mine, seed 1"


@pytest.mark.parametrize(
    ("keep", "there"),
    [("", {FIRST}), ("keep: none\n", set()), ("keep: all\n", {FIRST, PLAIN, AFTER})],
)
def test_the_encoders_that_the_recipe_keeps_stay(two: Files, keep: str, there: set[str]) -> None:
    two.edit("recipe.yaml", "keep: all\n", keep)
    assert two.run().code == 0
    assert {title for title, is_there in kept(two).items() if is_there} == there
    before = everything(two.out)
    again = two.run()
    assert again.code == 0 and everything(two.out).keys() == before.keys()


def everything(out: Path) -> dict[str, bytes]:
    names = ("done.json", "scores.jsonl", "predictions.jsonl", "model.safetensors", "log.jsonl")
    return {str(path.relative_to(out)): path.read_bytes() for path in out.glob("steps/**/*") if path.name in names}


def test_keeping_encoders_later_repeats_the_trainings_only(two: Files) -> None:
    assert two.run().code == 0
    whole = everything(two.out)
    two.edit("recipe.yaml", "keep: all", "keep: none")
    assert two.run().code == 0
    assert not any(kept(two).values())
    two.edit("recipe.yaml", "keep: none", "keep: all")
    result = two.run()
    assert "[3/3]" in result.err and "score" not in result.err.replace("scored", ""), result.err
    now = everything(two.out)
    assert all(kept(two).values()) and now.keys() == whole.keys()
    for name, content in whole.items():
        if not name.endswith(("done.json", "log.jsonl")) or "scores.jsonl" in name:
            assert now[name] == content, name


def test_a_second_recipe_repeats_only_the_encoder_it_starts_from(two: Files) -> None:
    two.edit("recipe.yaml", "keep: all", "keep: none")
    assert two.run().code == 0
    before = everything(two.out)
    two.edit("recipe.yaml", "name: tiny", "name: more")
    two.edit("recipe.yaml", "each: [mine]}", "each: [mine], settings: {steps: 4}}")
    result = two.run()
    assert "first: mine" in result.err and not any(kept(two).values())
    same = {name: content for name, content in everything(two.out).items() if name in before}
    assert {name for name in before if before[name] != same[name]} <= {
        name for name in before if name.endswith(("done.json", "log.jsonl"))
    }
    assert all(same[name] == before[name] for name in before if name.endswith(("scores.jsonl", "predictions.jsonl")))


def test_an_encoder_that_one_recipe_keeps_stays_for_all(two: Files) -> None:
    assert two.run().code == 0
    two.edit("recipe.yaml", "keep: all", "keep: none")
    two.edit("recipe.yaml", "name: tiny", "name: other")
    assert two.run().code == 0
    assert all(kept(two).values())


def test_show_refuses_a_step_whose_encoder_was_not_kept(two: Files) -> None:
    two.edit("recipe.yaml", "keep: all", "keep: none")
    assert two.run().code == 0
    step = next(path.parent for path in two.out.glob("steps/*/dropped"))
    result = two.call("show", "mine", "en", 0, "--use", two.folder / "tasks.yaml", "--encoder", step)
    assert result.code == 2 and f"{step}: the encoder of this step was not kept (run the recipe again" in result.err


def test_an_encoder_half_removed_by_a_kill_is_removed(two: Files) -> None:
    two.edit("recipe.yaml", "keep: all", "keep: none")
    assert two.run().code == 0
    step = next(path.parent for path in two.out.glob("steps/*/dropped"))
    (step / "encoder").mkdir()
    (step / "encoder" / "model.safetensors").touch()
    result = two.run()
    assert result.code == 0 and "[1/" not in result.err and not (step / "encoder").exists()


def test_a_kill_while_an_encoder_is_rebuilt_loses_no_score(two: Files) -> None:
    two.edit("recipe.yaml", "keep: all", "keep: none")
    assert two.run().code == 0
    store = Store(two.out)
    first = next(path.name for path in two.out.glob("steps/*") if store.title(path.name) == FIRST)
    store.begin(first, {"title": "first: mine", "seed": 1})  # and then killed
    assert store.state(first) is StepState.REBUILDING
    result = two.run()
    assert result.code == 0 and "[1/" not in result.err, "nothing needs it, so nothing is done"
    two.edit("recipe.yaml", "keep: none", "keep: intermediate")
    result = two.run()
    assert "[1/1] first: mine" in result.err and store.state(first) is StepState.DONE
