"""The card of an export: metadata that the Hub accepts, scores that the run folder has, licences that hold."""

import csv
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from huggingface_hub.repocard import metadata_load

from conftest import SENTENCES, CliResult, Files, markdown_rows
from test_export import FORMATS, model_of
from xstilts.predict import licenses
from xstilts.predict.export import Target, export
from xstilts.study.index import read_study
from xstilts.tasks import TASKS
from xstilts.tasks.references import REFERENCES, data_of
from xstilts.tasks.user_tasks import from_yaml

REVIEWS = """\
more:
  format: classify
  texts: [text]
  labels: [bad, good]
  languages: [en]
  data: {train: more-en.csv}
  license: MIT
  url: https://example.org/more
mine:
  format: classify
  texts: [text]
  labels: [bad, good]
  languages: [en, de, "no"]
  data: {train: train-en.csv, dev: dev-en.csv, test: "test-{lang}.csv"}
  license: CC BY-NC 4.0
"""
PHASES = """\
phases:
  - {name: intermediate, choices: [[], [more]]}
  - {name: target, each: [mine]}
evaluate: [mine]
"""


@pytest.fixture
def reviews(study: Files) -> Files:
    """Two seeds, with and without an intermediate task, scored in three languages; Norwegian has fewer examples."""
    study.write("tasks.yaml", REVIEWS)
    recipe = (study.folder / "recipe.yaml").read_text(encoding="utf-8")
    study.write("recipe.yaml", recipe.partition("phases:")[0].replace("[1]", "[1, 2]") + PHASES + "keep: all\n")
    rows_of = {"train-en": 20, "more-en": 9, "dev-en": 7, "test-en": 6, "test-de": 5, "test-no": 3}
    for name, count in rows_of.items():
        rows = "".join(f'"{SENTENCES[i]} {name}",{"bad" if i % 2 else "good"}\n' for i in range(count))
        study.write(f"{name}.csv", f"text,label\n{rows}")
    return study


def card_of(folder: Path) -> tuple[Any, str]:
    """The metadata, as huggingface_hub reads them, and the text below them."""
    card = ModelCard.load(folder / "README.md")
    assert metadata_load(folder / "README.md") == card.data.to_dict()
    return card.data, card.text


def test_a_card_has_the_scores_and_licences_of_its_run(
    reviews: Files, tmp_path: Path, xstilts: Callable[..., CliResult]
) -> None:
    assert reviews.run().code == 0
    best = Path(reviews.out / "best/tiny/mine")
    result = xstilts("export", best, tmp_path / "exported", "--card")
    assert result.code == 0, result.err
    data, text = card_of(tmp_path / "exported")
    assert (data.language, data.license) == (["en", "de", "no"], "cc-by-nc-4.0")
    assert (data.library_name, data.pipeline_tag, data.metrics) == ("transformers", "text-classification", ["accuracy"])
    assert data.get("datasets") is None and data.get("base_model") is None
    index = read_study(reviews.out / "recipes/tiny.json")
    steps = [cell for cell in index.cells if best.resolve().name in index.steps[cell.step]]
    rows = [
        json.loads(line) for line in (reviews.out / "steps" / steps[0].step / "scores.jsonl").read_text().splitlines()
    ]
    scores = {row["language"]: row["value"] for row in rows if row["split"] == "test"}
    found = {one.dataset_config: one.metric_value for one in data.eval_results}
    assert found == scores | {"mean": sum(scores.values()) / 3, "zero-shot": (scores["de"] + scores["no"]) / 2}
    assert {(one.dataset_type, one.dataset_split, one.metric_type) for one in data.eval_results} == {
        ("mine", "test", "accuracy")
    }
    table = markdown_rows(text)
    assert [table[x][0] for x in ("en English", "de German", "no", "mean", "zero-shot mean")] == [
        "6",
        "5",
        "3",
        "14",
        "8",
    ]
    assert table["de German"][1] == f"{scores['de']:.1f}" and "median of 2" in table["language"]
    report = reviews.call("report", reviews.out, "--layout", "benchmark", "--format", "csv").out
    of_seeds = {
        row["language"]: [f"{float(row['median']):.1f}", f"{float(row['min']):.1f} to {float(row['max']):.1f}"]
        for row in csv.DictReader(report.splitlines()) if (row["task"], row["branch"]) == ("mine", steps[0].branch)
    }  # fmt: skip
    names = {"en English": "en", "de German": "de", "no": "no", "mean": "mean", "zero-shot mean": "zero-shot"}
    assert {code: table[name][3:5] for name, code in names.items()} == of_seeds
    assert "- mine: CC BY-NC 4.0; no commercial use" in text and "train-en.csv" in table["`mine`"]
    trained_before = "intermediate: more" in text
    assert trained_before == (steps[0].branch == "more") == ("[https://example.org/more]" in text)
    assert f"Recipe `tiny`, branch `{steps[0].branch}`, seed {steps[0].seed}." in text
    assert "Run: selected for `mine` from 4 runs, by dev scores in the languages that the task is trained on" in text
    assert "English Intermediate-Task Training" in text and str(tmp_path) not in text


