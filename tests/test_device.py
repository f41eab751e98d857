"""The hardware: float16 where bfloat16 is absent, torch.compile where it works, one order of additions."""

import os
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from conftest import Files
from test_resume import after, learning
from xstilts.compute import device
from xstilts.model import heads
from xstilts.model.batch import collate, generator
from xstilts.model.encoder import load
from xstilts.model.forward import most_tokens
from xstilts.training.optimizer import Optimizer

CPU = torch.device("cpu")


def test_bf16_is_float16_with_scaled_gradients_where_a_card_has_no_bfloat16(
    encoder_folder: Path, sentences: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = {}
    for dtype in (torch.bfloat16, torch.float16):
        monkeypatch.setattr(device, "half", lambda _, dtype=dtype: dtype)
        seen: list[torch.dtype] = []
        encoder = load(str(encoder_folder))
        encoder.base.register_forward_hook(lambda *call, seen=seen: seen.append(call[-1].last_hidden_state.dtype))
        weights[dtype], lines = after(encoder, learning(encoder, "classify", sentences, 7), precision="bf16")
        assert device.LossScale(CPU, "bf16").value == (1 if dtype == torch.bfloat16 else 2**16)
        assert all(line.loss < 1 for line in lines)
        assert all(value.isfinite().all() and value.dtype == torch.float32 for value in weights[dtype].values())
    moved = [(weights[torch.float16][name] - value).abs().max() for name, value in weights[torch.bfloat16].items()]
    assert 0 < max(moved) < 0.01, "the same training, rounded otherwise"


def test_the_loss_scale_halves_on_overflow_and_doubles_after_many_good_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "half", lambda _: torch.float16)
    monkeypatch.setattr(device.LossScale, "PATIENCE", 3)
    scale, values = device.LossScale(CPU, "bf16"), []
    for norm in (1.0, torch.inf, 1.0, torch.nan, 1.0, 1.0, 1.0):
        scale.update(torch.tensor(norm))
        values.append(scale.value / scale.START)
    assert values == [1, 0.5, 0.5, 0.25, 0.25, 0.25, 0.5]
    other = device.LossScale(CPU, "bf16")
    other.load_state_dict(scale.state_dict())
    assert other.state_dict() == scale.state_dict()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="oneDNN's limit names x86 instructions")
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_a_run_in_bf16_on_an_old_processor_says_that_it_is_slow(study: Files, precision: str) -> None:
    study.edit("recipe.yaml", "steps: 2", f"steps: 1, precision: {precision}")
    as_of_2013 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "XSTILTS_DEVICE": "cpu"}
    run = ["-m", "xstilts.cli", "run", str(study.folder / "recipe.yaml"), "--out", str(study.out)]
    result = subprocess.run(
        [sys.executable, *run], env={**os.environ, **as_of_2013}, capture_output=True, encoding="utf-8", check=True
    )
    assert ("no bfloat16 instructions" in result.stderr) == (precision == "bf16")


class NoFloat64(TorchDispatchMode):
    """Refuses float64 on Apple's GPUs, as they do themselves; tensors without memory need no such machine."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.device.type == "mps" and result.dtype == torch.float64:
            raise TypeError("the MPS framework doesn't support float64")
        return result


class NoTensor(TorchDispatchMode):
    """Refuses every tensor."""

    def __torch_dispatch__(self, func: Any, *_: Any, **__: Any) -> Any:
        raise AssertionError(func)


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_only_cuda_copies_a_batch_while_the_processor_goes_on(
    kind: str, encoder_folder: Path, sentences: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Apple's GPUs such a copy reads memory that may be reused already."""
    features = learning(load(str(encoder_folder)), "mask", sentences, 7).features
    batch = collate(features, range(9), None, generator(0)).prepared()
    copies: list[tuple[str, bool]] = []

    def to(self: torch.Tensor, where: torch.device, *, non_blocking: bool = False) -> torch.Tensor:
        copies.append((where.type, non_blocking))
        return self

    monkeypatch.setattr(torch.Tensor, "to", to)
    batch.to(torch.device(kind))
    assert set(copies) == {(kind, kind == "cuda")}


def test_masked_text_is_scored_on_apples_gpus() -> None:
    head = heads.Vocabulary(torch.nn.Identity())
    with FakeTensorMode(), NoFloat64():
        batch: Any = SimpleNamespace(targets_M=torch.zeros(3, dtype=torch.long, device="mps"))
        assert head.reduce_outputs(torch.empty(3, 5, device="mps"), batch).dtype == torch.float32


def test_a_training_on_apples_gpus_has_its_random_numbers_back(monkeypatch: pytest.MonkeyPatch) -> None:
    states = [torch.tensor([3], dtype=torch.uint8)]
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: states[-1])
    monkeypatch.setattr(torch.mps, "set_rng_state", states.append)
    saved = device.random_state(torch.device("mps"))
    device.set_random_state(torch.device("mps"), saved)
    assert len(states) == 2 and states[1].equal(states[0])


def test_apples_gpus_update_all_weights_in_one_kernel() -> None:
    with FakeTensorMode():
        layer = torch.nn.Module()
        layer.weight = torch.nn.Parameter(torch.empty(2, 2, device="mps"))
        optimizer = Optimizer(layer, None, lr=1e-3, weight_decay=0.1, updates=1)
        assert all(group["fused"] for group in optimizer._adam.param_groups)


def test_an_evaluation_on_cuda_takes_more_tokens_but_never_more_than_asked() -> None:
    cuda = torch.device("cuda")
    assert most_tokens(cuda, None) == 8 * most_tokens(CPU, None)
    for where in (cuda, CPU):
        assert most_tokens(where, 100) == 100 and most_tokens(where, 10**9) == most_tokens(where, None)


def test_a_process_that_only_plans_takes_no_memory_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine need not have one: a tensor on it would be an error."""
    monkeypatch.delenv("XSTILTS_DEVICE", raising=False)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with FakeTensorMode(), NoTensor():
        assert device.device() == torch.device("cuda", 0)


def test_no_other_run_is_slow_in_bf16() -> None:
    assert device.precision_notes(torch.device("cuda"), {"bf16"}) == []
    assert device.precision_notes(CPU, {"fp32"}) == []
