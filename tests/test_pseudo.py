"""The layout `pseudo`: translated test sets beside real ones, with a median and a mean computed by hand."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from conftest import CliResult
from xstilts.errors import UserError
from xstilts.render.table import Document
from xstilts.reports import StudyResults, layouts, published, render
from xstilts.store.rows import Score
from xstilts.study.index import Cell, Study, StudyTask
from xstilts.tasks.user_tasks import with_user_tasks

Cli = Callable[..., CliResult]
SEEDS = (1, 2, 3)


def task(name: str, codes: str, **pseudo_test: dict[str, float]) -> StudyTask:
    metrics = ("accuracy",)
    return StudyTask(name, "classify", "accuracy", metrics, tuple(codes.split()), "en", pseudo_test=pseudo_test)


def study(*tasks: StudyTask) -> Study:
    cells = tuple(Cell("all", seed, one.name, f"{one.name} {seed}") for one in tasks for seed in SEEDS)
    names = {one.name: "xnli" for one in tasks if one.name != "xnli"}
    return Study("mine", "some/encoder", SEEDS, ("all",), None, tasks, cells, catalogue_names=names)


def scores(name: str, code: str, *values: float, split: str = "test") -> list[Score]:
    return [Score(name, code, split, "accuracy", value, 100, f"{name} {seed}", "some/encoder", seed)
            for seed, value in zip(SEEDS, values, strict=True)]  # fmt: skip


def show(made: Study, rows: list[Score], *, beside: bool = False) -> Document:
    return layouts.show(StudyResults(made, rows, beside=beside), "pseudo")


SPANISH = task("xnli-es", "es", es={"bleu": 43.5, "chrf": 67.9})
GERMAN = task("xnli-de", "de", de={"bleu": 31.5, "chrf": 60.1})


def test_scores_on_both_test_sets_with_their_differences_and_the_quality_of_the_translation() -> None:
    made = study(task("xnli", "en es de fr"), SPANISH, GERMAN)
    rows = [*scores("xnli", "en", 90, 90, 90), *scores("xnli", "fr", 75, 75, 75)]
    rows += [*scores("xnli", "es", 70, 74, 72), *scores("xnli-es", "es", 73, 74, 78)]  # differences 3, 0, 6
    rows += [*scores("xnli", "de", 60, 62, 61), *scores("xnli-de", "de", 60, 60, 60)]  # differences 0, -2, -1
    # means of both by seed: gold 65, 68, 66.5; auto 66.5, 67, 69; differences 1.5, -1, 2.5
    shown = show(made, rows)
    [table] = shown.tables
    assert [head for head, _ in table.columns] == ["es", "de", "mean"]
    assert {label: [cell.value for cell in cells] for label, cells in table.rows} == {
        "gold": ["72.0", "61.0", "66.5"], "auto": ["74.0", "60.0", "67.0"], "difference": ["+3.0", "-1.0", "+1.5"],
        "BLEU": ["43.5", "31.5", "37.5"], "chrF": ["67.9", "60.1", "64.0"],
    }  # fmt: skip
    assert shown.legend[:2] == [
        "gold: xnli; auto: xnli-es, xnli-de, translated by machine", "difference: auto minus gold, at the same seed",
    ]  # fmt: skip
    read_back = list(csv.DictReader(io.StringIO(render(shown, "csv"))))
    [mean] = [x for x in read_back if (x["test_set"], x["language"]) == ("difference", "mean")]
    assert (mean["value"], mean["split"], mean["metric"]) == ("1.5", "test", "accuracy")


def test_a_language_without_a_real_test_set_is_in_no_mean() -> None:
    yoruba = task("xnli-yo", "yo", yo={})
    rows = [*scores("xnli", "es", 70, 70, 70), *scores("xnli-es", "es", 71, 71, 71), *scores("xnli-yo", "yo", 9, 9, 9)]
    [table] = show(study(task("xnli", "es"), SPANISH, yoruba), rows).tables
    assert {label: [cell.value for cell in cells] for label, cells in table.rows} == {
        "gold": ["70.0", "-", "70.0"], "auto": ["71.0", "9.0", "71.0"], "difference": ["+1.0", "-", "+1.0"],
        "BLEU": ["43.5", "-", "43.5"], "chrF": ["67.9", "-", "67.9"],
    }  # fmt: skip


def test_test_sets_of_other_sizes_are_named() -> None:
    rows = [*scores("xnli", "es", 70, 70, 70), *scores("xnli", "de", 70, 70, 70), *scores("xnli-de", "de", 71, 71, 71)]
    rows += [replace(row, n=97) for row in scores("xnli-es", "es", 71, 71, 71)]  # three left without a translation
    legend = show(study(task("xnli", "es de"), SPANISH, GERMAN), rows).legend
    assert "xnli: gold and auto count other numbers of examples: es 100 and 97" in legend


def test_xtremes_own_table_stands_beside() -> None:
    rows = [*scores("xnli", "es", 70, 70, 70), *scores("xnli-es", "es", 71, 71, 71)]
    _, printed = show(study(task("xnli", "es"), SPANISH), rows, beside=True).tables
    values = dict(printed.rows)
    at = published.table("table4", "xtreme").columns.index("es")
    found = {label: values[label][at].value for label in ("gold accuracy", "auto accuracy", "auto BLEU")}
    assert found == {"gold accuracy": "73.5", "auto accuracy": "74.7", "auto BLEU": "43.5"}


def test_a_second_translation_is_named_and_a_study_without_any_refused() -> None:
    cheap = task("xnli-cheap", "es", es={})
    rows = [x for name in ("xnli", "xnli-es", "xnli-cheap") for x in scores(name, "es", 70, 70, 70)]
    assert (
        "translated test sets that are not shown: xnli-cheap"
        in show(study(task("xnli", "es"), SPANISH, cheap), rows).legend
    )
    with pytest.raises(UserError, match="the study scores no translated test set beside the real one"):
        show(study(task("xnli", "es"), task("xnli-small", "es")), rows)


def test_translate_writes_the_quality_that_the_layout_shows(tmp_path: Path, xstilts: Cli) -> None:
    pytest.importorskip("sacrebleu")
    options = ("--engine", "playground", "--split", "test", "--limit", "8", "--out", tmp_path / "out")
    assert xstilts("translate", "play-nli", "--to", "qab", *options, "--reference", tmp_path).code == 0
    entries = yaml.safe_load((tmp_path / "out/play-nli.yaml").read_text(encoding="utf-8"))
    assert entries["play-nli-qab"]["pseudo_test"] == {"qab": {"bleu": 100.0, "chrf": 100.0}}
    recipe = tmp_path / "both.yaml"
    recipe.write_text(
        "name: both\nencoder: {text: play-text, layers: 1, hidden: 16, heads: 2}\nseeds: [1]\n"
        "use: [out/play-nli.yaml]\nsettings: {steps: 2, batch: 4, max_length: 64, limit: 8}\n"
        "phases: [{name: target, each: [play-nli, play-nli-qab]}]\nevaluate: [play-nli, play-nli-qab]\n",
        encoding="utf-8",
    )
    assert xstilts("run", recipe, "--out", tmp_path / "runs").code == 0
    shown = json.loads(xstilts("report", tmp_path / "runs", "--layout", "pseudo", "--format", "json").out)
    values = {(x["test_set"], x["metric"]): x["value"] for x in shown["lines"] if x["language"] == "qab"}
    assert values["auto", "accuracy"] == values["gold", "accuracy"], "an exact translation"
    assert (values["difference", "accuracy"], values["auto", "bleu"]) == (0, 100)


def test_other_training_data_leave_a_translated_test_set_one(tmp_path: Path) -> None:
    path = tmp_path / "tasks.yaml"
    path.write_text(
        'auto: {like: xquad, languages: [de], data: {test: "auto-{lang}.json"}, pseudo_test: {de: {bleu: 20}}}\n'
        "small: {like: auto, data: {train: small.json}}\n"
        'other: {like: auto, data: {test: "own-{lang}.json"}}\n',
        encoding="utf-8",
    )
    tasks = with_user_tasks([path])
    assert tasks["small"].pseudo_test == {"de": {"bleu": 20}}
    assert tasks["other"].pseudo_test == {}
