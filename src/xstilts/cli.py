"""The command line: parse, call, print."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

from xstilts.errors import UserError

app = typer.Typer(
    name="xstilts", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="One encoder, English labels, forty languages: intermediate training, zero-shot transfer, XTREME's scores.",
)  # fmt: skip

INTERRUPTED = 130
"""Exit code after an interrupt."""
RecipeArgument = Annotated[str, typer.Argument(help="A recipe file, or the name of one that comes with the package.")]
DataOption = Annotated[
    Path | None, typer.Option("--data", envvar="XSTILTS_DATA", help="The folder with the data sets.", metavar="DIR")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


def _print(text: str) -> None:
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def _json(value: Any) -> None:
    _print(json.dumps(value, indent=1, ensure_ascii=False))


def _console() -> Any:
    from rich.console import Console

    return Console(highlight=False, soft_wrap=not sys.stdout.isatty())


@app.command()
def check(recipe: RecipeArgument) -> None:
    """Say everything that is wrong with a recipe."""
    from xstilts.plan import plan as lay_out
    from xstilts.recipe import read

    made = lay_out(*read(recipe))
    _print(f"{recipe}: nothing wrong; {made.trainings} trainings, {made.evaluations} evaluations")


@app.command()
def plan(recipe: RecipeArgument, as_json: JsonOption = False) -> None:
    """Show the steps of a recipe; needs neither data nor weights."""
    from rich.table import Table

    from xstilts.plan import plan as lay_out
    from xstilts.recipe import read

    made = lay_out(*read(recipe))
    if as_json:
        _json(made.to_json())
        return
    table = Table("step", "from", "seed", "what")
    for step in made.steps.values():
        table.add_row(step.id, step.parent or step.encoder, "" if step.seed is None else str(step.seed), step.title)
    _console().print(table)
    folded = made.trainings_before_folding - made.trainings
    _print(
        f"{made.trainings} trainings ({folded} equal ones folded), {made.evaluations} pairs of task and language scored"
    )


@app.command()
def run(
    recipe: RecipeArgument,
    out: Annotated[Path, typer.Option(help="The run folder; what is done there is not done again.")] = Path("runs"),
    data: DataOption = None,
) -> None:
    """Do a recipe, or what is left of it, and show the table."""
    from xstilts.plan import plan as lay_out
    from xstilts.progress import Progress
    from xstilts.recipe import read

    made = lay_out(*read(recipe))
    from xstilts.run import run as do  # torch from here on

    progress = Progress()
    outcome = do(made, out, data, progress)
    _report(out, made.recipe.name)
    if outcome.failed:
        lines = [f"{made.steps[id].title}, seed {made.steps[id].seed}: {why}" for id, why in outcome.failed.items()]
        after = f"; {len(outcome.skipped)} steps that build on them were left out" if outcome.skipped else ""
        raise UserError("\n".join([f"{len(lines)} steps failed{after}", *lines]))


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="A run folder.", metavar="DIR")],
    recipe: Annotated[str | None, typer.Option(help="Which recipe's results; the newest by default.")] = None,
    layout: Annotated[Literal["default", "overview", "languages", "benchmark"], typer.Option()] = "default",
    format: Annotated[Literal["table", "markdown", "csv", "latex", "json"], typer.Option()] = "table",
) -> None:
    """Show the results of a run folder; the layout `benchmark` shows test scores, the others dev where there is one."""
    _report(folder, recipe, layout, format)


def _report(folder: Path, name: str | None, layout: str = "default", format: str = "table") -> None:
    from xstilts.report import LAYOUTS, build, render
    from xstilts.store import existing

    store = existing(folder)
    study = store.study(name)
    made = build(study, store.scores(study), layout=LAYOUTS[layout])
    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if terminal else 100
    _print(render(made, format, width=width, colour=terminal))


@app.command()
def tasks(as_json: JsonOption = False, data: DataOption = None) -> None:
    """List the tasks there are."""
    from rich.table import Table

    from xstilts.catalogue import describe

    rows = describe(data)
    if as_json:
        _json(rows)
        return
    table = Table("task", "format", "languages", "main metric", "data: languages found by split", "note")
    for row in rows:
        found = ", ".join(f"{split} {len(codes)}" for split, codes in row["found"].items())
        table.add_row(row["task"], row["format"], str(len(row["languages"])), row["metrics"][0], found, row["note"])
    _console().print(table)
    if data is None:
        _print("give --data DIR to see what of the data is there; --json says where each file is looked for")


@app.command()
def show(
    task: Annotated[str, typer.Argument(help="A task.")],
    language: Annotated[str, typer.Argument(help="A language of it.", metavar="LANG")],
    index: Annotated[int, typer.Argument(help="Which example, from 0.", min=0)],
    split: Annotated[Literal["train", "dev", "test"] | None, typer.Option()] = None,
    data: DataOption = None,
    encoder: Annotated[
        str | None, typer.Option(help="An encoder, for its pieces; a step of a run folder also predicts.")
    ] = None,
    use: Annotated[list[Path] | None, typer.Option(help="YAML files with tasks of one's own.")] = None,
) -> None:
    """Follow one row: row, example, pieces, targets, and the prediction of a trained step."""
    from xstilts.show import lines

    for line in lines(task, language, index, split=split, data=data, encoder=encoder, use=use or []):
        _print(line)


def main() -> None:
    """Run the command line; exit codes: 0 done, 1 output not written, 2 the user's mistake, 130 interrupted."""
    _streams()
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
    except SystemExit as ended:
        if ended.code == INTERRUPTED:  # typer has turned the interrupt into this
            _interrupted()
        raise
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            sys.stderr.write(
                f"error: {error.filename or 'output'}: cannot be read or written: {error.strerror or error}\n"
            )
        sys.exit(1)


def _streams() -> None:
    """Write UTF-8 whatever the locale, and to nowhere where a stream is closed."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  (for good)
        elif isinstance(getattr(sys, name), io.TextIOWrapper):
            getattr(sys, name).reconfigure(encoding="utf-8")


def _interrupted() -> NoReturn:
    sys.stderr.write("interrupted; the same command goes on where this one stopped\n")
    sys.exit(INTERRUPTED)
