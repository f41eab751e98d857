"""Scores of retrieval by layer and pooling (Table 10 and Figure 2 of XTREME's appendix)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TypeAlias

from xstilts import metrics
from xstilts.analysis.aggregate import MEAN, Summary, SummaryLine, build, plus_joined
from xstilts.analysis.results import StudyResults
from xstilts.errors import UserError
from xstilts.formats.pooling import Pooling
from xstilts.render.figure import Chart, Series
from xstilts.render.table import Document, Table, TableCell
from xstilts.reports import published
from xstilts.reports.legend import full_names, lacking, legend_lines, short_names, split_replaced, unit
from xstilts.reports.published import PublishedTable
from xstilts.store.rows import LayerScore
from xstilts.study.index import Study, StudyTask

MAX_LANGUAGES = 8
"""The most languages that a chart shows one by one; each has a marker of its own."""
_ORDER = ("cls", "mean", "concat")
"""The kinds of pooling in Table 10's order."""


@dataclass(frozen=True)
class LayerLine:
    """A branch's score with one pooling in a language, or the mean over the task's languages.

    `layers` is a hidden state (0: embeddings), or the first and the last of several: `5-8`. The median, the lowest and
    the highest are over `seeds` runs.
    """

    task: str
    branch: str
    pooling: str
    layers: str
    language: str
    split: str
    metric: str
    median: float
    min: float
    max: float
    seeds: int


def layers(results: StudyResults) -> Document:
    """For each branch and task the scores by layer and pooling, in Table 10's shape; figures over the layers.

    Raises:
        UserError: the study has no scores by layer, or the published ones are wanted and are of another task.
    """
    study = results.study
    summaries = _summaries(results)
    tasks = [task for task in study.targets if any(summary.splits(task) for summary in summaries.values())]
    if not tasks:
        hint = "give the recipe `settings: {poolings: [mean, cls, concat]}` and run it again"
        raise UserError("the study has no scores by layer", where="--layout layers", hint=hint)
    printed = published.table("table10", "xtreme")
    if results.beside and printed.task not in {study.catalogue_names.get(task.name, task.name) for task in tasks}:
        raise UserError(f"XTREME's Table 10 is of {printed.task}, which the study lacks", where="--beside")
    found = {pooling: _lines(summary, tasks) for pooling, summary in summaries.items()}
    tables = [*_overview(study, found, tasks)]
    tables += [
        table for branch in study.branches for task in tasks for table in _by_language(study, found, task, branch)
    ]
    tables += [_published(printed)] if results.beside else []
    lines = [_line(pooling, line) for pooling, of_pooling in found.items() for line in of_pooling]
    facts = {**study.header(), "lines": [asdict(line) for line in lines]}
    legend = _legend(next(iter(summaries.values())), tasks, results)
    return Document(tables, legend, LayerLine, lines, facts, [*_charts(study, found, tasks)])


def _summaries(results: StudyResults) -> dict[Pooling, Summary]:
    """The numbers of the study for each pooling, as if it were the task's own."""
    rows: dict[Pooling, list[LayerScore]] = defaultdict(list)
    for row in results.layer_scores():
        rows[Pooling(row.pooling, row.layers)].append(row)
    return {
        pooling: build(results.study, rows[pooling], split="test", notes=results.notes)
        for pooling in sorted(rows, key=lambda x: (_ORDER.index(x.kind), x.layers))
    }


def _lines(summary: Summary, tasks: Sequence[StudyTask]) -> list[SummaryLine]:
    """The main metric of each task, in the languages that every run has and in the mean over them."""
    return [
        line
        for task in tasks
        for line in summary.lines
        if (line.task, line.metric) == (task.name, task.metric)
        and (line.language in {MEAN, *task.languages} - {*summary.left_out.get(task.name, ())})
    ]


def _line(pooling: Pooling, x: SummaryLine) -> LayerLine:
    where = x.task, x.branch, pooling.kind, pooling.label.split()[-1], x.language, x.split, x.metric
    return LayerLine(*where, x.median, x.min, x.max, x.seeds)


_Lines: TypeAlias = Mapping[Pooling, Sequence[SummaryLine]]
_Column: TypeAlias = tuple[str, str, str]
"""A task, branch and language."""


def _table(title: str, heads: Sequence[tuple[str, str]], found: _Lines, columns: Sequence[_Column]) -> Table:
    """A row for each pooling; a column is a task, branch and language. The best score of a column stands out."""
    at = {pooling: {(x.task, x.branch, x.language): x for x in lines} for pooling, lines in found.items()}
    shown = [pooling for pooling in found if any(column in at[pooling] for column in columns)]
    best = [_best([at[pooling][column] for pooling in shown if column in at[pooling]]) for column in columns]
    rows = []
    for pooling in shown:
        cells = (_cell(at[pooling].get(column), top) for column, top in zip(columns, best, strict=True))
        rows.append((pooling.label, tuple(cells)))
    breaks = [i for i in range(1, len(shown)) if shown[i].kind != shown[i - 1].kind]
    return Table(title, "pooling", tuple(heads), tuple(rows), breaks=tuple(breaks))


def _best(lines: Sequence[SummaryLine]) -> float | None:
    """The best score of a column."""
    if not lines:
        return None
    best = max if metrics.get(lines[0].metric).higher_is_better else min
    return best(line.median for line in lines)


def _cell(line: SummaryLine | None, best: float | None) -> TableCell:
    return TableCell(f"{line.median:z.1f}", best=line.median == best) if line else TableCell()


