"""Transfer estimates: by hand, by brute force, on real features, and beside a small study's gains."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel

from conftest import CliResult
from xstilts.analysis import rank_correlation
from xstilts.errors import UserError
from xstilts.formats.base import Features
from xstilts.model.encoder import Encoder, load
from xstilts.rank.embeddings import embed, sample
from xstilts.rank.estimators import cosine, h_score, label_fit, ledoit_wolf, logme
from xstilts.rank.ranking import Candidate, _gain_agreements
from xstilts.rank.request import ResolvedRequest
from xstilts.tasks import TASKS

Array = np.ndarray[Any, np.dtype[np.float64]]
Alone = Callable[[Features], Array]


def problem(examples: int = 40, hidden: int = 6, classes: int = 3, seed: int = 0) -> tuple[Array, Array]:
    """Features that tell something of the labels, of very different sizes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, examples)
    features = rng.normal(size=(examples, hidden)) + rng.normal(size=(classes, hidden))[labels]
    return features * np.geomspace(0.1, 10, hidden), labels


def evidence(features: Array, labels: Array, a: float, b: float) -> float:
    """The log evidence of 0-1 labels, as a Gaussian: y is drawn with covariance I / b + F F' / a."""
    cov = np.eye(len(labels)) / b + features @ features.T / a
    return float(-0.5 * (len(labels) * np.log(2 * np.pi) + np.linalg.slogdet(cov)[1]
                         + labels @ np.linalg.solve(cov, labels)))  # fmt: skip


@pytest.mark.parametrize(("examples", "hidden"), [(40, 6), (12, 20)], ids=["many", "wide"])
def test_logme_is_the_maximum_evidence(examples: int, hidden: int) -> None:
    features, labels = problem(examples, hidden)
    found = []
    for number in range(3):
        label, near, width = (labels == number).astype(float), np.zeros(2), 12.0
        for _ in range(5):  # a grid of both precisions, which may have two peaks, then a finer one around its best
            grid = np.linspace(-width, width, 41)
            tried = [(evidence(features, label, *np.exp([x, y])), x, y) for x in near[0] + grid for y in near[1] + grid]
            top, x, y = max(tried)
            near, width = np.array([x, y]), width / 8
        found.append(top / examples)
    assert logme(features, labels) == pytest.approx(np.mean(found), abs=1e-6)


def test_logme_agrees_with_the_papers_fixed_point() -> None:
    features, labels = problem(200, 8)
    u, s, _ = np.linalg.svd(features, full_matrices=False)
    values = []
    for number in range(3):
        label, a, b = (labels == number).astype(float), 1.0, 1.0
        projected = u.T @ label
        for _ in range(2000):
            mean = b * s * projected / (a + b * s**2)
            explained = (b * s**2 / (a + b * s**2)).sum()
            rest = ((label - u @ (s * mean)) ** 2).sum()
            a, b = explained / (mean**2).sum(), (len(label) - explained) / rest
        values.append(evidence(features, label, a, b) / len(label))
    assert logme(features, labels) == pytest.approx(np.mean(values), abs=1e-9)


def test_logme_is_invariant_to_rotation_scale_and_order() -> None:
    features, labels = problem()
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))
    value, order = logme(features, labels), np.random.default_rng(2).permutation(len(labels))
    assert logme(features @ turn, labels) == pytest.approx(value, abs=1e-7)
    assert logme(1e-6 * features, labels) == pytest.approx(value, abs=1e-7)
    assert logme(features[order], (labels[order] + 1) % 3 + 10) == pytest.approx(value, abs=1e-7)
    assert logme(np.hstack([features, np.zeros((40, 3))]), labels) == pytest.approx(value, abs=1e-7)
    assert logme(features.astype(np.float32), labels) == pytest.approx(value, abs=1e-5)
    noise = np.random.default_rng(3).normal(size=features.shape)
    assert logme(noise, labels) < value < logme(np.hstack([features, np.eye(3)[labels]]), labels)


