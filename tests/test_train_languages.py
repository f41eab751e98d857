"""Trainings in other languages: one for each language, one for all of them, and on few examples of each."""

import json
from pathlib import Path
from typing import Any

import pytest

from conftest import Files
from xstilts.analysis.aggregate import MEAN, ZERO_SHOT, build
from xstilts.data.examples import locate
from xstilts.data.sampling import draw_shots
from xstilts.errors import MissingData
from xstilts.reports.significance import compare
from xstilts.store.rows import Score
from xstilts.store.run_folder import Store
from xstilts.study.index import Cell, Study, StudyTask
from xstilts.study.plan import Plan, plan
from xstilts.study.recipe import Recipe
from xstilts.tasks import TASKS
from xstilts.tasks.source import File, Source
from xstilts.tasks.user_tasks import from_yaml

WORDS = {"en": "the old dog runs home", "de": "der alte Hund läuft heim", "sw": "mbwa mzee anakimbia nyumbani leo"}
UPOS = ("DET", "ADJ", "NOUN", "VERB", "ADV")


def tagged(language: str, sentences: int, first: int = 0) -> str:
    """A file of sentences, each with another number as its first word."""
    words = zip(WORDS[language].split(), UPOS, strict=True)
    lines = "".join(f"{word}\t{tag}\n" for word, tag in words)
    return "\n".join(f"{i}\tNUM\n{lines}" for i in range(first, first + sentences))


TAGS = """\
mine:
  like: udpos
  languages: [en, de, sw]
  train_languages: each
  data: {train: "train-{lang}.tsv", dev: "dev-{lang}.tsv", test: "test-{lang}.tsv"}
together: {like: mine, train_languages: all}
german: {like: mine, languages: [de], train_languages: [de]}
english: {like: mine, train_languages: [en]}
"""


@pytest.fixture
def words(study: Files) -> Files:
    """A task with training data in English and German, dev data in German, test data in three languages."""
    study.write("tasks.yaml", TAGS)
    study.edit("recipe.yaml", "evaluate: [pairs, mine]", "evaluate: [mine]")
    (study.folder / "dev-en.tsv").unlink()
    for language, splits in {"en": ("train", "test"), "de": ("train", "dev", "test"), "sw": ("test",)}.items():
        for split in splits:
            sentences, first = {"train": (20, 0), "dev": (4, 30), "test": (6, 40)}[split]
            study.write(f"{split}-{language}.tsv", tagged(language, sentences, first))
    return study


def planned(files: Files, **changes: Any) -> Plan:
    recipe = {"name": "own", "encoder": "some/encoder", "seeds": [1, 2], "use": ["tasks.yaml"], **changes}
    recipe = {"phases": [{"name": "target", "each": recipe["evaluate"]}], **recipe}
    return plan(Recipe.model_validate(recipe), TASKS | from_yaml(files.folder / "tasks.yaml", TASKS))


def rows_of(store: Store, study: Study) -> dict[str, dict[str, float]]:
    """The medians of each language and mean, by task."""
    found: dict[str, dict[str, float]] = {}
    for line in build(study, store.scores(study), split="test").lines:
        if line.metric == "chunk_f1":
            found.setdefault(line.task, {})[line.language] = line.median
    return found


def test_each_language_has_a_training_that_equals_that_of_a_task_in_this_language_alone(words: Files) -> None:
    laid_out = planned(words, evaluate=["mine", "german"])
    assert (laid_out.trainings_before_folding, laid_out.trainings) == (8, 6)
    of = {(cell.task, cell.language, cell.seed): laid_out.steps[cell.step] for cell in laid_out.cells}
    assert of["mine", "de", 2].parent == of["german", "", 2].parent != of["mine", "en", 2].parent
    assert [step.scoring.languages for step in of.values() if step.scoring] == [("en",), ("de",), ("sw",), ("de",)] * 2
    both = planned(words, evaluate=["together"])
    assert both.trainings == 2 and both.steps.keys().isdisjoint(laid_out.steps)


def test_a_task_that_no_phase_trains_is_scored_in_one_step(words: Files) -> None:
    phases = [{"name": "middle", "choices": [["english"]]}]
    laid_out = planned(words, evaluate=["mine"], phases=phases)
    assert [cell.language for cell in laid_out.cells] == ["", ""] and laid_out.evaluations == 2 * 3


