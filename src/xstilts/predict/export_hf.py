"""Exports to transformers' own classes, such as `XLMRobertaForSequenceClassification`."""

# Shape suffix: H = hidden size

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xstilts.compute.private import has_model
from xstilts.errors import UserError
from xstilts.model import pretrained_tokenizer
from xstilts.model.encoder import Encoder
from xstilts.model.heads import Jiant, PerToken, SpanEnds, Stock
from xstilts.model.trained import HeadRecord
from xstilts.predict.export_check import Samples
from xstilts.predict.predictor import Predictor
from xstilts.utils.files import read_json

TASKS = {"sequence": "classification", "choices": "multiple choice", "token": "tags", "span": "questions"}
"""What the heads are for, in messages."""
AUTO = {
    "sequence": "AutoModelForSequenceClassification", "choices": "AutoModelForMultipleChoice",
    "token": "AutoModelForTokenClassification", "span": "AutoModelForQuestionAnswering",
}  # fmt: skip
"""transformers' classes that find the model of a family."""


def write_stock(predictor: Predictor, samples: Samples, part: Path) -> tuple[str, float]:
    """Write the model as transformers' own class, and compare its scores with the model's.

    Returns:
        The name of the class, and the largest difference.

    Raises:
        UserError: transformers has no class with these outputs.
    """
    from transformers import AutoTokenizer

    encoder = predictor.encoder
    model = stock_model(predictor, samples)
    model.save_pretrained(part)
    save_tokenizer(encoder, predictor.tokenizer.max_length, part)
    kind = type(model)
    samples.check_tokenizer(AutoTokenizer.from_pretrained(part), types=encoder.has_token_types, where=str(part))
    again, info = kind.from_pretrained(part, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"], info
    return kind.__name__, samples.difference(class_scores(again, predictor, samples))


def check_languages(encoder: Encoder) -> None:
    """Refuse an encoder with language embeddings.

    Raises:
        UserError: it has some.
    """
    if encoder.languages:
        what = "the encoder reads each text's language, which transformers' pipelines do not give it"
        raise UserError(what, hint="xstilts predict and --to onnx do")


def class_scores(model: Any, predictor: Predictor, samples: Samples) -> list[Tensor]:
    """The scores that one of transformers' models gives the samples: [C] for a text, [L, C] for tokens or spans."""
    inputs = samples.inputs(model.config.pad_token_id or 0, types=predictor.encoder.has_token_types)
    if predictor.head.softmax_over_choices:  # [examples, choices, tokens]
        inputs = {name: value[:, None] for name, value in inputs.items()}
    with torch.inference_mode():
        found = model.eval()(**inputs)
    if "start_logits" in found:
        return [*torch.stack([found.start_logits, found.end_logits], -1)]
    return [*found.logits]


def stock_model(predictor: Predictor, samples: Samples) -> Any:
    """The model as transformers' own class, in float32.

    Args:
        predictor: the trained model with its head.
        samples: texts to measure the last norm on, where the class has a norm of its own.

    Raises:
        UserError: transformers has no class with these outputs.
    """
    encoder, head, record = predictor.encoder, predictor.head, predictor.record
    assert record is not None
    check_languages(encoder)
    if isinstance(head, Jiant):
        hint = "--to onnx and --to hf-code export it; `head: stock` in the recipe trains the family's own"
        raise UserError("transformers has no class with jiant's head", hint=hint)
    kind = kind_of(predictor)
    auto, config = _auto(kind), config_of(encoder, record, kind)
    own = _own_weights(auto, config, predictor, samples, kind) if has_model(auto, config) else None
    if own is None:
        what = f"transformers has no class of {encoder.config.model_type} encoders for {TASKS[kind]} with this head"
        raise UserError(what, hint="--to onnx exports it")
    model = _empty(auto, config)
    weights = {f"{model.base_model_prefix}.{name}": value for name, value in encoder.base.state_dict().items()}
    model.load_state_dict(weights | own, strict=True, assign=True)
    return model


def config_of(encoder: Encoder, record: HeadRecord, kind: str) -> Any:
    """The encoder's configuration with the labels, or their number, of the head."""
    return type(encoder.config).from_dict(without_labels(encoder.config) | label_settings(record, kind))


def without_labels(config: Any) -> dict[str, Any]:
    """An encoder's configuration without what belongs to a head or a folder."""
    plain: dict[str, Any] = config.to_dict()
    return {
        name: value for name, value in plain.items()
        if name not in ("id2label", "label2id", "num_labels", "problem_type", "_name_or_path")
    }  # fmt: skip


def label_settings(record: HeadRecord, kind: str) -> dict[str, Any]:
    """The labels of a head, or their number, as a configuration of transformers has them."""
    settings: dict[str, Any] = {} if kind == "choices" else {"num_labels": record.format.head.outputs or 2}
    if record.labels:
        numbers = {label: number for number, label in enumerate(record.labels)}
        settings = {"id2label": {number: label for label, number in numbers.items()}, "label2id": numbers}
    if kind == "sequence" and record.labels:
        settings["problem_type"] = "single_label_classification"
    return settings


def kind_of(predictor: Predictor) -> str:
    """The kind of head, `choices` for one score of each choice."""
    return "choices" if predictor.head.softmax_over_choices else predictor.format.head.kind


def _own_weights(auto: Any, config: Any, predictor: Predictor, samples: Samples, kind: str) -> dict[str, Tensor] | None:
    """The head's weights under the names that they have in the class; None if the class computes something else."""
    head = predictor.head
    if isinstance(head, Stock):
        return head.stock.model.state_dict() if head.stock.for_choices == (kind == "choices") else None
    return _linear(auto, config, predictor, samples) if isinstance(head, PerToken | SpanEnds) else None


def save_tokenizer(encoder: Encoder, max_length: int, folder: Path) -> None:
    """Write the tokenizer with the training's maximum length, and token types as in training.

    A `tokenizer.json` may number all tokens of a pair 0, where the encoder was trained with 0 and 1.
    """
    pretrained_tokenizer.save(encoder.tokenizer, folder)
    path = folder / "tokenizer_config.json"
    words = read_json(path) | {"model_max_length": max_length}
    for local in ("is_local", "local_files_only", "name_or_path"):
        words.pop(local, None)
    types = ["token_type_ids"] if encoder.has_token_types else []
    words["model_input_names"] = ["input_ids", *types, "attention_mask"]
    path.write_text(json.dumps(words, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    if types:
        rules = read_json(folder / "tokenizer.json")
        rules["post_processor"] = _with_types(rules["post_processor"])
        text = json.dumps(rules, ensure_ascii=False, indent=2)
        (folder / "tokenizer.json").write_text(text, encoding="utf-8")


def _with_types(processor: dict[str, Any]) -> dict[str, Any]:
    """A post-processor that gives the second text of a pair, and what follows it, type 1."""
    if processor["type"] == "Sequence":
        return processor | {"processors": [_with_types(one) for one in processor["processors"]]}
    if processor["type"] == "RobertaProcessing":
        ends, starts = processor["sep"], processor["cls"]
        first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
        before, after = ({"SpecialToken": {"id": token, "type_id": 0}} for token, _ in (starts, ends))
        special = {token: {"id": token, "ids": [number], "tokens": [token]} for token, number in (starts, ends)}
        template = {"type": "TemplateProcessing", "single": [before, first, after], "special_tokens": special}
        return _with_types(template | {"pair": [before, first, after, after, second, after]})
    if processor["type"] != "TemplateProcessing":  # BertProcessing does so already
        return processor
    pair, type_id = [], 0
    for item in processor["pair"]:
        ((kind, value),) = item.items()
        type_id = 1 if kind == "Sequence" and value["id"] == "B" else type_id
        pair.append({kind: value | {"type_id": type_id}})
    return processor | {"pair": pair}


def _auto(kind: str) -> Any:
    import transformers

    return getattr(transformers, AUTO[kind])


def _empty(auto: Any, config: Any) -> Any:
    """A model without memory for its weights."""
    with torch.device("meta"):
        return auto.from_config(config, attn_implementation="eager", dtype=torch.float32)


def _linear(auto: Any, config: Any, predictor: Predictor, samples: Samples) -> dict[str, Tensor] | None:
    """The weights that make a class compute our linear layer on the last hidden state; None if it cannot.

    Most classes have such a layer alone. ModernBERT's have a dense layer and a norm before it, which can undo and redo
    the encoder's last norm; this changes `config`.
    """
    encoder, out, model = predictor.encoder, predictor.head.get_submodule("out"), _empty(auto, config)
    names = [name for name in model.state_dict() if not name.startswith(f"{model.base_model_prefix}.")]
    layer = next((name.rpartition(".")[0] for name in names if "." not in name.rpartition(".")[0]), "")
    linear = {f"{layer}.{name}": value.detach() for name, value in out.named_parameters()}
    if {*names} == linear.keys():
        return linear
    norm = getattr(encoder.base, "final_norm", None)
    more = {"head.dense.weight", "head.norm.weight"}
    if {*names} != linear.keys() | more or not isinstance(norm, nn.LayerNorm) or norm.bias is not None:
        return None
    config.classifier_activation = "linear"
    weight_H, scale = norm.weight.detach().clone(), _norm_scale(encoder, norm, samples)
    return linear | {"head.dense.weight": torch.diag(scale / weight_H), "head.norm.weight": weight_H}


def _norm_scale(encoder: Encoder, norm: nn.LayerNorm, samples: Samples) -> float:
    """The usual size of what the last norm reads: a second norm of numbers of this size changes them least.

    A norm adds epsilon to the variance v, so its output has the variance v / (v + epsilon). Scaled by sqrt(v + epsilon)
    it has v again, and the second norm's epsilon does what the first one's did.
    """
    seen: list[Tensor] = []
    hook = norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].var(-1, unbiased=False)))
    with torch.inference_mode():
        encoder.hidden(samples.batch)
    hook.remove()
    return float((torch.cat([one.flatten() for one in seen]).mean() + norm.eps).sqrt())
