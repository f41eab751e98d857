"""Probes an encoder for packing: the output of a packed row must equal that of each sequence alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from xstilts.compute.private import attention_name
from xstilts.model import packing
from xstilts.model.batch import Batch

if TYPE_CHECKING:
    from xstilts.model.encoder import Encoder

TOLERANCE, LEAK_TOLERANCE = 1e-4, 1e-6
"""Largest differences of a packed sequence, alone and beside other neighbours; relative to the largest value."""
LENGTHS = (7, 4, 5, 1)


def can_pack(encoder: Encoder) -> bool:
    """Whether packed output equals the output of single sequences; sets the offset of positions."""
    attention = attention_name(encoder.base.config)
    packing.register()
    try:
        padding = getattr(encoder.config, "pad_token_id", None) or 0
        for offset in dict.fromkeys((encoder.reserved_positions, 0, padding + 1)):
            encoder.position_offset = offset
            windows = windows_if_apart(encoder, LENGTHS, attention)
            if windows is None:
                continue
            # only a sequence longer than its window shows whether a local layer is masked
            longer = min(max(windows, default=0) + LENGTHS[0], encoder.max_length)
            if not windows or windows_if_apart(encoder, (longer, *LENGTHS[1:]), attention) is not None:
                return True
    except (ValueError, TypeError, RuntimeError, IndexError, AssertionError):
        pass  # raised by models that do not use the attention interface
    encoder.base.set_attn_implementation(attention)
    return False


def windows_if_apart(encoder: Encoder, lengths: tuple[int, ...], attention: str) -> set[int] | None:
    """The windows of a model that keeps packed sequences of these lengths apart; None if it does not.

    Each sequence must equal itself alone. The second must also stay the same when its neighbours change, because a
    leak may be smaller than the rounding differences of the first check.
    """
    batch, layout = probe_batch(lengths, encoder.config.vocab_size), packing.Layout.by_length(torch.tensor(lengths))
    last = encoder.layers

    def packed(ids_T: torch.Tensor) -> torch.Tensor:
        return encoder.packed_states(replace(batch, ids_T=ids_T), layout, (last,), lambda hidden_TH: hidden_TH)[last]

    encoder.base.set_attn_implementation(attention)
    alone = torch.cat(
        [encoder.base(input_ids=ids[None]).last_hidden_state[0] for ids in torch.split(batch.ids_T, [*lengths])]
    )
    encoder.base.set_attn_implementation(packing.NAME)
    together = packed(batch.ids_T)
    second = slice(lengths[0], lengths[0] + lengths[1])
    ids_T = batch.ids_T.flip(0)
    ids_T[second] = batch.ids_T[second]
    change = packed(ids_T)[second] - together[second]
    scale = together.abs().max().clamp(min=1)
    same = (together - alone).abs().max() < TOLERANCE * scale and change.abs().max() < LEAK_TOLERANCE * scale
    return layout.windows if same else None


def probe_batch(lengths: Sequence[int], vocabulary: int) -> Batch:
    """Sequences of these lengths, of ordinary tokens."""
    ids_T = torch.arange(sum(lengths)).remainder(max(vocabulary - 6, 1)) + 5
    none, passes = torch.zeros(0, dtype=torch.long), len(lengths)
    return Batch(passes, ids_T, torch.tensor(lengths), torch.zeros_like(ids_T), none, none,
                 torch.zeros(passes, dtype=torch.long), torch.arange(passes))  # fmt: skip
