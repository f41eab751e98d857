"""The engine hf: sequence-to-sequence models of transformers (Marian, M2M100, NLLB, MADLAD), by beam search."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
from transformers.utils import logging

from xstilts import languages
from xstilts.compute.device import device
from xstilts.compute.private import commit_hash
from xstilts.errors import UserError, nearest
from xstilts.translate.engine import Line
from xstilts.utils.files import digest

BEAMS = 4
"""Width of the beam search."""
LONGER = 2
"""A translation has at most so many times the tokens of its line, and 50 more."""


STYLES = (r"__([a-z]{2,3})__", r"([a-z]{3}_[A-Z][a-z]{3})", r"<2(\w+)>", r">>(\w+)<<")
"""How vocabularies write languages: M2M100, NLLB, MADLAD, Marian with several target languages."""
IN_TEXT = STYLES[2:]
"""In these the target language stands before the text; in the others it is the translation's first token."""
MENDED = (5, 23)
"""The first release of transformers 5 whose T5 is known to translate right with MADLAD (issue 48154)."""


class ModelEngine:
    """A translation model; its vocabulary tells how it writes languages."""

    splits, batch = True, 32

    def __init__(self, model: str, source: str, target: str) -> None:
        self._tokenizer, self._model = _load(model)
        self._where = device()
        self._model.to(self._where)
        self._prefix, self._forced, self._language = "", dict[str, int](), ""
        self._set_languages(model, source, target)
        config = self._model.config
        lengths = (self._tokenizer.model_max_length, getattr(config, "max_position_embeddings", None))
        self._longest = int(min(length for length in (*lengths, 1024) if length))
        self.identity = {
            "engine": "hf", "model": model, "version": f"{_content(model, config)}, transformers "
            f"{transformers.__version__}", "beams": str(BEAMS), "language": self._language,
            "from": source, "to": target,
        }  # fmt: skip

    def _set_languages(self, model: str, source: str, target: str) -> None:
        """Find how the model's vocabulary writes the two languages.

        Raises:
            UserError: it lacks one of them, or this release of transformers translates wrongly with it.
        """
        vocabulary = self._tokenizer.get_vocab()
        known: dict[str, str] = {}
        style = ""
        for style in STYLES:
            known = {hit[1]: token for token in vocabulary if (hit := re.fullmatch(style, token))}
            if known:
                break
        if not known:
            named = re.search(r"opus-mt-(\w+)-(\w+)$", model)
            if named and (named[1], named[2]) != (source, target):
                raise UserError(f"translates {named[1]} to {named[2]}, not {source} to {target}", where=model)
            return
        code = _known_code(target, known, model)
        self._language = known[code]
        if style not in IN_TEXT:
            self._tokenizer.src_lang = _known_code(source, known, model)
            self._forced = {"forced_bos_token_id": vocabulary[known[code]]}
            return
        release = tuple(map(int, transformers.__version__.split(".")[:2]))
        if style == STYLES[2] and (5, 0) <= release < MENDED:
            message = f"transformers {transformers.__version__} may translate wrongly with it"
            raise UserError(message, where=model, hint="pip install -U transformers")
        self._prefix = f"{known[code]} "

    def translate(self, lines: Sequence[str]) -> list[Line]:
        """The most probable translations that the beam search finds."""
        texts = [self._prefix + line for line in lines]
        lengths = [len(ids) for ids in self._tokenizer(texts, verbose=False).input_ids]
        batch = self._tokenizer(texts, padding=True, truncation=True, max_length=self._longest, return_tensors="pt")
        longest = min(self._longest - 1, LONGER * max(lengths) + 50)
        inputs = {name: batch[name].to(self._where) for name in ("input_ids", "attention_mask")}
        with torch.inference_mode():
            output = self._model.generate(
                **inputs, **self._forced, num_beams=BEAMS, do_sample=False, max_new_tokens=longest, max_length=None
            )
        found = self._tokenizer.batch_decode(output, skip_special_tokens=True)
        ended = (output == self._model.generation_config.eos_token_id).any(dim=1).tolist()
        return [
            Line(text.strip(), length > self._longest or not complete)
            for text, length, complete in zip(found, lengths, ended, strict=True)
        ]


@lru_cache(maxsize=1)  # one model for several languages
def _load(model: str) -> tuple[Any, Any]:
    """Tokenizer and model of a folder or Hub id (perhaps `@revision`).

    Raises:
        UserError: they cannot be loaded, or need a package.
    """
    name, _, revision = (model, "", "") if Path(model).exists() else model.partition("@")
    options: dict[str, Any] = {"revision": revision} if revision else {}
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, **options)
        return tokenizer, AutoModelForSeq2SeqLM.from_pretrained(name, dtype=torch.float32, **options).eval()
    except (ImportError, OSError, ValueError) as error:
        message = next(line.strip() for line in f"{error}\n?".splitlines() if line.strip())
        hint = 'pip install "xstilts[mt]"' if "sentencepiece" in str(error).lower() else ""
        raise UserError(f"cannot be loaded as a translation model: {message}", where=model, hint=hint) from error


def _content(model: str, config: Any) -> str:
    """What tells this model's weights from others of the same name."""
    if not Path(model).is_dir():
        return commit_hash(config) or "unknown"
    weights = sorted(path for path in Path(model).glob("*") if path.suffix in (".safetensors", ".bin"))
    return " ".join(digest(path)[:12] for path in weights)


def _known_code(code: str, known: Collection[str], model: str) -> str:
    """The model's own spelling of a language.

    Raises:
        UserError: the model lacks the language; the message has the nearest there is.
    """
    wanted = {code.lower().replace("-", "_"), *languages.spellings(languages.base(code))}
    found = sorted(one for one in known if one.lower() in wanted or one.split("_")[0] in wanted)
    exact = [one for one in found if one.lower() in wanted]
    if not found:
        raise UserError(f"does not know the language '{code}'", where=model, hint=nearest(code, known))
    return (exact or found)[0]
