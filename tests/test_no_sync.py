"""An update on an accelerator reads nothing back from it: torch's device `meta` has no numbers that could be read."""

from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from test_resume import CASES, SETTINGS, learning
from xstilts.compute import device
from xstilts.compute.memory import TokenBudget
from xstilts.model import heads
from xstilts.model.batch import collate, generator
from xstilts.model.encoder import Encoder, load
from xstilts.training import loop
from xstilts.training.batches import BatchLoader, TrainTask
from xstilts.training.log import TrainingLog
from xstilts.training.loop import train

META = torch.device("meta")


@pytest.fixture(autouse=True)
def without_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch has no autocast for `meta`."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda _: False)


class NoWaiting(TorchDispatchMode):
    """Refuses an operation on tensors of the accelerator and of the processor together; `meta` refuses to be read."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        del types
        tensors = [x for x in tree_leaves((args, kwargs or {})) if isinstance(x, torch.Tensor) and x.dim()]
        copies = func.overloadpacket in (torch.ops.aten._to_copy, torch.ops.aten.copy_)
        assert copies or len({x.device.type for x in tensors}) <= 1, f"{func} waits for a copy of an index"
        return func(*args, **kwargs or {})


def updates(encoder: Encoder, task: TrainTask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six updates on the accelerator, whose log is not read."""
    monkeypatch.setattr(TrainingLog, "flush", lambda self: self._losses.clear())
    encoder.to(META)
    task.head.to(META)
    with NoWaiting():
        train(encoder, [task], SETTINGS, seed=1, dev=None, log=lambda _: None, tokens=100)


@pytest.mark.parametrize("rows", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_an_update_of_each_format_waits_for_nothing(
    name: str, rows: bool, with_dropout: Path, sentences: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "word_table", lambda base: base.get_input_embeddings() if rows else None)
    encoder = load(str(with_dropout))
    updates(encoder, learning(encoder, name, sentences, 7), monkeypatch)


@pytest.mark.parametrize("kind", ["jiant", "plain", "whole text"])
def test_an_update_of_each_classification_head_waits_for_nothing(
    kind: str, encoder_folder: Path, sentences: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load(str(encoder_folder))
    task = learning(encoder, "classify", sentences, 7)
    made = {"jiant": heads.Jiant(16, 3, 0.1), "plain": heads.Plain(16, 3, 0.1), "whole text": task.head}[kind]
    if kind == "whole text":
        made.stock.reads_first = False  # as ELECTRA's relatives that pool all tokens
    updates(encoder, TrainTask(task.settings, made, task.features, None), monkeypatch)


class Casts(TorchDispatchMode):
    """Counts how often each weight is cast to bfloat16."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.weights, self.counts = {id(weight) for weight in encoder.parameters()}, Counter[int]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        del types
        if func.overloadpacket is torch.ops.aten._to_copy and (kwargs or {}).get("dtype") is torch.bfloat16:
            self.counts[id(args[0])] += id(args[0]) in self.weights
        return func(*args, **kwargs or {})


def test_weights_are_cast_once_an_update(
    encoder_folder: Path, sentences: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # autocast is the matter here
    monkeypatch.setattr(device, "shared_casts", device.autocast)  # as on a GPU
    encoder = load(str(encoder_folder))
    task = learning(encoder, "classify", sentences, 7)
    settings = SETTINGS.model_copy(update={"precision": "bf16", "steps": 3})
    with Casts(encoder) as casts:
        train(encoder, [task], settings, seed=1, dev=None, log=lambda _: None, tokens=40)
    assert max(casts.counts.values()) == 3


def test_an_evaluation_on_a_gpu_holds_its_weights_in_the_half_type(
    encoder_folder: Path, sentences: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    encoder = load(str(encoder_folder)).eval()
    batch = collate(learning(encoder, "mask", sentences, 7).features, range(9), None, generator(0))
    before, cpu = [*encoder.parameters()], torch.device("cpu")
    layer = encoder.base.encoder.layer[0].output.dense
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        usual = encoder.hidden(batch)
        with device.linear_weights_as(torch.bfloat16, encoder.base):
            assert layer.weight.dtype == layer.bias.dtype == torch.bfloat16
            assert encoder.hidden(batch).equal(usual)
        with device.weights_cast_once(encoder.base, cpu, "bf16"):
            assert layer.weight.dtype == torch.float32, "a processor saves the memory"
    assert all(one is other for one, other in zip(encoder.parameters(), before, strict=True))
    with pytest.raises(ZeroDivisionError), device.linear_weights_as(torch.bfloat16, encoder.base):
        raise ZeroDivisionError
    assert layer.weight.dtype == torch.float32


@pytest.mark.parametrize("kind", ["mean", "cls"])
def test_pooling_waits_for_nothing(kind: str, encoder_folder: Path, sentences: tuple[str, ...]) -> None:
    encoder = load(str(encoder_folder)).to(META)
    features = learning(encoder, "mask", sentences, 7).features
    batch = collate(features, range(9), None, generator(0))
    pool = {"mean": heads.mean_of_tokens, "cls": heads.first_tokens}[kind]
    with NoWaiting(), torch.inference_mode():
        moved = batch.to(META)
        assert pool(encoder.hidden(moved), moved).shape == (9, 16)


def test_batches_that_a_thread_prepares_are_those_of_a_processor(
    tiny: Encoder, sentences: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    tasks = [learning(tiny, name, sentences, 3) for name in ("classify", "mask")]
    order_U = torch.tensor([0, 1, 1, 0, 1, 0, 0, 1] * 3).numpy()

    def loader(kind: str) -> BatchLoader:
        def split(head: heads.Head, batch: Any, tokens: int) -> list[Any]:
            return batch.split(tokens, whole=head.softmax_over_choices, padded=False)

        return BatchLoader(tasks, order_U, 1, split, TokenBudget(60), torch.device(kind))

    on_cpu, on_gpu = loader("cpu"), loader("cuda")
    for update in range(len(order_U)):
        if update == 10:  # a resumed training
            state, on_gpu = on_gpu.state_dict(), loader("cuda")
            on_gpu.load_state_dict(state)
        one, other = on_cpu.load(update), on_gpu.load(update)
        assert one.task == other.task and one.batch.ids_T.equal(other.batch.ids_T)
        assert [part.ids_T.tolist() for part in one.parts] == [part.ids_T.tolist() for part in other.parts]
        assert all(part.layout is not None for part in other.parts)
        assert repr(on_cpu.state_dict()) == repr(on_gpu.state_dict()), "a checkpoint knows nothing of the thread"
