"""Plans: which steps are folded, what is in an identity, where settings come from."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from xstilts.errors import UserError
from xstilts.execution.plan_status import unusable_encoders
from xstilts.study.checks import expand_groups
from xstilts.study.defaults import BUDGET
from xstilts.study.phase import Part, Settings
from xstilts.study.plan import Plan, plan
from xstilts.study.recipe import Recipe
from xstilts.study.step import Step
from xstilts.tasks import GROUPS, TASKS
from xstilts.tasks.task import Task

NLI, NLI_EVALUATED, TAGS, FOUND, TEXT = (TASKS[name] for name in ("mnli", "xnli", "udpos", "tatoeba", "masked-text"))


def made(tasks: dict[str, Task] | None = None, **fields: Any) -> Plan:
    recipe = {"name": "r", "encoder": "some/encoder", "seeds": [1], "evaluate": ["tatoeba"], **fields}
    return plan(Recipe.model_validate(recipe), TASKS | (tasks or {}))


def trainings(laid_out: Plan) -> list[Step]:
    return [step for step in laid_out.steps.values() if step.kind == "train"]


def choices(*mixtures: Any, name: str = "middle", **more: Any) -> dict[str, Any]:
    return {"name": name, "choices": list(mixtures), **more}


def each(*names: str, **settings: Any) -> dict[str, Any]:
    return {"name": "target", "each": list(names), "settings": settings}


def named(task: Task, name: str, **fields: Any) -> Task:
    return task.model_copy(update={"name": name, **fields})


def test_equal_steps_under_two_task_names_are_planned_once() -> None:
    twin = named(NLI_EVALUATED, "twin", data=NLI_EVALUATED.data | {"test": NLI.data["dev"]}, languages=("en",))
    laid_out = made({"twin": twin}, phases=[each("xnli", "twin")], evaluate=["xnli", "twin"], seeds=[1, 2])
    assert (laid_out.trainings_before_folding, laid_out.trainings) == (4, 2)
    assert laid_out.evaluations == 2 * (15 + 1)
    parents = {cell.task: laid_out.steps[cell.step].parent for cell in laid_out.cells if cell.seed == 1}
    assert parents["xnli"] == parents["twin"]


@pytest.mark.parametrize(
    "other",
    [
        {"batch": 5}, {"max_length": 99}, {"train_languages": ("de",)}, {"metrics": ("token_accuracy",)},
        {"data": TAGS.data | {"train": TAGS.data["test"]}}, {"data": TAGS.data | {"dev": TAGS.data["test"]}},
        {"format": TAGS.format.model_copy(update={"labels": ("A", "B")})},
    ],
    ids=lambda other: next(iter(other)),
)  # fmt: skip
def test_different_trainings_are_not_folded(other: dict[str, Any]) -> None:
    laid_out = made({"twin": named(TAGS, "twin", **other)}, phases=[each("udpos", "twin")], evaluate=["udpos", "twin"])
    assert laid_out.trainings == 2


def test_notes_licenses_and_names_are_not_in_an_identity() -> None:
    twin = named(TAGS, "twin", note="another", license="other", url="x", languages=("de",))
    assert made({"twin": twin}, phases=[each("udpos", "twin")], evaluate=["udpos", "twin"]).trainings == 1


def test_a_branch_without_intermediate_training_shares_nothing_but_the_encoder() -> None:
    laid_out = made(phases=[choices([], ["mnli"]), each("xnli")], evaluate=["xnli", "tatoeba"], seeds=[1, 2])
    assert laid_out.trainings == 2 + 2 * 2
    first = next(iter(laid_out.steps.values()))
    assert (first.kind, first.parent, first.encoder) == ("train", None, "some/encoder")
    known: set[str | None] = {None}
    for step in laid_out.steps.values():  # a step comes after the one it starts from
        assert step.parent in known
        known.add(step.id)


def test_an_untrained_encoder_is_scored_once_for_all_seeds() -> None:
    laid_out = made(phases=[choices([], ["mnli"])], seeds=[1, 2, 3])
    untrained = [step for step in laid_out.steps.values() if step.kind == "evaluate" and step.parent is None]
    assert len(untrained) == 1 and untrained[0].seed is None
    assert sum(cell.step == untrained[0].id for cell in laid_out.cells) == 3


def test_a_phase_with_a_seed_of_its_own_is_shared() -> None:
    pretrain = choices(["masked-text"], name="pretrain", seed=7)
    laid_out = made(phases=[pretrain, choices([], ["mnli"])], seeds=[1, 2, 3])
    assert laid_out.trainings == 1 + 3
    assert [step.seed for step in trainings(laid_out)] == [7, 1, 2, 3]
    after_pretraining = [step for step in laid_out.steps.values() if step.kind == "evaluate" and step.seed is None]
    assert len(after_pretraining) == 1  # no study seed has had a part in it


def test_identities_do_not_depend_on_the_order_of_the_recipe_or_on_hashing() -> None:
    one = made(phases=[choices([], ["mnli"]), each("xnli", "udpos")], evaluate=["xnli", "udpos"], seeds=[1, 2])
    two = made(phases=[choices(["mnli"], []), each("udpos", "xnli")], evaluate=["udpos", "xnli"], seeds=[2, 1])
    assert one.steps.keys() == two.steps.keys()
    renamed = made(name="other", phases=[choices([], ["mnli"], name="else"), each("xnli")], evaluate=["xnli"])
    assert renamed.steps.keys() < one.steps.keys()
    code = "from xstilts.study import load, plan; print(*plan.plan(*load.read('quickstart')).steps)"
    runs = [subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed},
                           capture_output=True, check=True) for seed in ("1", "2")]  # fmt: skip
    assert runs[0].stdout == runs[1].stdout and len(runs[0].stdout.split()) > 10


@pytest.mark.parametrize("other", [{"encoder": "some/other"}, {"seeds": [2]}, {"settings": {"lr": 1e-4}}])
def test_another_encoder_seed_or_setting_is_another_step(other: dict[str, Any]) -> None:
    one, two = (made(phases=[each("udpos")], evaluate=["udpos"], **more) for more in ({}, other))
    assert not one.steps.keys() & two.steps.keys()


def test_settings_come_from_phase_then_recipe_then_task_then_role() -> None:
    def learned(**fields: Any) -> tuple[float, int, int, int]:
        training = trainings(made(**{"phases": [each("udpos")], "evaluate": ["udpos"], **fields}))[-1].training
        assert training is not None
        return training.lr, training.parts[0].batch, training.parts[0].max_length, training.parts[0].epochs

    assert learned() == (3e-6, 32, 256, 10)
    assert learned(settings={"batch": 7, "lr": 1e-4}) == (1e-4, 7, 256, 10)
    assert learned(settings={"batch": 7}, phases=[each("udpos", batch=8, epochs=1)]) == (3e-6, 8, 256, 1)


@pytest.mark.parametrize(
    ("mixture", "lr"), [(["mnli"], 1e-5), (["mnli", {"task": "masked-text", "weight": 0.5}], 5e-6)]
)
def test_an_intermediate_training_has_the_papers_settings(mixture: list[Any], lr: float) -> None:
    (step,) = trainings(made(phases=[choices(mixture)]))
    training = step.training
    assert training is not None
    assert (training.lr, training.warmup, training.patience, training.parts[0].batch) == (lr, 0.1, 30, 24)
    assert [(part.epochs, part.raw_text) for part in training.parts] == [(2, False), (1, True)][: len(mixture)]


@pytest.mark.parametrize(
    ("mixture", "epochs"),
    [
        (["mnli", "udpos"], [3, 3]), (["mnli", "udpos", "masked-text"], [3, 3, 1]), (["udpos", "masked-text"], [10, 1]),
        (["masked-text"], [1]),
    ],
)  # fmt: skip
def test_only_several_labelled_tasks_take_three_epochs(mixture: list[str], epochs: list[int]) -> None:
    (step,) = trainings(made(phases=[choices(mixture)]))
    assert step.training is not None
    assert [(part.batch, part.epochs) for part in step.training.parts] == [
        (TASKS[name].batch, number) for name, number in zip(mixture, epochs, strict=True)
    ]


def test_steps_epochs_and_budget_replace_each_other() -> None:
    assert Settings(steps=5).over(Settings(epochs=2, lr=1)) == Settings(steps=5, lr=1)
    assert Settings(lr=2).over(Settings(epochs=2, lr=1)) == Settings(epochs=2, lr=2)
    assert Settings(epochs=2).over(Settings(budget="updates", steps=9)) == Settings(epochs=2)
    assert Settings(budget="updates").over(Settings(epochs=2)) == Settings(budget="updates")
    assert Settings(steps=5).over(Settings(budget="updates", steps=9)) == Settings(budget="updates", steps=5)


def test_branches_are_named_by_their_choices() -> None:
    mixture = ["mnli", {"task": "masked-text", "weight": 0.5}]
    study = made(phases=[choices(["masked-text"], name="a"), choices([], ["mnli"], mixture)]).study()
    assert study.branches == ("none", "mnli", "mnli+0.5xmasked-text") and study.baseline == "none"
    two = made(phases=[choices([], ["mnli"], name="a"), choices([], ["udpos"], name="b")]).study()
    assert two.branches == ("none", "udpos", "mnli", "mnli > udpos")
    one = made(phases=[each("udpos")], evaluate=["udpos"]).study()
    assert (one.branches, one.baseline) == (("all",), None)


def test_every_branch_has_a_name_of_its_own() -> None:
    chain = {"chain": [["mnli"], ["qqp"]]}
    two = made(phases=[choices(chain, ["mnli"], name="a"), choices([], ["qqp"], name="b")]).study()
    assert two.branches == ("(mnli > qqp)", "(mnli > qqp) > qqp", "mnli", "mnli > qqp")
    near = [["mnli", {"task": "qqp", "weight": weight}] for weight in (1000001, 1000002, 1e-7, [0, 0.1])]
    assert made(phases=[choices(*near)]).study().branches == (
        "mnli+1000001xqqp", "mnli+1000002xqqp", "mnli+0.0000001xqqp", "mnli+0..0.1xqqp"
    )  # fmt: skip
    scales = [{"merge": [["mnli"], ["qqp"]], "how": "vectors", "scale": scale} for scale in (0.30000001, 0.30000002)]
    assert len(made(phases=[choices(*scales)]).study().branches) == 2
    odd = named(TASKS["qqp"], "2xqqp")
    with pytest.raises(UserError, match=r"both be called 'mnli\+2xqqp': choice 1 of middle; choice 2 of middle"):
        made({"2xqqp": odd}, phases=[choices(["mnli", "2xqqp"], ["mnli", {"task": "qqp", "weight": 2}])])


def test_a_constant_weight_range_equals_one_number() -> None:
    one, two = (made(phases=[choices(["mnli", {"task": "qqp", "weight": w}])]) for w in (2, [2, 2]))
    assert one.steps.keys() == two.steps.keys() and one.cells == two.cells


@pytest.mark.parametrize("phases", [17, 5000])
def test_a_plan_with_too_many_steps_is_refused_at_once(phases: int) -> None:
    with pytest.raises(UserError, match=r"^r: phases: needs more than 100,000 trainings and evaluations"):
        made(phases=[choices([], ["mnli"], name=f"p{i}") for i in range(phases)])


def test_the_study_index_round_trips_through_json() -> None:
    study = made(phases=[each("xnli")], evaluate=["xnli", "tatoeba"], languages=["de", "en"]).study()
    assert [(line.name, line.languages, line.train_language) for line in study.tasks] == [
        ("xnli", ("de", "en"), "en"), ("tatoeba", ("de",), ""),
    ]  # fmt: skip
    assert [line.trained_on_own_data for line in study.tasks] == [True, False]
    assert type(study).from_json(study.to_json()) == study


def test_the_study_index_knows_all_languages_that_a_task_is_trained_on() -> None:
    both = TASKS["xnli"].model_copy(update={"name": "both", "train_languages": ("en", "de")})
    study = made({"both": both}, phases=[each("both")], evaluate=["both"], languages=["de", "sw"]).study()
    assert [task.train_languages for task in study.tasks] == [("en", "de")]


def test_a_group_stands_for_its_tasks() -> None:
    group = "playground"
    names = expand_groups((group, "tatoeba", *GROUPS[group][:1]))
    assert names == [*GROUPS[group], "tatoeba"]
    assert {cell.task for cell in made(phases=[each(group)], evaluate=[group]).cells} == set(GROUPS[group])


def test_a_head_serves_every_task_of_the_same_shape() -> None:
    laid_out = made(phases=[choices(["udpos", "mnli"])], evaluate=["xnli"])
    (scoring,) = [step.scoring for step in laid_out.steps.values() if step.scoring]
    assert scoring.head == 1
    with pytest.raises(UserError, match=r"nothing in the recipe trains a head for the task 'panx'"):
        made(phases=[choices(["udpos", "mnli"])], evaluate=["panx"])


def test_training_on_a_task_without_training_data_is_refused() -> None:
    with pytest.raises(UserError, match=r"^r: phases\[0\]\.choices\[0\]: the task 'tatoeba' has no training data$"):
        made(phases=[choices([{"task": "tatoeba"}])])
    assert Part(task="x").weight == 1


def test_the_json_document_of_a_plan() -> None:
    document = made(phases=[choices([], ["mnli"]), each("xnli")], evaluate=["xnli"]).to_json()
    assert list(document) == ["recipe", "trainings", "trainings_before_folding", "evaluations", "budgets", "steps"]
    assert json.loads(json.dumps(document)) == document
    for step in document["steps"]:
        assert {"id", "kind", "title", "parent", "seed"} <= step.keys()


def test_a_new_encoder_is_a_step_and_the_root_of_all_others() -> None:
    shape = {"text": "masked-text", "layers": 1, "hidden": 8, "heads": 1}
    laid_out = made(encoder=shape, phases=[each("udpos")], evaluate=["udpos", "tatoeba"], seeds=[1, 2])
    first, *others = laid_out.steps.values()
    assert (first.kind, first.seed, first.parent) == ("create", None, None)
    assert all(step.parent is not None for step in others)
    assert made(encoder=shape | {"seed": 2}, phases=[each("udpos")]).steps.keys().isdisjoint(laid_out.steps)


def test_a_folder_called_new_is_not_the_new_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "new").mkdir()
    monkeypatch.chdir(tmp_path)
    created = made(encoder={"text": "masked-text"}, phases=[each("udpos")], evaluate=["udpos"])
    assert not [*unusable_encoders(created, None)]
    assert len([*unusable_encoders(made(encoder="new", phases=[each("udpos")], evaluate=["udpos"]), None)]) == 1


def test_a_mixture_in_two_phases_is_named_with_its_phase() -> None:
    phases = ({"name": "first", "choices": [[], ["snli"]]}, {"name": "second", "choices": [[], ["snli"], ["mnli"]]})
    recipe = Recipe.model_validate(
        {"name": "r", "encoder": "e", "phases": phases, "evaluate": ["tatoeba"], "seeds": [1]}
    )
    assert plan(recipe, TASKS).study().branches == (
        "none", "snli in second", "mnli", "snli in first", "snli in first > snli in second", "snli in first > mnli",
    )  # fmt: skip


def test_averages_are_extra_branches_and_change_no_other_step() -> None:
    fields = {"evaluate": ["xnli", "tatoeba"], "seeds": [1, 2, 3]}
    plain = made(phases=[choices([], ["mnli"]), each("xnli")], **fields)
    laid_out = made(phases=[choices([], ["mnli"]), each("xnli") | {"average": ["runs", "checkpoints"]}], **fields)
    study = laid_out.study()
    words = ("", ", checkpoints averaged", ", runs averaged")
    assert study.branches == tuple(branch + what for branch in ("none", "mnli") for what in words)
    assert study.baseline == "none" and laid_out.trainings == plain.trainings
    same = [step for step in plain.steps.values() if step.id in laid_out.steps]
    assert sum(step.kind == "train" for step in same) == 3  # on MNLI; those on XNLI keep means and share a head
    settings = {step.training for step in trainings(laid_out) if step.id not in plain.steps}
    assert {(training.snapshots, training.head_seed) for training in settings if training} == {(10, 0)}
    of = {branch: {cell.seed: laid_out.steps[cell.step] for cell in laid_out.cells if cell.branch == branch and
                   cell.task == "xnli"} for branch in study.branches}  # fmt: skip
    runs = of["mnli, runs averaged"]
    assert len(set(runs.values())) == 1 and runs[1].seed is None
    merged = laid_out.steps[runs[1].parents[0]]
    assert (merged.kind, merged.seed, merged.name) == (
        "merge", None, "average of seeds 1, 2, 3 of target: xnli after mnli"
    )  # fmt: skip
    assert merged.parents == tuple(of["mnli"][seed].parent for seed in (1, 2, 3))
    for seed, step in of["mnli, checkpoints averaged"].items():
        mean = laid_out.steps[step.parents[0]]
        assert (mean.seed, mean.parents) == (seed, of["mnli"][seed].parents) and step.seed == seed


def test_averaging_both_ways_is_the_mean_over_seeds_of_checkpoint_means() -> None:
    laid_out = made(phases=[each("xnli") | {"average": "both", "snapshots": 4}], evaluate=["xnli"], seeds=[1, 2])
    *means, last = [step for step in laid_out.steps.values() if step.kind == "merge"]
    assert [mean.parents for mean in means] == [(step.id,) for step in trainings(laid_out)]
    assert last.parents == tuple(mean.id for mean in means) and last.heads == ("xnli",)
    assert laid_out.study().branches == ("all", "all, checkpoints and runs averaged")


def test_a_merge_takes_the_encoders_of_its_branches() -> None:
    merge = {"merge": [["mnli"], ["squad1", "siqa"]]}
    vectors = merge | {"how": "vectors", "scale": 0.4}
    laid_out = made(phases=[choices(["mnli"], ["squad1", "siqa"], merge, vectors)], seeds=[1, 2])
    assert (laid_out.trainings, laid_out.trainings_before_folding) == (4, 12)
    assert laid_out.study().branches == (
        "mnli", "squad1+siqa", "mean(mnli, squad1+siqa)", "0.4 vectors(mnli, squad1+siqa)"
    )  # fmt: skip
    merges = [step for step in laid_out.steps.values() if step.kind == "merge"]
    assert [step.seed for step in merges] == [1, 2, 1, 2] and len({step.id for step in merges}) == 4
    parents = {step.seed: tuple(s.id for s in trainings(laid_out) if s.seed == step.seed) for step in merges}
    assert all(step.parents == parents[step.seed] for step in merges)
    assert [laid_out.starts_from_pretrained(step) for step in merges] == [False, False, True, True]
    row = merges[0].row()
    assert row["parent"] == row["parents"][0] and "parents" not in trainings(laid_out)[0].row()
    shared = made(phases=[choices(merge, name="first", seed=7), choices([], ["udpos"])], seeds=[1, 2])
    assert [(step.seed, step.title) for step in shared.steps.values() if step.kind == "merge"] == [
        (7, "first: mean(mnli, squad1+siqa)")
    ]
    (untouched,) = [step for step in shared.steps.values() if step.kind == "evaluate" and step.seed is None]
    assert shared.steps[untouched.parents[0]].kind == "merge"


def test_a_chain_is_trained_in_order_and_shares_its_first_steps() -> None:
    one, two = ({"chain": [["mnli"], [last]]} for last in ("qqp", "siqa"))
    laid_out = made(phases=[choices(["mnli"], one, two, {"chain": [["qqp"], ["mnli"]]})], seeds=[1])
    assert [step.title.partition(": ")[2] for step in trainings(laid_out)] == [
        "mnli", "qqp after mnli", "siqa after mnli", "qqp", "mnli after qqp"
    ]  # fmt: skip
    assert list(dict.fromkeys(cell.branch for cell in laid_out.cells)) == [
        "mnli", "mnli > qqp", "mnli > siqa", "qqp > mnli"
    ]  # fmt: skip


def test_an_intermediate_task_is_scored_in_its_own_branch_only() -> None:
    laid_out = made(phases=[choices([], ["mnli", "masked-text"], scored=True), each("xnli")],
                    evaluate=["xnli", "tatoeba"])  # fmt: skip
    cells = [(cell.branch, laid_out.steps[cell.step].title) for cell in laid_out.cells if cell.task == "mnli"]
    assert cells == [("mnli+masked-text", "score mnli after mnli+masked-text")]
    assert {task.name: task.is_intermediate for task in laid_out.study().tasks} == {
        "xnli": False, "tatoeba": False, "mnli": True,
    }  # fmt: skip


def test_a_task_that_is_intermediate_and_target_is_scored_as_target() -> None:
    laid_out = made(phases=[choices(["udpos"], scored=True), each("udpos")], evaluate=["udpos"])
    assert [(cell.branch, cell.task) for cell in laid_out.cells] == [("all", "udpos")]


def test_settings_of_one_of_several_encoders_rank_between_recipe_and_phase() -> None:
    several = {"A": {"encoder": "a/a", "settings": {"lr": 1.0, "batch": 7}}, "B": {"encoder": "b/b"}}
    laid_out = made(encoder=None, encoders=several, settings={"batch": 9, "warmup": 0.5},
                    phases=[each("udpos", lr=2.0)], evaluate=["udpos"])  # fmt: skip
    first, second = (step.training for step in trainings(laid_out))
    assert first and second
    assert (first.lr, first.parts[0].batch, first.warmup) == (2.0, 7, 0.5)
    assert (second.lr, second.parts[0].batch, second.warmup) == (2.0, 9, 0.5)
    assert [step.title for step in trainings(laid_out)] == ["A: target: udpos", "B: target: udpos"]


TWO_ORDERS = [
    [],
    {"chain": [["mnli"], ["qqp", "masked-text"], ["udpos"]]},
    ["mnli", "qqp"],
    {"merge": [["mnli"], ["qqp"]]},
]


def steps_by_title(laid_out: Plan) -> list[tuple[str, int | None]]:
    """The title and `steps` of each training."""
    return [(step.title.partition(": ")[2], step.training.steps) for step in trainings(laid_out) if step.training]


def test_a_budget_of_updates_is_shared_by_the_trainings_of_a_choice() -> None:
    planned = made(phases=[choices(*TWO_ORDERS, settings={"budget": "updates", "steps": 101})])
    assert steps_by_title(planned) == [
        ("mnli", 34), ("qqp+masked-text after mnli", 34), ("udpos after qqp+masked-text", 33), ("mnli+qqp", 101),
        ("mnli", 51), ("qqp", 50),
    ]  # fmt: skip
    assert planned.budgets == {"middle": 101}


def test_a_budget_counts_no_raw_text_and_no_target() -> None:
    settings = {"budget": "updates", "steps": 60}
    phases = [choices({"chain": [["masked-text"], ["mnli"], ["qqp"]]}, ["masked-text"]), each("udpos")]
    planned = steps_by_title(made(phases=phases, evaluate=["udpos"], settings=settings))
    assert planned == [
        ("masked-text", 60), ("mnli after masked-text", 30), ("qqp after mnli", 30), ("udpos after qqp", 60),
        ("udpos after masked-text", 60),
    ]  # fmt: skip
    alone = steps_by_title(made(phases=[choices(["masked-text"], ["mnli"])], settings={"budget": "updates"}))
    assert alone == [("masked-text", None), ("mnli", BUDGET)]


def test_the_default_budget_is_in_no_identity() -> None:
    planned = made(phases=[choices(*TWO_ORDERS)])
    assert made(phases=[choices(*TWO_ORDERS)], settings={"budget": "epochs"}).steps.keys() == planned.steps.keys()
    mixture = [choices(["mnli", "qqp"])]
    one, other = (made(phases=mixture, settings={"steps": 90, **more}) for more in ({}, {"budget": "updates"}))
    assert one.steps.keys() == other.steps.keys(), "the work is the same"
