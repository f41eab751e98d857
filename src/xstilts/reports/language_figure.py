"""Figures of each target's scores by language, as Figure 1 of XTREME's appendix."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from statistics import fmean

from xstilts.analysis.aggregate import MEAN, ZERO_SHOT, Summary
from xstilts.analysis.results import StudyResults
from xstilts.languages import find
from xstilts.render.figure import Chart, Series
from xstilts.render.table import Document
from xstilts.reports import published
from xstilts.reports.legend import short_names, unit
from xstilts.reports.study_tables import document, marked_languages, shown_split
from xstilts.study.index import Study, StudyTask

_HUMAN = ("benchmark", "human")
"""The row of the paper's Table 2 with XTREME's estimates of human scores."""


def languages(results: StudyResults) -> Document:
    """Each target by language, with a figure."""
    summary = results.summary()
    return replace(document(summary, ("first", "others")), figures=language_charts(summary))


def language_charts(summary: Summary) -> list[Chart]:
    """For each target a chart of the branches by language: training languages first, the others by family.

    A user's own task that is `like` another target of the study is drawn in that one's chart, in hollow markers: so a
    translated test set stands beside the human one.
    """
    own = _own_versions(summary.study)
    charts = (_chart(summary, task, own) for task in summary.study.targets if task.name not in own)
    return [chart for chart in charts if any(one.points for one in chart.series)]


def _own_versions(study: Study) -> dict[str, str]:
    """The targets that are like another target of the study, each with that one."""
    targets = {task.name for task in study.targets}
    return {name: like for name, like in study.catalogue_names.items() if name in targets and like in targets}


def _chart(summary: Summary, task: StudyTask, own: dict[str, str]) -> Chart:
    drawn = [task, *(x for x in summary.study.targets if own.get(x.name) == task.name)]
    marks = {code: mark for one in reversed(drawn) for code, mark in marked_languages(summary, one).items()}
    mean = ZERO_SHOT if ZERO_SHOT in marks else MEAN
    ordered = sorted(marks.keys() - {MEAN, ZERO_SHOT}, key=lambda x: (not task.trained_in(x), _family(x), x))
    labels = {x: x + marks.get(x, "") + (f" ({_family(x)})" if _family(x) else "") for x in (*ordered, mean)}
    at = {code: float(i) for i, code in enumerate(labels)}
    series, split = list[Series](), shown_split(summary, task)
    for one in drawn:
        lines = [x for x in summary.lines if (x.task, x.metric) == (one.name, one.metric) and x.language in at]
        prefix = "" if one is task else one.name + "†" * (shown_split(summary, one) != split) + ", "
        for branch, name in short_names(summary.study.branches).items():
            points = tuple((at[x.language], x.median, labels[x.language]) for x in lines if x.branch == branch)
            series.append(Series(prefix + name, points, hollow=one is not task))  # also without points: same colours
    if any(one.points for one in series):
        series += _human(task, len(at))
    title = f"{summary.study.name}, {task.name}: {unit(task.metric)} by language, {split}"
    return Chart(title, "language (family)", unit(task.metric), tuple(series), tuple(labels.values()))


def _family(code: str) -> str:
    language = find(code)
    return language.family if language else ""


def _human(task: StudyTask, width: int) -> Iterator[Series]:
    """A line at the estimate of human performance, where there is one for the task's main metric."""
    target = published.targets().get(task.name)
    values = published.table("table2").cells.get((*_HUMAN, task.name), ())
    if not target or not values:
        return
    by_metric = dict(zip(target.metrics, values, strict=False))
    value = by_metric.get(task.metric, fmean(values) if len(values) > 1 else None)
    if value is not None:
        name = f"human, estimated (Hu et al., 2020): {value:.1f}"
        yield Series(name, ((-0.5, value, "all languages"), (width - 0.5, value, "all languages")), line=True)


LAYOUTS = {"languages": languages}
