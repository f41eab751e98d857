"""Leaderboard files: read, scored as the official evaluation does, exported from a study."""

import json
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from conftest import SENTENCES, CliResult, Files, without_torch
from xstilts.errors import UserError
from xstilts.leaderboard import score as scoring
from xstilts.leaderboard.export import export_study
from xstilts.leaderboard.files import FILE_TYPES
from xstilts.reports import select
from xstilts.store.rows import Prediction, Score, read_rows, write_rows
from xstilts.store.run_folder import Store
from xstilts.study.index import Cell, Study, StudyTask
from xstilts.tasks import GROUPS, TASKS

RIGHT: dict[str, list[tuple[str, Any]]] = {
    "lines": [("", "1"), ("", "0")],
    "tags": [("", ["NOUN", "VERB"]), ("", ["X"])],
    "choices": [("", "1"), ("", "0")],
    "answers": [("q1", ["in 1894", "1894"]), ("q2", ["old mill"])],
    "rankings": [("m1", ["a"]), ("m2", ["b"])],
    "pairs": [("de-1", ["en-1"]), ("de-3", ["en-7", "en-8"])],
}
GIVEN: dict[str, list[tuple[str, Any]]] = {
    "lines": [("", "1"), ("", "1")],
    "tags": [("", ["NOUN", "NOUN"]), ("", ["X"])],
    "choices": [("", "1"), ("", "1")],
    "answers": [("q1", "1894"), ("q2", "mill")],
    "rankings": [("m1", ["x", "a"]), ("m2", ["x", "y"])],
    "pairs": [("de-1", ["en-1"]), ("de-2", ["en-9"]), ("de-3", ["en-7"])],
}
SAMPLES = {
    "pawsx": ("lines", {"accuracy": 50}, 50),
    "udpos": ("tags", {"f1": 40, "precision": 50, "recall": 100 / 3}, 40),
    "xcopa": ("choices", {"accuracy": 50}, 50),
    "xquad": ("answers", {"exact_match": 50, "f1": 250 / 3}, 200 / 3),
    "mlqa": ("answers", {"exact_match": 50, "f1": 250 / 3}, 200 / 3),
    "lareqa": ("rankings", {"map@20": 25}, 25),
    "mewslix": ("rankings", {"map@20": 25}, 25),
    "bucc2018": ("pairs", {"f1": 200 / 3, "precision": 200 / 3, "recall": 200 / 3}, 200 / 3),
    "tatoeba": ("lines", {"accuracy": 50}, 50),
}
"""What `GIVEN` scores against `RIGHT`: the kind of file, the numbers of a language, the one that counts."""


class Tree:
    """Two folders in the leaderboard's layout."""

    def __init__(self, folder: Path, call: Callable[..., CliResult]) -> None:
        self.predictions, self.labels, self.call = folder / "predictions", folder / "labels", call

    def add(self, task: str, language: str) -> None:
        """The sample of the task's kind, in the words of a task that knows only labels of its own."""
        name = TASKS[task].format.file
        right, given = RIGHT[name], GIVEN[name]
        if known := getattr(TASKS[task].format, "labels", None):
            right, given = _worded(right, known), _worded(given, known)
        self.write("predictions", task, language, FILE_TYPES[name].write(given))
        self.write("labels", task, language, FILE_TYPES[name].write_labels(right))

    def write(self, side: str, task: str, language: str, content: str | bytes) -> Path:
        path = FILE_TYPES[TASKS[task].format.file].path(getattr(self, side), task, language)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def score(self, benchmark: str = "xtreme", *more: str) -> CliResult:
        folders = ("--predictions", self.predictions, "--labels", self.labels)
        return self.call("score", *folders, "--benchmark", benchmark, *more)

    def json(self, benchmark: str = "xtreme") -> Any:
        result = self.score(benchmark, "--json")
        assert result.code == 0, result.err
        return json.loads(result.out)

    def refused(self, *pieces: str, benchmark: str = "xtreme") -> None:
        result = self.score(benchmark)
        assert (result.code, result.out, result.err.count("\n")) == (2, "", 1), result.err
        assert [piece for piece in pieces if piece not in result.err] == [], result.err


def _worded(entries: list[tuple[str, Any]], known: tuple[str, ...]) -> list[tuple[str, Any]]:
    """The same in a task's own labels, where it does not know these."""

    def label(word: str) -> str:
        return word if word in known else known[("0", "1", "NOUN", "VERB", "X").index(word)]

    return [("", [label(tag) for tag in value] if isinstance(value, list) else label(value)) for _, value in entries]


@pytest.fixture
def tree(tmp_path: Path, xstilts: Callable[..., CliResult]) -> Tree:
    return Tree(tmp_path, xstilts)


def test_every_kind_of_file_round_trips() -> None:
    for name, kind in FILE_TYPES.items():
        assert kind.read(kind.write(GIVEN[name]), "given") == GIVEN[name]
        assert kind.read_labels(kind.write_labels(RIGHT[name]), "right") == RIGHT[name]


