"""A dev set in English alone, beside test sets in several languages; and how languages may be written."""

import json
import shutil
from typing import Any

import pytest

from conftest import Files
from xstilts.analysis.aggregate import build
from xstilts.reports import render
from xstilts.reports.study_tables import document
from xstilts.store.rows import Score
from xstilts.study.load import read
from xstilts.study.plan import plan
from xstilts.tasks.user_tasks import with_user_tasks


@pytest.fixture
def reviews(study: Files) -> Files:
    """The study's task with one dev file, which is English."""
    study.edit("tasks.yaml", '"dev-{lang}.tsv"', "dev-en.tsv")
    study.edit("recipe.yaml", "evaluate: [pairs, mine]", "evaluate: mine")
    shutil.copy(study.folder / "dev-de.tsv", study.folder / "test-en.tsv")
    return study


def rows(files: Files, name: str) -> list[dict[str, Any]]:
    return [json.loads(row) for path in files.out.glob(f"steps/*/{name}") for row in path.read_text().splitlines()]


def scored(files: Files) -> dict[str, set[str]]:
    """The languages with scores on each split."""
    lines = rows(files, "scores.jsonl")
    return {split: {x["language"] for x in lines if x["split"] == split} for split in ("dev", "test")}


@pytest.mark.parametrize("languages", ["[en, de]", "[de]"])
def test_one_dev_file_is_english_and_the_report_shows_test(reviews: Files, languages: str) -> None:
    reviews.edit("tasks.yaml", "languages: [en, de]", f"languages: {languages}")
    checked = reviews.call("check", reviews.folder / "recipe.yaml")
    assert "mine: its dev set is English alone: for early stopping" in checked.out
    result = reviews.run()
    assert result.code == 0 and "its dev set is English alone" in result.err, result.err
    assert "English alone" not in reviews.run().err, "the first run has told it"
    assert scored(reviews) == {"dev": {"en"}, "test": set(languages.strip("[]").split(", "))}
    assert "mine: accuracy, test" in result.out and "†" not in result.out
    (done,) = (x for path in reviews.out.glob("steps/*/done.json") if "stop" in (x := json.loads(path.read_text())))
    assert done["stop"]["mine"]["files"] == ["dev-en.tsv"]
    selected = json.loads(reviews.call("report", reviews.out, "--layout", "selection", "--format", "json").out)["lines"]
    by_rule = {x["rule"]: (x["selected_on"], x["reused"]) for x in selected if x["rule"] != "baseline"}
    assert by_rule["english-dev"] == by_rule["paper"] == ("dev", False)


def test_a_run_at_chance_in_english_is_marked_where_only_other_languages_are_shown(reviews: Files) -> None:
    reviews.edit("tasks.yaml", "languages: [en, de]", "languages: [de]")
    study = plan(*read(str(reviews.folder / "recipe.yaml"), "full")).study()
    step, found = study.cells[0].step, [("en", "dev", 34), ("de", "test", 60)]
    scores = [Score("mine", x, split, "accuracy", v, 90, step, "tiny", 1, chance=33) for x, split, v in found]
    summary = build(study, scores)
    assert [(x.language, x.collapsed) for x in summary.lines if x.collapsed] == [("mean", (1,)), ("zero-shot", (1,))]
    assert "chance in the training language: mine: all 1 of 1 run (seed 1)" in " ".join(
        render(document(summary)).split()
    )


def test_one_dev_file_needs_test_files_by_language(reviews: Files) -> None:
    reviews.edit("tasks.yaml", ', test: "test-{lang}.tsv"', "")
    reviews.edit("tasks.yaml", "like: xnli", "format: classify\n  labels: [entailment, neutral, contradiction]")
    reviews.refused("mine: data.dev is the same for all 2 languages; write {lang} in the path")


def test_english_test_rows_that_are_trained_on_do_not_hide_the_other_languages(reviews: Files) -> None:
    tasks = 'mine: {like: xnli, languages: LANGUAGES, data: {train: en.csv, dev: en.csv, test: "{lang}.csv"}}'
    reviews.write("tasks.yaml", tasks.replace("LANGUAGES", "[de, sw]"))
    planned = plan(*read(str(reviews.folder / "recipe.yaml"), "full"))
    assert planned.tasks["mine"].scored == ("test",) and planned.tasks["mine"].stop_source() is None
    reviews.write("tasks.yaml", tasks.replace("LANGUAGES", "[en, de]"))
    reviews.refused("'mine' is trained on its dev and test data", "leave en out of its `languages`")


