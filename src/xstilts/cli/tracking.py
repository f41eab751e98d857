"""The command track, and the option of run that does the same while it trains."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated

import typer

from xstilts.cli.common import say
from xstilts.errors import counted

app = typer.Typer()

TrackOption = Annotated[
    str | None,
    typer.Option(help="Show the trainings in another program while they run: as `xstilts track`.", metavar="NAME"),
]


@app.command()
def track(
    out: Annotated[Path, typer.Argument(help="The run folder.", metavar="DIR")],
    to: Annotated[str, typer.Option(help="tensorboard, trackio, or the name of an installed plug-in.", metavar="NAME")],
) -> None:
    """Hand the logs of all trainings to a tracker: losses, learning rate, speed, dev scores.

    Handed on once, a row is not handed on again: the same command adds what is new.
    """
    from xstilts.store.run_folder import open_existing
    from xstilts.tracking.replay import track as replay_all
    from xstilts.tracking.tracker import find_tracker

    trainings, rows = replay_all(open_existing(out), to, find_tracker(to, "--to"))
    say(f"{counted(trainings, 'training')}, {counted(rows, 'new row')}")


def tracked(out: Path, name: str | None, print_line: Callable[[str], None]) -> AbstractContextManager[None]:
    """Hand on the logs of a run folder within this block; nothing without a name.

    Raises:
        UserError: there is no such tracker, or its package is not installed.
    """
    if name is None:
        return nullcontext()
    from xstilts.store.run_folder import Store
    from xstilts.tracking.replay import Replay, live
    from xstilts.tracking.tracker import find_tracker

    return live(Replay(Store(out), name, find_tracker(name, "--track")), print_line)
