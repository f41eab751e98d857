"""Studies from beginning to end: run, repeated, killed, reported, shown."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from conftest import CliResult, Files, without_torch
from xstilts.store.rows import Prediction, Score, read_rows
from xstilts.store.run_folder import Store

PLAY = """\
name: play
encoder: {text: text, layers: 1, hidden: 16, heads: 2, vocabulary: 300, max_length: 64}
use: [tasks.yaml]
seeds: [1]
keep: all
settings: {limit: 20, lr: 1e-3, eval_every: 100, steps: 2}
phases:
  - {name: pretrain, choices: [[text]], seed: 1}
  - {name: middle, choices: [[], [same, {task: text, weight: 0.5}]], settings: {steps: 4}}
  - {name: target, each: [play-nli, play-pos, play-ner]}
evaluate: [play-nli, play-pos, play-ner, play-parallel, text]
languages: [en, qaa]
missing: skip
"""
PLAY_TASKS = """\
text: {like: play-text, languages: [en], train_languages: [en], data: {train: {path: "playground:text/dev", part: 1/2},
  dev: {path: "playground:text/dev", part: 2/2}}}
same: {like: play-same}
"""


def done(out: Path) -> dict[Path, int]:
    """Every file of the finished steps and when it was written."""
    folders = [path.parent for path in out.glob("steps/*/done.json")]
    return {file: file.stat().st_mtime_ns for folder in folders for file in folder.rglob("*") if file.is_file()}


def steps(out: Path, title: str) -> list[Path]:
    named = [path.parent for path in out.glob("steps/*/step.json") if json.loads(path.read_text())["title"] == title]
    assert named
    return named


def test_a_playground_study_runs_from_a_new_encoder_to_the_table(
    tmp_path: Path, xstilts: Callable[..., CliResult]
) -> None:
    (tmp_path / "tasks.yaml").write_text(PLAY_TASKS, encoding="utf-8")
    (tmp_path / "play.yaml").write_text(PLAY, encoding="utf-8")
    result = xstilts("run", tmp_path / "play.yaml", "--out", tmp_path / "out")
    assert result.code == 0, result.err
    assert "same+0.5xtext" in result.out and "play-parallel" in result.out
    (middle,) = steps(tmp_path / "out", "middle: same+0.5xtext after text")
    shares = json.loads((middle / "done.json").read_text())["shares"]
    assert shares["same"] == 4 and json.loads((middle / "log.jsonl").read_text().splitlines()[-1])["updates"] == shares
    files = done(tmp_path / "out")
    again = xstilts("run", tmp_path / "play.yaml", "--out", tmp_path / "out")
    best_run = f"the best run by its dev scores: {tmp_path}/out/best/play/TASK\n"
    best_run += f"everything on one page: {tmp_path}/out/report.html\n"
    assert (again.code, again.out, again.err) == (0, result.out, "19 of 19 steps are done already\n" + best_run)
    assert done(tmp_path / "out") == files
    rows = [row for path in tmp_path.glob("out/steps/*/scores.jsonl") for row in read_rows(path, Score)]
    assert {row.task for row in rows} >= {"play-nli", "play-pos", "play-ner", "play-parallel", "text"}
    assert all(0 <= row.value <= 100 and 0 < row.n <= 20 for row in rows if row.metric != "perplexity")
    assert {row.seed for row in rows if row.task == "play-parallel"} == {None, 1}


def test_every_step_writes_its_files(study: Files) -> None:
    assert study.run().code == 0
    (training,), (scoring,) = steps(study.out, "target: mine"), steps(study.out, "score mine")
    assert (training / "encoder/model.safetensors").is_file() and (training / "head-0.safetensors").is_file()
    log = [json.loads(line) for line in (training / "log.jsonl").read_text().splitlines()]
    assert log[-1].keys() >= {"step", "task", "loss", "lr", "seconds", "examples_per_second", "tokens_per_second"}
    scores = read_rows(scoring / "scores.jsonl", Score)
    assert {(s.language, s.split, s.n) for s in scores} == {("en", "dev", 12), ("de", "dev", 12), ("de", "test", 12)}
    predictions = [row.prediction for row in read_rows(scoring / "predictions.jsonl", Prediction)]
    assert len(predictions) == 36 and set(predictions) <= {"entailment", "neutral", "contradiction"}
    inputs = json.loads((training / "done.json").read_text())["inputs"]
    assert {Path(path).name for path in inputs} >= {"train-en.tsv", "dev-en.tsv", "model.safetensors", "tokenizer.json"}


def test_two_runs_give_identical_scores_and_weights(study: Files) -> None:
    first = study.run().out
    second = study.call("run", study.folder / "recipe.yaml", "--out", study.folder / "other")
    assert second.out == first
    one, other = (Store(study.folder / name) for name in ("out", "other"))
    for path in one.folder.glob("steps/*/scores.jsonl"):
        assert path.read_bytes() == (other.step(path.parent.name) / path.name).read_bytes()
    for path in one.folder.glob("steps/*/*.safetensors"):
        assert path.read_bytes() == (other.step(path.parent.name) / path.name).read_bytes()


def test_features_may_be_deleted_at_any_time(study: Files) -> None:
    first = study.run().out
    for path in study.out.rglob("features/*/*"):
        path.unlink()
    for path in study.out.glob("features/*"):
        path.rmdir()
    (scored,) = steps(study.out, "score mine")
    (scored / "done.json").unlink()
    assert study.run().out == first


def test_a_killed_run_resumes(study: Files) -> None:
    study.edit("recipe.yaml", "seeds: [1]", "seeds: [1, 2, 3]")
    study.edit("recipe.yaml", "steps: 2", "steps: 40")
    expected = study.call("run", study.folder / "recipe.yaml", "--out", study.folder / "whole").out
    arguments = ["run", str(study.folder / "recipe.yaml"), "--out", str(study.out)]
    code = f"import sys; sys.argv[1:] = {arguments!r}; from xstilts.cli import main; main()"
    running = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while len(list(study.out.glob("steps/*/done.json"))) < 3 and running.poll() is None:
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    before = done(study.out)
    assert len({path.parent for path in before if path.name == "done.json"}) < 7
    assert study.run().out == expected
    assert before.items() <= done(study.out).items()


def test_a_report_before_anything_is_scored(study: Files) -> None:
    assert study.run().code == 0
    for path in study.out.glob("steps/*/scores.jsonl"):
        (path.parent / "done.json").unlink()
    assert study.call("report", study.out).out == "tiny: no scores yet; done: 1 of 3 steps\n"
    assert study.call("report", study.out, "--format", "csv").out.count("\n") == 1


def test_out_of_memory_in_scoring_fails_that_step_only(study: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """The accelerator's own error; no such machine is needed to see what becomes of it."""

    def disk_full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr("xstilts.execution.steps.Evaluator.evaluate", disk_full)
    result = study.run()
    assert result.code == 2 and "Traceback" not in result.err
    assert "memory is full" in result.err and "fewer --workers" in result.err
    assert len([*study.out.glob("steps/*/done.json")]) == 1, "the training is there"


