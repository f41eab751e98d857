"""Mixing: sampling probabilities equal jiant's, the number of updates equals the paper's."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from xstilts.errors import UserError
from xstilts.study.load import read
from xstilts.study.plan import plan
from xstilts.tasks.counts import COUNTS
from xstilts.training.sampling import draw, num_updates, probabilities, schedule
from xstilts.training.settings import CAP, Mixing, TaskSettings, TrainSpec

SIZES = {"anli_plus": 1104934, "mnli": 392702, "qqp": 363846, "squad_v2": 130319, "squad_v1": 87599,
         "hellaswag": 39905, "ccg": 38015, "cosmosqa": 25588, "commonsenseqa": 9741}  # fmt: skip
BATCHES = {"anli_plus": 24, "mnli": 24, "qqp": 24, "squad_v2": 8, "squad_v1": 8,
           "hellaswag": 24, "ccg": 24, "cosmosqa": 4, "commonsenseqa": 4}  # fmt: skip


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_sampling_probabilities_by_hand() -> None:
    sizes = [400, 100, 100]
    assert probabilities(sizes, [1, 1, 1], Mixing()).tolist() == pytest.approx([4 / 6, 1 / 6, 1 / 6])
    assert probabilities(sizes, [1, 1, 4], Mixing()).tolist() == pytest.approx([4 / 9, 1 / 9, 4 / 9])
    assert probabilities(sizes, [1, 1, 1], Mixing(cap=200)).tolist() == pytest.approx([0.5, 0.25, 0.25])
    assert probabilities(sizes, [1, 1, 1], Mixing(temperature=2)).tolist() == pytest.approx([0.5, 0.25, 0.25])
    assert probabilities(sizes, [1, 2, 1], Mixing.model_validate("uniform")).tolist() == [0.25, 0.5, 0.25]


def rule(config: dict[str, Any]) -> Mixing:
    """Our spelling of jiant's samplers."""
    kind = config["sampler_type"].removesuffix("MultiTaskSampler")
    if kind == "Temperature":
        return Mixing(temperature=config["temperature"], cap=config["examples_cap"])
    return Mixing.model_validate({"Proportional": "proportional"}.get(kind, "uniform"))


@pytest.mark.real
def test_sampling_probabilities_equal_jiants(shared: Path) -> None:
    golden = json.loads((shared / "golden/samplers.json").read_text(encoding="utf-8"))
    assert golden["num_examples"] == SIZES
    compared = 0
    for case in golden["cases"]:
        expected, config = case.get("expected", {}), case["config"]
        if "raises" in expected:  # jiant demands a cap; ours can do without
            assert config["examples_cap"] is None and rule(config).cap is None
        elif expected:
            weights = list(config.get("task_to_unweighted_probs", dict.fromkeys(SIZES, 1)).values())
            got = probabilities(list(SIZES.values()), weights, rule(config)).tolist()
            assert dict(zip(SIZES, got, strict=True)) == pytest.approx(expected, abs=1e-12)
            compared += 1
    assert compared == 4


@pytest.mark.real
def test_a_growing_weight_equals_jiants_time_dependent_sampler(shared: Path) -> None:
    golden = json.loads((shared / "golden/samplers.json").read_text(encoding="utf-8"))
    (case,) = [case for case in golden["cases"] if "expected_by_step" in case]
    assert case["config"]["task_to_unnormalized_prob_funcs_dict"] == {"a": "1", "b": "2*t"}
    steps = case["config"]["max_steps"]
    done = np.arange(len(case["expected_by_step"])) / steps
    got = probabilities([1, 1], [1, (0, 2 * steps)], Mixing.model_validate("uniform"), done)
    np.testing.assert_allclose(got, case["expected_by_step"], atol=1e-12)


def test_nine_tasks_together_take_167118_updates() -> None:
    """Table 4's batch sizes and the three epochs of its last line, over examples counted up to 2^17."""
    updates = [num_updates(Mixing().capped(SIZES[name]), BATCHES[name], 3) for name in SIZES]
    drawn = draw(list(SIZES.values()), [1] * 9, Mixing(), range(9), sum(updates), rng())
    assert len(drawn) == sum(updates) == 167_118
    had = np.bincount(drawn, minlength=9) / len(drawn)
    np.testing.assert_allclose(had, probabilities(list(SIZES.values()), [1] * 9, Mixing()), atol=0.005)


def test_raw_text_adds_updates_and_takes_none_from_labelled_tasks() -> None:
    sizes = [*SIZES.values(), 2_000_000]
    drawn = draw(sizes, [1] * 10, Mixing(), range(9), 900, rng())
    had = np.bincount(drawn, minlength=10)
    assert had[:9].sum() == 900 and drawn[-1] != 9
    share = CAP / sum(min(size, CAP) for size in sizes)
    assert had[9] / len(drawn) == pytest.approx(share, abs=0.04)
    growing = np.bincount(draw([9, 9], [1, (0, 2)], Mixing(), [0], 10_000, rng()))
    assert growing[0] == 10_000 and growing[1] == pytest.approx(10_000 * 0.4507 / 0.5493, rel=0.1)  # ln 3 / 2 = 0.5493