def test_text_keeps_its_blanks_and_line_separators_but_a_label_stays_on_its_line() -> None:
    answers = [("q\u2028", " zwei\n\u2028Zeilen\t")]
    assert FILE_TYPES["answers"].read(FILE_TYPES["answers"].write(answers), "") == answers
    assert FILE_TYPES["lines"].write([("", "two\nlines")]) == "two lines\n"
    assert FILE_TYPES["lines"].read("a\u2028b\nc", "") == [("", "a\u2028b"), ("", "c")]


@pytest.mark.parametrize("task", SAMPLES)
def test_each_kind_of_task_has_its_official_numbers(tree: Tree, task: str) -> None:
    kind, numbers, counts = SAMPLES[task]
    assert TASKS[task].format.file == kind
    language = TASKS[task].languages[0]
    tree.add(task, language)
    benchmark = "xtreme" if task in GROUPS["xtreme"] else "xtreme-r"
    scored = tree.json(benchmark)["detailed"][task]
    expected: dict[str, Any] = {name: {language: pytest.approx(value)} for name, value in numbers.items()}
    expected |= {f"avg_{name}": pytest.approx(value) for name, value in numbers.items()}
    assert scored == expected | {"avg_metric": pytest.approx(counts)}


@pytest.mark.parametrize("benchmark", ["xtreme", "xtreme-r"])
def test_the_overall_mean_needs_every_language_of_every_task(tree: Tree, benchmark: str) -> None:
    for task, languages in scoring.benchmark(benchmark):
        for language in languages:
            tree.add(task.name, language)
    scored = tree.json(benchmark)
    means = {task: scored["detailed"][task]["avg_metric"] for task in GROUPS[benchmark]}
    assert scored["missing"] == []
    assert scored["overall"]["all_task"] == pytest.approx(fmean(means.values()))
    assert scored["overall"]["qa"] == pytest.approx(fmean(means[task] for task in ("xquad", "mlqa", "tydiqa")))
    families = {"classification", "tagging", "qa", "retrieval"} | (
        {"multi_choice"} if benchmark == "xtreme-r" else set()
    )
    assert scored["overall"].keys() == families | {"all_task"}
    searched = [value for name, value in means.items() if TASKS[name].format.name == "retrieve"]
    assert len(searched) == {"xtreme": 2, "xtreme-r": 3}[benchmark]
    assert scored["overall"]["retrieval"] == pytest.approx(fmean(searched))
    if benchmark == "xtreme-r":
        assert scored["overall"]["multi_choice"] == means["xcopa"]
        assert scored["overall"]["classification"] == pytest.approx(fmean((means["xnli"], means["xcopa"])))
    (tree.labels / "tatoeba" / "test-ka.tsv").unlink()
    scored = tree.json(benchmark)
    assert "all_task" not in scored["overall"]
    assert scored["missing"] == [{"task": "tatoeba", "languages": ["ka"], "lacks": "labels"}]


def test_missing_files_are_named_and_not_counted(tree: Tree) -> None:
    tree.add("pawsx", "en")
    tree.write("predictions", "pawsx", "de", "1\n0\n")
    tree.write("labels", "pawsx", "fr", "1\n0\n")
    scored = tree.json()
    assert scored["overall"] == {"classification": 50}
    assert scored["detailed"] == {"pawsx": {"accuracy": {"en": 50}, "avg_accuracy": 50, "avg_metric": 50}}
    assert {"task": "pawsx", "languages": ["de"], "lacks": "labels"} in scored["missing"]
    assert {"task": "pawsx", "languages": ["fr"], "lacks": "predictions"} in scored["missing"]
    assert {"task": "pawsx", "languages": ["es", "ja", "ko", "zh"], "lacks": "files"} in [
        {**entry, "languages": sorted(entry["languages"])} for entry in scored["missing"]
    ]
    assert {entry["task"] for entry in scored["missing"]} == set(GROUPS["xtreme"])
    result = tree.score()
    assert "no labels, counted nowhere: pawsx (de)" in result.out and "all tasks" not in result.out
    assert "no predictions, counted nowhere: pawsx (fr)" in tree.score("xtreme", "--json").err


def test_the_table_has_groups_tasks_and_languages(tree: Tree) -> None:
    tree.add("pawsx", "en")
    tree.add("xquad", "en")
    tree.add("xquad", "el")
    lines = [re.split(r"\s{2,}", line) for line in tree.score().out.splitlines()]
    assert ["classification", "50.0"] in lines and ["qa", "66.7"] in lines
    assert ["xquad", "66.7", "-", "50.0", "83.3"] in lines
    assert ["el Greek", "-", "66.7"] in lines and ["en English", "50.0", "66.7"] in lines
    assert ["mean", "50.0", "66.7"] in lines


def test_blank_lines_carriage_returns_and_a_byte_order_mark_do_not_matter(tree: Tree) -> None:
    tree.write("labels", "pawsx", "en", b"\xef\xbb\xbf1\r\n0\r\n\r\n")
    tree.write("predictions", "pawsx", "en", " 1 \n0")
    tree.write("labels", "udpos", "de", "NOUN\n\n\nVERB\n\n")
    tree.write("predictions", "udpos", "de", "\nNOUN\r\n\r\nVERB")
    assert tree.json()["overall"] == {"classification": 100, "tagging": 100}


