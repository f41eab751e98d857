"""The paper's tables as documents: a study's numbers, and beside them those that were published."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean

from xstilts.analysis.aggregate import JoinedScores, SummaryLine, join, steps_of
from xstilts.analysis.results import StudyResults
from xstilts.render.table import MISSING, Document, Table, TableCell
from xstilts.reports import published, study_tables
from xstilts.reports.legend import AT_CHANCE, COLLAPSED, legend_lines, not_finished, split_replaced
from xstilts.reports.paper_cells import (
    BASELINE,
    BENCHMARK,
    OTHERS,
    WITH,
    WITHOUT,
    PaperCell,
    PaperRow,
    PaperTable,
    StudyScores,
    Values,
    catalogue_name,
    targets,
    translated,
)
from xstilts.reports.paper_tables import PAPER_TABLES
from xstilts.reports.published import AVERAGE
from xstilts.study.index import Study

DISPUTED = "*"
PUBLISHED, DIFFERENCE = "  paper", "  difference"


@dataclass(frozen=True)
class PaperNumber:
    """One number of the paper's tables: ours, the published one, ours minus that; None if missing.

    `block` and `configuration` are the paper's row (see `published.Number`), `branch` is the study's. With
    `from_baseline` the numbers are differences from the baseline, of two medians. `language` and `task` are "average"
    in means.
    """

    table: str
    block: str
    configuration: str
    branch: str
    task: str
    language: str
    split: str
    metric: str
    from_baseline: bool
    value: float | None
    published: float | None
    difference: float | None


def benchmark(results: StudyResults) -> Document:
    """Test scores in the leaderboard's groups, then each task by language; without the paper's tasks, all means."""
    study = results.study
    summary = results.summary("test")
    if not targets(study):
        return study_tables.document(summary)
    grouped = paper_table(replace(results, notes=()), "benchmark")
    rest = study_tables.tables(summary, ("first", "others"))
    facts = {**grouped.facts, "lines": [vars(line) for line in summary.lines], "benchmark": grouped.facts["lines"]}
    legend = [*grouped.legend, *study_tables.legend(summary, rest)]
    return Document([*grouped.tables, *rest], legend, SummaryLine, summary.lines, facts)


def paper_table(results: StudyResults, layout: str) -> Document:
    """A table of the paper, filled with a study's numbers.

    Args:
        results: of the study; `beside` adds the published numbers and the differences from them.
        layout: a name in `paper_tables.PAPER_TABLES`.

    Raises:
        UserError: the study has none of the table's tasks.
    """
    study, beside = results.study, results.beside
    found, own_notes = join(study, results.scores)
    tables = PAPER_TABLES[layout](study, found)
    if layout == "table3" and not beside:  # no language that the study lacks
        tables = [x for x in tables if any(cell.ours for line in x.lines for cell in line.cells)] or tables
    shown = [drawn for table in tables if (drawn := _table(table, beside)).rows]
    lines = [line for table in tables for line in _paper_numbers(table, beside)]
    missing = study.missing_cells(steps_of(found.values()), results.unscored)
    about = [note for note in own_notes if not note.startswith(_not_shown(study, tables))]
    about += _at_another_piece(study, tables) if beside else []
    notes = [" ".join(note.split()) for note in (*about, *results.notes)]
    facts = {
        "study": study.name,
        "encoder": study.encoder,
        "seeds": study.seeds,
        "layout": layout,
        "lines": [vars(line) for line in lines],
        "missing": [vars(cell) for cell in missing],
        "notes": [*(note for table in tables for note in table.notes), *notes],
    }
    if beside:
        facts["conflicts"] = [
            x._asdict() for x in published.conflicts() if (x.source, x.table) == ("paper", tables[0].name)
        ]
    explained = [
        (not_finished(study, missing), missing),
        *_explained(study, tables, beside),
        *_differences_from_paper(study, found, tables, beside),
    ]
    legend = legend_lines(explained, _own_names(study, tables), notes)
    return Document(shown, legend, PaperNumber, lines, facts)


def _not_shown(study: Study, tables: Sequence[PaperTable]) -> tuple[str, ...]:
    """The first words of the notes of tasks without a column."""
    shown = {column.task for table in tables for column in table.columns}
    names = {task.name: catalogue_name(study, task.name) for task in study.tasks}
    own = {task: translated(name, names.values())[0] for task, name in names.items()}
    return tuple(f"{task}: " for task, name in names.items() if not {name, own[task]} & shown)


def _at_another_piece(study: Study, tables: Sequence[PaperTable]) -> list[str]:
    """A note on the tag tasks in these tables whose words have their tag at another piece than in the paper."""
    shown, known = {column.task for table in tables for column in table.columns}, published.targets()
    others = [
        known[name].label
        for name, task in targets(study).items()
        if name in shown and known[name].first_piece not in ("", task.first_piece or "written")
    ]
    what = "first_piece is written, in the paper literal, so published numbers differ most in ja, th, zh"
    return [f"{', '.join(others)}: {what} (docs/scoring.md)"] if others else []


def _table(table: PaperTable, beside: bool) -> Table:
    best, leads = _best_cells(table) if table.compared else (set(), set())
    rows: list[tuple[str, tuple[TableCell, ...]]] = []
    breaks, block = [], None
    for i, line in enumerate(table.lines):
        if not (_is_ours(line) or beside):
            continue
        if rows and line.block != block:
            breaks.append(len(rows))
        block = line.block
        printed = [_table_cell(x.published, line.from_baseline, DISPUTED if x.disputed else "") for x in line.cells]
        if _is_ours(line):
            own = [_table_cell(x.ours, line.from_baseline, COLLAPSED if x.collapsed else "") for x in line.cells]
            marked = [replace(x, best=(i, k) in best, best_of_block=(i, k) in leads) for k, x in enumerate(own)]
            rows.append((_baseline_label(table) if line.configuration == BASELINE else line.label, tuple(marked)))
        if beside and any(cell.published for cell in line.cells):
            rows.append((PUBLISHED if _is_ours(line) else line.label, tuple(printed)))
            if _is_ours(line):
                rows.append((DIFFERENCE, tuple(_table_cell(_difference(x), signed=True) for x in line.cells)))
    return Table(_title(table), table.corner, tuple(x.head for x in table.columns), tuple(rows), breaks=tuple(breaks))


def _baseline_label(table: PaperTable) -> str:
    """The label of the baseline's row: the paper's, if the encoder is an XLM-R."""
    return published.label(BASELINE) if "xlm-r" in table.corner.lower() else "baseline"


def _title(table: PaperTable) -> str:
    name = f"Table {table.name.removeprefix('table')}"
    differences = "; differences of medians" if any(line.from_baseline for line in table.lines) else ""
    return (table.title if table.title.startswith("XTREME") else f"{name}: {table.title}") + differences


def _is_ours(line: PaperRow) -> bool:
    return bool(line.branch) or any(cell.ours for cell in line.cells)


def _difference(cell: PaperCell) -> Values:
    """Our numbers minus the published ones."""
    both = cell.ours and len(cell.ours) == len(cell.published)
    return tuple(a - b for a, b in zip(cell.ours, cell.published, strict=True)) if both else ()


def _table_cell(values: Values, signed: bool, mark: str = "") -> TableCell:
    words = [f"{value:+z.1f}" if signed else f"{value:.1f}" for value in values]
    return TableCell("/".join(words), mark=mark) if words else TableCell(MISSING)


def _best_cells(table: PaperTable) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
    """The best numbers, by row and column, of all rows and of each block; numbers equal as shown are equally good."""
    best, leads = set(), set()
    from_baseline = any(line.from_baseline for line in table.lines)
    for k in range(len(table.columns)):
        ranks = {
            i: 0.0
            if from_baseline and not line.from_baseline
            else round(fmean(round(x, 1) for x in line.cells[k].ours), 2)
            for i, line in enumerate(table.lines)
            if line.cells[k].ours
        }
        best |= {(i, k) for i in _highest(ranks)}
        for block in (WITHOUT, WITH):
            leads |= {(i, k) for i in _highest({i: x for i, x in ranks.items() if table.lines[i].block == block})}
    return best, leads


def _highest(ranks: Mapping[int, float]) -> list[int]:
    """The rows with the highest rank; none if all ranks are equal or there is one row."""
    return [i for i, rank in ranks.items() if rank == max(ranks.values())] if len({*ranks.values()}) > 1 else []


def _paper_numbers(table: PaperTable, beside: bool) -> Iterator[PaperNumber]:
    for line in table.lines:
        for column, cell in zip(table.columns, line.cells, strict=True):
            for k, metric in enumerate(column.metrics):
                value = cell.ours[k] if k < len(cell.ours) else None
                printed = cell.published[k] if beside and k < len(cell.published) else None
                if value is not None or printed is not None:
                    yield PaperNumber(
                        table=table.name,
                        block=line.block,
                        configuration=line.configuration,
                        branch=line.branch,
                        task=column.task,
                        language=line.configuration if table.name == "table15" else column.language,
                        split=column.split,
                        metric=metric,
                        from_baseline=line.from_baseline,
                        value=value,
                        published=printed,
                        difference=None if value is None or printed is None else value - printed,
                    )


def _explained(study: Study, tables: Sequence[PaperTable], beside: bool) -> list[tuple[str, object]]:
    """Explanations of the numbers and marks, each with its condition."""
    lines = [line for table in tables for line in table.lines]
    heads = [column for table in tables for column in table.columns]
    cells = [cell for line in lines for cell in line.cells]
    daggers = dict.fromkeys(x.head[0].removesuffix("†") for x in heads if x.head[0].endswith("†"))
    pairs = any(len(x.metrics) > 1 for x in heads) and any(x.task == AVERAGE for x in heads)
    blocks = {line.block for line in lines} & {WITHOUT, WITH}
    return [
        (f"medians over seeds {', '.join(map(str, study.seeds))}, each by itself", len(study.seeds) > 1),
        (
            f"row '{_baseline_label(tables[0])}': scores; others: their medians minus it",
            any(x.from_baseline for x in lines),
        ),
        (
            "bold: best of the column" + ("; underlined: best without MLM, and with it" if blocks else ""),
            any(table.compared and sum(map(_is_ours, table.lines)) > 1 for table in tables),
        ),
        (split_replaced("dev", ", ".join(daggers)), daggers),
        ("F1/EM: their mean counts in averages", pairs),
        (
            f"{COLLAPSED} some run collapsed: {AT_CHANCE}",
            any(x.collapsed for x in cells),
        ),
        (f"'{PUBLISHED.strip()}': as published; '{DIFFERENCE.strip()}': ours minus that", beside),
        (
            f"{DISPUTED} contradicts another published number: docs/reports.md",
            beside and any(x.disputed for x in cells),
        ),
        *((note, True) for table in tables for note in table.notes),
    ]


def _differences_from_paper(
    study: Study, found: JoinedScores, tables: Sequence[PaperTable], beside: bool
) -> list[tuple[str, object]]:
    """How the study differs from the paper's: languages, targets, rows; each with its condition."""
    paper, ours = published.table(tables[0].name), targets(study)
    lines = [line for table in tables for line in table.lines]
    there = {(line.block, line.configuration) for line in lines}
    if by_task := paper.name == "table15":  # its rows are columns here
        ours, there = {}, {("", column.task) for table in tables for column in table.columns}
    benchmark = any(block == BENCHMARK for block, _ in there)
    splits = ("test",) if benchmark and len(tables) == 1 else (paper.split, *["test"] * benchmark)
    labels, few = {name: target.label for name, target in published.targets().items()}, []
    of_tasks = AVERAGE not in paper.columns or not paper.task
    for split in splits:
        numbers = StudyScores(study, found, split)
        for name, task in ours.items():
            mine, theirs = set(numbers.languages(task)), published.languages(name, split)
            if mine and mine != theirs and paper.task in ("", name):
                on = f" on {split}" if split != splits[0] else ""
                more = f" and {len(mine - theirs)} others" if mine - theirs else ""
                few.append(f"{labels[name]} {len(mine & theirs)} of {len(theirs)}{more}{on}")
    lacking = [label for name, label in labels.items() if name not in ours and not by_task]
    rows = [row for row in paper.rows if row not in there and row[0] != BENCHMARK]
    others = [line.branch for line in lines if line.block == OTHERS]
    return [
        (f"languages of the paper's that the means are over: {', '.join(few)}", few),
        (f"targets that the study lacks: {', '.join(lacking)}", lacking and ours and of_tasks and not paper.task),
        (
            f"rows that the study lacks: {len(rows)} of {len(paper.rows)}",
            rows and len(rows) < len(paper.rows) and (ours or by_task),
        ),
        (f"rows that the paper lacks: {', '.join(others)}", others),
        (f"could not be read for certain: {paper.unread}", beside and paper.unread),
    ]


def _own_names(study: Study, tables: Sequence[PaperTable]) -> dict[str, str]:
    """The study's branch or task behind each label of the paper."""
    paper, lines = published.table(tables[0].name), [line for table in tables for line in table.lines]
    own = {line.label: line.branch for line in lines if line.branch not in ("", line.configuration, study.baseline)}
    if paper.name == "table15":  # its rows are columns here
        return own
    labels = {name: target.label for name, target in published.targets().items()}
    ours = {name: task.name for name, task in targets(study).items() if paper.task in ("", name)}
    return own | {labels[name]: task for name, task in ours.items() if task != name}


LAYOUTS = {**{name: partial(paper_table, layout=name) for name in PAPER_TABLES}, "benchmark": benchmark}
"""Layouts with published numbers to show beside ours."""
