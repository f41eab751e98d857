"""Score rows, predictions and the study index on disk: they round-trip, and broken ones are refused."""

import re
import resource
from contextlib import contextmanager
from dataclasses import replace

import pytest

from xstilts.errors import UserError
from xstilts.store.rows import Prediction, Score, read_rows, write_rows
from xstilts.study.index import Cell, Study, StudyTask, read_study
from xstilts.utils.files import write_atomic


def test_score_rows_round_trip(tmp_path):
    scores = [
        Score("xnli", "sw", "test", "accuracy", 70.125, 5010, "eval-1", "tiny", 3),
        Score("text", "qaa", "dev", "perplexity", float("inf"), 7, "eval-2", "tiny", None),
    ]
    write_rows(tmp_path / "deep" / "scores.jsonl", scores)
    assert read_rows(tmp_path / "deep" / "scores.jsonl", Score) == scores


def test_predictions_round_trip_with_readable_unicode(tmp_path):
    rows = [
        Prediction("qa", "ja", "dev", 0, "q1", {"text": "東京\u2028\n"}, None),
        Prediction("pos", "hi", "dev", 1, "1", ["NOUN"], ["VERB"]),
    ]
    write_rows(tmp_path / "predictions.jsonl", rows)
    assert read_rows(tmp_path / "predictions.jsonl", Prediction) == rows
    assert "東京" in (tmp_path / "predictions.jsonl").read_text(encoding="utf-8")


@pytest.mark.parametrize("broken", ['{"task": "xnli"', '{"task": "xnli"}', "[]", '{"task": 7}'])
def test_a_broken_line_is_named(tmp_path, broken):
    path = tmp_path / "scores.jsonl"
    write_rows(path, [Score("xnli", "sw", "test", "accuracy", 70.0, 5010, "eval-1", "tiny", 3)])
    with path.open("a", encoding="utf-8") as file:
        file.write(broken + "\n")
    with pytest.raises(UserError, match=r"scores\.jsonl:2: this is no score"):
        read_rows(path, Score)


def test_a_row_broken_over_two_lines_is_refused(tmp_path):
    path = tmp_path / "scores.jsonl"
    write_rows(path, [Score("xnli", "sw", "test", "accuracy", 70.0, 5010, "eval-1", "tiny", 3)])
    path.write_text(path.read_text().replace(', "n"', '\n"n"'))  # joined by a comma, the two would be a row again
    with pytest.raises(UserError, match=r"scores\.jsonl:1: this is no score"):
        read_rows(path, Score)


@pytest.mark.parametrize(
    "wrong", ['"value": NaN', '"value": 1e999', '"value": 150', '"value": "70"', '"n": 0', '"chance": -Infinity']
)
def test_an_impossible_score_is_refused(tmp_path, wrong):
    path, field = tmp_path / "scores.jsonl", wrong.partition(":")[0]
    row = Score("xnli", "sw", "test", "accuracy", 70.0, 5010, "eval-1", "tiny", 3, chance=33.0)
    write_rows(path, [row])
    path.write_text(re.sub(rf"{field}: [^,}}]+", wrong, path.read_text()))
    with pytest.raises(UserError, match=rf"scores\.jsonl:1: this is no score: {field[1:-1]}"):
        read_rows(path, Score)


def test_a_study_index_round_trips():
    task = StudyTask("xnli", "classify", "accuracy", ("accuracy",), ("en", "sw"), "en", "")
    study = Study("mini", "tiny", (1, 2), ("none", "mnli"), "none", (task,), (Cell("none", 1, "xnli", "eval-1"),))
    assert Study.from_json(study.to_json()) == study
    with pytest.raises(UserError, match=r"study\.json: this is no study: name"):
        Study.from_json("{}", where="study.json")
    for wrong, result in (
        (replace(study, cells=(Cell("qqp", 1, "xnli", "eval-1"),)), "there is no branch 'qqp'"),
        (replace(study, cells=(Cell("none", 3, "xnli", "eval-1"),)), "there is no seed 3"),
        (replace(study, baseline="nothing"), "there is no branch 'nothing'"),
        (replace(study, tasks=(replace(task, metric="f1"),)), "xnli has no f1"),
    ):
        with pytest.raises(UserError, match=rf"study\.json: this is no study: {result}"):
            Study.from_json(wrong.to_json(), where="study.json")


def test_a_study_index_must_have_the_name_of_its_file(tmp_path):
    study = Study("../evil", "tiny", (1,), ("none",), "none", (), ())
    path = tmp_path / "mini.json"
    path.write_text(study.to_json())
    with pytest.raises(UserError, match=r"mini\.json: holds the recipe '\.\./evil', which has another name"):
        read_study(path)
    path.write_text(replace(study, name="mini").to_json())
    assert read_study(path).name == "mini"


@contextmanager
def largest_file(size):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "scores.jsonl"
    write_atomic(path, "old")
    with largest_file(1000), pytest.raises(UserError, match="disk is full"):
        write_atomic(path, b"x" * 5000)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
