"""XTREME's own download folder, whose scripts remove the labels of all test files: trained on, predicted, exported."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import CliResult, Files
from xstilts.data.examples import locate
from xstilts.execution.inputs import StepInputs
from xstilts.study.load import read
from xstilts.study.plan import plan
from xstilts.tasks import GROUPS, TASKS
from xstilts.tasks.source import File
from xstilts.tasks.task import Task
from xtreme_folder import leaderboard_files, questions, sentence, write, write_rows, xtreme_folder

RECIPE = """\
name: on-xtreme
encoder: {text: play-text, layers: 1, hidden: 16, heads: 2, vocabulary: 400}
seeds: [1]
LANGUAGES
settings: {steps: 2, lr: 1e-3, batch: 4, max_length: 64}
phases:
  - {name: target, each: xtreme}
evaluate: xtreme
"""
ENGLISH_TYDIQA = "tydiqa/tydiqa-goldp-v1.1-dev/tydiqa.goldp.en.dev.json"
TRAIN = "tydiqa/tydiqa-goldp-v1.1-train/tydiqa.goldp.en.train.json"


@pytest.fixture(scope="session")
def download(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return xtreme_folder(tmp_path_factory.mktemp("xtreme") / "download")


def inputs(data: Path, recipe: str = "xtreme-baseline") -> StepInputs:
    """The inputs of a recipe of the package."""
    return StepInputs(plan(*read(recipe)), data)


def facts(out: Path, title: str) -> dict[str, Any]:
    """What a step with this title has recorded."""
    for path in out.glob("steps/*/step.json"):
        if json.loads(path.read_text())["title"] == title:
            found: dict[str, Any] = json.loads((path.parent / "done.json").read_text())
            return found
    raise AssertionError(title)


def ran(folder: Path, data: Path, call: Callable[..., CliResult], languages: str) -> tuple[CliResult, Path]:
    """A study of all nine tasks over a data folder."""
    recipe, out = folder / "recipe.yaml", folder / "out"
    recipe.write_text(RECIPE.replace("LANGUAGES", languages), encoding="utf-8")
    result = call("run", recipe, "--data", data, "--out", out)
    assert result.code == 0, result.err
    return result, out


UNSCORED = "xnli, pawsx, udpos, panx, xquad, mlqa, tydiqa, bucc2018, tatoeba"


def test_a_study_over_xtremes_folder_runs_and_says_what_it_could_not_score(
    tmp_path: Path, download: Path, xstilts: Callable[..., CliResult]
) -> None:
    result, out = ran(tmp_path, download, xstilts, "languages: [en, de, fi]")
    assert "without labels, so predicted and not scored: xnli: test of all languages; pawsx" in result.err
    assert "tydiqa: early stopping uses part 10/10 of its training data, which is left out" in result.err
    shown = " ".join(result.out.split())
    assert f"without labels in test, so predicted and not scored: {UNSCORED}" in shown
    held_out = "xnli (part 100/100), tydiqa (part 10/10)"
    assert f"early stopping used training data, which the training left out: {held_out}" in shown
    report = json.loads(xstilts("report", out, "--format", "json").out)
    scored = {line["task"]: line["split"] for line in report["lines"]}
    assert scored == dict.fromkeys(("xnli", "pawsx", "udpos", "panx", "mlqa", "bucc2018", "all tasks"), "dev")
    assert report["missing"] == [] and report["left_out"] == {}
    exported = xstilts("report", out, "--format", "submission")
    assert exported.code == 0 and "without labels: xnli (de, en); pawsx (de, en)" in exported.out
    folder = out / "submission" / "on-xtreme" / "all" / "seed-1" / "predictions"
    assert {name.partition("/")[0] for name in leaderboard_files(folder)} == {*GROUPS["xtreme"]}
    assert {"udpos/test-fi.tsv", "tydiqa/test-fi.json", "tatoeba/test-fi.tsv"} < {*leaderboard_files(folder)}


@pytest.mark.slow
def test_every_language_of_xtremes_folder_gets_a_file(
    tmp_path: Path, download: Path, xstilts: Callable[..., CliResult]
) -> None:
    _, out = ran(tmp_path, download, xstilts, "")
    xstilts("report", out, "--format", "submission")
    folder = out / "submission" / "on-xtreme" / "all" / "seed-1"
    count = sum(len(TASKS[task].languages) for task in GROUPS["xtreme"])
    assert len(leaderboard_files(folder / "predictions")) == count == 162 and not (folder / "labels").exists()


def test_the_plan_and_the_data_check_name_splits_without_labels(
    tmp_path: Path, download: Path, xstilts: Callable[..., CliResult]
) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("LANGUAGES", ""), encoding="utf-8")
    planned = xstilts("plan", tmp_path / "recipe.yaml", "--data", download, "--json")
    assert json.loads(planned.out)["unlabelled"] == [f"{task}: test of all languages" for task in GROUPS["xtreme"]]
    assert json.loads(planned.out)["absent"] == ["udpos: dev of kk, th, tl, yo"]
    recipe_checked = xstilts("check", tmp_path / "recipe.yaml", "--data", download)
    assert "without labels, so predicted and not scored:\n  xnli: test of all languages\n" in recipe_checked.out
    checked = xstilts("data", "check", "xquad", "mlqa", "tatoeba", "--data", download)
    assert "without labels, so predicted and not scored: xquad test; mlqa test; tatoeba test" in checked.out


def test_a_layout_without_labels_is_passed_over_for_one_with_labels(tmp_path: Path) -> None:
    write_rows(tmp_path / "xnli/test-de.tsv", [[sentence("de", 1), sentence("de", 2)]])
    task = TASKS["xnli"]
    test = locate(task, task.data["test"], ("de",), tmp_path)
    assert not test.labelled and [Path(path).name for path in test.files] == ["test-de.tsv"]
    row = {"sentence1": "Es regnet.", "sentence2": "Es schneit.", "gold_label": "neutral", "language": "de"}
    write(tmp_path / "XNLI-1.0/xnli.test.jsonl", json.dumps(row) + "\n")
    test = locate(task, task.data["test"], ("de",), tmp_path)
    assert test.labelled and [Path(path).name for path in test.files] == ["xnli.test.jsonl"]
    write_rows(tmp_path / "xnli/test-de.tsv", [[sentence("de", 1), sentence("de", 2), "neutral"]])
    assert [Path(path).name for path in locate(task, task.data["test"], ("de",), tmp_path).files] == ["test-de.tsv"]


def test_a_broken_file_is_not_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "squad/dev-v1.1.json", "{")
    write(tmp_path / "other.json", questions("en", ["a"], answers=True))
    task = Task.model_validate(
        {**TASKS["squad1"].model_dump(exclude={"format"}), "format": TASKS["squad1"].format,
         "data": {"dev": {"first_of": ["squad/dev-v1.1.json", "other.json"]}}}
    )  # fmt: skip
    assert [Path(path).name for path in locate(task, task.data["dev"], ("en",), tmp_path).files] == ["dev-v1.1.json"]


def test_tydiqa_stops_on_the_last_tenth_of_its_training_questions(download: Path) -> None:
    found, task = inputs(download), TASKS["tydiqa"]
    train, stop = found.train_set(task).read(), found.stop_set(task)
    whole = locate(task, task.data["train"], ("en",), download, train=True).read()
    assert stop is not None and (len(train), len(stop.read()), len(whole)) == (36, 4, 40)
    assert train + stop.read() == whole
    assert found.stop_facts(task, stop) == {"files": [Path(TRAIN).name], "held_out": "10/10", "test": False}


def test_the_papers_recipes_stop_tydiqa_on_its_test_set_if_it_has_answers(tmp_path: Path) -> None:
    write(tmp_path / TRAIN, questions("en", [str(i % 3) for i in range(20)], answers=True))
    for answers, rows, held_out in ((True, 20, None), (False, 18, "10/10")):
        write(tmp_path / ENGLISH_TYDIQA, questions("en", ["a", "b", "c"], answers=answers))
        for recipe in ("paper-table2", "paper-table3"):
            found = inputs(tmp_path, recipe)
            task = found.plan.tasks["tydiqa"]
            stop = found.stop_set(task)
            assert stop is not None and len(found.train_set(task).read()) == rows
            assert found.stop_facts(task, stop) == {
                "files": [Path(ENGLISH_TYDIQA if answers else TRAIN).name],
                "held_out": held_out, "test": answers,
            }  # fmt: skip
        assert len(inputs(tmp_path).train_set(TASKS["tydiqa"]).read()) == 18  # other recipes never stop on test


def test_a_report_marks_a_task_that_stopped_on_its_test_set(tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    write(tmp_path / TRAIN, questions("en", [str(i) for i in range(20)], answers=True))
    write(tmp_path / ENGLISH_TYDIQA, questions("en", ["a", "b", "c"], answers=True))
    recipe = tmp_path / "recipe.yaml"
    text = RECIPE.replace("LANGUAGES", "languages: [en]").replace("evaluate: xtreme", "evaluate: [tydiqa]")
    recipe.write_text(text.replace("each: xtreme", "each: [tydiqa]"), encoding="utf-8")
    note = "tydiqa: early stopping used the test set, so scores in the training language are optimistic"
    ours = xstilts("run", recipe, "--data", tmp_path, "--out", tmp_path / "ours")
    assert ours.code == 0 and note not in " ".join(ours.out.split()), ours.err
    recipe.write_text(recipe.read_text() + "use: [paper-tasks.yaml]\n", encoding="utf-8")
    papers = xstilts("run", recipe, "--data", tmp_path, "--out", tmp_path / "papers")
    assert "tydiqa: early stopping uses test data, so scores on them are optimistic" in papers.err
    assert note in " ".join(papers.out.split())
    assert facts(tmp_path / "papers", "target: tydiqa")["stop"]["tydiqa"]["test"]
    assert facts(tmp_path / "ours", "target: tydiqa")["stop"]["tydiqa"]["held_out"] == "10/10"


def test_xnli_stops_on_mnlis_dev_set_or_else_on_the_last_hundredth_of_its_training_pairs(tmp_path: Path) -> None:
    pairs = [[f"{sentence('en', i)} {i}", sentence("en", i + 1), "neutral"] for i in range(200)]
    write_rows(tmp_path / "xnli/train-en.tsv", pairs)
    write_rows(tmp_path / "xnli/dev-en.tsv", [["Dev", "of XNLI", "neutral"]])
    found, task = inputs(tmp_path), TASKS["xnli"]
    stop = found.stop_set(task)
    assert stop is not None and [example.texts[0] for example in stop.read()] == [row[0] for row in pairs[198:]]
    assert len(found.train_set(task).read()) == 198
    row = {"sentence1": "Dev", "sentence2": "of MNLI", "gold_label": "neutral"}
    write(tmp_path / "multinli_1.0/multinli_1.0_dev_matched.jsonl", json.dumps(row) + "\n")
    stop = found.stop_set(task)
    assert stop is not None and [example.texts for example in stop.read()] == [("Dev", "of MNLI")]
    assert len(found.train_set(task).read()) == 200


def test_a_dev_set_without_labels_comes_with_the_field_that_replaces_it(study: Files) -> None:
    study.edit("tasks.yaml", "like: xnli", "like: mnli")
    path = study.write("dev-en.tsv", "one\ttwo\n")
    refused = study.run()
    hint = "early stopping needs 'label'; `held_out: 10/10` in the task takes a tenth of the training rows"
    assert refused.code == 2 and f"{path}: this split has no labels ({hint})" in refused.err
    study.edit("tasks.yaml", "like: mnli", "like: mnli\n  held_out: 10/10")
    result = study.run()
    assert result.code == 0 and "mine: early stopping uses part 10/10 of its training data" in result.err, result.err


def test_xnli_on_training_rows_of_ones_own_holds_out_a_tenth_of_them(study: Files) -> None:
    study.edit("tasks.yaml", 'dev: "dev-{lang}.tsv", ', "")
    study.edit("tasks.yaml", "[en, de]", "[de]")
    study.write(
        "train-en.tsv",
        "".join(f"one {i}\ttwo\t{('neutral', 'entailment', 'contradiction')[i % 3]}\n" for i in range(300)),
    )
    result = study.run()
    assert result.code == 0 and "mine: early stopping uses part 10/10 of its training data" in result.err, result.err


def test_translated_mnli_never_stops_on_xnlis_labels(tmp_path: Path) -> None:
    tasks = inputs(tmp_path, "paper-table3").plan.tasks
    rows = "".join(f"Satz {i}\tAussage {i}\tneutral\n" for i in range(200))
    write(tmp_path / "XNLI-MT-1.0/multinli/multinli.train.de.tsv", f"premise\thypo\tlabel\n{rows}")
    write_rows(tmp_path / "xnli/dev-de.tsv", [["Dev", "von XNLI", "neutral"]])
    found = inputs(tmp_path, "paper-table3")
    train, stop = found.train_set(tasks["mnli-de"]).read(), found.stop_set(tasks["mnli-de"])
    assert stop is not None and tasks["mnli-de"].scored == ("dev",)
    assert (len(train), [example.texts[0] for example in stop.read()]) == (198, ["Satz 198", "Satz 199"])
    write(
        tmp_path / "translated/mnli/dev-de.jsonl", json.dumps({"premise": "a", "hypothesis": "b", "label": "neutral"})
    )
    stop = found.stop_set(tasks["mnli-de"])
    assert stop is not None and [example.texts for example in stop.read()] == [("a", "b")]


def test_a_language_that_lacks_a_translation_comes_with_the_command_that_writes_it(tmp_path: Path) -> None:
    write(tmp_path / "pawsx/train-en.tsv", "1\tThe inn was full .\tFull was the inn .\t1\n")
    writes = f"(`xstilts translate pawsx --to de,es,fr,ja,ko,zh --engine E --out {tmp_path}/translated` writes it)"
    line = f"pawsx: train of de, es, fr, ja, ko, zh {writes}"
    laid_out = plan(*read("translate-train"))
    assert line in laid_out.absent(tmp_path) and line in laid_out.with_training_data(tmp_path)[1]


def test_a_test_set_that_is_not_yet_translated_comes_with_the_command_that_writes_it(
    tmp_path: Path, xstilts: Callable[..., CliResult]
) -> None:
    """The Hub has the original, which is no help, so no line names it."""
    write(tmp_path / "xquad/xquad.es.json", "{}")
    planned = xstilts("plan", "translate-test", "--data", tmp_path).out
    command = f"xstilts translate pawsx --from de,es,fr,ja,ko,zh --to en --engine E --out {tmp_path}/translate-test"
    assert f"  pawsx-to-en: all languages (`{command}` writes it)\n" in planned
    assert "data fetch" not in planned.partition("pawsx-to-en")[2]


def test_table_3_trains_on_what_translate_writes(tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    """And before that, the error says which command writes what is missing."""
    for split, count in (("train", 100), ("dev_matched", 1)):  # a hundredth of `train` may have to replace dev
        pair = {"sentence1": "Why is the sky blue?", "sentence2": "It is.", "gold_label": "neutral"}
        write(tmp_path / f"multinli_1.0/multinli_1.0_{split}.jsonl", (json.dumps(pair) + "\n") * count)
    for split in ("train", "dev"):
        write(tmp_path / f"QQP/{split}.tsv", "id\tquestion1\tquestion2\tis_duplicate\n7\tWho am I?\tWho is he?\t0\n")
        row = {"ctx_a": "[header] Tea", "ctx_b": "she", "endings": ["pours.", "sits.", "hums.", "naps."], "label": 0}
        name = "val" if split == "dev" else split
        write(tmp_path / f"hellaswag/hellaswag_{name}.jsonl", json.dumps(row) + "\n")
    result = xstilts("check", "paper-table3", "--data", tmp_path)
    hint = f"`xstilts translate qqp --to de --engine E --out {tmp_path}/translated` writes it"
    assert result.code == 2 and hint in result.err and "recipes/" not in result.err.replace("xstilts/recipes/", "")
    arguments = ("--to", "de,ru,sw", "--engine", "command", "--command", "sed 's/^/{to}: /'", "--data", tmp_path)
    for task in ("mnli", "qqp", "hellaswag"):
        assert xstilts("translate", task, *arguments, "--out", tmp_path / "translated").code == 0
    assert f"{tmp_path}/translated" not in xstilts("check", "paper-table3", "--data", tmp_path).err
    found = inputs(tmp_path, "paper-table3")
    for name, first in (("mnli-sw", "sw: Why is the sky blue?"), ("qqp-ru", "ru: Who am I?")):
        task = found.plan.tasks[name]
        stop = found.stop_set(task)
        assert stop is not None and found.train_set(task).read()[0] == stop.read()[0]
        assert [example.texts[0] for example in stop.read()] == [first]
    [choice] = found.train_set(found.plan.tasks["hellaswag-de"]).read()
    assert (choice.context, choice.endings[0], choice.answer) == ("[header] de: Tea", "de: she de: pours.", 0)


@pytest.mark.parametrize("recipe", ["paper-table3", "other-languages"])
@pytest.mark.parametrize("scale", ["full", "mini"])
def test_no_training_stops_on_rows_of_xnli_that_are_scored(recipe: str, scale: str) -> None:
    study = plan(*read(recipe, scale))
    scored = study.tasks["xnli"].data["dev"]
    trained = {part.task for step in study.steps.values() for part in step.parts}
    for task in (study.tasks[name] for name in sorted(trained)):
        stop = task.stop_source()
        if stop is not None and task.format == study.tasks["xnli"].format:
            assert not stop.overlaps(scored, ("en", "de", "ru", "sw")), task.name


def test_sorted_tatoeba_is_predicted_line_by_line_and_laser_is_preferred(tmp_path: Path) -> None:
    task = TASKS["tatoeba"]
    write(tmp_path / "tatoeba/af-en.af", "een\ntwee\ndrie\n")
    write(tmp_path / "tatoeba/af-en.en", "one\nthree\ntwo\n")
    rows = locate(task, task.data["test"], ("af",), tmp_path)
    examples = rows.read()
    assert [(example.query, example.candidate) for example in examples] == [
        ("one", "een"), ("three", "twee"), ("two", "drie"),
    ]  # fmt: skip
    assert [task.format.reference(example, i) for i, example in enumerate(examples)] == [None] * 3
    write(tmp_path / "tatoeba/tatoeba.afr-eng.afr", "een\ntwee\ndrie\n")
    write(tmp_path / "tatoeba/tatoeba.afr-eng.eng", "one\ntwo\nthree\n")
    examples = locate(task, task.data["test"], ("af",), tmp_path).read()
    assert [task.format.reference(example, i) for i, example in enumerate(examples)] == [0, 2, 1]


@pytest.mark.parametrize(
    ("written", "held_out", "inside", "outside"),
    [
        (None, "10/10", "10/10", ["1-9/10"]),
        (None, "1/4", "1/4", ["2-4/4"]),
        (None, "2/3", "2/3", ["1/3", "3/3"]),
        ("2/2", "10/10", "20/20", ["11-19/20"]),
    ],
)
def test_what_is_held_out_is_left_out(written: str | None, held_out: str, inside: str, outside: list[str]) -> None:
    file = File(path="x.tsv", part=written)
    kept = [one.rows_of(1_003) for one in file.leaving_out(held_out)]
    taken, whole = file.taking(held_out), file.rows_of(1_003)
    assert (taken.part, [one.part for one in file.leaving_out(held_out)]) == (inside, outside)
    assert sorted([*taken.rows_of(1_003), *(row for rows in kept for row in rows)]) == [*whole]


@pytest.mark.parametrize("part", ["3-2/4", "1-5/4", "5/4"])
def test_parts_that_do_not_exist_are_refused(part: str) -> None:
    with pytest.raises(ValueError, match=f"there is no part {part}"):
        File(path="x.tsv", part=part)


@pytest.mark.parametrize("part", ["1/1", "1-4/4", "5/4"])
def test_a_task_cannot_hold_out_all_its_training_rows(part: str) -> None:
    with pytest.raises(ValueError, match=f"cannot hold out part {part}"):
        Task.model_validate({**TASKS["mnli"].model_dump(exclude={"format"}), "format": NLI, "held_out": part})


NLI = TASKS["mnli"].format
