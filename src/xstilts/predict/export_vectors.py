"""Exports the encoder up to the layer of retrieval as a folder of sentence-transformers, with mean pooling."""

# Shape suffixes: B = texts, L = longest text, H = hidden size

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from xstilts.compute.private import has_model
from xstilts.errors import UserError
from xstilts.model.encoder import Encoder
from xstilts.predict.export_check import TOLERANCE, Samples
from xstilts.predict.export_hf import save_tokenizer
from xstilts.predict.predictor import Predictor

LAYERS = "num_hidden_layers"
"""The usual name of the number of layers; a configuration may map it to its own."""
MODULES = "sentence_transformers.sentence_transformer.modules"


def write_vectors(predictor: Predictor, samples: Samples, part: Path) -> tuple[str, float]:
    """Write the encoder's layers up to that of retrieval, and compare the vectors with the model's.

    A family that ends in a norm would apply it to the state of any layer. It keeps one layer more, and a
    `WeightedLayerPooling` reads the state before it.

    Returns:
        The name of the class, and the largest difference.

    Raises:
        UserError: the encoder reads each text's language.
    """
    from transformers import AutoTokenizer

    encoder = predictor.encoder
    if encoder.languages:
        raise UserError("the encoder reads each text's language, which sentence-transformers does not give it")
    layer, more = encoder.retrieval_layer, 0
    model = cut(encoder, layer)
    difference = samples.difference(_means(model, encoder, samples, layer))
    if difference > TOLERANCE and layer < encoder.layers:
        more, model = 1, cut(encoder, layer + 1)
        model.config.output_hidden_states = True
    model.save_pretrained(part)
    save_tokenizer(encoder, predictor.tokenizer.max_length, part)
    samples.check_tokenizer(AutoTokenizer.from_pretrained(part), types=encoder.has_token_types, where=str(part))
    _write_modules(part, encoder, layer, more)
    again = _auto(model.config).from_pretrained(part)
    return type(model).__name__, samples.difference(_means(again, encoder, samples, layer))


def cut(encoder: Encoder, layers: int) -> Any:
    """The encoder with its first layers only; the weights are shared."""
    plain = encoder.config.to_dict()
    plain.pop("_name_or_path", None)
    per_layer = {
        name: value[:layers] for name, value in plain.items()
        if isinstance(value, list) and len(value) == encoder.layers and name != "languages"
    }  # fmt: skip
    kind_of = type(encoder.config)
    config = kind_of.from_dict(plain | per_layer | {kind_of.attribute_map.get(LAYERS, LAYERS): layers})
    kind = type(encoder.base)
    pooler = {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(kind).parameters else {}
    with torch.device("meta"):
        model = kind(config, **pooler)
    weights = encoder.base.state_dict()
    model.load_state_dict({name: weights[name] for name in model.state_dict()}, assign=True)
    buffers = dict(encoder.base.named_buffers())  # those that no checkpoint has are without memory still
    for name, buffer in [*model.named_buffers()]:
        if buffer.is_meta:
            parent, _, own = name.rpartition(".")
            model.get_submodule(parent).register_buffer(own, buffers[name], persistent=False)
    return model.eval()


def _auto(config: Any) -> Any:
    """The class by which an encoder is loaded; that of an encoder-decoder without its decoder."""
    from transformers import AutoModel, AutoModelForTextEncoding

    return AutoModelForTextEncoding if has_model(AutoModelForTextEncoding, config) else AutoModel


def _means(model: Any, encoder: Encoder, samples: Samples, layer: int) -> list[Tensor]:
    """The mean of each text's states at a layer, [H]."""
    inputs = samples.inputs(model.config.pad_token_id or 0, types=encoder.has_token_types)
    with torch.inference_mode():
        states_BLH = model(**inputs, output_hidden_states=True).hidden_states[layer]
    return [state_LH[:length].mean(0) for state_LH, length in zip(states_BLH, samples.batch.lengths_B, strict=True)]


def _write_modules(part: Path, encoder: Encoder, layer: int, more: int) -> None:
    """Write what sentence-transformers reads beside transformers' files."""
    size = encoder.config.hidden_size
    pooling = {"embedding_dimension": size, "pooling_mode": "mean", "include_prompt": True}
    modules: list[tuple[str, str, dict[str, Any]]] = [("Pooling", "pooling", pooling)]
    if more:
        weighted = {"embedding_dimension": size, "layer_start": layer, "num_hidden_layers": layer + more}
        modules.insert(0, ("WeightedLayerPooling", "weighted_layer_pooling", weighted))
    rows = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"}]
    for number, (kind, file, settings) in enumerate(modules, start=1):
        folder = part / f"{number}_{kind}"
        folder.mkdir()
        _write_json(folder / "config.json", settings)
        rows.append({"idx": number, "name": str(number), "path": folder.name, "type": f"{MODULES}.{file}.{kind}"})
        if kind == "WeightedLayerPooling":
            save_file({"layer_weights": torch.tensor([1.0, 0.0])}, folder / "model.safetensors")
    _write_json(part / "modules.json", rows)
    _write_json(part / "sentence_bert_config.json", {"transformer_task": "feature-extraction"})
    about: dict[str, Any] = {"model_type": "SentenceTransformer", "prompts": {}, "default_prompt_name": None}
    _write_json(part / "config_sentence_transformers.json", about | {"similarity_fn_name": "cosine"})


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
