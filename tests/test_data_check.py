"""`xstilts data check` and `xstilts tasks`: what is there, what is missing, what is broken, what differs."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import SENTENCES, CliResult, without_torch
from xstilts.data.check import check, select_tasks, summaries
from xstilts.tasks import GROUPS, TASKS

TASK = """\
pairs:
  like: xnli
  languages: [de, en, fr, sw]
  data: {train: train.tsv, dev: "dev-{lang}.tsv", test: "{lang}.test.tsv"}
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with some of a task's files: dev in two languages, test without labels, no training data."""
    folder = tmp_path / "data"
    folder.mkdir()
    (tmp_path / "pairs.yaml").write_text(TASK)
    for name, count, label in (("dev-de", 3, "\tneutral"), ("dev-en", 3, "\tneutral"), ("de.test", 2, "")):
        (folder / f"{name}.tsv").write_text(
            "".join(f"{SENTENCES[i]}\t{SENTENCES[i + 1]}{label}\n" for i in range(count))
        )
    return folder


def rows(result: CliResult) -> dict[tuple[str, str], Any]:
    return {(row["split"], row["language"]): row for row in json.loads(result.out)}


def lines(data: Path, *names: str) -> dict[str, list[str]]:
    """The table's lines by split, without task and split."""
    made = summaries(check(select_tasks(names, [data.parent / "pairs.yaml"]), data, print))
    return {split: cells for _, split, *cells in made}


def test_the_json_has_every_column_of_the_check(data: Path, xstilts: Callable[..., CliResult]) -> None:
    result = xstilts("data", "check", "pairs", "--json", "--data", data, "--use", data.parent / "pairs.yaml")
    assert (result.code, result.err) == (0, "")
    found = rows(result)
    assert len(found) == 1 + 4 + 4
    digest = hashlib.sha256((data / "dev-de.tsv").read_bytes()).hexdigest()
    assert found["dev", "de"] == {
        "task": "pairs", "split": "dev", "language": "de", "official": None, "found": True,
        "places": ["dev-{lang}.tsv"], "files": [{"path": "dev-de.tsv", "sha256": digest}], "examples": 3,
        "length": {"unit": "words", "median": 16, "maximum": 17}, "labels": True,
        "notes": [], "problems": [], "missing": "",
    }  # fmt: skip
    assert (found["test", "de"]["examples"], found["test", "de"]["labels"]) == (2, False)
    missing = found["dev", "fr"]
    assert (missing["found"], missing["files"], missing["examples"]) == (False, [], None)
    assert f"looked for {data.parent}/dev-fr.tsv, {data}/dev-fr.tsv" in missing["missing"]


def test_the_table_joins_languages_with_equal_counts(data: Path, xstilts: Callable[..., CliResult]) -> None:
    assert lines(data, "pairs") == {
        "train": ["0/1", "", "", "", ""],
        "dev": ["2/4 only de en", "3 each", "16 words, at most 17", "yes", "dev-{lang}.tsv"],
        "test": ["1/4 only de", "2", "16 words, at most 16", "none", "{lang}.test.tsv"],
    }
    (data / "dev-fr.tsv").write_text("a\tb\tneutral\n")
    assert lines(data, "pairs")["dev"][:2] == ["3/4 not sw", "1 to 3"]
    result = xstilts("data", "check", "pairs", "--data", data, "--use", data.parent / "pairs.yaml")
    assert result.code == 0 and "3/4 not sw" in result.out


