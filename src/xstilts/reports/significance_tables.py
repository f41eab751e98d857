"""The comparisons of branches with the baseline, as tables and rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict

from xstilts.analysis import resampling
from xstilts.analysis.aggregate import MEAN, ZERO_SHOT
from xstilts.analysis.results import StudyResults
from xstilts.languages import titled
from xstilts.render.table import MISSING, Document, Table, TableCell
from xstilts.reports.legend import (
    AT_CHANCE,
    baseline,
    full_names,
    in_no_mean,
    legend_lines,
    not_finished,
    over_seeds,
    short_names,
    split_replaced,
    unpaired,
)
from xstilts.reports.significance import ALPHA, MEANS, SURE, THESE_RUNS, Comparison, Significance, compare
from xstilts.study.index import StudyTask
from xstilts.utils.progress import progress_bar


def significance(results: StudyResults) -> Document:
    """Each branch compared with the baseline; reads predictions, which takes a minute for a large study."""
    rows = results.predictions, results.example_scores
    return document(compare(results.study, results.scores, *rows, progress=with_progress, unscored=results.unscored))


def with_progress(tasks: Sequence[StudyTask]) -> Iterable[StudyTask]:
    """The same tasks, with a progress bar on a terminal."""
    return progress_bar(tasks, "comparing, task by task")


def document(found: Significance) -> Document:
    """For each task a table of its branches, and one of its languages; rows with all digits for programs."""
    study, shown = found.study, list[Table]()
    for task in study.targets:
        rows = rows_of(found, task)
        if rows and rows[0].language in MEANS:
            shown.append(_branches(found, [row for row in rows if row.language == rows[0].language]))
        if rows:
            shown += _languages(found, task, rows)
    facts = {
        **study.header(),
        "split": found.split,
        "lines": [asdict(row) for row in found.rows],
        "untested": found.untested,
        "missing": [asdict(cell) for cell in found.missing],
    }
    return Document(shown, _legend(found), Comparison, found.rows, facts)


def rows_of(found: Significance, task: StudyTask) -> list[Comparison]:
    """The task's rows, without a zero-shot mean that is the mean over all languages."""
    rows = [row for row in found.rows if row.task == task.name]
    left_out = {*MEANS, *found.left_out.get(task.name, ())}
    trained = any(task.trained_in(row.language) for row in rows if row.language not in left_out)
    return [row for row in rows if trained or row.language != ZERO_SHOT]


def _branches(found: Significance, rows: Sequence[Comparison]) -> Table:
    """A mean over languages: a row for each branch."""
    names = short_names(found.study.branches)
    heads = ["median", "mean", "sd", "min", "max", "runs", "collapsed", "gain", "95 % interval", "p (Holm)"]
    lines = [
        (names[row.branch], tuple(map(TableCell, [
            *(_rounded(x) for x in (row.median, row.mean, row.deviation, row.min, row.max)),
            str(row.seeds), str(len(row.collapsed)),
            format_gain(row.gain) + row.mark, format_interval(row), format_p(row),
        ])))
        for row in rows
    ]  # fmt: skip
    first = rows[0]
    where = f"{first.split}{'' if first.split == found.split else '†'}"
    over = "zero-shot mean" if first.language == ZERO_SHOT else "mean"
    title = f"{first.task}: {first.metric}, {over} over languages, {where}"
    return Table(title, "branch", tuple((head, "") for head in heads), tuple(lines))


def _languages(found: Significance, task: StudyTask, rows: Sequence[Comparison]) -> Iterator[Table]:
    """Gains: a row for each mean and language, a column for each branch but the baseline."""
    names, at = short_names(found.study.branches), {(row.language, row.branch): row for row in rows}
    study = found.study
    branches = [x for x in study.branches if study.baseline_of(x) is not None and any(row.branch == x for row in rows)]
    if not branches:
        return
    lines = []
    for language in dict.fromkeys(row.language for row in rows):
        entries = [_gain(at.get((language, branch))) for branch in branches]
        split = next(row.split for row in rows if row.language == language)
        lines.append((titled(language) + ("" if split == found.split else "†"), tuple(entries)))
    title = f"{task.name}: {task.metric}, gain over {baseline(study)} in each language"
    yield Table(
        title, "language", tuple((names[branch], "95 % interval, p (Holm)") for branch in branches), tuple(lines)
    )


