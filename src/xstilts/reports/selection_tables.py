"""The selected runs as tables and rows."""

from __future__ import annotations

from dataclasses import asdict

from xstilts.analysis.aggregate import ALL_TASKS, plus_joined
from xstilts.analysis.results import StudyResults
from xstilts.analysis.selection import BASELINE, BOUND, RULES, SHARED, UNLABELLED, SelectedRun, Selection, select
from xstilts.render.table import Document, Table, TableCell
from xstilts.reports.legend import full_names, in_no_mean, legend_lines, short_names, unit

_REUSED = "†"


def selection(results: StudyResults) -> Document:
    """The runs that each rule selects."""
    return document(select(results.study, results.scores))


def document(selection: Selection) -> Document:
    """The selected runs and their scores; rows with all digits for programs."""
    study = selection.study
    facts = {
        **study.header(),
        "lines": [asdict(selected_run) for selected_run in selection.selected_runs],
    }
    shown = [_scores(selection), _runs(selection)] if selection.selected_runs else []
    return Document(shown, _legend(selection), SelectedRun, selection.selected_runs, facts)


def _rules(selection: Selection) -> list[str]:
    return [rule for rule in (BASELINE, *RULES) if rule != BASELINE or selection.study.baseline is not None]


def _marked(rule: str) -> str:
    return rule + next((known.mark for name, known in RULES.items() if name == rule), "")


def explain_marks() -> list[str]:
    """What the marks of rules mean, each with its rules."""
    marked = {
        mark: ", ".join(_marked(name) for name in RULES if RULES[name].mark == mark) for mark in (UNLABELLED, BOUND)
    }
    return [
        f"{marked[UNLABELLED]}: not zero-shot, because the choice uses labels in the target languages",
        f"{marked[BOUND]}: an upper bound, no result",
    ]


def _scores(selection: Selection) -> Table:
    at = {(x.task, x.metric if x.branch else "", x.rule): x for x in selection.selected_runs}
    base = {(task, metric): x.score for (task, metric, rule), x in at.items() if rule == BASELINE}
    lines = {}
    for task, metric in dict.fromkeys((task, metric) for task, metric, _ in at):
        entries = [_entry(at.get((task, metric, rule)), base.get((task, metric))) for rule in _rules(selection)]
        lines[f"{task} {unit(metric)}" if metric else task] = tuple(entries)
    means = sum(label in (ALL_TASKS, SHARED) for label in lines)
    heads = tuple((_marked(rule), "") for rule in _rules(selection))
    splits = plus_joined(x.split for x in selection.selected_runs if x.branch)
    title = f"{selection.study.name}: scores of the selected runs, mean over languages, {splits}"
    return Table(title, "selected by", heads, tuple(lines.items()), summaries=means)


def _entry(selected_run: SelectedRun | None, base: float | None) -> TableCell:
    if selected_run is None:
        return TableCell()
    gain = "" if base is None or selected_run.rule == BASELINE else f"{selected_run.score - base:+z.1f}"
    return TableCell(
        f"{selected_run.score:.1f}",
        gain=gain,
        mark=_REUSED if selected_run.reused and selected_run.rule != "oracle" else "",
    )


def _runs(selection: Selection) -> Table:
    names, chosen = short_names(selection.study.branches), {rule: selection.of(rule) for rule in RULES}

    def run_name(selected_run: SelectedRun | None) -> TableCell:
        if selected_run is None:
            return TableCell()
        return TableCell(names[selected_run.branch] + ("" if selected_run.seed is None else f", {selected_run.seed}"))

    tasks = [task.name for task in selection.study.targets if any(task.name in x for x in chosen.values())]
    lines = [(task, tuple(run_name(x.get(task)) for x in chosen.values())) for task in tasks]
    heads = tuple((_marked(rule), "") for rule in RULES)
    return Table("the selected runs: branch, seed", "task", heads, tuple(lines))


def _legend(selection: Selection) -> list[str]:
    study, selected_runs = selection.study, selection.selected_runs
    tasks = dict.fromkeys(x.task for x in selected_runs if x.reused and x.branch and x.rule != "oracle")
    labels, splits = {x.task for x in selected_runs}, {x.split for x in selected_runs if x.branch}
    on_dev = dict.fromkeys(x.task for x in selected_runs if x.branch and x.split != "test")
    explained = [
        (f"baseline: '{study.baseline}', median over its runs, nothing selected", study.baseline is not None),
        *((f"{rule}: {RULES[rule].description}", True) for rule in RULES),
        ("each but oracle: the branch with the best median over the seeds, then the best of its runs", True),
        *((line, True) for line in explain_marks()),
        (f"{_REUSED} selected on the scores that are shown: {', '.join(tasks)}", tasks),
        (f"dev scores, because not every language has test scores: {', '.join(on_dev)}", len(splits) > 1 and on_dev),
        (f"{ALL_TASKS}: unweighted mean, for rules that select a run for each", ALL_TASKS in labels),
        (f"{SHARED}: the mean over those for which every rule selects a run", SHARED in labels),
        ("signed numbers: one run minus the baseline's median, partly luck", study.baseline is not None),
        (in_no_mean(selection.left_out), in_no_mean(selection.left_out)),
        ("- nothing to select by; no dev split in that language", len(labels) > 0),
    ]
    return legend_lines(explained, full_names(study))


LAYOUTS = {"selection": selection}
