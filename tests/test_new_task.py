"""`xstilts new task` and `new recipe`: the files that they write for a user's data pass both checks at once."""

import csv
import io
import json
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from conftest import SENTENCES, CliResult, without_torch
from xstilts.data.file_names import named
from xstilts.tasks import TASKS
from xstilts.tasks.task import Task
from xstilts.tasks.user_tasks import from_yaml

LABELS = (("bad", "good"), ("1", "2", "3"), ("0", "1"), ("-1", "0", "1"), ("null", "yes", "a, b"), ('"so"', "c: d"))
HEADERS = (("text", "label"), ("id", "review", "labels"), ("class", "sentence"), ("Tweet_Text", "gold"), ("text", "y"))
NAMES = (
    ("train.en", "dev.en", "test.de", "test.sw"),
    ("en/training", "en/validation", "de/test", "zh-TW/test"),
    ("train", "dev", "test_fi", "test_qaa"),
    ("train-eng", "dev-eng", "test-deu", "test-swh"),
    ("English.train", "English.dev", "German.test", "Swahili.test"),
)


def text(random_: random.Random) -> str:
    """A sentence, often with a comma, a quotation mark or another script."""
    words = " ".join(random_.choices([*SENTENCES, "Yes, it is", 'He said "no"'], k=random_.randint(1, 2)))
    return f"{words} {random_.randint(1, 10**6)} times."