def test_a_dev_set_by_language_is_not_english_alone(reviews: Files) -> None:
    for dev in ('"{lang}.tsv"', '{path: all.tsv, where: {lang: "{lang}"}}'):
        data = f'{{dev: {dev}, test: "test-{{lang}}.tsv"}}'
        reviews.write("tasks.yaml", f"mine: {{like: xnli, languages: [en, de], data: {data}}}")
        mine = with_user_tasks([reviews.folder / "tasks.yaml"])["mine"]
        assert mine.languages_of("dev") == ("en", "de")


def test_the_threshold_of_the_english_dev_set_serves_all_languages(reviews: Files) -> None:
    def questions(split: str, language: str, answer: str) -> None:
        rows = [
            {"id": str(i), "context": f"{answer} {i} is here .", "question": "which ?",
             "answers": [{"text": answer, "answer_start": 0}] if i % 2 else []}
            for i in range(8)
        ]  # fmt: skip
        reviews.write(f"{split}.{language}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    for split, language in (("train", "en"), ("dev", "en"), ("test", "de"), ("test", "en")):
        questions(split, language, {"en": "door", "de": "haus"}[language])
    task = "languages: [de, en], data: {train: train.en.jsonl, dev: dev.en.jsonl, test: 'test.{lang}.jsonl'}"
    reviews.write("tasks.yaml", f"mine: {{format: span, no_answer: true, {task}}}")
    assert reviews.run().code == 0
    order = dict.fromkeys((row["language"], row["split"]) for row in rows(reviews, "predictions.jsonl"))
    assert list(order) == [("en", "dev"), ("en", "test"), ("de", "test")]  # tuned before it is used


ALIASES = [
    ("ger", "de"), ("deu", "de"), ("DE", "de"), ("German", "de"), ("iw", "he"), ("chi", "zh"), ("jp", "ja"),
    ("swe", "sv"), ("fre", "fr"), ("PT-BR", "pt-BR"), ("zho_TW", "zh_TW"), ("deu_Latn", "de_Latn"),
]  # fmt: skip


@pytest.mark.parametrize(("written", "code"), ALIASES)
def test_another_spelling_of_a_language_is_refused_with_its_code(reviews: Files, written: str, code: str) -> None:
    reviews.edit("tasks.yaml", "languages: [en, de]", f"languages: [en, {written}]")
    reviews.refused(f"tasks.yaml:3: mine.languages: unknown language '{written}': write {code}")


def test_another_spelling_in_recipe_and_commands(study: Files) -> None:
    corpus = study.call("corpus", "ger", "--out", study.folder / "text")
    assert (corpus.code, "'ger' is not a language code (write de)" in corpus.err) == (2, True)
    shown = study.call("show", "mine", "deu", 0, "--use", study.folder / "tasks.yaml")
    assert (shown.code, "(write de)" in shown.err) == (2, True)
    study.edit("recipe.yaml", "seeds: [1]", "seeds: [1]\nlanguages: [ger]")
    study.refused("languages[0]: no evaluated task has the language 'ger' (write de)")


@pytest.mark.parametrize("name", ["ger", "deu", "DE", "german"])
def test_a_file_named_in_another_spelling_is_the_nearest(reviews: Files, name: str) -> None:
    (reviews.folder / "test-de.tsv").rename(reviews.folder / f"test-{name}.tsv")
    result = reviews.run()
    assert (result.code, f"the nearest there is {reviews.folder / f'test-{name}.tsv'}" in result.err) == (2, True)


@pytest.mark.parametrize("code", ["pt-BR", "zh_TW", "zh-CN"])
def test_a_region_is_kept_as_written_and_has_its_language_s_facts(reviews: Files, code: str) -> None:
    reviews.edit("tasks.yaml", "languages: [en, de]", f"languages: [en, {code}]")
    (reviews.folder / "test-de.tsv").rename(reviews.folder / f"test-{code}.tsv")
    result = reviews.run()
    assert result.code == 0, result.err
    assert f"{code} {'Portuguese' if code.startswith('pt') else 'Mandarin'}" in result.out


def test_a_variant_of_the_training_language_is_not_zero_shot(reviews: Files) -> None:
    reviews.edit("tasks.yaml", "languages: [en, de]", "languages: [en-GB, en-US, de]")
    planned = plan(*read(str(reviews.folder / "recipe.yaml"), "full"))
    step, values = planned.study().cells[0].step, {"en-GB": 90, "en-US": 80, "de": 40}
    scores = [Score("mine", code, "test", "accuracy", x, 12, step, "tiny", 1) for code, x in values.items()]
    means = {x.language: x.median for x in build(planned.study(), scores).lines}
    assert (means["mean"], means["zero-shot"]) == (70, 40)


def test_training_and_test_languages_have_one_code(reviews: Files) -> None:
    reviews.edit("tasks.yaml", "languages: [en, de]", "languages: [en-US, de]")
    reviews.refused("languages has 'en-US', train_languages 'en'; write one code in both")
