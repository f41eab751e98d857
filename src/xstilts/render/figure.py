"""Figures as plain values, before they are drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Series:
    """Points with one marker; `line` joins them by a line without markers, `joined` by a thin one with them.

    A point is x, y and its name, which a reader of the file sees beside it; empty between the named points of a line.
    `hollow` series have the shapes of the filled ones, in the same order.
    """

    name: str
    points: tuple[tuple[float, float, str], ...]
    line: bool = False
    hollow: bool = False
    joined: bool = False


@dataclass(frozen=True)
class Chart:
    """Series over one horizontal axis: `ticks` with a name for each of 0, 1, 2, ..., or a logarithmic one.

    Above a logarithmic axis stands the first word of each point's name.
    """

    title: str
    x_title: str
    y_title: str
    series: tuple[Series, ...]
    ticks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Matrix:
    """A number for each row and column; None where there is none. `signed` numbers are shown with their sign."""

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]
    signed: bool = False


Figure: TypeAlias = Chart | Matrix
