"""A user's first tables: headers, columns and labels that are not what the task says, and what the user is told."""

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


def study_files(folder: Path, recipe: str = "") -> Path:
    """A study of reviews in English and German, with files beside its recipe."""
    (folder / "mood.yaml").write_text(TASK.replace("LANGUAGES", "en, de").replace("EXT", "csv"))
    (folder / "train.csv").write_text(
        "text,label\n" + "".join(f"film {i},{('good', 'bad')[i % 2]}\n" for i in range(40))
    )
    for code in ("en", "de"):
        rows = [f"{code} {i},{('good', 'bad')[i % 2]}\n" for i in range(40)]
        (folder / f"{code}.csv").write_text("text,label\n" + "".join(rows))
    path = folder / "study.yaml"
    path.write_text(
        "name: reviews\nencoder: me/encoder\nseeds: [1]\nuse: [mood.yaml]\n"
        f"phases: [{{name: target, each: [mood]}}]\nevaluate: [mood]\n{recipe}"
    )
    return path


def test_a_check_reads_the_files_beside_the_recipe(tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    recipe = study_files(tmp_path)
    result = xstilts("check", recipe)
    assert (result.code, result.out) == (0, f"{recipe}: no mistakes; 1 training, 2 evaluations\n")
    (tmp_path / "de.csv").write_text("text,label\nnett,gut\nmies,schlecht\nna ja,gut\n")
    (tmp_path / "train.csv").write_text("review,stars,lang\nnice,5,en\n")
    result = xstilts("check", recipe)
    assert (result.code, result.out) == (2, "")
    assert "train.csv:1: the header has review, stars, lang; the task wants text" in result.err
    assert "de.csv: 2 labels not in the list: 'gut' 2 times, first at line 2; 'schlecht' once, at line 3" in result.err
    planned = xstilts("plan", recipe)  # reads the first row of each file
    assert planned.code == 2 and "target: mood" in planned.out
    header, label = planned.err.splitlines()
    assert "train.csv:1: the header has review, stars, lang; the task wants text" in header
    assert "de.csv:2: unknown label 'gut' (known: bad, good)" in label


def test_a_check_names_the_tasks_whose_files_it_has_not_read(tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    recipe = study_files(tmp_path)
    recipe.write_text(recipe.read_text().replace(": [mood]", ": [mood, xquad]"))
    result = xstilts("check", recipe)
    ways = "give the data folder with --data, or download with `xstilts data fetch xquad`\n"
    assert result.code == 0 and f"files not read: xquad; {ways}" in result.out
    result = xstilts("check", recipe, "--data", tmp_path)  # what a run would refuse
    assert result.code == 2 and "xquad: no data for 'en'" in result.err
    planned = xstilts("plan", recipe)
    assert "missing without --data: xquad\nfrom the Hub: xstilts data fetch xquad\n" in planned.out


def test_training_examples_among_the_test_data_are_counted(tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    """Three English test rows are training rows, two with another label; of the German test set it is a half."""
    recipe = study_files(tmp_path)
    for name, rows in (
        ("en", ["film 3,good", "film 8,good", "film 9,bad"]),
        ("de", [f"film {i},bad" for i in range(40)]),
    ):
        with (tmp_path / f"{name}.csv").open("a") as file:
            file.write("\n".join(rows) + "\n")
    result = xstilts("check", recipe)
    train = tmp_path / "train.csv"
    warnings = [
        f"{tmp_path}/en.csv: 3 of 43 examples (7.0 %) are training examples, too: line 42 is {train}:5",
        f"{tmp_path}/de.csv: 40 of 80 examples (50.0 %) are training examples, too: line 42 is {train}:2",
    ]
    assert (result.code, result.out.splitlines()[1:]) == (0, warnings)
    checked = xstilts("data", "check", "mood", "--use", tmp_path / "mood.yaml")
    assert [line for line in checked.out.splitlines() if line.startswith("note: ")] == [
        f"note: {line}" for line in warnings
    ]


def test_one_equal_text_in_another_language_is_chance(tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    recipe = study_files(tmp_path)
    with (tmp_path / "de.csv").open("a") as file:
        file.write("film 1,good\n")
    assert "training examples" not in xstilts("check", recipe).out


def test_a_data_check_without_any_file_of_an_own_task_fails(tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    study_files(tmp_path)
    use = ("--use", tmp_path / "mood.yaml")
    (tmp_path / "train.csv").rename(tmp_path / "trian.csv")
    result = xstilts("data", "check", "mood", *use)
    assert result.code == 0 and f"missing: mood: no data for 'en': looked for {tmp_path}/train.csv" in result.out
    assert "the nearest there is" in result.out
    for name in ("trian", "en", "de"):
        (tmp_path / f"{name}.csv").unlink()
    result = xstilts("data", "check", "mood", *use)
    assert result.code == 2 and f"looked for {tmp_path}/en.csv" in result.err
    (tmp_path / "elsewhere").mkdir()
    result = xstilts("data", "check", "xquad", "--data", tmp_path / "elsewhere")
    assert result.code == 2 and "elsewhere: none of these files are there" in result.err
