"""What happens when memory is full: passes become smaller, and a step that still fails keeps its checkpoint."""

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from conftest import Files, failing_at
from xstilts.compute import memory
from xstilts.compute import neighbours as search
from xstilts.compute.memory import PATIENCE, TokenBudget
from xstilts.compute.neighbours import TILE, neighbours
from xstilts.errors import OutOfMemory
from xstilts.execution.dispatch import Dispatcher
from xstilts.execution.runner import StepResult
from xstilts.formats import Classify, Mask, Retrieve
from xstilts.formats.base import Format
from xstilts.formats.classify import Labelled
from xstilts.formats.retrieve import Entry
from xstilts.model import evaluate, heads
from xstilts.model.batch import Batch
from xstilts.model.encoder import Encoder, load
from xstilts.model.features import FeatureSet
from xstilts.model.forward import head_outputs
from xstilts.training import word_table
from xstilts.training.checkpoint import Checkpoint
from xstilts.training.log import LogRow
from xstilts.training.loop import TrainTask, train
from xstilts.training.optimizer import Optimizer
from xstilts.training.settings import TaskSettings, TrainSpec

CPU = torch.device("cpu")
FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
ERRORS = (
    FULL,
    MemoryError(),
    torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    RuntimeError("MPS backend out of memory (MPS allocated: 17.9 GB, other allocations: 384 KB, max allowed: 18 GB)."),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes. Error code 12"),
    torch.distributed.DistBackendError("NCCL error: unhandled cuda error\nCuda failure 2 'out of memory'"),
)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_each_library_says_in_its_own_way_that_memory_is_full(error: BaseException) -> None:
    assert memory.is_out_of_memory(error)
    assert memory.attempt(failing_at(list, 1, error), CPU) is None


def test_other_errors_pass() -> None:
    for error in (RuntimeError("CUDA error: device-side assert triggered"), ValueError("out of memory")):
        assert not memory.is_out_of_memory(error)
        with pytest.raises(type(error)):
            memory.attempt(failing_at(list, 1, error), CPU)


def test_the_graph_is_gone_when_memory_is_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    graph: list[weakref.ref[Tensor]] = []
    alive: list[bool] = []
    monkeypatch.setattr(memory, "free", lambda _: alive.extend(one() is not None for one in graph))

    def work() -> None:
        hidden = torch.ones(3, requires_grad=True) * 2
        graph.append(weakref.ref(hidden))
        raise torch.OutOfMemoryError("no room")

    assert memory.attempt(work, CPU) is None
    assert alive == [False]


def test_a_halved_budget_doubles_again_after_some_updates() -> None:
    budget = TokenBudget(100)
    assert budget.compute(lambda _: [SimpleNamespace(tokens=90)], failing_at(len, 1, FULL), CPU) == 1
    assert budget.tokens == 45
    sizes = []
    for _ in range(3 * PATIENCE):
        budget.note_update()
        sizes.append(budget.tokens)
    assert sizes == [45] * (PATIENCE - 1) + [90] * PATIENCE + [100] * (PATIENCE + 1)


# --- training -------------------------------------------------------------------------------------------------------


def pairs(sentences: tuple[str, ...]) -> list[Labelled]:
    return [Labelled((a, b), str(i % 2)) for i, (a, b) in enumerate(zip(sentences, sentences[::-1], strict=True))]


def trained(
    folder: Path, sentences: tuple[str, ...], fault: Callable[[Encoder, heads.Head], None] | None = None, **more: Any
) -> tuple[dict[str, Tensor], list[LogRow]]:
    """Weights and log of ten updates on pairs of sentences."""
    encoder, lines = load(str(folder)), list[LogRow]()
    torch.manual_seed(0)
    form = Classify(labels=("0", "1"), texts=("a", "b"))
    head = heads.build(form.head, encoder.config, None)
    settings = TaskSettings(task="pairs", weight=1.0, batch=7, max_length=32, epochs=1)
    spec = TrainSpec(
        parts=(settings,), lr=1e-3, steps=10, warmup=0.25, weight_decay=0.01, precision="fp32", eval_every=None,
        patience=2,
    )  # fmt: skip
    task = TrainTask(settings, head, FeatureSet.build(form, pairs(sentences), encoder.tokenizer_for(32)), None)
    if fault is not None:
        fault(encoder, head)
    train(encoder, [task], spec, seed=1, dev=None, log=lines.append, **more)
    return torch.nn.ModuleDict({"encoder": encoder, "head": head}).state_dict(), lines


def full_forward(encoder: Encoder, _: heads.Head) -> None:
    encoder.hidden = failing_at(encoder.hidden, 3, FULL)  # type: ignore[method-assign]


def full_head(_: Encoder, head: heads.Head) -> None:
    head.loss = failing_at(head.loss, 4, ERRORS[2])  # type: ignore[method-assign]


