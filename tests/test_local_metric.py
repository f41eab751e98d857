"""A user's own metric: refused without consent, then scored, reported and used for early stopping, also by workers."""

import json

import pytest

from conftest import Files
from xstilts.metrics import local
from xstilts.store.rows import Prediction, Score, read_rows
from xstilts.tasks.user_tasks import with_user_tasks

CODE = """\
from pathlib import Path

from xstilts.metrics import METRICS, Metric

Path(__file__).with_name("was-run").touch()


def balanced(references, predictions):
    recalls = []
    for label in set(references):
        hits = [a == b for a, b in zip(references, predictions) if a == label]
        recalls.append(sum(hits) / len(hits))
    return 100 * sum(recalls) / len(recalls)


def broken(references, predictions):
    return 1 / 0


def no_number(references, predictions):
    return float("nan")


same = METRICS["accuracy"]
loss = Metric("loss", function=balanced, higher_is_better=False)
"""


@pytest.fixture
def own(study: Files) -> Files:
    """The study with a metric of its own beside accuracy, and a second branch."""
    study.write("mine_too.py", CODE)
    study.edit("tasks.yaml", "like: xnli\n", "like: xnli\n  metrics: [mine_too:balanced, accuracy]\n")
    study.edit("recipe.yaml", "phases:\n", "phases:\n  - {name: middle, choices: [[], [mine]]}\n")
    return study


def trust(files: Files) -> Files:
    files.edit("recipe.yaml", "seeds: [1]\n", "seeds: [1]\ntrust_local_code: [mine_too]\n")
    return files


def scores(files: Files) -> dict[tuple[str, ...], float]:
    rows = [row for path in files.out.glob("steps/*/scores.jsonl") for row in read_rows(path, Score)]
    return {(row.step, row.language, row.split, row.metric): row.value for row in rows}


def test_without_consent_no_code_runs(own: Files) -> None:
    what = "recipe.yaml:1: trust_local_code: the task 'mine' has the metric mine_too:balanced, whose code the recipe"
    checked = own.call("check", own.folder / "recipe.yaml")
    assert checked.code == 2 and what in checked.err and "add `trust_local_code: [mine_too]`" in checked.err
    own.refused(what)
    assert not (own.folder / "was-run").exists()