def test_changed_data_are_refused(study: Files) -> None:
    assert study.run().code == 0
    before = done(study.out)
    study.edit("train-en.tsv", "neutral", "entailment")
    result = study.run()
    assert result.code == 2 and result.err == (
        f"error: {study.folder}/train-en.tsv: has changed since it was read; made from it: 1 training, 2 evaluations\n"
        "error: 1 training, 2 evaluations must be done again"
        " (--redo does it and replaces the old scores; another --out keeps them)\n"
    )
    assert done(study.out) == before


def test_other_data_of_the_same_name_are_refused(study: Files) -> None:
    for name in ("one", "two"):
        (study.folder / name).mkdir()
    for file in ("train-en.tsv", "dev-en.tsv", "dev-de.tsv", "test-de.tsv"):
        (study.folder / file).rename(study.folder / "one" / file)
        study.write(f"two/{file}", (study.folder / "one" / file).read_bytes())
    first = study.run("--data", study.folder / "one")
    assert study.run("--data", study.folder / "two").out == first.out  # another place, but the same content
    study.edit("two/dev-de.tsv", "neutral", "entailment")
    result = study.run("--data", study.folder / "two")
    message = "differs from the file of this name that was read; made from it: 2 evaluations"
    assert result.code == 2 and f"{study.folder}/two/dev-de.tsv: {message}" in result.err


