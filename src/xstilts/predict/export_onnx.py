"""Exports to ONNX: one graph for any number of texts of any length, with any head, checked with onnxruntime."""

# Shape suffixes: B = texts, L = longest text, H = hidden size, C = classes

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from importlib.util import find_spec
from inspect import Parameter, Signature
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xstilts.errors import UserError, first_line
from xstilts.languages import ENGLISH
from xstilts.model.heads import Head, Stock
from xstilts.predict.export_check import Samples
from xstilts.predict.export_hf import config_of, kind_of, save_tokenizer
from xstilts.predict.export_vectors import cut
from xstilts.predict.predictor import Predictor

FILE = "model.onnx"
PACKAGES = ("onnx", "onnxruntime", "onnxscript")
AXES = ("batch", "choices", "length")


def check_packages() -> None:
    """Refuse an export to ONNX without the packages that it needs.

    Raises:
        UserError: one is not installed, or torch is older than 2.9.
    """
    missing = [f"the package {package}" for package in PACKAGES if find_spec(package) is None]
    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 9):  # where this exporter became torch's default
        missing.append(f"torch 2.9 or newer, not {torch.__version__}")
    if missing:
        raise UserError(f"needs {missing[0]}", where="--to onnx", hint='pip install "xstilts[onnx]"')


class PaddedModel(nn.Module):
    """An encoder with a head, from padded texts to scores; its outputs have the names that transformers gives them.

    Attributes:
        layer: the hidden state that vectors are the mean of; None for the last one.
    """

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        encoder = predictor.encoder
        self.kind, self.choices = predictor.format.head.kind, predictor.head.softmax_over_choices
        self.layer = encoder.retrieval_layer if self.kind == "mean" else None
        # a family that ends in a norm applies it to the last state, so one layer more is kept above that of retrieval
        self.base = cut(encoder, encoder.layers if self.layer is None else min(self.layer + 1, encoder.layers))
        self.head = predictor.head.stock if isinstance(predictor.head, Stock) else linear_layers(predictor.head)
        self.stock = isinstance(predictor.head, Stock)

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        """`logits` [B, C], or [B, L, C] of tags; `start_logits` and `end_logits` [B, L]; `sentence_embedding` [B, H].

        Args:
            inputs: [B, L] each; in multiple choice [B, C, L].
        """
        shape = inputs["input_ids"].shape
        if self.choices:
            inputs = {name: value.flatten(0, 1) for name, value in inputs.items()}
        mask_BL = inputs["attention_mask"]
        if self.layer is not None:
            hidden_BLH = self.base(**inputs, output_hidden_states=True).hidden_states[self.layer]
            sums_BH = (hidden_BLH * mask_BL[:, :, None]).sum(1)
            return {"sentence_embedding": sums_BH / mask_BL.sum(1, keepdim=True)}
        hidden_BLH = self.base(**inputs).last_hidden_state
        if self.stock:
            scores = self.head(hidden_BLH, mask_BL.bool())
        else:
            scores = self.head(hidden_BLH[:, 0] if self.kind == "sequence" else hidden_BLH)
        if self.kind == "span":
            return {"start_logits": scores[..., 0], "end_logits": scores[..., 1]}
        return {"logits": scores.view(shape[:2]) if self.choices else scores}


def linear_layers(head: Head) -> nn.Sequential:
    """A head without dropout: its linear layers with tanh between them; empty for vectors."""
    linear = [module for module in head.children() if isinstance(module, nn.Linear)]
    return nn.Sequential(*[part for layer in linear for part in (nn.Tanh(), layer)][1:])


def write_onnx(predictor: Predictor, samples: Samples, part: Path) -> tuple[str, float]:
    """Write the model as one graph with its tokenizer and labels, and compare the scores of onnxruntime with its own.

    Returns:
        The name of the graph's file, and the largest difference: of all texts together, padded, and of each text alone.

    Raises:
        UserError: torch cannot export the encoder.
    """
    from transformers import AutoTokenizer

    encoder, record = predictor.encoder, predictor.record
    inputs = samples.inputs(encoder.config.pad_token_id or 0, types=encoder.has_token_types)
    if encoder.languages:
        inputs["langs"] = torch.full_like(inputs["input_ids"], encoder.languages[ENGLISH])
    model = PaddedModel(predictor).eval()
    _write_graph(model, inputs, part / FILE)
    config = model.base.config
    if record is not None:
        config = config_of(encoder, record, kind_of(predictor))
    config.architectures = None
    config.save_pretrained(part)
    save_tokenizer(encoder, predictor.tokenizer.max_length, part)
    samples.check_tokenizer(AutoTokenizer.from_pretrained(part), types=encoder.has_token_types, where=str(part))
    run = _session(part / FILE, choices=model.choices)
    lengths = samples.batch.lengths_B.tolist()
    alone = [run({name: grid[i : i + 1, :size] for name, grid in inputs.items()})[0] for i, size in enumerate(lengths)]
    return FILE, max(samples.difference([*run(inputs)]), samples.difference(alone))


def _write_graph(model: PaddedModel, inputs: Mapping[str, Tensor], path: Path) -> None:
    """Trace the model on two texts, and write the graph and its weights."""
    axes = AXES if model.choices else (AXES[0], AXES[2])
    example = {name: value[:2] for name, value in inputs.items()}
    if model.choices:
        example = {name: value[None].repeat(2, 1, 1) for name, value in example.items()}
    # the exporter reads the names of the inputs from the signature
    names = [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD) for name in example]
    forward: Any = _called_by_name(model.forward)
    forward.__signature__ = Signature(names)
    model.forward = forward  # type: ignore[method-assign]
    try:
        with _quiet(), torch.no_grad():
            torch.onnx.export(
                model, (), str(path), kwargs=example, dynamo=True, verbose=False, input_names=[*example],
                output_names=[*model(**example)], dynamic_shapes={name: dict(enumerate(axes)) for name in example},
            )  # fmt: skip
    except torch.onnx.errors.OnnxExporterError as error:
        reason = first_line(error.__cause__ or error)
        what = f"torch cannot export a {model.base.config.model_type} encoder to ONNX: {reason}"
        raise UserError(what) from error


def _called_by_name(forward: Callable[..., dict[str, Tensor]]) -> Callable[..., dict[str, Tensor]]:
    return lambda **inputs: forward(**inputs)


@contextmanager
def _quiet() -> Iterator[None]:
    """Print none of the reports of torch and its exporter."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stderr(StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _session(path: Path, *, choices: bool) -> Callable[[Mapping[str, Tensor]], Tensor]:
    """A function from padded inputs [B, L] to the scores of a graph's file, with spans' two ends in the last axis."""
    from onnxruntime import InferenceSession

    session = InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(inputs: Mapping[str, Tensor]) -> Tensor:
        arrays = {name: (value[None] if choices else value).numpy() for name, value in inputs.items()}
        found = [torch.from_numpy(array) for array in session.run(None, arrays)]
        scores = found[0] if len(found) == 1 else torch.stack(found, -1)
        return scores[0, :, None] if choices else scores

    return run
