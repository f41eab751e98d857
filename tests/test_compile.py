"""torch.compile: one graph for batches of all lengths, and a training that goes on where the compiler fails."""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from shutil import which
from sysconfig import get_path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.utils import counters

from conftest import Files, failing_at
from test_memory import trained
from test_resume import CASES, after, learning
from xstilts.formats import Mask
from xstilts.model import gpu_attention
from xstilts.model.batch import Batch, collate, generator
from xstilts.model.compiled import bucket
from xstilts.model.encoder import Encoder, load
from xstilts.model.features import FeatureSet
from xstilts.training import word_table

pytestmark = pytest.mark.filterwarnings("ignore")  # the compiler warns of torch's own code
CAN_COMPILE = which(os.environ.get("CXX", "g++")) and Path(get_path("include"), "Python.h").is_file()
REAL = torch.compile


def backend(monkeypatch: pytest.MonkeyPatch, name: Any) -> None:
    """Let the compiler make its graphs, but compute them by other means, which is quicker."""
    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", partial(REAL, backend=name))


def batches(encoder: Encoder, sentences: tuple[str, ...], sizes: tuple[int, ...]) -> list[Batch]:
    """Batches of so many sentences."""
    features = FeatureSet.build(Mask(), list(sentences) * 3, encoder.tokenizer_for(32))
    return [collate(features, range(size), None, generator(0)) for size in sizes]


def states_and_gradients(encoder: Encoder, batch: Batch, *, half: bool = False) -> list[Tensor]:
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        hidden_TH = encoder.hidden(batch)
    hidden_TH.float().square().mean().backward()
    found = [hidden_TH.detach(), *(p.grad for p in encoder.base.parameters() if p.grad is not None)]
    encoder.zero_grad(set_to_none=True)
    return found


def test_compiled_rows_have_few_lengths() -> None:
    sizes = [bucket(tokens) for tokens in range(1, 8193)]
    assert len({*sizes}) == 16 and sizes[-1] == 8192
    for tokens, size in enumerate(sizes, 1):
        assert tokens <= size < max(256 + tokens, 1.25 * tokens + 1)


