"""The other side of the benchmark of training: transformers' Trainer on the same weights and the same forward passes.

Models compute their loss as transformers' own classes for the same kind of work do: scores of every token for tags and
for hidden pieces, of the first token for pairs and endings.
"""

# Shape suffixes: N = forward passes, L = longest of them, H = hidden size, C = classes, E = examples, B, T, M: batching

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

import works
from works import Precision
from xstilts.formats.base import IGNORED
from xstilts.model.batch import Batch
from xstilts.model.encoder import Encoder
from xstilts.model.heads import Head
from xstilts.training.optimizer import CLIP
from xstilts.training.settings import EPSILON


def _pair(head: Any, hidden_NLH: Tensor, real_NL: Tensor, labels_N: Tensor) -> Tensor:
    return cross_entropy(head.stock(hidden_NLH, real_NL).float(), labels_N)


def _choice(head: Any, hidden_NLH: Tensor, real_NL: Tensor, labels_E: Tensor) -> Tensor:
    return cross_entropy(head.stock(hidden_NLH, real_NL).float().view(len(labels_E), -1), labels_E)


def _tokens(head: Any, hidden_NLH: Tensor, _real_NL: Tensor, labels_NL: Tensor) -> Tensor:
    scores_NLC = head.out(head.dropout(hidden_NLH))
    return cross_entropy(scores_NLC.float().flatten(0, 1), labels_NL.flatten(), ignore_index=IGNORED)


def _ends(head: Any, hidden_NLH: Tensor, real_NL: Tensor, labels_N2: Tensor) -> Tensor:
    scores_NL2 = head.out(hidden_NLH).float().masked_fill(~real_NL.bool()[..., None], -torch.inf)
    return (cross_entropy(scores_NL2[..., 0], labels_N2[:, 0]) + cross_entropy(scores_NL2[..., 1], labels_N2[:, 1])) / 2


def _hidden(head: Any, hidden_NLH: Tensor, _real_NL: Tensor, labels_NL: Tensor) -> Tensor:
    scores_NLC = head.module.lm.lm_head(hidden_NLH)
    return cross_entropy(scores_NLC.float().flatten(0, 1), labels_NL.flatten(), ignore_index=IGNORED)


LOSSES: dict[str, Callable[[Any, Tensor, Tensor, Tensor], Tensor]] = {
    "classify": _pair, "choose": _choice, "tag": _tokens, "span": _ends, "mask": _hidden,
}  # fmt: skip
"""The loss by format."""


class Model(nn.Module):
    """The encoder and a head in the shape that the Trainer wants."""

    def __init__(self, encoder: Encoder, head: Head, format: str, precision: Precision) -> None:
        super().__init__()
        self.base, self.head, self.loss, self.bf16 = works.as_usual(encoder), head, LOSSES[format], precision == "bf16"
        self.losses: list[Tensor] = []

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Loss."""
        assert torch.is_autocast_enabled(input_ids.device.type) == self.bf16, "the Trainer has another precision"
        hidden_NLH = self.base(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        loss = self.loss(self.head, hidden_NLH, attention_mask, labels)
        self.losses.append(loss.detach())
        return {"loss": loss}


def as_rows(batch: Batch, format: str) -> dict[str, Any]:
    """The same forward passes as lists of ids, with the labels that the format's loss takes."""
    rows = batch.ids_T.split(batch.lengths_B.tolist())
    starts_B = batch.lengths_B.cumsum(0) - batch.lengths_B
    if format in ("tag", "mask"):
        labels_T = torch.full_like(batch.ids_T, IGNORED).index_copy(0, batch.positions_M, batch.targets_M)
        labels: Any = labels_T.split(batch.lengths_B.tolist())
    elif format == "span":
        labels = batch.positions_M.view(-1, 2) - starts_B[:, None]
    elif format == "choose":
        labels = batch.targets_M.view(batch.examples, -1).argmax(1)
    else:
        labels = batch.targets_M
    return {"ids": [row.tolist() for row in rows], "labels": labels}


class Collator:
    """Pads a batch to its longest, as the collators of transformers do."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def __call__(self, batches: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Tensors of the only batch."""
        (batch,), labels = batches, batches[0]["labels"]
        padded = self.tokenizer.pad({"input_ids": batch["ids"]}, padding="longest", return_tensors="pt")
        if isinstance(labels, tuple):
            labels = nn.utils.rnn.pad_sequence(list(labels), batch_first=True, padding_value=IGNORED)
        return {"input_ids": padded["input_ids"], "attention_mask": padded["attention_mask"], "labels": labels}


class _Watch(TrainerCallback):
    """Seconds of the updates alone, without the Trainer's preparations."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock, self.seconds = clock, 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.seconds = -self.clock()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self.seconds += self.clock()


def train(
    encoder: Encoder, head: Head, format: str, batches: Sequence[Batch], precision: Precision,
    settings: tuple[float, float, float], clock: Callable[[], float],
) -> tuple[float, list[float]]:  # fmt: skip
    """Train by the Trainer, one update a batch; seconds, and the loss of each update.

    Args:
        encoder: whose base model is trained, with transformers' default attention.
        head: trained with it.
        format: name of the format.
        batches: the updates.
        precision: of the forward passes.
        settings: learning rate, share of warm-up, weight decay.
        clock: in seconds.
    """
    model, watch, (lr, warmup, decay) = Model(encoder, head, format, precision), _Watch(clock), settings
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=tempfile.gettempdir(), max_steps=len(batches), per_device_train_batch_size=1,
            learning_rate=lr, warmup_steps=int(warmup * len(batches)), weight_decay=decay, max_grad_norm=CLIP,
            adam_epsilon=EPSILON, lr_scheduler_type="linear", train_sampling_strategy="sequential",
            bf16=precision == "bf16", use_cpu=encoder.device.type == "cpu", dataloader_num_workers=0,
            remove_unused_columns=False, eval_strategy="no", save_strategy="no", logging_strategy="no",
            report_to="none", disable_tqdm=True,
        ),
        train_dataset=[as_rows(batch, format) for batch in batches],
        data_collator=Collator(encoder.tokenizer),
        callbacks=[watch],
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return watch.seconds, torch.stack(model.losses).tolist()


def mean_by(losses: Sequence[float], every: int) -> list[float]:
    """Means of so many losses at a time."""
    return [fmean(losses[i : i + every]) for i in range(0, len(losses), every)]
