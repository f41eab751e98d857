"""Encoders: packed batches equal one sequence at a time in every family, and what is saved loads again."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from xstilts.compute import device
from xstilts.formats import Classify
from xstilts.model import heads, packing
from xstilts.model.batch import Batch
from xstilts.model.encoder import Encoder, load

LENGTHS = (9, 3, 30, 1, 17, 28, 12, 2, 5)
SHAPE = {
    "vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24,
    "pad_token_id": 1,
}  # fmt: skip
PACKING = {
    "XLMRoberta": {"max_position_embeddings": 40},
    "Bert": {"max_position_embeddings": 40},
    "DistilBert": {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 24, "max_position_embeddings": 40},
    "Electra": {"embedding_size": 8, "max_position_embeddings": 40},
    "ModernBert": {"local_attention": 6, "global_attn_every_n_layers": 2, "cls_token_id": 0, "sep_token_id": 2},
    "EuroBert": {"num_key_value_heads": 1, "max_position_embeddings": 40},
}
PADDED = {
    "DebertaV2": {"max_position_embeddings": 40, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "MT5Encoder": {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 3, "num_heads": 2},
}  # fmt: skip


def family(name: str, tokenizer: Any) -> Encoder:
    """A tiny encoder of a family, random weights."""
    config = getattr(transformers, name.removesuffix("Encoder") + "Config")
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}Model")(config(**SHAPE | {**PACKING, **PADDED}[name]))
    return Encoder(model, tokenizer).eval()


def batch_of(*lengths: int) -> Batch:
    ids = torch.randint(5, 55, (sum(lengths),), generator=torch.Generator().manual_seed(1))
    types = torch.cat([(torch.arange(n) > n // 2).long() for n in lengths])
    none = torch.zeros(0, dtype=torch.long)
    return Batch(
        len(lengths),
        ids,
        torch.tensor(lengths),
        types,
        none,
        none,
        torch.zeros(len(lengths)),
        torch.arange(len(lengths)),
    )


def alone(encoder: Encoder, batch: Batch, layer: int) -> Tensor:
    """Hidden states of one sequence at a time, as transformers gives them."""
    rows = []
    usual = encoder.base.config._attn_implementation
    if encoder.packs:
        encoder.base.set_attn_implementation("eager")
    sizes = batch.lengths_B.tolist()
    for ids, types in zip(batch.ids_T.split(sizes), batch.types_T.split(sizes), strict=True):
        more = {"token_type_ids": types[None]} if encoder.has_token_types else {}
        rows.append(encoder.base(input_ids=ids[None], output_hidden_states=True, **more).hidden_states[layer][0])
    encoder.base.set_attn_implementation(usual)
    return torch.cat(rows)


@pytest.mark.parametrize("name", [*PACKING, *PADDED])
def test_a_batch_equals_one_sequence_at_a_time(name: str, tiny: Encoder) -> None:
    encoder, batch = family(name, tiny.tokenizer), batch_of(*LENGTHS)
    assert encoder.packs == (name in PACKING)
    with torch.inference_mode():
        torch.testing.assert_close(encoder.hidden(batch), alone(encoder, batch, -1), atol=1e-5, rtol=0)


def test_sequences_of_similar_length_share_a_padded_grid() -> None:
    layout = packing.Layout.by_length(torch.tensor(LENGTHS))
    assert [tuple(grid.shape) for grid in layout.grids] == [(4, 30), (4, 9), (1, 1)]
    assert len(set(layout.slots_T.tolist())) == sum(LENGTHS) == sum(int(grid.sum()) for grid in layout.grids)


@pytest.mark.parametrize("name", [*PACKING, *PADDED])
def test_the_forward_pass_can_stop_at_a_layer(name: str, tiny: Encoder) -> None:
    encoder, batch = family(name, tiny.tokenizer), batch_of(*LENGTHS)
    with torch.inference_mode():
        for layer in range(encoder.layers):
            torch.testing.assert_close(encoder.hidden(batch, layer), alone(encoder, batch, layer), atol=1e-5, rtol=0)
        assert encoder.hidden(batch, encoder.layers).equal(encoder.hidden(batch))
    assert not any(block._forward_pre_hooks for block in encoder._blocks())


@pytest.mark.parametrize("name", ["XLMRoberta", "ModernBert", "EuroBert"])
def test_gradients_of_a_packed_batch_are_those_of_one_at_a_time(name: str, tiny: Encoder) -> None:
    encoder, batch = family(name, tiny.tokenizer), batch_of(*LENGTHS)
    grads = []
    for hidden in (encoder.hidden(batch), alone(encoder, batch, -1)):
        weights = torch.sin(torch.arange(hidden.numel(), dtype=torch.float32)).view_as(hidden)
        grads.append(torch.autograd.grad((hidden * weights).sum(), list(encoder.base.parameters()), allow_unused=True))
    for packed, one in zip(*grads, strict=True):
        assert (packed is None) == (one is None)
        if packed is not None:
            torch.testing.assert_close(packed, one, atol=1e-4, rtol=1e-4)


def test_the_last_position_embedding_can_be_used(tiny: Encoder) -> None:
    for name in ("XLMRoberta", "Bert"):
        encoder = family(name, tiny.tokenizer)
        batch = batch_of(encoder.max_length, 2)
        assert encoder.max_length == (38 if name == "XLMRoberta" else 40)
        with torch.inference_mode():
            torch.testing.assert_close(encoder.hidden(batch), alone(encoder, batch, -1), atol=1e-5, rtol=0)
    assert tiny.tokenizer_for(1000).max_length == tiny.max_length == 64


def test_unpadding_inverts_padding() -> None:
    layout = packing.Layout.one_grid(torch.tensor([2, 3, 1]))
    rows = torch.arange(12.0).view(6, 2).requires_grad_()
    grid = packing.pad(rows, layout)
    assert grid.shape == (3, 3, 2) and grid[0, 2].tolist() == [0, 0] and packing.unpad(grid, layout).equal(rows)
    assert torch.autograd.gradcheck(lambda x: packing.pad(x, layout), rows.detach().double().requires_grad_())
    assert torch.autograd.gradcheck(lambda x: packing.unpad(x, layout), grid.detach().double().requires_grad_())


@pytest.mark.parametrize(("layers", "layer"), [(24, 14), (12, 7), (6, 4), (2, 1), (1, 1)])
def test_retrieval_reads_layer_14_of_24_or_its_equivalent(layers: int, layer: int, tiny: Encoder) -> None:
    from transformers import XLMRobertaConfig, XLMRobertaModel

    shape = {"vocab_size": 60, "hidden_size": 4, "num_attention_heads": 1, "intermediate_size": 4}
    encoder = Encoder(XLMRobertaModel(XLMRobertaConfig(**shape, num_hidden_layers=layers)), tiny.tokenizer)
    assert encoder.retrieval_layer == layer


def test_a_saved_encoder_loads_in_transformers(tiny: Encoder, tmp_path: Path) -> None:
    from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

    tiny.save(tmp_path)
    batch, again = batch_of(9), load(str(tmp_path)).eval()
    model = AutoModel.from_pretrained(tmp_path).eval()
    lm = AutoModelForMaskedLM.from_pretrained(tmp_path).eval()
    with torch.inference_mode():
        hidden = tiny.hidden(batch)
        assert again.hidden(batch).equal(hidden)
        torch.testing.assert_close(model(input_ids=batch.ids_T[None]).last_hidden_state[0], hidden, atol=1e-5, rtol=0)
        logits = lm(input_ids=batch.ids_T[None]).logits[0]
        torch.testing.assert_close(tiny.vocabulary(hidden), logits, atol=1e-5, rtol=0)
        assert again.vocabulary(hidden).equal(tiny.vocabulary(hidden))
    assert AutoTokenizer.from_pretrained(tmp_path)("猫睡").input_ids == tiny.tokenizer("猫睡").input_ids
    assert again.tokenizer_digest() == tiny.tokenizer_digest()


def test_saving_leaves_the_encoder_as_it_was(tiny: Encoder, tmp_path: Path) -> None:
    names = [name for name, _ in tiny.named_parameters()]
    tiny.save(tmp_path)
    assert [name for name, _ in tiny.named_parameters()] == names
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", ["Bert", "DistilBert", "Electra", "ModernBert", "DebertaV2"])
def test_every_family_has_its_language_model_head(name: str, tiny: Encoder, tmp_path: Path) -> None:
    more = {**PACKING, **PADDED}[name] | {"vocab_size": len(tiny.tokenizer)}
    config = getattr(transformers, f"{name}Config")(**SHAPE | more)
    torch.manual_seed(0)
    lm = getattr(transformers, f"{name}ForMaskedLM")(config).eval()
    ids = torch.arange(5, 16)
    expected = lm(input_ids=ids[None]).logits[0].detach()
    lm.save_pretrained(tmp_path)
    tiny.tokenizer.save_pretrained(tmp_path)
    encoder, one = load(str(tmp_path)).eval(), batch_of(11)
    batch = Batch(
        1, ids, one.lengths_B, torch.zeros_like(ids), one.positions_M, one.targets_M, one.num_positions_B, one.example_B
    )
    with torch.inference_mode():
        torch.testing.assert_close(encoder.vocabulary(encoder.hidden(batch)), expected, atol=1e-5, rtol=0)
    assert not any("pooler" in name for name, _ in encoder.named_parameters())


def test_weights_are_loaded_as_float32(tiny: Encoder, tmp_path: Path) -> None:
    from transformers import AutoModelForMaskedLM

    tiny.save(tmp_path)
    AutoModelForMaskedLM.from_pretrained(tmp_path, dtype=torch.bfloat16).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"
    assert {p.dtype for p in load(str(tmp_path)).parameters()} == {torch.float32}


def test_an_encoder_without_a_language_model_head_loads_and_saves(tiny: Encoder, tmp_path: Path) -> None:
    tiny.base.save_pretrained(tmp_path / "a")
    tiny.tokenizer.save_pretrained(tmp_path / "a")
    encoder = load(str(tmp_path / "a"))
    assert encoder.vocabulary is None
    encoder.save(tmp_path / "b")
    assert load(str(tmp_path / "b")).vocabulary is None


def test_a_new_encoder_depends_on_its_seed_alone(sentences: tuple[str, ...]) -> None:
    from xstilts.model.new_encoder import create
    from xstilts.model.shape import NewEncoder

    shapes = [NewEncoder(text="none", hidden=8, layers=1, tokenizer="words", seed=seed) for seed in (1, 1, 2)]
    first, same, other = (create(shape, sentences) for shape in shapes)
    assert first.tokenizer_digest() == same.tokenizer_digest()
    states = [encoder.state_dict() for encoder in (first, same, other)]
    assert all(states[0][name].equal(states[1][name]) for name in states[0])
    assert not all(states[0][name].equal(states[2][name]) for name in states[0])


@pytest.mark.parametrize(
    ("config", "rate"),
    [
        (transformers.XLMRobertaConfig(hidden_dropout_prob=0.3), 0.3),
        (transformers.XLMRobertaConfig(classifier_dropout=0.2), 0.2),
        (transformers.DistilBertConfig(dropout=0.3), 0.3),
        (transformers.ModernBertConfig(classifier_dropout=0.05), 0.05),
        (transformers.RemBertConfig(classifier_dropout_prob=0.15), 0.15),
        (transformers.DebertaV2Config(hidden_dropout_prob=0.3), 0.3),
        (transformers.MT5Config(classifier_dropout=0.25), 0.25),
        (transformers.XLMConfig(dropout=0.3), 0.3),
        (transformers.EuroBertConfig(), 0.1),
    ],
    ids=lambda value: getattr(value, "model_type", ""),
)
def test_the_dropout_of_jiants_head_comes_from_the_config(config: Any, rate: float) -> None:
    head = heads.build(Classify(labels=("0", "1")).head, config, None, "jiant")
    assert {module.p for module in head.modules() if isinstance(module, nn.Dropout)} == {rate}


@pytest.mark.parametrize(("rows", "bias"), [(0, True), (1, True), (33, False), (64, True)])
def test_the_onednn_product_and_its_gradients_equal_torchs(rows: int, bias: bool) -> None:
    torch.manual_seed(0)
    given = [torch.randn(*shape, requires_grad=True) for shape in ((rows, 24), (40, 24), (40,))[: 2 + bias]]
    grad, ways = torch.randn(rows, 40), (torch.nn.functional.linear, device.product)
    (usual, *their_grads), (ours, *our_grads) = (
        (way(*given), *torch.autograd.grad(way(*given), given, grad)) for way in ways
    )
    torch.testing.assert_close(ours, usual, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(our_grads, their_grads, rtol=1e-5, atol=1e-5)


def test_a_frozen_layer_gets_no_gradient() -> None:
    inputs, weight = torch.randn(8, 4, requires_grad=True), torch.randn(6, 4)
    device.product(inputs, weight).sum().backward()
    assert weight.grad is None
    torch.testing.assert_close(inputs.grad, weight.sum(0).expand(8, 4))


def test_linear_layers_use_onednn_and_keep_their_names(tiny: Encoder) -> None:
    layers = [layer for layer in tiny.base.modules() if isinstance(layer, torch.nn.Linear)]
    assert layers
    assert all(type(layer) is device.Linear for layer in layers)
    assert {name.rpartition(".")[2] for name in tiny.base.state_dict() if ".dense." in name} == {"weight", "bias"}
