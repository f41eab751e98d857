"""What goes on in the background of an evaluation: reading, copies and scores, with the same numbers in their order."""

import fcntl
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from conftest import Files, failing_at
from test_memory import FULL, pairs
from xstilts.compute.host_copy import HostCopy
from xstilts.errors import StepFailed
from xstilts.execution import evaluator
from xstilts.formats import Classify, Mask, Retrieve
from xstilts.formats.base import Format, HeadOutputs
from xstilts.formats.retrieve import Entry
from xstilts.model import heads
from xstilts.model.batch import Batch
from xstilts.model.encoder import Encoder
from xstilts.model.features import FeatureSet
from xstilts.model.forward import head_outputs
from xstilts.utils import locks
from xstilts.utils.background import ahead, behind, check_stopped


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


# --- threads ----------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def earlier_threads() -> None:
    """Other tests may have left threads, such as those of torch's compiler."""
    EARLIER.clear()
    EARLIER.update(threading.enumerate())


EARLIER: set[threading.Thread] = set()


def no_other_thread() -> bool:
    return {*threading.enumerate()} <= EARLIER


def test_items_are_made_ahead_in_order_and_one_waits() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for i in range(6):
            made.append(i)
            yield i

    used = []
    for i in ahead(items()):
        time.sleep(0.02)
        assert i in made and len(made) <= i + 2
        used.append(i)
    assert used == [*range(6)] and no_other_thread()


def test_an_error_of_a_thread_comes_in_its_turn() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("the disk is gone")

    used, calls = list[int](), list[int]()
    with pytest.raises(OSError, match="the disk is gone"), closing(ahead(items())) as given:
        for i in given:
            used.append(i)
    assert used == [1]
    with pytest.raises(OSError, match="first"), behind() as later:
        later(failing_at(lambda: None, 1, OSError("first")))
        raise KeyError("second")
    with pytest.raises(OSError, match="late"), behind() as later:
        for i in range(9):
            later(lambda i=i: calls.append(i))
        later(failing_at(lambda: None, 1, OSError("late")))
    assert calls == [*range(9)] and no_other_thread()
    with pytest.raises(OSError, match="dev"), behind() as later:  # not what follows from it
        for call in (failing_at(lambda: None, 1, OSError("dev")), failing_at(lambda: None, 1, KeyError("test"))):
            later(call)
        later(lambda: calls.append(9))
    assert 9 not in calls


def test_calls_behind_wait_two_at_most() -> None:
    waiting, most = 0, 0

    def call() -> None:
        nonlocal waiting
        time.sleep(0.01)
        waiting -= 1

    with behind() as later:
        for _ in range(8):
            waiting += 1
            later(call)
            most = max(most, waiting)
    assert most <= 2 and waiting == 0


def test_an_interrupt_leaves_no_thread(tmp_path: Path) -> None:
    def endless() -> Iterator[int]:
        while True:
            check_stopped()
            yield from ()

    def locked() -> Iterator[int]:
        with locks.exclusive(tmp_path / "held", wait=True):
            yield 1

    with (tmp_path / "held").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for items in (endless(), locked()):
            given = ahead(items)
            threading.Timer(0.2, signal.pthread_kill, (threading.get_ident(), signal.SIGINT)).start()
            with pytest.raises(KeyboardInterrupt), closing(given), behind() as later:
                later(lambda: time.sleep(0.1))
                next(given)
    time.sleep(0.3)
    assert no_other_thread()


def test_threads_change_no_score_and_no_prediction(study: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    beside: set[bool] = set()
    inner = evaluator.score

    def score(*given: Any) -> Any:
        beside.add(threading.current_thread() is not threading.main_thread())
        return inner(*given)

    monkeypatch.setattr(evaluator, "score", score)
    assert study.run().code == 0 and beside == {True} and no_other_thread()
    monkeypatch.setattr(evaluator, "ahead", lambda items: (one for one in items))
    monkeypatch.setattr(evaluator, "behind", lambda: nullcontext(evaluator._now))
    assert study.run("--out", study.folder / "plain").code == 0 and beside == {True, False}
    results = [
        {path.relative_to(out): path.read_bytes() for name in ("scores", "predictions")
         for path in out.glob(f"steps/*/{name}.jsonl")}
        for out in (study.out, study.folder / "plain")
    ]  # fmt: skip
    assert results[0] == results[1] != {}


def test_an_error_of_scoring_ends_the_step_as_ever(study: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluator, "score", failing_at(evaluator.score, 1, StepFailed("no score")))
    result = study.run()
    assert result.code == 2 and "no score" in result.err and "Traceback" not in result.err and no_other_thread()
