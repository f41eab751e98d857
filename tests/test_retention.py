"""Retention: which encoders stay on the disk; nothing but encoders and heads is ever removed."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import Files
from xstilts.analysis.selection import select
from xstilts.model.trained import TrainedModel
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
    [("keep: intermediate\n", {FIRST}), ("keep: none\n", set()), ("keep: all\n", {FIRST, PLAIN, AFTER})],
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
    assert "[3/3]" in result.err and "] score " not in result.err, result.err
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


def best(study: Files, recipe: str = "tiny") -> dict[str, str]:
    """The links of a recipe's best runs: the step's title, or the predicting step's."""
    links = {path.name: path for path in (study.out / "best" / recipe).glob("*")}
    steps = {name: path.resolve().relative_to((study.out / "steps").resolve()) for name, path in links.items()}
    return {name: Store(study.out).title(step.parts[0]) for name, step in steps.items()}


def selected(study: Files) -> str:
    """The title of the training that `report --layout selection` selects for the task, by English dev."""
    store, (index,) = Store(study.out), [Store(study.out).study("tiny")]
    run = select(index, store.scores(index)).of("english-dev")["mine"]
    (cell,) = (x for x in index.cells if (x.task, x.branch, x.seed) == ("mine", run.branch, run.seed))
    return store.title(index.steps[cell.step][0])


def test_by_default_the_best_run_of_each_target_stays(two: Files) -> None:
    two.edit("recipe.yaml", "keep: all\n", "")
    two.edit("recipe.yaml", "seeds: [1]", "seeds: [1, 2]")
    result = two.run()
    (stays,) = (title for title, is_there in kept(two).items() if is_there)
    assert stays == selected(two) == best(two)["mine"]
    assert f"the best run by its dev scores: {two.out}/best/tiny/mine\n" in result.err
    assert [head.record.task for head in TrainedModel.load(two.out / "best" / "tiny" / "mine").heads] == ["mine"]
    assert best(two).keys() == {"mine", "mine.predictions.jsonl", "pairs.predictions.jsonl"}
    before = everything(two.out)
    assert "[1/" not in two.run().err and everything(two.out) == before, "nothing is trained again"


def test_the_best_run_of_an_earlier_keep_is_trained_again_with_what_it_starts_from(two: Files) -> None:
    two.edit("recipe.yaml", "keep: all", "keep: none")
    two.edit("recipe.yaml", "choices: [[], [mine]]", "choices: [[mine]]")
    two.edit("recipe.yaml", "evaluate: [pairs, mine]", "evaluate: [mine]")
    assert two.run().code == 0 and not any(kept(two).values())
    scores = everything(two.out)
    two.edit("recipe.yaml", "keep: none\n", "")
    planned = two.call("plan", two.folder / "recipe.yaml", "--out", two.out)
    assert "to be trained again: 2 steps, whose encoders are gone and needed; scores stay" in planned.out
    assert "again: target: mine after mine" in planned.out
    assert len(json.loads(two.call("plan", two.folder / "recipe.yaml", "--out", two.out, "--json").out)["again"]) == 2
    result = two.run()
    assert "[2/2] target: mine after mine" in result.err, result.err
    assert kept(two) == {FIRST: False, AFTER: True} and best(two)["mine"] == AFTER
    now = everything(two.out)
    assert all(now[name] == scores[name] for name in scores if name.endswith(("scores.jsonl", "predictions.jsonl")))


def test_a_new_target_trains_its_removed_start_again_and_the_plan_says_so(two: Files) -> None:
    two.edit("recipe.yaml", "keep: all\n", "")
    assert two.run().code == 0 and not kept(two)[FIRST]
    other = "other: {like: mine, data: {train: other.tsv, dev: more.tsv, test: more.tsv}, languages: [en]}\n"
    for name, start in (("other.tsv", 0), ("more.tsv", 8)):
        labels = ("entailment", "neutral") * 4
        two.write(name, "".join(f"Line {i}.\tIt has {i}.\t{label}\n" for i, label in enumerate(labels, start)))
    two.edit("tasks.yaml", "pairs:", f"{other}pairs:")
    two.edit("recipe.yaml", "each: [mine]", "each: [mine, other]")
    two.edit("recipe.yaml", "[pairs, mine]", "[pairs, mine, other]")
    planned = two.call("plan", two.folder / "recipe.yaml", "--out", two.out).out
    assert "to be trained again: 1 step," in planned and "again: first: mine" in planned
    result = two.run()
    assert "[3/5] first: mine, seed 1" in result.err, result.err
    assert {"mine", "other"} < best(two).keys() and not kept(two)[FIRST]


