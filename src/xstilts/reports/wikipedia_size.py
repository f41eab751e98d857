"""The correlation of scores with the size of a language's Wikipedia (Table 5 of XTREME's appendix)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from xstilts import languages
from xstilts.analysis.aggregate import Summary
from xstilts.analysis.results import StudyResults
from xstilts.errors import UserError
from xstilts.render.figure import Chart, Series
from xstilts.render.table import Document, Table, TableCell
from xstilts.reports import published
from xstilts.reports.legend import (
    dagger,
    full_names,
    languages_by_task,
    legend_lines,
    short_names,
    unit,
    views_of_medians,
)
from xstilts.reports.published import PublishedTable

MIN_LANGUAGES = 3
"""With fewer languages a correlation says nothing."""
XTREME = "xtreme"


@dataclass(frozen=True)
class Correlation:
    """Pearson's correlation of a branch's scores with the number of Wikipedia articles, over `languages` languages.

    The scores are medians over the seeds. `p` is two-sided. Both are None if all scores are equal.
    """

    task: str
    branch: str
    metric: str
    splits: str
    languages: int
    pearson: float | None
    p: float | None


def pearson(scores: Mapping[str, float]) -> tuple[int, float | None, float | None]:
    """The number of languages of known size, the correlation of their scores with it, and its two-sided p.

    >>> pearson({"en": 3.0, "de": 2.0, "sw": 1.0, "qaa": 9.0})[0]
    3
    """
    from scipy.stats import pearsonr

    known = {code: size for code in scores if (size := languages.articles(code)) is not None}
    values = [scores[code] for code in known]
    if len(known) < MIN_LANGUAGES or np.ptp(values) == 0 or np.ptp([*known.values()]) == 0:
        return len(known), None, None
    found = pearsonr([*known.values()], values)
    return len(known), float(found.statistic), float(found.pvalue)


def wikipedia(results: StudyResults) -> Document:
    """For each task and branch the correlation of the scores by language with Wikipedia's size.

    Raises:
        UserError: no task has scores in three languages of known size.
    """
    study = results.study
    summary = results.summary("test")
    found = [
        Correlation(task.name, branch, task.metric, summary.splits(task), *pearson(scores))
        for task in study.targets
        for branch in study.branches
        if (scores := summary.scores(task, branch))
    ]
    found = [line for line in found if line.languages >= MIN_LANGUAGES]
    if not found:
        what = f"no task has scores in {MIN_LANGUAGES} languages whose Wikipedia's size is known"
        raise UserError(what, where="--layout wikipedia")
    names = short_names(study.branches)
    at = {(line.task, line.branch): line for line in found}
    rows = []
    for task in (task for task in study.targets if any(line.task == task.name for line in found)):
        lines = [at.get((task.name, branch)) for branch in study.branches]
        sizes = {line.languages for line in lines if line}
        cells = (*(TableCell.of(line.pearson if line else None, "z.2f") for line in lines), TableCell(f"{max(sizes)}"))
        rows.append((f"{task.name} {unit(task.metric)}{dagger(summary, task)}", cells))
    heads = (*((name, "") for name in names.values()), ("languages", ""))
    title = f"{study.name}: Pearson correlation of scores and Wikipedia's size, test"
    tables = [Table(title, "task", heads, tuple(rows)), *(_published_tables() if results.beside else ())]
    return results.document(tables, _legend(summary, found, results.beside), found, _figures(summary, found))


def _legend(summary: Summary, found: Sequence[Correlation], beside: bool) -> list[str]:
    study = summary.study
    tasks = [task for task in study.targets if task.name in {line.task for line in found}]
    unknown = {x.name: [code for code in summary.languages(x) if languages.articles(code) is None] for x in tasks}
    explained = [
        ("over the languages of each task, the training language among them; articles as in XTREME's Table 1", True),
        *views_of_medians(summary, tasks),
        (
            "↓ lower is better; there a negative correlation is the expected one",
            any("↓" in unit(x.metric) for x in found),
        ),
        (f"size unknown, left out: {languages_by_task(unknown)}", any(unknown.values())),
        ("XTREME's Table 5: as printed, and as it follows from the scores in its Tables 8 to 17", beside),
        ("* differs by more than 0.01: docs/analyses.md", beside),
    ]
    return legend_lines(explained, full_names(study), summary.notes)


def _figures(summary: Summary, found: Sequence[Correlation]) -> list[Chart]:
    """For each task the scores over the size, a series a branch."""
    study, charts = summary.study, []
    names = short_names(study.branches)
    rho = {(line.task, line.branch): "-" if line.pearson is None else f"{line.pearson:z.2f}" for line in found}
    for task in study.targets:
        series = [  # a branch has its colour in all figures, so also one without points
            Series(f"{names[x]} (r = {rho.get((task.name, x), '-')})", _points(summary.scores(task, x)))
            for x in study.branches
        ]
        if any(one.points for one in series):
            title = f"{study.name}, {task.name}{dagger(summary, task)}: scores and Wikipedia's size, "
            title += summary.splits(task)
            charts.append(Chart(title, "millions of articles (logarithmic)", unit(task.metric), tuple(series)))
    return charts


def _points(scores: Mapping[str, float]) -> tuple[tuple[float, float, str], ...]:
    sized = ((languages.articles(code), value, languages.titled(code)) for code, value in scores.items())
    return tuple((size, value, name) for size, value, name in sized if size is not None)


def published_correlations() -> dict[tuple[str, str], tuple[float, float, int]]:
    """By model and task: XTREME's printed correlation, that of the scores in its tables by language, the languages."""
    printed, found = published.table("table5", XTREME), {}
    for _, model in printed.rows:
        for task in printed.columns:
            scores = _published_scores(task, model)
            size, value, _ = pearson(scores)
            assert value is not None, "every task has scores in several languages"
            found[model, task] = printed.cells["", model, task][0], value, size
    return found


def _published_scores(task: str, model: str) -> dict[str, float]:
    """A model's scores by language, in XTREME's own table of the task; of two metrics the first."""
    table: PublishedTable = next(
        table for table in published.tables(XTREME) if table.task == task and ("", model) in table.rows
    )
    cells = {code: table.cells["", model, code] for code in table.columns if code != published.AVERAGE}
    return {code: values[0] for code, values in cells.items() if values}


def _published_tables() -> list[Table]:
    found = published_correlations()
    models, labels = dict.fromkeys(model for model, _ in found), published.targets()
    heads = tuple((model, kind) for model in models for kind in ("printed", "from scores"))
    rows = []
    for task in dict.fromkeys(task for _, task in found):
        cells = []
        for model in models:
            printed, value, _ = found[model, task]
            cells += [
                TableCell.of(printed, ".2f"),
                TableCell(f"{value:z.2f}", mark="*" * (abs(value - printed) > AGREES)),
            ]
        size = next(size for (_, name), (*_, size) in found.items() if name == task)
        rows.append((labels[task].label, (*cells, TableCell(str(size)))))
    title = "XTREME's Table 5: Pearson correlation of scores and Wikipedia's size"
    return [Table(title, "task", (*heads, ("languages", "")), tuple(rows))]


AGREES = 0.0101
"""Two correlations that differ by no more are equal but for rounding of articles and scores."""
LAYOUTS = {"wikipedia": wikipedia}
