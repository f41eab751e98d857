"""The optimizer: AdamW with clipping, as jiant's, at a rate given at each step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

CLIP = 1.0
"""Norm to which gradients are clipped."""
EPSILON = 1e-8
"""Adam's; the value that jiant really used."""


class Optimizer:
    """AdamW over all parameters of some modules; what has one dimension (biases, normalisation) does not decay."""

    def __init__(self, modules: nn.Module, table: nn.Embedding | None, weight_decay: float) -> None:
        self.parameters = list(modules.parameters())
        groups = [
            {"params": [p for p in self.parameters if p.ndim >= 2], "weight_decay": weight_decay},
            {"params": [p for p in self.parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
        fused = self.parameters[0].device.type in ("cpu", "cuda")
        self._adamw = torch.optim.AdamW(groups, lr=1.0, eps=EPSILON, fused=fused)

    def prepare(self, ids_T: Tensor) -> None:
        """Bring the rows of these pieces up to date."""

    def step(self, lr: float, scale: float = 1.0) -> Tensor:
        """Update by the gradients divided by `scale`, clipped; nothing if they are not finite. Returns their norm."""
        if scale != 1.0:
            for p in self.parameters:
                if p.grad is not None:
                    p.grad /= scale
        norm: Tensor = nn.utils.clip_grad_norm_(self.parameters, CLIP)
        for group in self._adamw.param_groups:
            group["lr"] = lr
        if scale == 1.0 or norm.isfinite():
            self._adamw.step()
        self._adamw.zero_grad(set_to_none=True)
        return norm

    def flush(self) -> None:
        """Bring all rows up to date."""

    def state_dict(self) -> dict[str, Any]:
        """All that the next update depends on."""
        return self._adamw.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._adamw.load_state_dict(dict(state))