def test_a_run_combines_the_languages_and_leaves_out_and_names_those_without_training_data(words: Files) -> None:
    missing = "error: mine: no data for 'sw'"
    words.refused(missing)
    words.edit("recipe.yaml", "keep: all", "keep: best\nmissing: skip")
    result = words.run()
    assert result.code == 0 and "left out because files are missing: mine: train of sw" in result.err
    store = Store(words.out)
    study = store.study("tiny")
    assert [(cell.task, cell.language) for cell in study.cells] == [("mine", "en"), ("mine", "de")]
    by_language = rows_of(store, study)["mine"]
    assert by_language.keys() == {"en", "de", MEAN}  # none is zero-shot
    assert by_language[MEAN] == pytest.approx((by_language["en"] + by_language["de"]) / 2)
    best = words.out / "best" / "tiny"
    assert {path.name for path in best.glob("mine.*") if path.is_dir()} == {"mine.en", "mine.de"}
    assert (best / "mine.en").resolve() != (best / "mine.de").resolve() and (best / "mine.de" / "encoder").is_dir()
    again = words.run()
    assert again.code == 0 and f"{len(study.steps)} of {len(study.steps)} steps are done already" in again.err
    words.write("train-sw.tsv", tagged("sw", 20))
    assert words.run().code == 0
    assert [cell.language for cell in store.study("tiny").cells] == ["en", "de", "sw"]


def test_one_training_in_all_languages_reads_those_with_data_and_the_others_are_zero_shot(words: Files) -> None:
    words.edit("recipe.yaml", "keep: all", "missing: skip")
    words.edit("recipe.yaml", "each: [mine]", "each: [together]")
    words.edit("recipe.yaml", "evaluate: [mine]", "evaluate: [together]")
    result = words.run()
    assert result.code == 0 and "left out because files are missing: together: train of sw" in result.err
    store = Store(words.out)
    study = store.study("tiny")
    assert study.tasks[0].train_languages == ("en", "de")
    by_language = rows_of(store, study)["together"]
    assert by_language[ZERO_SHOT] == by_language["sw"]
    training = next(step for step in study.steps if study.steps[step] == ())
    facts = store.facts(training)
    read = {Path(path).name for path in facts["inputs"]}
    assert {"train-en.tsv", "train-de.tsv"} <= read and "train-sw.tsv" not in read
    assert facts["stop"]["together"]["files"] == ["dev-de.tsv"]  # the only dev set of a training language


def test_shots_are_drawn_for_each_language_by_the_seed_of_the_run(words: Files) -> None:
    tasks = from_yaml(words.folder / "tasks.yaml", TASKS)
    task = tasks["together"].model_copy(update={"train_languages": ("en", "de")})
    rows = locate(task, task.data["train"], task.train_languages, None, train=True)
    drawn = [[str(example) for example, _ in rows.drawing(5, seed).sampled()] for seed in (1, 1, 2)]
    assert len(drawn[0]) == 10 and drawn[0] == drawn[1] != drawn[2]
    assert {*drawn[0]} < {str(example) for example, _ in rows.drawing(8, 1).sampled()}
    assert rows.drawing(5, 1).content != rows.drawing(5, 2).content and rows.drawing(None, 2).content == rows.content
    assert rows.drawing(20, 1).fewer_than_shots() == {}
    assert rows.drawing(21, 1).fewer_than_shots() == {"en": 20, "de": 20}


def test_shots_are_part_of_a_step_and_come_from_the_recipe_or_the_task(words: Files) -> None:
    words.edit("tasks.yaml", "together: {", "few: {like: mine, shots: 3}\ntogether: {")
    laid_out = planned(words, evaluate=["mine", "few"], settings={"tasks": {"mine": {"shots": 3}}})
    assert (laid_out.trainings_before_folding, laid_out.trainings) == (12, 6)
    shots = {part.shots for step in laid_out.steps.values() for part in step.parts}
    assert shots == {3} and planned(words, evaluate=["mine"]).steps.keys().isdisjoint(laid_out.steps)


def test_a_run_says_where_a_language_has_fewer_examples_than_shots(words: Files) -> None:
    words.edit("tasks.yaml", "languages: [en, de, sw]", "languages: [en, de]")
    words.write("train-de.tsv", tagged("de", 9))
    words.edit("recipe.yaml", "seeds: [1]", "seeds: [1, 2]")
    words.edit("recipe.yaml", "max_length: 32", "max_length: 32, shots: 10")
    result = words.run()
    assert result.code == 0
    assert result.err.count("mine de: all examples of a language are used below 10 shots: de has 9\n") == 2
    assert "mine en: all examples" not in result.err


