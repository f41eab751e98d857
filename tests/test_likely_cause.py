"""A training that ends at chance names the likely cause, as far as its settings and its log know it."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from conftest import Files
from xstilts.training.likely_cause import has_one_answer, likely_cause, small_dev
from xstilts.training.settings import TaskSettings, TrainSpec

MOODS = """\
moods: {format: classify, texts: [text], labels: [glad, sad], data: {train: train.csv, dev: dev.csv, test: dev.csv}}
"""
RECIPE = """\
name: moods
encoder: ENCODER
seeds: [1, 2]
use: [moods.yaml]
settings: {lr: 3e-6, steps: 8, max_length: 16}
phases: [{name: target, each: [moods]}]
evaluate: [moods]
"""


def spec(lr: float = 2e-5, steps: int | None = None) -> TrainSpec:
    part = TaskSettings(task="moods", weight=1.0, batch=16, max_length=64, epochs=3)
    return TrainSpec(parts=(part,), lr=lr, steps=steps, warmup=0.1, weight_decay=0.0, precision="fp32", eval_every=None,
                     patience=30)  # fmt: skip


def cause(losses: Sequence[float], every: int, one_answer: bool = False, one_label: bool = False, **fields: Any) -> str:
    """The cause of a training with a row of its log every few updates, each also after an evaluation."""
    rows = [{"step": every * i, "loss": loss} for i, loss in enumerate(losses, 1)]
    return likely_cause(spec(**fields), [*rows, rows[-1] | {"dev": 50.0}], one_label=one_label, one_answer=one_answer)


@pytest.mark.parametrize(
    ("lr", "steps", "expected"),
    [
        (3e-6, None, "60 updates at lr 3e-6: raise `lr` or `epochs`"),
        (2e-5, 60, "60 updates at lr 2e-5: raise `lr` or `steps`"),
        (1e-3, None, "60 updates at lr 1e-3: raise `epochs`"),
    ],
)
def test_few_updates_are_the_cause(lr: float, steps: int | None, expected: str) -> None:
    assert cause([0.70, 0.69, 0.70, 0.69, 0.69, 0.70], 10, lr=lr, steps=steps) == expected


def test_a_flat_loss_after_many_updates_is_the_rate_or_the_labels() -> None:
    flat = [1.10, 1.09, 1.10, 1.09] * 10
    assert cause(flat, 100, lr=1e-6) == "4,000 updates at lr 1e-6: raise `lr`"
    assert cause(flat, 100, lr=1e-3).endswith("in 4,000 updates at lr 1e-3: lower `lr`")
    assert "check that the labels follow from the texts" in cause(flat, 100)


def test_a_loss_that_falls_until_the_end_needs_more_updates() -> None:
    falling = [1.0 - 0.01 * i for i in range(30)]
    assert (
        cause(falling, 10) == "the loss was still falling (0.99 to 0.72) after 300 updates at lr 2e-5: raise `epochs`"
    )


def test_a_training_that_learned_its_examples_has_other_dev_examples() -> None:
    learned = [0.7, 0.6, 0.4, 0.2, 0.1, 0.05, 0.04, 0.03, 0.03, 0.03]
    assert cause(learned, 20).startswith("the training loss fell from 0.70 to 0.03, but dev stayed at chance")


def test_a_small_dev_set_is_the_cause_where_its_score_is_high() -> None:
    small = small_dev(90.0, 75.0, 20, "accuracy")
    falling = [{"step": 10 * i, "loss": 1.0 - 0.01 * i} for i in range(1, 31)]
    assert likely_cause(spec(), falling, one_label=False, one_answer=False, small_dev=small) == (
        "the dev set of 20 examples is too small to tell 90.0 from chance (75.0, the share of its commonest label): "
        "give it more examples"
    )
    assert small_dev(80.0, 75.0, 20, "accuracy") == "", "a low score says nothing of the dev set"


def test_one_label_for_all_is_a_cause() -> None:
    same, other, single = ["sad", "sad"], ["sad", "glad"], ["sad"]
    assert [has_one_answer(answers) for answers in (same, other, single, [])] == [True, False, False, False]
    assert has_one_answer([["O", "O"], ["O"]])
    assert cause([0.7] * 6, 10, one_answer=True) == (
        "60 updates at lr 2e-5, and all dev examples get the same answer: raise `lr` or `epochs`"
    )
    assert cause([0.1] * 6, 10, one_label=True) == (
        "all training examples have the same label, so there is nothing to learn"
    )


@pytest.fixture
def moods(study: Files) -> Files:
    """Twelve rows of two moods, and as many dev rows."""
    encoder = (study.folder / "recipe.yaml").read_text(encoding="utf-8").split("encoder: ")[1].split("\n")[0]
    study.write("recipe.yaml", RECIPE.replace("ENCODER", encoder))
    study.write("moods.yaml", MOODS)
    for name in ("train", "dev"):
        rows = [f"day {i} {name},{('glad', 'sad')[i % 2]}" for i in range(12)]
        study.write(f"{name}.csv", "\n".join(["text,label", *rows, ""]))
    return study


def test_a_run_says_the_cause_at_the_end_of_the_training_and_of_the_run(moods: Files) -> None:
    result = moods.run()
    assert result.code == 0
    ended = [line for line in result.err.splitlines() if "not clearly better than chance" in line]
    assert len(ended) == 2 and all("likely cause: 8 updates at lr 3e-6" in line for line in ended)
    assert "moods: 2 trainings ended at chance; likely cause: 8 updates at lr 3e-6" in " ".join(result.out.split())
    facts = [json.loads(path.read_text()) for path in moods.out.glob("steps/*/done.json")]
    assert sum("likely_cause" in one for one in facts) == 2


def test_a_training_without_dev_names_its_cause_when_it_is_scored_at_chance(moods: Files) -> None:
    moods.edit("moods.yaml", "dev: dev.csv, ", "")
    result = moods.run()
    assert result.code == 0 and "likely cause" not in result.err
    assert "likely cause: 8 updates at lr 3e-6: raise `lr` or `steps`" in " ".join(result.out.split())


def test_a_run_says_that_its_dev_set_is_too_small(moods: Files) -> None:
    moods.edit("recipe.yaml", "lr: 3e-6, steps: 8", "lr: 3e-3, steps: 60")
    moods.write(
        "train.csv", "\n".join(["text,label", *(f"{x} {i},{x}" for i in range(60) for x in ("glad", "sad")), ""])
    )
    moods.write("dev.csv", "text,label\nglad 1,glad\nsad 2,sad\nglad 3,glad\n")
    result = moods.run()
    small = "the dev set of 3 examples is too small to tell 100.0 from chance (66.7, the share of its commonest label)"
    assert f"likely cause: {small}" in result.err and small in " ".join(result.out.split())


def test_a_training_set_with_one_label_is_named(moods: Files) -> None:
    moods.write("train.csv", "text,label\n" + "".join(f"day {i},glad\n" for i in range(12)))
    result = moods.run()
    assert "likely cause: all training examples have the same label" in result.err


def test_a_training_above_chance_names_no_cause(moods: Files) -> None:
    moods.edit("recipe.yaml", "lr: 3e-6, steps: 8", "lr: 3e-3, steps: 60")
    for name in ("train", "dev"):
        rows = [f"{mood} {i},{mood}" for i in range(60) for mood in ("glad", "sad")]
        moods.write(f"{name}.csv", "\n".join(["text,label", *rows, ""]))
    result = moods.run()
    assert result.code == 0 and "likely cause" not in result.err + result.out
