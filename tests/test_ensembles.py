"""Ensembles: means of predictions, by hand and in a study of translate-train and translate-test."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import SENTENCES, Files
from xstilts.formats import Choose, Classify, Span
from xstilts.formats.base import HeadOutputs
from xstilts.formats.span import Question
from xstilts.formats.windows import window_info
from xstilts.store.rows import Prediction, Score, read_rows

NLI = Classify(labels=("yes", "maybe", "no"))


def test_labels_are_averaged() -> None:
    """Neither model's first choice has the highest mean in the third example."""
    assert NLI.mean([{"yes": 0.6, "maybe": 0.3, "no": 0.1}, {"yes": 0.2, "maybe": 0.7, "no": 0.1}], "es") == (
        "maybe", {"yes": 0.4, "maybe": 0.5, "no": 0.1},
    )  # fmt: skip
    assert NLI.mean([{"no": 0.5, "maybe": 0.5}, {"maybe": 0.5, "no": 0.5}], "es")[0] == "maybe", "the first on ties"
    assert NLI.mean([{"yes": 0.5, "maybe": 0.45}, {"no": 0.5, "maybe": 0.45}], "es")[0] == "maybe"


def test_endings_are_averaged() -> None:
    ending, means = Choose().mean([{"0": 0.9, "2": 0.1}, {"1": 0.2, "2": 0.8}], "es")
    assert (ending, means) == (0, {"0": 0.45, "1": 0.1, "2": 0.45})


def test_equal_answers_add_up_whatever_their_article_and_capitals() -> None:
    """0.5 and 0.3 for the house, halved; the dog has 0.3, and an empty answer never wins."""
    members = [{"la casa": 0.5, "una casa roja": 0.1, "": 0.4}, {"Casa.": 0.3, "el perro": 0.6}]
    assert Span().mean(members, "es") == ("la casa", {"la casa": 0.4, "una casa roja": 0.05, "el perro": 0.3})
    assert Span().mean([{"": 1.0}, {}], "es") == ("", {})
    assert Span(no_answer=True).mean([{"": 0.8, "casa": 0.2}, {"casa": 0.5, "": 0.5}], "es")[0] == ""


def test_an_answers_probability_is_that_of_all_its_places() -> None:
    """Three spans of one word: `a` twice. Their odds are e^2, e^1 and e^2."""
    span_W2 = np.array([[0, 1], [2, 3], [4, 5]], np.int32)
    info = window_info(0, span_W2, np.ones(3, bool))
    scores_L2 = np.array([[1.0, 1.0], [0.5, 0.5], [1.0, 1.0]])
    found = Span(answer_length=1).probabilities(
        [Question(None, "?", "a b a", None)], HeadOutputs(np.array([0]), [scores_L2], [info])
    )
    odds = np.exp([2.0, 1.0])
    expected = {"a": 2 * odds[0] / (2 * odds[0] + odds[1]), "b": odds[1] / (2 * odds[0] + odds[1])}
    assert found == [{text: pytest.approx(share, abs=1e-4) for text, share in expected.items()}]


@pytest.fixture
def two_tests(study: Files) -> Files:
    """The German test set of a study, and beside it an English one of the same pairs in another order."""
    labels = ("entailment", "neutral", "contradiction")
    order = [5, 0, 4, 1, 3, 2]
    pairs = [{"id": f"p{i}", "premise": SENTENCES[i], "hypothesis": SENTENCES[i + 1], "label": labels[i % 3]}
             for i in range(6)]  # fmt: skip
    translated = [pairs[i] | {"premise": "The same.", "hypothesis": SENTENCES[0]} for i in order]
    study.write("own-de.jsonl", "".join(json.dumps(row) + "\n" for row in pairs))
    study.write("to-en-de.jsonl", "".join(json.dumps(row) + "\n" for row in translated))
    study.edit("tasks.yaml", "pairs:", 'own: {like: mine, languages: [de], data: {test: "own-{lang}.jsonl"}}\n'
               'to-en: {like: mine, languages: [de], data: {test: "to-en-{lang}.jsonl"}}\npairs:')  # fmt: skip
    study.edit("recipe.yaml", "each: [mine]", "each: [own, to-en]")
    study.edit("recipe.yaml", "evaluate: [pairs, mine]", "evaluate: [own, to-en]\nensembles: {both: [own, to-en]}")
    return study


