"""The Python names: they do what the command line does, with typed events, and every mistake is a UserError."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import xstilts
from conftest import Files
from xstilts import StepProgress, UserError
from xstilts.utils.yaml import load as load_yaml

SCRIPT = '''\
"""A user's script that uses every public name."""

import sys
from pathlib import Path

import xstilts
from xstilts import Metric, Predictor, Recipe, Report, StepProgress, Task, UserError

best: dict[str, float] = {}


def show(event: StepProgress) -> None:
    if event.score is not None:
        best[event.name] = event.score


recipe: Recipe = xstilts.load_recipe(sys.argv[1])
task: Task = recipe.tasks["mine"]
metric: Metric = xstilts.METRICS[task.metric]
value: float = metric.score(["neutral", "neutral"], ["neutral", "entailment"])
status = xstilts.plan(recipe, out=sys.argv[2])
report: Report = xstilts.run(status, workers=2, on_progress=show)
rows: list[dict[str, object]] = xstilts.report(Path(sys.argv[2]), layout="languages").rows
model: Predictor = xstilts.load(next(Path(sys.argv[2]).glob("steps/*/head-0.json")).parent)
labels: list[str] = [one["label"] for one in model.predict([("A cat sleeps.", "An animal sleeps.")])]
try:
    xstilts.export(model.labels[0], "exported")
except UserError as error:
    print(xstilts.__version__, error.message)
