"""A step's folder describes its own heads, wherever a user copies it."""

import json
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from conftest import SENTENCES, Files
from xstilts.errors import UserError
from xstilts.formats import Span, Tag
from xstilts.model.trained import HeadRecord, TrainedModel, copy_records

RECIPE = """\
name: tiny
encoder: ENCODER
seeds: [1, 2]
use: [tasks.yaml]
settings: {steps: 3, lr: 1e-3, batch: 2, max_length: 48, eval_every: 1}
phases:
  - {name: middle, choices: [[tags, text]]}
  - {name: target, each: [tags, asked], average: [runs, checkpoints], snapshots: 2}
evaluate: [tags, asked]
keep: all
"""
TASKS = """\
tags: {format: tag, max_length: 32, data: {train: tags-train.tsv, test: tags.tsv}}
text: {format: mask, data: {train: text.txt}}
asked:
  {format: span, no_answer: true, stride: 8, data: {train: asked-train.json, test: asked.json}, metrics: [squad2_f1]}
"""
TAGS = [f"(S\\NP{i})/NP" for i in range(40)]


@pytest.fixture
def trained(study: Files, encoder_folder: Path) -> Files:
    """A study of tags that only the training data name, questions, and raw text; with averages of seeds and points."""
    study.write("recipe.yaml", RECIPE.replace("ENCODER", str(encoder_folder)))
    study.write("tasks.yaml", TASKS)
    for name in ("tags", "tags-train"):
        study.write(f"{name}.tsv", "".join(f"stone\t{a}\nwall\t{b}\n\n" for a, b in pairwise(TAGS)))
    study.write("text.txt", "\n".join(SENTENCES))
    answers = [{"text": SENTENCES[0].split()[0], "answer_start": 0}]
    paragraph = {"context": SENTENCES[0], "qas": [{"id": "q", "question": "Who?", "answers": answers}]}
    for name in ("asked", "asked-train"):
        study.write(f"{name}.json", json.dumps({"data": [{"paragraphs": [paragraph]}]}))
    result = study.run()
    assert result.code == 0, result.err
    return study


def copied(study: Files, title: str, seed: int | None = 1) -> Path:
    """A copy of a step's model alone, where no store is."""
    rows = {path.parent: json.loads(path.read_text()) for path in study.out.glob("steps/*/step.json")}
    (step,) = (folder for folder, row in rows.items() if (row["title"], row["seed"]) == (title, seed))
    copy = study.folder / "elsewhere" / step.name
    shutil.copytree(step, copy, ignore=shutil.ignore_patterns("step.json", "done.json", "*.jsonl", "mean"))
    return copy


TAGGED, ASKED = "target: tags after tags+text", "target: asked after tags+text"


def test_a_copied_step_keeps_labels_named_only_by_the_training_data(trained: Files) -> None:
    trained_tags = [copied(trained, f"{way}{TAGGED}", seed) for way, seed in WAYS]
    both = copied(trained, "middle: tags+text")
    shutil.rmtree(trained.out)
    (trained.folder / "tags-train.tsv").unlink()
    for folder in trained_tags:
        (head,) = TrainedModel.load(folder).heads
        assert head.record == HeadRecord(
            task="tags", format=Tag(labels=tuple(sorted(TAGS))), metric="chunk_f1", languages=("en",), max_length=48,
            tokenizer=head.record.tokenizer,
        )  # fmt: skip
        assert head.record.labels == tuple(sorted(TAGS)) and head.record.threshold is None
    tags, text = TrainedModel.load(both).heads
    assert tags.record.task == "tags" and text.record.format.head.kind == "vocabulary"
    assert text.module.module is not None and not (both / "head-1.safetensors").exists()


WAYS: list[tuple[str, int | None]] = [("", 1), ("average of checkpoints of ", 1), ("average of seeds 1, 2 of ", None)]


def test_a_copied_step_can_be_saved_again_with_a_threshold(trained: Files) -> None:
    folder = copied(trained, ASKED)
    model = TrainedModel.load(folder)
    (head,) = model.heads
    assert isinstance(head.record.format, Span) and head.record.format.no_answer and head.record.format.stride == 8
    head.record = head.record.model_copy(update={"threshold": 0.5})
    model.save(trained.folder / "again")
    (again,) = TrainedModel.load(trained.folder / "again").heads
    assert again.record == head.record and again.record.threshold == 0.5
    for name, weight in head.module.state_dict().items():
        assert torch.equal(weight, again.module.state_dict()[name])


def test_a_step_with_mismatched_files_is_refused(trained: Files) -> None:
    folder, other = copied(trained, TAGGED), copied(trained, ASKED)
    path = folder / "head-0.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    with pytest.raises(UserError, match=r"has other labels than .*head-0.json, so the heads cannot be merged"):
        copy_records([folder, other], trained.folder / "merged", [0])
    for change, message in (
        ({"tokenizer": "0" * 16}, "was trained with another tokenizer than that in"),
        ({"format": record["format"] | {"labels": TAGS[:2]}}, r"the weights do not fit: out.bias is \[40\], not \[2\]"),
        ({"format": {"name": "tags"}}, "cannot be read: format: no format 'tags'"),
        ({"format": {"name": ["tag"]}}, "cannot be read: format: no format"),
        ({"format": {"name": "mask"}}, "the format 'mask' has no weights of its own"),
        ({"threshold": float("nan")}, "cannot be read: threshold: "),
    ):
        path.write_text(json.dumps(record | change), encoding="utf-8")
        with pytest.raises(UserError, match=message):
            TrainedModel.load(folder)
    path.unlink()
    with pytest.raises(UserError, match=f"{path}: is missing"):
        TrainedModel.load(folder)
    (other / "head-0.json.bak").touch()
    assert len(TrainedModel.load(other).heads) == 1, "what a user keeps beside is no head"
    shutil.rmtree(other / "encoder")
    with pytest.raises(UserError, match=f"{other}: has no encoder"):
        TrainedModel.load(other)


def test_a_head_with_labels_in_another_order_is_not_evaluated(trained: Files) -> None:
    rows = {path.parent: json.loads(path.read_text()) for path in trained.out.glob("steps/*/step.json")}
    (step,) = (folder for folder, row in rows.items() if (row["title"], row["seed"]) == (TAGGED, 1))
    path = step / "head-0.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    record["format"]["labels"].reverse()
    path.write_text(json.dumps(record), encoding="utf-8")
    for folder, row in rows.items():
        if row["kind"] == "evaluate" and row["parent"] == step.name:
            (folder / "done.json").unlink()
    result = trained.run()
    assert result.code != 0
    assert f"{step}: the head of 'tags' has a different format or labels than 'tags'" in result.err