def rows(out: Path, task: str, kind: Any, name: str) -> list[Any]:
    found = [read_rows(path, kind) for path in sorted(out.glob(f"steps/*/{name}.jsonl"))]
    return [row for of in found for row in of if row.task == task and row.split == "test"]


def test_members_are_joined_by_id_and_every_view_shows_the_mean(two_tests: Files) -> None:
    """The test sets have their rows in another order. Each mean is that of the two stored probabilities."""
    two_tests.edit("recipe.yaml", "seeds: [1]", "seeds: [1, 2]")
    result = two_tests.run()
    assert result.code == 0, result.err
    own, other, both = (rows(two_tests.out, name, Prediction, "predictions") for name in ("own", "to-en", "both"))
    assert len(both) == 12
    by_id = [{row.id: row for row in of} for of in (own[:6], other[:6], both[:6])]
    scores = rows(two_tests.out, "both", Score, "scores")
    assert {row.seed for row in scores} == {1, 2} and all(row.n == 6 and row.chance is not None for row in scores)
    steps = [json.loads(path.read_text(encoding="utf-8")) for path in two_tests.out.glob("steps/*/step.json")]
    for step in (step for step in steps if step["kind"] == "ensemble"):
        parts = [read_rows(two_tests.out / "steps" / id / "predictions.jsonl", Prediction) for id in step["parents"]]
        mean = read_rows(two_tests.out / "steps" / step["id"] / "predictions.jsonl", Prediction)
        by_id = [{row.id: row.probabilities for row in of if row.split == "test"} for of in (*parts, mean)]
        assert [*by_id[2]] == [f"p{i}" for i in range(6)]
        for id, means in by_id[2].items():
            for label, mean_of_both in means.items():
                assert mean_of_both == pytest.approx(sum(of[id].get(label, 0) for of in by_id[:2]) / 2)
    shown = two_tests.call("report", two_tests.out).out
    assert "both: accuracy, dev" in shown and "note: both: mean of own and to-en" in shown
    assert "means without languages" not in shown
    assert two_tests.call("report", two_tests.out, "--layout", "languages").code == 0
    exported = two_tests.call("report", two_tests.out, "--format", "submission", "--to", two_tests.folder / "files")
    assert exported.code == 0 and (two_tests.folder / "files/all/seed-1/predictions/both").is_dir(), exported.err
    assert two_tests.call("report", two_tests.out, "--format", "rows", "--to", two_tests.folder / "copy").code == 0
    assert "both: accuracy, dev" in two_tests.call("report", two_tests.folder / "copy").out
    assert "8 of 8 steps are done already" in two_tests.run().err


def test_a_report_says_which_language_an_ensembles_mean_lacks(two_tests: Files) -> None:
    """One member is scored in English, too. Two like tasks in one language each have nothing to compare."""
    text = (two_tests.folder / "own-de.jsonl").read_text(encoding="utf-8")
    two_tests.write("own-en.jsonl", text)
    two_tests.edit("tasks.yaml", 'languages: [de], data: {test: "own-', 'languages: [de, en], data: {test: "own-')
    assert two_tests.run().code == 0
    shown = " ".join(two_tests.call("report", two_tests.out, "--layout", "overview").out.split())
    assert "means without languages that a task like them has, so compare by language: to-en (en); both (en)" in shown
    two_tests.write("to-en-sw.jsonl", text)
    two_tests.write("dev-sw.tsv", (two_tests.folder / "dev-de.tsv").read_text(encoding="utf-8"))
    two_tests.edit("tasks.yaml", "to-en: {like: mine, languages: [de]", "to-en: {like: mine, languages: [sw]")
    two_tests.edit("recipe.yaml", "ensembles: {both: [own, to-en]}", "")
    assert two_tests.run().code == 0
    assert "means without languages" not in two_tests.call("report", two_tests.out).out


