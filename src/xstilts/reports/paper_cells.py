"""A study's numbers in the paper's terms: a branch is a row, a task is a column, a cell holds medians over the seeds.

`paper_tables` fills the paper's tables with them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from xstilts import languages
from xstilts.analysis.aggregate import (
    ByBranch,
    JoinedScores,
    Series,
    collapsed_seeds,
    complete_languages,
    mean_over_languages,
    median_over_seeds,
)
from xstilts.reports import published
from xstilts.reports.published import AVERAGE, PublishedTable, Row
from xstilts.study.index import Study, StudyTask
from xstilts.tasks import GROUPS, RESERVED_NAMES, TASKS

BASELINE, BEST = "none", "best"
WITHOUT, WITH, OTHERS, BENCHMARK = "without MLM", "with MLM", "others", "benchmark"
"""Blocks of rows: the paper's, and `OTHERS` for branches that the paper lacks."""
MULTI_TASK = "multi-task"

Values: TypeAlias = tuple[float, ...]
"""The contents of a cell: no number, one, or F1 and EM."""


@dataclass(frozen=True)
class PaperCell:
    """Our numbers and the published ones."""

    ours: Values = ()
    published: Values = ()
    disputed: bool = False
    """Whether the published ones contradict other published numbers."""
    collapsed: bool = False
    """Whether some run collapsed in the language that it was trained on."""


@dataclass(frozen=True)
class Column:
    """A column: its heading, the task and the language of its numbers (AVERAGE for means)."""

    head: tuple[str, str]
    task: str
    language: str
    metrics: tuple[str, ...]
    split: str = ""


@dataclass(frozen=True)
class PaperRow:
    """A row: a branch of the study and the paper's configuration. With `from_baseline` it holds differences."""

    block: str
    configuration: str
    label: str
    branch: str
    cells: tuple[PaperCell, ...]
    from_baseline: bool = False


@dataclass(frozen=True)
class PaperTable:
    """One table of the paper."""

    name: str
    title: str
    corner: str
    columns: tuple[Column, ...]
    lines: tuple[PaperRow, ...]
    notes: tuple[str, ...] = ()
    compared: bool = True
    """Whether the best of each column is marked."""


@dataclass(frozen=True)
class StudyScores:
    """A study's scores on one split; test scores for a task without dev scores in any language, as in the paper."""

    study: Study
    found: JoinedScores
    split: str
    _rows_cache: dict[tuple[str, str], dict[str, ByBranch]] = field(default_factory=dict)
    _means_cache: dict[tuple[str, str], dict[str, Series]] = field(default_factory=dict)

    def rows(self, task: StudyTask, metric: str) -> Mapping[str, ByBranch]:
        """By language, the scores of each branch and seed."""
        if (task.name, metric) not in self._rows_cache:
            rows: dict[str, ByBranch] = {}
            for split in (self.split, "test"):
                every = {x: self.found.get((task.name, metric, x, split), {}) for x in task.languages}
                rows = rows or {language: by_branch for language, by_branch in every.items() if by_branch}
            self._rows_cache[task.name, metric] = rows
        return self._rows_cache[task.name, metric]

    def split_of(self, task: StudyTask) -> str:
        """The split of a task's scores."""
        found = [
            x.split
            for by_branch in self.rows(task, task.metric).values()
            for s in by_branch.values()
            for x in s.values()
        ]
        return found[0] if found else self.split

    def languages(self, task: StudyTask) -> tuple[str, ...]:
        """The languages of a task's mean: those with scores of all runs."""
        return tuple(complete_languages(self.rows(task, task.metric)))

    def runs(self, task: StudyTask, metric: str, branch: str, language: str = AVERAGE) -> Series:
        """A branch's score in a language, or its mean over the languages, by seed."""
        rows = self.rows(task, metric)
        if language != AVERAGE:
            return {seed: score.value for seed, score in rows.get(language, {}).get(branch, {}).items()}
        if (task.name, metric) not in self._means_cache:
            whole = {x: rows[x] for x in self.languages(task) if x in rows}
            self._means_cache[task.name, metric] = mean_over_languages(whole)
        return self._means_cache[task.name, metric].get(branch, {})

    def cell(self, task: StudyTask, branch: str, language: str = AVERAGE, metrics: Sequence[str] = ()) -> Values:
        """The median over the seeds of each given metric; by default of those that the paper prints."""
        series = [self.runs(task, metric, branch, language) for metric in metrics or metrics_of_cell(self.study, task)]
        return tuple(median_over_seeds(each.values()) for each in series) if all(series) else ()

    def own_cell(self, task: StudyTask, branch: str, metrics: Sequence[str]) -> Values:
        """The scores in the language that a task is trained on; without them the mean."""
        there = task.train_language in self.rows(task, task.metric)
        return self.cell(task, branch, task.train_language if there else AVERAGE, metrics)

    def collapsed(self, task: StudyTask, branch: str) -> bool:
        """Whether a run collapsed in the language that it was trained on."""
        rows = self.rows(task, task.metric)
        languages = task.languages if task.trained_in_each else (task.train_language,)
        return any(collapsed_seeds(rows.get(language, {}).get(branch, {})) for language in languages)


