"""The heads: they turn an encoder's hidden states into scores, a loss, and the arrays for decoding."""

# Shape suffixes: T = tokens of the batch, B = forward passes, M = marked positions, H = hidden size, C = classes

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from xstilts.formats.base import IGNORED, ClassificationHead, HeadSpec
from xstilts.model import packing
from xstilts.model.batch import Batch
from xstilts.model.stock_head import StockHead, stock_head

DROPOUT = ("classifier_dropout", "classifier_dropout_prob", "hidden_dropout_prob", "dropout", "dropout_rate")
"""Names of the dropout of a head, or else of hidden states, in configurations; the first with a value counts."""


class Head(nn.Module, ABC):
    """A head; `outputs` is the result of its `forward`."""

    softmax_over_choices = False
    """Whether softmax is over the forward passes of an example, which must then share a batch."""

    @abstractmethod
    def forward(self, hidden_TH: Tensor, batch: Batch) -> Tensor:
        """Scores at the marked positions (or vectors), from the hidden states of the real tokens."""

    def loss(self, outputs_MC: Tensor, batch: Batch) -> Tensor:
        """Mean cross-entropy over the counted targets, in nats; a scalar."""
        return cross_entropy(outputs_MC.float(), batch.targets_M, ignore_index=IGNORED)

    def num_targets(self, batch: Batch) -> int:
        """The number of targets that the loss averages; the weight of a part of a split batch."""
        return int((batch.targets_M != IGNORED).sum())

    def reduce_outputs(self, outputs: Tensor, batch: Batch) -> Tensor:
        """What decoding needs of the outputs, as small as possible; on their device."""
        return outputs

    def split_reduced(self, reduced: NDArray[Any], batch: Batch) -> list[NDArray[Any]]:
        """One array for each forward pass, of what `reduce_outputs` gave; the batch is on the CPU."""
        return list(reduced)


class SequenceHead(Head):
    """Scores of a whole text.

    With a single output (multiple choice), the loss is the cross-entropy over the forward passes of an example,
    averaged over examples; the target is 1 for the right one, 0 for the others. Keeps [C] scores.
    """

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.softmax_over_choices = outputs == 1

    def loss(self, outputs_MC: Tensor, batch: Batch) -> Tensor:
        """Mean over texts, or over examples in multiple choice, in nats."""
        if not self.softmax_over_choices:
            return super().loss(outputs_MC, batch)
        scores_B, right_E = outputs_MC[:, 0], batch.right_endings()
        sums_E = _log_sum_exp(scores_B, batch.example_B, batch.examples)
        return (sums_E[batch.example_B[right_E]] - scores_B[right_E]).mean()

    def num_targets(self, batch: Batch) -> int:
        """Texts, or right choices in multiple choice."""
        return int((batch.targets_M == 1).sum()) if self.softmax_over_choices else super().num_targets(batch)


class Jiant(SequenceHead):
    """jiant's head on the encoder's pooler, on the first token: dense, tanh, dropout, dense, tanh, dropout, linear.

    In jiant the pooler stays from phase to phase; here it is part of the head and initialized with it.
    """

    def __init__(self, hidden: int, outputs: int, dropout: float) -> None:
        super().__init__(outputs)
        self.pooler, self.dense = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        self.out, self.dropout = nn.Linear(hidden, outputs), nn.Dropout(dropout)

    def forward(self, hidden_TH: Tensor, batch: Batch) -> Tensor:
        """[M, C] scores."""
        pooled_MH = torch.tanh(self.pooler(hidden_TH[batch.positions_M]))
        dense_MH = torch.tanh(self.dense(self.dropout(pooled_MH)))
        return _scores(self.out, self.dropout(dense_MH))


class Plain(SequenceHead):
    """XLM-R's head, for families without one for encoders: first token, dropout, dense, tanh, dropout, linear."""

    def __init__(self, hidden: int, outputs: int, dropout: float) -> None:
        super().__init__(outputs)
        self.dense, self.out, self.dropout = nn.Linear(hidden, hidden), nn.Linear(hidden, outputs), nn.Dropout(dropout)

    def forward(self, hidden_TH: Tensor, batch: Batch) -> Tensor:
        """[M, C] scores."""
        dense_MH = torch.tanh(self.dense(self.dropout(hidden_TH[batch.positions_M])))
        return _scores(self.out, self.dropout(dense_MH))


