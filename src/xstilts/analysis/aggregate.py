"""Score rows joined with the cells of a study, then averaged over languages and tasks, with medians over seeds.

For each task and branch: the unweighted mean over languages for each seed, then the median over the seeds (paper,
section 3.3). A gain is the median, over the seeds, of the difference from the baseline at the same seed. No metric is
computed here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import isfinite, nan
from statistics import fmean, median
from typing import Literal, Protocol, TypeAlias, TypeVar

from xstilts import metrics
from xstilts.store.rows import Score
from xstilts.study.index import Cell, Study, StudyTask

MEAN, ZERO_SHOT, ALL_TASKS = "mean", "zero-shot", "all tasks"
"""Used as a language (the first two) or a task (the last); no language or task can have such a name."""

Split: TypeAlias = Literal["dev", "test"]


class _OnSplit(Protocol):
    """A row of a report."""

    @property
    def task(self) -> str: ...
    @property
    def split(self) -> str: ...


T = TypeVar("T")


@dataclass(frozen=True)
class SummaryLine:
    """One number of a report: a metric of a branch on one language of a task, or a mean over languages or tasks.

    `median`, `min` and `max` are over `seeds` runs, in the metric's unit; `n` is the number of examples, summed in
    means; `gain` is None for the baseline or where it is unknown. `collapsed` are the seeds whose runs collapsed in
    the language that the task is trained on (None: a run that serves every seed). It is set there and in means over
    languages; elsewhere a score at chance is weak transfer. `chance` is None in means and where it is not known.
    """

    task: str
    branch: str
    language: str
    split: str
    metric: str
    median: float
    min: float
    max: float
    seeds: int
    n: int
    gain: float | None
    chance: float | None
    collapsed: tuple[int | None, ...]


@dataclass(frozen=True)
class Summary:
    """The numbers of a study, for the layouts."""

    study: Study
    split: Split
    """As in the paper's Table 2, models are compared on dev; a language without this split shows the other one."""
    lines: tuple[SummaryLine, ...]
    missing: tuple[Cell, ...]
    """Cells without a score: not finished, or failed. They count nowhere."""
    left_out: Mapping[str, tuple[str, ...]]
    """For each task the languages that no mean includes, because some branch or seed lacks them."""
    notes: tuple[str, ...]
    """Remarks of tasks and trainings on their numbers."""

    def scores(self, task: StudyTask, branch: str) -> dict[str, float]:
        """A branch's median of the main metric in each language that every run of the task has."""
        whole = self.languages(task)
        return {x.language: x.median for x in self._lines(task) if x.branch == branch and x.language in whole}

    def gains(self, task: StudyTask, branch: str) -> dict[str, float]:
        """A branch's gain of the main metric in each language of `scores`; empty for the baseline."""
        whole, mine = self.languages(task), (x for x in self._lines(task) if x.branch == branch)
        return {x.language: x.gain for x in mine if x.language in whole and x.gain is not None}

    def languages(self, task: StudyTask) -> tuple[str, ...]:
        """The languages that every run of a task has."""
        left_out = self.left_out.get(task.name, ())
        return tuple(dict.fromkeys(x.language for x in self._lines(task) if x.language not in left_out))

    def splits(self, task: StudyTask) -> str:
        """The splits that a task's languages show: `dev`, `test`, `dev+test`; empty without scores."""
        return plus_joined(x.split for x in self._lines(task))

    def _lines(self, task: StudyTask) -> Sequence[SummaryLine]:
        return self._main_lines.get((task.name, task.metric), ())

    @cached_property
    def _main_lines(self) -> Mapping[tuple[str, str], Sequence[SummaryLine]]:
        """The lines of single languages by task and metric."""
        found: dict[tuple[str, str], list[SummaryLine]] = defaultdict(list)
        for line in self.lines:
            if line.language not in (MEAN, ZERO_SHOT):
                found[line.task, line.metric].append(line)
        return found


Series: TypeAlias = dict[int | None, float]
"""A value for each seed; the key None is one value that serves every seed."""

ByBranch: TypeAlias = dict[str, dict[int | None, Score]]


def build(
    study: Study, scores: Iterable[Score], *, split: Split = "dev", notes: Sequence[str] = (),
    unscored: Collection[str] = (),
) -> Summary:  # fmt: skip
    """Join score rows with a study's cells and summarize them. Rows that belong to no cell are skipped.

    Args:
        study: the planned branches and tasks.
        scores: rows of its evaluations.
        split: the wanted one.
        notes: shown below the tables, see `Store.notes`.
        unscored: finished steps without scores, whose cells are not missing.

    Raises:
        UserError: a metric is unknown.
    """
    found, found_notes = join(study, scores)
    lines: list[SummaryLine] = []
    left_out: dict[str, tuple[str, ...]] = {}
    means: dict[str, dict[str, Series]] = {}
    scored = set[str]()
    for task in study.tasks:
        for name in task.metrics:
            metrics.get(name)
            shown = scores_by_language(task, name, found, split)
            runs = {(branch, seed) for by_branch in shown.values() for branch, seed in runs_of(by_branch)}
            whole = complete_languages(shown)
            collapsed = collapsed_by_language(task, name, shown, found)
            lines += _language_lines(study, task, name, shown, whole, collapsed)
            if name == task.metric:
                scored |= steps_of(shown.values())
                scorable = runs or any(cell.step not in unscored for cell in study.cells if cell.task == task.name)
                others = (language for language in task.languages if language not in whole)
                left_out[task.name] = tuple(others) if scorable else ()
                means[task.name] = mean_over_languages(whole)
    lines += _task_mean_lines(study, lines, means)
    split = one_split(study, lines, split)
    return Summary(
        study,
        split,
        tuple(lines),
        missing=study.missing_cells(scored, unscored),
        left_out={task: languages for task, languages in left_out.items() if languages},
        notes=tuple(" ".join(note.split()) for note in (*found_notes, *notes)),
    )


