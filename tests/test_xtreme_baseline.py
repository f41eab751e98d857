"""Settings of single tasks, warm-up in updates, last weights and layers: what XTREME's own baselines need."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import CliResult, Files
from xstilts.data.find import find_or_empty
from xstilts.study.load import read
from xstilts.study.phase import Settings
from xstilts.study.plan import plan
from xstilts.training.loop import lr_factor
from xstilts.training.settings import TrainSpec

QA, PAIRS = ("xquad", "tydiqa"), ("xnli", "pawsx")


def test_the_baselines_train_and_pool_as_xtremes_scripts_do(xstilts: Callable[..., CliResult]) -> None:
    made = plan(*read("xtreme-baseline"))
    found = {}
    for step in made.steps.values():
        if step.training:
            (part,), spec = step.training.parts, step.training
            assert (part.epochs, spec.head) == (2, "stock" if part.task in PAIRS else None)
            found[part.task] = (part.max_length, spec.warmup, spec.weight_decay, spec.weights, spec.eval_every)
    assert found == {
        "xnli": (128, 0, 0, "best", 100), "pawsx": (128, 0, 0, "best", 200),
        "udpos": (128, 0, 0, "best", 500), "panx": (128, 0, 0, "best", 1000),
        **{name: (384, 500, 1e-4, "last", None) for name in QA},
    }  # fmt: skip
    scored = [(step.encoder.rpartition("/")[2][:3], step.scoring) for step in made.steps.values() if step.scoring]
    layers = {(encoder, one.task): (one.layer, one.max_length) for encoder, one in scored if one.head is None}
    assert layers == {
        ("ber", "bucc2018"): (8, 512), ("ber", "tatoeba"): (8, 512),
        ("xlm", "bucc2018"): (20, 512), ("xlm", "tatoeba"): (14, 512),
    }  # fmt: skip
    assert {one.max_length for _, one in scored if one.task in ("mlqa", *QA)} == {384}
    assert not [name for name in QA if "early stopping" in made.tasks[name].note], "they keep the last weights"
    shown = xstilts("plan", "xtreme-baseline")
    assert "36 trainings instead of 54, because" in shown.out + shown.err


def test_a_tasks_own_settings_win_wherever_they_stand() -> None:
    recipe = Settings(batch=8, steps=9, tasks={"a": Settings(lr=1.0, batch=3), "b": Settings(epochs=2)})
    both = Settings(lr=2.0, batch=4, tasks={"a": Settings(batch=5)}).over(recipe)
    a, b, c = both.of("a"), both.of("b"), both.of("c")
    assert (a.lr, a.batch, a.steps) == (1.0, 5, 9)
    assert (b.lr, b.batch, b.steps, b.epochs) == (2.0, 4, None, 2)
    assert (c.lr, c.batch, c.steps, c.tasks) == (2.0, 4, 9, None)


@pytest.mark.parametrize(("given", "updates"), [(0, 0), (0.1, 20), (0.999, 199), (1, 1), (500, 500)])
def test_warmup_is_a_share_below_one_and_a_number_of_updates_from_one(given: float, updates: int) -> None:
    spec = TrainSpec(parts=(), lr=1, steps=200, warmup=given, weight_decay=0, precision="fp32", eval_every=None,
                     patience=1)  # fmt: skip
    assert spec.warmup_updates(200) == updates
    factors = [lr_factor(done, 200, spec.warmup_updates(200)) for done in range(200)]
    assert max(factors) == (1.0 if updates < 200 else 199 / 500)
    assert factors.index(max(factors)) == min(updates, 199)


def records(study: Files, kind: str) -> dict[str, tuple[Any, Any]]:
    """`step.json` and `done.json` of the steps of a kind, by id."""
    found = {
        path.name: tuple(json.loads((path / f"{name}.json").read_text()) for name in ("step", "done"))
        for path in study.out.glob("steps/*")
    }
    return {id: (step, done) for id, (step, done) in found.items() if step["kind"] == kind}


def test_the_last_weights_need_no_dev_set(study: Files) -> None:
    study.edit("recipe.yaml", "settings: {steps: 2, ", "settings: {steps: 6, eval_every: 1, ")
    assert study.run().code == 0
    study.edit("recipe.yaml", "settings: {", "settings: {tasks: {mine: {weights: last}}, ")
    result = study.run()
    assert result.code == 0, result.err
    trained = {step["training"]["weights"]: (id, done) for id, (step, done) in records(study, "train").items()}
    best, last = trained["best"][1], trained["last"][1]
    assert last["best_update"] == last["updates"] == 6 and last["dev"] is None and best["dev"] is not None
    names = [{path.rpartition("/")[2] for path in done["inputs"]} for done in (best, last)]
    assert "dev-en.tsv" in names[0] and "dev-en.tsv" not in names[1]
    (step,) = (step for step in plan(*read(str(study.folder / "recipe.yaml"))).steps.values() if step.training)
    assert step.id == trained["last"][0]


def test_the_layer_of_a_recipe_replaces_that_of_retrieval_tasks_only(study: Files) -> None:
    assert study.run().code == 0
    study.edit("recipe.yaml", "settings: {", "settings: {layer: 0, ")
    assert study.run().code == 0
    steps = records(study, "evaluate")
    pairs = {step["scoring"]["layer"]: id for id, (step, _) in steps.items() if step["scoring"]["task"] == "pairs"}
    assert pairs.keys() == {None, 0} and len(steps) == 3
    study.edit("recipe.yaml", "layer: 0", "layer: 99")
    result = study.run()
    assert result.code == 2 and "a task pools hidden state 99" in result.err


def test_baselines_in_other_languages_have_the_settings_of_the_zero_shot_one() -> None:
    zero_shot = {
        part.task: step.training
        for step in plan(*read("xtreme-baseline")).steps.values()
        for part in step.parts
        if step.training and step.encoder == "google-bert/bert-base-multilingual-cased"
    }
    for name in ("in-language", "joint", "translate-train", "translate-train-all"):
        made = plan(*read(name))
        for step in (step for step in made.steps.values() if step.training):
            (part,), spec = step.parts, step.training
            assert spec is not None
            task = made.tasks[part.task].name
            other = zero_shot["xquad" if task == "mlqa" else task]  # the two share their trainings
            changes = {"task": other.parts[0].task}
            assert (part.model_copy(update=changes), step.encoder) == (other.parts[0], made.recipe.encoder)
            assert spec.model_copy(update={"parts": other.parts}) == other


def test_few_shot_trainings_draw_a_thousand_examples_and_every_epoch_counts_them() -> None:
    made = plan(*read("few-shot"))
    parts = [part for step in made.steps.values() for part in step.parts]
    assert {(part.shots, part.epochs, part.batch) for part in parts} == {(1000, 2, 32)}


def test_no_baseline_stops_on_test_data_and_english_is_the_original(tmp_path: Path) -> None:
    for name in ("in-language", "joint", "translate-train", "translate-train-all"):
        tasks = read(name)[1]
        for task in ("xnli", "pawsx", "xquad", "mlqa", "tydiqa", "udpos", "panx"):
            if tasks[task].train_in != "listed" and (stop := tasks[task].stop_source()):
                assert not stop.overlaps(tasks[task].data["test"], tasks[task].train_languages), (name, task)
    train = read("translate-train")[1]["xquad"].data["train"]
    for path in ("translated/squad1/train-de.json", "squad/train-v1.1.json"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("{}", encoding="utf-8")
    assert [Path(find_or_empty(train, code, [tmp_path])[0].paths[0]).name for code in ("de", "en")] == [
        "train-de.json", "train-v1.1.json"
    ]  # fmt: skip
    assert find_or_empty(train, "es", [tmp_path]) == []
