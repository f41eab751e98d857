"""The run folder: dependents that are undone, notes on trainings at chance, locks, damaged rows."""

import os
import re
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from conftest import Files
from xstilts.errors import UserError
from xstilts.store.label_notes import cause_notes
from xstilts.store.rows import Score, means
from xstilts.store.run_folder import Store, lock_exclusive, lock_shared, open_or_new
from xstilts.study.index import Cell, Study, StudyTask
from xstilts.training.settings import CHECKPOINT


def begin(store: Store, id: str, *parents: str, learned: str = "") -> None:
    """A step begins."""
    training = {"training": {"parts": [{"task": learned}]}} if learned else {}
    row = {"title": id, "seed": 1, "parent": parents[0] if parents else None, **training}
    store.begin(id, row | ({"parents": parents} if len(parents) > 1 else {}))


def step(store: Store, id: str, *parents: str, learned: str = "", **facts: Any) -> None:
    """A finished step, with a checkpoint as an unfinished one has."""
    begin(store, id, *parents, learned=learned)
    store.finish(id, facts)
    (store.step(id) / CHECKPOINT).touch()


def study(*cells: tuple[str, str], own: tuple[str, ...] = ()) -> Study:
    """Tasks, each with the step that scores it."""
    lines = tuple(
        StudyTask(task, "f", "accuracy", ("accuracy",), ("en",), "en", trained_on_own_data=task in own)
        for task, _ in cells
    )
    return Study("s", "e", (1,), ("all",), None, lines, tuple(Cell("all", 1, task, step) for task, step in cells))


AT_CHANCE = {"at_chance": True, "dev": 50.0, "dev_chance": 50.0}


def test_repeating_a_step_undoes_all_its_dependents(tmp_path: Path) -> None:
    store = Store(tmp_path)
    steps = (("a",), ("b", "a"), ("other",), ("merge", "other", "b"), ("score", "merge"), ("apart", "other"))
    for id, *parents in steps:
        step(store, id, *parents)
    begin(store, "a")
    assert [id for id in ("other", "apart", "b", "merge", "score") if store.state(id).has_results] == ["other", "apart"]
    left = {path.parent.name for path in tmp_path.glob(f"steps/*/{CHECKPOINT}")}
    assert left == {"a", "other", "apart"}, "a step's own checkpoint is what it goes on from"


def test_a_step_that_is_its_own_parent_causes_no_endless_loop(tmp_path: Path) -> None:
    store = Store(tmp_path)
    step(store, "b", "a", "b")
    step(store, "a", "b", learned="x", **AT_CHANCE)
    assert store.notes(study(("y", "b"))) == {"a": "a, seed 1 ended at chance on its dev set (50.0; chance is 50.0)"}
    (store.step("b") / CHECKPOINT).touch()
    begin(store, "b", "a", "b")
    assert not store.state("a").has_results and (store.step("b") / CHECKPOINT).exists()


def test_merges_of_merges_are_visited_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    step(store, "0", learned="x", **AT_CHANCE)
    for i in range(60):  # 4^60 ways
        step(store, str(i + 1), *[str(i)] * 4)
    assert len(store.notes(study(("y", "60")))) == 1


def test_a_target_training_at_chance_gives_no_intermediate_note(tmp_path: Path) -> None:
    store = Store(tmp_path)
    step(store, "first", learned="middle", **AT_CHANCE)
    step(store, "target", "first", learned="twin", **AT_CHANCE)
    step(store, "average", "target", "target")
    for id in ("target", "average"):
        step(store, f"score-{id}", id)
        assert [*store.notes(study(("mine", f"score-{id}"), own=("mine",)))] == ["first"]
        assert len(store.notes(study(("mine", f"score-{id}")))) == 2


def test_a_training_at_chance_is_none_of_a_task_that_is_scored_after_it(tmp_path: Path) -> None:
    """Sentence retrieval has no training, so none of its own failed."""
    store = Store(tmp_path)
    step(store, "first", learned="middle", likely_cause="6 updates", **AT_CHANCE)
    step(store, "score", "first")
    retrieval = study(("y", "score"))
    row = Score("y", "en", "test", "accuracy", 0.0, 9, "score", "encoder", 1, 10.0)
    noted = store.notes(retrieval)
    assert "first, seed 1 ended at chance" in noted["first"] and "likely cause: 6 updates" in noted["first"]
    assert cause_notes(store, retrieval, [row], noted) == []


def test_a_step_is_listed_once_it_has_begun(tmp_path: Path) -> None:
    store = Store(tmp_path)
    begin(store, "a")
    other = Store(tmp_path)
    step(other, "b", "a")
    assert store.step_parents() == {"a": (), "b": ("a",)}, "another run has begun it"


def test_a_claim_has_one_holder(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.claim("a") as ours, Store(tmp_path).claim("a") as theirs, store.claim("b") as other:
        assert (ours, theirs, other) == (True, False, True)
    assert not [*(tmp_path / "claims").iterdir()]
    with store.claim("a") as again:
        assert again


def test_many_threads_claim_in_turn(tmp_path: Path) -> None:
    """The file of a claim is removed and made again all the time: nobody may hold one that is gone."""
    inside, most = [0], [0]

    def work() -> None:
        for _ in range(100):
            with Store(tmp_path).claim("a", wait=True):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0)
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


