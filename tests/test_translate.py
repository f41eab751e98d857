"""Translation of task data: every format, engines, resuming, cards and task entries, and what is refused."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import CliResult, without_torch
from xstilts.data.examples import locate
from xstilts.tasks.user_tasks import with_user_tasks
from xstilts.translate.card import Card
from xstilts.translate.engine import CommandEngine
from xstilts.translate.translator import split_sentences

Cli = Callable[..., CliResult]

PROGRAM = """\
import pathlib, sys
folder = pathlib.Path(__file__).parent
lines = sys.stdin.read().split("\\n")[:-1]
with (folder / "log").open("a") as log:
    log.write("".join(line + "\\n" for line in lines))
if (folder / "broken").exists() and any("bridge" in line for line in lines):
    sys.exit("the bridge is closed")
for line in lines:
    if line == "Nothing.":
        print()
    elif line == "Two at once.":
        print("ZWEI\\nZUGLEICH")
    else:
        print(line if "Same" in line else line.upper())
"""


@pytest.fixture
def program(tmp_path: Path) -> str:
    """A command that writes capitals, and notes in `log` what it read."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "capitals.py").write_text(PROGRAM, encoding="utf-8")
    return f"{sys.executable} {folder}/capitals.py"


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """A task file with English reviews for training and dev."""
    (tmp_path / "train.tsv").write_text(
        'text\tlabel\nA fine old inn.\tgood\nThe "soup" was cold.\tbad\nA fine old inn.\tgood\n', encoding="utf-8"
    )
    (tmp_path / "dev.tsv").write_text("Never again.\tbad\nA fine old inn.\tgood\n", encoding="utf-8")
    path = tmp_path / "mine.yaml"
    path.write_text(
        "reviews: {format: classify, texts: [text], labels: [good, bad], data: {train: train.tsv, dev: dev.tsv}}\n",
        encoding="utf-8",
    )
    return path


def files(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir() if path.suffix != ".md"}


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def translated(folder: Path, task: str, name: str, split: str, code: str) -> list[Any]:
    """The examples of a translated split, read by way of the written task entry."""
    found = with_user_tasks([folder / f"{task}.yaml"])[name]
    return locate(found, found.data[split], (code,), None).read()  # type: ignore[index]


@pytest.mark.parametrize(
    ("task", "dataset"),
    [("play-nli", "nli"), ("play-choice", "choice"), ("play-questions", "questions"), ("play-maybe", "maybe"),
     ("play-ner", "ner")],
)  # fmt: skip
@pytest.mark.parametrize("code", ["qaa", "qaf"])
def test_the_playgrounds_data_come_out_as_the_playground_says_them(
    task: str, dataset: str, code: str, tmp_path: Path, xstilts: Cli
) -> None:
    """Also the answers' places and the words of every name, which lie elsewhere in a verb-final language."""
    arguments = ("--to", code, "--split", "dev", "--engine", "playground", "--out", tmp_path)
    assert xstilts("translate", task, *arguments).code == 0
    own = with_user_tasks([])[task]
    expected = locate(own, own.data["dev"], (code,), None).read()
    assert translated(tmp_path, task, f"{task}-{code}", "dev", code) == [
        example._replace(id=None) if dataset in ("nli", "choice", "ner") else example for example in expected
    ]


def test_texts_are_translated_once_and_labels_stay(tmp_path: Path, program: str, reviews: Path, xstilts: Cli) -> None:
    out = tmp_path / "out"
    command = ("translate", "reviews", "--to", "de", "--engine", "command", "--command", program, "--out", out)
    result = xstilts(*command, "--use", reviews)
    assert result.code == 0
    assert rows(out / "reviews/train-de.jsonl") == [
        {"text": "A FINE OLD INN.", "label": "good"}, {"text": 'THE "SOUP" WAS COLD.', "label": "bad"},
        {"text": "A FINE OLD INN.", "label": "good"},
    ]  # fmt: skip
    assert [row["text"] for row in rows(out / "reviews/dev-de.jsonl")] == ["NEVER AGAIN.", "A FINE OLD INN."]
    log = (tmp_path / "bin/log").read_text(encoding="utf-8").splitlines()
    assert log == ["A fine old inn.", 'The "soup" was cold.', "Never again."]  # the shortest of a split first
    assert "train-de.jsonl: 3 rows, 0 left out; 3 lines, 0 unchanged, 0 empty, 0 cut" in result.out

    card = json.loads(files(out / "reviews")["card.json"])["files"]
    assert [(one["file"], one["source"], one["target"], one["rows"]) for one in card] == [
        ("train-de.jsonl", "en", "de", 3), ("dev-de.jsonl", "en", "de", 2),
    ]  # fmt: skip
    assert card[0]["engine"]["command"] == program and card[0]["date"]
    assert "from en to de" in (out / "reviews/README.md").read_text(encoding="utf-8")

    again = xstilts(*command, "--use", reviews)
    assert again.out == result.out  # and nothing was translated again
    assert len((tmp_path / "bin/log").read_text(encoding="utf-8").splitlines()) == 3
    examples = with_user_tasks([reviews, out / "reviews.yaml"])["reviews-de"]
    assert (examples.languages, examples.train_languages, examples.like) == (("de",), ("de",), "reviews")


