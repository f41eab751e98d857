"""Dropout on a CPU: the rate that was asked for, independent draws, and torch's own generator."""

import pytest
import torch
import transformers
from torch import Tensor, nn

from xstilts.compute.dropout import Dropout, factors
from xstilts.model import packing
from xstilts.model.cpu_attention import HeadGrids
from xstilts.model.encoder import Encoder


@pytest.mark.parametrize("rate", [0.1, 0.05, 0.3, 0.5, 0.9])
def test_each_number_is_dropped_at_the_rate_and_the_mean_stays(rate: float) -> None:
    torch.manual_seed(1)
    drawn = factors((1999, 501), rate)
    kept = float(drawn.max())
    assert set(drawn.unique().tolist()) == {0.0, kept} and drawn.dtype == torch.float32
    assert 1 / kept == pytest.approx(1 - rate, abs=1e-5)
    n = drawn.numel()
    assert float((drawn == 0).double().mean()) == pytest.approx(rate, abs=5 * (rate * (1 - rate) / n) ** 0.5)
    assert float(drawn.double().mean()) == pytest.approx(1, abs=5 * (rate / (1 - rate) / n) ** 0.5)


def test_neighbouring_draws_are_independent() -> None:
    torch.manual_seed(2)
    drawn = factors((400_000,), 0.1).view(-1, 4)  # four factors come from one 64-bit number
    correlation = torch.corrcoef(torch.cat([drawn[:-1], drawn[1:]], 1).T) - torch.eye(8)
    assert correlation.abs().max() < 5 / len(drawn) ** 0.5


def test_dropout_continues_from_a_saved_state_of_torchs_generator() -> None:
    layer, ones = Dropout(0.3), torch.ones(7, 33)
    torch.manual_seed(3)
    layer(ones)
    state = torch.get_rng_state()
    second, third = layer(ones), layer(ones)
    torch.set_rng_state(state)
    assert layer(ones).equal(second) and layer(ones).equal(third) and not second.equal(third)


def test_the_gradient_is_dropped_where_the_output_is() -> None:
    numbers = torch.full((50, 20), 2.0, dtype=torch.bfloat16, requires_grad=True)
    out = Dropout(0.25)(numbers)
    out.sum().backward()
    assert numbers.grad is not None and out.dtype == torch.bfloat16
    assert (2 * numbers.grad).equal(out.detach()) and 0 < int((out == 0).sum()) < out.numel()


def test_dropout_is_off_in_evaluation_and_at_rates_zero_and_one() -> None:
    ones = torch.ones(300)
    assert Dropout(0.5).eval()(ones).equal(ones)
    assert Dropout(0.0)(ones).equal(ones) and Dropout(1.0)(ones).equal(torch.zeros(300))


def test_an_encoder_has_this_dropout(tiny: Encoder) -> None:
    shape = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
             "intermediate_size": 24, "max_position_embeddings": 66}  # fmt: skip
    encoder = Encoder(transformers.XLMRobertaModel(transformers.XLMRobertaConfig(**shape)), tiny.tokenizer)
    found = [layer for layer in encoder.base.modules() if isinstance(layer, nn.Dropout)]
    assert found and all(type(layer) is Dropout and layer.p == 0.1 for layer in found)


LENGTHS = (1, 30, 2, 17, 60, 5, 1, 60, 9, 8, 7)
HEADS, WIDTH = 3, 8


def attended(rows: list[Tensor], layout: packing.Layout, rate: float) -> Tensor:
    """[T, H, D] by the function that models call."""
    with packing.packed(layout):
        out, _ = packing.attention(nn.Identity(), *(x.transpose(0, 1)[None] for x in rows), None, dropout=rate)
    return out[0]


def by_hand(rows: list[Tensor], layout: packing.Layout, rate: float) -> Tensor:
    """The same, one sequence and head at a time, with the factors in the order of the grids."""
    grids = HeadGrids.of(layout.slots_T, layout.grids, HEADS)
    drawn = [factors((n, length, length), rate) for n, length in grids.shapes]
    lengths = [(slots, grid) for slots, grid in zip(_in_grids(layout), drawn, strict=True)]
    out = torch.zeros_like(rows[0])
    for sequences, factors_NLL in lengths:
        for row, tokens in enumerate(sequences):
            for head in range(HEADS):
                q, k, v = (x[tokens, head] for x in rows)
                kept = factors_NLL[row * HEADS + head, : len(tokens), : len(tokens)]
                weights = torch.softmax(q @ k.T / WIDTH**0.5, -1) * kept
                out = out.index_put((tokens, torch.tensor(head)), weights @ v)
    return out


def _in_grids(layout: packing.Layout) -> list[list[Tensor]]:
    """The tokens of each sequence of each grid."""
    token = torch.full((sum(grid.numel() for grid in layout.grids),), -1)
    token[layout.slots_T] = torch.arange(len(layout.slots_T))
    parts = torch.split(token, [grid.numel() for grid in layout.grids])
    return [[row[row >= 0] for row in part.view(grid.shape)] for part, grid in zip(parts, layout.grids, strict=True)]


def test_attention_with_dropout_equals_the_formula_and_its_gradient() -> None:
    layout = packing.Layout.by_length(torch.tensor(LENGTHS))
    assert len(layout.grids) > 1
    torch.manual_seed(4)
    rows = [torch.randn(sum(LENGTHS), HEADS, WIDTH, requires_grad=True) for _ in range(3)]
    results = []
    for function in (attended, by_hand):
        torch.manual_seed(5)
        out = function(rows, layout, 0.2)
        results.append([out, *torch.autograd.grad(out.sin().sum(), rows)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_attention_without_dropout_equals_torchs_own() -> None:
    layout = packing.Layout.by_length(torch.tensor(LENGTHS))
    torch.manual_seed(6)
    rows = [torch.randn(sum(LENGTHS), HEADS, WIDTH, requires_grad=True) for _ in range(3)]
    results = []
    for dtype, own in ((torch.float32, False), (torch.float32, True), (torch.bfloat16, True)):
        out = packing._cpu_attention(rows, layout, dtype, None, 0.0) if own else attended(rows, layout, 0.0)
        results.append([out.float(), *torch.autograd.grad(out.float().sin().sum(), rows)])
    for torchs, ours, narrow in zip(*results, strict=True):
        torch.testing.assert_close(ours, torchs, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(narrow, torchs, atol=5e-2, rtol=5e-2)


def test_dropout_keeps_the_sequences_of_a_row_apart() -> None:
    layout = packing.Layout.by_length(torch.tensor(LENGTHS))
    torch.manual_seed(7)
    rows = [torch.randn(sum(LENGTHS), HEADS, WIDTH) for _ in range(3)]
    changed = [x.clone() for x in rows]
    for x in changed:
        x[31:33] = torch.randn(2, HEADS, WIDTH)  # the third sequence
    outs = []
    for case in (rows, changed):
        torch.manual_seed(8)
        outs.append(attended(case, layout, 0.1))
    different = (outs[0] != outs[1]).flatten(1).any(1)
    assert different.nonzero()[:, 0].tolist() == [31, 32]