def test_the_only_run_removes_leftovers(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with lock_shared(store):
        step(store, "a")
        left = [tmp_path / "features" / "x.part", store.step("a") / CHECKPOINT, tmp_path / "claims" / "a"]
        left[0].mkdir(parents=True)
        left[2].parent.mkdir()
        left[2].touch()
        with lock_shared(Store(tmp_path)):
            assert all(path.exists() for path in left), "these may be the other run's"
        with pytest.raises(UserError, match="a run is using this folder"), lock_exclusive(Store(tmp_path)):
            pass
    with lock_shared(store):
        assert not any(path.exists() for path in left)


def test_a_run_waits_while_gc_holds_the_folder(tmp_path: Path) -> None:
    result: list[str] = []
    opening = threading.Thread(target=lambda: lock_shared(Store(tmp_path), result.append).__enter__())
    with lock_exclusive(Store(tmp_path)):
        opening.start()
        end = time.monotonic() + 300
        while not result and time.monotonic() < end:
            time.sleep(0.01)
        opening.join(0.1)  # in which it could go on, if it did not wait
        assert opening.is_alive() and result == [f"{tmp_path} is being cleaned up by another process; this run waits"]
    opening.join(300)  # it ends at once; a loaded machine takes longer
    assert not opening.is_alive()


@pytest.mark.parametrize("made", [True, False])
def test_a_read_only_folder_is_refused(made: bool) -> None:
    with TemporaryDirectory() as name:  # which others may enter
        folder = Path(name) / "out"
        folder.mkdir()
        if made:
            with lock_shared(Store(folder)):
                pass
        for path in (Path(name), folder):
            path.chmod(0o555)
        before = sorted(folder.rglob("*"))
        root = os.geteuid() == 0
        try:
            if root:  # who may write anywhere
                os.seteuid(65534)
            with pytest.raises(UserError, match=r"cannot be written: Permission denied \(choose another --out\)"):
                lock_shared(open_or_new(folder)).__enter__()
        finally:
            if root:
                os.seteuid(0)
        assert sorted(folder.rglob("*")) == before
        for path in (Path(name), folder):
            path.chmod(0o755)


@pytest.mark.parametrize("row", [
    '{"training": null}', '{"training": 5}', '{"training": {"parts": [5]}}', '{"parents": 5}', '{"parents": [5]}',
    '{"title": 5, "parent": {}}', "5", '{"parent": "a\\u0000b"}', "[" * 100_000, '{"parent":' * 100_000,
])  # fmt: skip
def test_a_damaged_step_json_gives_no_note(tmp_path: Path, row: str) -> None:
    store = Store(tmp_path)
    step(store, "a", learned="x", **AT_CHANCE)
    step(store, "score", "a")
    (store.step("a") / "step.json").write_text(row, encoding="utf-8")
    assert store.notes(study(("y", "score"))) == {}
    begin(store, "a")
    assert not store.state("score").has_results


@pytest.mark.parametrize(
    "facts", ['{"at_chance": true}', '{"at_chance": true, "dev": "x", "dev_chance": 1}', "[" * 10**5]
)
def test_a_damaged_done_json_is_refused(tmp_path: Path, facts: str) -> None:
    store = Store(tmp_path)
    step(store, "a", learned="x")
    step(store, "score", "a")
    (store.step("a") / "done.json").write_text(facts, encoding="utf-8")
    with pytest.raises(UserError, match=re.escape("a/done.json: cannot be read (delete the folder")):
        store.notes(study(("y", "score")))


def test_predictions_that_do_not_match_the_scores_are_refused(study: Files) -> None:
    assert study.run().code == 0
    store = Store(study.out)
    (cell,) = (cell for cell in store.study(None).cells if cell.task == "mine")
    path = store.step(cell.step) / "predictions.jsonl"
    rows = path.read_text(encoding="utf-8").splitlines(keepends=True)
    (last,) = (i for i, row in enumerate(rows) if '"de", "split": "test", "index": 11' in row)
    wrong = {"11 rows of mine de test, 11": [*rows[:last], *rows[last + 1 :]],
             "13 rows of mine de test, 12": [*rows, rows[last]]}  # fmt: skip
    for what, changed in wrong.items():
        path.write_text("".join(changed), encoding="utf-8")
        result = study.call("report", study.out, "--format", "submission")
        hint = f"(delete the folder {path.parent} and run again)"
        assert (result.code, result.err) == (
            2,
            f"error: {path}: has {what} of them different, for 12 examples {hint}\n",
        )
    scores = path.with_name("scores.jsonl")
    scores.write_text(scores.read_text(encoding="utf-8") * 2, encoding="utf-8")
    result = study.call("report", study.out)
    assert result.code == 2 and f"{scores}: has two rows for the same score (delete the folder" in result.err


def test_a_store_that_another_run_creates_meanwhile_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark, flush = tmp_path / "out" / "store.json", os.fsync

    def other_run(_: int) -> None:
        """Make the store and clean up, while the first run is about to rename its temporary file."""
        monkeypatch.setattr(os, "fsync", flush)
        with lock_shared(Store(mark.parent)):
            assert mark.is_file()

    monkeypatch.setattr(os, "fsync", other_run)
    with lock_shared(Store(mark.parent)):
        assert [path.name for path in mark.parent.glob("*store.json*")] == ["store.json"]


def test_a_mean_counts_its_languages() -> None:
    swahili, german = (Score("nli", x, "dev", "accuracy", 60.0, 5, "a", "tiny", 1) for x in ("sw", "de"))
    assert means([swahili], "accuracy", ["dev", "test"]) == "dev 60.0 over 1 language"
    assert means([swahili, german], "accuracy", ["dev"]) == "dev 60.0 over 2 languages"
