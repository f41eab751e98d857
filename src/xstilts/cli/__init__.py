"""The command line: parses arguments, calls the library, prints."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from xstilts.cli import new, predicting, ranking, reports, studies, tasks, tracking
from xstilts.cli.common import say
from xstilts.errors import UserError
from xstilts.utils.version import __version__

app = typer.Typer(name="xstilts", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(studies.app)
app.add_typer(reports.app)
app.add_typer(tracking.app)
app.add_typer(tasks.app)
app.add_typer(ranking.app)
app.add_typer(predicting.app)
app.add_typer(new.app, name="new")


def _show_version(wanted: bool) -> None:
    if wanted:
        say(f"xstilts {__version__}")
        raise typer.Exit


@app.callback()
def main_options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Intermediate-task training and zero-shot cross-lingual transfer: run studies, score them as XTREME does."""


INTERRUPTED = 130
"""Exit code after an interrupt."""


def main() -> None:
    """Run the command line; exit codes: 0 success, 1 output not written, 2 user error, 130 interrupted."""
    _set_up_streams()
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except UserError as error:
        sys.stderr.write("".join(f"error: {line}\n" for line in str(error).split("\n")))
        sys.exit(2)
    except KeyboardInterrupt:
        _interrupted()
    except SystemExit as error:
        if error.code == INTERRUPTED:  # typer turns KeyboardInterrupt into this exit code
            _interrupted()
        raise
    except OSError as error:
        if error.filename:
            sys.stderr.write(f"error: {error.filename}: cannot be read or written: {error.strerror}\n")
            sys.exit(2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            sys.stderr.write(f"error: output: cannot be written: {error.strerror or error}\n")
        sys.exit(1)


def _set_up_streams() -> None:
    """Write UTF-8 in every locale; write to the null device if a stream is closed."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  (until the process ends)
        elif isinstance(getattr(sys, name), io.TextIOWrapper):
            getattr(sys, name).reconfigure(encoding="utf-8")


def _interrupted() -> NoReturn:
    from xstilts.utils.progress import is_secondary_process

    if not is_secondary_process():  # of torchrun's processes only the first prints
        sys.stderr.write("interrupted; run the same command again to continue\n")
    sys.exit(INTERRUPTED)
