"""Exports to transformers with code of our own, `modeling_xstilts.py`, for heads that none of its classes has."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch

from xstilts.errors import UserError
from xstilts.model.heads import Stock
from xstilts.predict import modeling_xstilts
from xstilts.predict.export_check import Samples
from xstilts.predict.export_hf import (
    AUTO,
    check_languages,
    class_scores,
    kind_of,
    label_settings,
    save_tokenizer,
    without_labels,
)
from xstilts.predict.export_onnx import linear_layers
from xstilts.predict.modeling_xstilts import XStiltsConfig, XStiltsModel
from xstilts.predict.predictor import Predictor

CODE = "modeling_xstilts"


def write_code(predictor: Predictor, samples: Samples, part: Path) -> tuple[str, float]:
    """Write the model and the code that loads it, and compare the scores of that code with the model's.

    The code has a `model_type` of its own: with the encoder's, transformers would load the encoder with a new random
    head where nobody has allowed the code to run.

    Returns:
        The name of the class, and the largest difference.

    Raises:
        UserError: the head is that of a class of transformers; the encoder reads each text's language.
    """
    from transformers import AutoTokenizer

    encoder, record = predictor.encoder, predictor.record
    assert record is not None
    check_languages(encoder)
    if isinstance(predictor.head, Stock):
        raise UserError("the head is that of transformers' own class", hint="--to hf or --to onnx exports it")
    head, kind = linear_layers(predictor.head), kind_of(predictor)
    made: Any = XStiltsModel
    config = XStiltsConfig(
        encoder=without_labels(encoder.config), encoder_class=type(encoder.base).__name__, head=kind,
        head_layers=(len(head) + 1) // 2, pad_token_id=encoder.config.pad_token_id, **label_settings(record, kind),
        auto_map={"AutoConfig": f"{CODE}.{XStiltsConfig.__name__}", AUTO[kind]: f"{CODE}.{made.__name__}"},
    )  # fmt: skip
    with torch.device("meta"):
        model = made(config)
    model.base.load_state_dict(encoder.base.state_dict(), assign=True)
    model.head.load_state_dict(head.state_dict(), assign=True)
    save_tokenizer(encoder, predictor.tokenizer.max_length, part)
    # beside a configuration with code of its own, transformers would ask the user whether to run it
    samples.check_tokenizer(AutoTokenizer.from_pretrained(part), types=encoder.has_token_types, where=str(part))
    model.save_pretrained(part)
    (part / f"{CODE}.py").write_text(inspect.getsource(modeling_xstilts), encoding="utf-8")
    again, info = made.from_pretrained(part, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"], info
    return made.__name__, samples.difference(class_scores(again, predictor, samples))
