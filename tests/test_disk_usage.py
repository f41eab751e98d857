"""The disk usage that a plan states is an upper bound, and a close one."""

import json
from pathlib import Path

import pytest

from conftest import Files, without_torch
from xstilts.model.encoder import load
from xstilts.model.new_encoder import create
from xstilts.model.shape import NewEncoder
from xstilts.study import disk_usage
from xstilts.study.plan import plan
from xstilts.study.recipe import Recipe
from xstilts.tasks import TASKS


def test_a_new_encoder_has_the_parameters_that_its_shape_says(sentences: tuple[str, ...]) -> None:
    given = {"text": "play-text", "layers": 3, "hidden": 24, "heads": 2, "max_length": 40}
    made = create(NewEncoder.model_validate(given), sentences)
    shape = NewEncoder.model_validate(given | {"vocabulary": len(made.tokenizer)})
    recipe = Recipe.model_validate({"name": "r", "encoder": shape, "seeds": [1], "evaluate": "play-parallel",
                                    "keep": "all",
                                    "phases": [{"name": "text", "choices": [["play-text"]]}]})  # fmt: skip
    (reported,) = disk_usage.estimate(plan(recipe, TASKS), None)
    assert reported.parameters == sum(p.numel() for p in made.parameters())
    assert (reported.encoders, reported.checkpoint_bytes) == (2, 32 * reported.parameters)


def test_a_run_uses_no_more_disk_than_planned_and_little_less(study: Files, encoder_folder: Path) -> None:
    study.edit("recipe.yaml", "seeds: [1]", "seeds: [1, 2]")
    result = json.loads(study.call("plan", study.folder / "recipe.yaml", "--json").out)["disk"]
    assert result["parameters"] == sum(p.numel() for p in load(str(encoder_folder)).parameters())
    assert study.run().code == 0
    steps = {path.parent for path in study.out.glob("steps/*/encoder")}
    left = sum(path.stat().st_size for step in steps for path in step.rglob("*") if path.is_file())
    assert result["encoders"] == len(steps) == 2
    assert left < result["kept_bytes"] < left + 2 * disk_usage.LOG_BYTES


def test_plan_prints_the_disk_usage_without_loading_torch(study: Files) -> None:
    study.edit("recipe.yaml", "keep: all", "keep: intermediate")
    table = without_torch("plan", study.folder / "recipe.yaml")
    assert "\ndisk: at most 0.64 MB: 0 encoders kept, 1 more while it is used, 0.49 MB for" in table, table
    study.edit("recipe.yaml", "keep: intermediate", "keep: all")
    table = without_torch("plan", study.folder / "recipe.yaml")
    assert "\ndisk: at most 0.64 MB: 1 encoder of 0.15 MB kept, 0.49 MB for" in table, table
    study.edit("recipe.yaml", "encoder: ", 'encoder: "{data}/nowhere" #')
    result = study.call("plan", study.folder / "recipe.yaml")
    assert (result.code, result.err) == (0, "")
    assert (
        "disk: at most 36 bytes per parameter of {data}/nowhere, which is not on this machine: 1 encoder" in result.out
    )
    numbers = json.loads(study.call("plan", study.folder / "recipe.yaml", "--json").out)
    assert numbers["disk"]["kept_bytes"] is None and numbers["trainings"] == 1


def test_a_weight_average_is_counted_per_parameter_when_the_encoder_is_absent(study: Files) -> None:
    study.edit("recipe.yaml", "encoder: ", "encoder: some/encoder #")
    study.edit("recipe.yaml", "[mine]}", "[mine], average: checkpoints}")
    result = study.call("plan", study.folder / "recipe.yaml").out
    assert "at most 48 bytes per parameter of some/encoder" in result, result
    assert "2 encoders kept, 4 bytes each, and 40 for" in result, result
    assert json.loads(study.call("plan", study.folder / "recipe.yaml", "--json").out)["disk"] == {
        "encoder": "some/encoder", "encoders": 2, "temporary": 0, "parameters": None, "kept_bytes": None,
        "temporary_bytes": None, "checkpoint_bytes": None,
        "checkpoint_bytes_per_parameter": 40, "not_counted": ["token features", "predictions"],
    }  # fmt: skip


def test_the_estimate_follows_the_recipes_keep(study: Files) -> None:
    """A target after an intermediate training (which is the other branch's target): the best run stays by default."""
    study.edit("recipe.yaml", "phases:", "phases:\n  - {name: first, choices: [[], [mine]]}")
    for keep, kept, temporary in (("all", 2, 0), ("intermediate", 1, 1), ("none", 0, 2), ("best", 1, 4)):
        study.edit("recipe.yaml", "keep: all", f"keep: {keep}")
        result = json.loads(study.call("plan", study.folder / "recipe.yaml", "--json").out)["disk"]
        assert (result["encoders"], result["temporary"]) == (kept, temporary), keep
        assert (result["kept_bytes"] > 0, result["temporary_bytes"] > 0) == (kept > 0, temporary > 0)
        study.edit("recipe.yaml", f"keep: {keep}", "keep: all")


SIZES = [f'{{"a": {{"shape": {shape}}}}}'.encode() for shape in ("[-2]", "[2.5]", "[[]]")]
HEADERS = [len(size).to_bytes(8, "little") + size for size in SIZES]


@pytest.mark.parametrize(
    "content", [*HEADERS, b"", b"12345678", b"\xff" * 100, b"\x02\0\0\0\0\0\0\0[]", b"\x02\0\0\0\0\0\0\0{"]
)
def test_broken_weights_are_not_counted(study: Files, encoder_folder: Path, content: bytes) -> None:
    folder = study.folder / "broken"
    folder.mkdir()
    (folder / "config.json").write_bytes((encoder_folder / "config.json").read_bytes())
    (folder / "model.safetensors").write_bytes(content)
    study.edit("recipe.yaml", str(encoder_folder), str(folder))
    assert "not on this machine" in study.call("plan", study.folder / "recipe.yaml").out


def test_a_cached_hub_encoder_is_counted(
    study: Files, encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    study.edit("recipe.yaml", str(encoder_folder), "some/encoder")
    assert "not on this machine" in study.call("plan", study.folder / "recipe.yaml").out
    cached = tmp_path / "hub/models--some--encoder"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs/main").write_text("abc")
    (cached / "snapshots").mkdir()
    (cached / "snapshots/abc").symlink_to(encoder_folder)
    assert "1 encoder of 0.15 MB" in study.call("plan", study.folder / "recipe.yaml").out
