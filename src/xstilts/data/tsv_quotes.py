"""Undo the quotation marks of tables that were written as CSV with tabs, as XTREME's XNLI and PAWS-X files were.

Such a file has every cell with a quotation mark wrapped in quotation marks, and those inside doubled. A table that was
never written so has cells like `"Ein Satz"` or `a "b"`, and stays as it is. One that was written so twice, because the
first result was read without regard to quotation marks, is unwrapped twice.
"""

from __future__ import annotations

from xstilts.data.lines import UNREADABLE, opened


def times(path: str) -> int:
    """How often a tab-separated file was written as CSV: all its cells with a quotation mark must look so.

    The first cell that does not look so decides, so that a raw file is hardly read; of one so written all is read.
    """
    least = 0
    try:
        with opened(path) as stream:
            for line in stream:
                if b'"' in line:
                    for cell in line.rstrip(b"\r\n").split(b"\t"):
                        if b'"' in cell:
                            count = depth(cell)
                            if count == 0:
                                return 0
                            least = min(least or count, count)
    except UNREADABLE:
        return 0  # reading the rows will say what is wrong
    return least


def depth(cell: bytes) -> int:
    """How often a CSV writer may have written a cell.

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


def unwrapped(cell: str, count: int) -> str:
    """The cell that was written so many times.

    >>> unwrapped('"say ""no"" again"', 1), unwrapped("yes", 1)
    ('say "no" again', 'yes')
    """
    if '"' in cell:
        for _ in range(count):
            cell = cell[1:-1].replace('""', '"')
    return cell
