"""Retrieve: finds translations, translation pairs or the 20 best candidates by mean-pooled vectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from xstilts.errors import DataError, nearest
from xstilts.formats.base import Features, Format, HeadOutputs, HeadSpec, Row, TokenizerLike

if TYPE_CHECKING:
    from xstilts.formats.mining import Pairs

MAX_RANKED = 20
"""Length of a ranking; the metrics use no more."""


class Entry(NamedTuple):
    """A query, a candidate, or both (a line of aligned text)."""

    query: str | None
    candidate: str | None
    id: str | None = None
    relevant: tuple[str, ...] | None = None
    """Ids of the right candidates; None without labels, and in aligned text."""
    aligned: bool = True
    """False: the query does not translate the candidate, whose line it shares."""


class Retrieve(Format):
    """Nearest neighbours of mean-pooled vectors; nothing is trained.

    Rows are aligned text, where line k translates line k, or texts with ids, each a `query` or a `candidate`.
    """

    name: ClassVar[str] = "retrieve"
    version: ClassVar[int] = 3

    find: Literal["nearest", "mined", "ranked"] = "nearest"
    """Each query's translation in aligned text (Tatoeba), the translation pairs among sentences that mostly have none
    (BUCC), or the best candidates in order (LAReQA, Mewsli-X)."""
    layer: int | None = Field(default=None, ge=0)
    """Index into the hidden states (0: embeddings); by default the equivalent of 14 of 24."""
    k: int = Field(default=4, ge=1, le=1000)
    """How many neighbours the margin takes into account."""
    margin: Literal["ratio", "distance", "absolute"] = "ratio"
    """How a pair is scored; see `mining.Margin`."""
    matching: Literal["max", "intersect", "fwd", "bwd"] = "max"
    """Which pairs count; see `mining.Matching`."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metric that suits `find`."""
        return {"nearest": ("accuracy",), "mined": ("pair_f1",), "ranked": ("map@20",)}[self.find]

    @property
    def supported_metrics(self) -> tuple[str, ...]:
        """The same, and `mrr@20` for rankings."""
        return (*self.metrics, "mrr@20") if self.find == "ranked" else self.metrics

    @property
    def file(self) -> Literal["lines", "pairs", "rankings"]:
        """Line numbers, pairs of ids, or lists of ids."""
        kinds: Mapping[str, Literal["lines", "pairs", "rankings"]]
        kinds = {"nearest": "lines", "mined": "pairs", "ranked": "rankings"}
        return kinds[self.find]

    @property
    def fields(self) -> tuple[str, ...]:
        """The sentence and its translation, or all columns of rows with ids."""
        return self.inputs or ("query", "candidate", "id", "relevant")

    @property
    def inputs(self) -> tuple[str, ...]:
        """Both sides of aligned text; none for rows with ids, because queries and candidates differ."""
        return ("source", "target") if self.find == "nearest" else ()

    @property
    def head(self) -> HeadSpec:
        """Mean pooling over all real tokens, special tokens included (as jiant and XTREME do)."""
        return HeadSpec("mean", layer=self.layer)

    def read(self, row: Row) -> Entry:
        """Convert a row to an entry; in aligned text the translation is the query.

        Raises:
            DataError: the row has none of the three shapes, or its relevant ids are not a list.
        """
        values = row.values
        if "source" in values and "target" in values:
            number = values.get("number")  # set by the reader, unless the file has such a column
            id = str(number) if isinstance(number, int) else None
            aligned = values.get("aligned") is not False
            return Entry(str(values["target"]), str(values["source"]), id, aligned=aligned)
        if self.find == "nearest":
            hint = "set `find: mined` or `find: ranked` for sentences with ids"
            raise DataError("is not a line of aligned text", where=row.where, hint=hint)
        if ("query" in values) == ("candidate" in values) or "id" not in values:
            hint = nearest("query", values, "it has")
            raise DataError("needs an id and either a query or a candidate", where=row.where, hint=hint)
        id = str(values["id"])
        if "candidate" in values:
            return Entry(None, str(values["candidate"]), id)
        relevant = values.get("relevant")
        if not isinstance(relevant, list | tuple | None):
            raise DataError(f"relevant must be a list of ids, got {str(relevant)[:60]}", where=row.where)
        return Entry(str(values["query"]), None, id, None if relevant is None else tuple(map(str, relevant)))

    def is_query(self, example: Entry) -> bool:
        """Whether it has a query."""
        return example.query is not None

    def as_candidate(self, example: Entry) -> Entry | None:
        """The candidate of aligned text."""
        return None if example.candidate is None else example._replace(query=None)

    def example_id(self, example: Entry) -> str | None:
        """The row's id; in aligned text the line's number."""
        return example.id

    def input_text(self, example: Entry) -> str:
        """The query, or else the candidate."""
        return example.query or example.candidate or ""

    def features(self, examples: Sequence[Entry], tokenizer: TokenizerLike) -> Iterator[Features]:
        """A forward pass for each text, the query's before the candidate's."""
        max_pieces = tokenizer.max_pieces(1)
        texts = [(i, text) for i, e in enumerate(examples) for text in (e.query, e.candidate) if text is not None]
        for (index, _), ids in zip(texts, tokenizer.encode([text for _, text in texts]), strict=True):
            yield Features(index, tokenizer.single(ids[:max_pieces])[0], [], [], truncated=len(ids) > max_pieces)

    def decode(self, examples: Sequence[Entry], outputs: HeadOutputs, threshold: float | None) -> list[Any]:
        """For each query the number of the nearest candidate, or a list of ids.

        `mined` lists its translations, often none; without a threshold, all mined pairs. `ranked` lists the nearest
        candidates, best first.
        """
        sides = self._sides(examples)
        if self.find == "mined":
            found: list[list[str]] = [[] for _ in sides.query_N]
            pairs = self._mine(examples, outputs)
            for x, y, score in zip(*(part.tolist() for part in pairs), strict=True):
                if threshold is None or score >= threshold:
                    found[x].append(sides.ids[y])
            return found
        from xstilts.compute.neighbours import neighbours

        if self.find == "nearest":
            numbers_N = np.array([int(id) for id in sides.ids])
            order_N = numbers_N.argsort()  # on ties the first in the file
            nearest_of, _ = neighbours(_vectors(outputs), sides.query_N, sides.candidate_N[order_N], 1)
            return list(numbers_N[order_N][nearest_of.ids_NK[:, 0]].tolist())
        nearest_of, _ = neighbours(_vectors(outputs), sides.query_N, sides.candidate_N, MAX_RANKED)
        return [[sides.ids[y] for y in row] for row in nearest_of.ids_NK.tolist()]

    def reference(self, example: Entry, index: int) -> int | list[str] | None:
        """The query's own line in aligned text; elsewhere its relevant ids, None without labels."""
        if not example.aligned:
            return None
        if example.candidate is not None:
            return int(self.id(example, index)) if self.find == "nearest" else [self.id(example, index)]
        return None if example.relevant is None else list(example.relevant)

    def trivial_predictions(self, examples: Sequence[Entry]) -> Iterator[list[Any]]:
        """The same candidate for all queries; none for lists of ids, whose chance depends on the candidates."""
        return iter(()) if self.find != "nearest" else super().trivial_predictions(examples)

    @property
    def has_threshold(self) -> bool:
        """Whether predictions depend on a threshold that `calibrate` tunes."""
        return self.find == "mined"

    def calibrate(self, examples: Sequence[Entry], outputs: HeadOutputs) -> float | None:
        """The score threshold of mined pairs with the best F1 on these examples."""
        references = [self.reference(example, i) for i, example in enumerate(examples) if self.is_query(example)]
        if not self.has_threshold or None in references:
            return None
        from xstilts.formats.mining import tune_threshold

        gold = {(x, id) for x, ids in enumerate(references) if isinstance(ids, list) for id in ids}
        ids, pairs = self._sides(examples).ids, self._mine(examples, outputs)
        right_P = np.array(
            [(x, ids[y]) in gold for x, y in zip(pairs.x_P.tolist(), pairs.y_P.tolist(), strict=True)], bool
        )
        return tune_threshold(pairs.scores_P, right_P, len(gold))

    def _mine(self, examples: Sequence[Entry], outputs: HeadOutputs) -> Pairs:
        """Mined pairs, as indices of queries and of candidates.

        A sentence that occurs several times is mined once, and its pairs are dropped, because it is unclear which of
        its ids is meant (XTREME's rule).
        """
        from xstilts.compute.neighbours import neighbours
        from xstilts.formats.mining import Pairs, mine_pairs

        sides = self._sides(examples)
        x_N, x_unique_N = _distinct([e.query for e in examples if e.query is not None])
        y_N, y_unique_N = _distinct([e.candidate for e in examples if e.candidate is not None])
        nearest_of = neighbours(_vectors(outputs), sides.query_N[x_N], sides.candidate_N[y_N], self.k)
        pairs = mine_pairs(*nearest_of, self.margin, self.matching)
        pairs = pairs.select(x_unique_N[pairs.x_P] & y_unique_N[pairs.y_P])
        return Pairs(x_N[pairs.x_P], y_N[pairs.y_P], pairs.scores_P)

    def _sides(self, examples: Sequence[Entry]) -> _Sides:
        candidate_F = np.array(
            [is_candidate for e in examples for is_candidate, text in enumerate(e[:2]) if text is not None]
        )
        ids = [self.id(e, i) for i, e in enumerate(examples) if e.candidate is not None]
        return _Sides(np.flatnonzero(candidate_F == 0), np.flatnonzero(candidate_F), ids)