def test_a_question_without_a_prediction_is_reported_and_counts_as_wrong(tree: Tree) -> None:
    tree.add("xquad", "en")
    tree.write("predictions", "xquad", "en", '{"q1": "1894", "q7": "?", "q8": "?"}')
    result = tree.score("xtreme", "--json")
    assert json.loads(result.out)["detailed"]["xquad"]["f1"] == {"en": 50}
    assert "without a prediction, so counted as wrong; how many, and the first: xquad (en 1: 'q2')\n" in result.err
    assert "do not have, counted nowhere; how many, and the first: xquad (en 2: 'q7')\n" in result.err


def test_a_missing_ranking_counts_as_wrong(tree: Tree) -> None:
    tree.add("mewslix", "de")
    tree.write("predictions", "mewslix", "de", '{"m1": ["a"]}')
    assert tree.json("xtreme-r")["detailed"]["mewslix"]["map@20"] == {"de": 50}


def test_questions_with_the_same_id_are_each_scored(tree: Tree) -> None:
    asked = [("q1", ["mill"]), ("q1", ["river"])]
    tree.write("labels", "tydiqa", "en", FILE_TYPES["answers"].write_labels(asked))
    tree.write("predictions", "tydiqa", "en", '{"q1": "mill"}')
    assert tree.json()["detailed"]["tydiqa"]["exact_match"] == {"en": 50}


SQUAD = '{"data": [{"paragraphs": [{"qas": [{"id": "q1", "answers": %s}]}]}]}'
BAD = {
    "other number of lines": ("pawsx", "1\n", None, ["predictions/pawsx/test-", "has 1 lines, but", "has 2"]),
    "other number of sentences": ("udpos", "NOUN\n", None, ["has 1 sentences, but", "labels/udpos/test-", "has 2"]),
    "a word without a tag": ("udpos", "NOUN\n\nX\n", None, ["sentence 1 has 1 tags, but in", "it has 2"]),
    "a blank line": ("pawsx", "\n1\n", None, ["predictions/pawsx/test-de.tsv:1: has no label"]),
    "several columns": ("pawsx", "a\tb\t1\nc\td\t0\n", None, ["test-de.tsv:1: has 3 columns", "one label a line"]),
    "a word beside its tag": ("udpos", None, "mill\tNOUN\n", ["labels/udpos", ":1: has 2 columns"]),
    "an empty file": ("pawsx", "", None, ["has 0 lines, but"]),
    "empty labels": ("pawsx", None, "", ["labels/pawsx/test-de.tsv: has no labels"]),
    "tags taken away": ("udpos", None, "The\nmill\n\nstands\n", ["has no labels", "published without them"]),
    "labels taken away": ("xnli", None, "sentence\nsentence\n", ["has no labels"]),
    "answers taken away": ("xquad", None, SQUAD % '[{"text": "", "answer_start": 0}]', ["has no labels"]),
    "no answers": ("mlqa", None, SQUAD % "[]", ["labels/mlqa/test-ar.json: has no labels"]),
    "choices without a label": ("xcopa", None, '{"premise": "p"}\n{"premise": "q"}\n', ["has no labels"]),
    "one choice without a label": ("xcopa", None, '{"label": 1}\n{"idx": 1}\n', ["test-et.jsonl:2: has no label"]),
    "no relevant ids": ("mewslix", None, '{"m1": [], "m2": []}', ["has no labels"]),
    "no pairs": ("bucc2018", None, "", ["has no labels"]),
    "no JSON": ("xquad", "q1: mill", None, ["predictions/xquad", "Invalid JSON", '{"id of the question": "answer"}']),
    "no JSON in a line": ("xcopa", '{"label": 1}\n1\n', None, ["test-et.jsonl:2", "should be an object"]),
    "not a text": ("xquad", '{"q1": ["mill"]}', None, ["q1: Input should be a valid string"]),
    "not a ranking": ("mewslix", '{"m1": "a"}', None, ["m1: Input should be a valid array"]),
    "labels as predictions": ("xquad", SQUAD % "[]", None, ["data: Input", '{"id of the question": "answer"}']),
    "predictions as labels": ("xquad", None, '{"q1": "mill"}', ["data: Field required", "layout of SQuAD"]),
    "other ids": ("xquad", '{"x": "mill"}', None, ["no prediction for any of the 2 ids in", "its first is for 'x'"]),
    "no predictions": ("xquad", "{}", None, ["no prediction for any of the 2 ids in"]),
    "no pair": ("bucc2018", "de-1\ten-1\nde-2\n", None, ["predictions/bucc2018/test-de.tsv:2: is no pair"]),
    "not UTF-8": ("pawsx", b"1\n\xe4\n", None, ["predictions/pawsx/test-de.tsv:2: is not UTF-8 at byte 2"]),
    "an answer twice": ("xquad", '{"q1": "a", "q2": "b", "q2": "c"}', None, ["has 'q2' 2 times", "may have only one"]),
    "a ranking twice": ("mewslix", '{"m1": ["a"], "m1": ["b"]}', None, ["test-ar.json: has 'm1' 2 times"]),
    "a fraction": ("xcopa", '{"label": 1}\n{"label": 0.0}\n', None, ["test-et.jsonl:2: the label is 0.0, neither"]),
    "a list": ("xcopa", None, '{"label": [1]}\n{"label": 0}\n', ["labels/xcopa/test-et.jsonl:1: the label is [1]"]),
    "nothing": ("xcopa", '{"label": 1}\n{"label": null}\n', None, ["test-et.jsonl:2: has no label"]),
}


