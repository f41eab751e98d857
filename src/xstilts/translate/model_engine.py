"""What all engines with a translation model share: loading, languages, sentences to tokens and back, counts of cuts."""

from __future__ import annotations

import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import transformers
from transformers import AutoTokenizer
from transformers.utils import logging

from xstilts import languages
from xstilts.errors import UserError, nearest
from xstilts.translate.engine import Line
from xstilts.utils.files import digest

BEAMS = 4
"""Width of the beam search. It ends when so many translations have ended."""
LONGER = 2
"""A translation has at most so many times the tokens of its line, and 50 more."""
MOST_TOKENS = 1024
"""Of a line, and of a translation, if the model allows so many."""

STYLES = (r"__([a-z]{2,3})__", r"([a-z]{3}_[A-Z][a-z]{3})", r"<2(\w+)>", r">>(\w+)<<")
"""How vocabularies write languages: M2M100, NLLB, MADLAD, Marian with several target languages."""
IN_TEXT = STYLES[2:]
"""In these the target language stands before the text; in the others it is the translation's first token."""


class ModelEngine(ABC):
    """A model that reads tokens of a sentence and writes tokens of its translation.

    The vocabulary tells how the model writes languages.
    """

    splits, batch = True, 32

    def __init__(self, tokenizer: Any, model: str, longest: int | None, source: str, target: str) -> None:
        self.tokenizer, self.model, self.pair = tokenizer, model, {"from": source, "to": target}
        self.longest = min(length for length in (tokenizer.model_max_length, longest, MOST_TOKENS) if length)
        """Tokens of a line that the model reads."""
        self.prefix, self.language, self.source_code = "", "", ""
        self.forced: int | None = None
        """The token that a translation begins with: its language."""
        self._set_languages(source, target)

    @property
    @abstractmethod
    def identity(self) -> dict[str, str]:
        """What decides its translations: engine, model, version, languages."""

    @abstractmethod
    def search(self, sources: list[list[int]], longest: int) -> list[list[int]]:
        """The tokens of each source's best translation, at most `longest`, with the token that ends it if one does."""

    def _set_languages(self, source: str, target: str) -> None:
        """Find how the model's vocabulary writes the two languages.

        Raises:
            UserError: it lacks one of them.
        """
        # M2M100's tokenizer may know its languages without listing them in the vocabulary.
        vocabulary = {**self.tokenizer.get_vocab(), **getattr(self.tokenizer, "lang_token_to_id", {})}
        known: dict[str, str] = {}
        style = ""
        for style in STYLES:
            known = {hit[1]: token for token in vocabulary if (hit := re.fullmatch(style, token))}
            if known:
                break
        if not known:
            named = re.search(r"opus-mt-(\w+)-(\w+)$", self.model)
            if named and (named[1], named[2]) != (source, target):
                message = f"translates {named[1]} to {named[2]}, not {source} to {target}"
                raise UserError(message, where=self.model)
            return
        self.language = known[known_code(target, known, self.model)]
        if style in IN_TEXT:
            self.prefix = f"{self.language} "
        else:
            self.source_code = known_code(source, known, self.model)
            self.forced = vocabulary[self.language]

    def translate(self, lines: Sequence[str]) -> list[Line]:
        """The most probable translations that the beam search finds."""
        if self.source_code:  # engines for several languages share a tokenizer
            self.tokenizer.src_lang = self.source_code
        texts = [self.prefix + line for line in lines]
        lengths = [len(ids) for ids in self.tokenizer(texts, verbose=False).input_ids]
        sources = self.tokenizer(texts, truncation=True, max_length=self.longest).input_ids
        found = self.search(sources, min(self.longest - 1, LONGER * max(lengths) + 50))
        end = self.tokenizer.eos_token_id
        translations = self.tokenizer.batch_decode(
            [[token for token in ids if token != self.forced] for ids in found], skip_special_tokens=True
        )
        return [
            Line(text.strip(), length > self.longest or end not in ids)
            for text, length, ids in zip(translations, lengths, found, strict=True)
        ]


def load_tokenizer(name: str, **options: str) -> Any:
    """The tokenizer of a folder or Hub id.

    Raises:
        ImportError, OSError, ValueError: it cannot be loaded, or its files are damaged.
    """
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    with warnings.catch_warnings():  # Marian's tokenizer recommends sacremoses, and does not use it
        warnings.filterwarnings("ignore", message="Recommended: pip install sacremoses")
        try:
            return AutoTokenizer.from_pretrained(name, **options)
        except (KeyError, RuntimeError, TypeError) as error:  # a damaged file of SentencePiece or of the vocabulary
            raise ValueError(f"damaged tokenizer: {type(error).__name__}: {error}") from error


def unloadable(model: str, error: Exception, what: str) -> UserError:
    """The message for a model that cannot be loaded as `what`."""
    message = next(line.strip() for line in f"{error}\n?".splitlines() if line.strip())
    needs_package = any(name in str(error).lower() for name in ("sentencepiece", "ctranslate2"))
    hint = 'pip install "xstilts[mt]"' if needs_package else ""
    return UserError(f"cannot be loaded as {what}: {message}", where=model, hint=hint)


def check_release(model_type: str, model: str) -> None:
    """Refuse T5 in releases of transformers 5 that translate wrongly with it (transformers' issue 48154).

    Raises:
        UserError: the release is one of them.
    """
    release = tuple(map(int, transformers.__version__.split(".")[:2]))
    if model_type == "t5" and (5, 0) <= release < (5, 23):
        message = f"transformers {transformers.__version__} may translate wrongly with it"
        raise UserError(message, where=model, hint="pip install -U transformers")


def weights_version(folder: Path) -> str:
    """What tells a folder's weights from others of the same name."""
    weights = sorted(path for path in folder.glob("*") if path.suffix in (".safetensors", ".bin"))
    return " ".join(digest(path)[:12] for path in weights)


def known_code(code: str, known: Collection[str], model: str) -> str:
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
