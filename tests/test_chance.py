"""Chance in every format, and which runs collapse to it."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from conftest import CliResult
from xstilts.formats import Choose, Classify, Mask, Retrieve, Span, Tag
from xstilts.formats.base import Format, Row
from xstilts.metrics import at_chance
from xstilts.model.evaluate import chance_scores
from xstilts.store.rows import Score, read_rows

QUORA = Classify(labels=("0", "1"), texts=("text",))


def chance_of(format: Format, rows: Sequence[dict[str, Any]], *metrics: str, language: str = "en") -> dict[str, float]:
    """Chance by metric, rounded."""
    examples = [format.read(Row(row, "file", i)) for i, row in enumerate(rows)]
    found = chance_scores(format, metrics or format.metrics, examples, language)
    return {name: round(value, 2) for name, value in found.items()}


def test_chance_of_classification_is_the_best_constant_label() -> None:
    rows = [{"text": "x", "label": label} for label in "00010"]
    # always 0: accuracy 80, F1 0; always 1: accuracy 20, precision 1/5, recall 1, F1 1/3
    expected = {"accuracy": 80, "positive_f1": 33.33, "accuracy_f1": 40}
    assert chance_of(QUORA, rows, *expected) == expected
    rows = [{"text": "x", "label": label} for label in "0011"]
    assert chance_of(QUORA, rows, "accuracy_f1") == {"accuracy_f1": 58.33}  # of 50 and 66.67


def test_chance_of_multiple_choice_is_the_most_frequent_position() -> None:
    rows = [{"context": "c", "endings": ["a", "b", "c"], "label": label} for label in (2, 0, 2, 1)]
    assert chance_of(Choose(), rows) == {"accuracy": 50}


def test_chance_of_tagging_is_the_best_constant_tag() -> None:
    rows = [{"words": ["a", "b", "c"], "tags": ["O", "O", "B-LOC"]}, {"words": ["a"], "tags": ["B-PER"]}]
    rows += [{"words": ["a"], "tags": ["B-LOC"]}]
    # O everywhere finds nothing; B-LOC everywhere finds 5 entities, 2 of the 3 there are; as words, 2 of 5 are O
    assert chance_of(Tag(), rows, "chunk_f1", "token_accuracy") == {"chunk_f1": 50, "token_accuracy": 40}
    rows = [{"words": ["a", "b"], "tags": ["NOUN", "VERB"]}, {"words": ["a"], "tags": ["NOUN"]}]
    assert chance_of(Tag(), rows) == {"chunk_f1": 40}  # one sentence of the two is one noun, and there are three chunks


def test_chance_of_question_answering_is_no_answer_or_the_whole_context() -> None:
    def row(answer: str) -> dict[str, Any]:
        return {
            "context": "the old mill by a river",
            "question": "where?",
            "answers": {"text": [answer] * bool(answer)},
        }

    rows = [row("old mill"), row("river")]
    # four words count (old mill by river): 2 * 2 / (2 + 4) and 2 * 1 / (1 + 4)
    assert chance_of(Span(), rows, "f1", "em") == {"f1": 53.33, "em": 0}
    maybe = Span(no_answer=True)
    assert chance_of(maybe, [*rows, row(""), row(""), row("")], "squad2_f1", "squad2_em") == {
        "squad2_f1": 60,
        "squad2_em": 60,
    }


def test_chance_of_retrieval_is_one_in_n_and_rankings_and_perplexity_have_none() -> None:
    lines = [{"source": f"s{i}", "target": f"t{i}", "number": i} for i in range(8)]
    assert chance_of(Retrieve(), lines) == {"accuracy": 12.5}
    mined = [{"query": "q", "id": "1", "relevant": ["2"]}, {"candidate": "c", "id": "2"}]
    assert chance_of(Retrieve(find="mined"), mined) == chance_of(Retrieve(find="ranked"), mined) == {}
    assert chance_of(Mask(), [{"text": "one line"}]) == {}


def test_without_labels_there_is_no_chance() -> None:
    assert chance_of(QUORA, [{"text": "x"}, {"text": "y"}]) == {}


@pytest.mark.parametrize(
    ("value", "chance", "n", "collapsed"),
    [
        (33.3, 33.3, 2490, True),
        (35.1, 33.3, 2490, True),  # two standard errors are 1.89
        (35.3, 33.3, 2490, False),
        (35.3, 33.3, 500, True),  # 4.22
        (20.0, 33.3, 2490, True),  # below chance is no better
        (0.6, 0, 300, True),  # at the ends as if one in n + 1 were right: 0.66
        (0.7, 0, 300, False),
        (100, 100, 10, True),  # where all have one label there is nothing to learn
        (100, 50, 2, True),  # and of two examples nothing can be told
        (100, 0, 1, True),
    ],
)
def test_at_chance_is_within_two_standard_errors(value: float, chance: float, n: int, collapsed: bool) -> None:
    assert at_chance(value, [chance], [n]) == collapsed


def test_a_mixture_is_at_chance_when_its_mean_score_is() -> None:
    assert at_chance(44.5, [50, 33], [500, 500])  # the mean is 41.5; noise of 4.47 and 4.21 makes 3.07 of the mean
    assert not at_chance(44.6, [50, 33], [500, 500])


FATE = """\
name: fate
encoder: {text: text, tokenizer: words, layers: 1, hidden: 32, heads: 2, max_length: 64}
use: [tasks.yaml]
seeds: [1]
settings: {limit: 200, batch: 16, eval_every: 100}
phases:
  - {name: middle, choices: [[], [play-ner]], settings: {lr: 30, steps: 10}}
  - {name: target, each: [play-pos], settings: {lr: 1e-2, steps: 60}}
