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

data_app = typer.Typer(no_args_is_help=True, help="Check the data there are, or fetch them.")
app.add_typer(data_app, name="data")

INTERRUPTED = 130
"""Exit code after an interrupt."""
MANY = 4
"""Tasks beyond which a run shows the overview only, not a table for each."""
RecipeArgument = Annotated[str, typer.Argument(help="A recipe file, or the name of one that comes with the package.")]
DataOption = Annotated[
    Path | None, typer.Option("--data", envvar="XSTILTS_DATA", help="The folder with the data sets.", metavar="DIR")
]
UseOption = Annotated[list[Path] | None, typer.Option(help="YAML files with tasks of one's own.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


def _print(text: str) -> None:
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def _json(value: Any) -> None:
    _print(json.dumps(value, indent=1, ensure_ascii=False))


def _console() -> Any:
    from rich.console import Console

    # what users have named is no markup
    return Console(
        highlight=False, markup=False, emoji=False, width=_screen()["width"], soft_wrap=not sys.stdout.isatty()
    )


@app.command()
def check(recipe: RecipeArgument) -> None:
    """Say everything that is wrong with a recipe."""
    from xstilts.plan import plan as lay_out
    from xstilts.recipe import read

    made = lay_out(*read(recipe))
    _print(f"{recipe}: nothing wrong; {made.trainings} trainings, {made.evaluations} evaluations")
    for note in made.notes:
        _print(note)


@app.command()
def plan(recipe: RecipeArgument, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Show the steps of a recipe, and what disk they take; needs neither data nor weights."""
    from rich.table import Table

    from xstilts import disk
    from xstilts.plan import plan as lay_out
    from xstilts.recipe import read

    made = lay_out(*read(recipe))
    if as_json:
        _json(made.to_json() | {"disk": disk.needed(made, data).to_json()})
        return
    table = Table("step", "from", "seed", "what")
    for step in made.steps.values():
        origin = " ".join(step.parents) or step.encoder
        table.add_row(step.id, origin, "" if step.seed is None else str(step.seed), step.title)
    _console().print(table)
    folded = made.trainings_before_folding - made.trainings
    _print(
        f"{made.trainings} trainings ({folded} equal ones folded), {made.evaluations} pairs of task and language scored"
    )
    _print(disk.needed(made, data).line())


@app.command()
def run(
    recipe: RecipeArgument,
    out: Annotated[Path, typer.Option(help="The run folder; what is done there is not done again.")] = Path("runs"),
    data: DataOption = None,
    checkpoint: Annotated[
        float,
        typer.Option(help="Minutes of a training that a kill loses at most.", min=0, metavar="MINUTES"),
    ] = 10,
    tokens: Annotated[
        int | None, typer.Option(help="Tokens of a batch that are computed at once; less takes less memory.", min=1)
    ] = None,
    compile: Annotated[bool, typer.Option("--compile", help="Let torch compile the trainings' forward pass.")] = False,
) -> None:
    """Do a recipe, or what is left of it, and show the table."""
    from xstilts.plan import plan as lay_out
    from xstilts.progress import Progress, second
    from xstilts.recipe import read

    made = lay_out(*read(recipe))
    from xstilts.run import Resources  # torch from here on
    from xstilts.run import run as do

    outcome = do(made, out, data, Progress(), Resources(checkpoint, tokens, compile))
    if second():
        return
    many = len(made.study().tasks) > MANY
    _report(out, made.recipe.name, "overview" if many else "default")
    if many:
        _print(f"every language: xstilts report {out} --layout languages")
    if outcome.failed:
        lines = [f"{made.steps[id].name}: {why}" for id, why in outcome.failed.items()]
        after = f"; {len(outcome.skipped)} steps that build on them were left out" if outcome.skipped else ""
        raise UserError("\n".join([f"{len(lines)} steps failed{after}", *lines]))


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="A run folder.", metavar="DIR")],
    recipe: Annotated[str | None, typer.Option(help="Which recipe's results; the newest by default.")] = None,
    layout: Annotated[Literal["default", "overview", "languages", "benchmark"], typer.Option()] = "default",
    format: Annotated[Literal["table", "markdown", "csv", "latex", "json", "submission"], typer.Option()] = "table",
    to: Annotated[
        Path | None,
        typer.Option(help="Where the format `submission` writes; DIR/submission/RECIPE by default.", metavar="FOLDER"),
    ] = None,
) -> None:
    """Show the results of a run folder; the layout `benchmark` shows test scores, the others dev where there is one.

    The format `submission` writes the predictions of the test split as the leaderboard wants them, and the labels.
    """
    if format == "submission":
        _hand_in(folder, recipe, to)
    elif to is not None:
        raise UserError("goes with --format submission only", where="--to")
    else:
        _report(folder, recipe, layout, format)


def _report(folder: Path, name: str | None, layout: str = "default", format: str = "table") -> None:
    from xstilts.report import LAYOUTS, build, render
    from xstilts.store import existing

    store = existing(folder)
    study = store.study(name)
    made = build(study, store.scores(study), layout=LAYOUTS[layout], notes=store.notes(study))
    _print(render(made, format, **_screen()))


def _screen() -> dict[str, Any]:
    """How wide tables may be, and whether in colour."""
    terminal = sys.stdout.isatty()
    return {"width": shutil.get_terminal_size().columns if terminal else 100, "colour": terminal}


def _hand_in(folder: Path, name: str | None, to: Path | None) -> None:
    from xstilts.store import existing
    from xstilts.submission import write_study

    store = existing(folder)
    study = store.study(name)
    written = write_study(store, study, to or folder / "submission" / study.name)
    for line in written.lines():
        _print(line)


@app.command()
def score(
    predictions: Annotated[Path, typer.Option(help="Files named as {task}/test-{language}.tsv, .json or .jsonl.")],
    labels: Annotated[Path, typer.Option(help="Files of the same names.")],
    benchmark: Annotated[
        str, typer.Option(help="xtreme, xtreme-r, or another group of tasks.", metavar="NAME")
    ] = "xtreme",
    as_json: JsonOption = False,
) -> None:
    """Score a folder in the leaderboard's layout as the official evaluation does."""
    from xstilts import scoring
    from xstilts.report import draw

    scored = scoring.score(predictions, labels, scoring.benchmark(benchmark), benchmark)
    if as_json:
        _json(scored.to_json())
        sys.stderr.write("".join(f"{line}\n" for line in scored.warnings()))
    else:
        _print(draw(scoring.tables(scored), scored.warnings(), **_screen()))


@app.command()
def tasks(as_json: JsonOption = False, data: DataOption = None) -> None:
    """List the tasks there are."""
    from rich.table import Table

    from xstilts.catalogue import describe, summary

    rows = describe(data)
    if as_json:
        _json(rows)
        return
    table = Table("task", "format", "main metric", "languages", "train", "dev", "test")
    for row in rows:
        table.add_row(*summary(row, found=data is not None))
    _console().print(table)
    _print("\n".join(f"{row['task']}: {row['note']}" for row in rows if row["note"]))
    if data is None:
        _print("\ngive --data DIR to see what of the data is there; --json says where each file is looked for")


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
    use: UseOption = None,
) -> None:
    """Follow one row: row, example, pieces, targets, and the prediction of a trained step."""
    from xstilts.show import lines

    for line in lines(task, language, index, split=split, data=data, encoder=encoder, use=use or []):
        _print(line)


@data_app.command("check")
def check_data(
    names: Annotated[
        list[str] | None, typer.Argument(help="Tasks, or groups of them; all by default.", metavar="[TASK]...")
    ] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
    use: UseOption = None,
) -> None:
    """Find and read every split of the tasks, and compare the number of examples with the official one."""
    from rich.table import Table

    from xstilts.catalogue import folder
    from xstilts.data import check
    from xstilts.progress import Progress

    rows = check.check(check.chosen(names or [], use or []), folder(data), Progress().say)
    if as_json:
        _json([row.to_json() for row in rows])
    else:
        table = Table("task", "split", "languages", "examples", "labels")
        table.add_column("where", overflow="fold")
        for line in check.folded(rows):
            table.add_row(*line)
        _console().print(table)
        for note in dict.fromkeys(note for row in rows for note in row.notes):
            _print(f"note: {note}")
    if problems := list(dict.fromkeys(problem for row in rows for problem in row.problems)):
        raise UserError("\n".join(problems))


@data_app.command("fetch")
def fetch_data(
    names: Annotated[list[str], typer.Argument(help="Tasks, or groups of them.", metavar="TASK...")],
    data: DataOption = None,
    use: UseOption = None,
) -> None:
    """Download what is not there from the Hugging Face Hub; other commands then find it in the Hub's local cache."""
    from xstilts.catalogue import folder
    from xstilts.data import check, fetch
    from xstilts.progress import Progress

    fetch.fetch(check.chosen(names, use or []), folder(data), Progress().say)


@app.command()
def corpus(
    names: Annotated[
        list[str], typer.Argument(help="Codes of languages, or the groups xtreme, xtreme-r.", metavar="LANG...")
    ],
    out: Annotated[Path, typer.Option(help="Where {lang}.txt is written: DATA/mlm_text.", metavar="DIR")],
    places: Annotated[
        list[str] | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="A dump (.xml.bz2), Parquet, JSON Lines or text; {lang} is the code. The Hub's Wikipedia by default.",
        ),
    ] = None,
    snapshot: Annotated[str | None, typer.Option(help="Which of the Hub's copies of Wikipedia.")] = None,
    limit: Annotated[int | None, typer.Option(help="Sentences of a language at most, drawn at random.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Of the drawing.", min=0)] = 1,
    workers: Annotated[
        int, typer.Option(help="Processes that read a dump's markup; the number of cores by default.", min=1)
    ] = os.cpu_count() or 1,
) -> None:
    """Make raw text for masked language modelling, a file each language; what was made of the same stays."""
    from xstilts.corpus.build import SNAPSHOT, WIKIPEDIA, Wish, build, chosen
    from xstilts.progress import Progress

    if places and snapshot:
        raise UserError("goes with the Hub's Wikipedia only, not with --from", where="--snapshot")
    wiki = WIKIPEDIA.replace("{snapshot}", snapshot or SNAPSHOT)
    wish = Wish(tuple(places or [wiki]), out, limit, seed, workers)
    for built in build(chosen(names), wish, Progress()):
        _print(f"{built.path}: {built.sentences:,} sentences{'' if built.new else ', there already'}")


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
        if error.filename:
            sys.stderr.write(f"error: {error.filename}: cannot be read or written: {error.strerror}\n")
            sys.exit(2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            sys.stderr.write(f"error: output: cannot be written: {error.strerror or error}\n")
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
