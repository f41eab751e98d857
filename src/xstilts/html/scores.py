"""The page's tables of scores: branches by targets, languages by branches, and one language's row in every task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from xstilts import languages, metrics
from xstilts.analysis.aggregate import ALL_TASKS, MEAN, ZERO_SHOT, Series, Summary, SummaryLine
from xstilts.html.tables import Cell, PageTable, Row, gain_colour, numbers, prose, score_colour
from xstilts.render.table import MISSING
from xstilts.reports.legend import COLLAPSED, baseline, over_seeds, short_names, unit
from xstilts.reports.significance import Significance
from xstilts.reports.significance_tables import format_gain, format_interval, format_p
from xstilts.reports.study_tables import marked_languages, shown_split
from xstilts.study.index import StudyTask

SIZES = {1.0: "a million articles or more", 0.1: "100,000 articles or more", 0.0: "fewer articles"}
"""Groups of languages by the size of their Wikipedia, each with its least number of articles in millions."""


@dataclass(frozen=True)
class ScoreTables:
    """The tables of a study's main scores.

    `found` has what is known of significance. `runs` are the scores by task, language and branch, each by seed.
    """

    summary: Summary
    found: Significance
    runs: Mapping[tuple[str, str], Mapping[str, Series]]

    @cached_property
    def _names(self) -> Mapping[str, str]:
        return short_names(self.summary.study.branches)

    @cached_property
    def _lines(self) -> Mapping[tuple[str, str, str], SummaryLine]:
        """The lines of main metrics by task, language, branch."""
        main = {task.name: task.metric for task in self.summary.study.tasks}
        lines = (x for x in self.summary.lines if x.task == ALL_TASKS or x.metric == main[x.task])
        return {(x.task, x.language, x.branch): x for x in lines}

    @cached_property
    def _marks(self) -> Mapping[tuple[str, str, str], str]:
        return {(x.task, x.language, x.branch): x.mark for x in self.found.rows if x.mark}

    @cached_property
    def tasks(self) -> list[StudyTask]:
        """The targets with scores."""
        scored = {line.task for line in self.summary.lines}
        return [task for task in self.summary.study.targets if task.name in scored]

    @cached_property
    def languages(self) -> list[str]:
        """The languages with scores, sorted by code."""
        return sorted({x.language for x in self._lines.values()} - {MEAN, ZERO_SHOT})

    def anchor(self, task: str) -> str:
        """The id of a task's heat map."""
        return f"t{self._task_numbers[task]}"

    def cell_anchor(self, task: str, language: str, branch: str) -> str:
        """The id of a cell in a language's table; short, because a large study has thousands."""
        row = self._language_numbers[language] * len(self._task_numbers) + self._task_numbers[task]
        return "c" + np.base_repr(row * len(self._branch_numbers) + self._branch_numbers[branch], 36).lower()

    @property
    def has_tests(self) -> bool:
        """Whether any difference has been tested."""
        return any(row.p is not None for row in self.found.rows)

    @property
    def gains(self) -> str:
        """What the gains are; empty without a baseline."""
        study = self.summary.study
        return (
            f"gain over {baseline(study)} at the same seed{over_seeds(study.seeds)}" if study.baseline_branches else ""
        )

    def titled(self, language: str) -> str:
        """A language's code and name."""
        return languages.titled(language)

    def language_anchor(self, language: str) -> str:
        """The id of a language."""
        return f"l{self._language_numbers[language]}"

    @cached_property
    def _task_numbers(self) -> Mapping[str, int]:
        return {task.name: i for i, task in enumerate(self.summary.study.tasks)}

    @cached_property
    def _language_numbers(self) -> Mapping[str, int]:
        return {language: i for i, language in enumerate(self.languages)}

    @cached_property
    def _branch_numbers(self) -> Mapping[str, int]:
        return {branch: i for i, branch in enumerate(self.summary.study.branches)}

    def _cell(self, task: str, language: str, branch: str, *, href: str = "", id: str = "", below: str = "") -> Cell:
        """A score with its gain, coloured, and its marks."""
        line = self._lines.get((task, language, branch))
        if line is None:
            return Cell()
        mark = self._marks.get((task, language, branch), "")
        gain = format_gain(line.gain) + mark if line.gain is not None else ""
        value = f"{line.median:.1f}{COLLAPSED * bool(line.collapsed)}"
        metric = "" if task == ALL_TASKS else line.metric
        alone = not self.gains and task != ALL_TASKS and metrics.get(line.metric).percent
        colour = score_colour(line.median) if alone else gain_colour(line.gain, metric)
        return Cell(value, gain=gain, colour=colour, href=href, id=id, below=below)

    def overviews(self) -> Iterator[PageTable]:
        """Branches by targets: zero-shot means, and means over all languages where they differ.

        A task that is trained on all its languages has no zero-shot mean.
        """
        study = self.summary.study
        all_tasks = any(x.task == ALL_TASKS for x in self.summary.lines)
        differ = any(ZERO_SHOT in marked_languages(self.summary, task) for task in self.tasks)
        captions = {ZERO_SHOT: "zero-shot mean"} if differ else {}
        for language, caption in (captions | {MEAN: "mean over all languages"}).items():
            scored = {task for task, x, _ in self._lines if x == language}
            shown = [task for task in self.tasks if task.name in scored]
            if not shown:
                continue
            heads = [Cell("branch"), *(self._head(task) for task in shown)]
            heads += [Cell(ALL_TASKS)] if all_tasks and language == MEAN else []
            rows = []
            for branch in study.branches:
                cells = [self._cell(x.name, language, branch, href=self.anchor(x.name)) for x in shown]
                if all_tasks and language == MEAN:
                    cells.append(self._cell(ALL_TASKS, MEAN, branch))
                rows.append(Row(Cell(self._names[branch], prose=True), cells))
            yield PageTable(f"Branches by targets: {caption}", heads, rows, kind="map")

    def _head(self, task: StudyTask) -> Cell:
        return Cell(
            task.name, below=f"{unit(task.metric)}, {shown_split(self.summary, task)}", href=self.anchor(task.name)
        )

    def heat_map(self, task: StudyTask) -> PageTable:
        """A task: languages by branches. Means and the languages that it is trained on stand apart, above."""
        study = self.summary.study
        branches = [x for x in study.branches if (task.name, MEAN, x) in self._lines] or study.branches
        fixed, rows = list[Row](), list[Row]()
        marks = marked_languages(self.summary, task)
        for language, mark in sorted(marks.items(), key=lambda x: x[0] not in (MEAN, ZERO_SHOT)):
            mean = language in (MEAN, ZERO_SHOT)
            cells = [
                self._cell(task.name, language, x, href="" if mean else self.cell_anchor(task.name, language, x))
                for x in branches
            ]
            apart = mean or task.trained_in(language)
            head = Cell(
                languages.titled(language) + mark, prose=True, href="" if mean else self.language_anchor(language)
            )
            (fixed if apart else rows).append(Row(head, cells, {} if apart else _groups(language)))
        caption = f"{task.name}: {unit(task.metric)}, {shown_split(self.summary, task)}"
        heads = [Cell("language"), *(Cell(self._names[x]) for x in branches)]
        return PageTable(caption, heads, rows, fixed, self.anchor(task.name), "map languages")

    def language(self, language: str) -> PageTable:
        """A language's row in every task and branch, with the score of each seed."""
        study = self.summary.study
        tasks = [x for x in self.tasks if any((x.name, language, y) in self._lines for y in study.branches)]
        heads = [Cell("branch")]
        for task in tasks:
            line = next(x for y in study.branches if (x := self._lines.get((task.name, language, y))))
            heads.append(
                Cell(
                    task.name,
                    below=f"{unit(task.metric)}, {line.split}, n = {line.n:,}",
                    href=f"w{self.anchor(task.name)}",
                )
            )
        rows = []
        for branch in study.branches:
            cells = []
            for task in tasks:
                by_seed = self.runs.get((task.name, language), {}).get(branch, {})
                each = " ".join(f"{value:.1f}" for value in by_seed.values()) if len(by_seed) > 1 else ""
                cells.append(
                    self._cell(
                        task.name, language, branch, below=each, id=self.cell_anchor(task.name, language, branch)
                    )
                )
            rows.append(Row(Cell(self._names[branch], prose=True), cells))
        known = languages.find(language)
        facts = f" ({known.family}, {known.script} script)" if known else ""
        below = "; below, the score of each seed" * (len(study.seeds) > 1)
        caption = f"{languages.titled(language)}{facts}: each branch in every task{below}"
        return PageTable(caption, heads, rows, kind="map", id=self.language_anchor(language))

    def intervals(self) -> Iterator[PageTable]:
        """For each target the differences of the means from the baseline, with their intervals."""
        heads = [*prose(["branch", "over"]), *numbers(["gain", "95 % interval", "p (Holm)", "runs compared"])]
        for task in self.tasks:
            means = {MEAN, ZERO_SHOT} & marked_languages(self.summary, task).keys()
            rows = [
                Row(
                    Cell(self._names[x.branch], prose=True),
                    [
                        Cell(x.language, prose=True),
                        *numbers([format_gain(x.gain) + x.mark, format_interval(x), format_p(x), x.paired]),
                    ],
                )
                for x in self.found.rows
                if x.task == task.name and x.language in means and x.p is not None
            ]
            if rows:
                yield PageTable(f"{task.name}: {unit(task.metric)}", heads, rows)

    def linked(self, table: PageTable) -> PageTable:
        """A table whose rows begin with a task's name, each with a link to the task's heat map."""
        anchors = {task.name: self.anchor(task.name) for task in self.tasks}
        heads = [replace(row.head, href=anchors.get(row.head.text.split(" ")[0], "")) for row in table.rows]
        return replace(table, rows=[replace(row, head=head) for row, head in zip(table.rows, heads, strict=True)])

    def collapsed(self) -> PageTable:
        """The runs that collapsed in the language that their task is trained on."""
        rows = []
        for task in self.tasks:
            for branch in self.summary.study.branches:
                lines = [self._lines.get((task.name, x, branch)) for x in (*task.train_languages, MEAN)]
                collapsed = [x for x in lines if x is not None and x.collapsed]
                for line in [x for x in collapsed if x.language != MEAN] or collapsed:
                    by_seed = self.runs.get((task.name, line.language), {}).get(branch, {})
                    seeds = ", ".join("all" if seed is None else str(seed) for seed in line.collapsed)
                    scores = ", ".join(f"{by_seed[seed]:.1f}" for seed in line.collapsed if seed in by_seed)
                    chance = MISSING if line.chance is None else f"{line.chance:.1f}"
                    cells = [
                        *prose([self._names[branch], languages.titled(line.language)]),
                        Cell(seeds),
                        Cell(scores or MISSING, href=self.anchor(task.name)),
                        Cell(chance),
                    ]
                    rows.append(Row(Cell(task.name, prose=True), cells))
        heads = [*prose(["task", "branch", "language"]), *numbers(["seeds", "scores", "chance"])]
        return PageTable("Collapsed runs", heads, rows)


def _groups(language: str) -> dict[str, str]:
    """What a language can be grouped by."""
    known, articles = languages.find(language), languages.articles(language)
    size = "unknown" if articles is None else next(name for least, name in SIZES.items() if articles >= least)
    return {
        "family": known.family if known else "unknown",
        "script": known.script if known else "unknown",
        "size": size,
    }
