"""What a terminal can show: whether lines may be redrawn, whether there are colours, and text that fits its width."""

from __future__ import annotations

import os
import re
from typing import TextIO

from rich.cells import cell_len, chop_cells
from rich.console import Console

_WORD = re.compile(r"\s*\S+(?:(?<=\d) (?:%|[kMG]?B)(?!\w)\S*)?")
"""A word with the blanks before it; a number's unit is part of it."""
_MARKS = ("+/", "-_")
"""Where a word longer than a line is broken: after one of the first marks, or else of the second."""
_LEAST = 8
"""The least columns for a word, however narrow the window."""
INDENT = "  "
"""Begins each further line of a wrapped one."""


def can_redraw(stream: TextIO) -> bool:
    """Whether a stream is a terminal that can redraw lines; not on a build server (`CI`), nor with `TERM=dumb`."""
    on_server = os.environ.get("CI", "").lower() not in ("", "0", "false")
    return stream.isatty() and Console(file=stream).is_interactive and not on_server


def has_colours(stream: TextIO) -> bool:
    """Whether a stream is a terminal with colours and bold type; not with `NO_COLOR`, nor with `TERM=dumb`."""
    console = Console(file=stream)
    return stream.isatty() and console.color_system is not None and not console.no_color


def wrap(line: str, width: int, indent: str = INDENT) -> list[str]:
    """A line as lines of at most `width` columns, broken at blanks; the further ones are indented.

    A word longer than a line is broken after one of its `+/-_`, else anywhere.

    >>> wrap("play-nli, play-same: mean over 8 languages", 30)
    ['play-nli, play-same: mean over', '  8 languages']
    >>> wrap("play-same+0.12xplay-text+play-nli", 24)
    ['play-same+', '  0.12xplay-text+', '  play-nli']
    """
    indent = (re.match(r" *", line) or [""])[0] + indent
    width = max(width, len(indent) + _LEAST)
    lines, current = list[str](), ""
    for word in _WORD.findall(line):
        if current and cell_len(current + word) > width:
            lines.append(current)
            current = indent + word.lstrip()
        else:
            current += word
        while cell_len(current) > width:
            head = chop_cells(current, width)[0]
            ends = (max(head.rfind(mark, len(indent)) for mark in marks) + 1 for marks in _MARKS)
            end = next(filter(None, ends), len(head))
            lines.append(current[:end])
            current = indent + current[end:]
    return [*lines, current]
