"""`report A --compare B`: an edited recipe against its earlier version, two recipes, two folders."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest

from conftest import CliResult, Files
from xstilts.analysis.results import StudyResults
from xstilts.errors import UserError
from xstilts.render.writers import render
from xstilts.reports.recipe_comparison import Side, compare_recipes
from xstilts.store.rows import Prediction, Score, write_rows
from xstilts.store.run_folder import Store, lock_shared
from xstilts.study.index import Cell, Study, StudyTask

TASK = StudyTask("reviews", "classify", "accuracy", ("accuracy",), ("en", "de", "sw"), "en")


def answers(right: int, total: int = 40) -> list[Prediction]:
    """Predictions for one language, of which the first `right` are right."""
    rows = range(total)
    return [Prediction("reviews", "", "test", i, str(i), "a" if i < right else "b", "a") for i in rows]


class Made:
    """A recipe with scores of its own: for each branch, seed and language the number of right answers of 40."""

    def __init__(self, name: str, right: dict[tuple[str, int], dict[str, int]], split: str = "test") -> None:
        branches = tuple(dict.fromkeys(branch for branch, _ in right))
        cells = [Cell(branch, seed, "reviews", f"{branch}{seed}".ljust(12, "0")) for branch, seed in right]
        seeds = tuple(sorted({seed for _, seed in right}))
        self.study = Study(name, "tiny", seeds, branches, None, (TASK,), tuple(cells))
        self.predictions: dict[str, list[Prediction]] = {}
        self.scores: dict[str, list[Score]] = {}
        for cell, by_language in zip(cells, right.values(), strict=True):
            rows = {x: [replace(row, language=x, split=split) for row in answers(k)] for x, k in by_language.items()}
            self.predictions[cell.step] = [row for of in rows.values() for row in of]
            self.scores[cell.step] = [
                Score("reviews", x, split, "accuracy", 100 * k / 40, 40, cell.step, "tiny", cell.seed, chance=50.0)
                for x, k in by_language.items()
            ]

    def side(self, label: str) -> Side:
        scores = [row for rows in self.scores.values() for row in rows]
        return Side(label, StudyResults(self.study, scores, self.predictions.__getitem__))

    def save(self, folder: Path) -> None:
        with lock_shared(Store(folder)) as store:
            for cell in self.study.cells:
                path = store.begin(cell.step, {"id": cell.step, "kind": "evaluate", "title": "score", "parent": None})
                write_rows(path / "scores.jsonl", self.scores[cell.step])
                write_rows(path / "predictions.jsonl", self.predictions[cell.step])
                store.finish(cell.step, {})
            store.save_study(self.study)


OLD = Made("old", {("none", 1): {"en": 30, "de": 20, "sw": 10}, ("none", 2): {"en": 32, "de": 22, "sw": 12}})
NEW = Made(
    "new",
    {("none", seed): {"en": 30 + seed, "de": 30 + seed, "sw": 30 - seed} for seed in (1, 2, 3)}
    | {("mnli", 1): {"en": 40, "de": 40, "sw": 40}},
)


def facts(first: Side, second: Side) -> dict[str, dict[str, float]]:
    return {line["language"]: line for line in compare_recipes(first, second).facts["lines"]}


def test_a_difference_is_the_median_of_differences_at_the_same_seed() -> None:
    lines = facts(NEW.side("new"), OLD.side("old"))
    assert [*lines] == ["zero-shot", "mean", "en", "de", "sw"]
    per_seed = {
        seed: [100 * (NEW_K - OLD_K) / 40 for NEW_K, OLD_K in zip(new, old, strict=True)]
        for seed, new, old in [(1, (31, 31, 29), (30, 20, 10)), (2, (32, 32, 28), (32, 22, 12))]
    }
    for i, language in enumerate(("en", "de", "sw")):
        assert lines[language]["difference"] == pytest.approx(median(row[i] for row in per_seed.values()))
    assert lines["mean"]["difference"] == pytest.approx(median(sum(row) / 3 for row in per_seed.values()))
    assert lines["zero-shot"]["difference"] == pytest.approx(median(sum(row[1:]) / 2 for row in per_seed.values()))
    assert (lines["de"]["first_seeds"], lines["de"]["second_seeds"], lines["de"]["paired"]) == (3, 2, 2)
    assert (lines["de"]["first"], lines["de"]["second"]) == (80.0, 52.5)
    assert lines["de"]["adjusted"] < 0.05 < lines["en"]["adjusted"] and lines["de"]["low"] > 0


def test_the_table_names_both_and_says_what_only_one_has() -> None:
    text = render(compare_recipes(NEW.side("new"), OLD.side("runs:old")))
    head = next(line for line in text.splitlines() if line.startswith("language"))
    assert head.split()[1:4] == ["new", "runs:old", "difference"]
    assert "difference: new minus runs:old at the same seed, median over seeds" in text
    assert "note: branches of new that are not compared: mnli" in text
    assert "seeds, so differences are over those that both have (new: 1, 2, 3; runs:old: 1, 2)" in text


def test_the_only_branch_of_one_is_compared_with_each_of_the_other() -> None:
    other = Made("other", {("mixed", 1): {"en": 35, "de": 35, "sw": 35}})
    lines = compare_recipes(other.side("other"), NEW.side("new")).facts["lines"]
    assert {line["branch"] for line in lines} == {"mixed / none", "mixed / mnli"}
    at = {(line["branch"], line["language"]): line["difference"] for line in lines}
    assert (at["mixed / none", "de"], at["mixed / mnli", "de"]) == (10.0, -12.5)


def test_other_branches_are_a_mistake() -> None:
    other = Made("other", {(branch, 1): {"en": 35} for branch in ("qqp", "squad")})
    with pytest.raises(UserError, match=r"no branch in common \(new has none, mnli; other has qqp, squad\)"):
        compare_recipes(NEW.side("new"), other.side("other"))


def test_a_language_of_one_recipe_is_shown_and_in_no_mean() -> None:
    fewer = Made("fewer", {("none", 1): {"en": 30, "de": 20}})
    shown = compare_recipes(NEW.side("new"), fewer.side("fewer"))
    lines = {line["language"]: line for line in shown.facts["lines"]}
    assert (lines["sw"]["second"], lines["sw"]["difference"]) == (None, None)
    assert lines["mean"]["difference"] == pytest.approx((100 / 40 + 1100 / 40) / 2)
    assert "in no mean, for want of scores in some branch or seed: reviews (sw)" in render(shown)
    (sw,) = (cells for label, cells in shown.tables[0].rows if label == "sw Swahili")
    assert [cell.value for cell in sw] == ["70.0", "-", "-", "-", "-"]


def test_other_examples_are_named_and_not_tested() -> None:
    changed = Made("new", {("none", 1): {"en": 30, "de": 20, "sw": 10}})
    for rows in changed.predictions.values():
        rows[:40] = [replace(row, reference="a" if row.index else "c") for row in rows[:40]]
        rows[0] = replace(rows[0], prediction="c")
    shown = compare_recipes(changed.side("new"), OLD.side("old"))
    assert shown.facts["untested"] == {"the runs have different examples": ("reviews en",)}
    lines = {line["language"]: line for line in shown.facts["lines"]}
    assert lines["en"]["p"] is None and lines["de"]["p"] is not None
    assert "not tested, the runs have different examples: reviews en" in render(shown)


def test_scores_on_different_splits_are_not_subtracted() -> None:
    dev = Made("dev", {("none", 1): {"en": 30, "de": 20, "sw": 10}}, split="dev")
    shown = compare_recipes(NEW.side("new"), dev.side("dev"))
    assert all(line["difference"] is None for line in shown.facts["lines"])
    assert any("scores on different splits: reviews de, reviews en, reviews sw" in line for line in shown.legend)


def test_no_common_seed_gives_no_difference_and_says_so() -> None:
    other = Made("other", {("none", 7): {"en": 30, "de": 20, "sw": 10}})
    shown = compare_recipes(NEW.side("new"), other.side("other"))
    assert {line["difference"] for line in shown.facts["lines"]} == {None}
    assert [*shown.facts["untested"]] == ["no seed in common"]


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The default run folder with two recipes, and another folder with one of the same name."""
    monkeypatch.chdir(tmp_path)
    OLD.save(tmp_path / "runs")
    NEW.save(tmp_path / "runs")
    Made("new", {("none", 1): {"en": 10, "de": 10, "sw": 10}}).save(tmp_path / "more")
    return tmp_path