class Stock(SequenceHead):
    """The family's own head, in float32 (`_scores` says why)."""

    def __init__(self, stock: StockHead, outputs: int) -> None:
        super().__init__(outputs)
        self.stock = stock

    def forward(self, hidden_TH: Tensor, batch: Batch) -> Tensor:
        """[M, C] scores."""
        if self.stock.reads_first:
            hidden_MLH = hidden_TH[batch.positions_M, None]
            real_ML = torch.ones(hidden_MLH.shape[:2], dtype=torch.bool, device=hidden_TH.device)
        else:
            layout = batch.grid()
            hidden_MLH, real_ML = packing.pad(hidden_TH, layout), layout.real_BL
        with torch.autocast(hidden_TH.device.type, enabled=False):
            scores_MC: Tensor = self.stock(hidden_MLH.float(), real_ML)
        return scores_MC


def _scores(layer: nn.Linear, hidden_NH: Tensor) -> Tensor:
    """[N, C] scores in float32, under autocast too, because bfloat16 would make close scores equal."""
    with torch.autocast(hidden_NH.device.type, enabled=False):
        scores_NC: Tensor = layer(hidden_NH.float())
    return scores_NC


def _log_sum_exp(scores_N: Tensor, group_N: Tensor, groups: int) -> Tensor:
    """Log sum exp over the rows of each group; each group's maximum is subtracted to avoid overflow and underflow."""
    index = group_N.view(-1, *[1] * (scores_N.dim() - 1)).expand_as(scores_N)
    top_G = scores_N.new_full((groups, *scores_N.shape[1:]), -torch.inf).scatter_reduce(
        0, index, scores_N.detach(), "amax"
    )
    sums_G = torch.zeros_like(top_G).index_add(0, group_N, (scores_N - top_G[group_N]).exp())
    return sums_G.log() + top_G