def test_a_translated_task_is_trained_as_its_original(tmp_path: Path, xstilts: Cli) -> None:
    """Otherwise a table would compare settings, where it should compare languages."""
    arguments = ("--to", "qaa", "--engine", "playground", "--limit", "9", "--out", tmp_path)
    assert xstilts("translate", "play-nli", *arguments).code == 0
    (tmp_path / "recipe.yaml").write_text(
        "name: two\nencoder: some/encoder\nseeds: [1]\nuse: [play-nli.yaml]\nevaluate: [play-same]\nphases:\n"
        "  - {name: intermediate, choices: [[play-nli], [play-nli-qaa]]}\n  - {name: target, each: [play-same]}\n",
        encoding="utf-8",
    )
    steps = json.loads(xstilts("plan", tmp_path / "recipe.yaml", "--json").out)["steps"]
    trainings = [step["training"] for step in steps if step["kind"] == "train" and "play-same" not in step["title"]]
    original, translation = ({**one["parts"][0], "lr": one["lr"]} for one in trainings)
    assert translation.pop("task") == "play-nli-qaa" and original.pop("task") == "play-nli"
    assert translation == original


def test_a_limit_that_a_file_reaches_stands_beside_its_rows(
    tmp_path: Path, program: str, reviews: Path, xstilts: Cli
) -> None:
    """Otherwise a table would compare all rows in English with a few in translation, and nothing would tell."""
    out = tmp_path / "out"
    command = ("translate", "reviews", "--to", "de", "--engine", "command", "--command", program, "--out", out)
    result = xstilts(*command, "--use", reviews, "--limit", "3")  # three rows for training, two dev rows
    assert "train-de.jsonl: 3 rows (--limit), 0 left out" in result.out
    assert "dev-de.jsonl: 2 rows, 0 left out" in result.out
    page = (out / "reviews/README.md").read_text(encoding="utf-8")
    assert "3 rows (--limit), 0 left out" in page and page.count("from en") == page.count("to de") == 2


def test_columns_of_a_file_get_the_names_of_the_format(
    tmp_path: Path, program: str, reviews: Path, xstilts: Cli
) -> None:
    """A column with another name, and one that stays in English, would both be read wrongly beside the translation."""
    table = 'Review,Stars,URL\n"So, ""no""\nagain",bad,a.com\n'
    (tmp_path / "dev.csv").write_text(table, encoding="utf-8")
    source = "{path: dev.csv, columns: {text: Review, label: Stars}}"
    reviews.write_text(reviews.read_text(encoding="utf-8").replace("dev.tsv", source), encoding="utf-8")
    arguments = ("--to", "de", "--engine", "command", "--command", program, "--out", tmp_path / "out", "--use", reviews)
    assert xstilts("translate", "reviews", *arguments, "--split", "dev").code == 0
    assert rows(tmp_path / "out/reviews/dev-de.jsonl") == [{"text": 'SO, "NO"\nAGAIN', "label": "bad"}]


def test_words_in_brackets_and_formulas_are_no_text_of_the_language(
    tmp_path: Path, program: str, reviews: Path, xstilts: Cli
) -> None:
    """Apertium makes `[Encabezamiento]` of HellaSwag's `[header]`, and bronze of the tangent in QQP's formulas."""
    text = r"[header] How to sail [title] Find [a] boat. [step] Is [math]2\tan x = 1[/math] right [see] there?"
    (tmp_path / "dev.tsv").write_text(f"{text}\tgood\n[math]x[/math]\tbad\n", encoding="utf-8")
    arguments = ("--engine", "command", "--command", program, "--out", tmp_path / "out", "--use", reviews)
    assert xstilts("translate", "reviews", "--to", "de", "--split", "dev", *arguments).code == 0
    assert [row["text"] for row in rows(tmp_path / "out/reviews/dev-de.jsonl")] == [
        r"[header] HOW TO SAIL [title] FIND [A] BOAT. [step] IS [math]2\tan x = 1[/math] RIGHT [SEE] THERE?",
        "[math]x[/math]",
    ]