def test_ensembles_of_the_same_members_each_have_their_scores(two_tests: Files) -> None:
    """Two names in one recipe, and a third one in a second recipe of the same run folder."""
    two_tests.edit("recipe.yaml", "{both: [own, to-en]}", "{both: [own, to-en], again: [own, to-en]}")
    assert two_tests.run().code == 0
    two_tests.edit("recipe.yaml", "{both: [own, to-en], again: [own, to-en]}", "{renamed: [own, to-en]}")
    two_tests.edit("recipe.yaml", "name: tiny", "name: second")
    result = two_tests.run()
    assert result.code == 0, result.err
    values = [rows(two_tests.out, name, Score, "scores")[0].value for name in ("both", "again", "renamed")]
    assert len(set(values)) == 1
    assert "renamed: accuracy, dev" in result.out


def test_an_ensemble_on_a_test_set_without_labels_says_so(two_tests: Files) -> None:
    for name in ("own-de.jsonl", "to-en-de.jsonl"):
        path = two_tests.folder / name
        path.write_text(re.sub(r', "label": "\w+"', "", path.read_text(encoding="utf-8")), encoding="utf-8")
    assert two_tests.run().code == 0
    assert len(rows(two_tests.out, "both", Prediction, "predictions")) == 6
    shown = " ".join(two_tests.call("report", two_tests.out).out.split())
    assert "without labels in test, so predicted and not scored: own, to-en, both" in shown


@pytest.mark.parametrize(
    ("old", "new", "pieces"),
    [
        ("both: [own, to-en]", "both: [own, to-de]", ["unknown task 'to-de'"]),
        ("both: [own, to-en]", "both: [own, mine]", ["'mine' is not evaluated, so it has no predictions"]),
        ("both: [own, to-en]", "both: [own]", ["ensembles.both: needs two or more different tasks"]),
        ("{both:", "{own de:", ["ensembles.own de", "pattern"]),
        ("{both:", "{own:", ["ensembles.own: there is a task 'own'"]),
        ("to-en]\nensembles: {both: [own, to-en]}", "to-en, pairs]\nensembles: {both: [own, pairs]}",
         ["the predictions of 'pairs' have no mean: its format is retrieve"]),
        ("max_length: 32", "max_length: 32, tasks: {own: {limit: 3}}", ["'own' and 'to-en' have another `limit`"]),
    ],
)  # fmt: skip
def test_members_that_cannot_be_averaged_are_refused(two_tests: Files, old: str, new: str, pieces: list[str]) -> None:
    two_tests.edit("recipe.yaml", old, new)
    result = two_tests.run()
    assert result.code == 2 and not two_tests.out.exists()
    assert [piece for piece in pieces if piece not in result.err] == [], result.err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace('"p4"', '"p9"'), "have other examples: 2 are in one of them only, such as id p"),
        (lambda text: re.sub('entailment', "neutral", text, count=1), "have other labels: id p"),
    ],
)  # fmt: skip
def test_other_rows_or_labels_fail_the_ensemble_alone(two_tests: Files, change: Any, message: str) -> None:
    path = two_tests.folder / "to-en-de.jsonl"
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    result = two_tests.run()
    assert result.code != 0 and message in result.err, result.err
    assert len(rows(two_tests.out, "to-en", Prediction, "predictions")) == 6


def test_an_ensemble_fails_by_name_if_its_language_is_left_out(two_tests: Files) -> None:
    """Without German training data one member is scored in English alone, the other in German."""
    text = (two_tests.folder / "own-de.jsonl").read_text(encoding="utf-8")
    for name in ("own-en", "train-own-en"):
        two_tests.write(f"{name}.jsonl", text)
    own = 'data: {train: "train-own-{lang}.jsonl", test: "own-{lang}.jsonl"}'
    two_tests.edit("tasks.yaml", 'languages: [de], data: {test: "own-{lang}.jsonl"}',
                   f"languages: [de, en], train_languages: each, {own}")  # fmt: skip
    two_tests.edit("recipe.yaml", "keep: all", "missing: skip")
    foreseen = two_tests.call("check", two_tests.folder / "recipe.yaml")
    assert foreseen.code == 0 and "both: any language in which all of own, to-en have files" in foreseen.out
    result = two_tests.run()
    assert result.code == 2 and "left out because files are missing: own: train of de" in result.err, result.err
    assert "the members have no language and split in common" in result.err
    assert "Traceback" not in result.err
