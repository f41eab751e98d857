"""A report as text: for the terminal, Markdown, CSV, JSON, LaTeX, SVG."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, fields, replace

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from xstilts.errors import UserError, nearest
from xstilts.render.svg import draw_figures
from xstilts.render.table import Document, Table, TableCell
from xstilts.utils.terminal import wrap

_GAP = 2  # blanks between columns
_NAME_WIDTH = 12
"""The least width of names, in columns, before a window is too narrow for a table."""


def render(document: Document, format: str = "table", *, width: int = 100, colour: bool = False) -> str:
    """Write a document as text that ends with a line end.

    Args:
        document: of any layout.
        format: a name in `FORMATS`. `table`, `markdown` and `latex` show the layout's tables, rounded; `csv` and `json`
            hold every number, whatever the layout shows; `svg` draws its figures.
        width: columns of the terminal. A wider table is transposed, or else folded into several that repeat the first
            column; lines of text are broken at blanks. Only for `table`.
        colour: whether to use the terminal's colours and bold type. Only for `table`.

    Raises:
        UserError: for an unknown format, or `svg` of a document without figures.
    """
    if format == "table":
        return draw(document.tables, document.legend, width=width, colour=colour)
    if format not in FORMATS:
        raise UserError(f"there is no report format '{format}'", hint=nearest(format, FORMATS))
    return _WRITERS[format](document)


def draw(shown: Sequence[Table], lines: Sequence[str], *, width: int = 100, colour: bool = False) -> str:
    """Draw tables for a terminal, with lines of explanation below; see `render`."""
    out = io.StringIO()
    console = Console(
        file=out, width=width, force_terminal=colour, color_system="standard" if colour else None,
        force_jupyter=False,  # in a notebook rich would show the text instead of writing it
    )  # fmt: skip
    for table in shown:
        console.print(Text("\n".join(wrap(table.title, width)), style="bold"))
        panels = _panels(table, width)
        if (len(panels) > 1 or table.tall) and len(transposed := _panels(_transposed(table), width)) == 1:
            panels = transposed
        for panel in panels:
            console.print(panel)
            console.print()
    for line in lines:
        console.print(Text("\n".join(wrap(line, width)), style="dim"))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _panels(table: Table, width: int) -> list[RichTable]:
    """The table, folded if it is too wide. Names are broken where a column is wider than the window, numbers never."""
    cells = [_aligned_cells([row[1][i] for row in table.rows]) for i in range(len(table.columns))]
    numbers = [max((cell_len(cell.plain) for cell in column), default=0) for column in cells]
    labels = [table.corner, *(label for label, _ in table.rows)]
    longest = max(map(cell_len, labels))
    label_width = max(min(longest, width - _GAP - max([*numbers, _NAME_WIDTH])), min(longest, _NAME_WIDTH))
    heads = [
        "\n".join(line for name in head if name for line in wrap(name, max(number, width - label_width - _GAP), ""))
        for head, number in zip(table.columns, numbers, strict=True)
    ]
    labels = ["\n".join(wrap(label, label_width)) for label in labels]
    widths = [max(number, *map(cell_len, head.split("\n"))) for head, number in zip(heads, numbers, strict=True)]
    label_width = max(cell_len(line) for label in labels for line in label.split("\n"))
    return [_rich_table(table, labels, heads, cells, chosen) for chosen in _column_groups(widths, width - label_width)]


def _transposed(table: Table) -> Table:
    """The table with a row for each column, units beside the names."""
    wide = max((cell_len(name) for name, _ in table.columns), default=0)
    labels = [f"{set_cell_size(name, wide)}  {unit}".rstrip() for name, unit in table.columns]
    entries = zip(*(row for _, row in table.rows), strict=True)
    heads = tuple((label, "") for label, _ in table.rows)
    return Table(table.title, table.columns_title or table.corner, heads, tuple(zip(labels, entries, strict=True)))


def _aligned_cells(entries: Sequence[TableCell]) -> list[Text]:
    """One column's cells, with values, spreads and gains below one another."""
    value, mark, spread, gain = (max(len(x) for x in part) for part in zip(*map(_parts, entries), strict=True))
    cells = []
    for entry in entries:
        text = Text(entry.value.rjust(value) + entry.mark.ljust(mark), style=_style(entry))
        if spread:
            text.append(" " + entry.spread.rjust(spread), style="not bold not underline")
        if gain:
            text.append(" " + entry.gain.rjust(gain), style="not bold not underline")
        cells.append(text)
    return cells


def _style(entry: TableCell) -> str:
    return " ".join(word for word, holds in (("bold", entry.best), ("underline", entry.best_of_block)) if holds)


