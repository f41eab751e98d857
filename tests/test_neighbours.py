"""Neighbours equal brute force; mined pairs, thresholds and mean vectors equal the official ones."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from xstilts.compute import neighbours as module
from xstilts.compute.neighbours import Nearest, neighbours
from xstilts.formats import Retrieve
from xstilts.formats.base import HeadOutputs
from xstilts.formats.mining import margin_scores, mine_pairs, tune_threshold
from xstilts.formats.retrieve import Entry
from xstilts.metrics import METRICS
from xstilts.model import heads
from xstilts.model.batch import Batch

Vectors = NDArray[np.float32]
MINED = Retrieve(find="mined")


def both_ways(x: Vectors, y: Vectors, k: int) -> tuple[Nearest, Nearest]:
    at = np.arange(len(x) + len(y))
    return neighbours(np.concatenate((x, y)), at[: len(x)], at[len(x) :], k)


def unit(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)


def one_way(x: Vectors, y: Vectors, k: int) -> Nearest:
    """Brute force; equal ones by number, so what is equal must be so to the last bit."""
    products = x @ y.T
    ids = np.argsort(-products, axis=1, kind="stable")[:, :k]
    return Nearest(ids, np.take_along_axis(products, ids, 1))


def some(n: int, width: int, seed: int) -> Vectors:
    return np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)


def signs(n: int, seed: int) -> Vectors:
    """Sixteen times 1 or -1, and other lengths of the same: many are equal, and nothing about them has to be rounded.

    Of length 1 they are quarters, so that the sums of their products are exact in whatever order a machine adds.
    """
    rng = np.random.default_rng(seed)
    vectors = rng.choice((-1.0, 1.0), (1 + n // 4, 16))[rng.integers(0, 1 + n // 4, n)]
    return (vectors * 2.0 ** rng.integers(-3, 4, (n, 1))).astype(np.float32)


def check_against_brute_force(n: int, m: int, k: int) -> None:
    """Cosines to six digits; and of two that are nearer to each other than that, either may come first."""
    x, y = some(n, 24, 1), some(m, 24, 2)
    exact = [unit(side.astype(np.float64)) for side in (x, y)]
    for found, (own, other) in zip(both_ways(x, y, k), (exact, exact[::-1]), strict=True):
        right = one_way(own, other, k)
        assert np.allclose(found.cosines_NK, right.cosines_NK, rtol=0, atol=1e-6)
        assert np.allclose(np.take_along_axis(own @ other.T, found.ids_NK, 1), right.cosines_NK, rtol=0, atol=2e-6)
        assert all(len(set(row)) == len(row) for row in found.ids_NK.tolist())


def check_equal_ones(n: int, m: int, k: int) -> None:
    x, y = signs(n, 1), signs(m, 2)
    exact = [unit(side) for side in (x, y)]
    for found, (own, other) in zip(both_ways(x, y, k), (exact, exact[::-1]), strict=True):
        right = one_way(own, other, k)
        assert found.ids_NK.tolist() == right.ids_NK.tolist()
        assert found.cosines_NK.tolist() == right.cosines_NK.tolist()


@pytest.mark.parametrize("tile", [(32, 32), (64, 96), (96, 64), (2048, 1024)], ids=str)
@pytest.mark.parametrize("check", [check_against_brute_force, check_equal_ones], ids=["all differ", "many equal"])
@pytest.mark.parametrize(("n", "m", "k"), [(1, 1, 4), (3, 70, 4), (131, 200, 4), (200, 97, 20), (64, 64, 64)])
def test_neighbours_equal_brute_force(
    n: int, m: int, k: int, check: Callable[..., None], tile: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xstilts.compute.neighbours.TILE", tile)
    check(n, m, k)


def test_vectors_that_fit_a_gpu_are_copied_there_once(monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[int] = []
    inner = module._Units._copy
    monkeypatch.setattr(module, "TILE", (64, 32))
    monkeypatch.setattr(module._Units, "_copy", lambda self, at: (copied.append(at), inner(self, at))[1])
    results = []
    for room in (False, True):
        monkeypatch.setattr(module, "has_room", lambda *_, room=room: room)
        copied.clear()
        results.append(both_ways(some(300, 24, 1), some(200, 24, 2), 4))
        assert len(copied) == 5 + (7 if room else 5 * 7)
    for one, other in zip(*results, strict=True):
        assert (one.ids_NK == other.ids_NK).all() and (one.cosines_NK == other.cosines_NK).all()


@pytest.mark.parametrize("tile", [(512, 512), (2048, 1024)], ids=str)
def test_neighbours_of_larger_sides_equal_brute_force(tile: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xstilts.compute.neighbours.TILE", tile)
    check_against_brute_force(1300, 2100, 4)
    check_equal_ones(1300, 2100, 4)


def test_neighbours_in_ascending_order_equal_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xstilts.compute.neighbours.TILE", (128, 128))
    turn = np.linspace(3, 0.1, 600)[:, None]
    x, y = np.array([[1, 0]] * 150, np.float32), np.hstack((np.cos(turn), np.sin(turn))).astype(np.float32)
    of_x, of_y = both_ways(x, y, 3)
    assert (of_x.ids_NK == [599, 598, 597]).all() and (of_y.ids_NK == [0, 1, 2]).all()


def test_the_two_sides_may_be_any_rows_of_the_vectors(tmp_path: Path) -> None:
    vectors = np.memmap(tmp_path / "vectors", np.float32, "w+", shape=(60, 8))
    vectors[:] = some(60, 8, 0)
    x, y = np.arange(0, 60, 3), np.array([59, 1, 40, 7, 22])
    got, want = neighbours(vectors, x, y, 2), both_ways(vectors[x], vectors[y], 2)
    assert [a.tolist() for side in got for a in side] == [a.tolist() for side in want for a in side]


def test_zero_and_non_finite_vectors_have_cosine_zero() -> None:
    x = np.array([[0, 0], [np.nan, 1], [np.inf, 1], [3e30, 4e30], [-2, -3]], np.float32)
    of_x, of_y = both_ways(x, np.array([[1, 1], [0, 0], [0, 2]], np.float32), 2)
    assert of_x.ids_NK.tolist() == [[0, 1], [0, 1], [0, 1], [0, 1], [1, 2]]
    assert of_x.cosines_NK[:4].tolist() == [[0, 0]] * 4
    assert of_y.ids_NK.tolist() == [[0, 1], [0, 1], [0, 1]]
    assert np.isfinite(mine_pairs(of_x, of_y).scores_P).all()


def test_equal_vectors_are_ranked_by_row_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xstilts.compute.neighbours.TILE", (64, 64))
    for found in both_ways(np.ones((300, 4), np.float32), np.ones((200, 4), np.float32), 3):
        assert (found.ids_NK == [0, 1, 2]).all()


def test_progress_is_reported_per_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xstilts.compute.neighbours.TILE", (32, 32))
    messages: list[int] = []
    neighbours(some(90, 4, 0), np.arange(70), np.arange(70, 90), 1, messages.append)
    assert messages == [32, 64, 70]


def test_mined_pairs_share_no_row_and_follow_the_matching_rule() -> None:
    x, y = np.array([[1, 0], [0.9, 0.1]], np.float32), np.array([[1, 0.02], [0, 1], [-1, 0]], np.float32)
    near = both_ways(x, y, 2)
    pairs = {
        way: [(int(a), int(b)) for a, b, _ in zip(*mine_pairs(*near, "absolute", way), strict=True)]
        for way in ("max", "intersect", "fwd", "bwd")
    }  # fmt: skip
    assert pairs == {"max": [(0, 0), (1, 1)], "intersect": [(0, 0)], "fwd": [(0, 0), (1, 0)], "bwd": [(0, 0), (1, 1)]}


@pytest.mark.parametrize(
    ("scores", "right", "gold", "expected"),
    [
        ([0.9, 0.8, 0.2], [True, True, False], 2, 0.5),
        ([0.2, 0.8, 0.9], [False, True, True], 2, 0.5),
        ([0.9, 0.8, 0.2], [True, True, True], 3, 0.2),
        ([0.9, 0.5, 0.5, 0.1], [True, True, False, False], 2, 0.3),
        ([0.9, 0.8], [False, False], 2, 0.0),
        ([], [], 2, 0.0),
    ],
    ids=["between two", "unsorted", "all right", "a tie is not torn", "none right", "none found"],
)
def test_the_threshold_is_midway_after_the_best_f1(
    scores: list[float], right: list[bool], gold: int, expected: float
) -> None:
    assert tune_threshold(np.array(scores, np.float32), np.array(right, bool), gold) == pytest.approx(expected)


# --- the official code ------------------------------------------------------------------------------------------------


def golden(shared: Path, name: str) -> Any:
    return json.loads((shared / "golden" / f"{name}.json").read_text(encoding="utf-8"))


def unified(dataset: Any) -> tuple[list[Vectors], list[list[str]]]:
    """The vectors of both sides at unit length, one for each different sentence, and these."""
    sides = [dict(zip(dataset[f"{s}_text"], dataset[v], strict=True)) for s, v in (("src", "x"), ("trg", "y"))]
    return [unit(np.array(list(side.values()), np.float32)) for side in sides], [list(side) for side in sides]


def shifted(x: Vectors, y: Vectors, k: int) -> tuple[Nearest, Nearest]:
    """Neighbours after each side was moved to the other's mean, which the official code can do."""
    move = x.mean(0) - y.mean(0)
    return one_way(x - move, y, k), one_way(y + move, x, k)


