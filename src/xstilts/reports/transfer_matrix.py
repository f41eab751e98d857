"""Transfer: the gain of each source on each target, and the gaps between the training language and the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from xstilts import metrics
from xstilts.analysis.aggregate import (
    MEAN,
    ZERO_SHOT,
    ByBranch,
    at_common_seeds,
    complete_languages,
    gain_over,
    join,
    languages_of_means,
    mean_over_languages,
    median_over_seeds,
    plus_joined,
    scores_by_language,
)
from xstilts.analysis.results import StudyResults
from xstilts.errors import UserError
from xstilts.render.figure import Matrix
from xstilts.render.table import Document, Table, TableCell
from xstilts.reports.legend import baseline, full_names, lacking, legend_lines, over_seeds, short_names, unit
from xstilts.study.index import Study, StudyTask


@dataclass(frozen=True)
class Transfer:
    """A branch's score in a language that a task is not trained on, or the zero-shot mean, against the training's.

    `source` are the training languages and `source_score` their mean; both are empty for a task without training, whose
    mean is over all languages. `gap` is how much worse the score is than `source_score`, `gain` how much better than
    the baseline's; both are medians of the differences at the same seed, in the metric's unit.
    """

    task: str
    branch: str
    source: str
    language: str
    split: str
    metric: str
    source_score: float | None
    score: float
    gap: float | None
    gain: float | None


def transfer(results: StudyResults) -> Document:
    """The gains of the sources on the targets, and the gaps between languages, the smallest first.

    Raises:
        UserError: no target has scores.
    """
    study = results.study
    found, notes = join(study, results.scores)
    scores = {
        task.name: complete_languages(scores_by_language(task, task.metric, found, "dev")) for task in study.targets
    }
    lines = [line for task in study.targets for line in _task_lines(study, task, scores[task.name])]
    if not lines:
        what = "no target has scores in a language that it is not trained on"
        raise UserError(what, where="--layout transfer")
    means = [line for line in lines if line.language in (MEAN, ZERO_SHOT)]
    by_gain, by_gap = ({(x.task, x.branch): getattr(x, of) for x in means} for of in ("gain", "gap"))
    gains = _by_target(study, f"{study.name}: zero-shot gain of each source on each target", by_gain)
    gaps = _by_target(study, f"{study.name}: gap from the training language to the others", by_gap)
    by_language = [_by_language(study, tasks, scores) for tasks in _same_targets(study, scores)]
    shown = [_matrix_table(gains, "source")] if gains.rows else []
    shown += [_gap_table(study, task, lines) for task in study.targets if task.name in gaps.columns]
    shown += [_matrix_table(matrix, "trained on") for matrix in by_language]
    figures = [matrix for matrix in (gains, gaps, *by_language) if matrix.rows]
    return results.document(shown, _legend(study, lines, scores, [*notes, *results.notes]), lines, figures)


def _task_lines(study: Study, task: StudyTask, scores: Mapping[str, ByBranch]) -> Iterator[Transfer]:
    """For each branch the zero-shot mean, then every language that the task is not trained on."""
    of_means = languages_of_means(task, scores)
    targets = of_means[ZERO_SHOT]
    if not targets:
        return
    trained = {code: rows for code, rows in scores.items() if code not in targets}
    sources, metric = mean_over_languages(trained), metrics.get(task.metric)
    mean = ZERO_SHOT if task.train_languages else MEAN
    for branch in study.branches:
        for language, rows in ((mean, targets), *((code, {code: by_branch}) for code, by_branch in targets.items())):
            series = mean_over_languages(rows)
            if branch not in series:
                continue
            source = sources.get(branch, {})
            pairs = at_common_seeds([source, series[branch]]).values() if source else ()
            gap = median_over_seeds(a - b if metric.higher_is_better else b - a for a, b in pairs) if pairs else None
            yield Transfer(
                task=task.name,
                branch=branch,
                source="+".join(trained) if source else "",
                language=language,
                split=plus_joined(x.split for by_branch in rows.values() for x in by_branch[branch].values()),
                metric=task.metric,
                source_score=median_over_seeds(source.values()) if source else None,
                score=median_over_seeds(series[branch].values()),
                gap=gap,
                gain=gain_over(series, branch, study.baseline_of(branch)),
            )


def _by_target(study: Study, title: str, values: Mapping[tuple[str, str], float | None]) -> Matrix:
    """A row for each branch and a column for each target with a value."""
    some = {key for key, value in values.items() if value is not None}
    branches = [branch for branch in study.branches if any((task.name, branch) in some for task in study.targets)]
    columns = [task.name for task in study.targets if any((task.name, branch) in some for branch in branches)]
    names = short_names(study.branches)
    rows = tuple(tuple(values.get((task, branch)) for task in columns) for branch in branches)
    return Matrix(title, tuple(names[branch] for branch in branches), tuple(columns), rows, signed=True)


def _same_targets(study: Study, scores: Mapping[str, Mapping[str, ByBranch]]) -> Iterator[list[StudyTask]]:
    """The targets that are like one task of the catalogue but are trained on different languages."""
    by_name: dict[str, list[StudyTask]] = defaultdict(list)
    for task in study.targets:
        if scores[task.name] and task.train_languages:
            by_name[_original(study, task)].append(task)
    for tasks in by_name.values():
        if len({task.train_languages for task in tasks}) > 1:
            yield tasks


def _source(task: StudyTask) -> str:
    """The languages that a task is trained on, as labels write them."""
    if task.trained_in_each:
        return "the same language"
    every = len(task.train_languages) > 1 and {*task.languages} <= {*task.train_languages}
    return "all languages" if every else "+".join(task.train_languages)


def _original(study: Study, task: StudyTask) -> str:
    """The task that a task is like, without the training language that `Task.catalogue_name` adds."""
    return study.catalogue_names.get(task.name, task.name).removesuffix(f"-{task.train_language}")


def _by_language(study: Study, tasks: Sequence[StudyTask], scores: Mapping[str, Mapping[str, ByBranch]]) -> Matrix:
    """The scores of tasks by language; a row for each task and branch, a column for each language."""
    languages = tuple(dict.fromkeys(code for task in tasks for code in scores[task.name]))
    names, rows = short_names(study.branches), {}
    for task in tasks:
        for branch in study.branches:
            runs = {x: by_branch[branch].values() for x, by_branch in scores[task.name].items() if branch in by_branch}
            medians = {x: median_over_seeds(score.value for score in of) for x, of in runs.items()}
            if medians:
                rows[f"{_source(task)} ({task.name}, {names[branch]})"] = tuple(map(medians.get, languages))
    title = f"{study.name}, {_original(study, tasks[0])}: {unit(tasks[0].metric)} by training language and language"
    return Matrix(title, tuple(rows), languages, tuple(rows.values()))


def _matrix_table(matrix: Matrix, corner: str) -> Table:
    sign = "+" if matrix.signed else ""
    cells = [tuple(TableCell.of(x, f"{sign}z.1f") for x in values) for values in matrix.values]
    heads = tuple((name, "") for name in matrix.columns)
    return Table(matrix.title, corner, heads, tuple(zip(matrix.rows, cells, strict=True)), columns_title="target")


def _gap_table(study: Study, task: StudyTask, lines: Sequence[Transfer]) -> Table:
    """A task's branches, the smallest gap first."""
    names, rows = short_names(study.branches), []
    ranked = sorted((x for x in lines if x.task == task.name and x.gap is not None), key=attrgetter("gap"))
    for mean in (x for x in ranked if x.language == ZERO_SHOT):
        others = [x for x in ranked if x.branch == mean.branch and x is not mean]
        ends = (TableCell(f"{x.gap:+z.1f}", spread=x.language) for x in (others[0], others[-1]))
        values = (
            TableCell.of(mean.source_score, ".1f"),
            TableCell.of(mean.score, ".1f"),
            TableCell.of(mean.gap, "+z.1f"),
        )
        rows.append((names[mean.branch], (*values, *ends)))
    source = _source(task)
    heads = ((source, ""), (ZERO_SHOT, ""), ("gap", ""), ("smallest", "gap"), ("largest", "gap"))
    title = f"{study.name}, {task.name}: {unit(task.metric)}, gaps from {source} to the other languages"
    return Table(title, "branch", heads, tuple(rows))


