"""Scores by language family and by script (Figure 3 of XTREME's appendix)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean
from typing import Literal

import numpy as np
from numpy.polynomial import Polynomial

from xstilts import languages, metrics
from xstilts.analysis.aggregate import Summary
from xstilts.analysis.results import StudyResults
from xstilts.errors import UserError
from xstilts.languages import articles
from xstilts.render.figure import Chart, Series
from xstilts.render.table import Document, Table, TableCell
from xstilts.reports.legend import (
    baseline,
    dagger,
    full_names,
    legend_lines,
    over_seeds,
    short_names,
    unit,
    views_of_medians,
)
from xstilts.study.index import StudyTask

DEGREE = 3
"""Of the polynomial; a fit needs more groups than it has coefficients."""
FINENESS = 10
"""Of its curve: points from a group to the next."""
MINIMUM, MAXIMUM = "minimum over tasks", "maximum over tasks"
"""Used as a task: the lowest and the highest score of a group; no task's name has a space."""


@dataclass(frozen=True)
class GroupScore:
    """The mean of a branch's scores over the languages of a group that a task has, or the extreme over tasks.

    `articles` is the mean of the group's Wikipedias in millions, None if unknown; `languages` counts those in the
    mean. `fit` is the polynomial's value at an extreme, None with too few groups. `gain` is the mean of the languages'
    gains over the baseline; None for the baseline itself, for an extreme, or where a language has none.
    """

    group: str
    articles: float | None
    branch: str
    task: str
    metric: str
    splits: str
    languages: int
    score: float
    fit: float | None = None
    gain: float | None = None


def group_layout(results: StudyResults, by: Literal["family", "script"]) -> Document:
    """For each branch and task the mean score of each group of languages, from few to many Wikipedia articles.

    Raises:
        UserError: no language with a score has a known group.
    """
    study = results.study
    summary = results.summary("test")
    tasks = [task for task in study.targets if _is_percentage(task) and summary.splits(task)]
    groups = _groups(summary, tasks, by)
    if not groups:
        raise UserError(f"no language with a score has a known {by}", where="--layout")
    lines = [line for branch in study.branches for line in _branch_lines(summary, tasks, branch, groups)]
    marked, views = {task.name + dagger(summary, task): task for task in tasks}, []
    for branch, name in short_names(study.branches).items():
        mine = [line for line in lines if line.branch == branch]
        if mine:
            title = f"{study.name}, {name}: test scores by {by}, from few to many Wikipedia articles"
            views.append(_view(title, by, mine, marked, groups))
    shown, charts = zip(*views, strict=True)
    return results.document(shown, _legend(summary, tasks, by, groups, lines), lines, charts, groups=groups)


def _is_percentage(task: StudyTask) -> bool:
    metric = metrics.get(task.metric)
    return metric.percent and metric.higher_is_better


def _groups(summary: Summary, tasks: Sequence[StudyTask], by: str) -> dict[str, tuple[str, ...]]:
    """The scored languages of each group, the groups by their mean size; those of unknown size come first."""
    found: dict[str, dict[str, None]] = {}
    for code in _scored(summary, tasks):
        if language := languages.find(code):
            found.setdefault(getattr(language, by), {})[code] = None
    return dict(
        sorted(((group, tuple(codes)) for group, codes in found.items()), key=lambda x: (_size(x[1]) or 0, x[0]))
    )


def _scored(summary: Summary, tasks: Sequence[StudyTask]) -> dict[str, None]:
    return dict.fromkeys(code for task in tasks for code in summary.languages(task))


def _size(codes: Sequence[str]) -> float | None:
    """The mean number of articles, in millions, over the languages for which it is known."""
    sizes = [size for code in codes if (size := articles(code)) is not None]
    return fmean(sizes) if sizes else None


def _branch_lines(
    summary: Summary, tasks: Sequence[StudyTask], branch: str, groups: Mapping[str, Sequence[str]]
) -> Iterator[GroupScore]:
    by_group: dict[str, list[GroupScore]] = {group: [] for group in groups}
    for task in tasks:
        scores, gains, splits = summary.scores(task, branch), summary.gains(task, branch), summary.splits(task)
        for group, codes in groups.items():
            mine = [code for code in codes if code in scores]
            if mine:
                gain = fmean(gains[code] for code in mine) if gains.keys() >= {*mine} else None
                where = group, _size(codes), branch, task.name, task.metric, splits
                score = fmean(scores[code] for code in mine)
                by_group[group].append(GroupScore(*where, len(mine), score, gain=gain))
    yield from (line for of_group in by_group.values() for line in of_group)
    scored = {group: of_group for group, of_group in by_group.items() if of_group}
    for name, extreme in ((MINIMUM, min), (MAXIMUM, max)):
        ends = [extreme(of_group, key=lambda line: line.score) for of_group in scored.values()]
        cubic = fit([end.score for end in ends])
        for i, end in enumerate(ends):
            yield replace(end, task=name, gain=None, fit=None if cubic is None else float(cubic(i)))


