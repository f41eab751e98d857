"""The command that ranks intermediate tasks for a target task."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from xstilts.cli.common import DataOption, JsonOption, UseOption, print_json, say, screen

app = typer.Typer()


class _ListOption(TyperCommand):
    """Lets `--among` take all words up to the next option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        joined: list[str] = []
        taking = False
        for word in args:
            if word.startswith("-"):
                taking = word.partition("=")[0] == "--among"
            elif taking and joined[-1] != "--among":
                joined.append("--among")
            joined.append(word)
        return super().parse_args(ctx, joined)


@app.command(cls=_ListOption)
def rank(
    targets: Annotated[
        list[str] | None, typer.Argument(help="Tasks or groups; with --run by default all of the study.",
                                         metavar="[TARGET]...")
    ] = None,
    among: Annotated[
        list[str] | None,
        typer.Option(help="Candidates, or groups, up to the next option; by default the paper's nine, with --run the "
                          "study's.", metavar="TASK...")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(help="A folder or Hub id; with --run by default the study's.", metavar="ENCODER")
    ] = None,
    data: DataOption = None,
    run: Annotated[
        Path | None,
        typer.Option(help="A run folder: also measures its intermediate encoders, and shows its gains.", metavar="DIR"),
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="Which recipe of the run folder; the newest by default.")] = None,
    limit: Annotated[int, typer.Option(help="Examples per task that are read, at most.", min=10)] = 1000,
    as_json: JsonOption = False,
    use: UseOption = None,
) -> None:  # fmt: skip
    """Estimate which intermediate task may help a target, before any training; with --run, check the estimate."""
    from xstilts.rank.ranking import rank as make
    from xstilts.rank.request import RankRequest
    from xstilts.rank.tables import legend, tables
    from xstilts.report import draw
    from xstilts.utils.progress import Progress

    request = RankRequest(targets or [], among or [], encoder, data, limit, use or [], run, recipe)
    made = make(request, Progress().say)
    if as_json:
        print_json(made.to_json())
    else:
        say(draw(tables(made), [*made.notes, *legend(made)], **screen()))
