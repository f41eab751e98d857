"""Mixing: sampling probabilities equal jiant's, the number of updates equals the paper's."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from xstilts.errors import UserError
from xstilts.training.sampling import draw, num_updates, probabilities
from xstilts.training.settings import CAP, Mixing

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
    drawn = draw(list(SIZES.values()), [1] * 9, Mixing(), range(9), updates, None, rng())
    assert len(drawn) == sum(updates) == 167_118
    had = np.bincount(drawn, minlength=9) / len(drawn)
    np.testing.assert_allclose(had, probabilities(list(SIZES.values()), [1] * 9, Mixing()), atol=0.005)


def test_raw_text_adds_updates_and_takes_none_from_labelled_tasks() -> None:
    sizes, updates = [*SIZES.values(), 2_000_000], [*([100] * 9), 250_000]
    drawn = draw(sizes, [1] * 10, Mixing(), range(9), updates, None, rng())
    had = np.bincount(drawn, minlength=10)
    assert had[:9].sum() == 900 and drawn[-1] != 9
    share = CAP / sum(min(size, CAP) for size in sizes)
    assert had[9] / len(drawn) == pytest.approx(share, abs=0.04)
    growing = np.bincount(draw([9, 9], [1, (0, 2)], Mixing(), [0], [10_000, 0], None, rng()))
    assert growing[0] == 10_000 and growing[1] == pytest.approx(10_000 * 0.4507 / 0.5493, rel=0.1)  # ln 3 / 2 = 0.5493


def test_text_alone_has_its_own_updates_and_steps_overrides_them() -> None:
    assert len(draw([90], [1], Mixing(), [], [12], None, rng())) == 12
    assert len(draw([90, 10], [1, 1], Mixing(), [0], [12, 0], 7, rng())) == 7


def test_a_seed_determines_the_order_of_the_tasks() -> None:
    orders = [draw([5, 5], [1, 1], Mixing(), [0, 1], [20, 20], None, rng(seed)).tolist() for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]


def test_a_text_share_that_grows_to_one_still_ends() -> None:
    drawn = draw([5, 5], [(1, 0), (0, 1)], Mixing(), [0], [1000, 0], None, rng())
    assert len(drawn) == 2000 and (drawn == 0).sum() == pytest.approx(1000, abs=100)


def test_a_labelled_share_too_small_to_end_is_refused() -> None:
    with pytest.raises(UserError, match=r"would take 1e\+11 updates.*raise their weight"):
        draw([5, 5], [1e-8, 1], Mixing(), [0], [1000, 0], None, rng())


def test_a_sampling_rule_is_a_name_or_its_numbers() -> None:
    assert Mixing.model_validate("paper") == Mixing() == Mixing(temperature=1, cap=2**17)
    assert Mixing.model_validate("proportional").capped(10**6) == 10**6
    with pytest.raises(ValidationError, match="'square' is none of paper, proportional, uniform"):
        Mixing.model_validate("square")