def test_two_recipes_of_one_folder_keep_a_best_run_each(two: Files) -> None:
    two.edit("recipe.yaml", "keep: all\n", "")
    two.edit("recipe.yaml", "evaluate: [pairs, mine]", "evaluate: [mine]")
    assert two.run().code == 0
    (two_stays,) = (title for title, is_there in kept(two).items() if is_there)
    one = (two.folder / "recipe.yaml").read_text(encoding="utf-8").replace("name: tiny", "name: after")
    two.write("after.yaml", one.replace("choices: [[], [mine]]", "choices: [[mine]]"))
    two.write("plain.yaml", one.replace("choices: [[], [mine]]", "choices: [[]]").replace("after", "plain"))
    for name in ("after", "plain"):
        assert two.call("run", two.folder / f"{name}.yaml", "--out", two.out).code == 0
    assert kept(two) == {FIRST: False, PLAIN: True, AFTER: True} and best(two)["mine"] == two_stays
    assert (best(two, "after")["mine"], best(two, "plain")["mine"]) == (AFTER, PLAIN)
    other = {AFTER: "plain", PLAIN: "after"}[two_stays]
    assert two.call("gc", "--out", two.out, "--forget", other, "--yes").code == 0
    assert not (two.out / "best" / other).exists() and (two.out / "best" / "tiny" / "mine" / "encoder").is_dir()


def test_without_dev_scores_the_first_run_stays_and_the_run_says_so(two: Files) -> None:
    two.edit("recipe.yaml", "keep: all\n", "")
    two.edit("tasks.yaml", 'dev: "dev-{lang}.tsv", ', "")
    two.edit("tasks.yaml", "like: xnli", "format: classify\n  labels: [entailment, neutral, contradiction]")
    two.edit("tasks.yaml", "languages: [en, de]", "languages: [de]\n  train_languages: [en]")
    result = two.run()
    assert [title for title, is_there in kept(two).items() if is_there] == [PLAIN] and best(two)["mine"] == PLAIN
    assert f"mine: no dev scores, so {two.out}/best/tiny/mine is the first run\n" in result.err


def test_a_kill_before_the_removal_is_made_up_for(two: Files) -> None:
    """As if the run had been killed after its last evaluation, and before it linked and removed anything."""
    assert two.run().code == 0 and all(kept(two).values())
    for path in (two.out / "best" / "tiny").iterdir():
        path.unlink()
    two.edit("recipe.yaml", "keep: all\n", "")
    assert "[1/" not in two.run().err
    assert [title for title, is_there in kept(two).items() if is_there] == [selected(two)] == [best(two)["mine"]]


def test_an_edited_recipe_and_its_earlier_version_keep_their_own_best_runs(two: Files) -> None:
    two.edit("recipe.yaml", "keep: all\n", "")
    two.edit("recipe.yaml", "evaluate: [pairs, mine]", "evaluate: [mine]")
    assert two.run().code == 0
    first = (two.out / "best" / "tiny" / "mine").resolve()
    two.edit("recipe.yaml", "settings: {steps: 2, lr: 1e-3", "settings: {steps: 2, lr: 2e-3")
    assert two.run().code == 0
    second = (two.out / "best" / "tiny" / "mine").resolve()
    assert first != second and (two.out / "best" / "tiny@1" / "mine").resolve() == first
    assert (first / "encoder").is_dir() and (second / "encoder").is_dir() and sum(kept(two).values()) == 1
    assert two.call("gc", "--out", two.out, "--forget", "tiny@1", "--yes").code == 0
    assert not (two.out / "best" / "tiny@1").exists() and not first.exists() and (second / "encoder").is_dir()
