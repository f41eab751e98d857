"""The classification head of any family: the model's own code without its encoder."""

# Shape suffixes: B = texts, L = longest text, H = hidden size, C = classes

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch
from torch import Tensor, nn

from xstilts.compute.private import has_model
from xstilts.model.lm_head import GivenStates


class StockHead(nn.Module):
    """A model for classification whose encoder is replaced by a module that returns given hidden states.

    The encoder's pooler, where the model has one, stays. Weights have the names that they have in the model.

    Attributes:
        for_choices: whether the model is the family's own for multiple choice.
        reads_first: whether only the first token counts; ModernBERT and EuroBERT may average over all tokens.
    """

    def __init__(self, model: Any, *, choices: bool) -> None:
        super().__init__()
        self._prefix, self.for_choices = model.base_model_prefix, choices
        pooler = getattr(getattr(model, self._prefix), "pooler", None)
        setattr(model, self._prefix, GivenStates(pooler))
        self.model, self.reads_first = model, True

    def forward(self, hidden_BLH: Tensor, real_BL: Tensor) -> Tensor:
        """[B, C] scores."""
        states = getattr(self.model, self._prefix)
        states.hidden = hidden_BLH
        ids_BL, mask_BL = torch.zeros_like(real_BL, dtype=torch.long), real_BL.long()
        if self.for_choices:  # these models take [examples, choices, tokens]
            ids_BL, mask_BL = ids_BL[:, None], mask_BL[:, None]
        scores_BC: Tensor = self.model(input_ids=ids_BL, attention_mask=mask_BL).logits
        states.hidden = None  # or it would hold the graph of the whole forward pass
        return scores_BC


def stock_head(config: Any, outputs: int) -> StockHead | None:
    """The head of the encoder's family in transformers with new random parameters; None if an encoder cannot use it.

    With one output it is the head of the family's model for multiple choice, if there is one. The head of an
    encoder-decoder reads the decoder, so an encoder cannot use it. Linear layers and norms have torch's initialization.
    """
    from transformers import AutoModelForMultipleChoice, AutoModelForSequenceClassification

    choices = outputs == 1 and has_model(AutoModelForMultipleChoice, config)
    auto: Any = AutoModelForMultipleChoice if choices else AutoModelForSequenceClassification
    if not has_model(auto, config):
        return None
    config = copy.deepcopy(config)
    if not choices:
        config.num_labels = outputs
    with torch.device("meta"):  # its encoder is never used
        model = auto.from_config(config, attn_implementation="eager", dtype=torch.float32)
    if "decoder_input_ids" in inspect.signature(model.forward).parameters:
        return None
    head = StockHead(model, choices=choices)
    head.to_empty(device="cpu")
    works = _initialized(head) and _works(head.eval(), config.hidden_size, outputs)
    return head.train() if works else None


def _initialized(head: nn.Module) -> bool:
    """Give every module new parameters; whether all of them have an initialization of their own."""
    for module in head.modules():
        if hasattr(module, "reset_parameters"):
            initialize: Any = module.reset_parameters
            initialize()
        elif any(True for _ in module.parameters(recurse=False)):
            return False
    return True


def _works(head: StockHead, hidden: int, outputs: int) -> bool:
    """Whether a text gets the same scores alone and beside a longer one; sets `reads_first`."""
    hidden_BLH = torch.sin(torch.arange(2.0 * 3 * hidden)).view(2, 3, hidden)
    real_BL = torch.tensor([[True, True, True], [True, True, False]])
    try:
        with torch.inference_mode():
            whole_BC = head(hidden_BLH, real_BL)
            head.reads_first = head(hidden_BLH[:, :1], real_BL[:, :1]).equal(whole_BC)
            alone_BC = head(hidden_BLH[1:, :2], real_BL[1:, :2])
    except (AttributeError, ValueError):  # Longformer, for one, reads more of its encoder's output than hidden states
        return False
    return whole_BC.shape == (2, outputs) and torch.allclose(alone_BC, whole_BC[1:], atol=1e-5)
