"""A study with two encoders: every step starts from its own."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import Files


@pytest.fixture
def other_encoder(encoder_folder: Path, tmp_path: Path) -> Path:
    """The tiny encoder with other weights."""
    folder = shutil.copytree(encoder_folder, tmp_path / "other")
    torch.manual_seed(7)
    weights = {name: w + 0.1 * torch.randn_like(w) for name, w in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def rows_of(out: Path, encoder: Path) -> list[str]:
    """The predictions of all evaluations with an encoder."""
    found = []
    for path in sorted(out.glob("steps/*/scores.jsonl")):
        if json.loads(path.read_text(encoding="utf-8").splitlines()[0])["encoder"] == str(encoder):
            found += (path.parent / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    return sorted(found)


def test_the_second_encoder_is_loaded_where_the_first_is_still_in_memory(
    study: Files, encoder_folder: Path, other_encoder: Path
) -> None:
    """The last step of the first encoder scores it as it is, the first step of the second trains it."""
    study.edit("recipe.yaml", "[pairs, mine]", "[mine, pairs]")
    study.edit("recipe.yaml", str(encoder_folder), str(other_encoder))
    assert study.run().code == 0
    alone = rows_of(study.out, other_encoder)
    shutil.rmtree(study.out)
    both = f"encoders: {{one: {{encoder: {encoder_folder}}}, two: {{encoder: {other_encoder}}}}}"
    study.edit("recipe.yaml", f"encoder: {other_encoder}", both)
    assert study.run().code == 0
    assert rows_of(study.out, other_encoder) == alone


def test_a_target_may_start_from_an_encoder_of_its_own(study: Files, encoder_folder: Path, other_encoder: Path) -> None:
    """The others start from the recipe's; each is scored as it would be alone."""
    study.edit("recipe.yaml", "[pairs, mine]", "[mine]")
    study.edit("recipe.yaml", str(encoder_folder), str(other_encoder))
    assert study.run().code == 0
    alone = rows_of(study.out, other_encoder)
    shutil.rmtree(study.out)
    study.edit("recipe.yaml", f"encoder: {other_encoder}", f"encoder: {encoder_folder}")
    study.edit("recipe.yaml", "max_length: 32", f"max_length: 32, tasks: {{mine: {{encoder: {other_encoder}}}}}")
    study.edit("recipe.yaml", "[mine]\nkeep", "[mine, pairs]\nkeep")
    plan = study.call("plan", study.folder / "recipe.yaml")
    assert f"{other_encoder}: disk: at most" in plan.out, plan.out
    assert study.run().code == 0
    assert rows_of(study.out, other_encoder) == alone
    assert len(rows_of(study.out, encoder_folder)) == 3, "the translations are found by the recipe's encoder"
    probed = study.call("plan", study.folder / "recipe.yaml", "--probe")
    assert probed.code == 0 and probed.out.count("time: about") == 1


@pytest.mark.parametrize(
    ("old", "new", "pieces"),
    [
        ("max_length: 32", "encoder: x/y", [":5: settings.encoder: is a setting of single tasks"]),
        ("max_length: 32}\nphases:", "tasks: {mine: {encoder: x/y}}}\nphases:\n  - {name: one, choices: [[mine]]}",
         [":7: phases[0]: would not reach the target with the encoder x/y: train it in a recipe of its own"]),
        ("max_length: 32", "tasks: {mine: {encoder: ''}}", [":5: settings.tasks.mine.encoder: '' is no path"]),
    ],
)  # fmt: skip
def test_an_own_encoder_in_the_wrong_place_is_refused(study: Files, old: str, new: str, pieces: list[str]) -> None:
    study.edit("recipe.yaml", old, new)
    study.refused(*pieces)