def test_h_score_by_hand() -> None:
    line = np.array([[0.0], [2.0], [4.0], [6.0]])  # variance 5; the means 1 and 5 have variance 4
    labels = np.array([0, 0, 1, 1])
    assert h_score(line, labels, 0.0) == pytest.approx(4 / 5)
    square = np.array([[0.0, 0.0], [1.0, 1.0], [1.0, 0.0], [2.0, 1.0]])  # x - y is the class
    assert h_score(square, labels, 0.0) == pytest.approx(1.0)
    # cov is [[1/2, 1/4], [1/4, 1/4]]; half of it and half of 3/8 I are [[7/16, 1/8], [1/8, 5/16]], determinant 31/256;
    # the means differ in x alone, by 1: their covariance is [[1/4, 0], [0, 0]], of which a half is left
    assert h_score(square, labels, 0.5) == pytest.approx((5 / 16) / (31 / 256) * (1 / 8))


def test_ledoit_wolf_shrinkage_by_hand() -> None:
    square = np.array([[0.0, 0.0], [1.0, 1.0], [1.0, 0.0], [2.0, 1.0]])
    # ||cov||^2 is 1/4 + 2/16 + 1/16 = 7/16; less 2 (3/8)^2 = 9/32 it is 5/32, the spread of the eigenvalues;
    # the fourth powers of the centred lengths are (25/16, 1/16, 1/16, 25/16), so the noise is (13/16 - 7/16) / 4 = 3/32
    assert ledoit_wolf(square) == pytest.approx(3 / 5)
    assert h_score(square, np.array([0, 0, 1, 1])) == pytest.approx(h_score(square, np.array([0, 0, 1, 1]), 3 / 5))
    assert ledoit_wolf(np.random.default_rng(0).normal(size=(100_000, 3)) * (1, 2, 3)) < 1e-3
    assert ledoit_wolf(np.random.default_rng(0).normal(size=(10, 50))) > 0.5


def test_h_score_is_invariant_to_linear_maps() -> None:
    features, labels = problem()
    value = h_score(features, labels, 0.0)
    change = np.random.default_rng(1).normal(size=(6, 6))
    assert h_score(features @ change + 5, labels, 0.0) == pytest.approx(value)
    assert h_score(np.hstack([features, features[:, :2], np.ones((40, 1))]), labels, 0.0) == pytest.approx(value)
    assert 0 < value < 2
    assert h_score(np.eye(3)[labels], labels, 0.0) == pytest.approx(2)
    turn, _ = np.linalg.qr(change)
    assert h_score(100 * features @ turn - 7, labels) == pytest.approx(h_score(features, labels))
    wide, few = problem(12, 200)
    assert h_score(wide, few, 0.0) == pytest.approx(2)  # more features than examples tell anything


@pytest.mark.parametrize("estimate", [logme, h_score])
def test_estimators_refuse_uninformative_input(estimate: Callable[[Array, Array], float]) -> None:
    features, labels = problem()
    for wrong, given, result in (
        (features, np.zeros(40, int), "all 40 labels are the same"),
        (features[:0], labels[:0], "there is no label"),
        (np.zeros((40, 3)), labels, "tell nothing"),
        (np.full((40, 3), np.nan), labels, "not a number"),
    ):
        with pytest.raises(UserError, match=result):
            estimate(wrong, given)
    assert np.isfinite(logme(np.ones((40, 2)), labels))  # the shares of the classes are evidence too
    with pytest.raises(UserError, match="all features are the same"):
        h_score(np.full((40, 2), 0.1), labels)
    assert np.isfinite(estimate(np.eye(3)[labels], labels))  # told exactly


def test_label_fit_is_near_zero_for_random_features() -> None:
    rng = np.random.default_rng(0)
    for examples, hidden, classes in ((60, 40, 2), (2000, 40, 2), (400, 40, 9)):
        labels = rng.integers(0, classes, examples)
        assert label_fit(rng.normal(size=(examples, hidden)), labels) < 0.1
        known = np.eye(classes)[labels] + 1e-3 * rng.normal(size=(examples, classes))
        assert label_fit(known, labels) > 0.8


def test_cosine_by_hand() -> None:
    assert cosine(np.array([3.0, 4.0]), np.array([4.0, 3.0])) == pytest.approx(0.96)
    assert cosine(np.zeros(2), np.ones(2)) == 0


