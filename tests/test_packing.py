"""Packing: an encoder packs only if its probe finds no leak; torch accepts the packed rows on a GPU."""

from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from xstilts.model import gpu_attention, packing, probe
from xstilts.model.encoder import Encoder, load
from xstilts.model.probe import probe_batch

LENGTHS = (1, 30, 2, 17, 60, 5, 1, 60)
SHAPE = {
    "vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24,
    "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "max_position_embeddings": 66,
}  # fmt: skip


def modernbert(window: int) -> Any:
    shape = SHAPE | {"local_attention": window, "global_attn_every_n_layers": 2, "cls_token_id": 0, "sep_token_id": 2}
    torch.manual_seed(0)
    return transformers.ModernBertModel(transformers.ModernBertConfig(**shape))


def test_the_probe_finds_a_wrong_attention_window(tiny: Encoder) -> None:
    tokenizer = tiny.tokenizer
    assert Encoder(modernbert(40), tokenizer).packs
    model = modernbert(40)
    for layer in model.layers:
        if layer.attn.sliding_window is not None:
            layer.attn.sliding_window += 1
    assert not Encoder(model, tokenizer).packs


def test_the_probe_finds_a_leak_smaller_than_rounding(tiny: Encoder) -> None:
    tokenizer = tiny.tokenizer
    torch.manual_seed(0)
    model = transformers.XLMRobertaModel(transformers.XLMRobertaConfig(**SHAPE))
    assert Encoder(model, tokenizer).packs
    leak = model.encoder.layer[1].register_forward_hook(lambda _, __, out: out + 1e-5 * out.roll(1, 1))
    assert not Encoder(model, tokenizer).packs
    leak.remove()
    assert Encoder(model, tokenizer).packs


def test_unsupported_attention_arguments_are_refused() -> None:
    rows = torch.zeros(1, 2, 3, 8)
    with pytest.raises(ValueError, match="position_bias"):
        packing.attention(nn.Identity(), rows, rows, rows, None, position_bias=torch.zeros(1, 2, 3, 3))
    with pytest.raises(ValueError, match="softcap"):
        packing.attention(nn.Identity(), rows, rows, rows, None, softcap=30.0)


@pytest.mark.parametrize(
    ("kind", "dtype", "width", "without"),
    [
        ("flash", torch.bfloat16, 64, True),
        ("flash", torch.float16, 256, True),
        ("flash", torch.float32, 64, False),
        ("flash", torch.bfloat16, 12, False),
        ("flash", torch.bfloat16, 264, False),
        ("cuda", torch.bfloat16, 64, False),
        ("cpu", torch.bfloat16, 64, False),
    ],
)
def test_packed_attention_needs_flash_and_half_precision(
    kind: str, dtype: torch.dtype, width: int, without: bool
) -> None:
    assert gpu_attention.use_varlen(kind, dtype, width) is without


def test_torch_accepts_a_packed_row() -> None:
    """The shapes and arguments alone, which need no GPU."""
    layout = packing.Layout.by_length(torch.tensor(LENGTHS))
    cu_seqlens = layout.cu_seqlens.to("meta")
    rows = [torch.zeros(sum(LENGTHS), heads_of, 16, device="meta") for heads_of in (4, 2, 2)]
    out = gpu_attention.varlen_attention(rows, cu_seqlens, layout.longest, torch.bfloat16, 0.25, 4)
    assert (out.shape, out.dtype) == (rows[0].shape, torch.bfloat16)


