"""Draws figures as one SVG file, in black and white, with a description of each for those who cannot see them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from math import floor, log10
from xml.sax.saxutils import escape

from xstilts.render.figure import Chart, Figure, Matrix, Series

# Lengths are in pixels, from the upper left corner.
_WIDTH = 960
_LEFT, _RIGHT = 64, 16
_HEIGHT = 300
"""Of the part of a chart with the points."""
_LINE = 18
_CHARACTER = 6.6
"""The mean width of a letter at 12 pixels, rounded up."""
_CELL = 26
_GREY = 0.5
"""The share of black behind the largest number of a matrix; the number stays readable."""
_DASHES = ("", "7 3", "2 3", "9 3 2 3")
_MARKERS = (
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0Z",
    "M-4 -4H4V4H-4Z",
    "M0 -5L5 4H-5Z",
    "M0 -5.5L5.5 0L0 5.5L-5.5 0Z",
    "M0 5L5 -4H-5Z",
    "M-4 -4L4 4M-4 4L4 -4",
    "M-5 0H5M0 -5V5",
    "M-5 0H5M-3 -4L3 4M-3 4L3 -4",
)
"""Outlines of the markers: circle, square, triangles, diamond, crosses, star."""


def draw_figures(figures: Sequence[Figure], legend: Sequence[str]) -> str:
    """One SVG document with all figures, one below the other, and a report's legend below them."""
    parts, titles, y = list[str](), [figure.title for figure in figures], 8.0
    for number, figure in enumerate(figures):
        body, height = _chart(figure) if isinstance(figure, Chart) else _matrix(figure)
        title = f'<title id="title{number}">{escape(figure.title)}</title>'
        parts.append(f'<g transform="translate(0 {y:g})" role="group" aria-labelledby="title{number}">{title}')
        parts += [*body, "</g>"]
        y += height + 2 * _LINE
    for line in (part for text in legend for part in _wrapped(text)):
        parts.append(_text(8, y, line))
        y += _LINE
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y:g}" viewBox="0 0 {_WIDTH} {y:g}" '
        'role="img" aria-labelledby="title description" font-family="sans-serif" font-size="12">'
    )
    described = f'<title id="title">{escape("; ".join(titles))}</title>'
    described += f'<desc id="description">{escape(" ".join(map(_description, figures)))}</desc>'
    return "\n".join([head, described, '<rect width="100%" height="100%" fill="#fff"/>', *parts, "</svg>"]) + "\n"


def _description(figure: Figure) -> str:
    """All numbers of a figure as text."""
    if isinstance(figure, Matrix):
        shown = [[_number(value, figure.signed) for value in values] for values in figure.values]
        cells = [", ".join(map(" ".join, zip(figure.columns, values, strict=True))) for values in shown]
        rows = [f"{row}: {values}" for row, values in zip(figure.rows, cells, strict=True)]
        return f"{figure.title}. {'. '.join(rows)}."
    rows = [f"{one.name}: " + ", ".join(f"{name} {y:.1f}" for _, y, name in one.points) for one in figure.series]
    return f"{figure.title}. {figure.y_title} over {figure.x_title}. {'. '.join(rows)}."


def _number(value: float | None, signed: bool) -> str:
    return "-" if value is None else f"{value:+z.1f}" if signed else f"{value:z.1f}"


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}"{" " * bool(more)}{more}>{escape(text)}</text>'


def _wrapped(text: str) -> Iterator[str]:
    """The text in lines that fit."""
    line = ""
    for word in text.split(" "):
        if line and (len(line) + 1 + len(word)) * _CHARACTER > _WIDTH - _LEFT:
            yield line
            line = word
        else:
            line = f"{line} {word}".strip()
    yield line


def _chart(chart: Chart) -> tuple[list[str], float]:
    """The elements of a chart and its height."""
    points = [point for one in chart.series for point in one.points]
    low, high, y_step = _axis([y for _, y, _ in points])
    left, right, x_step = _axis([x for x, _, _ in points]) if not chart.ticks else (-0.5, len(chart.ticks) - 0.5, 1.0)
    top = 1.5 * _LINE

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            _LEFT + (x - left) / (right - left) * (_WIDTH - _LEFT - _RIGHT),
            top + (high - y) / (high - low) * _HEIGHT,
        )

    bottom = top + _HEIGHT
    body = [_text(8, _LINE - 4, chart.title, 'font-weight="bold"')]
    size = f'width="{_WIDTH - _LEFT - _RIGHT}" height="{_HEIGHT}"'
    body.append(f'<rect x="{_LEFT}" y="{top:g}" {size} fill="none" stroke="#000"/>')
    for value in _steps(low, high, y_step):
        _, y = at(left, value)
        body.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="#ccc"/>')
        body.append(_text(_LEFT - 6, round(y + 4, 1), f"{value:g}", 'text-anchor="end"'))
    middle = top + _HEIGHT / 2
    body.append(_text(14, middle, chart.y_title, f'text-anchor="middle" transform="rotate(-90 14 {middle:g})"'))
    names = [(float(i), name) for i, name in enumerate(chart.ticks)] or [
        (x, f"{x:g}") for x in _steps(left, right, x_step)
    ]
    long = bool(chart.ticks) and max(map(len, chart.ticks)) * _CHARACTER > (_WIDTH - _LEFT) / len(chart.ticks)
    for value, name in names:
        x, _ = at(value, low)
        turned = (
            f'text-anchor="end" transform="rotate(-50 {x:.1f} {bottom + 12:g})"' if long else 'text-anchor="middle"'
        )
        body.append(_text(round(x, 1), bottom + (12 if long else 16), name, turned))
    depth = max(len(name) for _, name in names) * _CHARACTER * 0.8 + 12 if long else 24
    body.append(_text((_LEFT + _WIDTH) / 2, bottom + depth + 10, chart.x_title, 'text-anchor="middle"'))
    marks, lines = count(), count()
    styles = [(one, next(lines if one.line else marks)) for one in chart.series]
    for one, style in styles:
        body += _series(one, style, [(*at(x, y), f"{one.name}, {name}: {y:.1f}") for x, y, name in one.points])
    key, height = _key(styles, bottom + depth + _LINE + 12)
    return [*body, *key], height