def test_counts_are_compared_with_the_official_ones(tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    (tmp_path / "xquad").mkdir()
    for language, count in (("de", 1_190), ("el", 1_190), ("en", 2)):
        asked = [
            {"id": str(i), "question": "wo?", "answers": [{"text": "Ulm", "answer_start": 0}]} for i in range(count)
        ]
        document = {"data": [{"paragraphs": [{"context": "Ulm.", "qas": asked}]}]}
        (tmp_path / f"xquad/xquad.{language}.json").write_text(json.dumps(document))
    result = xstilts("data", "check", "xquad", "--json", "--data", tmp_path)
    assert result.code == 0  # another number is told, but it is no error
    found = rows(result)
    assert [(found["test", code]["examples"], found["test", code]["official"]) for code in ("de", "en", "fr")[:2]] == [
        (1_190, 1_190), (2, 1_190),
    ]  # fmt: skip
    made = {split: cells for _, split, *cells in summaries(check([TASKS["xquad"]], tmp_path, print))}
    assert made["test"][1] == "1,190 each as official, en 2 of 1,190"


def test_broken_lines_are_listed_and_the_exit_code_is_2(data: Path, xstilts: Callable[..., CliResult]) -> None:
    (data / "dev-en.tsv").write_text("a\tb\tneutral\nc\td\tneutrl\ne\t\tneutral\n")
    result = xstilts("data", "check", "pairs", "--data", data, "--use", data.parent / "pairs.yaml")
    assert result.code == 2
    assert "3, en BROKEN" in result.out and "2/4 only de en" in result.out
    assert result.err.splitlines() == [
        f"error: {data}/dev-en.tsv:2: unknown label 'neutrl' (did you mean 'neutral'?)",
        f"error: {data}/dev-en.tsv:3: empty hypothesis",
    ]
    result = xstilts("data", "check", "pairs", "--json", "--data", data, "--use", data.parent / "pairs.yaml")
    broken = rows(result)["dev", "en"]
    assert (result.code, broken["examples"], len(broken["problems"])) == (2, None, 2)


def test_a_file_without_a_usable_example_is_broken(data: Path) -> None:
    (data / "dev-en.tsv").write_text("a\tb\t-\n")
    (row,) = [row for row in check(select_tasks(["pairs"], [data.parent / "pairs.yaml"]), data, print) if row.problems]
    assert (row.language, row.problems) == ("en", (f"{data}/dev-en.tsv: no usable example",))


def test_defective_examples_are_listed_and_counted(tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    answers = (("Ulm", 0), ("Rom", 0), ("ist", 5))
    asked = [{"id": str(i), "question": "wo?", "answers": [{"text": text, "answer_start": at}]}
             for i, (text, at) in enumerate(answers)]  # fmt: skip
    (tmp_path / "squad").mkdir()
    document = {"data": [{"paragraphs": [{"context": "Ulm ist da.", "qas": asked}]}]}
    (tmp_path / "squad/train-v1.1.json").write_text(json.dumps(document))
    result = xstilts("data", "check", "squad1", "--data", tmp_path)
    assert (result.code, result.err) == (0, "")
    assert "en 3 of 87,599" in " ".join(result.out.split())  # what is left out of training is counted nonetheless
    notes = [line for line in result.out.splitlines() if line.startswith("note: ")]
    assert len(notes) == 2 and "question 2 (id 1): the answer is not in the context; left out of training" in notes[0]


def test_retrieval_counts_queries(tmp_path: Path) -> None:
    (tmp_path / "bucc2018").mkdir()
    for name, text in (("zh", "z1\teins\nz2\tzwei\n"), ("en", "e1\tone\ne2\ttwo\ne3\tsix\n"), ("gold", "z1\te1\n")):
        (tmp_path / f"bucc2018/zh-en.dev.{name}").write_text(text)
    (row,) = [row for row in check([TASKS["bucc2018"]], tmp_path, print) if row.places]
    assert (row.examples, row.labels, len(row.files)) == (2, True, 3)
    (tmp_path / "bucc2018/zh-en.dev.gold").unlink()
    (row,) = [row for row in check([TASKS["bucc2018"]], tmp_path, print) if row.places]
    assert (row.examples, row.labels, len(row.files)) == (2, False, 2)


def test_shared_data_are_read_once(data: Path) -> None:
    (data / "pairs.yaml").write_text(TASK + TASK.replace("pairs:", "again:"))
    found = [row for row in check(select_tasks(["pairs", "again"], [data / "pairs.yaml"]), data, print) if row.places]
    assert [(row.task, row.split, row.language) for row in found] == [
        (name, *key) for name in ("pairs", "again") for key in (("dev", "de"), ("dev", "en"), ("test", "de"))
    ]
    for one, other in zip(found[:3], found[3:], strict=True):
        assert one.files is other.files and one.examples == other.examples


def test_unknown_tasks_are_all_named_with_the_nearest(xstilts: Callable[..., CliResult]) -> None:
    result = xstilts("data", "check", "xnil", "xtrem")
    assert (result.code, result.out) == (2, "")
    assert result.err.splitlines() == [
        "error: unknown task 'xnil' (did you mean 'xnli'?)",
        "error: unknown task 'xtrem' (did you mean 'xtreme'?)",
    ]


def test_no_name_means_every_task_but_the_playgrounds() -> None:
    assert [task.name for task in select_tasks(["tatoeba", "xtreme"], [])][:2] == ["tatoeba", GROUPS["xtreme"][0]]
    names = {task.name for task in select_tasks([], [])}
    assert names == TASKS.keys() - {name for name in TASKS if name.startswith("play-")}


def test_a_missing_data_folder_is_refused(tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    for command in (["data", "check"], ["data", "fetch", "xnli"], ["tasks"]):
        result = xstilts(*command, "--data", tmp_path / "nowhere")
        assert (result.code, result.out) == (2, "") and "no such folder" in result.err


def test_a_long_check_reports_progress(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xstilts.data.check.SECONDS", -1.0)
    result: list[str] = []
    check(select_tasks(["pairs"], [data.parent / "pairs.yaml"]), data, result.append)
    assert result[0] == "[1/9] pairs train en" and len(result) == 9


def test_the_check_does_not_load_torch(data: Path) -> None:
    command = ["data", "check", "pairs", "--data", str(data), "--use", str(data.parent / "pairs.yaml")]
    assert len(json.loads(without_torch(*command, "--json"))) == 9


def test_the_list_of_tasks_fits_a_hundred_columns(data: Path, xstilts: Callable[..., CliResult]) -> None:
    result = xstilts("tasks", "--data", data)
    table = [line for line in result.out.splitlines() if "│" in line]
    assert len(table) == len(TASKS)  # a line for each
    assert all(len(line) <= 100 and "…" not in line for line in table)
    assert "xnli: trains on English MNLI" in result.out


def test_the_json_of_tasks_lists_every_path_tried(data: Path, xstilts: Callable[..., CliResult]) -> None:
    (data / "xquad").mkdir()
    (data / "xquad/xquad.de.json").write_text("[]")
    listed = {row["task"]: row for row in json.loads(xstilts("tasks", "--json", "--data", data).out)}
    assert listed.keys() == TASKS.keys()
    xquad = listed["xquad"]
    assert ["xquad/xquad.{lang}.json"] in xquad["files"]["test"] and xquad["found"]["test"] == ["de"]


REVIEWS = """\
opinions:
  format: classify
  texts: [text]
  labels: [bad, good]
  languages: [en, ja]
  data: {train: train.csv, test: "{lang}.csv"}
"""


def test_repeated_and_contradicting_examples_are_noted(tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    (tmp_path / "opinions.yaml").write_text(REVIEWS)
    (tmp_path / "train.csv").write_text("text,label\nso nice,good\nso so,bad\nso nice,good\nso so,good\nso nice,good\n")
    (tmp_path / "en.csv").write_text("text,label\nnot bad at all,good\nnot bad at all,bad\nnot bad at all,good\n")
    (tmp_path / "ja.csv").write_text("text,label\n最高,good\n最低だった,bad\n")
    result = xstilts("data", "check", "--use", tmp_path / "opinions.yaml")
    assert result.code == 0
    notes = [line for line in result.out.splitlines() if line.startswith("note: ")]
    assert notes == [
        f"note: {tmp_path}/train.csv: 2 of 5 examples repeat an earlier one: line 4 is line 2",
        f"note: {tmp_path}/train.csv: 1 example with the text of an earlier one, but another label: "
        "line 5 has 'good', line 3 'bad'",
        f"note: {tmp_path}/en.csv: 1 example with the text of an earlier one, but another label: "
        "line 3 has 'bad', line 2 'good'",
    ]  # fmt: skip


def test_lengths_are_words_or_where_no_blanks_are_written_characters(
    tmp_path: Path, xstilts: Callable[..., CliResult]
) -> None:
    (tmp_path / "opinions.yaml").write_text(REVIEWS)
    (tmp_path / "train.csv").write_text("text,label\none,good\none two,bad\none two three four,good\n")
    (tmp_path / "en.csv").write_text("text,label\nfive words are in here,good\n")
    (tmp_path / "ja.csv").write_text("text,label\n最高,good\n最低だった,bad\n")
    result = xstilts("data", "check", "--use", tmp_path / "opinions.yaml", "--json")
    assert [row["length"] for row in json.loads(result.out)] == [
        {"unit": "words", "median": 2, "maximum": 4},
        {"unit": "words", "median": 5, "maximum": 5},
        {"unit": "characters", "median": 3.5, "maximum": 5},
    ]
    made = {
        split: cells
        for _, split, *cells in summaries(check(select_tasks([], [tmp_path / "opinions.yaml"]), None, print))
    }
    assert made["train"][2] == "2 words, at most 4"
    assert made["test"][2] == "5 words, at most 5; 4 characters, at most 5"