def test_a_killed_translation_goes_on_where_it_was(tmp_path: Path, program: str, reviews: Path, xstilts: Cli) -> None:
    lines = [f"Number {i:03} is fine.\tgood\n" for i in range(300)] + ["Over the long bridge we went.\tbad\n"]
    (tmp_path / "train.tsv").write_text("".join(lines), encoding="utf-8")
    out, log = tmp_path / "out", tmp_path / "bin/log"
    command = ("translate", "reviews", "--to", "de", "--split", "train,dev", "--engine", "command", "--command",
               program, "--out", out, "--use", reviews)  # fmt: skip
    (tmp_path / "bin/broken").touch()
    failed = xstilts(*command)
    assert (failed.code, "exit code 1 (the bridge is closed)" in failed.err) == (2, True)
    assert not (out / "reviews").exists() or not list((out / "reviews").glob("train*"))
    (finished,) = (out / ".lines").iterdir()
    with finished.open("ab") as file:
        file.write(b'["Over the long bridge we')  # as a kill in the middle of a line leaves it
    (tmp_path / "bin/broken").unlink()
    log.unlink()
    assert xstilts(*command).code == 0
    sent = log.read_text(encoding="utf-8").splitlines()
    assert sent == [f"Number {i:03} is fine." for i in range(256, 300)] + [
        "Over the long bridge we went.", "Never again.", "A fine old inn.",
    ]  # fmt: skip
    assert (out / "reviews/train-de.jsonl").read_text(encoding="utf-8").count("\n") == 301


def test_empty_and_unchanged_lines_are_counted_and_rows_without_text_left_out(
    tmp_path: Path, program: str, reviews: Path, xstilts: Cli
) -> None:
    (tmp_path / "train.tsv").write_text("Nothing.\tbad\nThe Same Inn.\tgood\n1999\tgood\n", encoding="utf-8")
    arguments = ("--engine", "command", "--command", program, "--out", tmp_path / "out", "--use", reviews)
    result = xstilts("translate", "reviews", "--to", "de", *arguments)
    assert "train-de.jsonl: 2 rows, 1 left out; 2 lines, 1 unchanged, 1 empty, 0 cut" in result.out
    assert [row["text"] for row in rows(tmp_path / "out/reviews/train-de.jsonl")] == ["The Same Inn.", "1999"]


@pytest.mark.parametrize(
    ("text", "message"),
    [("Two at once.", "returned 2 lines, not 1, of: Two at once."),
     ("The Same old text again, number {}.", "25 of 26 lines came back unchanged, such as: The Same old text")],
)  # fmt: skip
def test_an_engine_that_does_not_translate_is_refused(
    text: str, message: str, tmp_path: Path, program: str, reviews: Path, xstilts: Cli
) -> None:
    rows = [text.format(i) for i in range(25)] if "{}" in text else ["A fine old inn.", text, "A cold soup."]
    rows.append("This one is different.")
    (tmp_path / "train.tsv").write_text("".join(f"{row}\tgood\n" for row in rows), encoding="utf-8")
    arguments = ("--engine", "command", "--command", program, "--out", tmp_path / "out", "--use", reviews)
    result = xstilts("translate", "reviews", "--to", "de", *arguments)
    assert (result.code, message in result.err) == (2, True), result.err
    assert not (tmp_path / "out/reviews/train-de.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("play-nli", "--to", "qax"), "cannot translate to 'qax' (did you mean 'qa"),
        (("play-nli", "--to", "german"), "--to: 'german' is not a language code (write de)"),
        (("play-nli", "--to", "en"), "--to: translates en to itself"),
        (("play-nli", "--to", "qaa", "--from", "fr"), "train is not in 'fr'"),
        (("play-nli", "--to", "qaa", "--split", "trian"), "no split 'trian' (did you mean 'train'?)"),
        (("play-nli", "--to", "qaa", "--markers", "html"), "the format classify has no spans to mark"),
        (("play-text", "--to", "qaa"), "play-text: has the format mask: use text that was"),
        (("play-parallel", "--to", "qaa"), "play-parallel: has the format retrieve: its sentences are translations"),
        (("play-pos", "--to", "qaa", "--markers", "letters"), "marks a word, not an entity (markers project entities"),
        (("play-nli", "--to", "qaa", "--command", "cat"), "--command: cannot be used with --engine playground"),
        (("qqp", "--to", "qaa", "--split", "test"), "qqp: has no test data"),
        (("play-questions", "--to", "qaa", "--split", "dev", "--markers", "brackets"), "does not know"),
    ],
)  # fmt: skip
def test_mistakes_are_named(arguments: tuple[str, ...], message: str, tmp_path: Path, xstilts: Cli) -> None:
    result = xstilts("translate", *arguments, "--engine", "playground", "--out", tmp_path / "out")
    assert (result.code, message in result.err) == (2, True), result.err


