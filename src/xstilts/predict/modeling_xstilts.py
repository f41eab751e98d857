"""An encoder of transformers with a head that transformers has no class for; needs torch and transformers alone."""

# Shape suffixes: B = texts, L = longest text, H = hidden size, C = classes

from __future__ import annotations

from typing import Any

import transformers
from torch import Tensor, nn
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import QuestionAnsweringModelOutput, TokenClassifierOutput


class XStiltsConfig(PretrainedConfig):
    """The encoder's own configuration, and the head on top of it.

    Attributes:
        encoder: the configuration of the encoder.
        encoder_class: its class in transformers.
        head: `sequence` and `choices` read the first token, `token` and `span` read all tokens.
        head_layers: the linear layers of the head, with tanh between them.
    """

    model_type = "xstilts"

    def __init__(
        self, encoder: dict[str, Any] | None = None, encoder_class: str = "", head: str = "sequence",
        head_layers: int = 1, **more: Any,
    ) -> None:  # fmt: skip
        self.encoder, self.encoder_class = encoder or {}, encoder_class
        self.head, self.head_layers = head, head_layers
        super().__init__(**more)


class XStiltsModel(PreTrainedModel):
    """An encoder with a head for texts, multiple choice, tags or questions."""

    config_class = XStiltsConfig

    def __init__(self, config: XStiltsConfig) -> None:
        super().__init__(config)
        self.base = getattr(transformers, config.encoder_class)(AutoConfig.for_model(**config.encoder))
        if hasattr(self.base, "pooler"):
            self.base.pooler = None  # the head has its own
        size, outputs = self.base.config.hidden_size, 1 if config.head == "choices" else config.num_labels or 1
        inner = [layer for _ in range(config.head_layers - 1) for layer in (nn.Linear(size, size), nn.Tanh())]
        self.head = nn.Sequential(*inner, nn.Linear(size, outputs))
        self.post_init()

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None, **_: Any
    ) -> TokenClassifierOutput | QuestionAnsweringModelOutput:
        """`logits` [B, C] of texts, [B, L, C] of tags, `start_logits` and `end_logits` [B, L] of questions.

        Args:
            input_ids: [B, L]; in multiple choice [B, choices, L], and `logits` are [B, choices].
            attention_mask: 1 for real tokens, 0 for padding.
            token_type_ids: 0 for the first text of a pair, 1 for the second; for encoders that read them.
        """
        given = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        inputs = {name: value.flatten(0, -2) for name, value in given.items() if value is not None}
        hidden_BLH = self.base(**inputs).last_hidden_state
        scores = self.head(hidden_BLH[:, 0] if self.config.head in ("sequence", "choices") else hidden_BLH)
        if self.config.head == "span":
            return QuestionAnsweringModelOutput(start_logits=scores[..., 0], end_logits=scores[..., 1])
        return TokenClassifierOutput(
            logits=scores.view(input_ids.shape[:2]) if self.config.head == "choices" else scores
        )
