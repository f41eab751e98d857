"""The shape of a new encoder: layers, widths and tokenizer."""

from __future__ import annotations

from pydantic import Field, model_validator

from xstilts.utils.models import PathText, Seed, Strict


class NewEncoder(Strict):
    """An encoder that starts from random weights, with a tokenizer trained on a task's text, or a given one."""

    text: str = ""
    """A masked-text task; its training text in all its languages trains the tokenizer."""
    layers: int = Field(default=2, ge=1, le=1000)
    hidden: int = Field(default=64, ge=8, le=10**5)
    heads: int = Field(default=2, ge=1, le=1000)
    vocabulary: int = Field(default=2000, ge=100, le=10**7)
    """The most pieces of a trained tokenizer."""
    tokenizer: PathText = "bpe"
    """`words` has a piece for each word, for text of few words; else a folder or Hub id with a fast tokenizer."""
    max_length: int = Field(default=128, ge=16, le=10**6)
    seed: Seed = 1

    @model_validator(mode="after")
    def _divides(self) -> NewEncoder:
        if self.hidden % self.heads:
            raise ValueError(f"hidden ({self.hidden}) must be a multiple of heads ({self.heads})")
        return self

    @model_validator(mode="after")
    def _one_tokenizer(self) -> NewEncoder:
        if self.given is None and not self.text:
            raise ValueError("needs `text`, a task whose text trains its tokenizer, or a `tokenizer` that is given")
        if self.given is not None and {"text", "vocabulary"} & self.model_fields_set:
            raise ValueError(f"has a tokenizer that is given ({self.given}): leave `text` and `vocabulary` out")
        return self

    @property
    def given(self) -> str | None:
        """The tokenizer's folder or Hub id; None if it is trained."""
        return None if self.tokenizer in TRAINABLE_TOKENIZERS else self.tokenizer


TRAINABLE_TOKENIZERS = ("bpe", "words")
"""Tokenizers to train; any other name is a given tokenizer."""