def test_with_consent_it_scores_and_stops_and_is_reported(own: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    trust(own)
    own.edit("recipe.yaml", "steps: 2", "steps: 2, eval_every: 2")
    assert own.call("check", own.folder / "recipe.yaml").code == 0
    result = own.run()
    assert result.code == 0, result.err
    found = scores(own)
    steps = {step for step, _, _, metric in found if metric == "mine_too:balanced"}
    assert len(steps) == 2
    for step in steps:
        rows = [row for row in read_rows(own.out / "steps" / step / "predictions.jsonl", Prediction)]
        rows = [row for row in rows if (row.language, row.split) == ("en", "dev")]
        hits = sum(row.reference == row.prediction for row in rows)
        assert len(rows) == 12  # four of each label, so that the mean of the recalls is the accuracy
        assert found[step, "en", "dev", "mine_too:balanced"] == pytest.approx(100 * hits / 12)
    done = [json.loads(path.read_text()) for path in own.out.glob("steps/*/done.json")]
    path = str(own.folder / "mine_too.py")
    assert [path in facts["inputs"] for facts in done].count(True) == 4  # two trainings, two evaluations
    trained = [facts for facts in done if facts.get("dev") is not None]
    assert len(trained) == 2 and all(facts["dev_chance"] == pytest.approx(100 / 3) for facts in trained)

    monkeypatch.setattr(local, "_LOADED", {})  # as in a process of its own
    (own.folder / "mine_too.py").unlink()
    (own.folder / "was-run").unlink()
    report = own.call("report", own.out)
    assert report.code == 0 and "mine_too:balanced" in report.out
    tested = own.call("report", own.out, "--layout", "significance")
    assert tested.code == 0, tested.err
    assert "not tested, the metric is not a sum over examples: mine (mine_too:balanced)" in tested.out
    assert not (own.folder / "was-run").exists()


def test_two_workers_score_as_one_process_does(own: Files) -> None:
    trust(own)
    assert own.run().code == 0
    one = scores(own)
    result = own.call("run", own.folder / "recipe.yaml", "--out", own.folder / "two", "--workers", 2)
    assert result.code == 0, result.err
    own.out.rename(own.folder / "one")
    (own.folder / "two").rename(own.out)
    assert one and scores(own) == one


def test_a_changed_metric_is_a_mistake_like_changed_data(own: Files) -> None:
    assert trust(own).run().code == 0
    own.edit("mine_too.py", "100 *", "10 *")
    again = own.run()
    assert again.code == 2 and "mine_too.py: has changed since it was read" in again.err


@pytest.mark.parametrize(
    ("old", "new", "pieces"),
    [
        ("mine_too:balanced", "mine_too:blanced", ["recipe.yaml:4: trust_local_code[0]: ", "did you mean 'balanced'?"]),
        ("mine_too:balanced", "mine_too:loss", ["mine_too:loss must be in percent, higher is better"]),
        ("mine_too:balanced", "mine_too:1st", ["tasks.yaml:3: mine.metrics", "is not `module:function`"]),
        ("mine_too:balanced", "mine_to:balanced", ["metric mine_to:balanced, whose code", "[mine_too, mine_to]`"]),
    ],
)
def test_a_misspelt_metric_gets_a_suggestion(own: Files, old: str, new: str, pieces: list[str]) -> None:
    trust(own).edit("tasks.yaml", old, new)
    own.refused(*pieces)


def test_a_metric_file_that_is_missing_or_no_python_is_refused(own: Files) -> None:
    trust(own).write("mine_too.py", "def balanced(:")
    own.refused("recipe.yaml:4: trust_local_code[0]: the module 'mine_too' cannot be loaded: SyntaxError: ")
    own.write("mine_too.py", "import mine")
    own.refused("the module 'mine_too' cannot be loaded: ModuleNotFoundError: No module named 'mine'")
    (own.folder / "mine_too.py").unlink()
    own.refused("there is neither a file", "nor an installed module 'mine_too'")


def test_two_metrics_of_one_name_are_refused(own: Files) -> None:
    trust(own).edit("recipe.yaml", "use: [tasks.yaml]", "use: [tasks.yaml, other/tasks.yaml]")
    own.edit("recipe.yaml", "evaluate: [", "evaluate: [too, ")
    (own.folder / "other").mkdir()
    own.write("other/mine_too.py", CODE)
    own.write("other/tasks.yaml", "too: {like: mine, metrics: [mine_too:same]}\n")
    own.refused("recipe.yaml:4: trust_local_code[0]: two task files have a mine_too.py beside them (rename one")


@pytest.mark.parametrize(
    ("name", "what"), [("broken", "failed: ZeroDivisionError"), ("no_number", "returned nan, which is not a score")]
)
def test_a_metric_that_gives_no_score_fails_its_step(own: Files, name: str, what: str) -> None:
    trust(own).edit("tasks.yaml", "mine_too:balanced", f"mine_too:{name}")
    result = own.run()
    assert result.code == 2 and f"the metric mine_too:{name} {what}" in result.err


def test_a_local_metric_by_hand(own: Files) -> None:
    local.load("mine_too:balanced", own.folder)
    local.load("mine_too:same", own.folder)
    given = ["a", "a", "a", "b"], ["a", "a", "b", "b"]
    assert local.get("mine_too:balanced").score(*given) == pytest.approx((200 / 3 + 100) / 2)
    assert local.get("mine_too:same").score(*given) == 75


def test_an_inherited_metric_file_lies_beside_the_task_file_that_names_it(own: Files) -> None:
    (own.folder / "other").mkdir()
    tasks = with_user_tasks([own.folder / "tasks.yaml", own.write("other/tasks.yaml", "too: {like: mine}\n")])
    assert tasks["too"].metrics == tasks["mine"].metrics
    assert tasks["too"].code_folder == tasks["mine"].code_folder == own.folder
