"""The run folder: what is undone with a step, what it says of trainings at chance, rows that are damaged."""

import re
from pathlib import Path
from typing import Any

import pytest

from xstilts.errors import UserError
from xstilts.results import Cell, Study, TaskLine
from xstilts.store import CHECKPOINT, Store


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
    lines = tuple(TaskLine(task, "f", "accuracy", ("accuracy",), ("en",), "en", own=task in own) for task, _ in cells)
    return Study("s", "e", (1,), ("all",), None, lines, tuple(Cell("all", 1, task, step) for task, step in cells))


AT_CHANCE = {"at_chance": True, "dev": 50.0, "dev_chance": 50.0}


def test_all_that_came_of_a_step_is_undone_with_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    steps = (("a",), ("b", "a"), ("other",), ("merge", "other", "b"), ("score", "merge"), ("apart", "other"))
    for id, *parents in steps:
        step(store, id, *parents)
    begin(store, "a")
    assert [id for id in ("other", "apart", "b", "merge", "score") if store.done(id)] == ["other", "apart"]
    left = {path.parent.name for path in tmp_path.glob(f"steps/*/{CHECKPOINT}")}
    assert left == {"a", "other", "apart"}, "a step's own checkpoint is what it goes on from"


def test_a_step_that_names_itself_as_parent_ends_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    step(store, "b", "a", "b")
    step(store, "a", "b", learned="x", **AT_CHANCE)
    assert store.notes(study(("y", "b"))) == ["a, seed 1 ended at chance on its dev set (50.0; chance is 50.0)"]
    (store.step("b") / CHECKPOINT).touch()
    begin(store, "b", "a", "b")
    assert not store.done("a") and (store.step("b") / CHECKPOINT).exists()


def test_merges_of_merges_are_looked_at_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    step(store, "0", learned="x", **AT_CHANCE)
    for i in range(60):  # 4^60 ways
        step(store, str(i + 1), *[str(i)] * 4)
    assert len(store.notes(study(("y", "60")))) == 1


def test_a_tasks_own_training_is_no_note_whoever_named_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    step(store, "first", learned="middle", **AT_CHANCE)
    step(store, "target", "first", learned="twin", **AT_CHANCE)
    step(store, "average", "target", "target")
    for id in ("target", "average"):
        step(store, f"score-{id}", id)
        assert [note.split(",")[0] for note in store.notes(study(("mine", f"score-{id}"), own=("mine",)))] == ["first"]
        assert len(store.notes(study(("mine", f"score-{id}")))) == 2


@pytest.mark.parametrize("row", [
    '{"training": null}', '{"training": 5}', '{"training": {"parts": [5]}}', '{"parents": 5}', '{"parents": [5]}',
    '{"title": 5, "parent": {}}', "5", '{"parent": "a\\u0000b"}', "[" * 100_000, '{"parent":' * 100_000,
])  # fmt: skip
def test_a_damaged_row_says_nothing(tmp_path: Path, row: str) -> None:
    store = Store(tmp_path)
    step(store, "a", learned="x", **AT_CHANCE)
    step(store, "score", "a")
    (store.step("a") / "step.json").write_text(row, encoding="utf-8")
    assert store.notes(study(("y", "score"))) == []
    begin(store, "a")
    assert not store.done("score")


@pytest.mark.parametrize(
    "facts", ['{"at_chance": true}', '{"at_chance": true, "dev": "x", "dev_chance": 1}', "[" * 10**5]
)
def test_damaged_facts_are_told(tmp_path: Path, facts: str) -> None:
    store = Store(tmp_path)
    step(store, "a", learned="x")
    step(store, "score", "a")
    (store.step("a") / "done.json").write_text(facts, encoding="utf-8")
    with pytest.raises(UserError, match=re.escape("a/done.json: cannot be read (delete the folder")):
        store.notes(study(("y", "score")))
