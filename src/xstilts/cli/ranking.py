"""The command that ranks intermediate tasks for a target task."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from xstilts.cli.common import DataOption, JsonOption, UseOption, print_json, say, screen

app = typer.Typer()


class _ListOption(TyperCommand):
    """Lets `--among` take several values, up to the next option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        joined: list[str] = []
        in_list = False
        for argument in args:
            if argument.startswith("-"):
                in_list = argument.partition("=")[0] == "--among"
            elif in_list and joined[-1] != "--among":
                joined.append("--among")
            joined.append(argument)
        return super().parse_args(ctx, joined)


@app.command(cls=_ListOption)
def rank(
    targets: Annotated[
        list[str] | None, typer.Argument(help="Target tasks or groups; default with --run: those of the study.",
                                         metavar="[TARGET]...")
    ] = None,
    among: Annotated[
        list[str] | None,
        typer.Option(help="Candidate intermediate tasks or groups. Default: the paper's nine; with --run, those of the "
                          "study.", metavar="TASK...")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(help="A folder or Hub id; default with --run: the study's encoder.", metavar="ENCODER")
    ] = None,
    data: DataOption = None,
    run: Annotated[
        Path | None,
        typer.Option(help="A run folder, whose intermediate encoders and gains are then used, too.", metavar="DIR"),
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="A recipe of the run folder; default: the newest.")] = None,
    limit: Annotated[int, typer.Option(help="Maximum number of examples read per task.", min=10)] = 1000,
    as_json: JsonOption = False,
    use: UseOption = None,
) -> None:  # fmt: skip
    """Estimate which intermediate task may help a target, before any training.

    With --run, compare the estimate with the gains that a study measured.
    """
    from xstilts.rank.ranking import rank as rank_tasks
    from xstilts.rank.request import RankRequest
    from xstilts.rank.tables import legend, tables
    from xstilts.reports import draw
    from xstilts.utils.progress import Progress

    request = RankRequest(targets or [], among or [], encoder, data, limit, use or [], run, recipe)
    ranking = rank_tasks(request, Progress().say)
    if as_json:
        print_json(ranking.to_json())
    else:
        say(draw(tables(ranking), [*ranking.notes, *legend(ranking)], **screen()))