class TextVectors(Retrieve):
    """Texts alone, whose vectors are made; no task has this format."""

    raw_text: ClassVar[str] = "text"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The text."""
        return (self.raw_text,)

    def read(self, row: Row) -> Entry:
        """The text as a candidate."""
        return Entry(None, str(row.values[self.raw_text]))

    def results(
        self, examples: Sequence[Entry], outputs: HeadOutputs, threshold: float | None, top: int
    ) -> list[dict[str, Any]]:
        """The `vector` of each text, as an array [H]."""
        return [{"vector": vector} for vector in _vectors(outputs)]


class _Sides(NamedTuple):
    """Which forward passes are queries and which are candidates, and the candidates' ids."""

    query_N: NDArray[np.int64]
    candidate_N: NDArray[np.int64]
    ids: list[str]


def _distinct(texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The first index of each distinct text, and whether the text occurs once.

    >>> _distinct(["a", "b", "a"])
    (array([0, 1]), array([False,  True]))
    """
    counts = Counter(texts)
    first = {text: i for i, text in reversed(list(enumerate(texts)))}
    return np.array([first[text] for text in counts]), np.array([count == 1 for count in counts.values()])


def _vectors(outputs: HeadOutputs) -> NDArray[np.float32]:
    """The vectors, [F, H]; a memory-mapped array is not copied."""
    return np.asarray(outputs.scores, np.float32)
