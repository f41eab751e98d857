"""Draws figures as one SVG file, with a description of each for those who cannot see them.

Markers differ in shape, and also in colour: the colours are those of Okabe and Ito that contrast with white, which
colour-blind readers tell apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from math import floor, log10
from textwrap import wrap
from unicodedata import east_asian_width
from xml.sax.saxutils import escape

from xstilts.render.figure import Chart, Figure, Matrix, Series

# Lengths are in pixels, from the upper left corner.
_WIDTH = 960
_LEFT, _RIGHT = 64, 16
_SPAN = _WIDTH - _LEFT - _RIGHT
_HEIGHT = 300
"""Of the part of a chart with the points."""
_MARGIN = 12
"""Between the frame and the first and last number of a logarithmic axis, and between two names above it."""
_APART = 10
"""Between the markers of two series over a name, so that equal scores do not hide one another; less if many."""
_LINE = 18
_CHARACTER = 6.6
"""The mean width of a letter at 12 pixels, rounded up."""
_LABEL = 80
"""The most letters of a label; a longer one ends with dots."""
_CELL, _COLUMN, _WIDE_COLUMN = 26, 38, 90
"""The height of a matrix's cells, and their least and greatest width."""
_TINT = 0.5
"""The share of colour behind the largest number of a matrix; the number stays readable."""
_BLACK, _BLUE, _ORANGE = (0, 0, 0), (0, 114, 178), (213, 94, 0)
_COLOURS = ("#000", "#0072b2", "#d55e00", "#009e73", "#cc79a7")
_MARKERS = (
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0Z",
    "M-4 -4H4V4H-4Z",
    "M0 -5L5 4H-5Z",
    "M0 -5.5L5.5 0L0 5.5L-5.5 0Z",
    "M0 5L5 -4H-5Z",
    "M-5 -3L-3 -5L0 -2L3 -5L5 -3L2 0L5 3L3 5L0 2L-3 5L-5 3L-2 0Z",
    "M-1.5 -5H1.5V-1.5H5V1.5H1.5V5H-1.5V1.5H-5V-1.5H-1.5Z",
    "M0 -5.5L5 -1.5L3 5H-3L-5 -1.5Z",
)
"""Outlines: circle, square, triangle, diamond, triangle, crosses, pentagon; with each colour 40 different markers."""
_DASHES = ("", "7 3", "2 3", "9 3 2 3")

_FITTING = ' style="max-width:100%;height:auto"'


def draw_figures(figures: Sequence[Figure], legend: Sequence[str], *, id_prefix: str = "") -> str:
    """One SVG document with all figures, one below the other, and a report's legend below them.

    With a prefix for its ids it is a part of a page, whose style sheet sets its width.
    """
    parts, titles, y = list[str](), [figure.title for figure in figures], 8.0
    for number, figure in enumerate(figures):
        head = [
            _text(8, (i + 1) * _LINE - 4, line, 'font-weight="bold"') for i, line in enumerate(_lines(figure.title))
        ]
        draw = (
            _chart(figure, len(head) * _LINE + 8) if isinstance(figure, Chart) else _matrix(figure, len(head) * _LINE)
        )
        body, height = draw
        title = f'<title id="{id_prefix}title{number}">{escape(figure.title)}</title>'
        parts.append(
            f'<g transform="translate(0 {y:g})" role="group" aria-labelledby="{id_prefix}title{number}">{title}'
        )
        parts += [*head, *body, "</g>"]
        y += height + 2 * _LINE
    for line in (part for text in legend for part in _lines(text)):
        parts.append(_text(8, y, line))
        y += _LINE
    start = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y:g}" viewBox="0 0 {_WIDTH} {y:g}" '
        f'role="img" aria-labelledby="{id_prefix}title {id_prefix}description" '
        f'font-family="Arial, Helvetica, sans-serif" font-size="12"{"" if id_prefix else _FITTING}>'
    )
    described = f'<title id="{id_prefix}title">{escape("; ".join(titles))}</title>'
    described += f'<desc id="{id_prefix}description">{escape(" ".join(map(_description, figures)))}</desc>'
    return "\n".join([start, described, '<rect width="100%" height="100%" fill="#fff"/>', *parts, "</svg>"]) + "\n"


def _description(figure: Figure) -> str:
    """All numbers of a figure as text."""
    if isinstance(figure, Matrix):
        shown = [[_number(value, figure.signed) for value in values] for values in figure.values]
        cells = [", ".join(map(" ".join, zip(figure.columns, values, strict=True))) for values in shown]
        rows = [f"{row}: {values}" for row, values in zip(figure.rows, cells, strict=True)]
        return f"{figure.title}. {'. '.join(rows)}."
    at = "" if figure.ticks else " at {:g}"
    rows = [
        f"{one.name}: " + ", ".join(f"{name} {y:.1f}" + at.format(x) for x, y, name in one.points if name)
        for one in figure.series
    ]
    return f"{figure.title}. {figure.y_title} over {figure.x_title}. {'. '.join(rows)}."