@pytest.mark.real
def test_mined_pairs_equal_the_official_ones(shared: Path) -> None:
    data = golden(shared, "bucc2018")
    seen = 0
    for case in data["mining_cases"]:
        params = case["params"]
        if params["mode"] != "mine" or params["dist"] != "cosine" or params["retrieval"] in ("fwd", "bwd"):
            continue
        (x, y), (sources, targets) = unified(data["datasets"][case["dataset"]])
        near = (shifted if params.get("use_shift_embeds") else both_ways)(x, y, params["neighborhood"])
        pairs = mine_pairs(*near, params["margin"], params["retrieval"])
        found = {(sources[a], targets[b]): s for a, b, s in zip(*pairs, strict=True) if s > params["threshold"]}
        assert found == pytest.approx({(a, b): s for s, a, b in case["expected"]}, rel=1e-4), params
        seen += 1
    assert seen == 27


@pytest.mark.real
def test_forward_and_backward_search_equal_the_official_one(shared: Path) -> None:
    """The official code breaks off where only one side's proposals are asked for; its `search` has the forward ones."""
    data = golden(shared, "bucc2018")
    for case in data["mining_cases"]:
        dataset, params = data["datasets"][case["dataset"]], case["params"]
        (x, y), (sources, targets) = unified(dataset)
        near = both_ways(x, y, params["neighborhood"])
        if params["mode"] == "search":
            best = {sources[a]: targets[b] for a, b, _ in zip(*mine_pairs(*near, "ratio", "fwd"), strict=True)}
            for text, found in zip(dataset["src_text"], case["expected"], strict=True):
                assert best.get(text, found) == found  # a proposal whose score is not above 0 is none
            back = mine_pairs(*near[::-1], "ratio", "fwd")
            again = mine_pairs(*near, "ratio", "bwd")
            assert (back.x_P.tolist(), back.y_P.tolist()) == (again.y_P.tolist(), again.x_P.tolist())
        elif params["mode"] == "score":
            for score, source, target in case["expected"]:
                a, b = sources.index(source), targets.index(target)
                means = near[0].cosines_NK[a].mean(), near[1].cosines_NK[b].mean()
                assert margin_scores(np.array(x[a] @ y[b]), *means, "ratio").item() == pytest.approx(score, rel=1e-4)


