"""Two recipes compared: for each task and branch the scores of both, and whether they differ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from xstilts.analysis.results import StudyResults
from xstilts.errors import UserError
from xstilts.languages import titled
from xstilts.render.table import MISSING, Document, Table, TableCell
from xstilts.reports.legend import legend_lines, note_lines, over_seeds, unit
from xstilts.reports.significance import MEANS, Comparison, Significance, compare
from xstilts.reports.significance_tables import (
    format_gain,
    format_interval,
    format_p,
    legend_of_tests,
    rows_of,
    with_progress,
)
from xstilts.study.index import Cell, Study, StudyTask


@dataclass(frozen=True)
class Side:
    """One of the two recipes, under the name that the tables give it."""

    label: str
    results: StudyResults

    @property
    def tasks(self) -> dict[str, StudyTask]:
        """The targets by name."""
        return {task.name: task for task in self.results.study.targets}


@dataclass(frozen=True)
class ComparedScore:
    """A branch of both recipes in one language of a task, or its mean over languages.

    `first` and `second` are medians over the seeds of each recipe, None where it has no score. `difference`, first
    minus second, is the median of the differences at the `paired` seeds that both have; `low`, `high`, `p` and
    `adjusted` as in `Comparison`.
    """

    task: str
    branch: str
    language: str
    split: str
    metric: str
    n: int
    first: float | None
    first_seeds: int
    second: float | None
    second_seeds: int
    paired: int | None
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    adjusted: float | None


def compare_recipes(first: Side, second: Side, notes: Sequence[str] = ()) -> Document:
    """Compare the main scores of the branches, tasks and languages that two recipes have in common.

    Args:
        first: its scores minus those of the second are the differences.
        second: the other one.
        notes: shown below the tables, before those of the recipes.

    Raises:
        UserError: they have no task or no branch in common.
    """
    pairs, tasks = _pairs(first, second), _common_tasks(first, second)
    joined = _join(first, second, pairs, tasks)
    reads = joined.predictions, joined.example_scores
    found = compare(joined.study, joined.scores, *reads, progress=with_progress, unscored=joined.unscored)
    shown, rows = list[Table](), list[ComparedScore]()
    for task in joined.study.targets:
        for pair in pairs:
            both = _rows_by_language(found, task, [_name(side, pair) for side in (first, second)])
            rows += [_compared(task, _title(pair), language, *sides) for language, sides in both.items()]
            if both:
                where = f", {_title(pair)}" if len(pairs) > 1 or len({*pair}) > 1 else ""
                shown.append(_table(found, task, where, (first.label, second.label), both))
    facts = {
        "compared": [{"name": side.label, **side.results.study.header()} for side in (first, second)],
        "split": found.split,
        "lines": [asdict(row) for row in rows],
        "untested": found.untested,
        "left_out": found.left_out,
        "missing": [asdict(cell) for cell in found.missing],
        "notes": [*notes, *joined.notes],
    }
    legend = [*_legend(found, first, second), *note_lines((*notes, *joined.notes))]
    return Document(shown, legend, ComparedScore, rows, facts)


def _pairs(first: Side, second: Side) -> list[tuple[str, str]]:
    """The branches of the same name; if there are none, the only branch of one recipe with each of the other."""
    here, there = first.results.study.branches, second.results.study.branches
    if common := [(branch, branch) for branch in here if branch in there]:
        return common
    if len(here) > 1 < len(there):
        hint = f"{first.label} has {', '.join(here)}; {second.label} has {', '.join(there)}"
        raise UserError("the recipes have no branch in common", where="--compare", hint=hint)
    return [(branch, other) for branch in here for other in there]


def _common_tasks(first: Side, second: Side) -> list[StudyTask]:
    """The tasks of both; zero-shot is without the languages that either recipe's task is trained on."""
    tasks = []
    for task in first.tasks.values():
        other = second.tasks.get(task.name)
        if other is not None and task.metric in other.metrics:
            languages = dict.fromkeys((*task.languages, *other.languages))
            trained = dict.fromkeys((*task.train_languages, *other.train_languages))
            one, *more = trained or [""]
            changes = {"languages": tuple(languages), "train_language": one, "more_train_languages": tuple(more)}
            each = task.trained_in_each and other.trained_in_each
            tasks.append(replace(task, metrics=(task.metric,), trained_in_each=each, **changes))  # type: ignore[arg-type]
    if not tasks:
        hint = f"{first.label} has {', '.join(first.tasks)}; {second.label} has {', '.join(second.tasks)}"
        raise UserError("the recipes have no task with the same metric in common", where="--compare", hint=hint)
    return tasks


def _title(pair: tuple[str, str]) -> str:
    return " / ".join(dict.fromkeys(pair))


def _name(side: Side, pair: tuple[str, str]) -> str:
    return f"{side.label}: {_title(pair)}"