def test_a_run_that_the_dev_scores_do_not_select_says_so(reviews: Files, tmp_path: Path) -> None:
    assert reviews.run().code == 0
    index = read_study(reviews.out / "recipes/tiny.json")
    best = (reviews.out / "best/tiny/mine").resolve().name
    other = next(cell for cell in index.cells if best not in index.steps[cell.step])
    parent = next(id for id in index.steps[other.step])
    export(reviews.out / "steps" / parent, tmp_path / "other", card="other")
    _, text = card_of(tmp_path / "other")
    assert "Run: not the one that is selected for `mine`" in text
    assert f"branch `{other.branch}`, seed {other.seed}." in text


def test_the_card_of_vectors_has_the_licences_of_the_training(reviews: Files, tmp_path: Path) -> None:
    assert reviews.run().code == 0
    export(reviews.out / "best/tiny/mine", tmp_path / "vectors", "sentence-transformers", card="vectors")
    data, text = card_of(tmp_path / "vectors")
    assert data.license == "cc-by-nc-4.0" and data.eval_results is None
    assert "train-en.csv" in markdown_rows(text)["`mine`"]


def test_labels_of_any_characters_are_right_in_the_card(reviews: Files, tmp_path: Path) -> None:
    labels = {"good": "a`b|<i>", "bad": "no\nway"}
    for path in reviews.folder.glob("*.csv"):
        rows = path.read_text(encoding="utf-8")
        for old, new in labels.items():
            rows = rows.replace(f",{old}\n", f',"{new}"\n')
        path.write_text(rows, encoding="utf-8")
    tasks = (reviews.folder / "tasks.yaml").read_text(encoding="utf-8")
    reviews.write("tasks.yaml", tasks.replace("[bad, good]", '["no\\nway", "a`b|<i>"]'))
    assert reviews.run().code == 0
    export(reviews.out / "best/tiny/mine", tmp_path / "marked", card="marked")
    _, text = card_of(tmp_path / "marked")
    assert "Labels: `no\\nway`, ``a`b|<i>``." in text
    config = json.loads((tmp_path / "marked/config.json").read_text(encoding="utf-8"))
    assert config["id2label"] == {"0": "no\nway", "1": "a`b|<i>"}
    assert config["label2id"] == {"no\nway": 0, "a`b|<i>": 1}


def test_a_copied_step_has_a_card_without_scores(reviews: Files, tmp_path: Path) -> None:
    assert reviews.run().code == 0
    copy = shutil.copytree((reviews.out / "best/tiny/mine").resolve(), tmp_path / "copy")
    export(copy, tmp_path / "out2", card="copy")
    data, text = card_of(tmp_path / "out2")
    assert data.eval_results is None and data.license == "unknown"
    assert "The scores of this model are not known: it was not exported from a run folder" in text
    assert "| learning rate | 1e-3 |" in text


