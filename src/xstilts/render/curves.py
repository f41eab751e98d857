"""Draws small line charts for a web page: a few curves over the updates of a training, in the colours of the page."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from xstilts.render.figure import Series

# Lengths are in pixels, from the upper left corner.
_WIDTH, _HEIGHT = 260, 120
_LEFT, _TOP, _RIGHT, _BOTTOM = 38, 8, 252, 100
_MOST_POINTS = 15
"""Points of a curve that are drawn, the first and the last among them."""


def draw_curves(title: str, curves: Sequence[Series]) -> str:
    """An SVG element with these curves over one horizontal axis, and a description with where each begins and ends.

    Its first path is the axis, each other one a curve. The page's style sheet has their looks: a study has many charts.
    """
    points = [(x, y) for curve in curves for x, y, _ in curve.points]
    (left, right), (low, high) = _ends([x for x, _ in points]), _ends([y for _, y in points])

    def place(x: float, y: float) -> str:
        across, up = (x - left) / (right - left), (y - low) / (high - low)
        return f"{_LEFT + across * (_RIGHT - _LEFT):.0f} {_BOTTOM - up * (_BOTTOM - _TOP):.0f}"

    texts = [
        (_LEFT - 4, _TOP + 8, _rounded(high)),
        (_LEFT - 4, _BOTTOM, _rounded(low)),
        (_RIGHT, _HEIGHT - 6, f"{right:,.0f} updates"),
    ]
    parts = [
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        f"<title>{escape(title)}</title><desc>{escape(_description(curves))}</desc>",
        f'<path d="M{_LEFT} {_TOP}V{_BOTTOM}H{_RIGHT}"/>',
        *(f'<text x="{x}" y="{y}">{text}</text>' for x, y, text in texts),
    ]
    for curve in curves:
        path = "L".join(place(x, y) for x, y, _ in _thinned(curve.points))
        parts.append(f'<path d="M{path}"/>')
    return "".join([*parts, "</svg>"])


def _ends(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low, low + 1.0)


def _rounded(value: float) -> str:
    return f"{value:.3g}" if abs(value) >= 0.1 else f"{value:.1g}"


def _thinned(points: Sequence[tuple[float, float, str]]) -> list[tuple[float, float, str]]:
    if len(points) <= _MOST_POINTS:
        return [*points]
    step = (len(points) - 1) / (_MOST_POINTS - 1)
    return [points[round(i * step)] for i in range(_MOST_POINTS)]


def _description(curves: Sequence[Series]) -> str:
    parts = []
    for curve in curves:
        (start, first, _), (end, last, _) = curve.points[0], curve.points[-1]
        parts.append(f"{curve.name}: {first:.3g} at update {start:,.0f}, {last:.3g} at update {end:,.0f}")
    return ". ".join(parts) + "."