def _overview(study: Study, found: _Lines, tasks: Sequence[StudyTask]) -> Iterator[Table]:
    """The means over languages by task and branch, unless there is only one of both."""
    scored = {(x.task, x.branch) for lines in found.values() for x in lines}
    names = short_names(study.branches)
    columns = [(t.name, b, MEAN) for t in tasks for b in study.branches if (t.name, b) in scored]
    if len(columns) > 1:
        heads = [(_marked(task, _splits(found, task)), names[branch]) for task, branch, _ in columns]
        yield _table(f"{study.name}: mean over languages by pooling, test", heads, found, columns)


def _by_language(study: Study, found: _Lines, task: StudyTask, branch: str) -> Iterator[Table]:
    """The scores of a task in a branch by language, with their mean."""
    codes = _languages(found, task, branch)
    if codes:
        name = short_names(study.branches)[branch]
        title = f"{study.name}, {name}, {task.name}: {unit(task.metric)} by pooling, {_splits(found, task.name)}"
        columns = [(task.name, branch, code) for code in (*codes, MEAN)]
        yield _table(title, [(code, "") for code in (*codes, MEAN)], found, columns)


def _languages(found: _Lines, task: StudyTask, branch: str) -> list[str]:
    scored = {x.language for lines in found.values() for x in lines if (x.task, x.branch) == (task.name, branch)}
    return [code for code in task.languages if code in scored]


def _splits(found: _Lines, task: str) -> str:
    return plus_joined(part for lines in found.values() for x in lines if x.task == task for part in x.split.split("+"))


def _marked(task: str, splits: str) -> str:
    return task + "†" if "dev" in splits else task


def _published(printed: PublishedTable) -> Table:
    """XTREME's Table 10, as printed."""
    rows = [
        (name, tuple(TableCell(f"{printed.cells['', name, code][0]:.2f}") for code in printed.columns))
        for _, name in printed.rows
    ]
    heads = tuple((code, "") for code in printed.columns)
    return Table("XTREME's Table 10: F1 of mBERT, 12 layers, BUCC, test", "pooling", heads, tuple(rows), breaks=(1, 4))


def _charts(study: Study, found: _Lines, tasks: Sequence[StudyTask]) -> Iterator[Chart]:
    """For each task the means over languages by layer, and as in Figure 2 a chart by language for each branch."""
    ticks = tuple(str(layer) for layer in range(max(layer for pooling in found for layer in pooling.layers) + 1))
    names = short_names(study.branches)
    for task in tasks:
        splits = _splits(found, task.name)
        several = len({x.branch for lines in found.values() for x in lines if x.task == task.name}) > 1
        series = [
            line
            for branch in study.branches
            for line in _mean_series(found, task.name, branch, f"{names[branch]}, " if several else "")
        ]
        title = f"{study.name}, {task.name}: mean over languages by layer, {splits}"
        yield Chart(title, "layer", unit(task.metric), tuple(series), ticks)
        for branch in study.branches:
            codes = _languages(found, task, branch)
            by_code = [Series(x, _points(found, "mean", (task.name, branch, x)), joined=True) for x in codes]
            if 1 < len(codes) <= MAX_LANGUAGES and all(one.points for one in by_code):
                title = f"{study.name}, {names[branch]}, {task.name}: mean of each layer's tokens, {splits}"
                yield Chart(title, "layer", unit(task.metric), tuple(by_code), ticks)


def _mean_series(found: _Lines, task: str, branch: str, before: str) -> Iterator[Series]:
    """A branch's means over languages: the poolings of single layers, and for a single branch concatenated layers."""
    for kind, name in (("mean", "mean of tokens"), ("cls", "first token")):
        if points := _points(found, kind, (task, branch, MEAN)):
            yield Series(before + name, points, hollow=kind == "cls", joined=True)
    for pooling, lines in found.items():
        y = next((x.median for x in lines if (x.task, x.branch, x.language) == (task, branch, MEAN)), None)
        if pooling.kind == "concat" and y is not None and not before:
            first, last = (float(layer) for layer in (pooling.layers[0], pooling.layers[-1]))
            yield Series(f"{pooling.label}: {y:z.1f}", ((first, y, pooling.label), (last, y, pooling.label)), line=True)


def _points(found: _Lines, kind: str, column: _Column) -> tuple[tuple[float, float, str], ...]:
    return tuple(
        (float(pooling.layers[0]), x.median, pooling.label)
        for pooling, lines in found.items()
        if pooling.kind == kind
        for x in lines
        if (x.task, x.branch, x.language) == column
    )


def _legend(summary: Summary, tasks: Sequence[StudyTask], results: StudyResults) -> list[str]:
    study = results.study
    left_out = {task.name: summary.left_out.get(task.name, ()) for task in tasks}
    on_dev = [task.name for task in tasks if "dev" in summary.splits(task)]
    seeds = ", ".join(map(str, study.seeds))
    explained = [
        ("Layer k: mean over the tokens of hidden state k (0: the embeddings); CLS k: its first token", True),
        ("Layer a-b: the means of these layers one after another; bold: best of the column", True),
        ("a threshold is tuned on dev for each pooling", any(task.metric == "pair_f1" for task in tasks)),
        (f"scores are medians over seeds {seeds}", len(study.seeds) > 1),
        (split_replaced("test", ", ".join(on_dev)), on_dev),
        (lacking(left_out), any(left_out.values())),
        ("XTREME's numbers are of mBERT; its CLS is of the last layer", results.beside),
    ]
    return legend_lines(explained, full_names(study), summary.notes)


LAYOUTS = {"layers": layers}
