"""A user's first tables: headers, columns and labels that are not what the task says, and what is told of them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import CliResult

TASK = """\
mood:
  format: classify
  texts: [text]
  labels: [good, bad]
  languages: [LANGUAGES]
  data: {train: "train.EXT", test: "{lang}.EXT"}
"""
TRAIN = {"csv": "text,label\nfine,good\nawful,bad\n", "jsonl": '{"text": "fine", "label": "good"}\n'}


@pytest.fixture
def data_check(tmp_path: Path, xstilts: Callable[..., CliResult]) -> Callable[..., CliResult]:
    """Check a task in one or more languages, whose test files are given by language."""

    def call(extension: str = "csv", **tests: str) -> CliResult:
        task = TASK.replace("LANGUAGES", ", ".join(tests)).replace("EXT", extension)
        (tmp_path / "mood.yaml").write_text(task)
        (tmp_path / f"train.{extension}").write_text(TRAIN[extension])
        for code, text in tests.items():
            (tmp_path / f"{code}.{extension}").write_text(text)
        return xstilts("data", "check", "mood", "--use", tmp_path / "mood.yaml")

    return call


NEARLY = {
    "another case": ("csv", "text,LABEL\ngut,good\n", "'LABEL'"),
    "a blank": ("csv", "text,label \ngut,good\n", "'label '"),
    "the letters swapped": ("csv", "id,text,lable\n1,gut,good\n", "'lable'"),
    "a longer name": ("csv", "text,gold_label\ngut,good\n", "'gold_label'"),
    "a key of an object": ("jsonl", '{"text": "gut", "Label": "good"}\n', "'Label'"),
}


@pytest.mark.parametrize("name", NEARLY)
def test_a_column_that_is_nearly_the_labels_is_no_test_set_without_labels(
    data_check: Callable[..., CliResult], name: str
) -> None:
    extension, text, near = NEARLY[name]
    result = data_check(extension, de=text)
    assert result.code == 2 and f"de.{extension}: has no column 'label' (did you mean {near}?)" in result.err


def test_a_header_without_a_label_is_a_test_set_to_predict(data_check: Callable[..., CliResult]) -> None:
    result = data_check(de="text,level\ngut,3\n", fr="id,text\n7,bon\n")
    assert result.code == 0 and "without labels, so predicted and not scored: mood test" in result.out


def test_a_label_column_with_nothing_in_it_has_no_labels(data_check: Callable[..., CliResult]) -> None:
    result = data_check(de="text,label\ngut,\nschlecht, \n", fr="text,label\nbon,good\nmauvais,bad\n")
    assert result.code == 0 and "predicted and not scored: mood test (de)" in result.out
    result = data_check(de="text,label\ngut,good\nschlecht,\n")
    assert result.code == 2 and "de.csv:3: has no label" in result.err


HEADERS = {
    "one column": ("sentence\ngut\nschlecht\n", "sentence"),
    "as many columns as fields": ("Review,Rating\ngut,good\n", "Review, Rating"),
    "more columns": ("review,stars,lang\ngut,5,de\n", "review, stars, lang"),
    "two words": ("tweet_text,label\ngut,good\n", "tweet_text, label"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_of_other_columns_is_no_example(data_check: Callable[..., CliResult], name: str) -> None:
    text, names = HEADERS[name]
    result = data_check(de=text)
    assert result.code == 2
    assert f"de.csv:1: the header has {names}; the task wants text (" in result.err


def test_a_sentence_of_one_word_is_no_header(data_check: Callable[..., CliResult]) -> None:
    result = data_check(sw="hujambo\nkwaheri\n", en="hello\ntext\n")
    assert result.code == 0 and "2 each" in result.out


def test_labels_outside_the_list_share_a_line_with_their_counts(data_check: Callable[..., CliResult]) -> None:
    rows = [*["nett,gud"] * 12, "toll,good", "mies,BAD", *["naja,neutral"] * 3]
    result = data_check(de="\n".join(["text,label", *rows]))
    (line,) = [line for line in result.err.splitlines() if "de.csv" in line]
    assert "de.csv: 3 labels not in the list: 'gud' 12 times, first at line 2" in line
    assert "'neutral' 3 times, first at line 16; 'BAD' once, at line 15 (did you mean 'bad'?)" in line


def test_the_same_mistake_is_one_line_with_its_number(data_check: Callable[..., CliResult]) -> None:
    result = data_check(de="\n".join(["text,label", *["nett,gud"] * 40, "mies,bad", *[" ,bad"] * 30]))
    assert [line.partition("/de.csv:")[2] for line in result.err.splitlines()] == [
        "2: unknown label 'gud', and 39 more like it (known: bad, good)",
        "43: empty text, and 29 more like it",
    ]


def test_questions_without_an_answer_are_one_line(tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    rows = ['{"context": "Ulm is on the Danube.", "question": "Where is it?", "answers": []}'] * 25
    (tmp_path / "en.jsonl").write_text("\n".join(rows))
    (tmp_path / "ask.yaml").write_text('ask: {format: span, languages: [en], data: {test: "{lang}.jsonl"}}\n')
    result = xstilts("data", "check", "ask", "--use", tmp_path / "ask.yaml")
    assert result.code == 2 and result.err.count("\n") == 1
    assert "en.jsonl:1: has no answer, and 24 more like it" in result.err