def test_a_plan_names_the_languages_without_training_data(words: Files) -> None:
    assert "mine: train of sw" in planned(words, evaluate=["mine"]).absent(None)
    assert planned(words, evaluate=["mine"]).with_training_data(None)[1] == []  # only `missing: skip` leaves out
    left = planned(words, evaluate=["mine"], missing="skip").with_training_data(None)
    assert left[1] == ["mine: train of sw"] and left[0].trainings == 4


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("train_languages: each", "train_languages: every", "needs a list of languages, `all` or `each`, got 'every'"),
        ('train: "train-{lang}.tsv"', "train: train-en.tsv", "data.train is the same for all 3 languages"),
        ("train_languages: each", "train_languages: each\n  shots: 0", "mine.shots: should be greater than"),
        ('train: "train-{lang}.tsv"', "train: {path: train-en.tsv, languages: [eng]}", "unknown language 'eng'"),
    ],
)
def test_a_mistake_in_the_training_languages_names_its_place(words: Files, old: str, new: str, message: str) -> None:
    words.edit("tasks.yaml", old, new)
    result = words.run()
    assert result.code == 2 and f"error: {words.folder}/tasks.yaml:" in result.err and message in result.err


def test_a_training_for_each_language_is_no_intermediate_task(words: Files) -> None:
    words.edit("recipe.yaml", "phases:", "phases:\n  - {name: first, choices: [[mine]]}")
    words.refused("recipe.yaml:7: phases[0].choices[0]: the task 'mine' has `train_languages: each`", "or write `all`")


def test_a_file_for_some_languages_replaces_only_their_translation(tmp_path: Path) -> None:
    (tmp_path / "train-de.tsv").write_text(tagged("de", 2), encoding="utf-8")
    (tmp_path / "original.tsv").write_text(tagged("en", 2), encoding="utf-8")
    files = ["train-{lang}.tsv", {"path": "original.tsv", "languages": ["en"]}]
    source = Source.model_validate({"first_of": files})
    assert source.per_language
    task = TASKS["udpos"].model_copy(update={"data": {"train": source}, "train_languages": ("en", "de")})
    found = locate(task, source, ("en", "de"), tmp_path).found
    assert [(code, Path(one.paths[0]).name) for code, one in found] == [("en", "original.tsv"), ("de", "train-de.tsv")]
    with pytest.raises(MissingData, match=r"no data for 'sw': looked for \S*train-sw.tsv, also with .gz \(the nearest"):
        locate(task, source, ("sw",), tmp_path)
    original = Source.model_validate(files[1])
    with pytest.raises(MissingData, match="no file of the source has it among its `languages`"):
        locate(task, original, ("sw",), tmp_path)
    assert original.overlaps(original, ["en", "sw"]) and not original.overlaps(original, ["sw"])
    assert File(path="a.tsv", languages=("en",)).identity() == {"path": "a.tsv", "languages": ["en"]}


OWN = StudyTask(
    "own", "tag", "token_accuracy", ("token_accuracy",), ("de", "sw"), "de", more_train_languages=("sw",),
    trained_in_each=True,
)  # fmt: skip


def in_each(values: dict[tuple[str, int], float]) -> tuple[Study, list[Score]]:
    """A study with a step for each language and seed, and a score of those in `values`; chance is 20 percent."""
    cells = [Cell("all", seed, "own", f"{code}-{seed}", code) for code in ("de", "sw") for seed in (1, 2)]
    scores = [
        Score("own", code, "test", "token_accuracy", value, 100, f"{code}-{seed}", "e", seed, chance=20.0)
        for (code, seed), value in values.items()
    ]
    return Study("s", "e", (1, 2), ("all",), None, (OWN,), tuple(cells)), scores


def test_a_language_without_a_score_is_missing_although_others_have_one() -> None:
    study, scores = in_each({("de", 1): 60.0, ("de", 2): 70.0, ("sw", 1): 50.0})
    summary = build(study, scores)
    assert [cell.step for cell in summary.missing] == ["sw-2"] and summary.left_out == {"own": ("sw",)}
    assert compare(study, scores, lambda _: ()).missing == summary.missing


def test_a_collapsed_training_is_marked_in_its_language_and_in_the_mean() -> None:
    study, scores = in_each({("de", 1): 60.0, ("de", 2): 70.0, ("sw", 1): 50.0, ("sw", 2): 21.0})
    collapsed = {line.language: line.collapsed for line in build(study, scores).lines}
    assert collapsed == {"de": (), "sw": (2,), MEAN: (2,)}
    compared = {row.language: row.collapsed for row in compare(study, scores, lambda _: ()).rows}
    assert compared == collapsed


