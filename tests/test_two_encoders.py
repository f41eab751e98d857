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
