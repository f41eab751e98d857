"""Tests of the metrics against hand-made numbers, then against the official scorers' output."""

import json
import math

import pytest

from xstilts import metrics


def test_runs_of_a_bare_tag_are_one_chunk_but_for_s():
    nouns = metrics.chunk_scores([["NOUN", "NOUN", "VERB"]], [["NOUN", "NOUN", "ADJ"]])
    assert nouns == (50.0, 50.0, 50.0)  # one of two chunks
    symbols = metrics.chunk_scores([["SYM", "SYM", "VERB"]], [["SYM", "SYM", "ADJ"]])
    assert symbols.recall == pytest.approx(200 / 3)  # two of three


def test_a_sentence_ends_a_chunk():
    assert metrics.chunk_f1([["B-PER"], ["I-PER"]], [["B-PER"], ["B-PER"]]) == 100.0


def test_no_chunks_at_all_score_zero():
    assert metrics.chunk_f1([["O", "O"]], [["O", "O"]]) == 0.0


def test_perplexity_of_a_hopeless_model_is_infinite():
    assert metrics.perplexity([None], [[8000.0, 10]]) == math.inf


@pytest.mark.parametrize("name", ["accuracy", "token_accuracy", "chunk_f1"])
def test_a_missing_prediction_is_our_mistake(name):
    with pytest.raises(AssertionError):
        metrics.METRICS[name].function([["O"], ["O"]], [["O"]])


@pytest.mark.parametrize("name", ["token_accuracy", "chunk_f1"])
def test_a_missing_tag_is_our_mistake(name):
    with pytest.raises(AssertionError):
        metrics.METRICS[name].function([["O", "O"]], [["O"]])


@pytest.mark.real
@pytest.mark.parametrize(("name", "least"), [("udpos", 24), ("panx", 24)])
def test_chunk_scores_are_the_official_ones(shared, name, least):
    cases = json.loads((shared / f"golden/{name}.json").read_text(encoding="utf-8"))["cases"]
    assert len(cases) >= least
    for case in cases:
        label, prediction = (_tags(case[key]) for key in ("label_text", "prediction_text"))
        scores = metrics.chunk_scores(label, prediction)._asdict()
        assert scores == pytest.approx(case["expected_seqeval_0_0_12"], abs=1e-6), case["name"]


@pytest.mark.real
@pytest.mark.parametrize(("name", "key"), [("xnli", "cases"), ("pawsx", "cases"), ("tatoeba", "accuracy_cases")])
def test_accuracy_is_the_official_one(shared, name, key):
    cases = json.loads((shared / f"golden/{name}.json").read_text(encoding="utf-8"))[key]
    for case in cases:
        label, prediction = ([x.strip() for x in case[k].splitlines()] for k in ("label_text", "prediction_text"))
        assert metrics.accuracy(label, prediction) == pytest.approx(case["expected"]["accuracy"], abs=1e-6)


def _tags(text):
    """Sentences of tags; empty lines part them, several in a row as well as one."""
    sentences = [[]]
    for line in text.splitlines():
        if line:
            sentences[-1].append(line)
        else:
            sentences.append([])
    return [sentence for sentence in sentences if sentence]
