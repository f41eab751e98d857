"""The paper's tables, filled with a study's numbers; `PAPER_TABLES` names them, `paper_tables` draws them.

A difference here is that of two medians, as in the paper. A gain, in other layouts, is the median of the differences at
the same seed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from statistics import fmean

from xstilts.analysis.aggregate import JoinedScores
from xstilts.analysis.selection import select_from
from xstilts.errors import UserError
from xstilts.languages import titled
from xstilts.reports import published
from xstilts.reports.paper_cells import (
    BASELINE,
    BENCHMARK,
    BEST,
    WITHOUT,
    Column,
    PaperCell,
    PaperRow,
    PaperTable,
    StudyScores,
    Values,
    catalogue_name,
    configuration,
    in_paper_order,
    metrics_of_cell,
    printed_in,
    row_label,
    targets,
    translated,
)
from xstilts.reports.published import AVERAGE, PublishedTable, Row
from xstilts.study.index import Study, StudyTask
from xstilts.tasks import GROUPS


def table2(study: Study, found: JoinedScores) -> list[PaperTable]:
    """The baseline's scores and every configuration's differences from it; below, the benchmark's test scores."""
    numbers, paper = StudyScores(study, found, "dev"), published.table("table2")
    columns = _target_columns(numbers)
    base = [numbers.cell(task, study.baseline or "") for _, task in columns]
    lines = []
    for row, branch in in_paper_order(study, paper):
        values = [numbers.cell(task, branch) for _, task in columns]
        from_baseline = bool(study.baseline) and branch != study.baseline
        if from_baseline:
            values = [_differences(value, start) for value, start in zip(values, base, strict=True)]
        lines.append(_line(numbers, paper, row, branch, columns, values, from_baseline))
    heads = (*(column for column, _ in columns), _AVERAGE)
    return [
        PaperTable(paper.name, f"{paper.title}, mean over languages, dev", _corner(study), heads, tuple(lines)),
        _benchmark(study, found, [x for x in in_paper_order(study, paper) if x[0][1] == BASELINE]),
    ]


def benchmark(study: Study, found: JoinedScores) -> list[PaperTable]:
    """The benchmark's test scores of every branch, with the leaderboard's groups."""
    paper = published.table("table2")
    return [_benchmark(study, found, in_paper_order(study, paper), groups=True)]


def by_language(name: str, study: Study, found: JoinedScores) -> list[PaperTable]:
    """One target, language by language: Tables 6 to 14."""
    numbers, paper = StudyScores(study, found, "dev"), published.table(name)
    task = targets(study).get(paper.task)
    if task is None:
        raise UserError(
            f"the study scores no {published.targets()[paper.task].label}, which is {name}", where=study.name
        )
    rows, metrics = numbers.rows(task, task.metric), metrics_of_cell(study, task)
    codes = [*(x for x in paper.columns if x in rows), *(x for x in rows if x not in paper.columns)]
    columns = [Column((code, ""), paper.task, code, metrics, numbers.split_of(task)) for code in codes]
    columns.append(Column(("Avg", ""), paper.task, AVERAGE, metrics, numbers.split_of(task)))
    lines = []
    for row, branch in in_paper_order(study, paper):
        cells = [_cell(paper, row, column.language, numbers.cell(task, branch, column.language)) for column in columns]
        lines.append(PaperRow(*row, row_label(row, branch), branch, tuple(cells)))
    units = _paper_unit(metrics)
    return [
        PaperTable(
            name, f"{paper.title}, {units}, {numbers.split_of(task)}", _corner(study), tuple(columns), tuple(lines)
        )
    ]


def table3(study: Study, found: JoinedScores) -> list[PaperTable]:
    """Translated intermediate tasks: a table for each language, the original data beside data in that language.

    The languages and targets that the paper lacks follow its own.
    """
    numbers, paper = StudyScores(study, found, "dev"), published.table("table3")
    columns, rows = _target_columns(numbers, others=True), in_paper_order(study, paper)
    names = {row[1] for row, _ in rows}
    originals = {name: translated(name, names) for name in sorted(names)}
    shown = {(original, language) for original, language in originals.values() if language}
    shown |= {(original, "en") for original, _ in shown}
    tables = []
    for language in dict.fromkeys([*(block for block, _ in paper.rows), *(x for _, x in sorted(shown))]):
        base = [numbers.cell(task, study.baseline or "", language) for _, task in columns]
        lines = []
        for (block, name), branch in rows:
            own = name == BASELINE or originals[name][1] == language or (name, language) in shown
            if block in ("", WITHOUT) and (own or (language, name) in paper.rows):
                values = [numbers.cell(task, branch, language) for _, task in columns]
                if from_baseline := name != BASELINE:
                    values = [_differences(value, start) for value, start in zip(values, base, strict=True)]
                cells = [_cell(paper, (language, name), x.task, y) for (x, _), y in zip(columns, values, strict=True)]
                lines.append(
                    PaperRow(language, name, row_label((block, name), branch), branch, tuple(cells), from_baseline)
                )
        heads = tuple(replace(column, language=language) for column, _ in columns)
        tables.append(
            PaperTable(paper.name, f"{paper.title}: {titled(language)}, dev", _corner(study), heads, tuple(lines))
        )
    return tables