def _join(first: Side, second: Side, pairs: Sequence[tuple[str, str]], tasks: Sequence[StudyTask]) -> StudyResults:
    """One study, whose branches are those of the first recipe, measured against those of the second."""
    names, cells, scores, sides = {task.name for task in tasks}, list[Cell](), [], (first, second)
    for i, side in enumerate(sides):
        for pair in pairs:
            of_branch = (x for x in side.results.study.cells if x.branch == pair[i] and x.task in names)
            cells += [replace(cell, branch=_name(side, pair), step=f"{i}/{cell.step}") for cell in of_branch]
        scores += [replace(row, step=f"{i}/{row.step}") for row in side.results.scores if row.task in names]
    splits = [{(x.task, x.language, x.split) for x in scores if x.step.startswith(f"{i}/")} for i in (0, 1)]
    common = splits[0] & splits[1]
    paired = {at[:2] for at in common}
    others = sorted({at[:2] for at in splits[0]} & {at[:2] for at in splits[1]} - paired)
    study = Study(
        name=f"{first.label} and {second.label}",
        encoder=first.results.study.encoder,
        seeds=tuple(sorted({seed for side in sides for seed in side.results.study.seeds})),
        branches=tuple(_name(side, pair) for pair in pairs for side in sides),
        baseline=None,
        tasks=tuple(tasks),
        cells=tuple(cells),
        baselines={_name(first, pair): _name(second, pair) for pair in pairs},
    )
    notes = [f"{side.label}: {note}" for side in sides for note in side.results.notes]
    if others:
        where = ", ".join(f"{task} {language}" for task, language in others)
        notes.append(f"not compared, because the recipes have scores on different splits: {where}")
    return StudyResults(
        study,
        # where both have a split, the other split of one of them is not shown
        [x for x in scores if (x.task, x.language, x.split) in common or (x.task, x.language) not in paired],
        lambda step: sides[int(step[0])].results.predictions(step[2:]),
        [*notes, *_only_in_one(first, second, pairs, names)],
        example_scores=lambda step: sides[int(step[0])].results.example_scores(step[2:]),
        unscored={f"{i}/{step}" for i, side in enumerate(sides) for step in side.results.unscored},
    )


def _only_in_one(first: Side, second: Side, pairs: Sequence[tuple[str, str]], tasks: Iterable[str]) -> Iterator[str]:
    """What only one of the recipes has, and so is not compared."""
    for i, side in enumerate((first, second)):
        study, compared = side.results.study, {pair[i] for pair in pairs}
        parts = {
            "branches": [branch for branch in study.branches if branch not in compared],
            "tasks": [name for name in side.tasks if name not in tasks],
        }
        for what, others in parts.items():
            if others:
                yield f"{what} of {side.label} that are not compared: {', '.join(others)}"
    seeds = [side.results.study.seeds for side in (first, second)]
    if {*seeds[0]} != {*seeds[1]}:
        has = "; ".join(
            f"{side.label}: {', '.join(map(str, of))}" for side, of in zip((first, second), seeds, strict=True)
        )
        yield f"different seeds, so differences are over those that both have ({has})"


_Both = tuple[Comparison | None, Comparison | None]


def _rows_by_language(found: Significance, task: StudyTask, branches: Sequence[str]) -> dict[str, _Both]:
    rows = [row for row in rows_of(found, task) if row.branch in branches]
    at = {(row.branch, row.language): row for row in rows}
    first, second = branches
    return {x: (at.get((first, x)), at.get((second, x))) for x in dict.fromkeys(row.language for row in rows)}


def _compared(
    task: StudyTask, branch: str, language: str, first: Comparison | None, second: Comparison | None
) -> ComparedScore:
    some = first or second
    assert some is not None
    tested = first or replace(some, paired=None, gain=None)
    return ComparedScore(
        task.name, branch, language, some.split, task.metric, some.n,
        first.median if first else None, first.seeds if first else 0,
        second.median if second else None, second.seeds if second else 0,
        tested.paired, tested.gain, tested.low, tested.high, tested.p, tested.adjusted,
    )  # fmt: skip


def _table(found: Significance, task: StudyTask, where: str, labels: tuple[str, str], both: dict[str, _Both]) -> Table:
    splits = {row.split for sides in both.values() for row in sides if row}
    split = f"{next(iter(splits))}†" if len(splits) == 1 and splits != {found.split} else found.split
    lines = []
    for language, sides in both.items():
        row, some = sides[0], sides[0] or sides[1]
        tested = (format_gain(row.gain) + row.mark, format_interval(row), format_p(row)) if row else (MISSING,) * 3
        mark = "†" if some and some.split != found.split and len(splits) > 1 else ""
        lines.append((titled(language) + mark, (*map(_score, sides), *map(TableCell, tested))))
    heads = (*labels, "difference", "95 % interval", "p (Holm)")
    title = f"{task.name}: {unit(task.metric)}, {split}{where}"
    means = sum(language in MEANS for language in both)
    breaks = (means,) if 0 < means < len(lines) else ()
    return Table(title, "language", tuple((head, "") for head in heads), tuple(lines), breaks=breaks)


def _score(row: Comparison | None) -> TableCell:
    if row is None:
        return TableCell()
    return TableCell(f"{row.median:.1f}", f"±{(row.max - row.min) / 2:.1f}" if row.seeds > 1 else "")


def _legend(found: Significance, first: Side, second: Side) -> list[str]:
    several = any(row.seeds > 1 for row in found.rows)
    explained = [
        ("± half the range over the seeds; values are medians over seeds", several),
        (f"difference: {first.label} minus {second.label} at the same seed{over_seeds(found.study.seeds)}", True),
        *legend_of_tests(found),
    ]
    return legend_lines(explained, {}) + [
        f"not tested, {why}: {'; '.join(where)}" for why, where in found.untested.items()
    ]
