"""What goes on in the background of an evaluation: copies of results, with the same numbers in the same order."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from conftest import failing_at
from test_memory import FULL, pairs
from xstilts.compute.host_copy import HostCopy
from xstilts.formats import Classify, Mask, Retrieve
from xstilts.formats.base import Format, HeadOutputs
from xstilts.formats.retrieve import Entry
from xstilts.model import heads
from xstilts.model.batch import Batch
from xstilts.model.encoder import Encoder
from xstilts.model.features import FeatureSet
from xstilts.model.forward import head_outputs


@pytest.fixture(params=[Classify(labels=("0", "1"), texts=("a", "b")), Retrieve(find="mined"), Mask()], ids=str)
def evaluated(
    request: pytest.FixtureRequest, tiny: Encoder, sentences: tuple[str, ...]
) -> Callable[[], tuple[HeadOutputs, FeatureSet]]:
    """Runs a small evaluation of a format, in passes of at most 90 tokens."""
    form: Format = request.param
    examples: list[Any] = {
        "sequence": pairs(sentences), "vocabulary": list(sentences),
        "mean": [Entry(text, None, str(i)) for i, text in enumerate(sentences)],
    }[form.head.kind]  # fmt: skip
    features = FeatureSet.build(form, examples, tiny.tokenizer_for(32))
    torch.manual_seed(0)
    head = heads.build(form.head, tiny.config, tiny.vocabulary).eval()
    return lambda: (head_outputs(tiny, head, form, features, tokens=90), features)


def test_results_are_read_while_the_next_batch_is_computed(
    evaluated: Callable[[], tuple[HeadOutputs, FeatureSet]], monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    run, read = Encoder.hidden_states, HostCopy.numpy

    def hidden_states(self: Encoder, batch: Batch, *more: Any) -> Any:
        events.append("run")
        return run(self, batch, *more)

    monkeypatch.setattr(Encoder, "hidden_states", hidden_states)
    monkeypatch.setattr(HostCopy, "numpy", lambda self: (events.append("read"), read(self))[1])
    outputs, features = evaluated()
    batches = events.count("run")
    assert batches > 3 and events == ["run", *["run", "read"] * (batches - 1), "read"]
    assert len(outputs.scores) == len(features.lengths_F) and not any(one is None for one in outputs.scores)


def test_a_gpu_that_says_late_that_its_memory_was_full_computes_the_batch_again(
    evaluated: Callable[[], tuple[HeadOutputs, FeatureSet]], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = evaluated()[0].scores
    monkeypatch.setattr(HostCopy, "numpy", failing_at(HostCopy.numpy, 2, FULL))
    for one, other in zip(evaluated()[0].scores, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_copy_from_a_gpu_is_read_when_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for a GPU, whose copies are done when someone waits for them."""
    source, copied, given = torch.arange(6.0).view(2, 3), torch.zeros(2, 3), list[object]()

    class Event:
        def record(self, stream: object) -> None:
            given.append(stream)

        def synchronize(self) -> None:
            copied[:] = source

    pinned = SimpleNamespace(copy_=lambda _, non_blocking: given.append(non_blocking), numpy=copied.numpy)
    monkeypatch.setattr(torch, "empty", lambda *_, pin_memory, **__: (given.append(pin_memory), pinned)[1])
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: "stream")
    on_gpu: Any = SimpleNamespace(device=torch.device("cuda"), shape=(2, 3), dtype=torch.float32)
    copy = HostCopy(on_gpu)
    assert given == [True, True, "stream"] and not copied.any()
    array = copy.numpy()
    copied.zero_()  # pinned memory is used again
    assert array.tolist() == source.tolist()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_copies_from_a_gpu_hold_what_was_computed_before_them() -> None:
    x = torch.zeros(1024, 1024, device="cuda")
    copies = []
    for _ in range(20):
        x = x + 1
        copies.append(HostCopy(x))
    assert [copy.numpy().mean() for copy in copies] == list(range(1, 21))
