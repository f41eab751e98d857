"""Texts whose scores tell whether an export is the model, and the model's own scores for them."""

# Shape suffixes: B = texts, L = longest text, T = tokens of all texts, H = hidden size, C = classes

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from xstilts.errors import UserError
from xstilts.formats.base import IGNORED, Features
from xstilts.model.batch import Batch, collate, generator
from xstilts.model.features import FeatureSet
from xstilts.predict.predictor import Predictor

TOLERANCE = 1e-5
"""The largest difference of a score; relative to the largest score if that is above 1."""
PAIRS = (
    ("Nobody knew where the old bridge had been.", "Did they know it?"),
    ("Die Suppe war kalt.", "Der Kellner, den wir nach einer Stunde endlich fanden, brachte uns eine neue Suppe."),
    ("猫睡在温暖的石墙上。", "القط ينام على الجدار"),
    ("Кошка спит, 3.14 (!)", "Mama anapika chakula cha jioni leo, na watoto wanacheza mpira nje ya nyumba."),
    ("A", "b"),
)
"""Of several lengths and scripts."""
LONG = 40
"""How often a pair's first text is repeated for a text that is as long as the model reads."""
TEXTS = {"token": 1, "span": 2, "mean": 1}
"""Texts of a forward pass by the kind of head; else the format says it."""


@dataclass(frozen=True)
class Samples:
    """Forward passes over some texts, one row of them padded, and the model's scores.

    Attributes:
        texts: a text or a pair each; an empty tuple where only the ids are compared, because the text was cut.
        passes: the forward passes; their positions are those that the head reads.
        batch: the same as one row.
        scores: of each pass: [C] for a text, [L, C] for tokens, [L, 2] for spans, [H] for vectors.
    """

    texts: list[tuple[str, ...]]
    passes: list[Features]
    batch: Batch
    scores: list[Tensor]

    @classmethod
    def of(cls, predictor: Predictor) -> Samples:
        """The sample texts that fit the model, and its scores."""
        encoder, head, tokenizer = predictor.encoder, predictor.head, predictor.tokenizer
        spec = predictor.format.head
        kind = spec.kind
        count = TEXTS.get(kind) or len(getattr(predictor.format, "texts", ("context", "ending")))
        texts: list[tuple[str, ...]] = []
        passes: list[Features] = []
        for number, pair in enumerate([*PAIRS, (" ".join([PAIRS[1][1]] * LONG), PAIRS[0][0])]):
            first, second = tokenizer.encode(pair)
            most = tokenizer.max_pieces(count)
            if count == 1:
                (ids, _), at = tokenizer.single(first[:most]), 0
            else:
                second = second[: most // 2]
                ids, at = tokenizer.pair(first[: most - len(second)], second)
            whole = len(first) + (len(second) if count == 2 else 0) <= most and second == tokenizer.encode(pair)[1]
            texts.append(pair[:count] if whole or (count == 1 and len(first) <= most) else ())
            positions = [*range(len(ids))] if kind == "token" else [0]
            passes.append(Features(number, ids, positions, [IGNORED] * len(positions), at))
        batch = collate(FeatureSet.of(passes, len(passes)), range(len(passes)), None, generator(0))
        layer = (encoder.retrieval_layer if spec.layer is None else spec.layer) if spec.kind == "mean" else None
        with torch.inference_mode():
            outputs = head(encoder.hidden(batch, layer), batch).float()
        if kind in ("token", "span"):
            return cls(texts, passes, batch, [*torch.split(outputs, batch.lengths_B.tolist())])
        return cls(texts, passes, batch, [*outputs])

    def inputs(self, pad_id: int, *, types: bool) -> dict[str, Tensor]:
        """The padded ids [B, L], their mask and, with `types`, the text of a pair that each token belongs to."""
        sizes = self.batch.lengths_B.tolist()

        def grid(values_T: Tensor, fill: int) -> Tensor:
            rows = torch.nn.utils.rnn.pad_sequence(
                [*torch.split(values_T, sizes)], batch_first=True, padding_value=fill
            )
            return torch.as_tensor(rows)

        inputs = {"input_ids": grid(self.batch.ids_T, pad_id)}
        inputs["attention_mask"] = grid(torch.ones_like(self.batch.ids_T), 0)
        return inputs | ({"token_type_ids": grid(self.batch.types_T, 0)} if types else {})

    def difference(self, scores: Sequence[Tensor]) -> float:
        """The largest difference from the model's scores, relative to the largest one if that is above 1.

        Args:
            scores: of each text, [C], [H], or [L, C] with padding at the end.
        """
        largest = max(1.0, max(float(own.abs().max()) for own in self.scores))
        found = 0.0
        for own, theirs in zip(self.scores, scores, strict=True):
            known = theirs[: len(own)] if own.dim() == 2 else theirs.reshape(own.shape)
            found = max(found, float((known - own).abs().nan_to_num(torch.inf).max()))
        return found / largest

    def check_tokenizer(self, tokenizer: Any, *, types: bool, where: str) -> None:
        """Refuse an exported tokenizer that gives other ids, or other token types, than the model was trained with.

        Raises:
            UserError: it does.
        """
        ends = self.batch.lengths_B.cumsum(0).tolist()
        for texts, own, (start, end) in zip(self.texts, self.passes, pairwise([0, *ends]), strict=True):
            if not texts:
                continue
            theirs = tokenizer(*texts)
            same_types = not types or theirs["token_type_ids"] == self.batch.types_T[start:end].tolist()
            if theirs["input_ids"] != list(own.ids) or not same_types:
                what = "its tokenizer, as transformers reads it, splits texts otherwise than in training"
                raise UserError(what, where=where)