def translated(study: Files, split: str, language: str, source: str, target: str, model: str) -> None:
    """Put a translation's card beside the data."""
    made = {
        "file": f"{split}-{language}.csv", "split": split, "language": language, "source": source, "target": target,
        "date": "2026-11-30", "engine": {"engine": "ct2", "model": model, "version": "4.8"}, "made_from": {},
        "rows": 20, "left_out": 2, "lines": 22, "cut": 0, "empty": 0, "unchanged": 1,
    }  # fmt: skip
    study.write("card.json", json.dumps({"files": [made]}))


def test_a_translation_names_its_engine_and_the_licence_of_that(
    reviews: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reviews.edit("tasks.yaml", "license: CC BY-NC 4.0", "license: CC BY 4.0\n  translated_from: de")
    translated(reviews, "train", "en", "de", "en", "facebook/nllb-200-distilled-600M")
    monkeypatch.chdir(reviews.folder)
    assert reviews.call("run", "recipe.yaml", "--out", "out").code == 0
    expected = "`train-en.csv`: from de to en by ct2 `facebook/nllb-200-distilled-600M` (4.8), 2026-11-30; 20 rows"
    monkeypatch.chdir("/")
    best = reviews.out / "best/tiny/mine"
    facts = json.loads((best / "done.json").read_text(encoding="utf-8"))
    assert facts["inputs"].keys() & {"train-en.csv"} and facts.pop("translations")
    for name in ("recorded", "earlier"):  # a step of an earlier version names the file alone
        export(best, tmp_path / name, card=name)
        data, text = card_of(tmp_path / name)
        assert data.license == "cc-by-nc-4.0" and expected in text
        (best / "done.json").write_text(json.dumps(facts), encoding="utf-8")
    reviews.write("train-en.csv", "text,label\nanother,good\n")
    export(best, tmp_path / "changed", card="changed")
    data, text = card_of(tmp_path / "changed")
    assert data.license == "unknown" and "are translated from de. The engine is not known" in text


def test_a_translated_test_set_is_named_and_its_language_is_the_targets(reviews: Files, tmp_path: Path) -> None:
    translated(reviews, "test", "de", "de", "en", "/models/opus-mt")
    assert reviews.run().code == 0
    export(reviews.out / "best/tiny/mine", tmp_path / "a", card="a")
    data, text = card_of(tmp_path / "a")
    assert data.language == ["en", "no"] and data.license == "cc-by-nc-4.0"
    assert "- `test-de.csv` is translated from de to en by ct2 `opus-mt` (4.8)" in text


@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")  # of transformers' pipeline for tags
@pytest.mark.parametrize(
    ("form", "to"), [*((form, "hf") for form in FORMATS), ("text", "sentence-transformers"), ("pair", "onnx")]
)
def test_the_code_of_a_card_runs(
    form: str, to: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if to != "hf":
        pytest.importorskip({"onnx": "onnxscript"}.get(to, "sentence_transformers"))
    folder = model_of("XLMRoberta", form, tmp_path, monkeypatch)
    export(folder, tmp_path / "my-model", to, card="my-model")
    data, text = card_of(tmp_path / "my-model")
    assert data.library_name == ("transformers" if to == "hf" else to)
    code = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    exec(code[0], {})
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize(("texts", "hub", "kind"), [
    (["MIT", "CC BY 4.0"], "mit", ""),
    (["MIT", "CC BY-SA 3.0"], "cc-by-sa-3.0", "share-alike"),
    (["CC BY-SA 3.0", "cc-by-nc-sa-4.0"], "cc-by-nc-sa-4.0", "non-commercial"),
    (["CC BY-NC 4.0", "terms of our house"], "cc-by-nc-4.0", "non-commercial"),
    (["CC BY-NC 4.0", "CC BY-NC-SA 4.0", "CC BY-NC 3.0"], "cc-by-nc-sa-4.0", "non-commercial"),
    (["CC BY-NC 4.0", ""], "unknown", "unknown"),
    (["GPL-3.0", "Apache-2.0"], "gpl-3.0", "share-alike"),
    (["CC BY-ND 4.0", "MIT"], "cc-by-nd-4.0", "no derivatives"),
    (["internal (non-commercial)", "MIT"], "other", "non-commercial"),
    ([], "unknown", "unknown"),
])  # fmt: skip
def test_the_strictest_licence_counts(texts: list[str], hub: str, kind: str) -> None:
    found = licenses.strictest(map(licenses.parse, texts))
    assert (found.hub, *found.kinds[:1]) == (hub, *([kind] if kind else []))


@pytest.mark.parametrize(("text", "hub", "warning"), [
    ("CC BY-SA 2.0", "other", "derived works keep the licence"),  # the Hub has no name for this version
    ("CC BY-NC-SA 3.0 IGO", "cc-by-nc-sa-3.0", "no commercial use; derived works keep the licence"),
    ("CC BY 4.0 (non-commercial)", "other", "no commercial use"),
    ("Free for non commercial research", "other", "no commercial use; terms of its own, which you should read"),
    ("ODbL", "odbl", "derived works keep the licence"),
    ("仅供内部使用", "other", "terms of its own, which you should read"),
])  # fmt: skip
def test_a_licence_has_the_hubs_name_only_if_that_says_all(text: str, hub: str, warning: str) -> None:
    found = licenses.parse(text)
    assert (found.hub, found.warning, found.text) == (hub, warning, text)


@pytest.mark.parametrize("program", ["apertium", "/usr/bin/apertium"])
def test_apertiums_licence_does_not_reach_its_translations(program: str) -> None:
    assert licenses.of_engine({"engine": "command", "command": f"{program} -u eng-spa"}) is None
    assert licenses.of_engine({"engine": "command", "command": f"other {program}"}) == licenses.parse("")


def test_the_licence_is_that_of_the_training_data(tmp_path: Path) -> None:
    """XNLI trains on MNLI; a task `like: xnli` with other training data has neither's licence."""
    path = tmp_path / "mine.yaml"
    path.write_text(
        "a: {like: xnli, data: {test: 'mine/{lang}.tsv'}}\n"
        "b: {like: xnli, languages: [de], train_languages: [de], data: {train: folder/mine.tsv}}\n"
        "c: {like: b, license: MIT}\n"
        "d: {like: xnli, languages: [de], train_languages: [de], data: {train: mine.tsv}, translated_from: en}\n",
        encoding="utf-8",
    )
    tasks = from_yaml(path, TASKS)
    mnli, a, b, c, d = data_of(TASKS["mnli"]), *(data_of(tasks[name]) for name in "abcd")
    assert (a.license, a.url, a.references) == (mnli.license, mnli.url, mnli.references)
    assert len(data_of(TASKS["xnli"]).references) == 2
    assert (b.license, b.url, b.files) == ("", "", ("mine.tsv",)) and b.hub == ()
    assert c.license == "MIT"
    assert (d.license, d.translated_from) == (mnli.license, "en")
    assert mnli.hub == ("nyu-mll/glue",)


def test_each_publication_is_of_a_built_in_task() -> None:
    assert REFERENCES.keys() <= TASKS.keys()


def test_a_study_of_an_earlier_version_has_unknown_licences(reviews: Files, tmp_path: Path) -> None:
    assert reviews.run().code == 0
    path = reviews.out / "recipes/tiny.json"
    path.write_text(replace(read_study(path), data={}).to_json(), encoding="utf-8")
    export(reviews.out / "best/tiny/mine", tmp_path / "a", card="a")
    data, _ = card_of(tmp_path / "a")
    assert data.license == "unknown" and len(data.eval_results) == 5
