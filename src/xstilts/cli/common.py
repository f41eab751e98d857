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

    # users' names may contain brackets, which rich would read as markup
    return Console(
        highlight=False, markup=False, emoji=False, width=screen()["width"], soft_wrap=not sys.stdout.isatty()
    )


def screen() -> dict[str, Any]:
    """The width of tables in columns, and whether to use colours."""
    terminal = sys.stdout.isatty()
    return {"width": shutil.get_terminal_size().columns if terminal else 100, "colour": terminal}