def lines(examples: list[Entry], outputs: HeadOutputs, threshold: float | None) -> set[str]:
    """What is mined, as the official files have it."""
    asking = [example for example in examples if MINED.is_query(example)]
    found = zip(asking, MINED.decode(examples, outputs, threshold), strict=True)
    return {f"{example.id}\t{target}" for example, targets in found for target in targets}


@pytest.mark.real
def test_the_threshold_equals_the_official_one(shared: Path) -> None:
    data = golden(shared, "bucc2018")
    for case in data["threshold_cases"]:
        dataset = data["datasets"][case["dataset"]]
        gold: dict[str, list[str]] = {}
        for line in case["gold"]:
            source, target = line.split("\t")
            gold.setdefault(source, []).append(target)
        examples = [
            *(
                Entry(t, None, i, tuple(gold.get(i, ())))
                for i, t in zip(dataset["src_ids"], dataset["src_text"], strict=True)
            ),
            *(Entry(None, t, i) for i, t in zip(dataset["trg_ids"], dataset["trg_text"], strict=True)),
        ]
        outputs = HeadOutputs(np.arange(len(examples)), np.array(dataset["x"] + dataset["y"], np.float32))

        threshold = MINED.calibrate(examples, outputs)
        expected = case["expected"]
        assert threshold == pytest.approx(expected["best-threshold"], rel=1e-4)
        assert lines(examples, outputs, None) == {
            f"{source}\t{target}" for source, target, _ in case["candidate2score"]
        }
        assert lines(examples, outputs, threshold) == set(case["expected_predictions"])
        for fixed in case["fixed_threshold"]:
            assert lines(examples, outputs, fixed["threshold"]) == set(fixed["expected_predictions"])
        references = [list(example.relevant or ()) for example in examples if MINED.is_query(example)]
        scores = METRICS["pair_f1"].official_scores(references, MINED.decode(examples, outputs, threshold))
        assert scores == pytest.approx(
            {"f1": expected["F1"], "precision": expected["precision"], "recall": expected["recall"]}, abs=1e-6
        )


