"""`report --format rows` copies a study without encoders and texts; the copy's reports equal the original's."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import SENTENCES, CliResult, Files
from xstilts.store.run_folder import Store

BRANCHES = "phases:\n  - {name: first, choices: [[], [mine]], settings: {steps: 3}}"
MORE_TASKS = """\
facts:
  like: xquad
  languages: [en, de]
  data: {train: facts-train.json, dev: "facts-{lang}.json", test: "facts-{lang}.json"}
tags:
  like: panx
  languages: [en, de]
  data: {train: tags-train.tsv, dev: "tags-{lang}.tsv", test: "tags-{lang}.tsv"}
"""
NAMES = ("Quillfeather", "Brookmere", "Dunwald")
"""Answers and tagged words."""
LAYOUTS = ("default", "languages", "benchmark", "selection", "significance", "table2")


@pytest.fixture
def ran(study: Files, encoder_folder: Path) -> Files:
    """Two branches, two seeds; pairs, questions and tags are trained, retrieval is not; the encoder lies beside."""
    shutil.copytree(encoder_folder, study.folder / "tiny")
    for language in ("train", "en", "de"):
        paragraphs = [
            {
                "context": f"{name} lives in the mill.",
                "qas": [{"id": name, "question": "Who?", "answers": [{"text": name, "answer_start": 0}]}],
            }
            for name in NAMES
        ]
        study.write(f"facts-{language}.json", json.dumps({"data": [{"title": "", "paragraphs": paragraphs}]}))
        study.write(f"tags-{language}.tsv", "".join(f"{name}\tB-PER\nruns\tO\n\n" for name in NAMES))
    study.write("tasks.yaml", (study.folder / "tasks.yaml").read_text(encoding="utf-8") + MORE_TASKS)
    for old, new in (
        (str(encoder_folder), str(study.folder / "tiny")),
        ("seeds: [1]", "seeds: [1, 2]"),
        ("phases:", BRANCHES),
        ("each: [mine]", "each: [mine, facts, tags]"),
        ("evaluate: [pairs, mine]", "evaluate: [pairs, mine, facts, tags]"),
    ):
        study.edit("recipe.yaml", old, new)
    assert study.run().code == 0
    return study


def copy_of(study: Files) -> Path:
    to = study.folder / "docs/tiny"
    result = study.call("report", study.out, "--format", "rows", "--to", to)
    assert result.code == 0, result.err
    return to


def reports(call: Callable[..., CliResult], folder: Path) -> dict[str, str]:
    found = {}
    for layout in LAYOUTS:
        for form in ("markdown", "json"):
            result = call("report", folder, "--layout", layout, "--format", form)
            assert result.code == 0, result.err
            found[f"{layout} {form}"] = result.out
    return found


def texts(folder: Path) -> str:
    return "".join(
        path.read_text(encoding="utf-8", errors="replace") for path in sorted(folder.rglob("*")) if path.is_file()
    )


def test_a_copy_reports_the_same_where_data_encoder_and_run_folder_are_gone(ran: Files, tmp_path: Path) -> None:
    before = reports(ran.call, ran.out)
    copy = copy_of(ran)
    for path in (*ran.folder.iterdir(), *ran.folder.glob("docs/*")):
        if path not in (copy, copy.parent):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    named = {key: text.replace(str(tmp_path / "tiny"), "tiny") for key, text in before.items()}
    assert reports(ran.call, copy) == named
    assert '"p": 1.0' in named["significance json"], "runs are compared example by example"


def test_a_copy_holds_no_weights_texts_labels_or_folders_of_the_machine(ran: Files, tmp_path: Path) -> None:
    copy = copy_of(ran)
    assert {path.name for path in copy.rglob("*") if path.is_file()} == {
        "store.json", "tiny.json", "step.json", "done.json", "dropped", "log.jsonl", "scores.jsonl", "examples.jsonl"
    }  # fmt: skip
    content = texts(copy)
    original = texts(ran.folder)
    for hidden in (*NAMES, *SENTENCES[:8], "entailment", "B-PER", str(tmp_path)):
        assert hidden in original, hidden
        assert hidden not in content, hidden
    done = [json.loads(path.read_text(encoding="utf-8")) for path in copy.rglob("done.json")]
    sha256 = {name: digest for facts in done for name, digest in facts["inputs"].items()}
    assert {"tiny/config.json", f"{tmp_path.name}/train-en.tsv"} <= sha256.keys()
    assert all(len(digest) == 64 for digest in sha256.values())


def test_a_copy_is_renewed_and_can_be_copied_again(study: Files) -> None:
    assert study.run().code == 0
    copy = copy_of(study)
    before = texts(copy)
    second = study.folder / "second"
    assert study.call("report", copy, "--format", "rows", "--to", second).code == 0
    assert texts(second) == before
    undone = next(iter(Store(study.out).study(None).cells)).step
    (Store(study.out).step(undone) / "done.json").unlink()
    result = study.call("report", study.out, "--format", "rows", "--to", copy)
    assert result.code == 0 and "; 1 are not finished" in result.out
    assert not Store(copy).state(undone).has_results and Store(second).state(undone).has_results


def test_a_run_continues_a_copy(ran: Files) -> None:
    copy = copy_of(ran)
    shutil.rmtree(ran.out)
    rows = {path: path.read_bytes() for path in copy.glob("steps/*/scores.jsonl")}
    ran.edit("recipe.yaml", "each: [mine, facts, tags]", "each: [mine, facts, tags], settings: {steps: 4}")
    result = ran.call("run", ran.folder / "recipe.yaml", "--out", copy)
    assert result.code == 0, result.err
    assert len([*copy.glob("steps/*/scores.jsonl")]) > len(rows)
    assert all(path.read_bytes() == content for path, content in rows.items()), "no finished score was repeated"
    assert ran.call("report", copy, "--layout", "significance").code == 0


def test_a_changed_copy_is_not_tested(ran: Files) -> None:
    copy = copy_of(ran)
    for path in copy.rglob("examples.jsonl"):
        path.write_text(path.read_text(encoding="utf-8").replace('"parts":[', '"parts":[[1],'), encoding="utf-8")
    result = ran.call("report", copy, "--layout", "significance", "--format", "markdown")
    assert result.code == 0 and "predictions do not give the score" in result.out
    path.write_text("{}\n", encoding="utf-8")
    result = ran.call("report", copy, "--layout", "significance")
    assert result.code == 2 and "examples.jsonl" in result.err


def test_what_needs_predictions_says_that_the_copy_has_none(study: Files) -> None:
    assert study.run().code == 0
    copy = copy_of(study)
    result = study.call("report", copy, "--format", "submission")
    assert result.code == 2
    assert "is a copy of rows, without predictions" in result.err and "that it was copied from" in result.err


def test_only_an_empty_folder_or_an_earlier_copy_is_written_to(study: Files) -> None:
    assert study.run().code == 0
    before = texts(study.out / "recipes")
    for folder in (study.out, study.folder):
        result = study.call("report", study.out, "--format", "rows", "--to", folder)
        assert result.code == 2 and "holds something else than a copy of rows" in result.err
    assert texts(study.out / "recipes") == before
    for option in (("--layout", "table2"), ("--beside", "paper"), ("--select", "dev")):
        result = study.call("report", study.out, "--format", "rows", *option)
        assert result.code == 2 and f"{option[0]}: cannot be used with --format rows" in result.err
    result = study.call("report", study.out, "--to", study.folder / "new")
    assert result.code == 2 and "needs --format submission, rows or html" in result.err
    assert study.call("report", study.out, "--format", "rows").code == 0
    assert (study.out / "rows/tiny/store.json").is_file()