def _number(value: float | None, signed: bool) -> str:
    return "-" if value is None else f"{value:+z.1f}" if signed else f"{value:z.1f}"


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{round(x, 1):g}" y="{round(y, 1):g}"{" " * bool(more)}{more}>{escape(text)}</text>'


def _turned(x: float, y: float, text: str, degrees: int, more: str = "") -> str:
    return _text(x, y, text, f'transform="rotate({degrees} {x:.1f} {y:.1f})" {more}'.strip())


def _width(text: str) -> float:
    """About how many pixels a text takes; Chinese characters, Kana and Hangul are twice as wide as letters."""
    return _CHARACTER * (len(text) + sum(east_asian_width(letter) in "WF" for letter in text))


def _clipped(text: str) -> str:
    return text if len(text) <= _LABEL else text[: _LABEL - 1] + "…"


def _lines(text: str) -> list[str]:
    """The text in lines that fit."""
    return wrap(text, int(len(text) * (_WIDTH - _LEFT) / max(_width(text), 1.0)) + 1)


def _chart(chart: Chart, top: float) -> tuple[list[str], float]:
    """The elements of a chart below its title, and where they end."""
    points = [point for one in chart.series for point in one.points]
    low, high, step = _axis([y for _, y, _ in points])
    at, ticks = _horizontal(chart)
    above = [] if chart.ticks else _names_above([(at(x), name.split()[0]) for x, _, name in points])
    top += max((_width(name) for _, name in above), default=0.0)
    bottom = top + _HEIGHT

    def height(y: float) -> float:
        return bottom - (y - low) / (high - low) * _HEIGHT

    body = [_turned(x + 4, top - 4, name, -90) for x, name in above]
    for value in (round(low + i * step, 9) for i in range(int((high - low) / step + 1.5))):
        body.append(f'<path d="M{_LEFT} {height(value):.1f}h{_SPAN}" stroke="#ccc"/>')
        body.append(_text(_LEFT - 6, height(value) + 4, f"{value:g}", 'text-anchor="end"'))
    body.append(f'<rect x="{_LEFT}" y="{top:.1f}" width="{_SPAN}" height="{_HEIGHT}" fill="none" stroke="#000"/>')
    body.append(_turned(14, top + _HEIGHT / 2, chart.y_title, -90, 'text-anchor="middle"'))
    longest = max(_width(name) for _, name in ticks)
    if chart.ticks and longest > _SPAN / len(ticks):
        body += [_turned(at(x), bottom + 12, name, -60, 'text-anchor="end"') for x, name in ticks]
        below = bottom + longest * 0.87 + 22
    else:
        body += [_text(at(x), bottom + 16, name, 'text-anchor="middle"') for x, name in ticks]
        below = bottom + 34
    body.append(_text((_LEFT + _WIDTH) / 2, below, chart.x_title, 'text-anchor="middle"'))
    filled, hollow, lines = count(), count(), count()
    looks = [(one, _look(one, next(lines if one.line else hollow if one.hollow else filled))) for one in chart.series]
    dots = [one for one in chart.series if not one.line and not one.joined]
    apart = min(_APART, 0.7 * _SPAN / len(ticks) / len(dots)) if chart.ticks and dots else 0.0
    for one, look in looks:
        aside = apart * (dots.index(one) - (len(dots) - 1) / 2) if one in dots else 0.0
        placed = [(at(x) + aside, height(y), f"{one.name}, {name}: {y:.1f}") for x, y, name in one.points]
        body += [_line(one, _THIN if one.joined else look, placed)] if one.line or one.joined else []
        body += [] if one.line else [_marker(look, *point) for point in placed]
    key, end = _key(looks, below + _LINE + 2)
    return [*body, *key], end


def _horizontal(chart: Chart) -> tuple[Callable[[float], float], list[tuple[float, str]]]:
    """Where a number of the horizontal axis lies, and the numbers to show, each with its name."""
    if chart.ticks:
        return lambda x: _LEFT + (x + 0.5) * _SPAN / len(chart.ticks), [*enumerate(chart.ticks)]
    numbers = [x for one in chart.series for x, _, _ in one.points]
    low, high = min(numbers), max(numbers)
    unit = (_SPAN - 2 * _MARGIN) / (log10(high / low) or 1.0)
    powers = range(floor(log10(low)), floor(log10(high)) + 1)
    shown = [x for power in powers for k in (1, 2, 5) if low <= (x := k * 10.0**power) <= high]
    return lambda x: _LEFT + _MARGIN + log10(x / low) * unit, [(x, f"{x:g}") for x in shown or {low, high}]


