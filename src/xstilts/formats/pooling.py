"""How the hidden states of a text become one vector: which layers are pooled, and how."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

from pydantic import AfterValidator, BeforeValidator

PoolingKind: TypeAlias = Literal["mean", "cls", "concat"]
"""The mean over a layer's tokens, a layer's first token, or the means of several layers one after another."""
ScoreLayers: TypeAlias = Literal["all"] | tuple[int, ...]
"""The hidden states (0: embeddings) for `mean` and `cls`."""
KINDS: tuple[PoolingKind, ...] = ("mean", "cls", "concat")
PARTS = 3
"""The layers are concatenated in so many parts (bottom, middle, top; XTREME, appendix I); an encoder needs as many."""


MAX_LAYER = 10**4


def _as_poolings(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _check_poolings(value: tuple[PoolingKind, ...] | None) -> tuple[PoolingKind, ...] | None:
    """The kinds of pooling in one order, so that the order in which they are written changes no step."""
    if value is None:
        return None
    _check_list(value, "pooling")
    return tuple(kind for kind in KINDS if kind in value)


def _as_layers(value: Any) -> Any:
    if value in (None, "all") or isinstance(value, list | tuple):
        return value
    if isinstance(value, dict) or (isinstance(value, str) and not value.removeprefix("-").isdecimal()):
        raise ValueError("needs `all`, a layer, or a list of layers")
    return [value]


def _check_layers(value: ScoreLayers | None) -> ScoreLayers | None:
    """The layers in order."""
    if value is None or value == "all":
        return value
    _check_list(value, "layer")
    for layer in value:
        if not 0 <= layer <= MAX_LAYER:
            raise ValueError(f"a layer is from 0 (the embeddings) to {MAX_LAYER:,}, got {layer}")
    return tuple(sorted(value))


def _check_list(value: Sequence[str | int], what: str) -> None:
    if not value:
        raise ValueError(f"names no {what}")
    for one in value:
        if value.count(one) > 1:
            raise ValueError(f"names {one} twice")


Poolings = Annotated[tuple[PoolingKind, ...] | None, BeforeValidator(_as_poolings), AfterValidator(_check_poolings)]
"""Kinds of pooling, each once, as a user may write them."""
Layers = Annotated[ScoreLayers | None, BeforeValidator(_as_layers), AfterValidator(_check_layers)]
"""Layers, each once, as a user may write them."""


class Pooling(NamedTuple):
    """A kind of pooling with its hidden states (0: embeddings); only `concat` has several."""

    kind: PoolingKind
    layers: tuple[int, ...]

    @property
    def label(self) -> str:
        """As in XTREME's Table 10.

        >>> Pooling("mean", (6,)).label, Pooling("cls", (12,)).label, Pooling("concat", (5, 6, 7, 8)).label
        ('Layer 6', 'CLS 12', 'Layer 5-8')
        """
        if self.kind == "concat":
            return f"Layer {self.layers[0]}-{self.layers[-1]}"
        return f"{'CLS' if self.kind == 'cls' else 'Layer'} {self.layers[0]}"


def select(kinds: Collection[PoolingKind], layers: ScoreLayers, num_layers: int) -> list[Pooling]:
    """The poolings of an encoder with `num_layers` layers.

    `concat` has the bottom, the middle and the top third of them, whatever `layers` are: 1 to 4, 5 to 8, 9 to 12 of 12.
    `all` leaves out the first token of the embeddings, which is the same for all texts.

    >>> [pooling.label for pooling in select(["cls", "concat"], "all", 3)]
    ['CLS 1', 'CLS 2', 'CLS 3', 'Layer 1-1', 'Layer 2-2', 'Layer 3-3']
    >>> [pooling.label for pooling in select(["mean", "concat"], (0, 7), 7)]
    ['Layer 0', 'Layer 7', 'Layer 1-2', 'Layer 3-5', 'Layer 6-7']
    """
    layers_of = {"mean": range(num_layers + 1), "cls": range(1, num_layers + 1)}
    single = [
        Pooling(kind, (layer,))
        for kind in KINDS[:2]
        if kind in kinds
        for layer in (layers_of[kind] if layers == "all" else layers)
    ]
    ends = [int(num_layers * part / PARTS + 0.5) for part in range(PARTS + 1)]
    thirds = [tuple(range(first + 1, last + 1)) for first, last in pairwise(ends)]
    return single + [Pooling("concat", third) for third in thirds if "concat" in kinds]