def test_file_times_do_not_matter(study: Files) -> None:
    assert study.run().code == 0
    for path in study.out.rglob("*"):
        os.utime(path, (4e9, 4e9) if path.name == "done.json" else (1e9, 1e9))  # in 2096, in 2001
    before = done(study.out)
    assert study.run().code == 0
    assert done(study.out) == before


def test_a_longer_recipe_runs_only_its_new_steps(study: Files) -> None:
    assert study.run().code == 0
    before = done(study.out)
    study.edit("recipe.yaml", "name: tiny", "name: longer")
    study.edit("recipe.yaml", "seeds: [1]", "seeds: [1, 2]")
    result = study.run()
    assert result.code == 0 and result.err.startswith("3 of 5 steps are done already\n[1/2] target: mine, seed 2\n")
    assert before.items() <= done(study.out).items()
    assert "tiny: mean" in study.call("report", study.out, "--recipe", "tiny").out
    assert "longer: mean" in study.call("report", study.out).out


@pytest.mark.parametrize("format", ["table", "markdown", "csv", "latex", "json"])
def test_a_report_in_every_format(study: Files, format: str) -> None:
    assert study.run().code == 0
    result = study.call("report", study.out, "--format", format)
    assert (result.code, result.err) == (0, "") and "mine" in result.out
    if format == "json":
        assert {line["task"] for line in json.loads(result.out)["lines"]} >= {"mine", "pairs"}


def test_report_does_not_load_torch(study: Files) -> None:
    assert study.run().code == 0
    assert "mine" in without_torch("report", study.out)


def test_a_plan_as_json_and_as_a_table(study: Files) -> None:
    result = study.call("plan", study.folder / "recipe.yaml", "--json")
    plan = json.loads(result.out)
    assert (result.err, plan["trainings"], plan["evaluations"]) == ("", 1, 3)
    table = study.call("plan", study.folder / "recipe.yaml").out
    assert all(step["id"] in table for step in plan["steps"]) and "\n1 training, at most 3 evaluations\n" in table
    assert "no mistakes; 1 training, 3 evaluations\n" in study.call("check", study.folder / "recipe.yaml").out
    assert study.run().code == 0
    assert {path.name for path in study.out.glob("steps/*")} == {step["id"] for step in plan["steps"]}


def test_check_and_plan_name_an_encoder_folder_that_a_run_would_refuse(study: Files, encoder_folder: Path) -> None:
    """A typo in the encoder's path is seen before the run; `{data}` without a data folder is nobody's mistake."""
    recipe, wrong = study.folder / "recipe.yaml", f"{encoder_folder}x"
    study.edit("recipe.yaml", str(encoder_folder), wrong)
    message = f"{wrong}: no such folder (did you mean '{encoder_folder.name}'?)\n"
    checked, planned = study.call("check", recipe), study.call("plan", recipe)
    assert (checked.code, checked.err) == (2, f"error: {message}")
    assert planned.code == 0 and f"a run here would stop: {message}" in planned.out  # it may be on another machine
    study.edit("recipe.yaml", wrong, '"{data}/encoder"')
    for command in ("check", "plan"):
        result = study.call(command, recipe)
        assert result.code == 0 and "would stop" not in result.out


@pytest.mark.parametrize("command", [("check",), ("plan",), ("plan", "--json")])
def test_a_folder_that_is_no_encoder_is_an_error_before_the_run(study: Files, command: tuple[str, ...]) -> None:
    """The folder of a half-finished download has a config.json and nothing else."""
    half = study.folder / "half"
    half.mkdir()
    (half / "config.json").write_text("{}")
    study.edit("recipe.yaml", "encoder: ", f"encoder: {half} # ")
    name, *options = command
    result = study.call(name, study.folder / "recipe.yaml", *options)
    assert (result.code, result.err) == (2, f"error: {half}: has no weights (*.safetensors)\n")
    assert name == "check" or "target: mine" in result.out  # the plan is shown nevertheless