@pytest.mark.real
def test_the_threshold_of_synthetic_scores_equals_the_official_one_except_at_the_end(shared: Path) -> None:
    for case in golden(shared, "bucc2018")["threshold_synthetic"]:
        found = [(f"{source}\t{target}", score) for source, target, score in case["candidate2score"]]
        right = [pair in case["gold"] for pair, _ in found]
        threshold = tune_threshold(np.array([score for _, score in found]), np.array(right), len(case["gold"]))
        extracted = {pair for pair, score in found if score >= threshold}
        if "raises" in case["expected"]:
            assert extracted == {pair for pair, _ in found}
        else:
            assert threshold == pytest.approx(case["expected"]["threshold"], rel=1e-4)
            assert extracted == set(case["expected"]["extracted"])


@pytest.mark.real
def test_the_nearest_translation_equals_the_official_one(shared: Path) -> None:
    for case in golden(shared, "tatoeba")["similarity_cases"]:
        source, english = (np.array(case[side], np.float32) for side in ("src", "eng"))
        found = both_ways(english, source, 1)[0].ids_NK[:, 0].tolist()
        assert found == case["expected"]["cosine"]["predictions"]
        accuracy = METRICS["accuracy"].score(case["labels"], found)
        assert accuracy == pytest.approx(case["expected"]["cosine"]["accuracy"], abs=1e-6)


@pytest.mark.real
def test_mean_pooled_vectors_equal_the_official_ones(shared: Path) -> None:
    for case in golden(shared, "pooling")["pool_cases"]:
        mask_BL = torch.tensor(case["mask"], dtype=torch.bool)
        none, lengths_B = torch.zeros(0, dtype=torch.int64), mask_BL.sum(1)
        batch = Batch(len(mask_BL), none, lengths_B, none, none, none, none, torch.arange(len(mask_BL)))
        for hidden, expected in zip(case["hidden"], case["expected_mean"], strict=True):
            pooled = heads.MeanPool()(torch.tensor(hidden)[mask_BL], batch)
            assert torch.allclose(pooled, torch.tensor(expected), atol=1e-6)