class PerToken(Head):
    """Scores of each marked token: dropout, linear. Keeps the best class of each position, with its probability."""

    def __init__(self, hidden: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.out, self.dropout = nn.Linear(hidden, outputs), nn.Dropout(dropout)

    def forward(self, hidden_TH: Tensor, batch: Batch) -> Tensor:
        """[M, C] scores."""
        return _scores(self.out, self.dropout(hidden_TH[batch.positions_M]))

    def reduce_outputs(self, outputs: Tensor, batch: Batch) -> Tensor:
        """[M, 2]: the best class, and its probability."""
        best_M1 = outputs.argmax(-1, keepdim=True)
        probability_M1 = (outputs.gather(-1, best_M1) - outputs.logsumexp(-1, keepdim=True)).exp()
        return torch.cat((best_M1.to(outputs.dtype), probability_M1), -1)

    def split_reduced(self, reduced: NDArray[Any], batch: Batch) -> list[NDArray[Any]]:
        """[M of the forward pass, 2]."""
        return _split(reduced, batch.num_positions_B)


class SpanEnds(Head):
    """Scores of each token as the first and the last of an answer; positions_M holds the right pair.

    Loss is the mean of the two cross-entropies over a forward pass's tokens. Keeps [L, 2] scores.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.out = nn.Linear(hidden, 2)

    def forward(self, hidden_TH: Tensor, batch: Batch) -> Tensor:
        """[T, 2] scores."""
        return _scores(self.out, hidden_TH)

    def loss(self, outputs_T2: Tensor, batch: Batch) -> Tensor:
        """Mean over forward passes and over the two ends, in nats."""
        row_T = batch.pass_of_each_token(len(outputs_T2))
        right_B2 = outputs_T2[batch.positions_M.view(-1, 2), torch.arange(2, device=outputs_T2.device)]
        return (_log_sum_exp(outputs_T2, row_T, len(batch.lengths_B)) - right_B2).mean()

    def num_targets(self, batch: Batch) -> int:
        """Forward passes."""
        return len(batch.lengths_B)

    def split_reduced(self, reduced: NDArray[Any], batch: Batch) -> list[NDArray[Any]]:
        """[L, 2] scores of each forward pass."""
        return _split(reduced, batch.lengths_B)


class MeanPool(Head):
    """The mean of all real tokens' hidden states, special tokens included; no parameters. Keeps [H] vectors."""

    def forward(self, hidden_TH: Tensor, batch: Batch) -> Tensor:
        """[B, H] vectors."""
        return mean_of_tokens(hidden_TH, batch)

    def loss(self, outputs_MC: Tensor, batch: Batch) -> Tensor:
        """There is none, because this head is not trained."""
        raise AssertionError("a mean-pooling head is never trained")


def mean_of_tokens(hidden_TH: Tensor, batch: Batch) -> Tensor:
    """The mean [B, H] over the real tokens of each forward pass, in float32."""
    row_T = batch.pass_of_each_token(len(hidden_TH))
    sums_BH = hidden_TH.new_zeros(len(batch.lengths_B), hidden_TH.shape[1], dtype=torch.float32)
    return sums_BH.index_add_(0, row_T, hidden_TH.float()) / batch.lengths_B[:, None]


def first_tokens(hidden_TH: Tensor, batch: Batch) -> Tensor:
    """The first token [B, H] of each forward pass, in float32."""
    return hidden_TH[batch.lengths_B.cumsum(0) - batch.lengths_B].float()


class Vocabulary(Head):
    """The encoder's own language-model head, at the marked positions only. Keeps [summed loss in nats, count]."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, hidden_TH: Tensor, batch: Batch) -> Tensor:
        """[M, V] scores over the vocabulary."""
        scores_MV: Tensor = self.module(hidden_TH[batch.positions_M])
        return scores_MV

    def reduce_outputs(self, outputs: Tensor, batch: Batch) -> Tensor:
        """[M] losses in nats."""
        return cross_entropy(outputs.float(), batch.targets_M, reduction="none")

    def split_reduced(self, reduced: NDArray[Any], batch: Batch) -> list[NDArray[Any]]:
        """[2] sums of each forward pass."""
        parts = _split(reduced.astype(np.float64), batch.num_positions_B)
        return [np.array([part.sum(), len(part)]) for part in parts]


def _split(rows: NDArray[Any], counts_B: Tensor) -> list[NDArray[Any]]:
    """The rows of each forward pass, which has so many of them."""
    return np.split(rows, counts_B.cumsum(0)[:-1].numpy())


def build(spec: HeadSpec, config: Any, vocabulary: nn.Module | None, kind: ClassificationHead = "stock") -> Head:
    """Make a format's head with new random parameters.

    Linear layers have torch's own initialization (uniform, by width). At XLM-R's width it is about the usual 0.02, and
    it keeps the gradient of a narrow encoder large enough.

    Args:
        spec: shape and number of outputs.
        config: the encoder's configuration; gives hidden size and dropout (`DROPOUT`; 0.1 if it has none).
        vocabulary: the encoder's language-model head, or None if its checkpoint has none.
        kind: which head a whole text gets.
    """
    hidden = config.hidden_size
    dropout = next((rate for name in DROPOUT if (rate := getattr(config, name, None)) is not None), 0.1)
    makers: dict[str, Callable[[], Head]] = {
        "sequence": lambda: _sequence_head(config, spec.outputs, dropout, kind),
        "token": lambda: PerToken(hidden, spec.outputs, dropout),
        "span": lambda: SpanEnds(hidden),
        "mean": MeanPool,
        "vocabulary": lambda: Vocabulary(_present(vocabulary)),
    }
    return makers[spec.kind]()


def _sequence_head(config: Any, outputs: int, dropout: float, kind: ClassificationHead) -> SequenceHead:
    if kind == "jiant":
        return Jiant(config.hidden_size, outputs, dropout)
    stock = stock_head(config, outputs)
    return Plain(config.hidden_size, outputs, dropout) if stock is None else Stock(stock, outputs)


def _present(vocabulary: nn.Module | None) -> nn.Module:
    assert vocabulary is not None, "checked before the study starts"
    return vocabulary