def test_a_torch_without_grouped_heads_gets_them_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch 2.11 has the function without `enable_gqa`."""
    from torch.nn.attention import varlen

    newest, shapes = varlen.varlen_attn, []

    def older(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cu_seq_q: Any, cu_seq_k: Any, max_q: int, max_k: int, *,
        scale: float | None = None, window_size: tuple[int, int] = (-1, -1),
    ) -> Any:  # fmt: skip
        shapes.append([x.shape[1] for x in (q, k, v)])
        return newest(q, k, v, cu_seq_q, cu_seq_k, max_q, max_k, scale=scale, window_size=window_size)

    monkeypatch.setattr(varlen, "varlen_attn", older)
    monkeypatch.setattr(gpu_attention, "_varlen_arguments", gpu_attention._varlen_arguments.__wrapped__)  # no cache
    test_torch_accepts_a_packed_row()
    assert shapes == [[4, 4, 4]]


def attend(rows: list[torch.Tensor], layout: packing.Layout, dropout: float) -> torch.Tensor:
    """Attention [T, H, D] of queries, keys and values of that shape."""
    with packing.packed(layout):
        heads_first = [x.transpose(0, 1)[None] for x in rows]
        return packing.attention(nn.Identity(), *heads_first, None, scaling=0.25, dropout=dropout)[0][0]


@pytest.mark.parametrize(("drops", "width"), [(True, 16), (False, 16), (True, 256)])
def test_a_training_with_attention_dropout_needs_no_grid_where_the_kernel_works(
    drops: bool, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On torch's device `meta`, which checks shapes and arguments, forward and backward."""
    monkeypatch.setattr(gpu_attention, "attention_kind", lambda _: "flash")
    monkeypatch.setattr(gpu_attention, "flash_drops", lambda _: drops)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda _: False)  # torch has no autocast for `meta`
    layout = packing.Layout.one_grid(torch.tensor(LENGTHS)).each(lambda x: x.to("meta"))
    rows = [torch.zeros(sum(LENGTHS), 2, width, device="meta", dtype=torch.bfloat16).requires_grad_() for _ in range(3)]
    out = attend(rows, layout, 0.1)
    assert (out.shape, out.dtype) == (rows[0].shape, torch.bfloat16)
    gradients = torch.autograd.grad(out.float().sum(), rows)
    assert [x.shape for x in gradients] == [rows[0].shape] * 3
    assert bool(layout.masks) is (not drops or width > 192), "a mask is for a grid"


def dropping(
    rows: list[torch.Tensor], cu_seqlens: torch.Tensor, rate: float, kept: float | None = None
) -> torch.Tensor:
    """Attention with dropout within each sequence, computed one at a time; the weights that stay grow to `kept`."""
    parts = []
    for start, end in pairwise(cu_seqlens.tolist()):
        q, k, v = (x[start:end].float().transpose(0, 1) for x in rows)
        weights = torch.softmax(q @ k.transpose(1, 2), -1)
        stays = (torch.rand(weights.shape) >= rate) * (1 / (1 - rate) if kept is None else kept)
        parts.append((weights * stays @ v).transpose(0, 1))
    return torch.cat(parts).to(rows[0].dtype)


class OtherBackward(torch.autograd.Function):
    """Its backward pass drops other weights than the forward pass, at a rate of its own."""

    @staticmethod
    def forward(
        ctx: Any, rows: list[torch.Tensor], value: torch.Tensor, ends: torch.Tensor, rate: float
    ) -> torch.Tensor:
        ctx.given = rows, ends, rate
        return dropping([*rows[:2], value], ends, 0.25)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, ends, rate = ctx.given  # all weights of a sequence are equal, so the transposed product is the same one
        return None, dropping([*rows[:2], grads[0]], ends, rate), None, None


def broken(*_: Any) -> torch.Tensor:
    raise NotImplementedError("no such kernel")


@pytest.mark.parametrize(
    ("kernel", "works"),
    [
        (lambda q, k, v, ends, _, __, rate: dropping([q, k, v], ends, rate), True),
        (lambda q, k, v, ends, _, __, rate: dropping([q, k, v], ends[[0, -1]], rate), False),  # one long sequence
        (lambda q, k, v, ends, _, __, rate: dropping([q, k, v], ends, 0 * rate), False),  # drops nothing
        (lambda q, k, v, ends, _, __, rate: dropping([q, k, v], ends, rate, kept=1.0), False),
        (lambda q, k, v, ends, *_: OtherBackward.apply([q, k], v, ends, 0.25), False),
        (lambda q, k, v, ends, *_: OtherBackward.apply([q, k], v, ends, 0.0), False),
        (broken, False),
    ],
    ids=[
        "right",
        "leaks",
        "drops nothing",
        "does not scale",
        "drops others backward",
        "drops nothing backward",
        "absent",
    ],
)
def test_a_kernel_with_dropout_is_tried_before_it_is_used(
    kernel: Any, works: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_attention, "flash_attention", kernel)
    monkeypatch.setattr(torch.random, "fork_rng", lambda _: nullcontext())  # for accelerators only
    torch.manual_seed(1)
    assert gpu_attention.flash_drops.__wrapped__(torch.device("cpu")) is works