def _axis(values: Sequence[float]) -> tuple[float, float, float]:
    """The ends of an axis and the distance of its numbers, all round."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    span = (high - low) or max(abs(high), 1.0)
    power = 10.0 ** floor(log10(span / 5))
    step = power * next(x for x in (1, 2, 5, 10) if span / 5 <= x * power * (1 + 1e-9))
    first, last = floor(low / step) * step, -floor(-high / step) * step
    return first, last if last > first else first + step, step


def _names_above(names: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """The names at each pixel; those too close to be read apart stand together at the first one's."""
    found = dict[float, dict[str, None]]()
    for x, name in sorted(names):
        first = next(reversed(found), None)
        if first is None or x - first > _MARGIN:
            found[first := x] = {}
        found[first][name] = None
    return [(x, " ".join(of)) for x, of in found.items()]


_THIN = 'fill="none" stroke="#000" stroke-width="0.6"'


def _look(one: Series, number: int) -> str:
    """The attributes of the number-th line or marker."""
    if one.line:
        return f'fill="none" stroke="#000" stroke-width="1.5" stroke-dasharray="{_DASHES[number % len(_DASHES)]}"'
    colour = _COLOURS[number % len(_COLOURS)]
    paint = f'fill="#fff" stroke="{colour}"' if one.hollow else f'fill="{colour}" stroke="#fff" stroke-width="0.5"'
    return f'd="{_MARKERS[number % len(_MARKERS)]}" {paint}'


def _marker(look: str, x: float, y: float, name: str) -> str:
    return f'<path transform="translate({x:.1f} {y:.1f})" {look}><title>{escape(name)}</title></path>'


def _line(one: Series, look: str, points: Sequence[tuple[float, float, str]]) -> str:
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y, _ in points)
    return f'<path d="M{path}" {look}><title>{escape(one.name)}</title></path>'


def _key(looks: Sequence[tuple[Series, str]], y: float) -> tuple[list[str], float]:
    """What each marker and line means, in lines below a chart; also where it ends."""
    body, x = list[str](), float(_LEFT)
    for one, look in looks:
        name = _clipped(one.name)
        width = 34 + _width(name)
        if x > _LEFT and x + width > _WIDTH:
            x, y = float(_LEFT), y + _LINE
        sign = f'd="M-11 0H11" {look}' if one.line else look
        body.append(f'<path transform="translate({x + 11:g} {y - 4:g})" {sign}/>')
        body.append(_text(x + 28, y, name))
        x += width + 10
    return body, y + 4


def _matrix(matrix: Matrix, y: float) -> tuple[list[str], float]:
    """The elements of a matrix below its title, and where they end; columns that do not fit go below.

    The larger a number, the darker its cell: grey, or with signs blue above zero and orange below.
    """
    label = 16 + max((_width(_clipped(name)) for name in matrix.rows), default=0.0)
    head = max(map(_width, matrix.columns), default=0.0)
    free = _WIDTH - label - max(_RIGHT, head * 0.82 - _COLUMN / 2)
    fitting = max(1, int(free // _COLUMN))
    wide = min(_WIDE_COLUMN, free / min(fitting, max(len(matrix.columns), 1)))
    most = max((abs(x) for row in matrix.values for x in row if x is not None), default=0.0) or 1.0
    body = list[str]()
    for first in range(0, len(matrix.columns), fitting):
        columns = range(first, min(first + fitting, len(matrix.columns)))
        y += _LINE + head * 0.6
        for x, j in enumerate(columns):
            at = label + (x + 0.5) * wide
            body.append(_turned(at, y - 6, matrix.columns[j], -35))
        for name, values in zip(matrix.rows, matrix.values, strict=True):
            body.append(_text(8, y + 17, _clipped(name)))
            for x, j in enumerate(columns):
                left, fill = label + x * wide, _tint(values[j] or 0.0, most, matrix.signed)
                size = f'width="{wide:.1f}" height="{_CELL}" fill="{fill}" stroke="#000"'
                body.append(f'<rect x="{left:.1f}" y="{y:.1f}" {size}/>')
                body.append(_text(left + wide / 2, y + 17, _number(values[j], matrix.signed), 'text-anchor="middle"'))
            y += _CELL
    return body, y


def _tint(value: float, most: float, signed: bool) -> str:
    full = _BLACK if not signed else _BLUE if value > 0 else _ORANGE
    share = _TINT * abs(value) / most
    return f"rgb({','.join(str(round(255 - share * (255 - part))) for part in full)})"
