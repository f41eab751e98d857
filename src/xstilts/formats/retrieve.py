"""Retrieve: texts look for texts among many, by mean-pooled vectors: a translation, all pairs, the nearest twenty."""

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

TOP = 20
"""How many candidates are ranked, as many as the metrics look at."""


class Entry(NamedTuple):
    """A text that looks for others, a candidate that may be found, or both at once: a line of aligned text."""

    query: str | None
    candidate: str | None
    id: str | None = None
    relevant: tuple[str, ...] | None = None
    """Ids of the right candidates; None without labels, and in aligned text."""


class Retrieve(Format):
    """Nearest neighbours of mean-pooled vectors; nothing is trained.

    Rows are aligned text, where line k belongs to line k, or sentences with ids: some look (`query`), others are there
    to be found (`candidate`).
    """

    name: ClassVar[str] = "retrieve"
    version: ClassVar[int] = 3

    find: Literal["nearest", "mined", "ranked"] = "nearest"
    """Each query's translation in aligned text (Tatoeba), the pairs of sentences that translate each other where most
    have no translation (BUCC), or the best candidates in order (LAReQA, Mewsli-X)."""
    layer: int | None = Field(default=None, ge=0)
    """Index into the hidden states (0: embeddings); by default the equivalent of 14 of 24."""
    k: int = Field(default=4, ge=1, le=1000)
    """Neighbours that a pair's cosine is weighed against."""
    margin: Literal["ratio", "distance", "absolute"] = "ratio"
    """How it is weighed."""
    matching: Literal["max", "intersect", "fwd", "bwd"] = "max"
    """Which pairs are taken; see `mining.mine_pairs`."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """What suits what is found."""
        return {"nearest": ("accuracy",), "mined": ("pair_f1",), "ranked": ("map@20",)}[self.find]

    @property
    def supported_metrics(self) -> tuple[str, ...]:
        """Rankings have a second one."""
        return (*self.metrics, "mrr@20") if self.find == "ranked" else self.metrics

    @property
    def file(self) -> Literal["lines", "pairs", "rankings"]:
        """Line numbers, pairs of ids, or lists of ids."""
        kinds: Mapping[str, Literal["lines", "pairs", "rankings"]]
        kinds = {"nearest": "lines", "mined": "pairs", "ranked": "rankings"}
        return kinds[self.find]

    @property
    def fields(self) -> tuple[str, ...]:
        """The sentence and its translation, or what rows with ids may have."""
        return self.inputs or ("query", "candidate", "id", "relevant")

    @property
    def inputs(self) -> tuple[str, ...]:
        """Both sides of aligned text; rows with ids are of two kinds and have no field in common but the id."""
        return ("source", "target") if self.find == "nearest" else ()

    @property
    def head(self) -> HeadSpec:
        """Mean pooling over all real tokens, special tokens included (as jiant and XTREME do)."""
        return HeadSpec("mean", layer=self.layer)

    def read(self, row: Row) -> Entry:
        """Make an entry of a row; in aligned text it is the translation that looks.

        Raises:
            DataError: the row is of none of the three kinds, or its relevant ids are no list.
        """
        values = row.values
        if "source" in values and "target" in values:
            number = values.get("number")  # the reader's, unless it is a column of the user's own
            return Entry(str(values["target"]), str(values["source"]), str(number) if isinstance(number, int) else None)
        if self.find == "nearest":
            hint = "sentences with ids take `find: mined` or `find: ranked`"
            raise DataError("is no line of aligned text", where=row.where, hint=hint)
        if ("query" in values) == ("candidate" in values) or "id" not in values:
            hint = nearest("query", values)
            raise DataError("needs an id and either a query or a candidate", where=row.where, hint=hint)
        id = str(values["id"])
        if "candidate" in values:
            return Entry(None, str(values["candidate"]), id)
        relevant = values.get("relevant")
        if not isinstance(relevant, list | tuple | None):
            raise DataError(f"relevant must be a list of ids, got {str(relevant)[:60]}", where=row.where)
        return Entry(str(values["query"]), None, id, None if relevant is None else tuple(map(str, relevant)))

    def is_query(self, example: Entry) -> bool:
        """Whether it looks for others."""
        return example.query is not None

    def as_candidate(self, example: Entry) -> Entry | None:
        """The candidate of aligned text."""
        return None if example.candidate is None else example._replace(query=None)

    def example_id(self, example: Entry) -> str | None:
        """The row's id; in aligned text the line's number."""
        return example.id

    def features(self, examples: Sequence[Entry], tokenizer: TokenizerLike) -> Iterator[Features]:
        """A forward pass for each text, the query's before the candidate's."""
        room = tokenizer.room(1)
        texts = [(i, text) for i, e in enumerate(examples) for text in (e.query, e.candidate) if text is not None]
        for (index, _), ids in zip(texts, tokenizer.encode([text for _, text in texts]), strict=True):
            yield Features(index, tokenizer.single(ids[:room])[0], [], [])

    def decode(self, examples: Sequence[Entry], outputs: HeadOutputs, threshold: float | None) -> list[Any]:
        """For each query the number of the nearest candidate, or a list of ids.

        Those of its translations, mostly none; without a threshold all that are mined. Or those of the nearest
        candidates, best first.
        """
        sides = self._sides(examples)
        if self.find == "mined":
            found: list[list[str]] = [[] for _ in sides.query_N]
            pairs = self._mined(examples, outputs)
            for x, y, score in zip(*(part.tolist() for part in pairs), strict=True):
                if threshold is None or score >= threshold:
                    found[x].append(sides.ids[y])
            return found
        from xstilts.compute.neighbours import neighbours

        if self.find == "nearest":
            numbers_N = np.array([int(id) for id in sides.ids])
            order_N = numbers_N.argsort()  # of equal ones the first in the file is taken
            of_queries, _ = neighbours(_vectors(outputs), sides.query_N, sides.candidate_N[order_N], 1)
            return list(numbers_N[order_N][of_queries.ids_NK[:, 0]].tolist())
        of_queries, _ = neighbours(_vectors(outputs), sides.query_N, sides.candidate_N, TOP)
        return [[sides.ids[y] for y in row] for row in of_queries.ids_NK.tolist()]

    def reference(self, example: Entry, index: int) -> int | list[str] | None:
        """Line k belongs to line k; elsewhere the relevant ids, None without labels."""
        if example.candidate is not None:
            return int(self.id(example, index)) if self.find == "nearest" else [self.id(example, index)]
        return None if example.relevant is None else list(example.relevant)

    def trivial_predictions(self, examples: Sequence[Entry]) -> Iterator[list[Any]]:
        """One candidate for all; nothing for lists of ids, whose chance depends on the candidates."""
        return iter(()) if self.find != "nearest" else super().trivial_predictions(examples)

    def calibrate(self, examples: Sequence[Entry], outputs: HeadOutputs) -> float | None:
        """The score from which on to believe mined pairs, so that their F1 is best on these examples."""
        asking = [(i, example) for i, example in enumerate(examples) if self.is_query(example)]
        right = [self.reference(example, i) for i, example in asking]
        if self.find != "mined" or None in right:
            return None
        from xstilts.formats.mining import tune_threshold

        gold = {(x, id) for x, ids in enumerate(right) if isinstance(ids, list) for id in ids}
        ids, pairs = self._sides(examples).ids, self._mined(examples, outputs)
        right_P = np.array(
            [(x, ids[y]) in gold for x, y in zip(pairs.x_P.tolist(), pairs.y_P.tolist(), strict=True)], bool
        )
        return tune_threshold(pairs.scores_P, right_P, len(gold))

    def _mined(self, examples: Sequence[Entry], outputs: HeadOutputs) -> Pairs:
        """The pairs by numbers of queries and candidates.

        A sentence that stands several times in its side is mined once, and what it is paired with is left out, because
        nobody can say which of its ids is meant (XTREME's rule).
        """
        from xstilts.compute.neighbours import neighbours
        from xstilts.formats.mining import Pairs, mine_pairs

        sides = self._sides(examples)
        x_N, x_once_N = _different([e.query for e in examples if e.query is not None])
        y_N, y_once_N = _different([e.candidate for e in examples if e.candidate is not None])
        both = neighbours(_vectors(outputs), sides.query_N[x_N], sides.candidate_N[y_N], self.k)
        pairs = mine_pairs(*both, self.margin, self.matching)
        pairs = pairs.at(x_once_N[pairs.x_P] & y_once_N[pairs.y_P])
        return Pairs(x_N[pairs.x_P], y_N[pairs.y_P], pairs.scores_P)

    def _sides(self, examples: Sequence[Entry]) -> _Sides:
        candidate_F = np.array([is_one for e in examples for is_one, text in enumerate(e[:2]) if text is not None])
        ids = [self.id(e, i) for i, e in enumerate(examples) if e.candidate is not None]
        return _Sides(np.flatnonzero(candidate_F == 0), np.flatnonzero(candidate_F), ids)


class _Sides(NamedTuple):
    """Which forward passes are queries and which are candidates, and the candidates' ids."""

    query_N: NDArray[np.int64]
    candidate_N: NDArray[np.int64]
    ids: list[str]


def _different(texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where each different text stands first, and whether it stands there only.

    >>> _different(["a", "b", "a"])
    (array([0, 1]), array([False,  True]))
    """
    counts = Counter(texts)
    first = {text: i for i, text in reversed(list(enumerate(texts)))}
    return np.array([first[text] for text in counts]), np.array([count == 1 for count in counts.values()])


def _vectors(outputs: HeadOutputs) -> NDArray[np.float32]:
    """[F, H]; no copy is made of what is mapped from the disk."""
    return np.asarray(outputs.scores, np.float32)
