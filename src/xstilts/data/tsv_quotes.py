"""Removes the CSV quoting of tab-separated files, which XTREME's scripts added to XNLI and PAWS-X.

CSV quoting wraps each cell that contains a quotation mark in quotation marks, and doubles those inside. An unquoted
file has cells like `"Ein Satz"` or `a "b"`, and is not changed. A file that was quoted twice is unquoted twice.
"""

from __future__ import annotations

from xstilts.data.lines import UNREADABLE, opened


def quoting_depth(path: str) -> int:
    """How often a tab-separated file was CSV-quoted: the lowest depth of its cells with a quotation mark.

    Reading stops at the first cell of depth 0.
    """
    lowest = 0
    try:
        with opened(path) as stream:
            for line in stream:
                if b'"' in line:
                    for cell in line.rstrip(b"\r\n").split(b"\t"):
                        if b'"' in cell:
                            count = depth(cell)
                            if count == 0:
                                return 0
                            lowest = min(lowest or count, count)
    except UNREADABLE:
        return 0  # reading the rows will report the error
    return lowest


def depth(cell: bytes) -> int:
    """How often a CSV writer may have quoted a cell.

    >>> [depth(cell) for cell in (b'"say ""no"" again"', b'"no"', b'say ""no"" again', b'"say "no" again"')]
    [1, 0, 0, 0]
    >>> depth(b'"' + b'"say ""no"" again"'.replace(b'"', b'""') + b'"')
    2
    """
    count = 0
    while len(cell) > 2 and cell.startswith(b'"') and cell.endswith(b'"'):
        inside = cell[1:-1]
        if b'""' not in inside or b'"' in inside.replace(b'""', b""):
            break
        count, cell = count + 1, inside.replace(b'""', b'"')
    return count


def unquote(cell: str, count: int) -> str:
    """Undo `count` CSV quotings of a cell.

    >>> unquote('"say ""no"" again"', 1), unquote("yes", 1)
    ('say "no" again', 'yes')
    """
    if '"' in cell:
        for _ in range(count):
            cell = cell[1:-1].replace('""', '"')
    return cell
