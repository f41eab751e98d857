"""Selects a run for each target task by several rules: the paper's, zero-shot ones, and an upper bound.

The paper (Phang et al. 2020, section 3.3, "XTREME Benchmark Results") selects by its Table 2: the median over the seeds
of the mean over the languages' dev scores. For each target task it picks the best intermediate-task configuration, then
the best of its three runs. This is not zero-shot. XQuAD, TyDiQA and Tatoeba have no dev set, so the paper selects them
on the test sets that it reports.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Literal, NamedTuple, TypeAlias

from xstilts.analysis.aggregate import (
    ALL_TASKS,
    ByBranch,
    JoinedScores,
    Series,
    complete_languages,
    incomplete_languages,
    join,
    mean_over_languages,
    median_over_seeds,
    plus_joined,
    runs_of,
    scores_by_language,
)
from xstilts.metrics import get
from xstilts.store.rows import Score
from xstilts.study.index import Study, StudyTask
from xstilts.tasks import TASKS

RuleName: TypeAlias = Literal["paper", "dev", "english-dev", "oracle"]
BASELINE = "baseline"
SHARED = "tasks of all rules"
"""Used as a task: the mean over the tasks for which every rule selects a run."""
UNLABELLED, BOUND = "‡", "§"
"""Marks of rules that need labels of the target languages, and of the test split itself."""


@dataclass(frozen=True)
class Rule:
    """A way to select a run: by which scores, from which branches."""

    description: str
    mark: str = ""
    english: bool = False
    """By the training languages alone, not by the mean over all languages."""
    oracle: bool = False
    """Take the best of all runs on test. Other rules take the branch with the best median, then its best run."""
    baseline: bool = True
    """Whether the baseline may be selected for a task of the catalogue. For one's own tasks it always may."""


RULES: dict[RuleName, Rule] = {
    "english-dev": Rule("by dev scores in the languages that the task is trained on", english=True),
    "dev": Rule("by the mean over all languages' dev scores", UNLABELLED),
    "paper": Rule(
        "as dev, without the baseline for the catalogue's tasks (the paper, 3.3)", UNLABELLED, baseline=False
    ),
    "oracle": Rule("the best run on test", BOUND, oracle=True),
}
"""By name."""


@dataclass(frozen=True)
class SelectedRun:
    """A score of the run that a rule selects for a task, or a mean of them over tasks.

    `branch` and `seed` identify the run. The seed is None for a run that serves every seed, and for the baseline, whose
    score is the median over its runs; both are empty in means over tasks. The rule compared `selected_by`, the main
    metric on the split `selected_on`; `reused` means that `score` includes these same scores. `score` is the mean over
    `count` languages of `split`, or over `count` tasks.
    """

    task: str
    rule: str
    branch: str
    seed: int | None
    selected_on: str
    selected_by: float | None
    reused: bool
    split: str
    metric: str
    score: float
    count: int


@dataclass(frozen=True)
class Selection:
    """The selected runs of a study."""

    study: Study
    selected_runs: tuple[SelectedRun, ...]
    left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """For each task the languages that no mean includes."""

    def of(self, rule: str) -> dict[str, SelectedRun]:
        """The selected run of a rule for each task, with the score of its main metric."""
        main = {task.name: task.metric for task in self.study.targets}
        return {x.task: x for x in self.selected_runs if x.rule == rule and main.get(x.task) == x.metric}

    def best(self) -> dict[str, SelectedRun]:
        """The best run of each task, to export; `best_evaluations` are those to keep.

        The paper's rule selects for a task of the catalogue. For one's own task `english-dev` does, which needs no
        labels of the target languages, or `dev` where the training language has no scores.
        """
        own = {task.name for task in self.study.targets if task.name not in TASKS}
        zero_shot = {**self.of("dev"), **self.of("english-dev")}
        return {**self.of("paper"), **{task: run for task, run in zero_shot.items() if task in own}}


def select(study: Study, scores: Iterable[Score]) -> Selection:
    """Select a run for each task by each rule; reads no files.

    A candidate needs the scores that the rule compares and those that are shown (test, or else dev). Of equally good
    runs the first in the study is selected.
    """
    return select_from(study, join(study, scores)[0])


def select_from(study: Study, found: JoinedScores, *, own_tasks: bool = True) -> Selection:
    """As `select`, with joined rows; without `own_tasks` the paper's rule treats each task as one of the catalogue."""
    excluded = {task.name: study.baseline_branches for task in study.targets if task.name in TASKS or not own_tasks}
    selected_runs = [
        selected_run
        for task in study.targets
        for selected_run in _select_for_task(study, task, found, excluded.get(task.name, ()))
    ]
    left_out = {task.name: incomplete_languages(task, found, "test") for task in study.targets}
    return Selection(study, (*selected_runs, *_over_tasks(Selection(study, tuple(selected_runs)))), left_out)


class _Run(NamedTuple):
    branch: str
    seed: int | None
    selected_on: str = ""
    selected_by: float | None = None
    reused: bool = False