def full_backward(encoder: Encoder, _: heads.Head) -> None:
    """Memory is full in the third backward pass, when the head has its gradients already."""
    weight = encoder.base.get_input_embeddings().weight
    weight.register_hook(failing_at(lambda gradient: gradient, 3, ERRORS[3]))


def interrupted(encoder: Encoder, _: heads.Head) -> None:
    encoder.hidden = failing_at(encoder.hidden, 6, KeyboardInterrupt())  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("fault", "table"),
    [(full_forward, 1), (full_forward, 10**9), (full_head, 1), (full_head, 10**9), (full_backward, 10**9)],
)
def test_the_update_is_repeated_in_smaller_parts(
    fault: Any, table: int, encoder_folder: Path, sentences: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the word table is updated by rows, if it has so many numbers."""
    expected, rows = trained(encoder_folder, sentences)
    monkeypatch.setattr(word_table, "MIN_NUMBERS", table)
    got, again = trained(encoder_folder, sentences, fault)
    for name, tensor in expected.items():
        torch.testing.assert_close(got[name], tensor, atol=1e-5, rtol=1e-4, msg=name)
    assert [row.loss for row in again] == pytest.approx([row.loss for row in rows], rel=1e-4)


def test_fewer_tokens_hold_for_a_training_that_resumes(
    tmp_path: Path, encoder_folder: Path, sentences: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user gives --tokens to the second run because the first failed for memory."""
    (tmp_path / "log.jsonl").touch()
    with pytest.raises(KeyboardInterrupt):
        trained(encoder_folder, sentences, interrupted, checkpoint=Checkpoint(tmp_path, 0, []))
    sizes: list[int] = []
    inner = Encoder.hidden
    monkeypatch.setattr(Encoder, "hidden", lambda self, batch: (sizes.append(batch.tokens), inner(self, batch))[1])
    trained(encoder_folder, sentences, checkpoint=Checkpoint(tmp_path, 0, []), tokens=70)
    assert len(sizes) > 5 and max(sizes) <= 70


def test_a_resumed_training_lets_go_of_the_file_it_read(
    tmp_path: Path, encoder_folder: Path, sentences: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "log.jsonl").touch()
    with pytest.raises(KeyboardInterrupt):
        trained(encoder_folder, sentences, interrupted, checkpoint=Checkpoint(tmp_path, 0, []))
    saved: list[weakref.ref[Tensor]] = []
    read = Checkpoint.load

    def remember(self: Checkpoint) -> Any:
        state = read(self)
        assert state is not None
        saved.extend(weakref.ref(tensor) for tensor in state["modules"].values())
        return state

    alive: list[bool] = []
    inner = Encoder.hidden

    def hidden(self: Encoder, batch: Batch) -> Tensor:
        alive.extend(tensor() is not None for tensor in saved)
        return inner(self, batch)

    monkeypatch.setattr(Checkpoint, "load", remember)
    monkeypatch.setattr(Encoder, "hidden", hidden)
    trained(encoder_folder, sentences, checkpoint=Checkpoint(tmp_path, 10, []))
    assert alive and not any(alive)


@pytest.mark.parametrize("table", [1, 10**9])
def test_a_training_that_has_ended_leaves_no_optimizer(
    table: int, encoder_folder: Path, sentences: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its memory is free before Python next looks for objects that keep one another."""
    monkeypatch.setattr(word_table, "MIN_NUMBERS", table)
    made: list[weakref.ref[Optimizer]] = []
    step = Optimizer.step

    def remember(self: Optimizer, *given: Any) -> Tensor:
        made.append(weakref.ref(self))
        return step(self, *given)

    monkeypatch.setattr(Optimizer, "step", remember)
    gc.disable()
    try:
        trained(encoder_folder, sentences)
        assert made and all(one() is None for one in made)
    finally:
        gc.enable()


# --- a run ----------------------------------------------------------------------------------------------------------


def weights(out: Path) -> list[dict[str, Tensor]]:
    return [load_file(path) for path in sorted(out.glob("steps/*/**/*.safetensors"))]


@pytest.mark.parametrize("place", ["update", "dev"])
def test_a_training_without_memory_keeps_its_checkpoint_and_goes_on(
    place: str, study: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    study.edit("recipe.yaml", "steps: 2", "steps: 8, eval_every: 2")
    assert study.run("--out", study.folder / "whole").code == 0
    target = {"update": "xstilts.training.optimizer.Optimizer.step", "dev": "xstilts.model.evaluate.head_outputs"}[
        place
    ]
    inner = {"update": "step", "dev": "head_outputs"}[place]

    function = getattr(Optimizer if place == "update" else evaluate, inner)
    with monkeypatch.context() as patch:
        patch.setattr(target, failing_at(function, 5 if place == "update" else 2, FULL))
        result = study.run("--checkpoint", "0")
    assert result.code == 2 and "Traceback" not in result.err
    assert "memory is full (run the same command again" in result.err
    assert len([*study.out.glob("steps/*/checkpoint.pt")]) == 1
    again = study.run()
    assert again.code == 0 and "resumes at update" in again.err
    for one, other in zip(weights(study.out), weights(study.folder / "whole"), strict=True):
        assert all(tensor.equal(other[name]) for name, tensor in one.items())
    assert not [*study.out.glob("steps/*/checkpoint.pt")]


def test_a_checkpoint_that_does_not_fit_into_memory_stays(study: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not damaged, so the training must not start from the beginning."""
    with monkeypatch.context() as patch:
        patch.setattr(Optimizer, "step", failing_at(Optimizer.step, 2, FULL))
        assert study.run("--checkpoint", "0").code == 2
    with monkeypatch.context() as patch:
        full = RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")
        patch.setattr(torch, "load", failing_at(torch.load, 1, full))
        result = study.run()
    assert result.code == 2 and "memory is full (run the same command again" in result.err
    again = study.run()
    assert again.code == 0 and "resumes at update 1" in again.err


@pytest.mark.parametrize(
    "place",
    [
        "transformers.AutoModelForMaskedLM.from_pretrained",
        "xstilts.model.probe.can_pack",
        "xstilts.model.probe.windows_if_apart",
        "xstilts.model.encoder.Encoder._can_stop",
    ],
)
def test_an_encoder_that_does_not_fit_into_memory_is_not_broken(
    place: str, study: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The encoder that a step has saved, which must not be deleted; before a run, the pretrained one."""
    assert study.run().code == 0
    (scored,) = (path for path in study.out.glob("steps/*/scores.jsonl") if '"mine"' in path.read_text())
    (scored.parent / "done.json").unlink()
    full = RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")
    for more in ((), ("--out", study.folder / "new")):
        with monkeypatch.context() as patch:
            patch.setattr(place, failing_at(list, 1, full))
            result = study.run(*more)
        assert result.code == 2 and "memory is full (run the same command again" in result.err
        assert "Traceback" not in result.err and "delete" not in result.err
        assert study.run(*more).code == 0


def test_a_failed_step_leaves_no_tensors_for_the_next(study: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is shown at the end of the run; until then it must not hold the encoder that it came from."""
    encoders: list[weakref.ref[Encoder]] = []

    def train(encoder: Encoder, *_: Any, **__: Any) -> None:
        encoders.append(weakref.ref(encoder))
        raise OutOfMemory("one example does not fit")

    def handle(self: Dispatcher, result: StepResult) -> None:
        if result.status == "failed":
            gc.collect()
            alive.append(encoders[0]() is not None)
        inner(self, result)

    alive: list[bool] = []
    inner = Dispatcher._handle
    monkeypatch.setattr("xstilts.execution.steps.train", train)
    monkeypatch.setattr(Dispatcher, "_handle", handle)
    assert study.run().code == 2 and alive == [False]


# --- evaluation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [Classify(labels=("0", "1"), texts=("a", "b")), Retrieve(find="mined"), Mask()])
def test_an_evaluation_without_memory_is_done_in_smaller_parts(
    form: Format, encoder_folder: Path, sentences: tuple[str, ...]
) -> None:
    encoder = load(str(encoder_folder)).eval()
    examples: list[Any] = {
        "sequence": pairs(sentences), "vocabulary": list(sentences),
        "mean": [Entry(text, None, str(i)) for i, text in enumerate(sentences)],
    }[form.head.kind]  # fmt: skip
    features = FeatureSet.build(form, examples, encoder.tokenizer_for(32))
    head = heads.build(form.head, encoder.config, encoder.vocabulary).eval()
    expected = head_outputs(encoder, head, form, features).scores
    sizes: list[int] = []
    inner = encoder.hidden_states

    def hidden_states(batch: Batch, *more: Any) -> Any:
        sizes.append(batch.tokens)
        if batch.tokens > 50:
            raise FULL
        return inner(batch, *more)

    encoder.hidden_states = hidden_states  # type: ignore[method-assign]
    got = head_outputs(encoder, head, form, features).scores
    assert sizes[0] > 50
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    sizes.clear()
    head_outputs(encoder, head, form, features, tokens=50)
    assert max(sizes) <= 50


def test_a_search_for_neighbours_without_memory_takes_smaller_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    sides = np.arange(180), np.arange(180, 300)
    expected = neighbours(vectors, *sides, 3)
    heights: list[int] = []
    inner = search.product

    def product(x_RH: Tensor, y_CH: Tensor) -> Tensor:
        heights.append(len(x_RH))
        if len(x_RH) > 100:
            raise FULL
        return inner(x_RH, y_CH)

    monkeypatch.setattr(search, "product", product)
    got = neighbours(vectors, *sides, 3)
    assert max(heights) > 100 >= min(heights) and TILE[0] > 100
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(one.ids_NK, other.ids_NK)
    monkeypatch.setattr(search, "product", failing_at(inner, 1, FULL, times=99))
    with pytest.raises(OutOfMemory, match="memory is full in the search for neighbours"):
        neighbours(vectors, *sides, 3)
