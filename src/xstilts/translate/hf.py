"""The engine hf: models of transformers by `generate`, such as Marian, M2M100, NLLB and MADLAD."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from xstilts.compute.device import device
from xstilts.compute.private import commit_hash, has_model
from xstilts.errors import UserError
from xstilts.translate.engine import CONVERTED, Engine
from xstilts.translate.model_engine import (
    BEAMS,
    ModelEngine,
    check_release,
    load_tokenizer,
    unloadable,
    weights_version,
)


def open_engine(model: str, prompt: str, source: str, target: str) -> Engine:
    """The engine for a model: one that reads and writes sentences, or a chat model.

    Raises:
        UserError: the model cannot be loaded, lacks a language, or has a `prompt` though it does not chat.
    """
    tokenizer, loaded = load(model)
    if loaded.config.is_encoder_decoder:
        if prompt:
            raise UserError("is no chat model, so it takes no --prompt", where=model)
        return HfEngine(model, source, target)
    from xstilts.translate.chat import ChatEngine

    return ChatEngine(tokenizer, loaded, model, prompt, source, target)


class HfEngine(ModelEngine):
    """A sequence-to-sequence model in float32."""

    def __init__(self, model: str, source: str, target: str) -> None:
        tokenizer, self._model = load(model)
        config = self._model.config
        super().__init__(tokenizer, model, getattr(config, "max_position_embeddings", None), source, target)
        self._model.to(device())

    @property
    def identity(self) -> dict[str, str]:
        """The model with its weights' version and the way it writes the target language."""
        return {
            "engine": "hf", "model": self.model, "version": version(self.model, self._model.config),
            "beams": str(BEAMS), "language": self.language, **self.pair,
        }  # fmt: skip

    def search(self, sources: list[list[int]], longest: int) -> list[list[int]]:
        """The best translations of token rows by beam search."""
        inputs = self.tokenizer.pad({"input_ids": sources}, return_tensors="pt").to(device())
        first = {} if self.forced is None else {"forced_bos_token_id": self.forced}
        with torch.inference_mode():
            # Without an end that is forced, `translate` can tell that a translation does not end.
            output = self._model.generate(
                inputs.input_ids, attention_mask=inputs.attention_mask, forced_eos_token_id=None, num_beams=BEAMS,
                early_stopping=True, do_sample=False, max_new_tokens=longest, max_length=None, **first,
            )  # fmt: skip
        found: list[list[int]] = output[:, 1:].tolist()  # the first token only starts the decoder
        return found


@lru_cache(maxsize=1)  # one model for several languages
def load(model: str) -> tuple[Any, Any]:
    """Tokenizer and model, in float32, of a folder or Hub id (perhaps `@revision`).

    Raises:
        UserError: they cannot be loaded, or need a package; or this transformers translates wrongly with the model.
    """
    if (Path(model) / CONVERTED).is_file():
        raise UserError("is a model converted by CTranslate2", where=model, hint="use --engine ct2")
    name, options = located(model)
    try:
        config = AutoConfig.from_pretrained(name, **options)
        check_release(config.model_type, model)
        auto = AutoModelForSeq2SeqLM if has_model(AutoModelForSeq2SeqLM, config) else AutoModelForCausalLM
        tokenizer = load_tokenizer(name, **options)
        return tokenizer, auto.from_pretrained(name, dtype=torch.float32, **options).eval()
    except (ImportError, OSError, ValueError) as error:
        raise unloadable(model, error, "a translation model") from error


def located(model: str) -> tuple[str, dict[str, Any]]:
    """The folder or Hub id, and the revision as an option, of `name@revision`."""
    name, _, revision = (model, "", "") if Path(model).exists() else model.partition("@")
    return name, {"revision": revision} if revision else {}


def version(model: str, config: Any) -> str:
    """The version of a model's weights and of transformers."""
    weights = weights_version(Path(model)) if Path(model).is_dir() else commit_hash(config) or "unknown"
    return f"{weights}, transformers {transformers.__version__}"
