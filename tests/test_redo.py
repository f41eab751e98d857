"""Changed files: a run says which finished steps were made from them, and does these again if told to."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import Files


@pytest.fixture
def two_tasks(study: Files) -> Files:
    """A run whose German task has a training and test data of its own."""
    study.write("de-train.tsv", (study.folder / "train-en.tsv").read_bytes())
    more = "\nother:\n  like: xnli\n  languages: [de]\n  train_languages: [de]\n"
    more += "  data: {train: de-train.tsv, test: de-test.tsv}\n"
    study.write("tasks.yaml", (study.folder / "tasks.yaml").read_text() + more)
    study.write("de-test.tsv", (study.folder / "test-de.tsv").read_bytes())
    study.edit("recipe.yaml", "each: [mine]", "each: [mine, other]")
    study.edit("recipe.yaml", "evaluate: [pairs, mine]", "evaluate: [pairs, mine, other]")
    result = study.run()
    assert result.code == 0 and "[5/5] score other" in result.err, result.err
    return study


def done(study: Files) -> dict[str, int]:
    """When each step was finished, by its title."""
    titles = {path.parent: json.loads(path.read_text())["title"] for path in study.out.glob("steps/*/step.json")}
    return {
        title: (path / "done.json").stat().st_mtime_ns
        for path, title in titles.items()
        if (path / "done.json").is_file()
    }


def redone(study: Files, *more: object) -> set[str]:
    """The steps that a run with --redo does again."""
    before = done(study)
    result = study.run("--redo", *more)
    assert result.code == 0, result.err
    after = done(study)
    return {title for title in after if after[title] != before[title]}


def test_a_changed_test_file_redoes_the_scoring_of_its_task(two_tasks: Files) -> None:
    two_tasks.edit("test-de.tsv", "neutral", "entailment")
    refused = two_tasks.run()
    assert refused.code == 2 and refused.err.startswith(
        f"error: {two_tasks.folder}/test-de.tsv: has changed since it was read; made from it: 2 evaluations\n"
        "error: 2 evaluations must be done again (--redo does it and replaces the old scores; another --out keeps them)"
    )
    planned = two_tasks.call("plan", two_tasks.folder / "recipe.yaml", "--out", two_tasks.out)
    assert planned.code == 0 and "again: score mine" in planned.out
    assert "4 of 5 steps" in planned.out and "test-de.tsv: has changed since it was read; made from it" in planned.out
    assert redone(two_tasks) == {"score mine"}
    assert redone(two_tasks) == set(), "the new file is known"


def test_a_changed_training_file_redoes_the_trainings_from_it_and_their_scoring(two_tasks: Files) -> None:
    two_tasks.edit("de-train.tsv", "neutral", "entailment")
    assert redone(two_tasks, "--workers", 2) == {"target: other", "score other"}


def test_a_changed_dev_file_redoes_the_training_that_stops_on_it(two_tasks: Files) -> None:
    two_tasks.edit("dev-en.tsv", "neutral", "entailment")
    assert redone(two_tasks) == {"target: mine", "score mine"}


def test_a_changed_dev_file_redoes_only_the_scoring_if_no_training_stops_on_it(two_tasks: Files) -> None:
    two_tasks.edit("dev-de.tsv", "neutral", "entailment")
    assert redone(two_tasks) == {"score mine"}


def test_a_touched_or_moved_file_redoes_nothing(two_tasks: Files) -> None:
    for path in two_tasks.folder.glob("*.tsv"):
        path.write_bytes(path.read_bytes())
        os.utime(path, (1e9, 1e9))
    assert redone(two_tasks) == set()


def test_another_encoder_in_the_same_folder_redoes_everything(two_tasks: Files, tmp_path: Path) -> None:
    name = next(line for line in (two_tasks.folder / "recipe.yaml").read_text().splitlines() if "encoder:" in line)
    own = tmp_path / "own"
    own.mkdir()
    for path in Path(name.split()[1]).iterdir():
        (own / path.name).write_bytes(path.read_bytes())
    two_tasks.edit("recipe.yaml", name, f"encoder: {own}")
    assert two_tasks.run().code == 0
    weights = bytearray((own / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (own / "model.safetensors").write_bytes(weights)
    refused = two_tasks.run()
    assert refused.code == 2 and "error: 2 trainings, 4 evaluations must be done again (" in refused.err
    assert two_tasks.run("--redo").code == 0 and two_tasks.run().code == 0


def test_scoring_again_trains_a_removed_encoder_again_and_says_so(two_tasks: Files) -> None:
    two_tasks.edit("recipe.yaml", "keep: all", "keep: none")
    assert two_tasks.run().code == 0
    assert not [*two_tasks.out.glob("steps/*/encoder")]
    two_tasks.edit("de-test.tsv", "neutral", "entailment")
    assert (
        "1 evaluation must be done again; for them also 1 training, because encoders were not kept ("
        in two_tasks.run().err
    )
    assert redone(two_tasks) == {"target: other", "score other"}


def test_a_removed_encoder_that_is_needed_again_is_not_trained_on_other_data_unnoticed(two_tasks: Files) -> None:
    two_tasks.edit("recipe.yaml", "keep: all", "keep: none")
    assert two_tasks.run().code == 0
    two_tasks.edit("de-train.tsv", "neutral", "entailment")
    two_tasks.edit("recipe.yaml", "keep: none", "keep: all")  # all encoders are made again
    refused = two_tasks.run()
    assert (
        refused.code == 2
        and "de-train.tsv: has changed since it was read; made from it: 1 training, 1 eval" in refused.err
    )


def test_several_changed_files_share_a_line(two_tasks: Files) -> None:
    two_tasks.edit("test-de.tsv", "neutral", "entailment")
    two_tasks.edit("de-test.tsv", "neutral", "entailment")
    changed = "-de.tsv, " + f"{two_tasks.folder}/de-test.tsv: have changed since they were read; made from them: 3 eval"
    assert changed in two_tasks.run().err


def test_other_recipes_of_the_folder_are_counted(two_tasks: Files) -> None:
    two_tasks.edit("recipe.yaml", "name: tiny", "name: more")
    two_tasks.edit("tasks.yaml", "languages: [en, de]", "languages: [de]")
    assert two_tasks.run().code == 0
    two_tasks.edit("train-en.tsv", "neutral", "entailment")
    assert "the results of 1 step of other recipes that start from these go (" in two_tasks.run().err


def test_damaged_new_data_lose_no_results(two_tasks: Files) -> None:
    before = done(two_tasks)
    two_tasks.edit("test-de.tsv", "neutral", "nonsense")
    result = two_tasks.run("--redo")
    assert result.code == 2 and "nonsense" in result.err and done(two_tasks) == before


def test_a_run_killed_while_it_marks_steps_does_the_rest_next_time(
    two_tasks: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xstilts.store.run_folder import Store

    before = done(two_tasks)
    two_tasks.edit("dev-en.tsv", "neutral", "entailment")
    mark, marked = Store._undo_step, list[str]()

    def killed(self: Store, id: str) -> None:
        if marked:
            raise KeyboardInterrupt
        marked.append(id)
        mark(self, id)

    monkeypatch.setattr(Store, "_undo_step", killed)
    assert two_tasks.run("--redo").code == 130
    assert before.keys() - done(two_tasks).keys() == {"score mine"}
    monkeypatch.undo()
    assert "error: 1 training must be done again (--redo" in two_tasks.run().err
    assert two_tasks.run("--redo").code == 0
    assert {title for title, facts in done(two_tasks).items() if facts != before[title]} == {
        "target: mine",
        "score mine",
    }


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 2)])
def test_a_run_on_a_terminal_asks(two_tasks: Files, answer: str, code: int) -> None:
    before = done(two_tasks)
    two_tasks.edit("test-de.tsv", "neutral", "entailment")
    main, side = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "xstilts.cli",
        "run",
        str(two_tasks.folder / "recipe.yaml"),
        "--out",
        str(two_tasks.out),
    ]
    with subprocess.Popen(command, stdin=side, stdout=subprocess.DEVNULL, stderr=side) as process:
        os.close(side)
        os.write(main, f"{answer}\n".encode())
        shown = b""
        while True:
            try:
                part = os.read(main, 1000)
            except OSError:  # the other side is closed
                break
            if not part:
                break
            shown += part
        assert process.wait(timeout=60) == code
    assert b"do these steps again? [y/N]" in shown and b"made from it: 2 evaluations" in shown
    assert (done(two_tasks) == before) == (answer == "n")
