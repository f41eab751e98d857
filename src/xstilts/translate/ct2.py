"""The engine ct2: Marian, M2M100, NLLB and MADLAD by CTranslate2, converted once from transformers' files."""

from __future__ import annotations

import hashlib
import mmap
import shutil
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, GenerationConfig
from transformers.utils.hub import cached_file

from xstilts.compute.device import THREADS, device
from xstilts.errors import UserError
from xstilts.translate import hf
from xstilts.translate.engine import CONVERTED
from xstilts.translate.model_engine import BEAMS, ModelEngine, load_tokenizer, unloadable, weights_version
from xstilts.utils.locks import exclusive

SCALE = b"decoder/scale_outputs\0"
"""The name, in a converted file, of the factor that T5's first version has and MADLAD lacks."""
PENALTIES = ("length_penalty", "repetition_penalty", "no_repeat_ngram_size")
"""Settings that both libraries know by the same name."""
PROBES = 16
"""Tokens, from all over the vocabulary, on which a converted model is compared with its original."""
ROUNDING = 0.01
"""By how much their log-probabilities may differ."""


class Ct2Engine(ModelEngine):
    """A converted model. A folder that the user converted keeps its own precision, such as int8."""

    def __init__(self, model: str, cache: Path, source: str, target: str) -> None:
        self._library = _library("ctranslate2")
        is_converted = (Path(model) / CONVERTED).is_file()
        tokenizer, longest = (_own_tokenizer(Path(model)), None) if is_converted else _read(model)
        super().__init__(tokenizer, model, longest, source, target)
        generation = _generation(model)
        if generation.get("forced_bos_token_id") is not None and self.forced is None:
            message = "begins each translation with a token of its own"
            raise UserError(message, where=model, hint="use --engine hf")
        self._penalties = {name: generation[name] for name in PENALTIES if generation.get(name) is not None}
        folder = Path(model) if is_converted else _converted(model, self._library, cache)
        if is_converted and self.language.startswith("<2") and _contains(folder / CONVERTED, SCALE):
            hint = "give the Hugging Face model: it is converted without"
            raise UserError("was converted with a factor that MADLAD lacks", where=model, hint=hint)
        self._translator = _translator(folder, model)
        self._weights = weights_version(folder)

    @property
    def identity(self) -> dict[str, str]:
        """The model with its weights' version and the way it writes the target language."""
        version = f"{self._weights}, ctranslate2 {self._library.__version__}, transformers {transformers.__version__}"
        return {
            "engine": "ct2", "model": self.model, "version": version, "beams": str(BEAMS), "language": self.language,
            **self.pair,
        }  # fmt: skip

    def search(self, sources: list[list[int]], longest: int) -> list[list[int]]:
        """The best translations of token rows by beam search."""
        tokens = self.tokenizer.convert_ids_to_tokens
        results = self._translator.translate_batch(
            [tokens(ids) for ids in sources],
            target_prefix=None if self.forced is None else [[self.language]] * len(sources),
            beam_size=BEAMS, max_input_length=0, max_decoding_length=longest, return_end_token=True,
            **self._penalties,
        )  # fmt: skip
        return [self.tokenizer.convert_tokens_to_ids(result.hypotheses[0]) for result in results]


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        hint = 'pip install "xstilts[mt]"'
        raise UserError("needs the package ctranslate2", where="--engine ct2", hint=hint) from error


def _own_tokenizer(folder: Path) -> Any:
    """The tokenizer in a converted folder.

    Raises:
        UserError: it has none.
    """
    if not (folder / "tokenizer_config.json").is_file():
        message = "is a converted model without tokenizer files"
        hint = "copy them from the original model, or give that: it is converted once"
        raise UserError(message, where=str(folder), hint=hint)
    try:
        return load_tokenizer(str(folder))
    except (ImportError, OSError, ValueError, KeyError) as error:
        raise unloadable(str(folder), error, "a tokenizer") from error


def _read(model: str) -> tuple[Any, int | None]:
    """The tokenizer of transformers' files, and the most tokens that the model reads.

    Raises:
        UserError: they cannot be loaded, need a package, or are those of a chat model.
    """
    name, options = hf.located(model)
    try:
        config = AutoConfig.from_pretrained(name, **options)
        tokenizer = load_tokenizer(name, **options)
    except (ImportError, OSError, ValueError) as error:
        raise unloadable(model, error, "a translation model") from error
    if not config.is_encoder_decoder:
        raise UserError("has no encoder that reads sentences", where=model, hint="a chat model needs --engine hf")
    return tokenizer, getattr(config, "max_position_embeddings", None)


