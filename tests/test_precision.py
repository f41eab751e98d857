"""`precision: auto`: what it becomes on each device, which steps it plans, and that a study keeps one precision."""

import json
from pathlib import Path

import pytest
import torch

from conftest import Files
from xstilts.compute import device
from xstilts.study.plan import plan
from xstilts.study.recipe import Recipe
from xstilts.tasks import TASKS


def ids(**settings: str) -> set[str]:
    recipe = {"name": "one", "encoder": "some/encoder", "evaluate": ["xnli"], "settings": settings,
              "phases": [{"name": "target", "each": ["xnli"]}]}  # fmt: skip
    return set(plan(Recipe.model_validate(recipe), TASKS).steps)


def test_auto_is_the_default_and_each_other_precision_has_steps_of_its_own() -> None:
    assert ids() == ids(precision="auto")
    assert not ids() & ids(precision="fp32") and not ids() & ids(precision="bf16")
    assert not ids(precision="bf16") & ids(precision="fp32")


def test_a_recipe_that_names_no_precision_keeps_the_ids_from_when_the_default_was_fp32() -> None:
    recipe = Recipe.model_validate({"name": "one", "encoder": "e", "evaluate": ["xnli"],
                                    "phases": [{"name": "target", "each": ["xnli"]}]})  # fmt: skip
    specs = [step.training or step.scoring for step in plan(recipe, TASKS).steps.values()]
    assert {spec.identity()["precision"] for spec in specs if spec} == {"fp32"}
    assert {spec.precision for spec in specs if spec} == {"auto"}


@pytest.mark.parametrize(
    ("kind", "has_bf16", "expected"),
    [("cpu", True, "fp32"), ("mps", True, "fp32"), ("cuda", True, "bf16"), ("cuda", False, "fp32")],
)
def test_auto_is_bf16_only_on_a_gpu_with_bfloat16(
    kind: str, has_bf16: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0) if has_bf16 else (7, 5))
    where = torch.device(kind)
    assert device.effective_precision(where, "auto") == expected
    assert [device.effective_precision(where, precision) for precision in ("fp32", "bf16")] == ["fp32", "bf16"]


def test_each_gpu_of_a_machine_has_its_own_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    old = torch.device("cuda", 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda where: (7, 5) if where == old else (9, 0))
    assert [device.half(torch.device("cuda", i)) for i in (0, 1)] == [torch.bfloat16, torch.float16]
    assert device.effective_precision(old, "auto") == "fp32"
    monkeypatch.setattr(torch.version, "hip", "7.0")  # AMD's numbers mean something else
    assert device.half(old) == torch.bfloat16


def test_float32_products_use_tf32_on_cuda_but_not_in_the_neighbour_search() -> None:
    was = torch.backends.cuda.matmul.allow_tf32, torch.backends.cuda.cudnn_sdp_enabled()
    try:
        device.use_fast_cuda(torch.device("cpu"))
        assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cuda.cudnn_sdp_enabled()) == was
        device.use_fast_cuda(torch.device("cuda"))
        assert torch.backends.cuda.matmul.allow_tf32 and not torch.backends.cuda.cudnn_sdp_enabled()
        with device.without_tf32():
            assert not torch.backends.cuda.matmul.allow_tf32
        assert torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.backends.cuda.matmul.allow_tf32 = was[0]
        torch.backends.cuda.enable_cudnn_sdp(was[1])


def test_workers_that_share_a_gpu_divide_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share, _: given.append(share))
    monkeypatch.setattr(torch.backends.cuda, "enable_cudnn_sdp", lambda _: None)
    with device.without_tf32():
        for share in ("1.0", "0.25"):
            monkeypatch.setenv(device.GPU_SHARE, share)
            device.use_fast_cuda(torch.device("cuda"))
    assert given == [0.25]


def recorded(study: Files) -> dict[Path, dict[str, str]]:
    """The content of each `done.json`."""
    return {path: json.loads(path.read_text()) for path in study.out.glob("steps/*/done.json")}


def test_a_study_is_not_continued_in_another_precision(study: Files) -> None:
    assert study.run().code == 0
    assert {facts["precision"] for facts in recorded(study).values()} == {"fp32"}
    for path, facts in recorded(study).items():  # as if a GPU had done them
        path.write_text(json.dumps(facts | {"precision": "bf16"}))
    assert study.run().code == 0, "nothing is left to do"
    study.edit("recipe.yaml", "seeds: [1]", "seeds: [1, 2]")
    result = study.run()
    assert result.code == 2 and result.err.count("\n") == 1
    assert "precision: auto is fp32 on this device, but bf16 in " in result.err
    study.edit("recipe.yaml", "steps: 2", "steps: 2, precision: fp32")
    assert study.run().code == 0
    assert sorted(facts["precision"] for facts in recorded(study).values()).count("bf16") < len(recorded(study)) / 2


def test_a_step_that_another_gpu_finishes_meanwhile_ends_the_run(study: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was finished when the run began; a run on an old and on a new GPU would mix their precisions."""
    with monkeypatch.context() as patch:
        patch.setattr("xstilts.execution.steps.precision_of", lambda _: "bf16")  # as if the first step were done there
        result = study.run()
    assert result.code == 2 and "auto is fp32 on this device, but bf16 in 1 finished step of the study" in result.err
    assert [facts["precision"] for facts in recorded(study).values()] == ["bf16"]
    study.edit("recipe.yaml", "steps: 2", "steps: 2, precision: fp32")
    assert study.run().code == 0


def test_steps_of_an_earlier_version_count_as_fp32(study: Files) -> None:
    assert study.run().code == 0
    for path, facts in recorded(study).items():
        del facts["precision"]
        path.write_text(json.dumps(facts))
    study.edit("recipe.yaml", "seeds: [1]", "seeds: [1, 2]")
    assert study.run().code == 0
