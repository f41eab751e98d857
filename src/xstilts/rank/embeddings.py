"""Embeddings of a task's texts: their mean vector, and the features of labelled positions."""

# Shape suffixes: F = forward passes, M = marked tokens, N = labelled tokens, H = hidden size

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from xstilts.compute.memory import TokenBudget
from xstilts.data.examples import locate
from xstilts.data.find import find_or_empty
from xstilts.errors import StepFailed, UserError
from xstilts.formats import Retrieve
from xstilts.formats.base import IGNORED, Example
from xstilts.formats.retrieve import Entry
from xstilts.languages import ENGLISH
from xstilts.model.batch import Batch, by_length, collate, generator
from xstilts.model.encoder import Encoder
from xstilts.model.features import FeatureSet
from xstilts.model.forward import in_parts, most_tokens
from xstilts.model.heads import MeanPool
from xstilts.tasks.task import Split, Task
from xstilts.utils.sampling import reservoir


@dataclass(frozen=True)
class Sample:
    """Some examples of a task, in English if it has any, and the task with their labels."""

    task: Task
    split: Split
    language: str
    examples: tuple[Example, ...]

    @property
    def labelled(self) -> bool:
        """Whether there are labels to predict: only in training data, and not in retrieval or raw text."""
        return self.split == "train" and self.task.format.head.trained

    @property
    def note(self) -> str:
        """Names the data that replaced missing training data."""
        if self.split == "train":
            return ""
        where = f"{self.split} ({self.language})"
        return f"{self.task.name} has no training data: its texts are the English side of {where}"


@dataclass(frozen=True)
class Embeddings:
    """A sample's mean vector, and the vectors of its labelled positions with their classes."""

    mean_H: NDArray[np.float64]
    features_NH: NDArray[np.float32]
    labels_N: NDArray[np.int64]


def sample(task: Task, data: Path | None, limit: int) -> Sample:
    """Draw examples of a task with a fixed random seed from its training data, or else from its dev or test data.

    Of a retrieval task only the English side is taken.

    Raises:
        UserError: the data are not there, or cannot be read.
    """
    split: Split = "train" if task.trainable else next(split for split in ("dev", "test") if split in task.data)
    known = sorted(task.languages_of(split), key=lambda code: code != ENGLISH)
    roots = [] if data is None else [data]
    code = next((code for code in known if find_or_empty(task.data[split], code, roots)), known[0])
    examples = locate(task, task.data[split], (code,), data, train=split == "train").stream()
    if isinstance(task.format, Retrieve):
        examples = _english_side(task.format, examples)
    drawn = reservoir(examples, limit, seed=0)  # reads the whole stream, so that its mistakes are found
    if not drawn:
        raise UserError(f"its {split} data hold no text", where=task.name)
    return Sample(task.model_copy(update={"format": task.format.with_labels_from(drawn)}), split, code, tuple(drawn))


def _english_side(format: Retrieve, entries: Iterable[Entry]) -> Iterator[Entry]:
    """The queries, or for mined sentences the candidates: in either case the English texts, if there are some."""
    for entry in entries:
        if format.find == "mined" and entry.candidate is not None:
            yield entry
        elif format.find != "mined" and entry.query is not None:
            yield entry._replace(candidate=None)


def embed(encoder: Encoder, texts: Sample) -> Embeddings:
    """Run a sample through an encoder; vectors are of its last layer.

    The mean is over the real tokens of a forward pass, then over the passes of an example, then over the examples.
    Labels are those of the format's head: a text's at its first token, a word's at its first piece, right or wrong for
    an ending. A question has two positions: the answer's first piece, and a random other piece of the same window.

    Raises:
        StepFailed: a vector is not finite.
    """
    format = texts.task.format
    features = FeatureSet.build(format, texts.examples, encoder.tokenizer_for(texts.task.max_length))
    if not texts.labelled:
        features = _with_positions(
            features, np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros_like(features.lengths_F)
        )
    elif format.head.kind == "span":
        features = _answer_positions(features)
    passes, hidden, mean_pool = len(features.lengths_F), int(encoder.config.hidden_size), MeanPool()
    mean_FH = np.empty((passes, hidden), np.float32)
    marked_MH = np.empty((len(features.positions_M), hidden), np.float32)
    at, budget = features.positions_at, TokenBudget(most_tokens(encoder.device, None))

    def vectors(batch: Batch) -> list[NDArray[np.float32]]:
        """The mean of each forward pass, and below it the vectors of its labelled positions."""
        hidden_TH, ends = encoder.hidden(batch), batch.num_positions_B.cpu().cumsum(0)[:-1].numpy()
        means_BH = mean_pool(hidden_TH, batch).cpu().numpy()
        marked = np.split(hidden_TH[batch.positions_M].float().cpu().numpy(), ends)
        return [np.vstack(one) for one in zip(means_BH, marked, strict=True)]

    with torch.inference_mode():
        for batch_F in by_length(features, budget.most):
            batch = collate(features, batch_F, None, generator(0, "rank"), texts.language)
            for f, rows in zip(batch_F, in_parts(encoder, batch, budget, vectors), strict=True):
                mean_FH[f], marked_MH[at[f] : at[f + 1]] = rows[0], rows[1:]
    if not np.isfinite(mean_FH).all():
        raise StepFailed(f"a vector of {texts.task.name} is not a number", hint="the weights are broken")
    counted_M = features.targets_M != IGNORED
    share_F = (1 / np.diff(features.first))[features.example_F] / features.examples
    return Embeddings(share_F @ mean_FH, marked_MH[counted_M], features.targets_M[counted_M].astype(np.int64))


def _answer_positions(features: FeatureSet) -> FeatureSet:
    """Windows with the answer get two positions: its first piece, class 1, and a random other piece, class 0."""
    rng = generator(0, "rank", "answers")
    positions, count_F = [], np.zeros(len(features.lengths_F), np.int64)
    for f, info in enumerate(features.decode_info):
        first, last = map(int, features.positions_M[features.positions_at[f] : features.positions_at[f + 1]])
        start, end = int(info[0]), int(info[0]) + len(info) // 2
        others = [*range(start, first), *range(last + 1, end)]
        if first and others:
            positions += [first, int(rng.choice(others))]
            count_F[f] = 2
    return _with_positions(features, np.array(positions, np.int64), np.tile([1, 0], len(positions) // 2), count_F)


def _with_positions(
    features: FeatureSet, positions_M: NDArray[np.int64], targets_M: NDArray[np.int64], count_F: NDArray[np.int64]
) -> FeatureSet:
    at = np.concatenate([[0], np.cumsum(count_F)])
    return replace(features, positions_M=positions_M, targets_M=targets_M, positions_at=at)