@pytest.mark.parametrize("what", BAD)
def test_a_malformed_file_is_refused_with_its_reason(tree: Tree, what: str) -> None:
    task, predictions, labels, pieces = BAD[what]
    language = TASKS[task].languages[0]
    tree.add(task, language)
    for side, content in (("predictions", predictions), ("labels", labels)):
        if content is not None:
            tree.write(side, task, language, content)
    tree.refused(*pieces, benchmark="xtreme" if task in GROUPS["xtreme"] else "xtreme-r")


def test_predictions_unlike_any_label_are_reported(tree: Tree) -> None:
    tree.add("pawsx", "de")
    tree.write("predictions", "pawsx", "de", "0\n[1]\n")
    tree.add("udpos", "de")
    tree.write("predictions", "udpos", "de", "NOUN\nNO UN\n\nS\n")
    tree.add("tatoeba", "de")
    tree.write("predictions", "tatoeba", "de", "1\n99\n")  # the number of another sentence, which is just wrong
    tree.add("bucc2018", "de")
    tree.write("predictions", "bucc2018", "de", "en-1\tde-1\n")
    result = tree.score("xtreme", "--json")
    unlike, strange = "predictions unlike any label, so counted as wrong; how many, and the first", "so all are wrong"
    assert f"{unlike}: pawsx (de 1: '[1]'); udpos (de 2: 'NO UN')\n" in result.err
    assert f"{strange}; how many, and the first: bucc2018 (de 1: 'en-1')\n" in result.err
    assert json.loads(result.out)["detailed"]["bucc2018"]["f1"] == {"de": 0}


def test_a_folder_or_broken_link_in_place_of_a_file_is_refused(tree: Tree) -> None:
    tree.add("pawsx", "en")
    (tree.predictions / "pawsx/test-de.tsv").mkdir()
    (tree.labels / "pawsx/test-fr.tsv").symlink_to("test-fr.tsv")
    result = tree.score()
    assert (result.code, result.out) == (2, "")
    assert result.err.splitlines() == [
        f"error: {tree.predictions}/pawsx/test-de.tsv: is no file, or a link to nowhere",
        f"error: {tree.labels}/pawsx/test-fr.tsv: is no file, or a link to nowhere",
    ]


def test_all_malformed_files_are_reported_at_once(tree: Tree) -> None:
    for language in ("de", "en", "fr"):
        tree.add("pawsx", language)
    for language in ("de", "fr"):
        tree.write("predictions", "pawsx", language, "1\n")
    result = tree.score()
    assert (
        result.code == 2
        and result.err.count("error: ") == 2
        and "test-de.tsv" in result.err
        and "test-fr.tsv" in result.err
    )


