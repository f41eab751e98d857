"""The language-model head of any family: the model's own code without its encoder."""

# Shape suffixes: M = marked positions, V = vocabulary, H = hidden size

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


class LanguageModelHead(nn.Module):
    """A masked language model whose encoder is replaced by a module that returns given hidden states.

    Families name and shape their heads differently; this needs no code for any of them.
    """

    def __init__(self, lm: Any) -> None:
        super().__init__()
        self._prefix = lm.base_model_prefix
        self._states = GivenStates()
        setattr(lm, self._prefix, self._states)
        self.lm = lm

    def forward(self, hidden_MH: Tensor) -> Tensor:
        """[M, V] scores."""
        self._states.hidden = hidden_MH[None]
        ids = torch.zeros(hidden_MH.shape[:1], dtype=torch.long, device=hidden_MH.device)[None]
        scores_MV: Tensor = self.lm(input_ids=ids).logits[0]
        self._states.hidden = None  # or it would hold the graph of the whole forward pass
        return scores_MV

    def save(self, base: nn.Module, folder: Path) -> None:
        """Write the model with its encoder `base` as a Hugging Face folder."""
        setattr(self.lm, self._prefix, base)
        try:
            self.lm.save_pretrained(folder)
        finally:
            setattr(self.lm, self._prefix, self._states)


class GivenStates(nn.Module):
    """Stands in for an encoder: returns the hidden states that it was given, and what its pooler makes of them."""

    hidden: Tensor | None = None

    def __init__(self, pooler: nn.Module | None = None) -> None:
        super().__init__()
        self.pooler = pooler

    def forward(self, *_: Any, **__: Any) -> Any:
        """As the encoder's output."""
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        pooled = None if self.pooler is None else self.pooler(self.hidden)
        return BaseModelOutputWithPooling(last_hidden_state=self.hidden, pooler_output=pooled)