def test_engines_that_are_not_there(tmp_path: Path, xstilts: Cli) -> None:
    for engine, message in [
        (("--engine", "command"), "--engine command: needs --command (such as 'apertium -u eng-spa')"),
        (("--engine", "command", "--command", "no-such-mt x"), "the program no-such-mt is not installed"),
        (("--engine", "command", "--command", "'open"), "--command: cannot be read: No closing quotation"),
        (("--engine", "hf"), "--engine hf: needs --model"),
        (("--to", "qaa,qab", "--engine", "command", "--command", "tr a-z A-Z"), "--command: is the same for qaa, qab"),
    ]:
        result = xstilts("translate", "play-nli", "--to", "qaa", *engine, "--out", tmp_path / "out")
        assert (result.code, message in result.err) == (2, True), result.err
    assert not (tmp_path / "out").exists()


def test_translated_and_original_files_do_not_mix(tmp_path: Path, program: str, reviews: Path, xstilts: Cli) -> None:
    out = tmp_path / "out"
    capitals = ("--engine", "command", "--command", program, "--use", reviews, "--out", out)
    alone = xstilts("translate", "reviews", "--to", "de", "--split", "dev", *capitals)
    assert alone.code == 0
    other = xstilts("translate", "reviews", "--to", "de", "--engine", "command", "--command", "cat", *capitals[4:])
    assert (other.code, "dev-de.jsonl: was made by another engine" in other.err) == (2, True)
    (out / "reviews/train-en.tsv").write_text("My own.\tgood\n", encoding="utf-8")
    mixed = xstilts("translate", "reviews", "--to", "de", *capitals)
    assert (mixed.code, "has train-en.tsv, which no translation wrote" in mixed.err) == (2, True)

    text = "tested: {like: reviews, data: {test: dev.tsv}}\n"
    reviews.write_text(reviews.read_text(encoding="utf-8") + text, encoding="utf-8")
    half = xstilts("translate", "tested", "--to", "de", "--split", "dev", *capitals)
    assert (half.code, "(translate both: --split dev,test)" in half.err) == (2, True)
    trained = xstilts("translate", "tested", "--to", "de", "--split", "train", *capitals)
    assert (trained.code, "train would be translated, but dev the original" in trained.err) == (2, True)


def test_two_runs_into_one_folder_keep_both_files(tmp_path: Path, program: str, reviews: Path, xstilts: Cli) -> None:
    """The second reads the card before the first has written its file."""
    out, task = tmp_path / "out", with_user_tasks([reviews])["reviews"]
    second = Card.load(out, task)
    arguments = ("--engine", "command", "--command", program, "--out", out, "--use", reviews)
    assert xstilts("translate", "reviews", "--to", "de", *arguments).code == 0
    made = Card.load(out, task).files[0]
    second.add(made.model_copy(update={"file": "train-sw.jsonl", "language": "sw", "target": "sw"}))
    assert second.write_entries() == ["reviews-de", "reviews-sw"]


def test_translation_into_the_training_language_keeps_the_language_of_the_scores(
    tmp_path: Path, program: str, xstilts: Cli
) -> None:
    task = tmp_path / "mine.yaml"
    task.write_text(
        "moods: {format: classify, texts: [text], labels: [good, bad], languages: [de, sw],"
        ' data: {train: en.tsv, dev: "{lang}.tsv"}}\n',
        encoding="utf-8",
    )
    for code in ("en", "de", "sw"):
        (tmp_path / f"{code}.tsv").write_text(f"Words in {code}.\tgood\n", encoding="utf-8")
    arguments = ("--engine", "command", "--command", program, "--out", tmp_path / "out", "--use", task)
    assert xstilts("translate", "moods", "--from", "de,sw", "--to", "en", *arguments).code == 0
    found = with_user_tasks([task, tmp_path / "out/moods.yaml"])["moods-to-en"]
    assert (found.languages, found.train_languages) == (("de", "sw"), ("en",))
    assert found.note == (f"translated from de to en by {program}; from sw to en by {program}; see moods/README.md"), (
        "the note of the report names both languages"
    )
    assert [example.texts for example in locate(found, found.data["dev"], ("sw",), None).read()] == [("WORDS IN SW.",)]