def _select_for_task(
    study: Study, task: StudyTask, found: JoinedScores, baselines: Collection[str]
) -> Iterator[SelectedRun]:
    """Each rule's selected run, with its score in each metric; the baseline's median first.

    `baselines` are the branches that rules without a baseline exclude.
    """
    scored = complete_languages(scores_by_language(task, task.metric, found, "test"))
    rows = {name: scores_by_language(task, name, found, "test") for name in task.metrics}
    values = {name: mean_over_languages({x: rows[name][x] for x in scored if x in rows[name]}) for name in task.metrics}
    splits = {x: next(score.split for by_seed in scored[x].values() for score in by_seed.values()) for x in scored}
    split = plus_joined(splits.values())
    for name in task.metrics:
        if study.baseline in values[name]:
            middle = median_over_seeds(values[name][study.baseline].values())
            yield SelectedRun(task.name, BASELINE, *_Run(study.baseline, None), split, name, middle, len(scored))
    for rule in RULES:
        candidates = [x for x in study.branches if RULES[rule].baseline or x not in baselines]
        if run := _selected(candidates, task, found, RULES[rule], scored, splits):
            for name in task.metrics:
                if (score := values[name].get(run.branch, {}).get(run.seed)) is not None:
                    yield SelectedRun(task.name, rule, *run, split, name, score, len(scored))


def best_evaluations(study: Study, task: StudyTask, scores: Iterable[Score], finished: Collection[str]) -> list[str]:
    """The steps that evaluate the best run of a task, then those of runs that missing evaluations may make the best.

    `english-dev` selects, or `dev` where no dev scores are in the training language. Test scores never do: without dev
    scores the first run is the best.

    Args:
        study: with the task.
        task: whose run is selected.
        scores: of its evaluations.
        finished: the steps that have results, also those without scores.
    """
    found, _ = join(study, scores)
    scored = complete_languages(scores_by_language(task, task.metric, found, "test"))
    rules = (_compared(study.branches, task, found, RULES[name], scored) for name in ("english-dev", "dev"))
    values = next((by_branch for by_branch, seen, on in rules if by_branch and on == "dev"), {})
    runs: dict[str, dict[str, float]] = defaultdict(dict)
    unfinished = set()
    for cell in study.cells:
        by_seed = values.get(cell.branch, {})
        value = by_seed.get(cell.seed, by_seed.get(None, None if values else 0.0))
        if cell.task == task.name and cell.step not in finished:
            unfinished.add(cell.branch)
        elif cell.task == task.name and value is not None:
            runs[cell.branch][cell.step] = _signed(task, value)
    # the best branch first; in each branch only its best run can be selected
    ranked = sorted(runs, key=lambda branch: median_over_seeds(runs[branch].values()), reverse=True)
    best = next((branch for branch in ranked if branch not in unfinished), None)
    return [max(runs[x], key=lambda step: runs[x][step]) for x in ranked if x == best or x in unfinished]


def _signed(task: StudyTask, value: float) -> float:
    """The value, negative if a lower one is better."""
    return value if get(task.metric).higher_is_better else -value


def _compared(
    branches: Sequence[str], task: StudyTask, found: JoinedScores, rule: Rule, scored: Mapping[str, ByBranch]
) -> tuple[dict[str, Series], Mapping[str, ByBranch], str]:
    """The scores that a rule compares, of the branches and seeds with scores to show; their languages, their split."""
    languages = dict.fromkeys((*task.languages, task.train_language))  # English may have the only dev set
    dev = {x: rows for x in languages if (rows := found.get((task.name, task.metric, x, "dev")))}
    seen, on = (scored, "test") if rule.oracle or not dev else (dev, "dev")
    if rule.english:
        seen = {x: rows for x, rows in seen.items() if x in task.train_languages}
    values, runs = (
        mean_over_languages(complete_languages(seen)),
        {run for rows in scored.values() for run in runs_of(rows)},
    )
    candidates = {
        branch: by_seed
        for branch in branches
        if (by_seed := {seed: value for seed, value in values.get(branch, {}).items() if (branch, seed) in runs})
    }
    return candidates, seen, on


def _selected(
    branches: Sequence[str],
    task: StudyTask,
    found: JoinedScores,
    rule: Rule,
    scored: Mapping[str, ByBranch],
    splits: Mapping[str, str],
) -> _Run | None:
    """The run that a rule selects among those with scores to show; None without scores to compare."""
    candidates, seen, on = _compared(branches, task, found, rule, scored)
    if not candidates:
        return None
    summary = max if rule.oracle else median_over_seeds
    signed = {branch: [_signed(task, value) for value in by_seed.values()] for branch, by_seed in candidates.items()}
    branch = max(signed, key=lambda branch: summary(signed[branch]))
    seed = max(candidates[branch], key=lambda seed: _signed(task, candidates[branch][seed]))
    return _Run(branch, seed, on, candidates[branch][seed], reused=any(splits.get(x) == on for x in seen))


def _over_tasks(selection: Selection) -> Iterator[SelectedRun]:
    """For each rule the mean over all tasks, if it selects a run for each; also over the tasks shared by all rules."""
    by_rule = {rule: chosen for rule in (BASELINE, *RULES) if (chosen := selection.of(rule))}
    if not all(get(task.metric).percent for task in selection.study.targets):
        return
    tasks = [task.name for task in selection.study.targets if any(task.name in chosen for chosen in by_rule.values())]
    shared = [task for task in tasks if all(task in chosen for chosen in by_rule.values())]
    for name, over in ((ALL_TASKS, tasks), (SHARED, shared)):
        for rule, chosen in by_rule.items():
            if len(over) > 1 and all(task in chosen for task in over) and (name == ALL_TASKS or over != tasks):
                yield _mean(name, rule, [chosen[task] for task in over])


def _mean(name: str, rule: str, parts: Sequence[SelectedRun]) -> SelectedRun:
    reused = any(part.reused for part in parts)
    split, metric = plus_joined(x.split for x in parts), plus_joined(x.metric for x in parts)
    no_run = _Run("", None, reused=reused)
    return SelectedRun(name, rule, *no_run, split, metric, fmean(x.score for x in parts), len(parts))