def _generation(model: str) -> dict[str, Any]:
    """The model's own settings for writing, if it has some."""
    name, options = hf.located(model)
    try:
        found: dict[str, Any] = GenerationConfig.from_pretrained(name, **options).to_dict()
    except OSError:
        return {}
    return found


def _converted(model: str, library: Any, cache: Path) -> Path:
    """The folder with the converted model; it is converted if this was not done before.

    Raises:
        UserError: CTranslate2 cannot convert it, or computes other probabilities.
    """
    name, options = hf.located(model)
    files = Path(cached_file(name, "config.json", **options) or name).parent
    version = weights_version(files) if Path(name).is_dir() else files.name  # on the Hub, the commit
    key = hashlib.sha256(f"{name} {version} {library.__version__}".encode()).hexdigest()[:12]
    folder = cache / f"{files.name if Path(name).is_dir() else Path(name).name}-{key}"
    cache.mkdir(parents=True, exist_ok=True)
    with exclusive(cache / f".{folder.name}.lock", wait=True):
        if not folder.is_dir():
            beside = cache / f".{folder.name}"  # what a killed conversion leaves is written over
            _convert(model, files, beside)
            hf.load.cache_clear()  # the original takes as much memory
            beside.rename(folder)
    return folder


def _convert(model: str, files: Path, out: Path) -> None:
    """Convert a model, and compare the result with the original.

    Raises:
        UserError: CTranslate2 cannot convert it, or computes other probabilities.
    """
    tokenizer, loaded = hf.load(model)
    ids, expected = _probabilities(tokenizer, loaded)
    if loaded.config.model_type == "t5":  # CTranslate2 scales T5 by this word, which transformers 5 always sets
        loaded.config.tie_word_embeddings = getattr(loaded.config, "scale_decoder_outputs", True)
    converter = _library("ctranslate2.converters").TransformersConverter(str(files))
    converter.load_model, converter.load_tokenizer = lambda *_, **__: loaded, lambda *_, **__: tokenizer
    try:
        converter.convert(str(out), force=True)
        tokens = tokenizer.convert_ids_to_tokens(ids)
        (found,) = _open(out, model).score_batch([[*tokens, tokenizer.eos_token]], [tokens])
    except (ValueError, RuntimeError, AttributeError, KeyError, OSError) as error:
        shutil.rmtree(out, ignore_errors=True)
        raise UserError(f"cannot be converted: {error}", where=model, hint="use --engine hf") from error
    if not torch.allclose(torch.tensor(found.log_probs), expected, atol=ROUNDING):
        shutil.rmtree(out)
        message = "has other probabilities after the conversion by CTranslate2"
        raise UserError(message, where=model, hint="use --engine hf")


def _probabilities(tokenizer: Any, loaded: Any) -> tuple[list[int], torch.Tensor]:
    """Tokens from all over the vocabulary, and the model's log-probability of each as a translation of them all."""
    size, end, config = min(len(tokenizer), loaded.config.vocab_size), tokenizer.eos_token_id, loaded.config
    special = set(tokenizer.all_special_ids)
    ids = [id for id in range(1, size, max(1, size // PROBES)) if id not in special]
    with torch.inference_mode():
        read, written = torch.tensor([[*ids, end]]), torch.tensor([[config.decoder_start_token_id, *ids]])
        logits = loaded.cpu()(input_ids=read, decoder_input_ids=written).logits[0]
        if config.model_type == "marian":  # whose padding is no token of a translation
            logits[:, config.pad_token_id] = -torch.inf
        return ids, logits.log_softmax(-1).gather(1, read[0, :, None])[:, 0]


@lru_cache(maxsize=1)  # one model for several languages
def _translator(folder: Path, model: str) -> Any:
    return _open(folder, model)


def _open(folder: Path, model: str) -> Any:
    where = device()
    try:
        return _library("ctranslate2").Translator(
            str(folder), device="cuda" if where.type == "cuda" else "cpu", device_index=where.index or 0,
            intra_threads=THREADS,
        )  # fmt: skip
    except (ValueError, RuntimeError) as error:
        raise UserError(f"cannot be loaded by CTranslate2: {error}", where=model) from error


def _contains(path: Path, text: bytes) -> bool:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(text) >= 0