PAPER_UPDATES = {"anli-plus": 92_078, "mnli": 32_726, "qqp": 45_483, "squad2": 48_870, "squad1": 32_850,
                 "hellaswag": 11_641, "ccg": 23_760, "cosmosqa": 94_740, "commonsenseqa": 24_360}  # fmt: skip
"""Updates of each intermediate task alone: Table 4's epochs x the batches of its training set."""
TEXT = 2_000_000
"""Sentences of raw text."""


def updates_of(spec: TrainSpec) -> dict[str, int]:
    """The updates of each task, with training sets of the official sizes."""
    sizes = [TEXT if part.task == "masked-text" else COUNTS[part.task]["train"] for part in spec.parts]
    assert all(isinstance(size, int) for size in sizes)
    counts = np.bincount(schedule(spec.parts, sizes, spec, 1), minlength=len(sizes))
    return dict(zip((part.task for part in spec.parts), map(int, counts), strict=True))


@pytest.mark.parametrize("name", PAPER_UPDATES)
def test_a_task_beside_raw_text_has_the_updates_that_it_has_alone(name: str) -> None:
    specs = [step.training for step in plan(*read("paper-table2")).steps.values() if step.training and step.seed == 1]
    alone, beside = (next(spec for spec in specs if [part.task for part in spec.parts] == names)
                     for names in ([name], [name, "masked-text"]))  # fmt: skip
    assert updates_of(alone) == {name: PAPER_UPDATES[name]}
    had = updates_of(beside)
    size = COUNTS[name]["train"]
    assert isinstance(size, int) and had[name] == PAPER_UPDATES[name]
    assert had["masked-text"] / had[name] == pytest.approx(CAP / min(size, CAP), rel=0.05)  # p ~ min(examples, 2^17)


def part(size: int, raw_text: bool = False, epochs: int = 3) -> tuple[TaskSettings, int]:
    return TaskSettings(task="a", weight=1, batch=8, max_length=9, epochs=epochs, raw_text=raw_text), size


def counts(*parts: tuple[TaskSettings, int], mixing: Mixing | None, steps: int | None = None) -> list[int]:
    """The updates of each part."""
    spec = TrainSpec(parts=tuple(settings for settings, _ in parts), lr=1, steps=steps, warmup=0, weight_decay=0,
                     precision="fp32", eval_every=None, patience=1, mixing=mixing)  # fmt: skip
    drawn = schedule(spec.parts, [size for _, size in parts], spec, 1)
    return np.bincount(drawn, minlength=len(parts)).tolist()


def test_the_cap_shortens_epochs_only_where_two_labelled_tasks_are_mixed() -> None:
    small, large, text = part(80), part(800), part(8000, raw_text=True)
    capped = Mixing(cap=400)
    assert counts(large, mixing=None) == [300]
    assert counts(large, text, mixing=capped)[0] == 300
    assert sum(counts(small, large, mixing=capped)) == 30 + 150
    assert sum(counts(small, large, text, mixing=capped)[:2]) == 30 + 150


def test_steps_counts_the_labelled_tasks_and_raw_text_only_alone() -> None:
    task, text = part(80), part(80, raw_text=True)
    beside = counts(task, text, mixing=Mixing(), steps=500)
    assert beside[0] == 500 and beside[1] == pytest.approx(500, rel=0.2)
    assert sum(counts(task, task, text, mixing=Mixing(), steps=500)[:2]) == 500
    assert counts(part(80), mixing=None, steps=7) == [7]


def test_raw_text_alone_has_its_own_updates_or_steps() -> None:
    text = part(800, raw_text=True, epochs=1)
    assert sum(counts(text, text, mixing=Mixing(cap=8))) == 200
    assert sum(counts(text, text, mixing=Mixing(), steps=7)) == 7
    assert counts(part(800, epochs=1), mixing=None) == [100]


def test_a_seed_determines_the_order_of_the_tasks() -> None:
    orders = [draw([5, 5], [1, 1], Mixing(), [0, 1], 40, rng(seed)).tolist() for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]


def test_a_text_share_that_grows_to_one_still_ends() -> None:
    drawn = draw([5, 5], [(1, 0), (0, 1)], Mixing(), [0], 1000, rng())
    assert len(drawn) == 2000 and (drawn == 0).sum() == pytest.approx(1000, abs=100)


def test_a_labelled_share_that_falls_to_almost_nothing_makes_no_training_longer() -> None:
    for last in (1e-2, 1e-4, 1e-9):
        lengths = [len(draw([9, 9], [(1, last), 1], Mixing(), [0], 200, rng(seed))) for seed in range(4)]
        assert len(set(lengths)) == 1 and lengths[0] == pytest.approx(652, rel=0.02)  # 1 / (1 - ln 2) x 200


def test_a_labelled_share_too_small_to_end_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"would take 1e\+11 updates.*raise their weight, or give the raw text a smaller one"
    ):
        draw([5, 5], [1e-8, 1], Mixing(), [0], 1000, rng())


def test_a_sampling_rule_is_a_name_or_its_numbers() -> None:
    assert Mixing.model_validate("paper") == Mixing() == Mixing(temperature=1, cap=2**17)
    assert Mixing.model_validate("proportional").capped(10**6) == 10**6
    with pytest.raises(ValidationError, match="'square' is none of paper, proportional, uniform"):
        Mixing.model_validate("square")