print(value, len(status.steps), len(best), report.recipe, rows[0]["task"], set(labels) <= set(model.labels))
'''


def load(study: Files) -> xstilts.Recipe:
    return xstilts.load_recipe(study.folder / "recipe.yaml")


class Listener:
    """Keeps the events of a run, and raises an error or sends a signal at some of them."""

    def __init__(self, when: Callable[[StepProgress], bool] = lambda _: False, do: Callable[[], object] = int) -> None:
        self.events: list[StepProgress] = []
        self._when, self._do = when, do

    def __call__(self, event: StepProgress) -> None:
        self.events.append(event)
        if self._when(event):
            self._do()

    def check(self, ids: set[str]) -> None:
        """Assert that the events of each of these steps are complete and never go back."""
        assert {event.step for event in self.events} == ids
        assert {event.steps for event in self.events} == {len(ids)}
        for id in ids:
            own = [event for event in self.events if event.step == id]
            assert [event.state for event in own] == ["started", *["running"] * (len(own) - 2), "done"], own
            done = [event.done for event in own]
            assert done == sorted(done) and own[-1].done == own[-1].total
            assert len({(event.number, event.name, event.kind) for event in own}) == 1
        assert sorted({event.number for event in self.events}) == list(range(1, len(ids) + 1))


def raises(error: BaseException) -> Callable[[], object]:
    def do() -> object:
        raise error

    return do


def test_importing_the_package_and_planning_load_no_torch() -> None:
    code = (
        "import sys, time; import xstilts; assert not {'pydantic', 'rich', 'yaml'} & {*sys.modules}\n"
        "assert set(dir(xstilts)) == set(xstilts.__all__) and len(xstilts.__all__) <= 15\n"
        "print(len(xstilts.plan('quickstart').steps)); xstilts.report, xstilts.run\n"
        "assert not {'torch', 'transformers', 'tokenizers'} & {*sys.modules}"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert int(result.stdout) > 10 and result.stderr == ""


def test_every_public_name_has_an_example() -> None:
    documented = {name: getattr(xstilts, name) for name in xstilts.__all__ if name not in ("METRICS", "__version__")}
    assert [name for name, member in documented.items() if ">>>" not in (member.__doc__ or "")] == []


@pytest.mark.slow
def test_a_script_that_uses_every_name_is_typed(study: Files) -> None:
    script = study.write("script.py", SCRIPT)
    mypy = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "--cache-dir", str(study.folder / "mypy"),
            "--follow-imports", "silent", str(script)]  # fmt: skip
    checked = subprocess.run(mypy, capture_output=True, encoding="utf-8", check=False)
    assert checked.returncode == 0, checked.stdout


def test_a_script_uses_every_name_and_workers_without_a_main_guard(study: Files) -> None:
    assert [name for name in xstilts.__all__ if name not in SCRIPT] == []
    script = study.write("script.py", SCRIPT)
    command = [sys.executable, str(script), str(study.folder / "recipe.yaml"), str(study.out)]
    result = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    version, line = result.stdout.splitlines()
    assert version == f"{xstilts.__version__} no such folder"
    assert line == "50.0 3 3 tiny pairs True"


def test_a_run_gives_what_the_command_line_gives(study: Files, capsys: pytest.CaptureFixture[str]) -> None:
    recipe, listener = load(study), Listener()
    status = xstilts.plan(recipe, out=study.folder / "python")
    shown = xstilts.run(status, on_progress=listener)
    captured = capsys.readouterr()
    assert captured.out == "" and "[1/" not in captured.err
    listener.check({step.id for step in status.steps})
    scores = {event.name: event.score for event in listener.events if event.state == "done"}
    losses = [event.loss for event in listener.events if event.kind == "train" and event.state == "running"]
    assert losses and None not in losses

    command = study.run()
    files = [path.read_text(encoding="utf-8") for path in study.out.glob("steps/*/scores.jsonl")]
    rows = [json.loads(line) for text in files for line in text.splitlines()]
    dev = [row["value"] for row in rows if (row["task"], row["split"]) == ("mine", "dev")]
    assert scores["score mine, seed 1"] == pytest.approx(sum(dev) / 2)
    assert command.out == str(shown) == str(xstilts.report(study.folder / "python"))
    assert study.call("report", study.out, "--format", "markdown").out == shown._repr_markdown_()
    table = study.call("report", study.out, "--format", "csv").out.splitlines()
    assert table[0].split(",") == [*shown.rows[0]] and len(table) == len(shown.rows) + 1
    planned = study.call("plan", study.folder / "recipe.yaml", "--out", study.folder / "python").out
    assert planned == str(xstilts.plan(recipe, out=study.folder / "python")) and "done in" in planned

    again = Listener()
    assert str(xstilts.run(recipe, out=study.folder / "python", on_progress=again)) == command.out
    assert again.events == [], "all is done"


def test_with_workers_the_events_come_to_this_process(study: Files) -> None:
    study.edit("recipe.yaml", "seeds: [1]", "seeds: [1, 2]")
    status, listener = xstilts.plan(load(study), out=study.out), Listener()
    xstilts.run(status, workers=2, on_progress=listener)
    listener.check({step.id for step in status.steps})
    trained = {event.seconds_left is None for event in listener.events if event.loss and event.state == "running"}
    assert trained == {False}


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_in_a_callback_ends_the_run_and_loses_nothing(study: Files, workers: int) -> None:
    """The error of a user's code comes out as it is; finished steps stay, and a training has a checkpoint."""
    study.edit("recipe.yaml", "steps: 2", "steps: 400")
    status = xstilts.plan(load(study), out=study.out)
    stopped = FileNotFoundError("no notebook.log")  # which a run would otherwise report as a file of its own
    listener = Listener(lambda event: event.kind == "train" and event.done >= 100, raises(stopped))
    with pytest.raises(FileNotFoundError) as caught:
        xstilts.run(status, workers=workers, on_progress=listener)
    assert caught.value is stopped and sum(event.done >= 100 for event in listener.events) == 1
    checkpoint = [*study.out.glob("steps/*/checkpoint*")]
    done = {id for id in xstilts.plan(load(study), out=study.out).done}
    assert len(checkpoint) == 1 and done == {event.step for event in listener.events if event.state == "done"}

    second = Listener()
    xstilts.run(status, on_progress=second)
    second.check({step.id for step in status.steps} - done)
    first = next(event for event in second.events if event.kind == "train" and event.state == "running")
    assert first.done > 100, "the training goes on where it was"


def test_an_interrupt_writes_a_checkpoint(study: Files) -> None:
    """As the stop button of a notebook sends it."""
    study.edit("recipe.yaml", "steps: 2", "steps: 400")
    pressed = iter([True])
    interrupt = Listener(
        lambda event: event.kind == "train" and event.done >= 100 and next(pressed, False),
        lambda: signal.raise_signal(signal.SIGINT),
    )
    with pytest.raises(KeyboardInterrupt):
        xstilts.run(load(study), out=study.out, on_progress=interrupt)
    assert [*study.out.glob("steps/*/checkpoint*")]
    assert xstilts.run(load(study), out=study.out).rows


def test_a_failed_step_is_an_event_and_at_the_end_an_error(study: Files) -> None:
    study.edit("recipe.yaml", "lr: 1e-3", "lr: 1e30")
    study.edit("recipe.yaml", "steps: 2", "steps: 20")
    listener = Listener()
    with pytest.raises(UserError, match=r"1 step failed; 1 step that depends on it was skipped\n.*the loss is"):
        xstilts.run(load(study), out=study.out, on_progress=listener)
    (failed,) = [event for event in listener.events if event.state == "failed"]
    assert failed.kind == "train" and "the loss is" in failed.error and failed.score is None
    assert [row["task"] for row in xstilts.report(study.out).rows] == ["pairs"] * len(xstilts.report(study.out).rows)


def test_a_mapping_means_what_the_same_yaml_means(study: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(study.folder)
    in_python: dict[str, Any] = {
        "name": "tiny", "encoder": load(study).encoder, "seeds": [1], "keep": "all",
        "settings": {"steps": 2, "lr": 1e-3, "batch": 4, "max_length": 32},
        "phases": [{"name": "target", "each": ["mine"]}], "evaluate": ("pairs", "mine"),
    }  # fmt: skip
    tasks = load_yaml(Path("tasks.yaml")).value | {"pairs": {
        "like": "tatoeba", "languages": ["de"], "data": {"test": {"path": Path("de.txt"), "pair": Path("en.txt")}},
    }}  # fmt: skip
    recipe = xstilts.load_recipe(in_python, tasks=tasks)
    assert [step.id for step in xstilts.plan(recipe).steps] == [step.id for step in xstilts.plan("recipe.yaml").steps]
    assert recipe.tasks["mine"].model_dump() == xstilts.load_recipe("recipe.yaml").tasks["mine"].model_dump()


@pytest.mark.parametrize(
    ("changes", "tasks", "message"),
    [
        ({"evaluate": "mime"}, {}, r"recipe: evaluate: unknown task 'mime' \(did you mean 'mine'\?\)"),
        ({"settings": {"learning_rate": 1}}, {}, r"recipe: settings.learning_rate: not a field .*'lr'"),
        ({"seeds": {1, 2}}, {}, "recipe: seeds: needs text, a number, a list or a mapping, got set"),
        ({}, {"labels": [["a"], "b"]}, r"tasks: mine.labels\[0\]: needs text, got a list"),
        ({}, {"data": {"train": print}}, "tasks: mine.data.train: needs text, .*, got builtin_function_or_method"),
    ],
)
def test_a_mistake_in_a_mapping_has_its_place(changes: dict[str, Any], tasks: dict[str, Any], message: str) -> None:
    own = {"format": "classify", "labels": ["a", "b"], "data": {"train": "a.csv", "test": "b.csv"}} | tasks
    recipe = {"name": "mine", "encoder": "some/encoder", "evaluate": "mine",
              "phases": [{"name": "target", "each": "mine"}]}  # fmt: skip
    with pytest.raises(UserError, match=f"^{message}"):
        xstilts.load_recipe(recipe | changes, tasks={"mine": own})


def test_mistakes_are_user_errors_and_nothing_is_printed(study: Files, capsys: pytest.CaptureFixture[str]) -> None:
    nowhere = study.folder / "nowhere"
    calls: dict[str, Callable[[], object]] = {
        "no recipe 'quikstart' .did you mean 'quickstart'": lambda: xstilts.load_recipe("quikstart"),
        "no such file": lambda: xstilts.plan(study.folder / "recipes.yaml"),
        "has no scale 'tiny'": lambda: xstilts.run("quickstart", scale="tiny"),
        "is loaded already": lambda: xstilts.plan(load(study), scale="mini"),
        "make it with xstilts.load_recipe": lambda: xstilts.plan(
            xstilts.Recipe(name="a", encoder="b", phases=load(study).phases, evaluate=("mine",))
        ),
        "workers: needs at least 1": lambda: xstilts.run("quickstart", workers=0),
        "tokens: needs at least 1": lambda: xstilts.run("quickstart", tokens=0),
        "checkpoint: needs at least 0": lambda: xstilts.run("quickstart", checkpoint=-1),
        "nowhere: no such run folder": lambda: xstilts.report(nowhere),
        "there is no layout 'language'": lambda: xstilts.report(study.out, layout="language"),
        "--layout: cannot be used with --compare": lambda: xstilts.report(study.out, layout="brief", compare="other"),
        "no such folder .known": lambda: xstilts.load(study.folder / "step"),
    }  # fmt: skip
    for message, call in calls.items():
        with pytest.raises(UserError, match=message):
            call()
    study.write("train-en.tsv", "one\ttwo\tno-label\n")
    with pytest.raises(UserError, match=r"train-en\.tsv:1: unknown label 'no-label'") as caught:
        xstilts.run(load(study), out=study.out, on_progress=print)
    assert capsys.readouterr() == ("", "") and not study.out.exists()
    assert (caught.value.where.rpartition("/")[2], caught.value.message) == (
        "train-en.tsv:1",
        "unknown label 'no-label'",
    )


def test_a_study_without_scores_says_so(study: Files) -> None:
    listener = Listener(lambda event: event.state == "done", raises(KeyError("enough")))
    with pytest.raises(KeyError, match="enough"):
        xstilts.run(load(study), out=study.out, on_progress=listener)
    study.edit("recipe.yaml", "[pairs, mine]", "[mine]")
    with pytest.raises(KeyError, match="enough"):
        xstilts.run(load(study), out=study.folder / "second", on_progress=listener)
    shown = xstilts.report(study.folder / "second")
    assert str(shown).startswith("tiny: no scores yet; done: 1 of 2 steps") and shown.rows == []
    assert str(shown).strip() in shown._repr_markdown_()
