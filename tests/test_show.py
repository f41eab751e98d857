"""`show` follows one question or choice from the file to the scores behind its prediction."""

import json
from pathlib import Path

import pytest

from conftest import SENTENCES, Files
from xstilts.store.rows import Prediction, read_rows

RECIPE = """\
name: tiny
encoder: ENCODER
seeds: [1]
use: [tasks.yaml]
settings: {steps: 2, lr: 1e-3, batch: 2, max_length: 48}
phases:
  - {name: target, each: [asked, perhaps, picked]}
evaluate: [asked, perhaps, picked]
keep: all
"""
TASKS = """\
asked: {format: span, stride: 8, max_length: 48, data: {train: asked-train.json, test: asked-test.json}}
perhaps:
  {like: asked, no_answer: true, data: {train: perhaps-train.json, test: perhaps-test.json}, metrics: [squad2_f1]}
picked: {format: choose, max_length: 48, data: {train: picked-train.jsonl, test: picked-test.jsonl}}
"""
CONTEXT = " ".join((*SENTENCES[5:], *SENTENCES[:5]))


@pytest.fixture
def trained(study: Files, encoder_folder: Path) -> Files:
    """A study of two formats whose examples take several forward passes."""
    study.write("recipe.yaml", RECIPE.replace("ENCODER", str(encoder_folder)))
    study.write("tasks.yaml", TASKS)
    where = CONTEXT.index("dem alten Tisch")
    answers = [{"text": "dem alten Tisch", "answer_start": where}]
    questions = [{"id": "q7", "question": "Where does the dog sleep?", "answers": answers}]
    for name, more in (("asked", []), ("perhaps", [{"id": "q8", "question": "Why?", "answers": []}])):
        paragraph = {"context": CONTEXT, "qas": questions + more}
        for split in ("train", "test"):
            study.write(f"{name}-{split}.json", json.dumps({"data": [{"paragraphs": [paragraph]}]}))
    rows = [{"context": SENTENCES[0], "endings": list(SENTENCES[1 : 3 + i]), "label": i} for i in range(3)]
    for split in ("train", "test"):
        study.write(f"picked-{split}.jsonl", "\n".join(map(json.dumps, rows)))
    assert study.run().code == 0, study.run().err
    return study


def shown(study: Files, task: str, index: int, *more: object) -> list[str]:
    result = study.call("show", task, "en", index, "--use", study.folder / "tasks.yaml", *more)
    assert result.code == 0, result.err
    return result.out.splitlines()


def step(study: Files, task: str) -> Path:
    """The folder of a task's training."""
    folders = {path.parent: json.loads(path.read_text()) for path in study.out.glob("steps/*/step.json")}
    (found,) = (folder for folder, row in folders.items() if row["title"].startswith(f"target: {task}"))
    return found


def predicted(study: Files, task: str, index: int) -> object:
    rows = [row for path in study.out.glob("steps/*/predictions.jsonl") for row in read_rows(path, Prediction)]
    (row,) = (row for row in rows if (row.task, row.index) == (task, index))
    return row.prediction


def test_show_prints_a_question_its_windows_and_its_answer(trained: Files) -> None:
    lines = shown(trained, "asked", 0, "--encoder", step(trained, "asked"))
    text = "\n".join(lines)
    assert "question: Where does the dog sleep?" in text and 'reference   ["dem alten Tisch"]' in text
    (context,) = (line for line in lines if ">>dem alten Tisch<<" in line)
    assert context.lstrip().startswith("context: ... ") and context.endswith(f"({len(CONTEXT) + 4:,} characters)")
    passes = [line for line in lines if line.startswith("pass ")]
    with_answer = [line for line in passes if ", the answer is tokens " in line]
    assert 0 < len(with_answer) < len(passes) == len(with_answer) + text.count(", without the answer")
    marked = [line for line in lines if line.startswith("tokens") and ">>" in line and "<<" in line]
    assert len(marked) == len(with_answer)
    assert all(line.split(">>")[1].split("<<")[0].replace(" ", "").startswith("▁dem") for line in marked)
    assert lines[-2].startswith("scores      best span ") and "no answer" not in lines[-2]
    assert lines[-1] == f"prediction  {predicted(trained, 'asked', 0)}"


def test_show_prints_a_question_without_an_answer(trained: Files) -> None:
    lines = shown(trained, "perhaps", 1, "--encoder", step(trained, "perhaps"))
    assert 'reference   [""]' in lines and ">>" not in "\n".join(lines)
    assert all(line.endswith(", without the answer") for line in lines if line.startswith("pass "))
    assert lines[-2].startswith("scores      best span ") and ", no answer " in lines[-2]


def test_show_numbers_the_endings_and_marks_the_right_one(trained: Files) -> None:
    lines = shown(trained, "picked", 1, "--encoder", step(trained, "picked"))
    assert [line.strip() for line in lines if "ending " in line] == [
        f"ending {number}: {text}" for number, text in enumerate(SENTENCES[1:4])
    ]
    assert "reference   1" in lines
    starts = [line.split()[1] for line in lines if line.startswith("tokens")]
    assert starts == ["<s>=wrong", "<s>=right", "<s>=wrong"]
    assert lines[-2].startswith("scores      0 ") and lines[-2].count(",") == 2
    assert lines[-1] == f"prediction  {predicted(trained, 'picked', 1)}"


def test_without_an_encoder_show_prints_the_row_only(trained: Files) -> None:
    assert shown(trained, "picked", 0)[-1] == "tokens      give --encoder to see them"
    assert any(">>dem alten Tisch<<" in line for line in shown(trained, "asked", 0))


def test_show_takes_unlisted_tags_from_the_training_data(study: Files, encoder_folder: Path) -> None:
    study.write("tags.tsv", "stone\tA\nwall\tB\n")
    study.write("tasks.yaml", "tags: {format: tag, data: {train: tags.tsv, test: tags.tsv}}\n")
    lines = shown(study, "tags", 0, "--encoder", encoder_folder)
    assert any("=A" in line and "=B" in line for line in lines if line.startswith("tokens"))
    study.write("tasks.yaml", "tags: {format: tag, data: {test: tags.tsv}}\n")
    result = study.call("show", "tags", "en", 0, "--use", study.folder / "tasks.yaml")
    assert result.code == 2 and "takes its labels from its training data, but has none" in result.err


def test_show_says_what_a_step_was_trained_on_that_has_no_head_for_the_task(trained: Files) -> None:
    lines = shown(trained, "picked", 1, "--encoder", step(trained, "asked"))
    assert lines[-1] == "prediction  none: this step was trained on asked; give one that was trained on picked"
