"""Whether branches differ from the baseline: spreads over seeds, intervals and tests over each language's examples.

`docs/statistics.md` explains each number.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isclose, isfinite
from statistics import fmean, stdev
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from xstilts import metrics
from xstilts.analysis import resampling
from xstilts.analysis.aggregate import (
    MEAN,
    ZERO_SHOT,
    ByBranch,
    CollapsedSeeds,
    at_common_seeds,
    collapsed_by_language,
    complete_languages,
    gain_over,
    incomplete_languages,
    join,
    languages_of_means,
    mean_over_languages,
    median_over_seeds,
    one_split,
    plus_joined,
    scores_by_language,
    steps_of,
)
from xstilts.analysis.resampling import Pair
from xstilts.metrics.metric import Array
from xstilts.store.example_scores import ExampleParts, ExampleScores, example_parts
from xstilts.store.rows import Prediction, Score
from xstilts.study.index import Cell, Study, StudyTask

ALPHA = 0.05
"""Corrected p values below it are marked."""
MEANS = (ZERO_SHOT, MEAN)
"""The means over languages, in the order of the rows."""
SURE, THESE_RUNS = "•", "◦"
"""Marks of such p values: `SURE` where the interval over several seeds leaves out 0, else `THESE_RUNS`."""


@dataclass(frozen=True)
class Comparison:
    """A branch in one language of a task, or its mean over languages, compared with the baseline.

    `median`, `mean`, `deviation` (the sample's, by n - 1), `min` and `max` are over `seeds` runs; `collapsed` as in
    `SummaryLine`; all in the metric's unit. `gain`, as in `SummaryLine`, is over `paired` seeds, `low` and `high` are
    the ends of its 95 % interval, `p` is the permutation test's and `adjusted` the same with Holm's correction. They
    are None for the baseline; untested branches have at most a gain.
    """

    task: str
    branch: str
    language: str
    split: str
    metric: str
    n: int
    seeds: int
    median: float
    mean: float
    deviation: float | None
    min: float
    max: float
    collapsed: tuple[int | None, ...]
    paired: int | None = None
    gain: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    adjusted: float | None = None

    @property
    def mark(self) -> str:
        """Whether it differs from the baseline: `SURE`, `THESE_RUNS`, or neither."""
        if self.adjusted is None or self.low is None or self.high is None or self.adjusted >= ALPHA:
            return ""
        return SURE if (self.low > 0 or self.high < 0) and (self.paired or 0) > 1 else THESE_RUNS


@dataclass(frozen=True)
class Significance:
    """The comparisons of a study, task by task."""

    study: Study
    split: str
    rows: tuple[Comparison, ...]
    untested: Mapping[str, tuple[str, ...]]
    """The branches that could not be tested, by reason."""
    left_out: Mapping[str, tuple[str, ...]]
    """For each task the languages that no mean includes."""
    missing: tuple[Cell, ...] = ()
    """As in `Summary`."""


Predictions: TypeAlias = Callable[[str], Iterable[Prediction]]
"""The prediction rows of a step."""
SavedScores: TypeAlias = Callable[[str], Sequence[ExampleScores] | None]
"""What a step of a copy has in place of predictions; None if it has predictions."""
ScoresByLanguage: TypeAlias = dict[str, ByBranch]
"""The scores of each language of a task."""
Untested: TypeAlias = dict[str, dict[str, None]]
ScoreOfSums: TypeAlias = Callable[[Array], Array]
"""Turns sums of example parts into scores."""


def compare(
    study: Study, scores: Iterable[Score], predictions: Predictions, saved: SavedScores = lambda _: None, *,
    split: Literal["dev", "test"] = "dev", progress: Callable[[Sequence[StudyTask]], Iterable[StudyTask]] = iter,
    unscored: Collection[str] = (),
) -> Significance:  # fmt: skip
    """Compare each branch with the baseline, by the main metric of each task.

    Args:
        study: the planned branches and tasks.
        scores: rows of its evaluations.
        predictions: returns the rows of a step; called once for each task and step.
        saved: returns what a step has in place of predictions.
        split: the wanted one; languages without it are compared on the other one.
        progress: yields the tasks one by one; may show a progress bar, as a large study takes a minute.
        unscored: finished steps without scores, whose cells are not missing.
    """
    found, _ = join(study, scores)
    rows: list[Comparison] = []
    untested: Untested = defaultdict(dict)
    for task in progress(study.targets):
        shown = scores_by_language(task, task.metric, found, split)
        means = languages_of_means(task, complete_languages(shown))
        tests = _tests(study, task, shown, means, (predictions, saved), untested)
        collapsed = collapsed_by_language(task, task.metric, shown, found)
        spreads = _run_statistics(study, task, shown, means, collapsed)
        found_at = {at: test._asdict() for at, test in tests.items()}
        rows += _corrected([replace(row, **found_at.get((row.branch, row.language), {})) for row in spreads])
    left_out = {task.name: incomplete_languages(task, found, split) for task in study.targets}
    missing, reasons = (
        study.missing_cells(steps_of(found.values()), unscored),
        {why: tuple(where) for why, where in untested.items()},
    )
    return Significance(study, one_split(study, rows, split), tuple(rows), reasons, left_out, missing)


def _run_statistics(
    study: Study, task: StudyTask, shown: ScoresByLanguage, means: Mapping[str, ScoresByLanguage],
    collapsed: CollapsedSeeds,
) -> Iterator[Comparison]:  # fmt: skip
    """The runs of each branch: their zero-shot mean and the mean over the languages, then each language."""
    for language, over in [*((x, means[x]) for x in MEANS if means[x]), *((x, {x: shown[x]}) for x in shown)]:
        series = mean_over_languages(over)
        for branch in (branch for branch in study.branches if branch in series):
            values, baseline = [*series[branch].values()], study.baseline_of(branch)
            samples = [next(iter(by_branch[branch].values())) for by_branch in over.values()]
            pairs = at_common_seeds([series[branch], series.get(baseline or "", {})])
            yield Comparison(
                task=task.name,
                branch=branch,
                language=language,
                split=plus_joined(sample.split for sample in samples),
                metric=task.metric,
                n=sum(sample.n for sample in samples),
                seeds=len(values),
                median=median_over_seeds(values),
                mean=fmean(values),
                deviation=stdev(values) if len(values) > 1 and isfinite(sum(values)) else None,
                min=min(values),
                max=max(values),
                collapsed=collapsed.get(language, {}).get(branch, ()),
                paired=len(pairs) or None,
                gain=gain_over(series, branch, baseline),
            )


def _corrected(rows: Sequence[Comparison]) -> list[Comparison]:
    """Add Holm's correction over all languages and branches of the task; for each mean, over its branches."""
    done, families = list(rows), defaultdict[str, dict[int, float]](dict)
    for i, row in enumerate(rows):
        if row.p is not None:
            families[row.language if row.language in MEANS else ""][i] = row.p
    for family in families.values():
        for i, adjusted in zip(family, resampling.holm([*family.values()]), strict=True):
            done[i] = replace(rows[i], adjusted=adjusted)
    return done


class _TestResult(NamedTuple):
    """The fields of a `Comparison` with these names."""

    low: float | None = None
    high: float | None = None
    p: float | None = None


class _Paired(NamedTuple):
    """A branch and the baseline in a language: the observed runs, and differences in the bootstrap samples."""

    pair: Pair
    change_BS: Array


def _tests(
    study: Study,
    task: StudyTask,
    shown: ScoresByLanguage,
    means: Mapping[str, ScoresByLanguage],
    answers: tuple[Predictions, SavedScores],
    untested: Untested,
) -> dict[tuple[str, str], _TestResult]:
    """Interval and p of each branch in each language, and of their means."""
    if not any(map(study.baseline_of, study.branches)):
        return {}
    metric = metrics.get(task.metric)
    if metric.parts is None:
        untested["the metric is not a sum over examples"][f"{task.name} ({task.metric})"] = None
        return {}
    score = metric.combine
    parts = _all_parts(shown, *answers)
    paired: dict[tuple[str, str], _Paired] = {}
    for language, by_branch in shown.items():
        label = f"{task.name} {language}"
        paired |= _pair_with_baseline(study, language, by_branch, parts, score, label, untested)
    family = sum(language in shown for _, language in paired)
    result = {at: _test([found], score, family) for at, found in paired.items()}
    for branch in study.branches:
        tested: dict[tuple[str, ...], _TestResult] = {}
        for mean, languages in means.items():
            over = tuple(x for x in languages if (branch, x) in paired)
            if over and len(over) == len(languages):
                if over not in tested:
                    tested[over] = _test([paired[branch, x] for x in over], score, len(study.branches))
                result[branch, mean] = tested[over]
    return result


def _all_parts(
    shown: ScoresByLanguage, predictions: Predictions, saved: SavedScores
) -> dict[tuple[str, str], ExampleParts | None]:
    """By step and language; None if a split has no labels, or the predictions do not give the step's score."""
    wanted: dict[str, dict[str, Score]] = defaultdict(dict)
    for language, by_branch in shown.items():
        for score in (score for by_seed in by_branch.values() for score in by_seed.values()):
            wanted[score.step][language] = score
    parts: dict[tuple[str, str], ExampleParts | None] = {}
    for step, by_language in wanted.items():
        packed = saved(step)
        read = _from_predictions(predictions(step), by_language) if packed is None else _from_copy(packed, by_language)
        parts |= {(step, x): _checked(read.get(x), score) for x, score in by_language.items()}
    return parts


def _from_predictions(rows: Iterable[Prediction], wanted: Mapping[str, Score]) -> dict[str, ExampleParts | None]:
    """By language, for the wanted scores of a step."""
    found: dict[str, list[Prediction]] = defaultdict(list)
    for row in rows:
        score = wanted.get(row.language)
        if score is not None and (row.task, row.split) == (score.task, score.split):
            found[row.language].append(row)
    return {x: example_parts(found[x], score.metric, x) for x, score in wanted.items()}


def _from_copy(rows: Iterable[ExampleScores], wanted: Mapping[str, Score]) -> dict[str, ExampleParts | None]:
    found = {(row.task, row.language, row.split, row.metric): row for row in rows}
    keys = {x: (score.task, x, score.split, score.metric) for x, score in wanted.items()}
    return {x: found[key].unpacked() for x, key in keys.items() if key in found}


def _checked(parts: ExampleParts | None, score: Score) -> ExampleParts | None:
    """The parts if their sums give the score, else None."""
    if parts is None:
        return None
    try:
        again = float(metrics.get(score.metric).combine(parts.parts_NK.sum(0)))
    except (TypeError, ValueError, LookupError):  # someone has changed the file
        return None
    return parts if isfinite(again) and isclose(again, score.value, rel_tol=1e-6, abs_tol=1e-6) else None


def _pair_with_baseline(
    study: Study, language: str, by_branch: ByBranch, parts: Mapping[tuple[str, str], ExampleParts | None],
    score: ScoreOfSums, label: str, untested: Untested,
) -> dict[tuple[str, str], _Paired]:  # fmt: skip
    """The branches that can be compared with the baseline in a language; `untested` gets the others."""
    pairs = {
        branch: [*at_common_seeds([by_branch.get(baseline, {}), by_branch[branch]]).values()]
        for branch in study.branches
        if branch in by_branch and (baseline := study.baseline_of(branch)) is not None
    }
    steps = dict.fromkeys(row.step for seeds in pairs.values() for both in seeds for row in both)
    found = {step: found_parts for step in steps if (found_parts := parts[step, language]) is not None}
    if len({found_parts.fingerprint for found_parts in found.values()}) > 1:
        untested["the runs have different examples"][label] = None
        return {}
    for branch, seeds in [*pairs.items()]:
        if not seeds or not all(row.step in found for both in seeds for row in both):
            why = "predictions do not give the score" if seeds else "no seed in common"
            untested[why][f"{label} ({branch})"] = None
            del pairs[branch]
    if not pairs:
        return {}
    parts_RNK = np.stack([found_parts.parts_NK for found_parts in found.values()])
    scores_BR = resampling.bootstrap(parts_RNK, score)
    place = {step: r for r, step in enumerate(found)}
    result = {}
    for branch, seeds in pairs.items():
        first_S, second_S = ([place[row.step] for row in side] for side in zip(*seeds, strict=True))
        pair = Pair(parts_RNK[first_S], parts_RNK[second_S])
        result[branch, language] = _Paired(pair, scores_BR[:, second_S] - scores_BR[:, first_S])
    return result


def _test(paired: Sequence[_Paired], score: ScoreOfSums, family: int) -> _TestResult:
    """Test the mean over some languages; `family` is the number of p values that will be corrected together."""
    change_BS = np.mean([each.change_BS for each in paired], axis=0)
    if not np.isfinite(change_BS).all():
        return _TestResult()
    low, high = resampling.interval(resampling.median_of_drawn_seeds(change_BS))
    # enough that the smallest p, times the size of the family, is half of ALPHA
    limit = max(resampling.SAMPLES, round(2 * family / ALPHA))
    return _TestResult(low, high, resampling.permutation([each.pair for each in paired], score, limit))