@pytest.mark.parametrize("half", [False, True], ids=["fp32", "bf16"])
def test_padding_to_a_bucket_changes_no_state_and_no_gradient(
    half: bool, encoder_folder: Path, sentences: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, rows = load(str(encoder_folder)).train(), list[int]()
    some = batches(encoder, sentences, (20, 7, 1, 40))
    expected = [states_and_gradients(encoder, batch, half=half) for batch in some]
    monkeypatch.setattr(torch, "compile", lambda forward, **_: forward)
    encoder.compile(pytest.fail)
    embed = encoder.base.get_input_embeddings()
    embed.register_forward_hook(lambda _, inputs, __: rows.append(inputs[0].numel()))
    tolerance = {"atol": 2e-3, "rtol": 2e-2} if half else {"atol": 1e-6, "rtol": 1e-5}
    for batch, usual in zip(some, expected, strict=True):
        for one, other in zip(states_and_gradients(encoder, batch, half=half), usual, strict=True):
            torch.testing.assert_close(one, other, **tolerance)
    assert rows == [bucket(batch.tokens) for batch in some] != [batch.tokens for batch in some]


def test_one_graph_serves_batches_of_all_lengths(
    encoder_folder: Path, sentences: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load(str(encoder_folder)).train()
    some = batches(encoder, sentences, (20, 7, 1, 2, 40, 33, 60, 50, 3))
    expected = [states_and_gradients(encoder, batch) for batch in some]
    backend(monkeypatch, "eager")
    encoder.compile(pytest.fail)
    counters.clear()
    for batch, usual in zip(some, expected, strict=True):
        for one, other in zip(states_and_gradients(encoder, batch), usual, strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)
    assert counters["stats"]["unique_graphs"] <= len({bucket(batch.tokens) for batch in some}) == 5
    assert not counters["graph_break"]
    encoder.eval()
    assert encoder.hidden(some[0]).shape[0] == some[0].tokens and counters["frames"]["total"] <= 5


@pytest.mark.parametrize("name", CASES)
def test_one_graph_serves_a_whole_training_of_each_format(
    name: str, encoder_folder: Path, sentences: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the word table is updated by rows: each update reads another number of them."""
    monkeypatch.setattr(word_table, "MIN_NUMBERS", 1)
    monkeypatch.setattr("xstilts.model.compiled.BUCKET", 1024)  # one length, one graph

    def weights(*, compiled: bool) -> dict[str, Tensor]:
        encoder = load(str(encoder_folder))
        task = learning(encoder, name, sentences, 7)
        if compiled:
            encoder.compile(pytest.fail)
        return after(encoder, task)[0]

    expected = weights(compiled=False)
    backend(monkeypatch, aot_autograd(fw_compiler=lambda graph, _: graph))
    counters.clear()
    got = weights(compiled=True)
    assert counters["stats"]["unique_graphs"] == 1 and not counters["graph_break"]
    for path, tensor in expected.items():
        torch.testing.assert_close(got[path], tensor, atol=1e-5, rtol=1e-4, msg=path)


def test_later_trainings_share_the_graph_of_the_first(
    encoder_folder: Path, sentences: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compiler makes eight graphs of a function and then gives up; a study has more trainings by rows."""
    monkeypatch.setattr(word_table, "MIN_NUMBERS", 1)
    backend(monkeypatch, aot_autograd(fw_compiler=lambda graph, _: graph))
    counters.clear()
    encoders = [load(str(encoder_folder)) for _ in range(2)]
    for encoder in encoders:
        encoder.compile(pytest.fail)
        after(encoder, learning(encoder, "classify", sentences, 7))
    assert counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize("rate", [0.0, 0.1])
def test_the_attention_of_a_gpu_is_part_of_the_graph(
    rate: float, with_dropout: Path, sentences: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On torch's device `meta`, forward and backward."""
    encoder = load(str(with_dropout)).train()
    for layer in encoder.base.encoder.layer:
        layer.attention.self.dropout.p = rate
    some = [batch.to(torch.device("meta")) for batch in batches(encoder, sentences, (20, 7, 3, 40))]
    encoder.to("meta", torch.bfloat16)
    kernels = {"attention_kind": "flash", "flash_drops": True, "_varlen_arguments": ("enable_gqa",)}
    for name, result in kernels.items():
        constant = torch.compiler.assume_constant_result(lambda *_, result=result: result)
        monkeypatch.setattr(gpu_attention, name, constant)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: False)  # torch has no autocast for `meta`
    backend(monkeypatch, "eager")
    encoder.compile(pytest.fail)
    counters.clear()
    for batch in some:
        encoder.hidden(batch).float().sum().backward()
    assert counters["stats"]["unique_graphs"] == 1 and not counters["graph_break"]


# --- failures ---------------------------------------------------------------------------------------------------------


def first_forward(_: Encoder) -> Any:
    def broken(*_: Any) -> Any:
        raise RuntimeError("no kernel\nat line 3")

    return broken


def first_backward(_: Encoder) -> Any:
    return aot_autograd(fw_compiler=lambda graph, _: graph, bw_compiler=first_forward(_))


def later_call(_: Encoder) -> Any:
    """The graph fails for the third batch, as a new shape may."""
    return lambda graph, _: failing_at(graph, 3, RuntimeError("no kernel\nat line 3"))


def later_backward(encoder: Encoder) -> Any:
    weight = encoder.base.get_input_embeddings().weight
    weight.register_hook(failing_at(lambda gradient: gradient, 3, RuntimeError("no kernel\nat line 3")))
    return "eager"


@pytest.mark.parametrize("fault", [first_forward, first_backward, later_call, later_backward])
def test_a_training_goes_on_with_the_same_update_where_the_compiler_fails(
    fault: Callable[[Encoder], Any], encoder_folder: Path, sentences: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, rows = trained(encoder_folder, sentences)
    notes, encoders = list[str](), list[Encoder]()

    def compile_badly(encoder: Encoder, _: Any) -> None:
        backend(monkeypatch, fault(encoder))
        encoder.compile(notes.append)
        encoders.append(encoder)

    got, again = trained(encoder_folder, sentences, compile_badly)
    assert notes == ["no kernel"] and encoders[0]._compiled is None
    assert [(row.step, row.lr) for row in again] == [(row.step, row.lr) for row in rows]
    for row, other in zip(again, rows, strict=True):
        assert row.loss == pytest.approx(other.loss, abs=1e-4)
    for name, tensor in expected.items():
        torch.testing.assert_close(got[name], tensor, atol=1e-5, rtol=1e-4, msg=name)


def test_the_repeated_update_has_the_same_dropout(
    encoder_folder: Path, sentences: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first forward pass has drawn random numbers when the backward pass fails to compile."""

    def drop(encoder: Encoder) -> None:
        for module in encoder.base.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.5

    def compile_badly(encoder: Encoder, _: Any) -> None:
        drop(encoder)
        backend(monkeypatch, first_backward(encoder))
        encoder.compile(list[str]().append)

    expected, _ = trained(encoder_folder, sentences, lambda encoder, _: drop(encoder))
    got, _ = trained(encoder_folder, sentences, compile_badly)
    for name, tensor in expected.items():
        torch.testing.assert_close(got[name], tensor, atol=1e-5, rtol=1e-4, msg=name)


def test_an_error_that_stays_without_the_compiler_is_raised(
    encoder_folder: Path, sentences: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[str] = []
    monkeypatch.setattr(torch, "compile", lambda forward, **_: forward)

    def broken_head(encoder: Encoder, head: Any) -> None:
        encoder.compile(notes.append)
        head.loss = failing_at(head.loss, 1, RuntimeError("a bug"), times=9)

    with pytest.raises(RuntimeError, match="a bug"):
        trained(encoder_folder, sentences, broken_head)
    assert notes == ["a bug"]


def test_a_model_that_is_no_single_graph_is_compiled_in_parts(
    encoder_folder: Path, sentences: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, _ = trained(encoder_folder, sentences)
    encoders: list[Encoder] = []

    def compile_parts(encoder: Encoder, _: Any) -> None:
        backend(monkeypatch, "eager")
        dense = encoder.base.encoder.layer[1].output.dense
        inner = dense.forward
        monkeypatch.setattr(dense, "forward", lambda x: (torch._dynamo.graph_break(), inner(x))[1])
        encoder.compile(pytest.fail)
        encoders.append(encoder)
        counters.clear()

    got, _ = trained(encoder_folder, sentences, compile_parts)
    assert encoders[0]._compiled is not None and counters["stats"]["unique_graphs"] > 1
    for name, tensor in expected.items():
        torch.testing.assert_close(got[name], tensor, atol=1e-5, rtol=1e-4, msg=name)


def test_a_run_without_a_compiler_says_so_once(study: Files) -> None:
    study.edit("recipe.yaml", "steps: 2", "steps: 2, precision: bf16")
    without = {"CXX": "/nowhere/g++", "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1", "XSTILTS_DEVICE": "cpu"}
    run = ["-m", "xstilts.cli", "run", str(study.folder / "recipe.yaml"), "--out", str(study.out), "--compile"]
    result = subprocess.run(
        [sys.executable, *run], env={**os.environ, **without}, capture_output=True, encoding="utf-8", check=True
    )
    (line,) = (line for line in result.stderr.splitlines() if "torch.compile does not work here" in line)
    assert "C++ compiler" in line and list(study.out.glob("steps/*/scores.jsonl"))


@pytest.mark.slow
@pytest.mark.skipif(not CAN_COMPILE, reason="needs a C++ compiler and Python's headers")
def test_a_compiled_encoder_gives_the_same_hidden_states_and_gradients(
    encoder_folder: Path, sentences: tuple[str, ...]
) -> None:
    encoder = load(str(encoder_folder)).train()
    some = batches(encoder, sentences, (20, 7))
    expected = [states_and_gradients(encoder, batch) for batch in some]
    torch.compiler.reset()
    encoder.compile(pytest.fail)
    for batch, usual in zip(some, expected, strict=True):
        for one, other in zip(states_and_gradients(encoder, batch), usual, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