def test_translated_dev_sets_leave_early_stopping_its_english_data(tmp_path: Path) -> None:
    """They are in no training language; the task that they replace has others."""
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        'nli-to-en: {like: xnli, languages: [sw], data: {dev: "dev-{lang}.jsonl", test: "test-{lang}.jsonl"}}\n'
        'pairs-to-en: {like: pawsx, languages: [de], data: {dev: "dev-{lang}.jsonl"}}\n'
        'own: {like: pawsx, languages: [en, de], data: {dev: "dev-{lang}.jsonl"}}\n',
        encoding="utf-8",
    )
    tasks = with_user_tasks([mine])
    assert tasks["nli-to-en"].stop_source() == tasks["xnli"].stop_source()
    assert tasks["pairs-to-en"].stop_source() == tasks["pawsx"].data["dev"]
    assert tasks["own"].stop_source() == tasks["own"].data["dev"]


def test_the_command_loads_no_torch(tmp_path: Path) -> None:
    without_torch("translate", "play-nli", "--to", "qaa", "--engine", "playground", "--limit", "4", "--out", tmp_path)
    assert len((tmp_path / "play-nli/train-qaa.jsonl").read_text(encoding="utf-8").splitlines()) == 4


@pytest.mark.usefixtures("apertium")
def test_apertium_translates_each_line_by_itself() -> None:
    """In `The cat sleeps` before another line it reads a verb, alone a noun: neighbours must make no difference."""
    engine = CommandEngine("apertium -u {from3}-{to3}", "en", "es")
    lines = ["The cat sleeps", "A red house", "Is it [good] @ home?"]
    assert engine.translate(lines) == [line for text in lines for line in engine.translate([text])]
    assert engine.translate(["A red house"])[0].text == "Una casa roja"
    assert engine.identity["version"].startswith("Apertium 3")


@pytest.mark.usefixtures("apertium")
def test_apertium_without_the_pair_or_with_marks(tmp_path: Path, xstilts: Cli) -> None:
    for command, message in [
        ("apertium -u eng-spo", "Apertium has no pair eng-spo (did you mean 'eng-spa'?"),
        ("apertium -u spa-eng", "spa-eng is not en to es (write apertium -u {from3}-{to3})"),
        ("apertium eng-spa", "without -u puts a * before unknown words (write apertium -u eng-spa)"),
        (f"{shutil.which('apertium')} eng-spa", "without -u puts a * before unknown words"),
    ]:
        arguments = ("--engine", "command", "--command", command, "--out", tmp_path)
        result = xstilts("translate", "play-nli", "--to", "es", *arguments)
        assert (result.code, message in result.err) == (2, True), result.err


def test_texts_for_a_model_are_split_into_sentences_but_not_inside_tags() -> None:
    text = "He left. Then <b>Dr. No. and she</b> came! What now?"
    assert split_sentences(text, "en") == ["He left.", "Then <b>Dr. No. and she</b> came!", "What now?"]


@pytest.mark.slow
def test_the_pages_study_of_translated_intermediate_tasks_runs(
    tmp_path: Path, xstilts: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With fewer updates: every language has its part of Table 3, and its row of Table 15."""
    page = (Path(__file__).parents[1] / "docs/translation.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^xstilts (translate play-(?:same|nli) --to qaa,qae .*)$", page, re.MULTILINE)
    assert len(commands) == 2 and all(xstilts(*command.split()).code == 0 for command in commands)
    recipe = re.search(r"```yaml\n(name: play-translated\n.*?)```", page, re.DOTALL)
    assert recipe
    text = re.sub(r"(steps|eval_every): \d+", r"\1: 4", recipe[1]).replace("[1, 2, 3]", "[1]")
    (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
    assert xstilts("run", "recipe.yaml", "--workers", "1").code == 0
    lines = json.loads(xstilts("report", "runs", "--layout", "table3", "--format", "json").out)["lines"]
    shown = {(line["language"], line["branch"]) for line in lines if line["task"] == "play-pos"}
    assert shown == {
        (language, branch)
        for language in ("en", "qaa", "qae")
        for task in ("play-same", "play-nli")
        for branch in ("none", task, *([] if language == "en" else [f"{task}-{language}"]))
    }
    lines = json.loads(xstilts("report", "runs", "--layout", "table15", "--format", "json").out)["lines"]
    assert {(line["task"], line["language"]) for line in lines} == {
        (task, language) for task in ("play-same", "play-nli") for language in ("en", "qaa", "qae")
    }