def table15(study: Study, found: JoinedScores) -> list[PaperTable]:
    """The intermediate tasks' own dev scores in their training language, of the branches trained on that task alone."""
    numbers, paper = StudyScores(study, found, "dev"), published.table("table15")
    trained = {configuration(study, branch): branch for branch in reversed(study.branches)}
    cells: dict[str, dict[str, tuple[StudyTask, str]]] = defaultdict(dict)
    names = {task.name: catalogue_name(study, task.name) for task in study.tasks}
    for task in study.tasks:
        name = names[task.name]
        base, language = translated(name, names.values())
        if (WITHOUT, name) in trained:
            cells[language or "en"][base] = task, trained[WITHOUT, name]
    if not cells:
        what = "table15 shows intermediate tasks on their own dev sets; the study scores none"
        raise UserError(what, where=study.name, hint="name intermediate tasks in `evaluate`")
    some = {base: task for by_base in cells.values() for base, (task, _) in by_base.items()}
    metrics = {base: printed_in(paper, study, task, base) for base, task in some.items()}
    heads = [
        Column((published.label(base), _paper_unit(metrics[base])), base, AVERAGE, metrics[base], "dev")
        for base in sorted(some, key=[*GROUPS["intermediate"], *some].index)
    ]
    lines = []
    for language in sorted(cells, key=[*paper.columns, *cells].index):
        row = []
        for column in heads:
            there = cells[language].get(column.task)
            ours = numbers.own_cell(*there, column.metrics) if there else ()
            row.append(_cell(paper, ("", column.task), language, ours))
        label = "In English" if language == "en" else f"Translated to {language}"
        lines.append(PaperRow("", language, label, "", tuple(row)))
    return [PaperTable(paper.name, f"{paper.title}, dev", _corner(study), tuple(heads), tuple(lines), compared=False)]


PAPER_TABLES: dict[str, Callable[[Study, JoinedScores], list[PaperTable]]] = {
    "table2": table2,
    "table3": table3,
    **{f"table{number}": partial(by_language, f"table{number}") for number in range(6, 15)},
    "table15": table15,
    "benchmark": benchmark,
}
"""The layouts by name."""

_UNITS = {"accuracy": "acc.", "chunk_f1": "F1", "pair_f1": "F1"}
_AVERAGE = Column(("Avg.", ""), AVERAGE, AVERAGE, (AVERAGE,))


def _paper_unit(names: Sequence[str]) -> str:
    return "F1/EM" if len(names) > 1 else _UNITS.get(names[0], names[0])


def _corner(study: Study) -> str:
    return "branch" if study.encoder == "new" else study.encoder.rpartition("/")[2]


def _differences(values: Values, base: Values) -> Values:
    return tuple(value - start for value, start in zip(values, base, strict=True)) if values and base else ()


def _average(cells: Sequence[Values]) -> Values:
    """The leaderboard's mean over tasks; empty if one is missing."""
    return (fmean(map(fmean, cells)),) if cells and all(cells) else ()


def _cell(paper: PublishedTable, row: Row, column: str, ours: Values, collapsed: bool = False) -> PaperCell:
    return PaperCell(
        ours,
        paper.cells.get((*row, column), ()),
        (*row, column) in published.disputed(paper.source, paper.name),
        collapsed,
    )


def _target_columns(numbers: StudyScores, *, others: bool = False) -> list[tuple[Column, StudyTask]]:
    """The paper's targets, with `others` also those that it lacks.

    Raises:
        UserError: the study has none of them.
    """
    study, columns = numbers.study, []
    for name, task in targets(study).items():
        split, metrics = numbers.split_of(task), metrics_of_cell(study, task)
        label = published.targets()[name].label + ("†" if split != numbers.split else "")
        columns.append((Column((label, _paper_unit(metrics)), name, AVERAGE, metrics, split), task))
    for task in study.targets if others else ():
        if catalogue_name(study, task.name) not in published.targets():
            split = numbers.split_of(task)
            label = task.name + ("†" if split != numbers.split else "")
            columns.append(
                (Column((label, _paper_unit((task.metric,))), task.name, AVERAGE, (task.metric,), split), task)
            )
    if not columns:
        hint = f"they are {', '.join(published.targets())}, or a task that is like one of these"
        raise UserError("the study scores none of the paper's target tasks", where=study.name, hint=hint)
    return columns