def test_a_full_memory_does_not_show_that_a_kernel_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(gpu_attention, "flash_attention", full)
    monkeypatch.setattr(torch.random, "fork_rng", lambda _: nullcontext())
    with pytest.raises(torch.OutOfMemoryError):
        gpu_attention.flash_drops.__wrapped__(torch.device("cpu"))


def test_a_mask_is_made_once_for_all_layers(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    inner = packing._bool_mask
    monkeypatch.setattr(packing, "_bool_mask", lambda *given: (made.append(1), inner(*given))[1])
    batch = probe_batch((3, 9, 4), 60)
    with torch.inference_mode():
        tiny.hidden(batch)
    assert 0 < len(made) <= len(packing.Layout.by_length(batch.lengths_B).grids) + 1 and tiny.layers == 2


@pytest.mark.parametrize("window", [None, 4])
def test_the_mask_of_a_gpu_means_the_same_and_is_aligned(window: int | None) -> None:
    layout = packing.Layout.one_grid(torch.tensor([3, 13, 7]))
    mask = packing._bool_mask(layout.real_BL, window)
    numbers = packing._additive(mask, torch.bfloat16)
    assert numbers.exp().bool().equal(mask) and numbers.shape == mask.shape
    assert all(stride % 16 == 0 for stride in numbers.stride()[:-1])


def test_packing_is_tried_on_the_device_of_the_run(encoder_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = load(str(encoder_folder)).eval()
    assert encoder.check_packing("bf16") == "" and encoder.packs, "a processor needs no second trial"
    assert probe.packs_on_device(encoder, "fp32") and probe.packs_on_device(encoder, "bf16")
    leak = encoder.base.encoder.layer[1].register_forward_hook(lambda _, __, out: out + 1e-5 * out.roll(1, 1))
    assert not probe.packs_on_device(encoder, "fp32")
    leak.remove()
    encoder.to("meta")
    monkeypatch.setattr(probe, "packs_on_device", lambda *_: False)
    assert "batches are padded" in encoder.check_packing("auto") and not encoder.packs
    assert encoder.base.config._attn_implementation == encoder.padded_attention != packing.NAME
    assert encoder.check_packing("auto") == ""


def test_a_layout_has_the_start_of_every_sequence() -> None:
    cu_seqlens = packing.Layout.by_length(torch.tensor(LENGTHS)).cu_seqlens
    assert cu_seqlens.tolist() == [0, 1, 31, 33, 50, 110, 115, 116, 176] and cu_seqlens.dtype == torch.int32
    assert gpu_attention.attention_kind(torch.device("cpu")) == "cpu"


def test_long_sequences_share_no_large_grid() -> None:
    lengths = torch.tensor([256] * 5 + [40] * 30 + [128] * 6 + [9] * 500)
    grids = packing.Layout.by_length(lengths).grids
    several = [grid for grid in grids if len(grid) > 1]
    assert several and all(grid.shape[0] * grid.shape[1] ** 2 <= packing.GRID_PAIRS for grid in several)
    assert sum(len(grid) for grid in grids) == len(lengths) and sum(int(grid.sum()) for grid in grids) == lengths.sum()
    assert len(grids) < 15  # short sequences still share


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("window", [None, 4])
def test_packed_attention_equals_padded_attention(window: int | None) -> None:
    where = torch.device("cuda")
    if gpu_attention.attention_kind(where) != "flash":
        pytest.skip("this GPU, or this torch, has no attention for packed rows")
    layout = packing.Layout.by_length(torch.tensor(LENGTHS, device=where))
    drawn = torch.Generator(where).manual_seed(1)
    q, k, v = (
        torch.randn(1, heads_of, sum(LENGTHS), 16, device=where, generator=drawn).requires_grad_()
        for heads_of in (4, 2, 2)
    )
    results = []
    for kind in (torch.bfloat16, torch.float32):  # in float32 it goes by grids
        rows = [x.to(kind) for x in (q, k, v)]
        with packing.packed(layout):
            out, _ = packing.attention(nn.Identity(), *rows, None, scaling=0.25, sliding_window=window)
        results.append([out.float(), *torch.autograd.grad(out.float().sin().sum(), (q, k, v))])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=3e-2, rtol=3e-2)