def catalogue_name(study: Study, task: str) -> str:
    """The paper's name of a study's task."""
    return study.catalogue_names.get(task, task)


def metrics_of_cell(study: Study, task: StudyTask) -> tuple[str, ...]:
    """The metrics in a task's cell."""
    target = published.targets().get(catalogue_name(study, task.name))
    return target.metrics if target and set(target.metrics) <= set(task.metrics) else (task.metric,)


def printed_in(page: PublishedTable, study: Study, task: StudyTask, base: str) -> tuple[str, ...]:
    """The metrics of a cell of a table whose rows are tasks, such as Table 15; `base` is the row's task."""
    known = tuple(dict.fromkeys(number.metric for number in page.numbers if number.task == base))
    return known if known and set(known) <= set(task.metrics) else metrics_of_cell(study, task)


def targets(study: Study) -> dict[str, StudyTask]:
    """The study's tasks by the paper's target that each represents, in the paper's order."""
    ours = {catalogue_name(study, task.name): task for task in reversed(study.tasks)}
    return {name: ours[name] for name in published.targets() if name in ours}


def configuration(study: Study, branch: str) -> Row:
    """The paper's row for a branch, by the set of tasks in its one mixture; weights are ignored."""
    if branch == study.baseline or branch == BASELINE:
        return "", BASELINE
    names = {catalogue_name(study, re.sub(r"^[\d.]+x", "", part)) for part in branch.split("+")}
    raw = {name for name in names if name in TASKS and TASKS[name].format.head.kind == "vocabulary"}
    tasks = names - raw
    if (
        branch in RESERVED_NAMES
        or re.search(r"[ ,()>]", branch)
        or not (len(tasks) == 1 or tasks == set(GROUPS["intermediate"]))
    ):
        return OTHERS, branch
    name = MULTI_TASK if len(tasks) > 1 else min(tasks)
    return (WITH if raw else WITHOUT), "+".join([name, *sorted(raw)])


def translated(name: str, known: Collection[str] = ()) -> tuple[str, str]:
    """A task and the language that its data were translated into, which is empty for an original.

    `known` are tasks that the catalogue lacks.

    >>> translated("hellaswag-zh-TW"), translated("anli-plus"), translated("reviews-es", ["reviews"])
    (('hellaswag', 'zh-TW'), ('anli-plus', ''), ('reviews', 'es'))
    """
    if name in TASKS:
        return name, ""
    bases = {task for task in (*TASKS, *known) if name.startswith(f"{task}-")}
    for task in sorted(bases, key=len, reverse=True):
        language = name.removeprefix(f"{task}-")
        if languages.well_formed(language) if task in TASKS else languages.find(language):
            return task, language
    return name, ""


def row_label(row: Row, branch: str) -> str:
    """A row's label."""
    name, *raw = row[1].split("+") if row[0] in (WITHOUT, WITH) else [row[1]]
    task, language = translated(name)
    label = published.label(name)
    if label == name and published.label(task) != task:
        label = f"{published.label(task)} {language}"
    return branch if row[0] == OTHERS else label + (" + MLM" if raw else "")


def in_paper_order(study: Study, paper: PublishedTable) -> list[tuple[Row, str]]:
    """The study's branches with their rows, in the paper's order; unknown ones come last in their block."""
    blocks, known = ["", WITHOUT, WITH, OTHERS], {row: i for i, row in enumerate(paper.rows)}
    rows = [(configuration(study, branch), branch) for branch in study.branches]
    return sorted(rows, key=lambda x: (blocks.index(x[0][0]), known.get(x[0], len(known))))