def _line(
    numbers: StudyScores, paper: PublishedTable, row: Row, branch: str, columns: Sequence[tuple[Column, StudyTask]],
    values: Sequence[Values], from_baseline: bool = False,
) -> PaperRow:  # fmt: skip
    """A row over target tasks, with their average."""
    cells = [
        _cell(paper, row, column.task, value, numbers.collapsed(task, branch))
        for (column, task), value in zip(columns, values, strict=True)
    ]
    average = _cell(paper, row, AVERAGE, _average(values))
    if len(columns) < len(published.targets()):
        average = replace(average, published=())  # its mean includes tasks that the study lacks
    return PaperRow(*row, row_label(row, branch), branch, (*cells, average), from_baseline)


def _benchmark(
    study: Study, found: JoinedScores, rows: Sequence[tuple[Row, str]], *, groups: bool = False
) -> PaperTable:
    """Test scores of branches and of the best models, with the published scores of others."""
    numbers, paper = StudyScores(study, found, "test"), published.table("table2")
    columns = _target_columns(numbers)
    lines = []
    for row, branch in rows:
        shown = (BENCHMARK, BASELINE) if row[1] == BASELINE else row
        line = _line(numbers, paper, shown, branch, columns, [numbers.cell(task, branch) for _, task in columns])
        if shown == row:  # this row of Table 2 holds differences on dev
            line = replace(line, cells=tuple(replace(cell, published=(), disputed=False) for cell in line.cells))
        lines.append(line)
    values, chosen = _best(study, found, numbers, columns)
    if any(values):
        lines.append(_line(numbers, paper, (BENCHMARK, BEST), "", columns, values))
    printed_only = [row for row in paper.rows if row[0] == BENCHMARK and row[1] not in (BASELINE, BEST)]
    lines += [_line(numbers, paper, row, "", columns, [()] * len(columns)) for row in printed_only]
    heads = [*(column for column, _ in columns), _AVERAGE]
    if groups:
        lines, heads = _grouped(lines, heads)
    title = "XTREME benchmark scores, mean over languages, test"
    return PaperTable(paper.name, title, _corner(study), tuple(heads), tuple(lines), chosen)


def _grouped(lines: Sequence[PaperRow], heads: Sequence[Column]) -> tuple[list[PaperRow], list[Column]]:
    """Add the means of the leaderboard's groups with more than one column."""
    of = {column.task: target.group for column in heads if (target := published.targets().get(column.task))}
    names = [name for name, count in Counter(of.values()).items() if count > 1]
    wider = []
    for line in lines:
        means = []
        for name in names:
            cells = [
                (cell, len(x.metrics)) for cell, x in zip(line.cells, heads, strict=True) if of.get(x.task) == name
            ]
            printed = [cell.published if len(cell.published) == full else () for cell, full in cells]
            means.append(PaperCell(_average([cell.ours for cell, _ in cells]), _average(printed)))
        wider.append(replace(line, cells=(*line.cells, *means)))
    return wider, [*heads, *(Column((name, "mean"), name, AVERAGE, (AVERAGE,)) for name in names)]


def _best(
    study: Study, found: JoinedScores, test: StudyScores, columns: Sequence[tuple[Column, StudyTask]]
) -> tuple[list[Values], tuple[str, ...]]:
    """The paper's best models: for each target the scores of the run that the paper's rule selects, and its name."""
    selected, values, runs = select_from(study, found, own_tasks=False).of("paper"), list[Values](), []
    for column, task in columns:
        selected_run = selected.get(task.name)
        series = [test.runs(task, metric, selected_run.branch) for metric in column.metrics] if selected_run else []
        if selected_run is None or not all(selected_run.seed in each for each in series):
            values.append(())
            continue
        values.append(tuple(each[selected_run.seed] for each in series))
        run = "" if selected_run.seed is None else f" (seed {selected_run.seed})"
        runs.append(f"{published.targets()[column.task].label} {selected_run.branch}{run}")
    return values, (f"best models, chosen on dev, of them the best run: {', '.join(runs)}",) if runs else ()