@pytest.mark.usefixtures("folders")
@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("runs", "--compare", "old"), ["new", "old"]),
        (("runs", "--recipe", "old", "--compare", "new"), ["old", "new"]),
        (("old", "--compare", "new"), ["old", "new"]),
        (("runs:old", "--compare", "more"), ["runs:old", "more:new"]),
        (("runs", "--compare", "more:new"), ["runs:new", "more:new"]),
    ],
)
def test_recipes_and_folders_can_be_named(
    xstilts: Callable[..., CliResult], arguments: tuple[str, ...], names: list[str]
) -> None:
    result = xstilts("report", *arguments, "--format", "json")
    assert result.code == 0, result.err
    assert [side["name"] for side in json.loads(result.out)["compared"]] == names
    for format in ("table", "markdown", "latex", "csv"):
        other = xstilts("report", *arguments, "--format", format)
        assert other.code == 0 and (format == "csv" or names[1] in other.out)
    assert xstilts("report", *arguments, "--format", "csv").out.startswith("task,branch,language,split,metric,n,first,")


@pytest.mark.usefixtures("folders")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("runs", "--compare", "odl"),
            "--compare: 'odl' is no recipe of runs, and no run folder (did you mean 'old'?)",
        ),
        (("runs", "--compare", "new"), "--compare: 'new' is compared with itself (--recipe names the first one)"),
        (("runs", "--compare", "more:nwe"), "more: has no results of a recipe 'nwe' (did you mean 'new'?)"),
        (("runs", "--compare", "old", "--layout", "brief"), "--layout: cannot be used with --compare"),
        (("runs", "--compare", "old", "--format", "rows"), "--format rows: cannot be used with --compare"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    xstilts: Callable[..., CliResult], arguments: tuple[str, ...], message: str
) -> None:
    result = xstilts("report", *arguments)
    assert (result.code, result.err) == (2, f"error: {message}\n")


def test_settings_and_files_that_differ_are_named(study: Files) -> None:
    """Another learning rate, then other training data, which only the newer version is trained on again with."""
    assert study.run().code == 0
    study.edit("recipe.yaml", "lr: 1e-3", "lr: 1e-1")
    assert study.run().code == 0
    notes = json.loads(study.call("report", study.out, "--compare", "tiny@1", "--format", "json").out)["notes"]
    assert "settings that differ: lr 0.1 in tiny, 1e-3 in tiny@1" in notes and "different content" not in str(notes)
    study.edit("train-en.tsv", "neutral", "entailment")
    assert study.run("--redo").code == 0
    result = study.call("report", study.out, "--compare", "tiny@1")
    text = " ".join(result.out.split())
    assert f"note: tiny and tiny@1 read different content of {study.folder.name}/train-en.tsv" in text
    assert "mine: accuracy, dev" in text and "pairs: accuracy, test†" in text
