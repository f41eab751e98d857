"""`plan --probe` measures the plan's own steps and multiplies by their number."""

import json

from conftest import Files
from xstilts.execution.time_estimate import Measurement, TimeEstimate, evenly_spaced


def test_plan_probe_estimates_hours_and_leaves_no_files(study: Files) -> None:
    result = json.loads(study.call("plan", study.folder / "recipe.yaml", "--probe", "--json").out)["hours"]
    pace = {row["what"].split(",")[0]: row for row in result["measured"]}
    assert set(pace) == {"update of mine", "scoring of pairs", "scoring of mine"}
    assert all(row["seconds"] > 0 and row["examples"] > 0 for row in pace.values())
    steps = next(step for step in json.loads(study.call("plan", study.folder / "recipe.yaml", "--json").out)["steps"]
                 if "training" in step)["training"]["steps"]  # fmt: skip
    assert result["training"] * 3600 >= steps * pace["update of mine"]["seconds"]
    scored = sum(row["seconds"] * row["examples"] for what, row in pace.items() if what.startswith("scoring"))
    assert abs(result["scoring"] * 3600 - scored) < 1e-9
    assert not study.out.exists()


def test_plan_probe_counts_the_updates_of_raw_text_on_top(study: Files) -> None:
    tasks = (study.folder / "tasks.yaml").read_text(encoding="utf-8")
    study.write("tasks.yaml", f"{tasks}text: {{like: masked-text, train_languages: [en], data: {{train: en.txt}}}}\n")
    settings = "choices: [[mine, text]], settings: {steps: 400, eval_every: 1000}"
    study.edit("recipe.yaml", "each: [mine]", settings)
    result = json.loads(study.call("plan", study.folder / "recipe.yaml", "--probe", "--json").out)["hours"]
    pace = {row["what"].split(",")[0]: row["seconds"] for row in result["measured"]}
    text_updates = 400 * 3 / 12  # by the numbers of examples
    labelled, text = 400 * pace["update of mine"], text_updates * pace["update of text"]
    assert result["training"] * 3600 > labelled + 0.7 * text


def test_equal_steps_are_measured_once(study: Files) -> None:
    study.edit("recipe.yaml", "seeds: [1]", "seeds: [1, 2]")
    result = json.loads(study.call("plan", study.folder / "recipe.yaml", "--probe", "--json").out)
    assert (result["trainings"], len(result["hours"]["measured"])) == (2, 3)


def test_plan_probe_reports_missing_data(study: Files) -> None:
    study.edit("recipe.yaml", "encoder: ", "encoder: ./nowhere #")
    result = study.call("plan", study.folder / "recipe.yaml", "--probe")
    assert result.code == 2 and "nowhere" in result.err and "Traceback" not in result.err
    result = study.call("plan", "paper-table2", "--scale", "mini", "--probe")
    assert result.code == 2 and "give the data folder with --data" in result.err


def test_examples_are_evenly_spaced_over_a_file() -> None:
    assert (
        evenly_spaced(range(10), 10, 3) == [0, 3, 6]
        and evenly_spaced(range(2), 2, 5) == [0, 1]
        and evenly_spaced([], 0, 5) == []
    )


def test_the_estimate_is_printed_in_milliseconds_and_hours() -> None:
    lines = list(TimeEstimate(1.5, 0.25, [Measurement("update of mnli, batch 16, fp32", 0.0123, 4000)]).lines())
    assert lines[0] == "update of mnli, batch 16, fp32: 12.3 ms; 4,000 examples"
    assert lines[1].startswith(
        "time: about 1.8 hours on this machine with one worker, less if trainings stop early: trainings 1.5 hours, "
    )
