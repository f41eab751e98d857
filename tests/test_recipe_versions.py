"""Versions of a recipe: an edited recipe under an old name leaves the old results in reach."""

import json
from collections.abc import Callable

from conftest import CliResult, Files
from xstilts.execution.retention import Retention
from xstilts.execution.run import Resources, run
from xstilts.store.recipes import RUNNING
from xstilts.store.run_folder import Store, lock_shared
from xstilts.study.load import read
from xstilts.study.plan import plan
from xstilts.utils.progress import Progress


def recipes(study: Files) -> set[str]:
    return {path.stem for path in study.out.glob("recipes/*")}


def test_another_learning_rate_leaves_the_old_table(study: Files) -> None:
    old = study.run().out
    study.edit("recipe.yaml", "lr: 1e-3", "lr: 1e-1")
    result = study.run()
    assert f"the earlier 'tiny' stays as 'tiny@1': xstilts report {study.out} --recipe tiny@1" in result.err
    listed = "recipes here, the last started last: tiny@1, tiny; shown: "
    assert result.out.endswith(f"{listed}tiny\n") and result.out == study.call("report", study.out).out
    again = study.call("report", study.out, "--recipe", "tiny@1").out
    assert again == old.replace("tiny:", "tiny@1:") + f"{listed}tiny@1\n" and old.count("tiny:") == 1
    for layout, name in (("significance", "tiny@1"), ("table6", "tiny"), ("overview", "tiny@1")):
        assert f"{listed}{name}" in study.call("report", study.out, "--layout", layout, "--recipe", name).out
    facts = json.loads(study.call("report", study.out, "--format", "json").out)
    assert (facts["study"], facts["recipes"]) == ("tiny", ["tiny@1", "tiny"])


def test_going_back_and_forth_adds_no_versions(study: Files) -> None:
    for old, new in [("lr: 1e-3", "lr: 1e-1"), ("lr: 1e-1", "lr: 1e-3")] * 2:
        assert study.run().code == 0
        study.edit("recipe.yaml", old, new)
    assert study.run().code == 0
    assert recipes(study) == {"tiny", "tiny@1", "tiny@2"}
    steps = {name: Store(study.out).study(name).steps for name in recipes(study)}
    assert steps["tiny"] == steps["tiny@1"] != steps["tiny@2"]


def test_a_recipe_with_more_seeds_shows_the_old_results_itself(study: Files) -> None:
    assert study.run().code == 0
    study.edit("recipe.yaml", "seeds: [1]", "seeds: [1, 2]")
    result = study.run()
    assert "earlier" not in result.err and "recipes here" not in result.out
    assert recipes(study) == {"tiny"}


def test_gc_leaves_an_earlier_version_until_it_is_forgotten(study: Files, xstilts: Callable[..., CliResult]) -> None:
    assert study.run().code == 0
    study.edit("recipe.yaml", "lr: 1e-3", "lr: 1e-1")
    assert study.run().code == 0
    result = xstilts("gc", "--out", study.out, "--yes")
    assert result.out == "nothing to remove: every file is needed by tiny@1, tiny\n"
    before = len([*study.out.glob("steps/*")])
    assert xstilts("gc", "--out", study.out, "--forget", "tiny@1", "--yes").code == 0
    assert recipes(study) == {"tiny"} and len([*study.out.glob("steps/*")]) == before - 2, "a training and its scoring"


def test_a_version_that_still_runs_stays_and_one_without_results_goes(study: Files) -> None:
    first = plan(*read(str(study.folder / "recipe.yaml")))
    study.edit("recipe.yaml", "lr: 1e-3", "lr: 1e-1")
    second = plan(*read(str(study.folder / "recipe.yaml")))
    with lock_shared(Store(study.out)) as store:
        with Retention(store).registered(first.study()) as earlier:
            assert earlier == ""
            assert run(second, study.out, None, Progress(live=False), Resources()).done == 3
            assert {"tiny", "tiny@1"} < recipes(study), "the first run may yet have results"
        assert recipes(study) == {"tiny"}


def test_a_run_killed_between_the_two_files_loses_nothing(study: Files) -> None:
    assert study.run().code == 0
    newest = (study.out / "recipes/tiny.json").read_bytes()
    study.edit("recipe.yaml", "lr: 1e-3", "lr: 1e-1")
    assert study.run().code == 0
    (study.out / "recipes/tiny.json").write_bytes(newest)  # as if the new one had not been written
    study.write("out/recipes/tiny.0123abcd" + RUNNING, newest)
    assert study.run().code == 0
    assert recipes(study) == {"tiny", "tiny@1"}