def test_rank_correlation_by_hand() -> None:
    # ranks 1 2 3 4 5 and 2 1 4 3 5: squared differences sum to 4, two pairs of ten are exchanged
    found = rank_correlation.rank_agreement([[1, 2, 3, 4, 5]], [[20, 10, 40, 30, 50]])
    assert found is not None
    assert (found.n, found.spearman, found.kendall) == (5, pytest.approx(0.8), pytest.approx(0.6))
    # of 120 permutations these many have squared differences of at most 4 or at least 36: 1 + 4 + 3, twice
    assert found.p == pytest.approx(16 / 120)
    assert rank_correlation.spearman([1, 1, 2], [1, 2, 2]) == pytest.approx(0.5)  # ranks 1.5 1.5 3 and 1 2.5 2.5
    assert rank_correlation.kendall([1, 1, 2], [1, 2, 2]) == pytest.approx(
        0.5
    )  # one pair of those that both tell apart
    assert rank_correlation.rank_agreement([[1, 2, 3]], [[1, 1, 1]]) is None
    assert (
        rank_correlation.rank_agreement([[1, 2]], [[1, 2]]) is None and rank_correlation.rank_agreement([], []) is None
    )


def test_identical_targets_are_no_more_evidence_than_one() -> None:
    one, gains = [1.0, 2, 3, 4, 5], [1.0, 2, 3, 5, 4]
    alone = rank_correlation.rank_agreement([one], [gains])
    assert rank_correlation.rank_agreement([one] * 9, [gains] * 9) == pytest.approx(alone)
    opposite = rank_correlation.rank_agreement([one, one], [gains, gains[::-1]])
    assert opposite is not None and abs(opposite.spearman) < 0.2 and opposite.p > 0.5


def test_candidates_are_permuted_together_over_targets() -> None:
    scores, gains = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}, {"a": 0.1, "b": 0.3, "c": 0.2, "d": 0.4}
    lines = [Candidate("one", name, {"text": scores[name]}, {}, gains[name]) for name in "abcd"]
    lines += [Candidate("other", name, {"text": -scores[name]}, {}, gains[name]) for name in "dcba"]
    checks = _gain_agreements(ResolvedRequest(["one", "other"], [*"abcd"], {}, {}, None, ""), lines)
    by_target = {check.target: check for check in checks}
    assert by_target["one"].spearman == pytest.approx(0.8) and by_target["other"].spearman == pytest.approx(-0.8)
    assert by_target["one"].lost == 0 and by_target["other"].lost == pytest.approx(0.3)
    # whatever the permutation, what one target gains the other loses
    assert by_target["mean"].spearman == pytest.approx(0) and by_target["mean"].p == 1
    assert by_target["mean"].lost == pytest.approx(0.15)


def test_many_candidates_are_permuted_at_random_by_a_fixed_seed() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 12))
    found = rank_correlation.rank_agreement([one], [other])
    assert found is not None and found == rank_correlation.rank_agreement([one], [other]) and 0 < found.p <= 1
    assert rank_correlation.critical_spearman(9) == pytest.approx(0.7)  # as in exact tables of Spearman's
    perfect = rank_correlation.rank_agreement([range(12)], [range(12)])
    assert perfect is not None and perfect.p == pytest.approx(1 / 20_001)


@pytest.fixture(scope="module")
def alone(encoder_folder: Path) -> Alone:
    """The last hidden states of one forward pass alone, as transformers itself gives them."""
    model = AutoModel.from_pretrained(encoder_folder, add_pooling_layer=False).eval()

    def hidden(one: Features) -> Array:
        with torch.inference_mode():
            return np.asarray(model(input_ids=torch.tensor([list(one.ids)])).last_hidden_state[0].double())

    return hidden


@pytest.mark.parametrize("name", ["play-nli", "play-pos", "play-choice"])
def test_embeddings_are_those_the_head_would_get(name: str, tiny: Encoder, alone: Callable[[Any], Array]) -> None:
    texts = sample(TASKS[name], None, 5)
    seen = embed(tiny, texts)
    passes = list(texts.task.format.features(texts.examples, tiny.tokenizer_for(texts.task.max_length)))
    states = [alone(one) for one in passes]
    rows = [state[mark] for state, one in zip(states, passes, strict=True) for mark in one.positions]
    assert np.allclose(seen.features_NH, rows, atol=1e-5)
    assert seen.labels_N.tolist() == [target for one in passes for target in one.targets]
    means = [np.mean([state.mean(0) for state, one in zip(states, passes, strict=True) if one.example == e], axis=0)
             for e in range(5)]  # fmt: skip
    assert np.allclose(seen.mean_H, np.mean(means, axis=0), atol=1e-5)


