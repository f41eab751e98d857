"""Makes the tables of a model's card: scores by language, settings of its trainings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from xstilts import languages
from xstilts.analysis.aggregate import MEAN, ZERO_SHOT
from xstilts.predict.provenance import ScoreRow, StepFacts
from xstilts.render.table import Document, Table, TableCell
from xstilts.render.writers import render
from xstilts.training.settings import as_written


def row_label(row: ScoreRow) -> str:
    """A row's language, or the mean."""
    named = {MEAN: "mean", ZERO_SHOT: "zero-shot mean"}
    return named.get(row.language) or languages.titled(row.language)


def as_markdown(tables: Sequence[Table], legend: Sequence[str] = ()) -> str:
    """Tables with a list of remarks below them."""
    return render(Document(tables, legend, Table, (), {}), "markdown").strip()


def score_table(rows: list[ScoreRow]) -> Table:
    """The scores of a task: a row for each language, its metrics, and of the main one the numbers over seeds."""
    task = rows[0].task
    cells = {(row.language, row.metric): row for row in rows}
    main = [row for row in rows if row.metric == task.metric]
    names = [name for name in task.metrics if any(row.metric == name for row in rows)]
    seeds = max(row.all_seeds.seeds for row in main)
    columns = ["examples", *names, "chance", *([f"median of {seeds}", "range"] if seeds > 1 else [])]
    splits = {row.split for row in main}
    lines = []
    for row in main:
        line = row.all_seeds
        entries = [TableCell(f"{row.n:,}")]
        entries += [TableCell.of(found.value if (found := cells.get((row.language, name))) else None) for name in names]
        entries.append(TableCell.of(row.chance))
        if seeds > 1:
            entries += [TableCell.of(line.median), TableCell(f"{line.min:.1f} to {line.max:.1f}")]
        label = row_label(row) + (f", {row.split}" if len(splits) > 1 else "")
        lines.append((label, tuple(entries)))
    title = f"{task.name}, {splits.pop()}" if len(splits) == 1 else task.name
    return Table(title, "language", tuple((name, "") for name in columns), tuple(lines))


def settings_table(trainings: list[StepFacts]) -> Table:
    """The settings of the trainings, a column each."""
    rows: dict[str, list[str]] = {}
    for number, step in enumerate(trainings):
        for name, value in _settings(step):
            rows.setdefault(name, ["-"] * len(trainings))[number] = value
    columns = tuple((step.record.title, "") for step in trainings)
    return Table("Settings", "", columns, tuple((name, tuple(map(TableCell, cells))) for name, cells in rows.items()))


def _settings(step: StepFacts) -> Iterator[tuple[str, str]]:
    spec = step.spec
    assert spec is not None
    several = len(spec.parts) > 1
    yield "tasks", ", ".join(part.task for part in spec.parts)
    yield "updates", f"{step.facts['updates']:,}" if isinstance(step.facts.get("updates"), int) else "-"
    yield "learning rate", as_written(spec.lr)
    for name in ("batch", "max_length", "shots", *(("epochs",) if spec.steps is None else ())):
        values = [str(value) for part in spec.parts if (value := getattr(part, name)) is not None]
        if values:
            yield name, values[0] if len({*values}) == 1 else ", ".join(values)
    if several:
        yield "weight", ", ".join(str(part.weight) for part in spec.parts)
        yield "mixing", str(spec.mixing) if spec.mixing else "-"
    yield "warmup", as_written(spec.warmup)
    yield "weight decay", as_written(spec.weight_decay)
    known = "fp32" if spec.precision == "auto" else spec.precision  # before steps recorded it, `auto` was fp32
    yield "precision", step.facts.get("precision", known)
    if spec.head:
        yield "head", spec.head
    yield "seed", "-" if step.record.seed is None else str(step.record.seed)


def chance_line(step: StepFacts) -> str:
    """That a training ended at chance; else empty."""
    dev, chance = step.facts.get("dev"), step.facts.get("dev_chance")
    if not step.facts.get("at_chance") or not isinstance(dev, float) or not isinstance(chance, float):
        return ""
    return f"**`{step.record.title}` ended at chance on its dev set** ({dev:.1f}; chance is {chance:.1f})."


def checkpoint_line(step: StepFacts) -> str:
    """Which weights of the last training these are."""
    facts, spec = step.facts, step.spec
    stop, best, dev = facts.get("stop") or {}, facts.get("best_update"), facts.get("dev")
    if spec is None or not stop or best is None or dev is None:
        return "Checkpoint: the weights of the last update."
    sets = []
    for task, one in stop.items():
        held_out = f"part {one['held_out']} of the training data" if one.get("held_out") else ", ".join(one["files"])
        sets.append(f"`{task}` {held_out}" + (", which is the test set" if one.get("test") else ""))
    chosen = "the last update" if spec.weights == "last" else f"update {best:,}, the best by its dev score of {dev:.1f}"
    return f"Checkpoint: {chosen}, of {facts.get('updates', best):,}. Dev data: {'; '.join(sets)}."