def test_a_wrong_folder_gets_a_suggestion(tree: Tree, tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    tree.add("xcopa", "et")

    def refused(predictions: Path, labels: Path, *pieces: str, benchmark: str = "xtreme-r") -> None:
        result = xstilts("score", "--predictions", predictions, "--labels", labels, "--benchmark", benchmark)
        assert result.code == 2 and [piece for piece in pieces if piece not in result.err] == [], result.err

    both, one = "error: " + str(tmp_path), tree.labels
    refused(tmp_path / "prediction", one, f"{both}/prediction: no such folder (--predictions)", "mean 'predictions'?")
    refused(tmp_path, tmp_path, "(--predictions)", f"did you mean {tree.predictions}?", f"mean {tree.labels}?")
    refused(tmp_path / "predictions/xcopa", one, f"give the folder above it, {tree.predictions}")
    refused(one, one, "is given for the predictions and for the labels")
    refused(tree.predictions, one, "it has tasks of --benchmark xtreme-r", benchmark="xtreme")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", one, f"{both}/empty: has no folder of a task of xtreme-r", "such as xnli, ")
    (tree.predictions / "xcopa/test-et.jsonl").rename(tree.predictions / "xcopa/test-et.json")
    refused(tree.predictions, one, "no language of any task has a file here and in", "test-")
    refused(tree.predictions, one, "no benchmark 'xtrem'", "did you mean 'xtreme'?", benchmark="xtrem")


def test_an_unreadable_path_is_refused(tree: Tree, xstilts: Callable[..., CliResult]) -> None:
    tree.add("xcopa", "et")
    long = "x" * 5000
    for command in (
        ["score", "--predictions", long, "--labels", tree.labels],
        ["report", long],
        ["report", long, "--format", "submission"],
        ["tasks", "--data", long],
    ):
        result = xstilts(*command)
        assert (result.code, result.out) == (
            2,
            "",
        ) and f"error: {long}: cannot be read or written: File name too" in result.err


def test_files_outside_the_benchmark_are_reported(tree: Tree) -> None:
    tree.add("pawsx", "en")
    tree.add("panx", "af")
    tree.add("panx", "az")
    for folder in ("XNLI", "logs", "xcopa", "xlni"):
        (tree.predictions / folder).mkdir()
    (tree.predictions / "pawsx/en.tsv").write_text("1\n")
    beside = "XNLI (did you mean 'xnli'?); logs; panx/test-az.tsv; pawsx/en.tsv; xcopa; xlni (did you mean 'xnli'?)"
    assert f"not of xtreme, so not looked at: {beside}\n" in tree.score("xtreme", "--json").err
    tree.write("labels", "panx", "az", "B-LOC\n")
    assert "az" not in tree.json()["detailed"]["panx"]["f1"]


@pytest.mark.real
@pytest.mark.parametrize("version", ["xtreme", "xtreme-r"])
def test_whole_submissions_have_the_official_numbers(shared: Path, tree: Tree, version: str) -> None:
    submissions = json.loads((shared / "golden/submission.json").read_text(encoding="utf-8"))["submissions"]
    (golden,) = [x for x in submissions if x["version"] == version]
    for name, text in golden["files"].items():
        path = tree.predictions.parent / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    scored = tree.json(version)
    lareqa = {"task": "lareqa", "languages": list(TASKS["lareqa"].languages), "lacks": "files"}
    assert scored["missing"] == ([lareqa] if version == "xtreme-r" else [])
    near(scored["overall"], golden["expected_overall_seqeval_0_0_12"])
    near(scored["detailed"], golden["expected_detailed_seqeval_0_0_12"])


def near(ours: Any, official: Any) -> None:
    if isinstance(official, dict):
        assert ours.keys() == official.keys()
        for key, value in official.items():
            near(ours[key], value)
    else:
        assert ours == pytest.approx(official, abs=1e-6)


@pytest.mark.real
@pytest.mark.parametrize(
    ("task", "key", "least"),
    [("xnli", "cases", 8), ("pawsx", "cases", 7), ("panx", "cases", 24), ("udpos", "cases", 24), ("xcopa", "cases", 11),
     ("tatoeba", "accuracy_cases", 7), ("bucc2018", "f1_cases", 4)],
)  # fmt: skip
def test_single_files_have_the_official_numbers(shared: Path, tree: Tree, task: str, key: str, least: int) -> None:
    cases = json.loads((shared / f"golden/{task}.json").read_text(encoding="utf-8"))[key]
    assert len(cases) >= least
    language = TASKS[task].languages[0]
    for case in cases:
        tree.write("labels", task, language, case["label_text"])
        tree.write("predictions", task, language, case["prediction_text"])
        scored = tree.json("xtreme" if task in GROUPS["xtreme"] else "xtreme-r")["detailed"][task]
        expected = case.get("expected") or case["expected_seqeval_0_0_12"]
        for name, value in expected.items():
            assert scored[name] == {language: pytest.approx(value, abs=1e-6)}, case["name"]


@pytest.mark.real
@pytest.mark.parametrize(("task", "least"), [("xquad", 11), ("tydiqa", 9), ("mlqa", 7), ("mewslix", 11)])
def test_single_files_of_ids_have_the_official_numbers(shared: Path, tree: Tree, task: str, least: int) -> None:
    cases = json.loads((shared / f"golden/{task}.json").read_text(encoding="utf-8"))["cases"]
    assert len(cases) >= least
    for case in cases:
        tree.write("labels", task, case["language"], json.dumps(case["gold"]))
        tree.write("predictions", task, case["language"], json.dumps(case["predictions"]))
    scored = tree.json("xtreme" if task in GROUPS["xtreme"] else "xtreme-r")["detailed"][task]
    for case in cases:
        if case["language"] in TASKS[task].languages:
            for name, value in case["expected"].items():
                assert scored[name][case["language"]] == pytest.approx(value, abs=1e-6), case["name"]


# --- from a study ---------------------------------------------------------------------------------------------------

RECIPE = """\
name: tiny
encoder: ENCODER
seeds: [1, 2]
settings: {steps: 2, lr: 1e-3, batch: 4, max_length: 32}
phases:
  - {name: middle, choices: [[], [mnli]]}
  - {name: target, each: [xnli, udpos]}
evaluate: [xnli, udpos, tatoeba]
languages: [en, de]
missing: skip
"""


OWN = """\
mine:
  format: classify
  labels: [entailment, neutral, contradiction]
  languages: [en, de]
  data: {train: train-en.tsv, dev: "dev-{lang}.tsv"}
"""


@pytest.fixture
def benchmarked(study: Files, encoder_folder: Path) -> Files:
    """A study of the benchmark's own tasks; English has no test split in XNLI."""
    study.write("recipe.yaml", RECIPE.replace("ENCODER", str(encoder_folder)))
    for folder in ("xnli", "udpos", "tatoeba"):
        (study.folder / "data" / folder).mkdir(parents=True)
    labels = ("entailment", "neutral", "contradiction")
    for name, start in (("train-en", 0), ("dev-en", 3), ("dev-de", 4), ("test-de", 1)):
        rows = [f"{SENTENCES[start + i % 4]}\t{SENTENCES[i % 7]}\t{labels[i % 3]}\n" for i in range(12)]
        study.write(f"data/xnli/{name}.tsv", "".join(rows))
        words = [f"{word}\t{('NOUN', 'VERB', 'X')[len(word) % 3]}\n" for word in " . ".join(SENTENCES[:4]).split()]
        study.write(f"data/udpos/{name}.tsv", "".join([*words, "\n", *words[start:9], "\n"]))
    for code, sentences in (("deu", SENTENCES[4:7]), ("eng", SENTENCES[:3])):
        study.write(f"data/tatoeba/tatoeba.deu-eng.{code}", "\n".join(sentences))
    assert study.run("--data", study.folder / "data").code == 0
    return study


def test_exported_files_score_as_the_study_did(benchmarked: Files) -> None:
    result = benchmarked.call("report", benchmarked.out, "--format", "submission")
    assert result.code == 0, result.err
    home = benchmarked.out / "submission/tiny"
    folders = [home / branch / f"seed-{seed}" for branch in ("none", "mnli") for seed in (1, 2)]
    assert [line.split(": ")[0] for line in result.out.splitlines()[:4]] == list(map(str, folders))
    assert "no test split: " in result.out and "xnli (en)" in result.out
    ours = {(row.step, row.task, row.metric): row.value for row in read_rows_of(benchmarked.out) if row.split == "test"}
    study = Store(benchmarked.out).study(None)
    assert len(study.cells) == 12
    for task, choice in json.loads((home / "best/selection.json").read_text(encoding="utf-8")).items():
        assert choice["branch"] == "mnli", "the baseline is no candidate of the paper's"
        selected = [path for path in sorted((home / "best").rglob("test-*")) if path.parent.name == task]
        assert selected
        for path in selected:
            source = home / "mnli" / f"seed-{choice['seed']}" / path.relative_to(home / "best")
            assert path.read_bytes() == source.read_bytes()
    for cell in study.cells:
        folder = home / cell.branch / f"seed-{cell.seed}"
        scored = scoring.score(folder / "predictions", folder / "labels", scoring.benchmark("xtreme"), "xtreme")
        metric = TASKS[cell.task].metric
        assert scored.detailed[cell.task]["avg_metric"] == pytest.approx(ours[cell.step, cell.task, metric], abs=1e-9)


def read_rows_of(out: Path) -> list[Score]:
    return [row for path in out.glob("steps/*/scores.jsonl") for row in read_rows(path, Score)]


def test_the_command_that_the_report_names_scores_the_first_folder(benchmarked: Files) -> None:
    to = benchmarked.folder / "hand in"
    result = benchmarked.call("report", benchmarked.out, "--format", "submission", "--to", to)
    (line,) = [line for line in result.out.splitlines() if line.startswith("score it with: ")]
    words = shlex.split(line.removeprefix("score it with: "))
    assert words[:2] == ["xstilts", "score"] and words[-2:] == ["--benchmark", "xtreme"]
    assert str(to / "none/seed-1/predictions") in words
    scored = benchmarked.call(*words[1:])
    assert scored.code == 0 and "tatoeba" in scored.out
    assert not list(to.rglob(".*"))
    again = benchmarked.call("report", benchmarked.out, "--format", "submission", "--to", to)
    assert again.out == result.out
    english = benchmarked.call(
        "report", benchmarked.out, "--format", "submission", "--to", to, "--select", "english-dev"
    )
    assert english.code == 0 and "no run is selected: tatoeba" in english.out
    assert "there from before, and not written now: " in english.out


@pytest.mark.parametrize("layout", ["selection", "significance"])
def test_selection_and_significance_are_shown_in_every_format(benchmarked: Files, layout: str) -> None:
    result = benchmarked.call("report", benchmarked.out, "--layout", layout)
    assert result.code == 0 and "xnli" in result.out and "not tested" not in result.out
    for format in ("markdown", "latex", "csv"):
        assert "xnli" in benchmarked.call("report", benchmarked.out, "--layout", layout, "--format", format).out
    lines = json.loads(without_torch("report", benchmarked.out, "--layout", layout, "--format", "json"))["lines"]
    assert {line["task"] for line in lines} >= {"xnli", "udpos", "tatoeba"}
    assert benchmarked.call("report", benchmarked.out, "--select", "dev").code == 2


def test_significance_refuses_missing_predictions(benchmarked: Files) -> None:
    (path, *_) = benchmarked.out.glob("steps/*/predictions.jsonl")
    path.unlink()
    result = benchmarked.call("report", benchmarked.out, "--layout", "significance")
    assert (
        result.code == 2
        and result.err.startswith("error: ")
        and str(path) in result.err
        and result.err.count("\n") == 1
    )


def test_export_and_score_load_no_torch_and_print_one_document(benchmarked: Files, tree: Tree) -> None:
    without_torch("report", benchmarked.out, "--format", "submission")
    home = benchmarked.out / "submission/tiny/none/seed-1"
    result = without_torch("score", "--predictions", home / "predictions", "--labels", home / "labels", "--json")
    assert set(json.loads(result)["detailed"]) == {"xnli", "udpos", "tatoeba"}
    for task in SAMPLES:
        tree.add(task, TASKS[task].languages[0])
    for benchmark in ("xtreme", "xtreme-r"):
        folders = ("--predictions", tree.predictions, "--labels", tree.labels, "--benchmark", benchmark)
        assert json.loads(without_torch("score", *folders, "--json")).keys() == {"overall", "detailed", "missing"}


def test_an_export_names_what_it_lacks(benchmarked: Files) -> None:
    store = Store(benchmarked.out)
    study = store.study(None)
    (cell,) = [x for x in study.cells if (x.branch, x.seed, x.task) == ("mnli", 2, "xnli")]
    (store.step(cell.step) / "done.json").unlink()
    (other,) = [x for x in study.cells if (x.branch, x.seed, x.task) == ("none", 1, "xnli")]
    path = store.step(other.step) / "predictions.jsonl"
    rows = [Prediction(**{**vars(row), "reference": None}) for row in read_rows(path, Prediction)]
    write_rows(path, rows)
    old = benchmarked.folder / "to/none/seed-1/predictions/pawsx/test-de.tsv"
    old.parent.mkdir(parents=True)
    old.write_text("1\n")
    result = benchmarked.call("report", benchmarked.out, "--format", "submission", "--to", benchmarked.folder / "to")
    assert result.code == 0, result.err
    assert "not finished or failed: mnli, seed 2 (xnli)" in result.out
    assert "without labels: xnli (de)" in result.out
    assert f"there from before, and not written now: {old.parent} (test-de.tsv)" in result.out
    assert not (benchmarked.folder / "to/none/seed-1/labels/xnli").exists()
    assert not (benchmarked.folder / "to/mnli/seed-2/predictions/xnli").exists()


def test_a_study_without_test_predictions_is_refused(study: Files) -> None:
    study.write("tasks.yaml", OWN)
    study.edit("recipe.yaml", "evaluate: [pairs, mine]", "evaluate: [mine]")
    assert study.run().code == 0
    result = study.call("report", study.out, "--format", "submission")
    assert result.code == 2 and "'tiny' has no predictions of a test split" in result.err
    assert not (study.out / "submission").exists()


def test_a_users_own_task_is_exported_too(study: Files) -> None:
    assert study.run().code == 0
    result = study.call("report", study.out, "--format", "submission")
    assert result.code == 0 and "score it with" not in result.out
    home = study.out / "submission/tiny/all/seed-1"
    assert (home / "predictions/mine/test-de.tsv").read_text(encoding="utf-8").count("\n") == 12
    assert (home / "labels/pairs/test-de.tsv").read_text(encoding="utf-8") == "2\n1\n0\n"  # by the English side
    assert study.call("report", study.out, "--to", study.folder).code == 2


def studied(folder: Path, file: str, rows: list[tuple[str, Any, Any]], limit: int | None = None) -> tuple[Store, Study]:
    """A store with one finished step that scored one task in German."""
    line = StudyTask("made-up", "made-up", "accuracy", ("accuracy",), ("de", "sw"), "en", file=file)
    made = Study("mini", "tiny", (1,), ("a > b", "a / b"), None, (line,),
                 tuple(Cell(branch, 1, "made-up", "x") for branch in ("a > b", "a / b")))  # fmt: skip
    store = Store(folder)
    store.begin("x", {"scoring": {"limit": limit}})
    predictions = [Prediction("made-up", "de", "test", i, *row) for i, row in enumerate(rows)]
    write_rows(store.step("x") / "predictions.jsonl", predictions)
    scores = [Score("made-up", "de", "test", "accuracy", 50, len(rows), "x", "tiny", 1)] if rows else []
    write_rows(store.step("x") / "scores.jsonl", scores)
    store.finish("x", {})
    return store, made


@pytest.mark.parametrize("file", FILE_TYPES)
def test_every_kind_of_prediction_is_exported_for_every_branch(tmp_path: Path, file: str) -> None:
    right = dict(RIGHT[file]) if FILE_TYPES[file].by_id else RIGHT[file]
    rows = [
        (id or str(i), value, right.get(id, []) if isinstance(right, dict) else right[i][1])
        for i, (id, value) in enumerate(GIVEN[file])
    ]
    written = export_study(*studied(tmp_path / "out", file, rows), tmp_path / "to")
    assert [folder.relative_to(tmp_path / "to").as_posix() for folder in written.folders] == [
        "a_b/seed-1",
        "a_b-2/seed-1",
    ]
    for folder in written.folders:
        predictions = FILE_TYPES[file].path(folder / "predictions", "made-up", "de").read_text(encoding="utf-8")
        labels = FILE_TYPES[file].path(folder / "labels", "made-up", "de").read_text(encoding="utf-8")
        assert FILE_TYPES[file].read(predictions, "") == GIVEN[file]
        assert FILE_TYPES[file].read_labels(labels, "") == RIGHT[file]
    assert written.lines()[-1] == "no test split: made-up (sw)"


@pytest.mark.parametrize("task", SAMPLES)
def test_exported_predictions_of_the_selected_run_score_100_if_right(tmp_path: Path, task: str) -> None:
    file, metric = SAMPLES[task][0], TASKS[task].metric
    language = TASKS[task].languages[0]
    rows = [
        Prediction(task, language, "test", i, id or str(i), right[0] if file == "answers" else right, right)
        for i, (id, right) in enumerate(RIGHT[file])
    ]
    line = StudyTask(task, "made-up", metric, (metric,), (language,), "en", file=file)
    made = Study("mini", "tiny", (7,), ("none", "best"), "none", (line,),
                 (Cell("none", 7, task, "bad"), Cell("best", 7, task, "good")))  # fmt: skip
    store = Store(tmp_path / "out")
    for step, value in (("bad", 0.0), ("good", 100.0)):
        store.begin(step, {})
        (store.step(step) / "step.json").write_text(json.dumps({"scoring": {"limit": None}}), encoding="utf-8")
        given = rows if step == "good" else [replace(row, prediction=_wrong(row.prediction)) for row in rows]
        write_rows(store.step(step) / "predictions.jsonl", given)
        write_rows(
            store.step(step) / "scores.jsonl", [Score(task, language, "test", metric, value, 2, step, "tiny", 7)]
        )
        store.finish(step, {})
    chosen = select(made, store.scores(made)).of("paper")
    written = export_study(store, made, tmp_path / "to", chosen)
    assert sorted(home.relative_to(tmp_path / "to").parts[0] for home in written.folders) == ["best", "best-2", "none"]
    group = "xtreme" if task in GROUPS["xtreme"] else "xtreme-r"
    for home, value in ((tmp_path / "to/best", 100), (tmp_path / "to/none/seed-7", 0)):
        scored = scoring.score(home / "predictions", home / "labels", scoring.benchmark(group), group)
        assert scored.detailed[task]["avg_metric"] == value


def _wrong(value: Any) -> Any:
    return ["?" for _ in value] if isinstance(value, list) else "0" if value == "1" else "1"


def test_a_task_without_a_selected_run_is_reported(tmp_path: Path) -> None:
    written = export_study(*studied(tmp_path / "out", "lines", [("0", "yes", "no")]), tmp_path / "to", {})
    assert "no run is selected: made-up" in written.lines() and not (tmp_path / "to/best").exists()


def test_an_export_of_a_limited_study_says_that_it_is_partial(tmp_path: Path) -> None:
    written = export_study(*studied(tmp_path / "out", "lines", [("0", "yes", "no")], limit=1), tmp_path / "to")
    assert "not whole, for the recipe's limit is 1 examples: made-up (de)" in written.lines()


def test_an_unwritable_export_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "to").write_text("a file")
    store, made = studied(tmp_path / "out", "lines", [("0", "yes", "no")])
    with pytest.raises(UserError, match="to: is no folder"):
        export_study(store, made, tmp_path / "to")
    with pytest.raises(UserError, match=r"deeper/a_b/seed-1.*: cannot be read or written: Not a directory"):
        export_study(store, made, tmp_path / "to/deeper")