def test_an_answer_is_labelled_against_another_token_of_its_window(tiny: Encoder, alone: Alone) -> None:
    texts = sample(TASKS["play-questions"], None, 30)
    seen = embed(tiny, texts)
    passes = [one for one in texts.task.format.features(texts.examples, tiny.tokenizer_for(128)) if one.positions[0]]
    assert len(passes) >= 20 and seen.labels_N.tolist() == [1, 0] * len(passes)
    for one, (right, other) in zip(passes, seen.features_NH.reshape(len(passes), 2, -1), strict=True):
        state = alone(one)
        at = [int(np.abs(state - row).sum(1).argmin()) for row in (right, other)]
        first, last = one.positions
        assert at[0] == first and at[1] >= one.second and not first <= at[1] <= last


def test_texts_without_labels_have_only_a_mean_embedding(tiny: Encoder) -> None:
    aligned = sample(TASKS["play-parallel"], None, 10)
    assert not aligned.labelled and "no training data: its texts are the English side of test" in aligned.note
    assert all(entry.candidate is None for entry in aligned.examples)  # what looks is English
    assert any(" the " in entry.query for entry in aligned.examples)
    for texts in (aligned, sample(TASKS["play-text"], None, 10)):
        seen = embed(tiny, texts)
        assert texts.language == "en" or texts is aligned
        assert not len(seen.labels_N) and seen.mean_H.shape == (16,)


def test_examples_are_sampled_from_the_whole_file_reproducibly() -> None:
    few, all_of_them = sample(TASKS["play-nli"], None, 20), sample(TASKS["play-nli"], None, 10**9)
    places = [all_of_them.examples.index(one) for one in few.examples]
    assert few == sample(TASKS["play-nli"], None, 20)
    assert len(set(places)) == 20 and max(places) > len(all_of_them.examples) / 2


