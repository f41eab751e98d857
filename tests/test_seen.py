"""Tags in a row and entities, by whether the training data have them: by hand, in a run folder, and as published."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from conftest import markdown_rows
from xstilts.analysis.seen import mean_and_difference
from xstilts.errors import UserError
from xstilts.formats.tag import Tagged
from xstilts.reports import StudyResults, layouts, published, render
from xstilts.reports.report import report
from xstilts.reports.seen_tables import least_difference
from xstilts.store.rows import Prediction, Score, write_rows
from xstilts.store.rows_only import copy_rows
from xstilts.store.run_folder import MARK, VERSION, Store
from xstilts.store.train_data import train_examples
from xstilts.study.index import Cell, Study, StudyTask
from xstilts.tasks.source import Source
from xstilts.utils.files import digest, write_atomic

TASK = StudyTask("words", "tag", "token_accuracy", ("token_accuracy",), ("en", "sw", "th"), "en")
STUDY = Study(
    "mine", "tiny", (1, 2), ("none",), "none", (TASK,), tuple(Cell("none", x, "words", f"s{x}") for x in (1, 2))
)


def row(language: str, index: int, predicted: str, gold: str, words: str = "", split="dev") -> Prediction:
    text = words.split() or None
    return Prediction("words", language, split, index, str(index), predicted.split(), gold.split(), text=text)


def scores(predictions: dict[str, list[Prediction]]) -> list[Score]:
    """A score row for each step, language and split; reports read only which there are."""
    keys = dict.fromkeys((step, x.language, x.split) for step, rows in predictions.items() for x in rows)
    return [
        Score("words", code, split, "token_accuracy", 50.0, 1, step, "tiny", int(step[1])) for step, code, split in keys
    ]


def show(layout: str, predictions: dict[str, list[Prediction]], train: Sequence[Tagged]):
    results = StudyResults(STUDY, scores(predictions), predictions.__getitem__, train_examples=lambda _: train)
    return layouts.show(results, layout)


TRAIN = [Tagged(tuple("abcd"), tuple("DNVP")), Tagged(tuple("abc"), tuple("NVD"))]
"""Trigrams DNV, NVP, NVD; one 4-gram, DNVP."""


def test_n_grams_of_tags_are_right_if_all_their_tags_are():
    en = row("en", 0, "D N V P D", "D N V P D")  # DNV, NVP seen, VPD not; DNVP seen, NVPD not: all right
    # sw: DNV is wrong at its second tag, NVD too, VDN is unseen and right; DNVD, NVDN are unseen and wrong
    first, second = row("sw", 0, "D X V D N", "D N V D N"), row("sw", 0, "D N V D X", "D N V D N")
    th = row("th", 0, "P", "P", split="test")  # too short for any
    document = show("tags", {"s1": [en, first, th], "s2": [en, second, th]}, TRAIN)
    shown = markdown_rows(render(document, "markdown"))
    assert shown["en English"] == ["100.0", "100.0", "100.0", "100.0"]
    # seed 1 has 0 of 2, 1 of 1, no seen 4-gram, 0 of 2; seed 2 has 2 of 2, 0 of 1 and 1 of 2; the medians lie between
    assert shown["sw Swahili"] == ["50.0", "50.0", "-", "25.0"]
    assert shown["th Thai‡"] == ["-"] * 4
    assert shown["zero-shot mean"] == ["50.0", "50.0", "-", "25.0"]
    assert shown["difference"] == ["50.0", "50.0", "-", "75.0"]
    assert [(x.set, x.n) for x in document.rows if x.language == "sw"] == [
        ("3-grams seen", 2), ("3-grams unseen", 1), ("4-grams seen", 0), ("4-grams unseen", 2),
    ]  # fmt: skip
    assert json.loads(render(document, "json"))["lines"][0]["accuracy"] == 100.0
    with pytest.raises(UserError, match="no task whose tags mark entities has labelled predictions"):
        show("entities", {"s1": [en], "s2": [en]}, TRAIN)


ENTITIES = [Tagged(("in", "New", "York", "for", "Ann"), ("O", "B-LOC", "I-LOC", "O", "B-PER"))]


def test_entities_are_in_five_sets_and_right_if_words_and_type_are():
    sw = [
        # New York City is seen (New York is an entity of the training), three words, Latin
        row("sw", 0, "B-LOC I-LOC I-LOC O", "B-LOC I-LOC I-LOC O", "New York City na"),
        # Ann is one word and so not seen; frequent with the next sentence, where its type is wrong
        row("sw", 1, "B-PER O", "B-PER O", "Ann alikuja"),
        row("sw", 2, "B-ORG", "B-PER", "Ann"),
        # Афины is short and not Latin; its end is wrong
        row("sw", 3, "B-LOC I-LOC", "B-LOC O", "Афины mji"),
    ]
    document = show("entities", {"s1": sw, "s2": sw}, ENTITIES)
    # seen 1 of 1; not seen 1 of 3; short 1 of 3; Latin 2 of 3; frequent 1 of 2; the least difference is 100 - 66.7
    assert markdown_rows(render(document, "markdown"))["sw Swahili†"] == [
        "100.0",
        "33.3",
        "66.7",
        "33.3",
        "66.7",
        "50.0",
        "33.3",
    ]
    assert [x.n for x in document.rows] == [1, 3, 3, 3, 2]
    assert "† a set has fewer than 100 entities" in document.legend
    with pytest.raises(UserError, match=r"words: the predictions have no words.*--with-text"):
        show("entities", {"s1": [row("sw", 0, "B-LOC", "B-LOC")], "s2": sw}, ENTITIES)
    with pytest.raises(UserError, match="no task that tags each word by itself has labelled predictions"):
        show("tags", {"s1": sw, "s2": sw}, ENTITIES)


def test_the_means_and_differences_are_those_of_xtreme_s_tables():
    table = published.table("table6", "xtreme")
    for _, kind in table.rows:
        values = {code: table.cells["", kind, code][0] for code in table.columns[:-2]}
        found = mean_and_difference(values, lambda code: code == "en")
        printed = [table.cells["", kind, name][0] for name in (published.AVERAGE, "difference")]
        assert found == pytest.approx(printed, abs=0.11), kind
    table = published.table("table7", "xtreme")
    for code in table.columns:
        values = {name: table.cells["", name, code][0] for _, name in table.rows}
        assert least_difference(values) == pytest.approx(values["seen - nearest"], abs=0.11), code


def run_folder(folder: Path, train: str, held_out: str | None = None) -> tuple[Store, Study]:
    """A run folder with one training on the file, and its evaluation."""
    write_atomic(folder / "data/train-en.tsv", train)
    source = Source.model_validate("train-{lang}.tsv")
    task = StudyTask("words", "tag", "token_accuracy", ("token_accuracy",), ("en", "sw"), "en", train=source)
    cells = (Cell("none", 1, "words", "score"),)
    study = Study("mine", "tiny", (1,), ("none",), "none", (task,), cells, steps={"score": ("train",), "train": ()})
    store = Store(folder / "runs")
    (folder / "runs").mkdir()
    write_atomic(folder / "runs" / MARK, json.dumps({"version": VERSION}))
    store.save_study(study)
    store.begin("train", {"training": {"parts": [{"task": "words"}]}})
    path = str(folder / "data/train-en.tsv")
    store.finish("train", {"inputs": {path: digest(path)}, "stop": {"words": {"held_out": held_out}}})
    store.begin("score", {"parent": "train"})
    write_rows(store.step("score") / "predictions.jsonl", [row("sw", 0, "D N V", "D N V")])
    write_rows(
        store.step("score") / "scores.jsonl",
        [Score("words", "sw", "dev", "token_accuracy", 100.0, 1, "score", "tiny", 1)],
    )
    store.finish("score", {})
    return store, study


SENTENCES = "a\tD\nb\tN\nc\tV\n\na\tN\n\n"


def test_the_training_data_are_those_that_the_training_read(tmp_path):
    store, study = run_folder(tmp_path, SENTENCES)
    again = store.study("mine")
    assert again == study
    read = train_examples(store, tmp_path / "data", again, again.tasks[0])
    assert [x.tags for x in read] == [("D", "N", "V"), ("N",)]
    with pytest.raises(UserError, match="--data"):
        train_examples(store, None, again, again.tasks[0])
    write_atomic(tmp_path / "data/train-en.tsv", SENTENCES + "d\tX\n\n")
    with pytest.raises(UserError, match=r"train-en.tsv: is not the file that the training of words read"):
        train_examples(store, tmp_path / "data", again, again.tasks[0])


def test_rows_held_out_for_early_stopping_are_no_training_data(tmp_path):
    store, study = run_folder(tmp_path, SENTENCES, held_out="2/2")
    assert [x.tags for x in train_examples(store, tmp_path / "data", study, study.tasks[0])] == [("D", "N", "V")]


def test_a_run_folder_of_an_earlier_version_says_to_run_again(tmp_path):
    store, study = run_folder(tmp_path, SENTENCES)
    earlier = StudyTask("words", "tag", "token_accuracy", ("token_accuracy",), ("en", "sw"), "en")
    with pytest.raises(UserError, match=r"words: the run folder does not name its training data.*run the recipe again"):
        train_examples(store, tmp_path / "data", study, earlier)


def test_a_report_reads_the_training_data_and_a_copy_has_none(tmp_path):
    store, study = run_folder(tmp_path, SENTENCES)
    shown = report(tmp_path / "runs", recipe="mine", layout="tags", data=tmp_path / "data")
    assert "words,none,sw,dev,3-grams seen,1,1,100.0\n" in shown.render("csv")
    copy_rows(store, study, tmp_path / "copy")
    assert Store(tmp_path / "copy").study("mine").tasks[0].train is None
    with pytest.raises(UserError, match="is a copy of rows, without predictions"):
        report(tmp_path / "copy", recipe="mine", layout="tags", data=tmp_path / "data")
