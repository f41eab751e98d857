"""Packing: an encoder packs only if its probe finds no leak; torch accepts the packed rows on a GPU."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from xstilts.model import packing
from xstilts.model.encoder import Encoder

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
    ("kind", "dtype", "width", "dropout", "without"),
    [
        ("flash", torch.bfloat16, 64, 0.0, True),
        ("flash", torch.float16, 256, 0.0, True),
        ("flash", torch.float32, 64, 0.0, False),
        ("flash", torch.bfloat16, 64, 0.1, False),
        ("flash", torch.bfloat16, 12, 0.0, False),
        ("flash", torch.bfloat16, 264, 0.0, False),
        ("cuda", torch.bfloat16, 64, 0.0, False),
        ("cpu", torch.bfloat16, 64, 0.0, False),
    ],
)
def test_packed_attention_needs_flash_half_precision_and_no_dropout(
    kind: str, dtype: torch.dtype, width: int, dropout: float, without: bool
) -> None:
    assert packing.use_varlen(kind, dtype, width, dropout) is without


def test_torch_accepts_a_packed_row() -> None:
    """The shapes and arguments alone, which need no GPU."""
    layout = packing.Layout.by_length(torch.tensor(LENGTHS))
    layout = replace(layout, cu_seqlens=layout.cu_seqlens.to("meta"))
    rows = [torch.zeros(sum(LENGTHS), heads_of, 16, device="meta") for heads_of in (4, 2, 2)]
    out = packing._varlen_attention(rows, layout, torch.bfloat16, 0.25, 4)
    assert (out.shape, out.dtype) == (rows[0].shape, torch.bfloat16)


def test_a_layout_has_the_start_of_every_sequence() -> None:
    cu_seqlens = packing.Layout.by_length(torch.tensor(LENGTHS)).cu_seqlens
    assert cu_seqlens.tolist() == [0, 1, 31, 33, 50, 110, 115, 116, 176] and cu_seqlens.dtype == torch.int32
    assert packing._attention_kind(torch.device("cpu")) == "cpu"


def test_long_sequences_share_no_large_grid() -> None:
    lengths = torch.tensor([256] * 5 + [40] * 30 + [128] * 6 + [9] * 500)
    grids = packing.Layout.by_length(lengths).grids
    several = [grid for grid in grids if len(grid) > 1]
    assert several and all(grid.shape[0] * grid.shape[1] ** 2 <= packing.GRID_PAIRS for grid in several)
    assert sum(len(grid) for grid in grids) == len(lengths) and sum(int(grid.sum()) for grid in grids) == lengths.sum()
    assert len(grids) < 15  # short sequences still share


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("window", [None, 4])
def test_packed_attention_equals_padded_attention(window: int | None) -> None:
    where = torch.device("cuda")
    if packing._attention_kind(where) != "flash":
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
