"""Scores of answers to questions: by hand, and against the official scorers' output."""

import json

import pytest

from xstilts import metrics
from xstilts.metrics.answers import (
    MLQA,
    SQUAD,
    SQUAD2,
    Rules,
    exact_match,
    matches,
    mlqa_rules,
    word_f1,
    words,
)  # fmt: skip


def answer_scores(references, predictions, rules=SQUAD):
    """Exact match and F1."""
    sums = matches(references, predictions, rules).sum(0)
    return float(exact_match(sums)), float(word_f1(sums))


def test_the_reference_with_the_best_score_counts():
    right = [["the old stone mill", "mill", "a mill by the river"]]
    assert answer_scores(right, ["mill by a river bank"]) == (0, pytest.approx(100 * 2 * 3 / (3 + 4)))
    assert answer_scores(right, ["The mill."]) == (100, 100)


def test_a_missing_prediction_scores_0_even_where_an_empty_one_is_right():
    assert answer_scores([[""], ["mill"]], [None, "mill"], SQUAD2) == (50, 50)
    assert answer_scores([[""], ["mill"]], ["", "mill"], SQUAD2) == (100, 100)
    assert answer_scores([["..."]], [None]) == (0, 0)


def test_an_empty_answer_to_a_question_without_one_has_no_f1_in_squad_1():
    assert answer_scores([[""]], [""]) == (100, 0)
    assert answer_scores([[""]], [""], mlqa_rules("de")) == (100, 0)


@pytest.mark.parametrize("rules", [SQUAD, SQUAD2, *MLQA.values()])
def test_no_reference_equals_an_empty_reference(rules):
    for given in ("", "mill", "the"):
        assert answer_scores([[]], [given], rules) == answer_scores([[""]], [given], rules)


def test_squad_2_ignores_references_without_words():
    assert answer_scores([["the", "mill"]], [""], SQUAD2) == (0, 0)
    assert answer_scores([["the", "mill"]], [""]) == (100, 0)


def test_articles_punctuation_and_case_are_normalised_by_language():
    assert words("„Die Mühle“ steht", mlqa_rules("de")) == ["mühle", "steht"]
    assert words("¿La Casa de los Árboles?", mlqa_rules("es")) == ["casa", "de", "árboles"]
    assert words("những chiếc thuyền của tôi", mlqa_rules("vi")) == ["thuyền", "tôi"]
    assert words("الكتاب والكتاب", mlqa_rules("ar")) == ["كتاب", "و", "كتاب"]  # also inside a word
    assert words("वह घर।", mlqa_rules("hi")) == ["वह", "घर"]
    assert words("1894年的 iPhone 手机", mlqa_rules("zh")) == ["1894", "年", "的", "iphone", "手", "机"]


def test_a_language_that_mlqa_does_not_know_has_no_articles_and_blanks_between_words():
    assert mlqa_rules("sw") == Rules()
    assert words("The «kitabu», la tatu", mlqa_rules("sw")) == ["the", "kitabu", "la", "tatu"]


def test_squad_removes_ascii_punctuation_only():
    assert words("“quoted” – text… (100 %)") == ["“quoted”", "–", "text…", "100"]


def test_the_mean_metrics_are_means_of_f1_and_em():
    right, given = [["old mill"], ["1894"], [""]], ["mill", "1894", ""]
    for family, language in (("", ""), ("squad2_", ""), ("mlqa_", "es")):
        f1, em, both = (metrics.METRICS[family + name].score(right, given, language) for name in ("f1", "em", "f1_em"))
        assert both == pytest.approx((f1 + em) / 2) and f1 != em


def questions(gold):
    return [q for article in gold["data"] for paragraph in article["paragraphs"] for q in paragraph["qas"]]


@pytest.mark.real
@pytest.mark.parametrize(("name", "least"), [("xquad", 11), ("tydiqa", 9), ("mlqa", 7)])
def test_answers_are_scored_and_normalised_as_the_official_code_does(shared, name, least):
    golden = json.loads((shared / f"golden/{name}.json").read_text(encoding="utf-8"))
    assert len(golden["cases"]) >= least
    for case in golden["cases"]:
        rules = mlqa_rules(case["language"]) if name == "mlqa" else SQUAD
        asked = questions(case["gold"])
        right = [[answer["text"] for answer in question["answers"]] for question in asked]
        given = [case["predictions"].get(question["id"]) for question in asked]
        for text, expected in case["normalized"].items():
            assert " ".join(words(text, rules)) == expected, (case["name"], text)
        for question, golds, answer in zip(asked, right, given, strict=True):
            expected = case["per_question"][question["id"]] or {"em": 0, "f1": 0}
            scores = answer_scores([golds], [answer], rules)
            assert scores == pytest.approx((100 * expected["em"], 100 * expected["f1"]), abs=1e-6), question["id"]
        scores = dict(zip(("exact_match", "f1"), answer_scores(right, given, rules), strict=True))
        assert scores == pytest.approx(case["expected"], abs=1e-6), case["name"]
        family = "mlqa_" if name == "mlqa" else ""
        by_name = [metrics.METRICS[family + key].score(right, given, case["language"]) for key in ("em", "f1")]
        assert by_name == pytest.approx(list(case["expected"].values()), abs=1e-6), case["name"]


@pytest.mark.real
@pytest.mark.parametrize("name", ["xquad", "tydiqa", "mlqa"])
def test_a_question_without_references_counts_as_unanswerable_where_the_official_code_raises(shared, name):
    golden = json.loads((shared / f"golden/{name}.json").read_text(encoding="utf-8"))
    assert ["empty" in case["description"] for case in golden["error_cases"]] == [True]
    assert answer_scores([[], ["mill"]], ["mill", "mill"]) == (50, 50)


@pytest.mark.real
def test_squad_2_agrees_with_jiant_where_it_scores_what_was_predicted(shared):
    golden = json.loads((shared / "golden/squad_decode.json").read_text(encoding="utf-8"))
    for case in golden["normalize"]:
        assert " ".join(words(case["text"], SQUAD2)) == case["expected"]
    assert len(golden["cases"]) >= 35
    for case in golden["cases"]:
        expected, answers = case["expected_metrics"], case["expected_predictions"]
        for part, keep in (("", (True, False)), ("HasAns_", (True,)), ("NoAns_", (False,))):
            asked = [example for example in case["examples"] if bool(example["answers"]) in keep]
            right = [[answer["text"] for answer in example["answers"]] for example in asked]
            given = [answers[example["qas_id"]] for example in asked]
            assert len(asked) == expected[f"{part}total"]
            scores = answer_scores(right, given, SQUAD2)
            assert scores == pytest.approx((expected[f"{part}exact"], expected[f"{part}f1"]), abs=1e-6)
            assert metrics.get("squad2_em").score(right, given, "en") == scores[0]
            assert metrics.get("squad2_f1").score(right, given, "en") == scores[1]