def table(rows: Sequence[Sequence[str]], delimiter: str) -> str:
    stream = io.StringIO()
    csv.writer(stream, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return stream.getvalue()


def labelled(seed: int, suffix: str, header: Sequence[str], labels: Sequence[str], pair: bool) -> Callable[[int], str]:
    """A function that writes so many rows with labels, each label in turn."""
    random_ = random.Random(seed)

    def row(number: int) -> dict[str, Any]:
        cells: dict[str, Any] = {}
        for name in header:
            if name in ("label", "labels", "class", "gold", "y"):
                cells[name] = labels[number % len(labels)]
            elif name == "id":
                cells[name] = str(number + 7)
            elif pair:
                cells |= {"sentence1": text(random_), "sentence2": text(random_)}
            else:
                cells[name] = text(random_)
        return cells

    def write(count: int) -> str:
        rows = [row(number) for number in range(count)]
        if suffix == ".jsonl":
            return "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in rows)
        cells = [[str(cell) for cell in one.values()] for one in rows]
        return table([[*rows[0]], *cells], "," if suffix == ".csv" else "\t")

    return write


def write_files(folder: Path, names: Sequence[str], suffix: str, write: Callable[[int], str]) -> None:
    for name, count in zip(names, (24, 9, 6, 12), strict=True):
        path = folder / f"{name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(write(count), encoding="utf-8")


@pytest.fixture
def made(tmp_path: Path, xstilts: Callable[..., CliResult]) -> Callable[..., Task]:
    """Write a task file and a recipe for a folder, assert that both checks find no mistake, return the task."""

    def make(folder: Path, *options: object) -> Task:
        file, recipe = tmp_path / "made.yaml", tmp_path / "made-study.yaml"
        for path in (file, recipe):
            path.unlink(missing_ok=True)
        result = xstilts("new", "task", folder, "--out", file, *options)
        assert (result.code, result.err) == (0, ""), result
        (task,) = from_yaml(file, TASKS).values()
        shown = file.read_text(encoding="utf-8")
        result = xstilts("data", "check", "--use", file, "--json")
        assert result.code == 0, (shown, result.err)
        rows = json.loads(result.out)
        assert all(row["examples"] and row["labels"] is not False for row in rows), (shown, rows)
        if task.format.head.trained:
            assert xstilts("new", "recipe", file, "--intermediate", "play-same").code == 0
            result = xstilts("check", recipe)
            assert result.code == 0 and ": no mistakes; " in result.out, (shown, result.err)
        return task

    return make


@pytest.mark.parametrize("seed", range(10))
def test_what_is_guessed_of_labelled_texts_passes_both_checks(
    seed: int, tmp_path: Path, made: Callable[..., Task]
) -> None:
    random_ = random.Random(seed)
    suffix, names = (".csv", ".tsv", ".jsonl")[seed % 3], NAMES[seed % 5]
    header, labels, pair = random_.choice(HEADERS), LABELS[seed % len(LABELS)], seed % 4 == 3
    write_files(tmp_path / "opinions", names, suffix, labelled(seed, suffix, header, labels, pair))
    task = made(tmp_path / "opinions")
    form: Any = task.format
    assert (task.name, form.name, len(form.texts)) == ("my-opinions", "classify", 2 if pair else 1)
    assert sorted(form.labels) == sorted(labels)
    assert task.data.keys() == {"train", "dev", "test"} and len(task.languages) == 2
    assert task.train_languages == ("en",)


@pytest.mark.parametrize(("suffix", "delimiter"), [(".csv", ","), (".tsv", "\t")])
def test_a_table_without_a_header_numbers_its_columns(
    suffix: str, delimiter: str, tmp_path: Path, made: Callable[..., Task]
) -> None:
    rows = [[str(number), "123"[number % 3], f"Shares of firm {number}, again"] for number in range(80)]
    path = tmp_path / f"shares{suffix}"
    path.write_text(table(rows, delimiter))
    task = made(path, "--lang", "fi")
    assert (task.format.inputs, task.languages) == (("text",), ("fi",))
    assert getattr(task.format, "labels", ()) == ("1", "2", "3"), "a label may be the number of its column"
    assert task.scored == ("dev", "test"), "the parts of the file share no rows"


def test_choices_with_a_column_each_or_a_list(tmp_path: Path, made: Callable[..., Task]) -> None:
    columns, lists = tmp_path / "columns", tmp_path / "lists"
    for folder in (columns, lists):
        folder.mkdir()
    for split, count in (("train.en", 9), ("dev.en", 4), ("test.et", 5)):
        rows = [{"weather_label": "rain", "premise": f"It rained {i} days.", "question": "effect", "label": i % 2,
                 "choice1": "It was wet.", "choice2": f"It was {i} o'clock."} for i in range(count)]  # fmt: skip
        (columns / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        cells = [[f"q{i}", f"Who saw {i} birds?", "Ann", "Bo", "Cy", "ABC"[i % 3]] for i in range(count)]
        header = ["id", "question", "option_a", "option_b", "option_c", "answer"]
        (lists / f"{split}.csv").write_text(table([header, *cells], ","))
    form: Any = made(columns).format
    assert (form.context, form.stem, form.endings) == (("premise",), ("question",), ("choice1", "choice2"))
    form = made(lists).format
    assert (form.context, form.label, form.answers) == (("question",), "answer", ("A", "B", "C"))


def test_questions_in_squads_layout(tmp_path: Path, made: Callable[..., Task]) -> None:
    for name, answered in (("train-en", True), ("dev-en", False), ("test-hi", True)):
        asked = [{"id": f"{name}{i}", "question": f"Where is house {i}?", "answers": [] if i == 2 and not answered else
                  [{"text": "in Bern", "answer_start": 6}]} for i in range(6)]  # fmt: skip
        document = {"data": [{"title": "H", "paragraphs": [{"context": "It is in Bern.", "qas": asked}]}]}
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    form: Any = made(tmp_path).format
    assert (form.name, form.no_answer) == ("span", True)


TOKENS = {
    "BIO": ("Ada B-PER\nLee I-PER\nran O\n\nRome B-LOC\nfell O\n\n", ".conll", "chunk_f1"),
    "four columns": ("EU\tNNP\tB-NP\tB-ORG\nruns\tVBZ\tO\tO\n\nIt\tPRP\tO\tO\nis\tVBZ\tO\tO\n\n", ".txt", "chunk_f1"),
    "numbers first": ("1\tAda\tB-PER\tO\n2\tran\tO\tO\n\n1\tBo\tB-PER\tO\n2\tsat\tO\tO\n\n", ".tsv", "chunk_f1"),
    "bare types": ("Ada PER\nran O\n\nRome LOC\nfell O\nagain O\n\n", ".txt", "token_accuracy"),
    "UD": ("# text = Dogs ran\n1\tDogs\tdog\tNOUN\t_\t_\t2\tnsubj\t_\t_\n2\tran\trun\tVERB\t_\t_\t0\troot\t_\t_\n\n",
           ".conllu", "chunk_f1"),
}  # fmt: skip


@pytest.mark.parametrize("kind", TOKENS)
def test_files_with_a_word_a_line(kind: str, tmp_path: Path, made: Callable[..., Task]) -> None:
    sentences, suffix, metric = TOKENS[kind]
    for name in ("train", "dev", "test_fi"):
        (tmp_path / f"{name}{suffix}").write_text(sentences * 3)
    task = made(tmp_path)
    assert (task.format.name, task.metric) == ("tag", metric)
    assert (task.languages, task.train_languages) == (("fi",), ("en",))


def test_other_spellings_and_other_columns_of_some_files(tmp_path: Path, made: Callable[..., Task]) -> None:
    (tmp_path / "train.en.csv").write_text("text,label\n" + "so nice,good\nso bad,bad\n" * 4)
    (tmp_path / "test.en.csv").write_text("text,label\nwell done,Good\nawful,bad\n")
    (tmp_path / "test.da.csv").write_text("Review,Rating\nmeget fint,good\nsurt,bad\n")
    task = made(tmp_path)
    form: Any = task.format
    assert (form.labels, form.spellings) == (("bad", "good"), {"Good": "good"})
    assert task.data["test"].layouts[0][0].columns in (None, {"text": "Review", "label": "Rating"})


def test_a_column_of_languages_parts_the_rows(tmp_path: Path, made: Callable[..., Task]) -> None:
    rows = [["lang", "text", "label"]]
    rows += [[("en", "de", "sw")[i % 3], f"row {i} of many", ("a", "b")[i // 3 % 2]] for i in range(240)]
    (tmp_path / "all.csv").write_text(table(rows, ","))
    task = made(tmp_path)
    assert set(task.languages) == {"en", "de", "sw"} and task.train_languages == ("en",)


DEV = {
    "of both": (("train.en", "dev.en", "dev.de", "test.de"), ("en",)),
    "of the test language": (("train.en", "dev.de", "test.de"), ("de",)),
    "of the training language": (("train.en", "dev.en", "test.de", "test.sw"), ("en",)),
    "of all": (("train.en", "dev.en", "dev.de", "test.de", "test.en"), ("en", "de")),
    "of some": (("train.en", "dev.en", "dev.de", "test.de", "test.en", "test.sw"), ("en",)),
}


@pytest.mark.parametrize("kind", DEV)
def test_dev_data_are_in_the_language_that_their_names_say(
    kind: str, tmp_path: Path, made: Callable[..., Task]
) -> None:
    names, languages = DEV[kind]
    for name in names:
        (tmp_path / f"{name}.csv").write_text("text,label\n" + "".join(f"{name} {i},{'xy'[i % 2]}\n" for i in range(6)))
    task = made(tmp_path)
    assert (task.languages_of("dev"), task.train_languages) == (languages, ("en",))


def test_a_column_with_one_language_says_the_language_of_a_file(tmp_path: Path, made: Callable[..., Task]) -> None:
    for name, code in (("train", "de"), ("test", "sw")):
        rows = [f"row {i} of many,{'xy'[i % 2]},{code}" for i in range(12)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,label,language", *rows]) + "\n")
    task = made(tmp_path)
    assert (task.train_languages, task.languages) == (("de",), ("sw",))


def test_a_file_without_a_split_in_its_name_is_the_training_data(
    tmp_path: Path, made: Callable[..., Task], xstilts: Callable[..., CliResult]
) -> None:
    """A second such file, or one of another kind, is left out."""
    write = labelled(5, ".csv", HEADERS[0], LABELS[0], False)
    for name, count in (("opinions", 80), ("test.de", 9), ("test.sw", 9)):
        (tmp_path / f"{name}.csv").write_text(write(count), encoding="utf-8")
    (tmp_path / "README.txt").write_text("Opinions of friends.\n")
    task = made(tmp_path)
    assert (task.name, task.languages, task.train_languages) == ("my-opinions", ("en", "de", "sw"), ("en",))
    assert [task.languages_of(split) for split in ("train", "dev")] == [("en",), ("en",)]
    (tmp_path / "test.en.csv").write_text(write(9), encoding="utf-8")
    task = made(tmp_path)
    assert task.data.keys() == {"train", "test"} and task.data["train"].layouts[0][0].part is None
    (tmp_path / "notes.csv").write_text(write(9), encoding="utf-8")
    out = xstilts("new", "task", tmp_path).out
    assert "): test en de sw\n" in out and "/notes.csv: left out, because its name says no language" in out


def test_dev_data_that_the_task_cannot_have_are_named(tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    write = labelled(6, ".csv", HEADERS[0], LABELS[0], False)
    for name in ("train.en", "dev.en", "dev.fi", "dev.ta", "test.en"):
        (tmp_path / f"{name}.csv").write_text(write(8), encoding="utf-8")
    result = xstilts("new", "task", tmp_path)
    assert "dev en, test en\nnote: dev data left out, because they have no test data: fi, ta\n" in result.out


@pytest.mark.parametrize(
    ("dev", "lacks"),
    [([], ", and the first run counts as the best"), (["fi", "ta"], ""), (["en"], None)],
)
def test_dev_data_that_lack_in_the_training_language_are_named(
    dev: list[str], lacks: str | None, tmp_path: Path, xstilts: Callable[..., CliResult]
) -> None:
    write = labelled(6, ".csv", HEADERS[0], LABELS[0], False)
    for name in ("train.en", "test.fi", "test.ta", *(f"dev.{code}" for code in dev)):
        (tmp_path / f"{name}.csv").write_text(write(8), encoding="utf-8")
    out = xstilts("new", "task", tmp_path).out
    assert ("no dev data" in out) == (lacks is not None)
    assert lacks is None or f"note: no dev data in en, the training language: no early stopping{lacks}\n" in out


def test_a_column_says_the_split_of_each_row(tmp_path: Path, made: Callable[..., Task]) -> None:
    splits = ("train", "train", "valid", "test")
    rows = [[f"It is {i} now", "dry" if i % 3 else "wet", splits[i % 4]] for i in range(40)]
    (tmp_path / "days.csv").write_text(table([["text", "weather", "fold"], *rows], ","))
    task = made(tmp_path / "days.csv")
    assert (task.format.inputs, task.scored) == (("text",), ("dev", "test")), "different values share no rows"
    wheres = {split: source.layouts[0][0].where for split, source in task.data.items()}
    assert wheres == {"train": {"fold": "train"}, "dev": {"fold": "valid"}, "test": {"fold": "test"}}


def test_a_header_between_the_rows_is_no_label(tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    (tmp_path / "train.csv").write_text("text,label\nso nice,good\nso bad,bad\nso long,fine\n" * 3)
    assert xstilts("new", "task", tmp_path).code == 0
    (task,) = from_yaml(next(tmp_path.glob("*.yaml")), TASKS).values()
    assert getattr(task.format, "labels", ()) == ("bad", "fine", "good")
    result = xstilts("data", "check", "--use", next(tmp_path.glob("*.yaml")))
    assert result.code == 2 and "train.csv:5: unknown label 'label'" in result.err


def test_a_label_may_have_its_columns_name(tmp_path: Path, made: Callable[..., Task]) -> None:
    rows = [f"it is mail number {i},{('spam', 'ham')[i % 2]}" for i in range(60)]
    (tmp_path / "mails.csv").write_text("\n".join(["text,spam", *rows]) + "\n")
    assert getattr(made(tmp_path).format, "labels", ()) == ("ham", "spam")


def test_a_column_with_one_value_has_no_labels(tmp_path: Path, made: Callable[..., Task]) -> None:
    rows = [f"{i},Climate,it is day {i} now,{('FAVOR', 'AGAINST')[i % 2]}" for i in range(60)]
    (tmp_path / "stance.csv").write_text("\n".join(["ID,Target,Tweet,Stance", *rows]) + "\n")
    form: Any = made(tmp_path).format
    assert (form.texts, form.label) == (("Tweet",), "Stance")


def test_truth_values_are_labels(tmp_path: Path, made: Callable[..., Task]) -> None:
    rows = [json.dumps({"text": f"it is day {i}", "toxic": i % 2 == 0}) for i in range(60)]
    (tmp_path / "toxic.jsonl").write_text("\n".join(rows))
    assert getattr(made(tmp_path).format, "labels", ()) == ("False", "True")


def test_names_say_split_and_language() -> None:
    names = ["a/train.en.tsv", "dev_sw.csv", "test.de.jsonl.gz", "my_train.csv", "pt-BR/test.json", "is.train.tsv"]
    found = named([Path(name) for name in names], names, [])
    assert [(file.split, file.language) for file in found] == [
        ("train", "en"), ("dev", "sw"), ("test", "de"), ("train", ""), ("test", "pt-BR"), ("train", ""),
    ]  # fmt: skip
    names = ["bg_btb-ud-test.conllu", "af_afribooms-ud-dev.conllu"]
    treebanks = named([Path(name) for name in names], names, [])
    assert [(file.split, file.language) for file in treebanks] == [("test", "bg"), ("dev", "af")]
    names = ["is.train.tsv", "it.train.tsv", "train.ceb.csv"]
    assert [file.language for file in named([Path(name) for name in names], names, ["ceb"])] == ["is", "it", "ceb"]


def refused(xstilts: Callable[..., CliResult], folder: Path, name: str, content: str, *options: str) -> str:
    """What the user reads of a file for which nothing is written."""
    (folder / name).write_text(content)
    result = xstilts("new", "task", folder / name, *options)
    assert result.code == 2 and not list(folder.glob("*.yaml")), result
    (line,) = result.err.splitlines()
    return line


REFUSED = {
    "no labels": ("a.csv", "name,remark\nAnn Lee,likes it a lot\nBo Ray,never came back\n", "name it with --label"),
    "two of few values": (
        "a.csv", "x,kind,mood,remark\n" + "".join(f"{i},{'ab'[i % 2]},{'cd'[i % 2]},it is {i} now\n" for i in range(9)),
        "name the column with --label"),
    "one label": ("a.csv", "text,label\nso,good\nfine,good\n", "has only the label 'good'"),
    "measured numbers": (
        "a.csv", "text,score\n" + "".join(f"day {i},{i}.25\n" for i in range(40)), "which are no labels"),
    "answers as text": (
        "a.jsonl", '{"context": "Ann is here.", "question": "Who?", "answer": "Ann"}\n', "answer_start"),
    "numbered sentences": ("a.csv", "Sentence #,Word,POS,Tag\n" + "S1,Ann,N,B-PER\n,ran,V,O\n" * 9, "as .tsv"),
    "a word a row": ("a.csv", "word,tag\nAnn,B-PER\nran,O\n", "as .tsv"),
    "semicolons": ("a.csv", "text;label\nso;good\nbad;bad\n", "has semicolons"),
    "nothing": ("a.tsv", "", "is empty"),
    "words alone": ("test.sw.tsv", "Juma\nanalala\n\nAnna\nanakula\n", "has a single column, so no labels"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_one_sentence_says_what_to_name_where_no_guess_is_possible(
    kind: str, tmp_path: Path, xstilts: Callable[..., CliResult]
) -> None:
    name, content, hint = REFUSED[kind]
    assert hint in refused(xstilts, tmp_path, name, content)


def test_options_name_what_cannot_be_guessed(tmp_path: Path, made: Callable[..., Task]) -> None:
    path = tmp_path / "notes.csv"
    rows = "".join(f"Ann Lee,likes it {i} times,in\nBo Ray,came back on day {i},out\n" for i in range(40))
    path.write_text(f"who,remark,verdict\n{rows}")
    task = made(path, "--label", "verdict", "--text", "who", "--text", "remark", "--lang", "ceb", "--name", "mine")
    assert (task.name, task.format.inputs, task.languages) == ("mine", ("who", "remark"), ("ceb",))


def test_no_file_is_overwritten(tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    (tmp_path / "notes.csv").write_text("text,label\n" + "so,good\nno,bad\n" * 30)
    first = xstilts("new", "task", tmp_path / "notes.csv")
    file = tmp_path / "my-notes.yaml"
    assert first.code == 0 and f"xstilts new recipe {file}" in first.out and file.read_text().startswith("# Guessed")
    file.write_text("mine: {}\n")
    again = xstilts("new", "task", tmp_path / "notes.csv")
    assert again.code == 2 and "exists already (--out names another file)" in again.err
    assert file.read_text() == "mine: {}\n"


def test_sorted_rows_are_noted(tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    path = tmp_path / "sorted.csv"
    path.write_text("text,label\n" + "".join(f"day {i},{'dry' if i < 60 else 'wet'}\n" for i in range(90)))
    result = xstilts("new", "task", path)
    assert result.code == 0 and "note: the rows are sorted by label" in result.out


def test_new_task_loads_no_torch(tmp_path: Path) -> None:
    (tmp_path / "notes.csv").write_text("text,label\n" + "so,good\nno,bad\n" * 30)
    assert re.search("^correct its guesses", without_torch("new", "task", tmp_path / "notes.csv"), re.MULTILINE)


def test_paths_without_data(tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    result = xstilts("new", "task", tmp_path / "absent.csv")
    assert result.code == 2 and "absent.csv: no such file or folder" in result.err
    result = xstilts("new", "task", tmp_path)
    assert result.code == 2 and "has no data files (known: .bio, " in result.err
    (tmp_path / "a.csv").write_text("text,label\nso,good\nno,bad\n")
    result = xstilts("new", "task", tmp_path / "a.csv", "--lang", "german")
    assert result.code == 2 and "--lang: unknown language 'german' (write de)" in result.err
    result = xstilts("new", "task", tmp_path / "a.csv", "--label", "labl")
    assert result.code == 2 and "has no column 'labl' (did you mean 'label'?)" in result.err
