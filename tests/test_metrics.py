"""Metrics by hand, and against the official scorers' output."""

import json
import math

import pytest

from xstilts import metrics
from xstilts.errors import StepFailed
from xstilts.metrics import retrieval


def test_repeated_bare_tags_form_one_chunk_except_s():
    nouns = metrics.get("chunk_f1").official_scores([["NOUN", "NOUN", "VERB"]], [["NOUN", "NOUN", "ADJ"]])
    assert nouns == {"f1": 50.0, "precision": 50.0, "recall": 50.0}  # one of two chunks
    symbols = metrics.get("chunk_f1").official_scores([["SYM", "SYM", "VERB"]], [["SYM", "SYM", "ADJ"]])
    assert symbols["recall"] == pytest.approx(200 / 3)  # two of three


def test_a_sentence_ends_a_chunk():
    assert metrics.get("chunk_f1").score([["B-PER"], ["I-PER"]], [["B-PER"], ["B-PER"]]) == 100.0


def test_without_chunks_f1_is_zero():
    assert metrics.get("chunk_f1").score([["O", "O"]], [["O", "O"]]) == 0.0


def test_text_without_a_maskable_token_has_no_perplexity():
    with pytest.raises(StepFailed, match="no token of this text can be masked"):
        metrics.get("perplexity").score([None], [[0.0, 0]])


def test_perplexity_of_a_hopeless_model_is_infinite():
    assert metrics.get("perplexity").score([None], [[8000.0, 10]]) == math.inf


@pytest.mark.parametrize("name", ["accuracy", "token_accuracy", "chunk_f1"])
def test_a_missing_prediction_raises_value_error(name):
    with pytest.raises(AssertionError):
        metrics.METRICS[name].score([["O"], ["O"]], [["O"]])


@pytest.mark.parametrize("name", ["token_accuracy", "chunk_f1"])
def test_a_missing_tag_raises_value_error(name):
    with pytest.raises(ValueError):
        metrics.METRICS[name].score([["O", "O"]], [["O"]])


def test_a_pair_found_twice_counts_once():
    assert metrics.get("pair_f1").official_scores([["a"], ["b"]], [["a", "a", "x"], []]) == {
        "f1": 50, "precision": 50, "recall": 50,
    }  # fmt: skip


def test_without_pairs_f1_is_zero():
    assert metrics.get("pair_f1").score([[], []], [[], []], "de") == 0


def test_only_the_first_twenty_of_a_ranking_count():
    ranked = [f"Q{place}" for place in range(1, 31)]
    assert metrics.get("mrr@20").score([["Q20"], ["Q21"]], [ranked, ranked], "de") == pytest.approx(100 / 20 / 2)
    assert metrics.get("map@20").score([["Q20"], ["Q21"]], [ranked, ranked], "de") == pytest.approx(100 / 20 / 2)
    many = [f"Q{place}" for place in range(1, 26)]  # 25 are relevant, 20 of them fit
    assert metrics.get("map@20").score([many], [ranked], "de") == 100


def test_an_id_ranked_twice_counts_at_its_first_rank():
    assert retrieval.average_precision(["a", "b"], ["x", "a", "a", "b"]) == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert metrics.get("mrr@20").score([["a"]], [["x", "a", "a"]], "de") == 50


def test_nothing_relevant_scores_zero():
    for name in ("mrr@20", "map@20"):
        assert metrics.get(name).score([[]], [["a"]], "de") == 0


def test_the_positive_label_is_1():
    assert metrics.get("positive_f1").score(["0", "0"], ["0", "0"], "en") == 0
    assert metrics.get("accuracy_f1").score(["0", "0"], ["0", "0"], "en") == 50
    assert metrics.get("positive_f1").score(["1", "0"], ["1", "0"], "en") == 100