def _axis(values: Sequence[float]) -> tuple[float, float, float]:
    """The ends of an axis and the distance of its numbers, all round."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    span = (high - low) or max(abs(high), 1.0)
    power = 10.0 ** floor(log10(span / 5))
    step = power * next(x for x in (1, 2, 5, 10) if span / 5 <= x * power * (1 + 1e-9))
    first, last = floor(low / step) * step, -floor(-high / step) * step
    return first, last if last > first else first + step, step


def _steps(low: float, high: float, step: float) -> list[float]:
    return [round(low + i * step, 9) for i in range(int((high - low) / step + 1.5))]


def _series(one: Series, style: int, points: Sequence[tuple[float, float, str]]) -> list[str]:
    """The elements of a series, at pixels; each point has its name and number."""
    if one.line:
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y, _ in points)
        return [f'<path d="M{path}" {_dashed(style)}><title>{escape(one.name)}</title></path>'] if points else []
    return [
        f'<path transform="translate({x:.1f} {y:.1f})" {_marker(one, style)}><title>{escape(name)}</title></path>'
        for x, y, name in points
    ]


def _dashed(style: int) -> str:
    return f'fill="none" stroke="#000" stroke-width="1.5" stroke-dasharray="{_DASHES[style % len(_DASHES)]}"'


def _marker(one: Series, style: int) -> str:
    hollow = one.hollow or style // len(_MARKERS) % 2 == 1
    return f'd="{_MARKERS[style % len(_MARKERS)]}" stroke="#000" fill="{"#fff" if hollow else "#000"}"'


def _key(styles: Sequence[tuple[Series, int]], y: float) -> tuple[list[str], float]:
    """What each marker and line means, in lines below a chart; also where it ends."""
    body, x = list[str](), float(_LEFT)
    for one, style in styles:
        width = 34 + len(one.name) * _CHARACTER
        if x > _LEFT and x + width > _WIDTH:
            x, y = float(_LEFT), y + _LINE
        sign = f'd="M0 0H22" {_dashed(style)}' if one.line else _marker(one, style)
        body.append(f'<path transform="translate({x + (0 if one.line else 11):g} {y - 4:g})" {sign}/>')
        body.append(_text(x + 28, y, one.name))
        x += width + 10
    return body, y + 4


def _matrix(matrix: Matrix) -> tuple[list[str], float]:
    """The elements of a matrix and its height: darker grey for larger numbers, whatever their sign."""
    label = 16 + max((len(name) for name in matrix.rows), default=0) * _CHARACTER
    wide = min(90.0, (_WIDTH - label - _RIGHT) / max(len(matrix.columns), 1))
    top = 2 * _LINE + max((len(name) for name in matrix.columns), default=0) * _CHARACTER * 0.6
    most = max((abs(x) for row in matrix.values for x in row if x is not None), default=0.0) or 1.0
    body = [_text(8, _LINE - 4, matrix.title, 'font-weight="bold"')]
    for j, name in enumerate(matrix.columns):
        x = label + (j + 0.4) * wide
        body.append(_text(round(x, 1), round(top - 6, 1), name, f'transform="rotate(-35 {x:.1f} {top - 6:.1f})"'))
    for i, (name, values) in enumerate(zip(matrix.rows, matrix.values, strict=True)):
        y = top + i * _CELL
        body.append(_text(8, round(y + 17, 1), name))
        for j, value in enumerate(values):
            shade = round(255 * (1 - _GREY * abs(value or 0.0) / most))
            x = label + j * wide
            look = f'width="{wide:.1f}" height="{_CELL}" fill="rgb({shade},{shade},{shade})" stroke="#000"'
            body.append(f'<rect x="{x:.1f}" y="{y:.1f}" {look}/>')
            shown = _number(value, matrix.signed)
            body.append(_text(round(x + wide / 2, 1), round(y + 17, 1), shown, 'text-anchor="middle"'))
    return body, top + len(matrix.rows) * _CELL
