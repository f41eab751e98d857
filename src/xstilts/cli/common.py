"""Options that several commands share, and functions that print."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

RecipeArgument = Annotated[
    str,
    typer.Argument(
        help="A recipe file, or the name of a built-in recipe: quickstart, paper-table2, others in docs/studies.md."
    ),
]
ScaleOption = Annotated[
    str, typer.Option("--scale", help="`full`, or one of the recipe's `scales`, such as `mini`.", metavar="NAME")
]
DataOption = Annotated[
    Path | None, typer.Option("--data", envvar="XSTILTS_DATA", help="The folder with the data sets.", metavar="DIR")
]
UseOption = Annotated[list[Path] | None, typer.Option(help="YAML files with your own tasks.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


def say(text: str) -> None:
    """Print text and end the line."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def print_json(value: Any) -> None:
    """Print one JSON document."""
    say(json.dumps(value, indent=1, ensure_ascii=False))


def console() -> Any:
    """The console that tables are printed on."""
    from rich.console import Console

    shown = screen(piped=None)
    # users' names may contain brackets, which rich would read as markup
    return Console(
        highlight=False, markup=False, emoji=False, color_system="auto" if shown["colour"] else None,
        width=shown["width"] or PIPED_WIDTH, soft_wrap=shown["width"] is None,
    )  # fmt: skip


PIPED_WIDTH = 100
"""The columns of a report that is no terminal's."""


def screen(*, piped: int | None = PIPED_WIDTH) -> dict[str, Any]:
    """The width in columns, without a terminal `piped` (None: as many as needed), and whether to use colours."""
    from xstilts.utils.terminal import has_colours

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else piped
    return {"width": width, "colour": has_colours(sys.stdout)}