def _gain(row: Comparison | None) -> TableCell:
    if row is None or row.gain is None:
        return TableCell()
    return TableCell(format_gain(row.gain), format_interval(row), format_p(row), mark=row.mark)


def _rounded(value: float | None) -> str:
    return MISSING if value is None else f"{value:.1f}"


def format_gain(value: float | None) -> str:
    """A rounded difference with its sign."""
    return MISSING if value is None else f"{value:+z.1f}"


def format_interval(row: Comparison) -> str:
    """The 95 % interval, rounded."""
    return MISSING if row.low is None or row.high is None else f"[{row.low:+z.1f}, {row.high:+z.1f}]"


def format_p(row: Comparison) -> str:
    """The corrected p, rounded."""
    if row.adjusted is None:
        return MISSING
    return f"{row.adjusted:.3f}" if row.adjusted >= 0.001 else "<0.001"


def _legend(found: Significance) -> list[str]:
    study, rows = found.study, found.rows
    names = short_names(study.branches)
    means = {task.name: [x for x in rows if (x.task, x.language) == (task.name, MEAN)] for task in study.targets}
    collapsed = [f"{task}: {runs}" for task, of_task in means.items() if (runs := _collapsed_runs(of_task, names))]
    explained = [
        (
            "median, mean, sd (standard deviation), min, max: over the seeds " + ", ".join(map(str, study.seeds)),
            len(study.seeds) > 1,
        ),
        (
            f"gain: over {baseline(study)} at the same seed{over_seeds(study.seeds)}",
            any(row.gain is not None for row in rows),
        ),
        *legend_of_tests(found),
        (f"collapsed: runs {AT_CHANCE}: {'; '.join(collapsed)}", collapsed),
    ]
    untested = [f"not tested, {why}: {'; '.join(where)}" for why, where in found.untested.items()]
    return legend_lines(explained, full_names(study)) + untested


def legend_of_tests(found: Significance) -> list[tuple[str, object]]:
    """Explanations of intervals, p, marks and missing parts, each with its condition; for `legend_lines`."""
    study, rows = found.study, found.rows
    several, marks = any((row.paired or 0) > 1 for row in rows), {(row.mark, (row.paired or 0) > 1) for row in rows}
    others = dict.fromkeys(row.task for row in rows if row.split != found.split)
    tested = any(row.p is not None for row in rows)
    shown = {row.language for task in study.targets for row in rows_of(found, task)}
    return [
        ("zero-shot: the mean without the languages that the task is trained on", ZERO_SHOT in shown),
        (
            f"interval: {resampling.SAMPLES:,} bootstrap samples of {'seeds and ' if several else ''}examples, "
            "the same ones on both sides",
            tested,
        ),
        ("p: how often a difference this large appears if the two sides' answers are swapped at random", tested),
        ("Holm: corrected over the task's languages and branches; the p of each mean over its branches", tested),
        (f"{SURE} significant: p < {ALPHA:g}, and the interval leaves out 0", (SURE, True) in marks),
        (
            f"{THESE_RUNS} significant for these runs (p < {ALPHA:g}), but not across resampled seeds",
            (THESE_RUNS, True) in marks,
        ),
        (
            f"{THESE_RUNS} with a single seed: significant for this run (p < {ALPHA:g}); other seeds may differ",
            (THESE_RUNS, False) in marks,
        ),
        (split_replaced(found.split, ", ".join(others)), others),
        (not_finished(study, found.missing), found.missing),
        (lacking := unpaired(study, found.missing), lacking),
        (in_no_mean(found.left_out), in_no_mean(found.left_out)),
    ]


def _collapsed_runs(means: Sequence[Comparison], names: Mapping[str, str]) -> str:
    """Which branches' runs have collapsed, and how many of them."""
    if all(len(row.collapsed) == row.seeds for row in means):
        return "all" if means else ""
    return ", ".join(f"{names[row.branch]} {len(row.collapsed)} of {row.seeds}" for row in means if row.collapsed)


LAYOUTS = {"significance": significance}
