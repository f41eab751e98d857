"""The study in a sentence, and its best finding, with how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xstilts import metrics
from xstilts.analysis.aggregate import MEAN, ZERO_SHOT
from xstilts.errors import counted
from xstilts.html.tables import improvement
from xstilts.reports.legend import AT_CHANCE, over_seeds, short_names
from xstilts.reports.significance import ALPHA, SURE, THESE_RUNS, Comparison, Significance
from xstilts.reports.significance_tables import format_gain, format_interval, format_p, rows_of
from xstilts.study.index import Study


@dataclass(frozen=True)
class Finding:
    """The best finding: a sentence, how far to believe it, and the task whose numbers it is from."""

    sentence: str
    caveats: Sequence[str] = ()
    task: str = ""


def study_sentence(study: Study) -> str:
    """What the study compares, on what."""
    languages = {language for task in study.targets for language in task.languages}
    names, baselines = short_names(study.branches), study.baseline_branches
    against = " and ".join(f"'{names[branch]}'" for branch in baselines)
    others = counted(len(study.branches) - len(baselines), "branch")
    what = f"compares {others} with {against}" if baselines else f"scores {others}"
    where = f"{counted(len(study.targets), 'target task')} and {counted(len(languages), 'language')}"
    seeds = f"seed{'s' * (len(study.seeds) > 1)} {', '.join(map(str, study.seeds))}"
    return f"The study '{study.name}' {what} on {where}, with {seeds}."


def best_finding(found: Significance) -> Finding:
    """The largest gain among the best supported ones; says so if none is significant."""
    rows = [row for row in _mean_rows(found) if row.gain is not None]
    if any(metrics.get(row.metric).percent for row in rows):
        rows = [row for row in rows if metrics.get(row.metric).percent]
    if not rows:
        compared = found.study.baseline is not None or found.study.baselines
        return Finding("No gain is known yet." if compared else "The study has no baseline, so there are no gains.")
    gains = [row for row in rows if improvement(row.gain, row.metric) > 0]
    for mark in (SURE, THESE_RUNS, ""):
        if marked := [row for row in gains if row.mark == mark]:
            best = max(marked, key=lambda row: improvement(row.gain, row.metric))
            return Finding(_sentence(found, rows, best), _caveats(found, rows, best), best.task)
    sentence = f"No branch is better than its baseline in the {_mean_of(rows)} of any target."
    return Finding(sentence, _caveats(found, rows, None))


def _mean_rows(found: Significance) -> list[Comparison]:
    """For each task the rows of its zero-shot mean, or of its mean if that is already zero-shot."""
    rows = [rows_of(found, task) for task in found.study.targets]
    return [row for of_task in rows for row in of_task if row.language == of_task[0].language]


def _mean_of(rows: Sequence[Comparison]) -> str:
    """Which mean these rows are of."""
    names = {ZERO_SHOT: "zero-shot mean", MEAN: "mean over languages"}
    return " or ".join(name for language, name in names.items() if language in {row.language for row in rows})


def _sentence(found: Significance, rows: Sequence[Comparison], best: Comparison) -> str:
    name = short_names(found.study.branches)[best.branch]
    over = f"the {_mean_of([best])}"
    interval = f", 95 % interval {format_interval(best)}, p {format_p(best)}" if best.p is not None else ""
    gain = f"{format_gain(best.gain)} {best.metric}{interval}"
    against = f"'{found.study.baseline_of(best.branch)}'"
    if best.mark == SURE:
        return f"'{name}' improves {over} of {best.task}: {gain} against {against}, significant also across seeds."
    if best.mark == THESE_RUNS:
        single = "this one run" if (best.paired or 0) == 1 else "these runs"
        return f"'{name}' improves {over} of {best.task} in {single}: {gain} against {against}. Other seeds may differ."
    if best.p is None:
        return f"The largest gain, of '{name}' in {over} of {best.task}, is {gain}. It has not been tested."
    return (
        f"No branch is significantly better than its baseline in the {_mean_of(rows)}. The largest gain there, of "
        f"'{name}' on {best.task}, is {gain}; chance can explain it."
    )


def _caveats(found: Significance, rows: Sequence[Comparison], best: Comparison | None) -> list[str]:
    study = found.study
    tested = [row for row in rows if row.p is not None]
    lines = [_count(tested), _elsewhere(found) if best is None or not best.mark else ""]
    if best is not None and len(rows) > 1:
        which = {SURE: " gain that holds across seeds,", THESE_RUNS: " significant gain"}.get(best.mark, "")
        among = f"It is the largest{which} of {counted(len(rows), 'gain')}"
        corrected = ": p is corrected for the branches of a task, not for the choice among tasks" * bool(tested)
        lines.append(f"{among}{corrected}.")
    if best is not None:
        lines += _collapsed(found, best)
        several = f"A gain is the difference at the same seed{over_seeds(study.seeds)}."
        lines.append(several if len(study.seeds) > 1 else "There is a single seed: other seeds may differ.")
    if found.missing:
        lines.append(f"{len(found.missing):,} of {counted(len(study.cells), 'score')} are missing, so this may change.")
    return [line for line in lines if line]


def _count(tested: Sequence[Comparison]) -> str:
    if not tested:
        return "Whether gains are significant is not known: none was tested."
    better = sum(bool(row.mark) and improvement(row.gain, row.metric) > 0 for row in tested)
    worse = sum(bool(row.mark) and improvement(row.gain, row.metric) < 0 for row in tested)
    sure = sum(row.mark == SURE for row in tested)
    of = f"{counted(len(tested), 'comparison')} of a branch with its baseline in the {_mean_of(tested)} of a target"
    return f"Of {of}, {better} are significantly better and {worse} worse (p < {ALPHA:g}), {sure} also across seeds."


def _elsewhere(found: Significance) -> str:
    """How many gains are significant in other rows than those of the finding."""
    means = {(row.task, row.language) for row in _mean_rows(found)}
    others = [row for row in found.rows if (row.task, row.language) not in means]
    better = [row for row in others if row.mark and improvement(row.gain, row.metric) > 0]
    marks = " or ".join(mark for mark in (SURE, THESE_RUNS) if mark in {row.mark for row in better})
    gains = f"{counted(len(better), 'gain')}, marked {marks} below"
    return f"Significant in single languages or in another mean: {gains}." if better else ""


def _collapsed(found: Significance, best: Comparison) -> list[str]:
    """Warn if runs behind the finding collapsed: a gain over a failed baseline is no finding."""
    names = short_names(found.study.branches)
    both = (best.branch, found.study.baseline_of(best.branch))
    rows = [x for x in _mean_rows(found) if x.task == best.task and x.branch in both and x.collapsed]
    runs = [f"{len(row.collapsed)} of {counted(row.seeds, 'run')} of '{names[row.branch]}'" for row in rows]
    return [f"Careful: {' and '.join(runs)} collapsed ({AT_CHANCE})."] if runs else []