@pytest.mark.real
@pytest.mark.parametrize(("name", "least"), [("udpos", 24), ("panx", 24)])
def test_chunk_scores_are_the_official_ones(shared, name, least):
    cases = json.loads((shared / f"golden/{name}.json").read_text(encoding="utf-8"))["cases"]
    assert len(cases) >= least
    for case in cases:
        label, prediction = (_tags(case[key]) for key in ("label_text", "prediction_text"))
        scores = metrics.get("chunk_f1").official_scores(label, prediction)
        assert scores == pytest.approx(case["expected_seqeval_0_0_12"], abs=1e-6), case["name"]


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "key", "least"), [("xnli", "cases", 8), ("pawsx", "cases", 7), ("tatoeba", "accuracy_cases", 7)]
)
def test_accuracy_is_the_official_one(shared, name, key, least):
    cases = json.loads((shared / f"golden/{name}.json").read_text(encoding="utf-8"))[key]
    assert len(cases) >= least
    for case in cases:
        label, prediction = ([x.strip() for x in case[k].splitlines()] for k in ("label_text", "prediction_text"))
        assert metrics.get("accuracy").score(label, prediction) == pytest.approx(case["expected"]["accuracy"], abs=1e-6)


@pytest.mark.real
def test_multiple_choice_is_scored_as_the_official_code_does(shared):
    cases = json.loads((shared / "golden/xcopa.json").read_text(encoding="utf-8"))["cases"]
    assert len(cases) >= 11
    for case in cases:
        label, prediction = (
            [json.loads(line)["label"] for line in case[key].splitlines()] for key in ("label_text", "prediction_text")
        )
        assert metrics.get("accuracy").score(label, prediction) == pytest.approx(case["expected"]["accuracy"], abs=1e-6)


@pytest.mark.real
def test_mined_pairs_are_scored_as_the_official_code_does(shared):
    cases = json.loads((shared / "golden/bucc2018.json").read_text(encoding="utf-8"))["f1_cases"]
    assert len(cases) >= 4
    for case in cases:
        found: tuple[dict, dict] = ({}, {})
        for pairs, key in zip(found, ("label_text", "prediction_text"), strict=True):
            for source, target in (line.split("\t") for line in case[key].splitlines()):
                pairs.setdefault(source, []).append(target)
        sources = list(dict.fromkeys([*found[0], *found[1]]))
        right, given = ([pairs.get(source, []) for source in sources] for pairs in found)
        scores = metrics.get("pair_f1").official_scores(right, given)
        assert scores == pytest.approx(case["expected"], abs=1e-6), case["name"]
        assert metrics.get("pair_f1").score(right, given, "de") == pytest.approx(case["expected"]["f1"], abs=1e-6)


@pytest.mark.real
def test_rankings_of_entities_are_scored_as_the_official_code_does(shared):
    cases = json.loads((shared / "golden/mewslix.json").read_text(encoding="utf-8"))["cases"]
    assert len(cases) >= 11
    for case in cases:
        right = [[id.strip() for id in ids] for ids in case["gold"].values()]
        given = [case["predictions"].get(mention, []) for mention in case["gold"]]
        assert metrics.get("mrr@20").score(right, given, "de") == pytest.approx(case["expected"]["map@20"], abs=1e-6)


@pytest.mark.real
def test_average_precision_is_the_official_one(shared):
    cases = json.loads((shared / "golden/lareqa.json").read_text(encoding="utf-8"))["cases"]
    assert len(cases) >= 24
    for case in cases:
        right, given = case["targets"], case["ranked"]
        precision = retrieval.average_precision(right, given, case["k"] or len(given))
        assert precision == pytest.approx(case["expected"], abs=1e-6)
        if case["k"] == retrieval.MAX_RANK:
            assert metrics.get("map@20").score([right], [given], "de") == pytest.approx(100 * precision)


def _tags(text):
    """Sentences of tags; empty lines part them, several in a row as well as one."""
    sentences = [[]]
    for line in text.splitlines():
        if line:
            sentences[-1].append(line)
        else:
            sentences.append([])
    return [sentence for sentence in sentences if sentence]
