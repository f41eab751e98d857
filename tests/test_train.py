"""The training loop: packing changes nothing, seeds determine the result, the schedule is the paper's."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from xstilts.errors import StepFailed
from xstilts.formats import Classify, Mask, Tag
from xstilts.formats.base import IGNORED, Format, HeadSpec
from xstilts.formats.classify import Labelled
from xstilts.formats.tag import Tagged
from xstilts.model import heads
from xstilts.model.batch import MLM_SHARE, Batch, Masking, ShuffledBatches, collate, generator
from xstilts.model.encoder import Encoder, load
from xstilts.model.features import FeatureSet
from xstilts.training.batches import TrainTask
from xstilts.training.early_stopping import BestWeights, evaluation_interval
from xstilts.training.log import LogRow
from xstilts.training.loop import Trained, lr_factor, task_order, train, warmup_notes
from xstilts.training.settings import PATIENCE, Mixing, TaskSettings, TrainSpec

SAME = Classify(labels=("0", "1"), texts=("a", "b"))
NER = Tag(labels=("O", "B-LOC", "I-LOC"))
SETTINGS = TrainSpec(
    parts=(), lr=1e-3, steps=4, warmup=0.25, weight_decay=0.01, precision="fp32", eval_every=1, patience=2
)


@pytest.fixture
def encoder(encoder_folder: Path) -> Encoder:
    return load(str(encoder_folder))


def pairs(sentences: tuple[str, ...]) -> list[Labelled]:
    return [Labelled((a, b), str(i % 2)) for i, (a, b) in enumerate(zip(sentences, reversed(sentences), strict=True))]


def tagged(sentences: tuple[str, ...]) -> list[Tagged]:
    words = [tuple(sentence.split()) for sentence in sentences]
    return [Tagged(w, tuple(NER.labels[len(word) % 3] for word in w)) for w in words]


def learning(
    encoder: Encoder, format: Format, examples: list[Any], *, batch: int = 4, epochs: int = 1, seed: int = 0
) -> TrainTask:
    """A task with a new head of its own."""
    torch.manual_seed(seed)
    head = heads.build(format.head, encoder.config, encoder.vocabulary)
    settings = TaskSettings(task=format.name, weight=1.0, batch=batch, max_length=64, epochs=epochs)
    masking = encoder.masking() if isinstance(format, Mask) else None
    return TrainTask(settings, head, FeatureSet.build(format, examples, encoder.tokenizer_for(64)), masking)


def trained(
    encoder: Encoder, parts: list[TrainTask], *, seed: int = 1, dev: Callable[[], float] | None = None, **changed: Any
) -> tuple[Trained, list[LogRow]]:
    log: list[LogRow] = []
    return train(encoder, parts, SETTINGS.model_copy(update=changed), seed=seed, dev=dev, log=log.append), log


def state(*modules: torch.nn.Module) -> list[torch.Tensor]:
    return [value.clone() for module in modules for value in module.state_dict().values()]


def test_packed_and_padded_batches_have_equal_loss_and_gradients(encoder: Encoder, sentences: tuple[str, ...]) -> None:
    for form, examples in ((SAME, pairs(sentences)), (NER, tagged(sentences))):
        part = learning(encoder, form, examples)
        part.head.eval()
        batch = collate(part.features, range(len(sentences)), None, generator(0))
        results = []
        for packs in (True, False):
            encoder.packs = packs
            encoder.base.set_attn_implementation("xstilts_packed" if packs else "sdpa")
            loss = part.head.loss(part.head(encoder.hidden(batch), batch), batch)
            weights = [*encoder.base.parameters(), *part.head.parameters()]
            results.append([loss.detach(), *torch.autograd.grad(loss, weights, allow_unused=True)])
        for packed, padded in zip(*results, strict=True):
            torch.testing.assert_close(packed, padded, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_seed_determines_the_weights(encoder_folder: Path, sentences: tuple[str, ...], precision: str) -> None:
    states = []
    for seed in (1, 1, 2):
        encoder = load(str(encoder_folder))
        parts = [learning(encoder, NER, tagged(sentences)), learning(encoder, Mask(), list(sentences))]
        _, log = trained(encoder, parts, seed=seed, precision=precision)
        assert all(math.isfinite(line.loss) for line in log)
        states.append(state(encoder, parts[0].head))
        assert {value.dtype for value in states[-1]} == {torch.float32}
    first, same, other = states
    assert all(a.equal(b) for a, b in zip(first, same, strict=True))
    assert not all(a.equal(b) for a, b in zip(first, other, strict=True))


def test_a_seed_determines_the_order_of_the_examples(encoder_folder: Path, sentences: tuple[str, ...]) -> None:
    losses = []
    for seed in (1, 2):
        encoder = load(str(encoder_folder))
        _, log = trained(encoder, [learning(encoder, NER, tagged(sentences))], seed=seed)
        losses.append(log[0].loss)  # before the first update, and without dropout, only the batch differs
    assert losses[0] != losses[1]


def test_forty_updates_lower_the_loss(encoder: Encoder, sentences: tuple[str, ...]) -> None:
    _, log = trained(encoder, [learning(encoder, NER, tagged(sentences), batch=20)], steps=40, lr=3e-3)
    assert log[-1].loss < 0.6 * log[0].loss
    assert [line.step for line in log] == list(range(1, 41)) and {line.total for line in log} == {40}


def test_the_log_has_learning_rate_and_speed(encoder: Encoder, sentences: tuple[str, ...]) -> None:
    done, log = trained(encoder, [learning(encoder, NER, tagged(sentences))])
    assert [line.lr for line in log] == pytest.approx([0, 1e-3, 2e-3 / 3, 1e-3 / 3])
    assert all(line.tokens_per_second > line.examples_per_second > 0 for line in log)
    assert (done.updates, done.best) == (4, None) and log[-1].seconds <= done.seconds


def test_the_learning_rate_warms_up_then_decays_to_zero() -> None:
    rates = [lr_factor(done, 100, 10) for done in range(101)]
    assert rates[0] == 0 and rates[5] == 0.5 and rates[10] == 1 and rates[55] == 0.5 and rates[100] == 0
    assert rates[:11] == sorted(rates[:11]) and rates[10:] == sorted(rates[10:], reverse=True)
    assert [lr_factor(done, 2, 0) for done in range(3)] == [1, 0.5, 0] and lr_factor(0, 1, 0) == 1


def test_early_stopping_restores_the_best_weights(encoder: Encoder, sentences: tuple[str, ...]) -> None:
    part = learning(encoder, NER, tagged(sentences))
    scores, seen = iter([10.0, 30.0, 30.0, 20.0, 99.0]), []

    def dev() -> float:
        assert not encoder.training
        seen.append(state(encoder, part.head))
        return next(scores)

    done, log = trained(encoder, [part], steps=10, dev=dev)
    assert (done.updates, done.best_update, done.best) == (4, 2, 30.0)
    assert [line.dev for line in log if line.dev is not None] == [10, 30, 30, 20]
    assert all(a.equal(b) for a, b in zip(state(encoder, part.head), seen[1], strict=True))
    assert not all(a.equal(b) for a, b in zip(seen[1], seen[2], strict=True)) and not encoder.training


@pytest.mark.parametrize(
    ("total", "last"), [(40, 40), (999, 999), (20_000, 20_000), (30_000, 30_000), (31_500, 31_000), (92_078, 31_000)]
)
def test_the_papers_patience_stops_no_training_of_up_to_30_000_updates(total: int, last: int) -> None:
    interval = evaluation_interval(SETTINGS.model_copy(update={"eval_every": None}), total)
    best = BestWeights(torch.nn.Linear(1, 1), PATIENCE)
    due = [update for update in range(1, total + 1) if update % interval == 0 or update == total]
    for update in due:
        best.update(-update, update)  # worse every time
        if best.stop:
            break
    assert update == last


def test_row_wise_and_whole_word_tables_train_stop_and_restore_alike(
    encoder_folder: Path, sentences: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    states, looked = [], []
    for large in (1, 10**9):
        monkeypatch.setattr("xstilts.training.word_table.MIN_NUMBERS", large)
        encoder, scores = load(str(encoder_folder)), iter([1.0, 2.0, 1.0, 1.0])
        part = learning(encoder, NER, tagged(sentences))
        table = encoder.base.get_input_embeddings()

        def dev(table: torch.nn.Embedding = table, scores: Iterator[float] = scores) -> float:
            looked.append(table.weight.detach().clone())
            return next(scores)

        done, _ = trained(encoder, [part], steps=40, dev=dev, eval_every=10, weight_decay=0.5)
        assert done.best_update == 20 and table.weight.equal(looked[-3]) and not table._forward_hooks
        states.append(state(encoder, part.head))
    for rows, whole in zip(*states, strict=True):
        torch.testing.assert_close(rows, whole, atol=1e-5, rtol=0)
    for rows, whole in zip(looked[:4], looked[4:], strict=True):
        torch.testing.assert_close(rows, whole, atol=1e-5, rtol=0)


def test_the_last_update_is_evaluated_too(encoder: Encoder, sentences: tuple[str, ...]) -> None:
    done, log = trained(encoder, [learning(encoder, NER, tagged(sentences))], dev=lambda: 50.0, eval_every=3)
    assert [line.step for line in log if line.dev is not None] == [3, 4] and done.best_update == 3


def test_a_nan_loss_names_its_update(encoder: Encoder, sentences: tuple[str, ...]) -> None:
    with pytest.raises(StepFailed, match=r"the loss is (nan|inf) at update 3 of 200.*try a lower lr"):
        trained(encoder, [learning(encoder, NER, tagged(sentences))], steps=200, lr=1e38, warmup=0.005)


def test_the_language_model_head_survives_a_training_that_does_not_use_it(
    encoder: Encoder, sentences: tuple[str, ...], tmp_path: Path
) -> None:
    before = {name: value.clone() for name, value in encoder.vocabulary.state_dict().items()}
    trained(encoder, [learning(encoder, SAME, pairs(sentences))], weight_decay=0.5)
    encoder.save(tmp_path)
    after = load(str(tmp_path)).vocabulary.state_dict()
    assert before.keys() == after.keys()
    tied = {name for name in before if name.endswith("decoder.weight")}
    assert all(before[name].equal(after[name]) for name in before.keys() - tied)


def test_masked_text_trains_the_language_model_head(encoder: Encoder, sentences: tuple[str, ...]) -> None:
    before = state(encoder.vocabulary)
    trained(encoder, [learning(encoder, Mask(), list(sentences))])
    assert not any(a.equal(b) for a, b in zip(before, state(encoder.vocabulary), strict=True))


def test_tokens_are_masked_as_in_bert() -> None:
    rng, masking = np.random.default_rng(0), Masking(mask_id=4, vocabulary_size=1000, special=(0, 1, 2, 3, 4))
    ids = np.random.default_rng(1).integers(0, 1000, 200_000)
    ids[::10] = 2
    hidden, chosen = masking.mask(ids, rng)
    free = ~np.isin(ids, masking.special)
    assert free[chosen].all() and (hidden == ids)[np.setdiff1d(np.arange(len(ids)), chosen)].all()
    assert len(chosen) / free.sum() == pytest.approx(MLM_SHARE, abs=0.005) == pytest.approx(0.15, abs=0.005)
    assert (hidden == 4)[chosen].mean() == pytest.approx(0.8, abs=0.01)
    assert (hidden == ids)[chosen].mean() == pytest.approx(0.1, abs=0.01)


def test_every_text_has_a_masked_token() -> None:
    masking = Masking(mask_id=4, vocabulary_size=10, special=(0, 2))
    for seed in range(20):
        hidden, chosen = masking.mask(np.array([0, 7, 2]), np.random.default_rng(seed))
        assert chosen.tolist() == [1] and hidden[[0, 2]].tolist() == [0, 2]
    assert masking.mask(np.array([0, 2]), np.random.default_rng(0))[1].tolist() == []


def test_masked_tokens_differ_between_epochs(tiny: Encoder, sentences: tuple[str, ...]) -> None:
    features = FeatureSet.build(Mask(), list(sentences), tiny.tokenizer_for(64))
    rng = generator(1, "hidden")
    batches = [collate(features, range(20), tiny.masking(), rng) for _ in range(2)]
    assert batches[0].positions_M.tolist() != batches[1].positions_M.tolist()
    assert batches[0].num_positions_B.sum() == len(batches[0].positions_M) == len(batches[0].targets_M)


def test_every_epoch_has_every_example_once_in_another_order(tiny: Encoder, sentences: tuple[str, ...]) -> None:
    features = FeatureSet.build(NER, [Tagged(("stone",) * 70, None), *tagged(sentences)], tiny.tokenizer_for(32))
    batches = ShuffledBatches(features, 8, generator(1))
    epochs = [[next(batches) for _ in range(3)] for _ in range(2)]
    for epoch in epochs:
        assert sorted(f for batch in epoch for f in batch) == list(range(len(features.lengths_F)))
        assert [len(set(features.example_F[batch])) for batch in epoch] == [8, 8, 5]
    assert epochs[0] != epochs[1]


def batch_with(marks: list[int], targets: list[int], lengths: tuple[int, ...] = (3, 4)) -> Batch:
    ids = torch.zeros(sum(lengths), dtype=torch.long)
    per_row = torch.tensor([len(marks) // len(lengths)] * len(lengths))
    return Batch(
        len(lengths),
        ids,
        torch.tensor(lengths),
        ids,
        torch.tensor(marks),
        torch.tensor(targets),
        per_row,
        torch.arange(len(lengths)),
    )


def test_a_token_loss_by_hand(tiny: Encoder) -> None:
    head = heads.build(HeadSpec("token", 2), tiny.config, None)
    scores = torch.tensor([[0.0, 0.0], [math.log(3), 0.0], [5.0, 5.0]])
    batch = batch_with([1, 2, 3], [0, 1, IGNORED], (7,))
    assert head.loss(scores, batch).item() == pytest.approx((math.log(2) + math.log(4)) / 2)
    batch = batch_with([0, 4], [0, 0])
    kept = head.split_reduced(head.reduce_outputs(scores[:2], batch).numpy(), batch)
    assert [one.tolist() for one in kept] == [[[0, pytest.approx(1 / 2)]], [[0, pytest.approx(3 / 4)]]]


def test_a_span_loss_is_the_cross_entropy_of_each_row(tiny: Encoder) -> None:
    head = heads.build(HeadSpec("span"), tiny.config, None)
    scores = (torch.randn(7, 2, generator=torch.Generator().manual_seed(0)) * 50).requires_grad_()
    batch = batch_with([0, 2, 3, 6], [0, 0, 0, 0])
    one, two = scores.split([3, 4])
    answers = [(one[:, 0], 0), (one[:, 1], 2), (two[:, 0], 0), (two[:, 1], 3)]
    expected = torch.stack([cross_entropy(row, torch.tensor(right)) for row, right in answers]).mean()
    torch.testing.assert_close(head.loss(scores, batch), expected)
    gradients = [torch.autograd.grad(loss, scores)[0] for loss in (head.loss(scores, batch), expected)]
    torch.testing.assert_close(*gradients)
    assert [kept.shape for kept in head.split_reduced(scores.detach().numpy(), batch)] == [(3, 2), (4, 2)]


def test_mean_pooling_counts_every_real_token(tiny: Encoder) -> None:
    head = heads.build(HeadSpec("mean"), tiny.config, None)
    hidden = torch.arange(14.0).view(7, 2)
    expected = torch.stack([hidden[:3].mean(0), hidden[3:].mean(0)])
    torch.testing.assert_close(head(hidden, batch_with([], [])), expected)


def test_new_heads_depend_on_the_seed(tiny: Encoder) -> None:
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(heads.build(HeadSpec("sequence", 3), tiny.config, None).state_dict())
    assert all(drawn[0][name].equal(drawn[1][name]) for name in drawn[0])
    assert not any(drawn[0][name].equal(drawn[2][name]) for name in drawn[0])


def test_the_number_of_updates_follows_the_epochs(tiny: Encoder, sentences: tuple[str, ...]) -> None:
    one, text = learning(tiny, NER, tagged(sentences), batch=8, epochs=2), learning(tiny, Mask(), list(sentences))
    by_epochs = SETTINGS.model_copy(update={"steps": None})
    mixed = by_epochs.model_copy(update={"mixing": Mixing()})
    assert len(task_order([one], SETTINGS, 1)) == 4
    assert len(task_order([one], by_epochs, 1)) == 2 * 3
    assert len(task_order([one, one], mixed, 1)) == 12
    heavy = replace(text, settings=text.settings.model_copy(update={"weight": 2.0, "raw_text": True}))
    drawn = np.bincount(task_order([one, heavy], mixed, 1))
    assert drawn[0] == 6 and drawn[1] > 6


def test_a_warm_up_longer_than_the_training_is_noted() -> None:
    spec = SETTINGS.model_copy(update={"warmup": 500.0})
    note = "the warm-up of 500 updates is longer than the training of 10, so lr stays below 1e-3"
    assert warmup_notes(spec, 10) == [note] and warmup_notes(spec, 500) == []
