"""Pruning: `gc` lists what no recipe of a run folder needs, and removes it with --yes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import CliResult, Files
from xstilts.store import prune
from xstilts.store.run_folder import Store, lock_exclusive, lock_shared


def folders(study: Files, kind: str) -> set[str]:
    return {path.name for path in study.out.glob(f"{kind}/*")}


def plan(study: Files, recipe: str) -> set[str]:
    result = study.call("plan", study.folder / recipe, "--json")
    return {step["id"] for step in json.loads(result.out)["steps"]}


@pytest.fixture
def two(study: Files) -> Files:
    """Two recipes under one folder: the second has another seed, and reads the text with another length."""
    assert study.run().code == 0
    text = (study.folder / "recipe.yaml").read_text(encoding="utf-8")
    study.write("more.yaml", text.replace("name: tiny", "name: more").replace("max_length: 32", "max_length: 24"))
    assert study.call("run", study.folder / "more.yaml", "--out", study.out).code == 0
    return study


def test_gc_removes_what_only_a_forgotten_recipe_needs(two: Files, xstilts: Callable[..., CliResult]) -> None:
    tiny, more = plan(two, "recipe.yaml"), plan(two, "more.yaml")
    features = folders(two, "features")
    result = xstilts("gc", "--out", two.out)
    assert (result.code, result.out) == (0, "nothing to remove: every file is needed by tiny, more\n")
    listed = xstilts("gc", "--out", two.out, "--forget", "more")
    assert {line.split()[0] for line in listed.out.splitlines() if "MB  " in line} == more - tiny
    assert "nothing was removed: add --yes to remove it" in listed.out and folders(two, "steps") == tiny | more
    table = two.call("report", two.out, "--recipe", "tiny").out
    assert xstilts("gc", "--out", two.out, "--recipe", "tiny", "--yes").out.endswith("removed\n")
    assert folders(two, "steps") == tiny and folders(two, "recipes") == {"tiny.json"}
    assert folders(two, "features") < features
    assert table == two.call("report", two.out).out + "recipes here, the last started last: tiny, more; shown: tiny\n"
    assert "[1/" not in two.run().err, "all of it is still done"
    assert two.call("run", two.folder / "more.yaml", "--out", two.out).code == 0
    assert folders(two, "steps") == tiny | more and folders(two, "features") == features


def test_gc_keeps_the_steps_of_an_unfinished_recipe(study: Files) -> None:
    assert study.run().code == 0
    before = folders(study, "steps")
    for path in study.out.glob("steps/*/scores.jsonl"):
        shutil.rmtree(path.parent)  # as if the run had been killed after the training
    shutil.copytree(study.out / "steps" / folders(study, "steps").pop(), study.out / "steps" / "0123456789ab")
    result = study.call("gc", "--out", study.out, "--yes")
    assert result.code == 0 and "1 step and 0 sets of features" in result.out
    assert len(folders(study, "steps")) == 1 and folders(study, "steps") < before


def test_gc_removes_only_steps_and_of_a_link_only_the_link(study: Files) -> None:
    assert study.run().code == 0
    moved, linked = study.folder / "elsewhere", study.out / "steps" / "0123456789ab"
    shutil.copytree(study.out / "steps" / folders(study, "steps").pop(), moved)
    linked.symlink_to(moved)
    for folder in ("steps/my notes", "features/mine", "claims/mine"):
        (study.out / folder).mkdir(parents=True)
    result = study.call("gc", "--out", study.out, "--yes")
    assert (result.code, result.out.splitlines()[0].split()[0]) == (0, linked.name), result.err
    assert not linked.is_symlink() and (moved / "done.json").is_file()
    assert all((study.out / folder).is_dir() for folder in ("steps/my notes", "features/mine", "claims/mine"))


def test_gc_ignores_malformed_features_in_a_done_json(study: Files) -> None:
    assert study.run().code == 0
    path = next(study.out.glob("steps/*/done.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"features": [{}]}), encoding="utf-8")
    assert study.call("gc", "--out", study.out).out.startswith("nothing to remove")


def test_gc_refuses_a_recipe_that_does_not_list_its_steps(study: Files) -> None:
    assert study.run().code == 0
    path = study.out / "recipes" / "tiny.json"
    old = json.loads(path.read_text(encoding="utf-8"))
    del old["steps"]
    path.write_text(json.dumps(old), encoding="utf-8")
    result = study.call("gc", "--out", study.out)
    assert result.out == "nothing to remove: every file is needed by tiny\n", "what has begun tells what it starts from"
    shutil.rmtree(next(study.out.glob("steps/*/scores.jsonl")).parent)
    result = study.call("gc", "--out", study.out)
    assert result.code == 2 and "did not list the steps it needs (run it again, or --forget tiny)" in result.err


def test_gc_refuses_a_folder_in_use(study: Files) -> None:
    assert study.run().code == 0
    with lock_shared(Store(study.out)):
        result = study.call("gc", "--out", study.out, "--forget", "tiny", "--yes")
    assert (result.code, result.err) == (2, f"error: {study.out}: a run is using this folder\n")
    assert len(folders(study, "steps")) == 3


def test_gc_refuses_unknown_recipes(study: Files) -> None:
    assert study.run().code == 0
    result = study.call("gc", "--out", study.out, "--forget", "tyni", "--recipe", "none")
    assert result.code == 2 and result.err.count("error: ") == 2
    assert "has no recipe 'tyni' (known: tiny)" in result.err
    both = study.call("gc", "--out", study.out, "--forget", "tiny", "--recipe", "tiny", "--yes")
    assert both.code == 2 and "--forget: 'tiny' cannot be kept and forgotten" in both.err
    shutil.rmtree(study.out / "recipes")
    assert "has no results of any recipe yet" in study.call("gc", "--out", study.out, "--yes").err


@pytest.mark.parametrize("mark", [None, '{"version": 0}', '{"version": 99}'])
def test_gc_leaves_other_folders_alone(study: Files, mark: str | None) -> None:
    study.write("steps", "")
    if mark:
        study.write("store.json", mark)
    before = {path: path.stat().st_mtime_ns for path in study.folder.iterdir()}
    result = study.call("gc", "--out", study.folder, "--yes")
    expected = f"(its format is {json.loads(mark)['version']}, this one reads" if mark else "is not a run folder"
    assert result.code == 2 and expected in result.err
    assert {path: path.stat().st_mtime_ns for path in study.folder.iterdir()} == before


def test_a_killed_gc_leaves_no_step_half_removed(two: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny, more = plan(two, "recipe.yaml"), plan(two, "more.yaml")

    def killed(_: Path) -> None:
        raise KeyboardInterrupt

    with lock_exclusive(Store(two.out)) as store:
        found = prune.find(store, forget=["more"])
        monkeypatch.setattr(prune.shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            prune.remove(store, found)
        assert {id for id in tiny | more if store.state(id).has_results} == tiny
        monkeypatch.undo()
        prune.remove(store, prune.find(store))
    assert folders(two, "steps") == tiny


def test_hard_links_are_counted_once(tmp_path: Path) -> None:
    (tmp_path / "steps" / ("a" * 12)).mkdir(parents=True)
    (tmp_path / "steps" / ("b" * 12)).mkdir()
    (tmp_path / "steps" / ("a" * 12) / "weights").write_bytes(bytes(1000))
    (tmp_path / "steps" / ("b" * 12) / "weights").hardlink_to(tmp_path / "steps" / ("a" * 12) / "weights")
    study = {"name": "s", "encoder": "e", "seeds": [], "branches": [], "baseline": None, "tasks": [], "cells": []}
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "s.json").write_text(json.dumps(study), encoding="utf-8")
    assert [thing.bytes for thing in prune.find(Store(tmp_path)).steps] == [1000, 0]