evaluate: [play-pos]
languages: [en, qag]
"""
TEXT = """\
text: {like: play-text, languages: [en], train_languages: [en], data: {train: "playground:text/dev"}}
"""


def test_only_a_training_that_collapses_is_reported_at_chance(
    tmp_path: Path, xstilts: Callable[..., CliResult]
) -> None:
    (tmp_path / "tasks.yaml").write_text(TEXT)
    (tmp_path / "fate.yaml").write_text(FATE)
    result = xstilts("run", tmp_path / "fate.yaml", "--out", tmp_path / "out")
    assert result.code == 0, result.err
    scores = [row for path in tmp_path.glob("out/steps/*/scores.jsonl") for row in read_rows(path, Score)]
    rows = {
        (row.encoder, row.chance, row.value > 50) for row in scores if (row.language, row.metric) == ("en", "chunk_f1")
    }
    assert rows == {("new", 0.0, True), ("new", 0.0, False)}  # near 100, and 0
    facts = {}
    for path in tmp_path.glob("out/steps/*/step.json"):
        facts[json.loads(path.read_text())["title"]] = json.loads((path.parent / "done.json").read_text())
    assert not facts["target: play-pos"]["at_chance"] and facts["target: play-pos"]["dev_chance"] == 0
    assert facts["middle: play-ner"]["at_chance"]
    assert result.err.count("not clearly better than chance") == 2  # the wrecked encoder learns no target
    assert "chance in the training language: play-pos: play-ner 1 of 1 run (seed 1)" in " ".join(result.out.split())
    [note] = [
        text for text in result.out.splitlines() if text.startswith("note: middle: play-ner, seed 1 ended at chance")
    ]
    assert "target" not in note and result.out.count("ended at chance") == 2
    assert "play-pos: 1 training ended at chance; likely cause: " in result.out
    report = json.loads(xstilts("report", tmp_path / "out", "--format", "json").out)
    assert {(x["branch"], x["language"]) for x in report["lines"] if x["collapsed"] and x["metric"] == "chunk_f1"} == {
        ("play-ner", "en"), ("play-ner", "mean"), ("play-ner", "zero-shot")
    }  # fmt: skip
