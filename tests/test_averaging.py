"""Averages of weights along a training, over seeds and of intermediate encoders equal those by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from conftest import Files
from test_train import NER, learning, tagged, trained
from xstilts.errors import UserError
from xstilts.model.encoder import load
from xstilts.model.merging import CHUNK, merge
from xstilts.model.new_encoder import create
from xstilts.model.shape import NewEncoder
from xstilts.training.weight_average import Mean


def weights(*modules: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in nn.ModuleList(modules).named_parameters()}


def alike(one: dict[str, Tensor], other: dict[str, Tensor], tolerance: float = 1e-6) -> bool:
    """Equal but for rounding (of numbers up to 1), which is far less than what an update changes; 0: to the bit."""
    assert one.keys() == other.keys() and one
    return all((one[name] - other[name]).abs().max() <= tolerance for name in one)


def mean(states: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([state[name] for state in states]).double().mean(0).float() for name in states[0]}


def test_the_running_mean_equals_the_mean_of_the_snapshots() -> None:
    layer = nn.Linear(1, 1, bias=False)
    layer.register_buffer("position_ids", torch.tensor([7]))
    mean = Mean(nn.ModuleList([layer, layer]), 4, 8)  # a weight that is there twice counts once
    for update in range(1, 9):
        layer.weight.data.fill_(update**2)
        if update in mean.points:
            mean.add()
    assert mean.count == 4
    with mean.swapped_in():
        assert layer.weight.item() == (4 + 16 + 36 + 64) / 4 and layer.position_ids.item() == 7
    assert layer.weight.item() == 64


@pytest.mark.parametrize(("total", "points"), [(8, [2, 4, 6, 8]), (10, [3, 5, 8, 10]), (3, [1, 2, 3]), (1, [1])])
def test_snapshots_are_evenly_spaced_and_include_the_last_update(total: int, points: list[int]) -> None:
    mean, seen = Mean(nn.Linear(1, 1), 4, total), []
    for update in range(1, total + 1):
        before = mean.count
        if update in mean.points:
            mean.add()
        seen += [update] if mean.count > before else []
    assert seen == points


def test_a_weight_average_resumes_from_its_state() -> None:
    whole, parts = nn.Linear(2, 2), nn.Linear(2, 2)
    one, two = Mean(whole, 3, 3), Mean(parts, 3, 3)
    for update in (1, 2, 3):
        for layer, mean in ((whole, one), (parts, two)):
            torch.manual_seed(update)
            layer.reset_parameters()
            if update in mean.points:
                mean.add()
        state, two = two.state_dict(), Mean(parts, 3, 3)
        assert all(isinstance(value, Tensor) for value in state.values())
        two.load_state_dict(state)
    with one.swapped_in(), two.swapped_in():
        assert alike(weights(whole), weights(parts), 0.0)


def test_the_weight_average_has_only_updates_before_the_early_stop(
    encoder_folder: Path, sentences: tuple[str, ...]
) -> None:
    rising, falling = [10.0, 20.0, 30.0, 40.0], [30.0, 20.0, 10.0]
    for scores, steps, snapshots, points in (
        (rising, 4, 2, [2, 4]), (falling, 10, 5, [2]), (falling, 10, 2, [1]),  # stopped before any: what it keeps
    ):  # fmt: skip
        encoder = load(str(encoder_folder))
        part = learning(encoder, NER, tagged(sentences))
        seen: list[dict[str, Tensor]] = []
        messages = iter(scores)

        def dev(seen: Any = seen, messages: Any = messages, modules: Any = (encoder, part.head)) -> float:
            seen.append(weights(*modules))
            return float(next(messages))

        done, _ = trained(encoder, [part], steps=steps, dev=dev, snapshots=snapshots)
        kept = weights(encoder, part.head)
        assert done.updates == len(seen) == len(scores) and alike(kept, seen[done.best_update - 1], 0.0)
        assert done.mean.count == len(points) and not alike(seen[0], seen[1])
        with done.mean.swapped_in():
            assert alike(weights(encoder, part.head), mean([seen[point - 1] for point in points]))
        assert alike(weights(encoder, part.head), kept, 0.0)


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path: Path, sentences: tuple[str, ...]) -> list[Path]:
    """Three steps with an encoder and a head each, of one shape."""
    made = [tmp_path / f"step-{seed}" for seed in range(3)]
    for seed, folder in enumerate(made):
        shape = NewEncoder(text="none", layers=1, hidden=8, heads=2, vocabulary=200, max_length=32, seed=seed)
        create(shape, sentences).save(folder / "encoder")
        save_file({"weight": torch.full((2,), float(seed))}, folder / "head-0.safetensors")
    return made


def read(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "encoder/model.safetensors")


def test_merged_encoders_load_as_a_normal_checkpoint(folders: list[Path], tmp_path: Path) -> None:
    merge(folders, tmp_path / "mean", heads=[0])
    states = [read(folder) for folder in folders]
    assert alike(read(tmp_path / "mean"), mean(states))
    assert load_file(tmp_path / "mean/head-0.safetensors")["weight"].tolist() == [1, 1]
    made = load(str(tmp_path / "mean/encoder"))
    words = made.base.embeddings.word_embeddings.weight
    assert any(value is words for value in made.vocabulary.parameters())  # the tied head is tied as it was
    assert {path.name for path in (tmp_path / "mean/encoder").iterdir()} == {
        path.name for path in (folders[0] / "encoder").iterdir()
    }


def test_task_vectors_are_added_to_the_base(folders: list[Path], tmp_path: Path) -> None:
    merge(folders, tmp_path / "sum", scale=0.4)
    base, one, two = (read(folder) for folder in folders)
    by_hand = {name: b + 0.4 * (one[name] - b) + 0.4 * (two[name] - b) for name, b in base.items()}
    assert alike(read(tmp_path / "sum"), by_hand) and not (tmp_path / "sum/head-0.safetensors").exists()
    merge(folders[:2], tmp_path / "one", scale=1.0)
    assert alike(read(tmp_path / "one"), one, 0.0)
    merge([folders[0], folders[1], folders[1]], tmp_path / "half", scale=0.5)
    assert alike(read(tmp_path / "half"), one, 0.0)


def test_integer_tensors_are_not_averaged(folders: list[Path], tmp_path: Path) -> None:
    for folder in folders:
        value = float(folder.name[-1])
        state = {"ids": torch.tensor([int(value)]), "long": torch.full((CHUNK + 3,), value), "one": torch.tensor(value)}
        save_file(state, folder / "encoder/model.safetensors")
    merge(folders[1:], tmp_path / "mean")
    state = read(tmp_path / "mean")
    assert state["ids"].tolist() == [1] and state["ids"].dtype == torch.int64
    assert (state["long"] == 1.5).all() and state["one"].item() == 1.5


def test_weights_of_different_shapes_or_names_are_refused(folders: list[Path], tmp_path: Path) -> None:
    state = read(folders[1])
    for number, wrong in enumerate((state | {"more": torch.zeros(1)}, {k: v[:1] for k, v in state.items()})):
        save_file(wrong, folders[1] / "encoder/model.safetensors")
        with pytest.raises(UserError, match=rf"step-1/\S+: has other weights than {folders[0]}.*delete {folders[1]} "):
            merge(folders, tmp_path / f"wrong-{number}")
    for number, content in enumerate((b"", None)):
        path = folders[2] / "head-0.safetensors"
        path.unlink() if content is None else path.write_bytes(content)
        with pytest.raises(
            UserError, match=rf"{path}: the weights cannot be read: .*delete {folders[2]} and run again"
        ):
            merge([folders[0], folders[2]], tmp_path / f"broken-{number}", heads=[0])


# --- studies ----------------------------------------------------------------------------------------------------------


def step(out: Path, title: str, seed: int | None = None) -> Path:
    rows = {path.parent: json.loads(path.read_text()) for path in out.glob("steps/*/step.json")}
    (found,) = [folder for folder, row in rows.items() if (row["title"], row["seed"]) == (title, seed)]
    return found


def done(out: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in out.glob("steps/*/done.json")}


@pytest.fixture
def averaged(study: Files) -> Files:
    study.edit("recipe.yaml", "seeds: [1]", "seeds: [1, 2]")
    study.edit("recipe.yaml", "each: [mine]}", "each: [mine], average: [checkpoints, runs, both], snapshots: 2}")
    study.edit("recipe.yaml", "steps: 2", "steps: 6, eval_every: 1")
    return study


CHECKPOINTS, RUNS = "average of checkpoints of target: mine", "average of seeds 1, 2 of target: mine"
BOTH = f"average of seeds 1, 2 of {CHECKPOINTS}"


def test_a_study_with_all_averages(averaged: Files) -> None:
    result = averaged.run()
    assert result.code == 0, result.err
    out = averaged.out
    trainings = [step(out, "target: mine", seed) for seed in (1, 2)]
    means = [step(out, CHECKPOINTS, seed) for seed in (1, 2)]
    for made, parents in ((step(out, RUNS), trainings), (step(out, BOTH), means)):
        assert json.loads((made / "step.json").read_text())["parents"] == [parent.name for parent in parents]
        assert alike(read(made), mean([read(parent) for parent in parents]))
        heads = [load_file(parent / "head-0.safetensors") for parent in parents]
        assert alike(load_file(made / "head-0.safetensors"), mean(heads))
        assert not alike(*heads)
    for training, made in zip(trainings, means, strict=True):
        assert alike(read(made), read(training / "mean"), 0.0) and not alike(read(made), read(training))
        assert json.loads((training / "done.json").read_text())["snapshots"] == 2
        weights_of = [folder / "encoder/model.safetensors" for folder in (training / "mean", made)]
        assert weights_of[0].samefile(weights_of[1])  # which takes no more room
    again = averaged.run()
    assert again.out == result.out and "[1/" in result.err and "[1/" not in again.err


def test_averages_are_compared_with_the_same_baseline(averaged: Files) -> None:
    assert averaged.run().code == 0
    report = json.loads(averaged.call("report", averaged.out, "--format", "json").out)
    names = ["all", "all, checkpoints averaged", "all, runs averaged", "all, checkpoints and runs averaged"]
    assert (report["branches"], report["baseline"]) == (names, "all")
    mine = {row["branch"]: row for row in report["lines"] if (row["task"], row["language"]) == ("mine", "mean")}
    assert [mine[name]["seeds"] for name in names] == [2, 2, 1, 1]
    assert [mine[name]["gain"] is None for name in names] == [True, False, False, False]
    middle = (mine["all"]["min"] + mine["all"]["max"]) / 2
    assert mine[names[2]]["gain"] == pytest.approx(mine[names[2]]["median"] - middle)
    pairs = {
        row["branch"]: row["median"] for row in report["lines"] if (row["task"], row["language"]) == ("pairs", "mean")
    }
    assert [*pairs] == names and len(set(pairs.values())) == 1  # what was not trained is as it was
    assert averaged.call("report", averaged.out, "--format", "submission").code == 0


def test_an_average_is_repeated_when_one_of_its_parents_is(averaged: Files) -> None:
    first = averaged.run()
    before, out = done(averaged.out), averaged.out
    (step(out, "target: mine", 2) / "done.json").unlink()
    assert averaged.run().out == first.out
    kept = {id for id, time in done(out).items() if before[id] == time}
    score = "score mine"
    untouched = [step(out, "target: mine", 1), step(out, score, 1), step(out, CHECKPOINTS, 1)]
    untouched += [step(out, f"{score}, checkpoints averaged", 1), step(out, "score pairs")]
    assert kept == {folder.name for folder in untouched}
    before = done(out)
    (step(out, RUNS) / "done.json").unlink()
    assert averaged.run().out == first.out
    again = {id for id, time in done(out).items() if before[id] != time}
    assert again == {step(out, RUNS).name, step(out, f"{score}, runs averaged").name}


def test_an_average_with_an_unfinished_run_is_skipped(averaged: Files) -> None:
    averaged.edit("recipe.yaml", "lr: 1e-3", "lr: 1e38")
    averaged.edit("recipe.yaml", "steps: 6", "steps: 60")
    result = averaged.run()
    assert result.code == 2 and "2 steps failed; 10 steps that depend on them were skipped" in result.err
    assert "error: target: mine, seed 2: " in result.err


def test_averaged_runs_start_from_the_same_head(averaged: Files) -> None:
    averaged.edit("recipe.yaml", "lr: 1e-3", "lr: 1e-30")
    heads = {}
    for name, old, new in (
        ("averaged", "snapshots: 2", "snapshots: 2"),
        ("given", "snapshots: 2", "snapshots: 2, head_seed: 3"),
        ("apart", "average: [checkpoints, runs, both], snapshots: 2, head_seed: 3", "average: checkpoints"),
    ):
        averaged.edit("recipe.yaml", old, new)
        assert averaged.call("run", averaged.folder / "recipe.yaml", "--out", averaged.folder / name).code == 0
        folders = [step(averaged.folder / name, "target: mine", seed) for seed in (1, 2)]
        heads[name] = [load_file(folder / "head-0.safetensors") for folder in folders]
    assert alike(*heads["averaged"], 0.0) and alike(*heads["given"], 0.0) and not alike(*heads["apart"])
    assert not alike(heads["averaged"][0], heads["given"][0])


MERGES = """\
  - name: middle
    choices: [[], [mine], [other], {merge: [[mine], [other]]}, {merge: [[mine], [other]], how: vectors, scale: 0.4}]
    settings: {lr: 2e-3}
  - {name: target"""


@pytest.fixture
def merging(study: Files) -> Files:
    study.write("tasks.yaml", (study.folder / "tasks.yaml").read_text() + "other: {like: mine, max_length: 16}\n")
    study.edit("recipe.yaml", ", max_length: 32", "")
    study.edit("recipe.yaml", "  - {name: target", MERGES)
    return study


def test_intermediate_encoders_are_merged(merging: Files) -> None:
    result = merging.run()
    assert result.code == 0, result.err
    out = merging.out
    plan = json.loads(merging.call("plan", merging.folder / "recipe.yaml", "--json").out)
    assert (plan["trainings"], plan["trainings_before_folding"]) == (2 + 5, 2 + 4 + 5)
    merges = [row for row in plan["steps"] if row["kind"] == "merge"]
    ones = [step(out, f"middle: {name}", 1) for name in ("mine", "other")]
    assert [row["parents"] for row in merges] == [[folder.name for folder in ones]] * 2
    assert {row["parent"] for row in merges} == {ones[0].name}
    states = [read(folder) for folder in ones]
    assert alike(read(step(out, "middle: mean(mine, other)", 1)), mean(states))
    own = Path(json.loads((out / "recipes/tiny.json").read_text())["encoder"])
    base = load_file(own / "model.safetensors")
    vectors = step(out, "middle: 0.4 vectors(mine, other)", 1)
    assert alike(read(vectors), {k: b + 0.4 * sum(state[k] - b for state in states) for k, b in base.items()})
    assert {path.name for path in vectors.iterdir()} == {"encoder", "step.json", "done.json"}
    assert "mean(mine, other)" in result.out and "0.4 vectors(mine, other)" in result.out
    assert "[1/" not in merging.run().err


def test_a_merge_is_undone_with_any_parent_even_one_of_another_recipe(merging: Files) -> None:
    assert merging.run().code == 0
    other = step(merging.out, "middle: other", 1)
    (other / "done.json").unlink()
    merging.edit(
        "recipe.yaml", ", {merge: [[mine], [other]]}, {merge: [[mine], [other]], how: vectors, scale: 0.4}", ""
    )
    assert merging.run().code == 0 and (other / "done.json").is_file()
    assert not (step(merging.out, "middle: mean(mine, other)", 1) / "done.json").exists()


def test_task_vectors_start_from_the_pretrained_encoder_of_the_merged_ones(merging: Files) -> None:
    merging.edit("recipe.yaml", "phases:\n", "phases:\n  - {name: first, choices: [[mine]], seed: 5}\n")
    assert merging.run().code == 0
    out = merging.out
    base = read(step(out, "first: mine", 5))
    states = [read(step(out, f"middle: {name} after mine", 1)) for name in ("mine", "other")]
    made = read(step(out, "middle: 0.4 vectors(mine, other) after mine", 1))
    assert alike(made, {k: b + 0.4 * sum(state[k] - b for state in states) for k, b in base.items()})


def test_show_works_on_an_averaged_step(averaged: Files) -> None:
    assert averaged.run().code == 0
    use = ("--use", averaged.folder / "tasks.yaml", "--encoder", step(averaged.out, RUNS))
    result = averaged.call("show", "mine", "de", 3, "--split", "dev", *use)
    rows = (step(averaged.out, "score mine, runs averaged") / "predictions.jsonl").read_text().splitlines()
    (row,) = [r for r in map(json.loads, rows) if (r["language"], r["split"], r["index"]) == ("de", "dev", 3)]
    assert result.out.endswith(f"prediction  {row['prediction']}\n")
