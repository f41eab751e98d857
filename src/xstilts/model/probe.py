"""Probes an encoder for packing: the output of a packed row must equal that of each sequence alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from xstilts.compute.device import autocast
from xstilts.compute.memory import is_out_of_memory
from xstilts.compute.private import attention_name
from xstilts.model import packing
from xstilts.model.batch import Batch
from xstilts.utils.models import Precision

if TYPE_CHECKING:
    from xstilts.model.encoder import Encoder

TOLERANCE, LEAK_TOLERANCE = 1e-4, 1e-6
"""Largest differences of a packed sequence, alone and beside other neighbours; relative to the largest value."""
GPU_TOLERANCE = 0.1
"""The first of these on an accelerator, which rounds to bfloat16 or TF32."""
LENGTHS = (7, 4, 5, 1)


def can_pack(encoder: Encoder) -> bool:
    """Whether packed output equals the output of single sequences; sets the offset of positions."""
    attention = encoder.padded_attention = attention_name(encoder.base.config)
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
    except (ValueError, TypeError, RuntimeError, IndexError, AssertionError) as error:
        if is_out_of_memory(error):
            raise
        # models that do not use the attention interface raise the others
    encoder.base.set_attn_implementation(attention)
    return False


def packs_on_device(encoder: Encoder, precision: Precision) -> bool:
    """Whether an encoder that packs on a CPU does so on its accelerator, in the precision of the run."""
    with torch.inference_mode(), autocast(encoder.device, precision):
        try:
            return windows_if_apart(encoder, LENGTHS, encoder.padded_attention, GPU_TOLERANCE) is not None
        except (ValueError, TypeError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise
            return False  # a kernel that this accelerator lacks


def windows_if_apart(
    encoder: Encoder, lengths: tuple[int, ...], attention: str, tolerance: float = TOLERANCE
) -> set[int] | None:
    """The windows of a model that keeps packed sequences of these lengths apart; None if it does not.

    Each sequence must equal itself alone. The second must also stay the same when its neighbours change, because a
    leak may be smaller than the rounding differences of the first check.
    """
    batch, last = probe_batch(lengths, encoder.config.vocab_size).to(encoder.device), encoder.layers
    layout = batch.layout or packing.Layout.by_length(batch.lengths_B)

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
    same = (together - alone).abs().max() < tolerance * scale and change.abs().max() < LEAK_TOLERANCE * scale
    return layout.windows if same else None


def probe_batch(lengths: Sequence[int], vocabulary: int) -> Batch:
    """Sequences of these lengths, of ordinary tokens."""
    ids_T = torch.arange(sum(lengths)).remainder(max(vocabulary - 6, 1)) + 5
    none, passes = torch.zeros(0, dtype=torch.long), len(lengths)
    return Batch(passes, ids_T, torch.tensor(lengths), torch.zeros_like(ids_T), none, none,
                 torch.zeros(passes, dtype=torch.long), torch.arange(passes))  # fmt: skip