JoinedScores: TypeAlias = dict[tuple[str, str, str, str], ByBranch]
"""Rows by task, metric, language, split."""


def join(study: Study, scores: Iterable[Score]) -> tuple[JoinedScores, tuple[str, ...]]:
    """The score rows of a study's cells, by task, metric, language and split, and the notes of its tasks."""
    cells: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell in study.cells:
        cells[cell.step, cell.task].append(cell)
    found: JoinedScores = defaultdict(dict)
    for score in scores:
        for cell in cells.get((score.step, score.task), ()):
            if score.seed in (None, cell.seed):
                by_branch = found[score.task, score.metric, score.language, score.split]
                by_branch.setdefault(cell.branch, {})[score.seed] = score
    return found, tuple(f"{task.name}: {task.note}" for task in study.tasks if task.note)


def other_split(split: str) -> str:
    """The split that is shown where there are no scores on the wanted one."""
    return "test" if split == "dev" else "dev"


def one_split(study: Study, rows: Iterable[_OnSplit], split: Split) -> Split:
    """The split that a report names: test if all targets show test, where dev was wanted."""
    shown = {row.split for row in rows if row.task in {task.name for task in study.targets}}
    return "test" if shown == {"test"} else split


def scores_by_language(task: StudyTask, name: str, found: JoinedScores, split: str) -> dict[str, ByBranch]:
    """Rows of each scored language: on the wanted split if all have it, else on the other one if all have that.

    Where neither split has all languages, those without the wanted one show the other.
    """
    wanted, other = (
        {x: by_branch for x in task.languages if (by_branch := found.get((task.name, name, x, either)))}
        for either in (split, other_split(split))
    )
    mixed = {x: wanted.get(x) or other[x] for x in task.languages if x in wanted or x in other}
    return other if len(wanted) < len(mixed) == len(other) else mixed


def runs_of(by_branch: ByBranch) -> set[tuple[str, int | None]]:
    """Branches with their seeds."""
    return {(branch, seed) for branch, by_seed in by_branch.items() for seed in by_seed}


def steps_of(rows: Iterable[ByBranch]) -> set[str]:
    """The steps of score rows."""
    return {score.step for by_branch in rows for by_seed in by_branch.values() for score in by_seed.values()}


def complete_languages(shown: Mapping[str, ByBranch]) -> dict[str, ByBranch]:
    """The languages with scores of every run."""
    runs = {run for by_branch in shown.values() for run in runs_of(by_branch)}
    return {language: by_branch for language, by_branch in shown.items() if runs_of(by_branch) == runs}


def incomplete_languages(task: StudyTask, found: JoinedScores, split: str) -> tuple[str, ...]:
    """The languages of a task that some branch or seed lacks; see `choose` for the split."""
    shown = scores_by_language(task, task.metric, found, split)
    whole = complete_languages(shown)
    return tuple(language for language in shown if language not in whole)


def _language_lines(
    study: Study, task: StudyTask, name: str, shown: dict[str, ByBranch], whole: dict[str, ByBranch],
    collapsed: CollapsedSeeds,
) -> list[SummaryLine]:  # fmt: skip
    rows = [*((x, {x: shown[x]}) for x in shown), *languages_of_means(task, whole).items()]
    return [
        replace(line, collapsed=collapsed.get(x, {}).get(line.branch, ()))
        for x, by_language in rows
        for line in _summary_lines(study, task.name, x, name, by_language)
    ]


def languages_of_means(task: StudyTask, whole: Mapping[str, T]) -> dict[str, dict[str, T]]:
    """What belongs to the languages of each mean: all of them, and those that the task is not trained on."""
    return {MEAN: {**whole}, ZERO_SHOT: {x: rows for x, rows in whole.items() if not task.trained_in(x)}}


CollapsedSeeds: TypeAlias = Mapping[str, Mapping[str, tuple[int | None, ...]]]
"""The seeds whose runs collapsed, by language (or mean) and branch."""