def test_a_study_of_an_earlier_version_is_not_exported(tmp_path: Path) -> None:
    store, made = studied(tmp_path / "out", "", [("0", "yes", "no")])
    with pytest.raises(UserError, match=r"out: 'mini' was run by an earlier xstilts.*\(run it again\)") as messages:
        export_study(store, made, tmp_path / "to")
    assert str(messages.value).count("\n") == 0 and not (tmp_path / "to").exists()


@pytest.mark.parametrize(("file", "content", "what"), [
    ("step.json", "{}", "does not say how many"),
    ("step.json", "[]", "cannot be read (delete the folder"),
    ("step.json", "{", "cannot be read (delete the folder"),
    ("step.json", None, "cannot be read or written: No such file"),
    ("predictions.jsonl", '{"task": "made-up"}\n', "this is no prediction: language: Field required"),
    ("predictions.jsonl", None, "is missing (delete the folder"),
])  # fmt: skip
def test_a_broken_step_is_reported_and_the_others_are_exported(
    tmp_path: Path, file: str, content: str | None, what: str
) -> None:
    store, made = studied(tmp_path / "out", "lines", [("0", "yes", "no")])
    shutil.copytree(store.step("x"), store.step("y"))
    path = store.step("x") / file
    path.unlink() if content is None else path.write_text(content)
    both = replace(made, cells=(made.cells[0], replace(made.cells[1], step="y")))
    with pytest.raises(UserError, match=re.escape(file) + "(:1)?: " + re.escape(what)):
        export_study(store, both, tmp_path / "to")
    assert [found.name for found in (tmp_path / "to").iterdir()] == ["a_b-2"]


def test_two_answers_with_one_id_are_not_exported(tmp_path: Path) -> None:
    store, made = studied(tmp_path / "out", "answers", [("q1", "a", ["a"]), ("q1", "b", ["b"])])
    with pytest.raises(UserError, match="no predictions of a test split"):
        export_study(store, made, tmp_path / "to")