def test_show_and_rank_take_an_encoder_as_a_plan_prints_it(
    study: Files, encoder_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan's table has ids of steps, and encoders beside the data folder."""
    monkeypatch.chdir(study.folder)
    use, data = ("--use", "tasks.yaml"), ("--data", encoder_folder.parent)
    assert study.run("--out", "runs").code == 0
    (step,) = steps(study.folder / "runs", "target: mine")
    assert "prediction  " in study.call("show", "mine", "de", 3, *use, "--encoder", step.name).out
    beside = "{data}/" + encoder_folder.name
    assert "<s>" in study.call("show", "mine", "de", 3, *use, *data, "--encoder", beside).out
    result = study.call("show", "mine", "de", 3, *use, "--encoder", beside)
    assert result.code == 2 and "give the data folder with --data" in result.err
    result = study.call("show", "mine", "de", 3, *use, "--encoder", "0123456789ab")
    assert result.code == 2 and "no step '0123456789ab' in runs (give its folder: DIR/steps/" in result.err
    study.edit("tasks.yaml", "pairs:", "other: {like: mine}\nthird: {like: mine}\npairs:")
    ranked = ("rank", "mine", *use, "--among", "other", "third", "--limit", 12, "--encoder")
    assert study.call(*ranked, step.name).code == study.call(*ranked, beside, *data).code == 0


def test_show_prints_the_prediction_that_the_study_wrote(study: Files) -> None:
    assert study.run().code == 0
    (step,) = steps(study.out, "target: mine")
    result = study.call("show", "mine", "de", 3, "--use", study.folder / "tasks.yaml", "--encoder", step)
    assert result.code == 0
    for piece in (f"{study.folder}/dev-de.tsv:4", "premise: Watoto", "=entailment", "<s>", "reference   entailment"):
        assert piece in result.out
    predictions = steps(study.out, "score mine")[0] / "predictions.jsonl"
    (row,) = [r for r in read_rows(predictions, Prediction) if (r.language, r.split, r.index) == ("de", "dev", 3)]
    assert result.out.endswith(f"prediction  {row.prediction}\n")


def test_show_refuses_what_does_not_exist(study: Files) -> None:
    use = ("--use", study.folder / "tasks.yaml")
    for arguments, message in (
        (("mien", "de", 0), "unknown task 'mien' (did you mean 'mine'?)"),
        (("mine", "fr", 0), "no data in 'fr' (known: de, en)"),
        (("mine", "de", 99), "no example 99; the first is 0, the last 11"),
        (("pairs", "de", 0, "--split", "dev"), "has no dev split (it has test)"),
    ):
        result = study.call("show", *arguments, *use)
        assert result.code == 2 and message in result.err


def test_tasks_lists_present_and_missing_files(study: Files) -> None:
    study.folder.joinpath("xnli").mkdir()
    study.write("xnli/dev-sw.tsv", "moja\tmbili\tneutral\n")
    rows = json.loads(study.call("tasks", "--json", "--data", study.folder).out)
    (row,) = [row for row in rows if row["task"] == "xnli"]
    assert row["found"] == {"train": [], "stop": [], "dev": ["sw"], "test": []}
    assert "xnli/dev-{lang}.tsv" in str(row["files"])
    assert "udpos" in study.call("tasks").out


def test_unlisted_tags_come_from_the_training_data(study: Files) -> None:
    study.write("train.tsv", "the\tNP/N\ncat\tN\n\na\tNP/N\nstone\tN\nfalls\tS\\NP\n")
    study.write("test.tsv", "the\tNP/N\nwall\tN\nsings\t(S\\NP)/NP\n")
    study.write(
        "tasks.yaml", "mine: {format: tag, metrics: [token_accuracy], data: {train: train.tsv, test: test.tsv}}\n"
    )
    study.edit("recipe.yaml", "evaluate: [pairs, mine]", "evaluate: [mine]")
    assert study.run().code == 0
    (row,) = [
        json.loads(line)
        for path in study.out.glob("steps/*/predictions.jsonl")
        for line in path.read_text().splitlines()
    ]
    assert row["reference"] == ["NP/N", "N", "(S\\NP)/NP"] and set(row["prediction"]) <= {"NP/N", "N", "S\\NP"}