def collapsed_by_language(
    task: StudyTask, name: str, shown: Mapping[str, ByBranch], found: JoinedScores
) -> CollapsedSeeds:
    """The seeds whose runs collapsed in the training language, for this language and for the means.

    The scores in the training language are those shown, or its dev scores if it is not among the task's languages. If
    each language has a training of its own, each has its own seeds, and the mean has those of all.
    """
    if task.trained_in_each:
        each = {x: _collapsed(by_branch) for x, by_branch in shown.items()}
        branches = dict.fromkeys(branch for by_branch in each.values() for branch in by_branch)
        of_mean = {x: tuple(dict.fromkeys(seed for by in each.values() for seed in by.get(x, ()))) for x in branches}
        return {**each, MEAN: of_mean}
    trained = shown.get(task.train_language) or found.get((task.name, name, task.train_language, "dev"), {})
    return dict.fromkeys((task.train_language, MEAN, ZERO_SHOT), _collapsed(trained))


def _collapsed(trained: ByBranch) -> dict[str, tuple[int | None, ...]]:
    return {branch: collapsed_seeds(by_seed) for branch, by_seed in trained.items()}


def collapsed_seeds(by_seed: Mapping[int | None, Score]) -> tuple[int | None, ...]:
    """The seeds whose runs collapsed: scored within two standard errors of chance."""
    return tuple(
        seed for seed, s in by_seed.items() if s.chance is not None and metrics.at_chance(s.value, [s.chance], [s.n])
    )


def _summary_lines(
    study: Study, task: str, language: str, name: str, rows: Mapping[str, ByBranch]
) -> list[SummaryLine]:
    """One line for each branch that has rows: the mean over the languages in `rows`."""
    series = mean_over_languages(rows)
    lines = []
    for branch in (branch for branch in study.branches if branch in series):
        samples = [next(iter(by_branch[branch].values())) for by_branch in rows.values()]
        split, n = plus_joined(sample.split for sample in samples), sum(sample.n for sample in samples)
        line = _summary_line(study, series, branch, task=task, language=language, split=split, metric=name, n=n)
        lines.append(replace(line, chance=samples[0].chance) if len(samples) == 1 else line)
    return lines


def median_over_seeds(values: Iterable[float]) -> float:
    """The median, which represents the runs of all seeds (paper, section 3.3)."""
    return median(values)


def mean_over_languages(rows: Mapping[str, ByBranch]) -> dict[str, Series]:
    """For each branch and seed the mean over languages, which must have the same branches and seeds."""
    some = next(iter(rows.values()), {})
    return {
        branch: {seed: fmean(by_branch[branch][seed].value for by_branch in rows.values()) for seed in by_seed}
        for branch, by_seed in some.items()
    }


def _task_mean_lines(
    study: Study, lines: Sequence[SummaryLine], means: Mapping[str, Mapping[str, Series]]
) -> list[SummaryLine]:
    """The mean over tasks of the main metrics, for branches that have all tasks that any branch has."""
    tasks = [task for task in study.targets if means[task.name]]
    if len(tasks) < 2 or not all(metrics.get(task.metric).percent for task in tasks):
        return []
    series = {branch: _average([means[task.name].get(branch, {}) for task in tasks]) for branch in study.branches}
    main = {(task.name, task.metric, MEAN) for task in tasks}
    result = []
    for branch in (branch for branch in study.branches if series[branch]):
        parts = [x for x in lines if x.branch == branch and (x.task, x.metric, x.language) in main]
        split, name = plus_joined(x.split for x in parts), plus_joined(x.metric for x in parts)
        n = sum(x.n for x in parts)
        result.append(
            _summary_line(study, series, branch, task=ALL_TASKS, language=MEAN, split=split, metric=name, n=n)
        )
    return result


def _summary_line(study: Study, series: Mapping[str, Series], branch: str, *, n: int, **where: str) -> SummaryLine:
    values = series[branch].values()
    return SummaryLine(
        **where,
        branch=branch,
        median=median_over_seeds(values),
        min=min(values),
        max=max(values),
        seeds=len(values),
        n=n,
        gain=gain_over(series, branch, study.baseline_of(branch)),
        chance=None,
        collapsed=(),
    )


def gain_over(series: Mapping[str, Series], branch: str, baseline: str | None) -> float | None:
    """The median over the seeds of a branch's difference from the baseline at the same seed; None if unknown."""
    if baseline is None:
        return None
    pairs = at_common_seeds([series[branch], series.get(baseline, {})]).values()
    gain = median_over_seeds(a - b for a, b in pairs) if pairs else nan
    return gain if isfinite(gain) else None


def _average(series: Sequence[Series]) -> Series:
    return {seed: fmean(values) for seed, values in at_common_seeds(series).items()}


def at_common_seeds(series: Sequence[Mapping[int | None, T]]) -> dict[int | None, list[T]]:
    """The values of all series at each seed that all have; a value without a seed serves every seed."""
    seeds: list[int | None] = [*sorted({seed for each in series for seed in each if seed is not None})] or [None]
    at = {seed: [each.get(seed, each.get(None)) for each in series] for seed in seeds}
    return {seed: [x for x in values if x is not None] for seed, values in at.items() if None not in values}


def plus_joined(names: Iterable[str]) -> str:
    """The different names, in order: `dev+test`."""
    return "+".join(sorted(set(names)))
