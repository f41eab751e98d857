"""Figures of each target's scores by language, as Figure 1 of XTREME's appendix."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

from xstilts.analysis.aggregate import MEAN, ZERO_SHOT, Summary
from xstilts.languages import find
from xstilts.render.figure import Chart, Series
from xstilts.report import published
from xstilts.report.legend import short_names, unit
from xstilts.study.index import Study, StudyTask

_HUMAN = ("benchmark", "human")
"""The row of the paper's Table 2 with XTREME's estimates of human scores."""


def language_charts(summary: Summary) -> list[Chart]:
    """For each target a chart of the branches by language: training languages first, the others by family.

    A user's own task that is `like` another target of the study is drawn in that one's chart, in hollow markers: so a
    translated test set stands beside the human one.
    """
    own = _own_versions(summary.study)
    charts = (_chart(summary, task, own) for task in summary.study.targets if task.name not in own)
    return [chart for chart in charts if chart.series]


def _own_versions(study: Study) -> dict[str, str]:
    """The targets that are like another target of the study, each with that one."""
    targets = {task.name for task in study.targets}
    return {name: like for name, like in study.catalogue_names.items() if name in targets and like in targets}


def _chart(summary: Summary, task: StudyTask, own: dict[str, str]) -> Chart:
    study, drawn = summary.study, [task, *(x for x in summary.study.targets if own.get(x.name) == task.name)]
    lines = [x for x in summary.lines if (x.task, x.metric) in {(one.name, one.metric) for one in drawn}]
    codes = {x.language for x in lines if x.language not in (MEAN, ZERO_SHOT)}
    mean = next((name for name in (ZERO_SHOT, MEAN) if any(x.language == name for x in lines)), MEAN)
    ordered = sorted(codes, key=lambda code: (not task.trained_in(code), _family(code), code))
    at = {code: float(i) for i, code in enumerate([*ordered, mean])}
    ticks = {code: f"{code} ({_family(code)})" if _family(code) else code for code in at}
    series = [
        Series(name, points, hollow=one is not task)
        for one in drawn
        for branch, short in short_names(study.branches).items()
        if (
            points := tuple(
                (at[x.language], x.median, ticks[x.language])
                for x in lines
                if (x.task, x.branch) == (one.name, branch) and x.language in at
            )
        )
        for name in [short if one is task else f"{one.name}, {short}"]
    ]
    splits = "+".join(sorted({x.split for x in lines}))
    if series:
        series += _human(task, len(at))
    title = f"{study.name}, {task.name}: {unit(task.metric)} by language, {splits}"
    return Chart(title, "language (family)", unit(task.metric), tuple(series), tuple(ticks.values()))


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