def fit(values: Sequence[float]) -> Polynomial | None:
    """The least-squares polynomial of third degree over values at 0, 1, 2, ...; None with too few of them.

    >>> fit([10, 10, 20, 10, 10])(np.arange(5)).round(3).tolist()
    [9.143, 13.429, 14.857, 13.429, 9.143]
    >>> fit([1, 2, 3, 4])
    """
    return Polynomial.fit(np.arange(len(values)), values, DEGREE) if len(values) > DEGREE + 1 else None


def _heads(groups: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Each group with the number of its languages, as XTREME shows it."""
    return {group: f"{group} ({len(codes)}){'' if _size(codes) else '‡'}" for group, codes in groups.items()}


def _view(
    title: str,
    by: str,
    lines: Sequence[GroupScore],
    tasks: Mapping[str, StudyTask],
    groups: Mapping[str, Sequence[str]],
) -> tuple[Table, Chart]:
    """A branch's table and figure; `tasks` have the names shown."""
    heads, at = _heads(groups), {(line.group, line.task): line for line in lines}
    rows = []
    for group, head in heads.items():
        ends = [at.get((group, end)) for end in (MINIMUM, MAXIMUM)]
        found = [*(at.get((group, task.name)) for task in tasks.values()), *ends]
        fits = [TableCell.of(line.fit if line else None) for line in ends]
        rows.append((head, (TableCell.of(_size(groups[group]), ".2f"), *map(_cell, found), *fits)))
    of_ends = (("minimum", ""), ("maximum", ""), ("minimum", "cubic fit"), ("maximum", "cubic fit"))
    columns = (("articles", "millions"), *((name, unit(task.metric)) for name, task in tasks.items()), *of_ends)

    def points(task: str) -> tuple[tuple[float, float, str], ...]:
        return tuple((float([*groups].index(x.group)), x.score, heads[x.group]) for x in lines if x.task == task)

    series = [Series(name, points(task.name)) for name, task in tasks.items()]
    for end in (MINIMUM, MAXIMUM):
        if curve := _curve(points(end)):
            series.append(Series(f"cubic fit of the {end.split()[0]}", curve, line=True))
    chart = Chart(title, f"{by} (languages)", "score", tuple(series), tuple(heads.values()))
    return Table(title, by, columns, tuple(rows)), chart


def _cell(line: GroupScore | None) -> TableCell:
    if line is None:
        return TableCell()
    return replace(TableCell.of(line.score), gain="" if line.gain is None else f"{line.gain:+z.1f}")


def _curve(ends: Sequence[tuple[float, float, str]]) -> tuple[tuple[float, float, str], ...]:
    """Points along the fit of extremes, each a place, a score and a name; empty with too few for a fit."""
    cubic = fit([score for _, score, _ in ends])
    if cubic is None:
        return ()
    steps = range((len(ends) - 1) * FINENESS + 1)
    places = np.interp(np.array(steps) / FINENESS, range(len(ends)), [place for place, *_ in ends])
    names = ["" if k % FINENESS else ends[k // FINENESS][2] for k in steps]
    return tuple(zip(places.tolist(), cubic(np.array(steps) / FINENESS).tolist(), names, strict=True))


def _legend(
    summary: Summary,
    tasks: Sequence[StudyTask],
    by: str,
    groups: Mapping[str, Sequence[str]],
    lines: Sequence[GroupScore],
) -> list[str]:
    study = summary.study
    unknown = [code for code in _scored(summary, tasks) if languages.find(code) is None]
    others = [task.name for task in study.targets if summary.splits(task) and not _is_percentage(task)]
    signed = f"signed numbers: the mean of the languages' gains over {baseline(study)} at the same seed"
    explained = [
        (f"scores: the mean over the task's languages of the {by}; in brackets, how many the study has", True),
        (signed + over_seeds(study.seeds), any(line.gain is not None for line in lines)),
        ("articles: mean of the Wikipedias, in millions, as in XTREME's Table 1", True),
        *views_of_medians(summary, tasks),
        ("minimum, maximum: over the tasks; the cubic fit is over the groups in this order", True),
        (f"no fit: it needs {DEGREE + 2} groups", len(groups) <= DEGREE + 1),
        ("‡ size unknown, shown first", any(_size(codes) is None for codes in groups.values())),
        (f"{by} unknown, left out: {', '.join(unknown)}", unknown),
        (f"not in percent, left out: {', '.join(others)}", others),
    ]
    return legend_lines(explained, full_names(study), summary.notes)


LAYOUTS = {"families": partial(group_layout, by="family"), "scripts": partial(group_layout, by="script")}