def _legend(
    study: Study, lines: Sequence[Transfer], scores: Mapping[str, Mapping[str, ByBranch]], notes: Sequence[str]
) -> list[str]:
    shown = {line.task: line for line in lines}
    tasks = [task for task in study.targets if task.name in shown]
    on_test = [name for name, line in shown.items() if "test" in line.split]
    untrained = [name for name, line in shown.items() if not line.source]
    left_out = {task.name: [x for x in task.languages if x not in scores[task.name]] for task in tasks}
    explained = [
        (
            f"gain: over {baseline(study)} at the same seed{over_seeds(study.seeds)}",
            any(x.gain is not None for x in lines),
        ),
        (
            f"gap: the score in the training language minus the zero-shot one{over_seeds(study.seeds)}",
            len(untrained) < len(shown),
        ),
        ("zero-shot: the mean without the languages that the task is trained on", len(untrained) < len(shown)),
        (
            f"no training language, so no gap, and the mean is over all languages: {', '.join(untrained)}",
            untrained,
        ),
        (f"test, because not every language has dev scores: {', '.join(on_test)}", on_test),
        (
            "↓ lower is better; there a positive gain is a loss, a positive gap is still a loss",
            any("↓" in unit(x.metric) for x in lines),
        ),
        (lacking(left_out), any(left_out.values())),
    ]
    return legend_lines(explained, full_names(study), notes)


LAYOUTS = {"transfer": transfer}
