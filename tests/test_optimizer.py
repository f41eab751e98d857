"""The optimizer: row-wise word-table updates equal whole-table updates, and a resumed run is identical."""

import math
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from xstilts.model.batch import Batch
from xstilts.model.encoder import load
from xstilts.model.heads import PerToken
from xstilts.training.loop import lr_factor
from xstilts.training.optimizer import CLIP, Optimizer
from xstilts.training.settings import BETA1, BETA2, EPSILON
from xstilts.training.word_table import LONGEST_STEP, RATIO, TAIL, word_table

V, H, T = 600, 8, 40
"""Rows and width of the toy's word table, and tokens of its batches."""


class Toy(nn.Module):
    """A word table and one more weight; its loss has the gradients that a batch asks for."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        rng = np.random.default_rng(1)
        self.table = nn.Embedding(V, H, padding_idx=0, dtype=dtype)
        self.gain = nn.Parameter(torch.zeros(H, dtype=dtype))
        self.table.weight.data.copy_(torch.from_numpy(rng.normal(0, 0.05, (V, H))))

    def loss(self, ids_T: Tensor, asked_TH: Tensor) -> Tensor:
        return ((self.table(ids_T) * (1 + self.gain)) * asked_TH.to(self.gain)).sum()

    def optimizer(self, *, rows: bool = True, lr: float = 1e-3, decay: float = 0.1) -> Optimizer:
        return Optimizer(self, self.table if rows else None, lr=lr, weight_decay=decay, updates=1000)


def batches(updates: int, seed: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """Words as rare as in text, so that some return at once and others after long; gradients of all sizes."""
    rng = np.random.default_rng(seed)
    frequency = np.arange(1, V) ** -1.3
    for _ in range(updates):
        ids = 1 + rng.choice(V - 1, T, p=frequency / frequency.sum())
        ids[::10] = 0
        yield torch.from_numpy(ids), torch.from_numpy(rng.normal(size=(T, H)) * 10 ** rng.uniform(-9, 0))


def learn(toy: Toy, by: Optimizer, updates: int, *, lr: float = 1e-3, skip: int = 0) -> list[float]:
    """Train as the loop does, from update `skip` on; the norms of the gradients."""
    norms = []
    for done, (ids_T, asked_TH) in enumerate(batches(updates)):
        if done >= skip:
            by.prepare(ids_T)
            toy.loss(ids_T, asked_TH).backward()  # type: ignore[no-untyped-call]
            norms.append(float(by.step(lr * lr_factor(done, updates, updates // 10))))
    return norms


def plainly(toy: Toy, updates: int, lr: float, decay: float) -> None:
    """The same by torch's own clipping and AdamW, which update the whole table each time."""
    groups = [{"params": [toy.table.weight], "weight_decay": decay}, {"params": [toy.gain], "weight_decay": 0.0}]
    adam = torch.optim.AdamW(groups, eps=EPSILON, fused=True)
    for done, (ids_T, asked_TH) in enumerate(batches(updates)):
        adam.zero_grad(set_to_none=False)
        toy.loss(ids_T, asked_TH).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(toy.parameters(), CLIP)
        for group in adam.param_groups:
            group["lr"] = lr * lr_factor(done, updates, updates // 10)
        adam.step()


@pytest.mark.parametrize(("lr", "decay"), [(1e-5, 0.01), (1e-3, 0.1)])
def test_row_updates_are_nearer_float64_than_whole_table_updates(lr: float, decay: float) -> None:
    exact, whole, rows = Toy(torch.float64), Toy(), Toy()
    plainly(exact, 1000, lr, decay)
    plainly(whole, 1000, lr, decay)
    by = rows.optimizer(lr=lr, decay=decay)
    norms = learn(rows, by, 1000, lr=lr)
    by.close()
    assert 50 < sum(norm > CLIP for norm in norms) < 950
    wrong = [(toy.table.weight - exact.table.weight).detach().abs() for toy in (whole, rows)]
    assert wrong[1].max() < wrong[0].max() and wrong[1].mean() < wrong[0].mean() / 4
    torch.testing.assert_close(rows.gain, whole.gain, atol=lr / 100, rtol=0)


def test_the_toy_has_words_that_return_within_and_beyond_the_tail() -> None:
    last: dict[int, int] = {}
    pauses = []
    for now, (ids_T, _) in enumerate(batches(1000)):
        pauses += [now - last[word] for word in ids_T.tolist() if word in last]
        last |= dict.fromkeys(ids_T.tolist(), now)
    assert sum(pause > TAIL for pause in pauses) > 300 and sum(1 < pause <= TAIL for pause in pauses) > 5000


def test_after_the_tail_a_row_moves_less_than_rounding() -> None:
    first, second = 0.0, 0.0
    for i in range(20_000):  # the gradients that make the first moment largest beside the second
        gradient = (BETA2 / BETA1) ** min(i - 20_000, 0)
        first, second = BETA1 * first + (1 - BETA1) * gradient, BETA2 * second + (1 - BETA2) * gradient**2
    assert first / math.sqrt(second) == pytest.approx(LONGEST_STEP, rel=1e-3)
    steps = [first / math.sqrt(second) * RATIO**j for j in range(1, 2000)]
    assert sum(steps[TAIL:]) <= 2**-24 < sum(steps[TAIL - 2 :])


def test_a_row_that_no_batch_trains_only_decays() -> None:
    toy, start = Toy(), Toy()
    by = toy.optimizer(decay=0.5)
    read = torch.cat([ids_T for ids_T, _ in batches(50)]).unique()
    learn(toy, by, 50)
    idle = torch.tensor([0, *sorted(set(range(V)) - set(read.tolist()))])  # row 0 is padding: read, never trained
    assert len(idle) > 100 and toy.table.weight[idle[1:]].equal(start.table.weight[idle[1:]])
    by.flush()
    left = math.prod(1 - 1e-3 * lr_factor(done, 50, 5) * 0.5 for done in range(50))
    torch.testing.assert_close(toy.table.weight[idle], start.table.weight[idle] * left, rtol=2**-20, atol=0)
    assert not toy.table.weight[read[1:]].equal(start.table.weight[read[1:]])


def test_a_resumed_optimizer_gives_identical_weights(tmp_path: Path) -> None:
    whole, first = Toy(), Toy()
    by = whole.optimizer()
    learn(whole, by, 400)
    by.close()
    by = first.optimizer()
    for done, (ids_T, asked_TH) in enumerate(batches(250)):
        by.prepare(ids_T)
        first.loss(ids_T, asked_TH).backward()  # type: ignore[no-untyped-call]
        by.step(1e-3 * lr_factor(done, 400, 40))
    save_file(by.state_dict(), tmp_path / "optimizer")
    save_file(first.state_dict(), tmp_path / "weights")
    second = Toy()
    second.load_state_dict(load_file(tmp_path / "weights"))
    by = second.optimizer()
    by.load_state_dict(load_file(tmp_path / "optimizer"))
    learn(second, by, 400, skip=250)
    by.close()
    assert second.table.weight.equal(whole.table.weight) and second.gain.equal(whole.gain)


def test_the_state_holds_moments_of_trained_rows_only() -> None:
    toy = Toy()
    by = toy.optimizer()
    learn(toy, by, 20)
    read = torch.cat([ids_T for ids_T, _ in batches(20)]).unique()
    state = by.state_dict()
    assert state["table.ids"].equal(read) and state["table.first"].shape == (len(read), H)


@pytest.mark.parametrize("rows", [True, False])
def test_gradients_of_partial_batches_add_up(rows: bool) -> None:
    at_once, in_parts = Toy(), Toy()
    once, parts = at_once.optimizer(rows=rows), in_parts.optimizer(rows=rows)
    learn(at_once, once, 100)
    for done, (ids_T, asked_TH) in enumerate(batches(100)):
        parts.prepare(ids_T)
        for part in (slice(0, 7), slice(7, 8), slice(8, T)):
            in_parts.loss(ids_T[part], asked_TH[part]).backward()  # type: ignore[no-untyped-call]
        parts.step(1e-3 * lr_factor(done, 100, 10))
    once.close()
    parts.close()
    torch.testing.assert_close(in_parts.table.weight, at_once.table.weight, atol=1e-6, rtol=0)


def test_a_scaled_loss_gives_the_same_update_and_an_overflow_gives_none() -> None:
    plain, scaled = Toy(), Toy()
    by, by_scaled = plain.optimizer(), scaled.optimizer()
    for ids_T, asked_TH in batches(5):
        by.prepare(ids_T)
        plain.loss(ids_T, asked_TH).backward()  # type: ignore[no-untyped-call]
        norm = float(by.step(1e-3))
        by_scaled.prepare(ids_T)
        (scaled.loss(ids_T, asked_TH) * 1024).backward()
        assert float(by_scaled.step(1e-3, scale=1024.0)) == pytest.approx(norm)
    assert scaled.table.weight.equal(plain.table.weight) and scaled.gain.equal(plain.gain)
    by.flush()
    by_scaled.prepare(ids_T)
    (scaled.loss(ids_T, asked_TH) * math.inf).backward()
    assert not by_scaled.step(1e-3, scale=1024.0).isfinite()
    by_scaled.flush()
    assert scaled.table.weight.equal(plain.table.weight)
    assert all(parameter.grad is None for parameter in by_scaled.parameters)


def test_a_forward_pass_that_reads_other_rows_is_an_error() -> None:
    """On a GPU it is torch's assertion on the device, so no wrong row is read there, either."""
    toy = Toy()
    by = toy.optimizer()
    by.prepare([3, 5])
    assert toy.table(torch.tensor([5, 3])).equal(toy.table.weight[[5, 3]])
    with pytest.raises(IndexError, match="out of range"):
        toy.table(torch.tensor([4]))
    by.step(1e-3)
    assert toy.table(torch.tensor([4])).equal(toy.table.weight[[4]]), "between updates all may be read"


def test_a_gradient_of_the_rows_is_as_small_as_the_batch() -> None:
    toy = Toy()
    by = toy.optimizer()
    by.prepare(torch.tensor([7, 0, 7, 9]))
    toy.loss(torch.tensor([7, 0, 7, 9]), torch.ones(4, H)).backward()  # type: ignore[no-untyped-call]
    assert [tuple(one.grad.shape) for one in by.parameters if one.grad is not None] == [(H,), (3, H)]
    by.step(1e-3)
    state = by.state_dict()
    assert state["table.ids"].tolist() == [0, 7, 9]
    first_N = state["table.first"][:, 0]
    assert first_N[0] == 0 < first_N[2] and float(first_N[1] / first_N[2]) == pytest.approx(2), "padding has none"


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("rows", [True, False])
def test_a_gpu_updates_rows_as_a_processor_does_and_waits_for_nothing(
    rows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", True)  # as in a training
    on_cpu, on_gpu = Toy(), Toy().to("cuda")
    by_cpu, by_gpu = on_cpu.optimizer(), on_gpu.optimizer(rows=rows)
    for done, (ids_T, asked_TH) in enumerate(batches(300)):
        lr = 1e-3 * lr_factor(done, 300, 30)
        moved = ids_T.cuda(), asked_TH.cuda()
        torch.cuda.set_sync_debug_mode("error" if done else "default")  # the first update loads kernels
        try:
            for toy, by, batch in ((on_cpu, by_cpu, (ids_T, asked_TH)), (on_gpu, by_gpu, moved)):
                by.prepare(ids_T)
                toy.loss(*batch).backward()  # type: ignore[no-untyped-call]
                by.step(lr)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    by_cpu.close()
    by_gpu.close()
    torch.testing.assert_close(on_gpu.table.weight.cpu(), on_cpu.table.weight, atol=1e-5, rtol=0)


def test_a_table_with_dense_gradients_is_updated_as_a_whole() -> None:
    results = []
    for rows in (True, False):
        toy = Toy()
        by = toy.optimizer(rows=rows)
        for done, (ids_T, asked_TH) in enumerate(batches(60)):
            by.prepare(ids_T)
            tied = (toy.table(ids_T[:5]).detach() @ toy.table.weight.T).square().sum()
            (toy.loss(ids_T, asked_TH) + tied).backward()
            by.step(1e-3 * lr_factor(done, 60, 6))
            if done == 30:
                state, by = by.state_dict(), toy.optimizer(rows=rows)
                by.load_state_dict(state)
        by.close()
        results.append(toy.table.weight)
    torch.testing.assert_close(*results, atol=1e-6, rtol=0)


def test_an_encoder_trains_alike_by_rows_and_by_table_and_reproducibly(
    encoder_folder: Path, sentences: tuple[str, ...]
) -> None:
    results = []
    for rows in (True, True, False):
        encoder = load(str(encoder_folder))
        torch.manual_seed(1)
        head = PerToken(encoder.config.hidden_size, 3, 0.0)
        modules = nn.ModuleList([encoder, head]).train()
        table = encoder.base.get_input_embeddings()
        by = Optimizer(modules, table if rows else None, lr=1e-3, weight_decay=0.01, updates=60)
        for done in range(60):
            ids_T = torch.tensor(encoder.tokenizer(sentences[done % len(sentences)])["input_ids"])
            at_T, one = torch.arange(len(ids_T)), torch.tensor([len(ids_T)])
            batch = Batch(1, ids_T, one, 0 * ids_T, at_T, ids_T % 3, one, torch.tensor([0]))
            by.prepare([*ids_T, encoder.pad_id])
            head.loss(head(encoder.hidden(batch), batch), batch).backward()
            by.step(1e-3 * lr_factor(done, 60, 6))
        by.close()
        assert not table._forward_hooks
        results.append(deepcopy(modules.state_dict()))
    first, again, whole = results
    assert all(value.equal(again[name]) for name, value in first.items())
    for name, value in first.items():
        torch.testing.assert_close(value, whole[name], atol=1e-5, rtol=0)


def test_only_a_large_plain_trainable_table_is_updated_by_rows(
    encoder_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = load(str(encoder_folder)).base
    table = base.get_input_embeddings()
    assert word_table(base) is None
    monkeypatch.setattr("xstilts.training.word_table.MIN_NUMBERS", table.weight.numel())
    assert word_table(base) is table
    table.weight.requires_grad_(False)
    assert word_table(base) is None
    for other in (nn.Embedding(V, H, max_norm=1.0), nn.Embedding(V, H, scale_grad_by_freq=True), Scaled(V, H)):
        base.set_input_embeddings(other)
        assert word_table(base) is None


class Scaled(nn.Embedding):
    """A table that is not read as it stands."""


def test_a_learning_rate_times_decay_above_one_is_left_to_torch() -> None:
    whole, rows = Toy(), Toy()
    plainly(whole, 10, 20.0, 0.1)
    learn(rows, rows.optimizer(lr=20.0), 10, lr=20.0)
    torch.testing.assert_close(rows.table.weight, whole.table.weight, rtol=1e-5, atol=1e-5)