def _parts(entry: TableCell) -> tuple[str, str, str, str]:
    return entry.value, entry.mark, entry.spread, entry.gain


def _column_groups(widths: Sequence[int], room: int) -> Iterator[list[int]]:
    """The indices of the columns that fit beside the labels, panel by panel."""
    left, columns = room, list[int]()
    for i, width in enumerate(widths):
        if columns and _GAP + width > left:
            yield columns
            left, columns = room, []
        columns.append(i)
        left -= _GAP + width
    yield columns


def _rich_table(
    table: Table, labels: Sequence[str], heads: Sequence[str], cells: list[list[Text]], columns: list[int]
) -> RichTable:
    grid = RichTable(box=None, pad_edge=False, padding=(0, _GAP, 0, 0))
    grid.add_column(Text(labels[0]), no_wrap=True)
    for i in columns:
        grid.add_column(Text(heads[i]), justify="right", no_wrap=True)
    for k, label in enumerate(labels[1:]):
        if k in table.gaps_before:
            grid.add_row()
        grid.add_row(Text(label), *(cells[i][k] for i in columns))
    return grid


def _markdown(document: Document) -> str:
    def row(cells: list[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"

    parts = []
    for table in document.tables:
        heads = [table.corner, *(f"{name} ({unit})" if unit else name for name, unit in table.columns)]
        text = f"**{table.title}**\n\n" + row(heads) + row(["---", *("---:" for _ in table.columns)])
        for label, entries in table.rows:
            text += row([label, *(_inline(entry, "**{}**", "<u>{}</u>") for entry in entries)])
        parts.append(text)
    parts.append("".join(f"- {line}\n" for line in document.legend))
    return "\n".join(parts)


def _inline(entry: TableCell, bold: str, line: str) -> str:
    value = line.format(entry.value) if entry.best_of_block else entry.value
    value = bold.format(value) if entry.best else value
    spread = f" {entry.spread}" if entry.spread else ""
    return value + entry.mark + spread + (f" ({entry.gain})" if entry.gain else "")


_LATEX = {
    **{char: f"\\{char}" for char in "&%$#_{}"},
    **{char: f"${char}$" for char in "<>|"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "†": r"$^\dagger$",
    "‡": r"$^\ddagger$",
    "↓": r"$\downarrow$",
    "§": r"\S{}",
    "•": r"$^\bullet$",
    "◦": r"$^\circ$",
}


def _tex(text: str) -> str:
    return "".join(_LATEX.get(char, char) for char in text)


def _tex_entry(entry: TableCell) -> TableCell:
    value, spread, gain, mark = map(_tex, (entry.value, entry.spread, entry.gain, entry.mark))
    return replace(entry, value=value, spread=spread, gain=gain, mark=mark)


def _latex(document: Document) -> str:
    parts = ["% needs \\usepackage{booktabs}\n"]
    for table in document.tables:
        heads = [table.corner, *(f"{name} ({unit})" if unit else name for name, unit in table.columns)]
        lines = [
            r"\begin{table}",
            rf"\caption{{{_tex(table.title)}}}",
            rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
            r"\toprule",
            " & ".join(map(_tex, heads)) + r" \\",
            r"\midrule",
        ]
        for i, (label, entries) in enumerate(table.rows):
            if i in table.gaps_before:
                lines.append(r"\midrule")
            cells = [_inline(_tex_entry(entry), r"\textbf{{{}}}", r"\underline{{{}}}") for entry in entries]
            lines.append(" & ".join([_tex(label), *cells]) + r" \\")
        parts.append("\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n")
    parts.append("".join(f"% {line}\n" for line in document.legend))
    return "\n".join(parts)


def _csv(document: Document) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(field.name for field in fields(document.row_type))
    for row in document.rows:
        cells = asdict(row)
        if "collapsed" in cells:
            cells["collapsed"] = " ".join("all" if seed is None else str(seed) for seed in row.collapsed)
        writer.writerow(cells.values())
    return out.getvalue()


def _json(document: Document) -> str:
    return json.dumps(document.facts, ensure_ascii=False, indent=1) + "\n"


def _svg(document: Document) -> str:
    if not document.figures:
        hint = "--layout wikipedia, families, scripts, languages and transfer have figures"
        raise UserError("this report has no figure", where="--format svg", hint=hint)
    return draw_figures(document.figures, document.legend)


_WRITERS: dict[str, Callable[[Document], str]] = {
    "markdown": _markdown,
    "csv": _csv,
    "json": _json,
    "latex": _latex,
    "svg": _svg,
}

FORMATS: tuple[str, ...] = ("table", *_WRITERS)
"""The formats of `render`."""