def test_the_draw_of_a_language_does_not_depend_on_the_others() -> None:
    assert (draw_shots(50, 10, "de", 1) != draw_shots(50, 10, "sw", 1)).any()
    assert json.dumps(draw_shots(4, 9, "de", 1).tolist()) == "[true, true, true, true]"


def test_reports_that_read_the_training_data_again_leave_out_what_differs_by_training(words: Files) -> None:
    words.edit("tasks.yaml", "languages: [en, de, sw]", "languages: [en, de]")
    words.edit("tasks.yaml", "together: {", "few: {like: mine, train_languages: all, shots: 9}\ntogether: {")
    words.edit("recipe.yaml", "each: [mine]", "each: [mine, few, together]")
    words.edit("recipe.yaml", "evaluate: [mine]", "evaluate: [mine, few, together]")
    assert words.run().code == 0
    shown = words.call("report", words.out, "--layout", "tags", "--format", "json", "--data", words.folder)
    assert shown.code == 0, shown.err
    assert {row["task"] for row in json.loads(shown.out)["lines"]} == {"together"}
    files = words.call("report", words.out, "--format", "submission", "--to", words.folder / "files")
    assert files.code == 0 and "no test split" not in files.err
    there = {path.parent.name + "/" + path.name for path in words.folder.glob("files/all/seed-1/predictions/*/*")}
    assert {"mine/test-en.tsv", "mine/test-de.tsv", "together/test-de.tsv"} < there


def test_translate_train_runs_from_the_original_and_a_translation(words: Files) -> None:
    done = words.call(
        "translate", "play-questions", "--to", "qaa", "--split", "train", "--limit", 30, "--engine", "playground",
        "--out", words.folder / "translated",
    )  # fmt: skip
    assert done.code == 0, done.err
    words.write("tasks.yaml", TRANSLATED)
    words.edit("recipe.yaml", "each: [mine]", "each: [by-language, at-once]")
    words.edit("recipe.yaml", "evaluate: [mine]", "evaluate: [by-language, at-once]")
    words.edit("recipe.yaml", "max_length: 32", "max_length: 48, limit: 9")
    words.edit("recipe.yaml", "keep: all", "missing: skip")
    result = words.run()
    assert result.code == 0, result.err
    assert "by-language: train of qab (`xstilts translate" in result.err and "at-once: train of qab (" in result.err
    store = Store(words.out)
    study = store.study("tiny")
    read = {}
    for cell in study.cells:
        facts = store.facts(study.steps[cell.step][0])
        read[cell.task, cell.language] = {Path(path).name for path in facts["inputs"]} & {"train-qaa.json", "train"}
    assert read == {
        ("by-language", "en"): {"train"}, ("by-language", "qaa"): {"train-qaa.json"},
        ("at-once", ""): {"train", "train-qaa.json"},
    }  # fmt: skip
    scored = {(row.task, row.language) for row in store.scores(study)}
    assert scored == {("by-language", "en"), ("by-language", "qaa"), *(("at-once", x) for x in ("en", "qaa", "qab"))}


TRANSLATED = """\
by-language:
  like: play-questions
  languages: [en, qaa, qab]
  train_languages: each
  data:
    train:
      first_of:
        - "translated/play-questions/train-{lang}.json"
        - {path: "playground:questions/train", part: 1/100, languages: [en]}
at-once: {like: by-language, train_languages: all}
"""


def test_a_plan_shows_the_settings_of_all_languages_in_one_line(words: Files) -> None:
    shown = words.call("plan", words.folder / "recipe.yaml")
    assert shown.code == 0 and (shown.out + shown.err).count("\ntarget: mine in each language: lr 1e-3") == 1


def test_a_run_says_once_that_languages_without_a_dev_set_hold_out_rows(words: Files) -> None:
    words.edit("tasks.yaml", "languages: [en, de, sw]", "languages: [en, de, sw]\n  held_out: 10/10")
    words.write("train-sw.tsv", tagged("sw", 20))
    result = words.run()
    assert result.code == 0, result.err
    assert "mine (en, sw): early stopping uses part 10/10 of its training data, which is left out" in result.err
    store = Store(words.out)
    study = store.study("tiny")
    held_out = {x.language: store.facts(study.steps[x.step][0])["stop"]["mine"]["held_out"] for x in study.cells}
    assert held_out == {"en": "10/10", "de": None, "sw": "10/10"}