def test_a_pass_has_as_many_tokens_as_in_an_evaluation(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    texts, sizes = sample(TASKS["play-nli"], None, 30), []
    usual, inner = embed(tiny, texts), Encoder.hidden
    monkeypatch.setattr(Encoder, "hidden", lambda self, batch: (sizes.append(batch.tokens), inner(self, batch))[1])
    monkeypatch.setattr("xstilts.model.forward.TOKENS", 200)  # those of a GPU differ
    few = embed(tiny, texts)
    assert len(sizes) > 5 and max(sizes) <= 200
    assert np.allclose(few.features_NH, usual.features_NH, atol=1e-5)


RECIPE = """\
name: small
encoder: ENCODER
seeds: [1, 2]
settings: {steps: 3, lr: 1e-2, batch: 8, limit: 30, max_length: 32}
phases:
  - {name: intermediate, choices: [[], [play-same], [play-choice], [play-pos], [play-same, play-pos]]}
  - {name: target, each: [play-nli, play-questions]}
evaluate: [play-nli, play-questions, play-parallel]
languages: [en, qaa]
keep: intermediate
"""


@pytest.fixture(scope="module")
def study(encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a study with three single tasks and a mixture."""
    from xstilts.execution.run import Resources, run
    from xstilts.study.load import read
    from xstilts.study.plan import plan
    from xstilts.utils.progress import Progress

    folder = tmp_path_factory.mktemp("study")
    (folder / "small.yaml").write_text(RECIPE.replace("ENCODER", str(encoder_folder)), encoding="utf-8")
    made = plan(*read(str(folder / "small.yaml")))
    assert not run(made, folder / "out", None, Progress(live=False), Resources(10, None, False)).failed
    return folder / "out"


def test_candidates_are_ranked_before_anything_is_trained(
    encoder_folder: Path, xstilts: Callable[..., CliResult]
) -> None:
    command = "rank", "play-nli", "play-parallel", "--among", "play-same", "play-pos", "play-text", "--limit", "50"
    result = xstilts(*command, "--encoder", encoder_folder, "--json")
    made = json.loads(result.out)
    for target in ("play-nli", "play-parallel"):
        lines = [line for line in made["lines"] if line["target"] == target]
        assert {line["candidate"] for line in lines} == {"play-same", "play-pos", "play-text"}
        texts = [line["scores"]["text"] for line in lines]
        assert texts == sorted(texts, reverse=True) and all(-100 <= text <= 100 for text in texts)
        assert [line["places"]["text"] for line in lines] == [1, 2, 3]
        assert all(("left" in line["scores"]) == (line["candidate"] != "play-text") for line in lines)
        assert all(line["gain"] is None for line in lines)
    assert not made["checks"] and not made["before"]
    table = xstilts(*command, "--encoder", encoder_folder)
    assert (result.code, table.code) == (0, 0)
    assert "play-parallel has no training data" in table.out and "play-text has no labels" in table.out
    assert xstilts(*command, "--encoder", encoder_folder).out == table.out


def test_an_encoder_is_tried_on_its_device(
    encoder_folder: Path, xstilts: Callable[..., CliResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Encoder, "check_packing", lambda _, precision: f"batches are padded in {precision}")
    command = "rank", "play-nli", "--among", "play-same", "play-pos", "--limit", "10", "--encoder", encoder_folder
    assert "batches are padded in fp32" in xstilts(*command).out


def test_a_run_folder_compares_estimates_with_measured_gains(study: Path, xstilts: Callable[..., CliResult]) -> None:
    made = json.loads(xstilts("rank", "--run", study, "--limit", "50", "--json").out)
    report = json.loads(xstilts("report", study, "--format", "json").out)
    main = {(name, TASKS[name].metric, "mean") for name in ("play-nli", "play-questions", "play-parallel")}
    lines = [line for line in report["lines"] if (line["task"], line["metric"], line["language"]) in main]
    gains = {(line["task"], line["branch"]): line["gain"] for line in lines}
    assert len(made["lines"]) == 9  # the mixture is no candidate
    for line in made["lines"]:
        assert line["gain"] == gains[line["target"], line["candidate"]]
        after = {"logme", "h_score"} if line["target"] != "play-parallel" else set()
        assert line["scores"].keys() == {"text", "left"} | after
    assert made["before"].keys() == {"play-nli", "play-questions"}
    assert {one["target"] for one in made["checks"]} <= {"play-nli", "play-questions", "play-parallel", "mean"}
    for one in made["checks"]:
        assert one["n"] == 3 and -1 <= one["spearman"] <= 1 and 1 / 3 <= one["p"] <= 1 and one["lost"] >= 0
    result = xstilts("rank", "play-nli", "--among", "play-pos", "play-same", "--run", study, "--limit", "50")
    assert result.code == 0 and "(before)" in result.out and "orders are compared where three candidates" in result.out


def test_scores_after_training_are_those_of_the_runs_own_encoders(
    study: Path, xstilts: Callable[..., CliResult]
) -> None:
    made = json.loads(xstilts("rank", "play-nli", "--run", study, "--limit", "50", "--json").out)
    texts = sample(TASKS["play-nli"], None, 50)
    folders = [json.loads((path / "step.json").read_text()) for path in (study / "steps").iterdir()]
    for line in made["lines"]:
        title = f"intermediate: {line['candidate']}"
        fits = [embed(load(str(study / "steps" / step["id"] / "encoder")).eval(), texts)
                for step in folders if step["title"] == title]  # fmt: skip
        assert len(fits) == 2  # seeds
        mean = np.mean([logme(fit.features_NH, fit.labels_N) for fit in fits])
        assert line["scores"]["logme"] == pytest.approx(mean)


@pytest.mark.parametrize(
    ("words", "result"),
    [
        ("play-nil --among play-same play-pos --encoder E", "unknown task 'play-nil' (did you mean 'play-nli'?)"),
        ("play-nli --among play-same play-poss --encoder E", "unknown task 'play-poss' (did you mean 'play-pos'?)"),
        ("play-nli --among play-same play-nli --encoder E", "'play-nli' is a target and a candidate"),
        ("play-nli --among play-same play-parallel --encoder E", "'play-parallel' has no training data"),
        ("play-nli --among play-same --encoder E", "'play-same' is the only candidate"),
        ("play-nli --among play-same play-pos", "--encoder: is missing"),
        ("--among play-same play-pos --encoder E", "a target is missing"),
        ("play-nli --among play-same play-pos --encoder ./none", "./none: no such folder"),
        ("play-nli --among play-same play-pos --encoder HERE", "tests: has no config.json"),
        ("play-nli --among play-same play-pos --encoder {data}/m", "lies beside the data folder"),
        ("play-nli --among play-same play-pos --encoder E --recipe x", "--recipe: goes with --run only"),
        ("play-nli --among mnli play-pos --encoder E --data HERE", "mnli: no data for 'en'"),
        ("play-nli --among play-same play-pos --encoder E --data none", "none: no such folder"),
        ("play-ner --among play-same play-pos --run S", "the target 'play-ner' is not scored there"),
        ("play-nli --among play-ner play-pos --run S", "no branch there trains on 'play-ner' alone"),
        ("play-nli --run S --recipe smal", "has no results of a recipe 'smal' (did you mean 'small'?)"),
        ("play-nli --run HERE", "tests: is not a run folder of xstilts"),
    ],
)
def test_a_mistake_is_one_line(
    words: str,
    result: str,
    encoder_folder: Path,
    study: Path,
    xstilts: Callable[..., CliResult],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(Path(__file__).parents[1])
    places = {"E": encoder_folder, "S": study, "HERE": Path(__file__).parent}
    answer = xstilts("rank", *(places.get(word, word) for word in words.split()))
    assert answer.code == 2 and result in answer.err
    assert answer.err.count("\n") == 1 and not answer.out


def test_several_mistakes_are_reported_at_once(study: Path, xstilts: Callable[..., CliResult]) -> None:
    answer = xstilts("rank", "play-ner", "play-facts", "--among", "play-ner", "--run", study)
    assert answer.code == 2 and answer.err.count("error: ") == 5
    for result in (
        "'play-ner' is not scored",
        "'play-facts' is not scored",
        "only candidate",
        "target and a candidate",
    ):
        assert result in answer.err


def test_missing_encoders_are_reported(study: Path, xstilts: Callable[..., CliResult], tmp_path: Path) -> None:
    copied = shutil.copytree(study, tmp_path / "copy")
    for step in (copied / "steps").iterdir():
        if json.loads((step / "step.json").read_text())["title"] == "intermediate: play-pos":
            shutil.rmtree(step / "encoder")
    result = xstilts("rank", "play-nli", "--run", copied, "--limit", "50")
    assert result.code == 0 and "the run folder has no encoder (any more) that was trained on play-pos" in result.out


def test_a_task_that_the_study_trained_on_other_data_is_refused(
    study: Path, xstilts: Callable[..., CliResult], tmp_path: Path
) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("play-same: {like: play-same, data: {train: pairs.jsonl}}\n", encoding="utf-8")
    rows = [{"sentence1": "It rains.", "sentence2": f"It rained {i} days.", "label": str(i % 2)} for i in range(20)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    result = xstilts("rank", "play-nli", "--run", study, "--limit", "50", "--use", other)
    assert result.code == 2 and result.err.count("error: ") == 1
    assert "the study has trained 'play-same' on other data (give the recipe's own tasks with --use" in result.err


def test_tasks_of_the_recipes_own_files_need_use(
    study: Path, xstilts: Callable[..., CliResult], tmp_path: Path
) -> None:
    copied = shutil.copytree(study, tmp_path / "copy")
    recipe = copied / "recipes" / "small.json"
    recipe.write_text(recipe.read_text(encoding="utf-8").replace("play-same", "mnli"), encoding="utf-8")
    result = xstilts("rank", "play-nli", "--run", copied, "--data", tmp_path)
    assert result.code == 2 and "mnli: no data for 'en'" in result.err and result.err.count("error: ") == 2
    assert "--use: is not given (name the files under `use` in the study's recipe)" in result.err
