"""The tables of a study, rounded, with the legend that explains their marks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Literal, TypeAlias

from xstilts import metrics
from xstilts.analysis.aggregate import ALL_TASKS, MEAN, ZERO_SHOT, Summary, SummaryLine, other_split
from xstilts.analysis.results import StudyResults
from xstilts.errors import counted
from xstilts.languages import titled
from xstilts.render.table import MISSING, Document, Table, TableCell
from xstilts.reports.legend import (
    AT_CHANCE,
    COLLAPSED,
    baseline,
    full_names,
    in_no_mean,
    languages_by_task,
    legend_lines,
    not_finished,
    note_lines,
    over_seeds,
    short_names,
    split_replaced,
    unit,
    unpaired,
)
from xstilts.study.index import Study, StudyTask

View: TypeAlias = Literal["first", "overview", "others"]
DEFAULT_VIEWS: tuple[View, ...] = ("first", "others", "overview")
"""The targets by language, then the means over languages, which stand above the prompt and the legend."""


def tables(summary: Summary, views: Sequence[View]) -> list[Table]:
    """The tables of these views, in this order; a task without scores has no table."""
    scored = [task for task in summary.study.targets if _lines_of(summary, task)]
    by_view: dict[View, list[Table]] = {
        "first": [_languages(summary, task) for task in scored[:1]] if "first" in views else [],
        "overview": [_overview(summary)] if "overview" in views and summary.study.targets else [],
        "others": [_languages(summary, task) for task in scored[1:]] if "others" in views else [],
    }
    return [table for view in views for table in by_view[view]]


def legend(summary: Summary, shown: Sequence[Table], *, spreads: bool = True) -> list[str]:
    """The lines below these tables: their marks, missing parts, sizes, notes; whether the numbers have their ±."""
    study, split = summary.study, summary.split
    numbers = [entry for table in shown for _, row in table.rows for entry in row if entry.value != MISSING]
    spread = any(entry.spread for entry in numbers)
    heads = [word for table in shown for head in table.columns for word in head]
    labels = [label for table in shown for label, _ in table.rows]
    words = " ".join([*heads, *labels, *(table.title for table in shown)])
    seeds = ", ".join(map(str, study.seeds))
    others = {task.name: _on_other_split(summary, task) for task in study.targets}
    for task in study.targets:
        if others[task.name] and len(others[task.name]) == len(_scored_languages(summary, task)):
            others[task.name] = ("all languages",)
    averages = " or an average of runs" if any(name.endswith("runs averaged") for name in study.branches) else ""
    explained = [
        ("± half the range over the seeds; " * spreads + "values are medians over seeds " + seeds, spread),
        (f"no ±: a single run{averages}", spreads and spread and not all(entry.spread for entry in numbers)),
        (
            f"{study.baseline}: trained on the target task only; other branches first on the tasks in their names",
            study.baseline == "none" and any(entry.gain for entry in numbers),
        ),
        (
            f"signed numbers: gain over {baseline(study)} at the same seed{over_seeds(study.seeds)}",
            any(entry.gain for entry in numbers),
        ),
        ("zero-shot: the mean without the languages that the task is trained on", ZERO_SHOT in labels),
        (f"{ALL_TASKS}: unweighted mean, for branches with every task that has scores", ALL_TASKS in heads),
        ("↓ lower is better; there a positive gain is a loss", "↓" in words),
        (split_replaced(split, languages_by_task(others)), "†" in words),
        (f"‡ {in_no_mean(summary.left_out)}", summary.left_out),
        (fewer := _fewer_languages(summary), fewer),
        (f"{COLLAPSED} collapsed, {AT_CHANCE}: {_collapsed_runs(summary)}", any(entry.mark for entry in numbers)),
        (not_finished(study, summary.missing), summary.missing),
        (lacking := unpaired(study, summary.missing), lacking),
        ("the intermediate tasks' own dev scores: --layout table15", len(study.targets) < len(study.tasks)),
    ]
    sizes: dict[str, list[str]] = defaultdict(list)
    for task in study.targets:
        if _lines_of(summary, task):
            sizes[_sizes(summary, task)].append(task.name)
    examples = [f"{', '.join(names)}: {size}" for size, names in sizes.items()]
    return legend_lines(explained, full_names(study)) + examples + note_lines(summary.notes)


def _lines_of(summary: Summary, task: StudyTask) -> list[SummaryLine]:
    return [line for line in summary.lines if line.task == task.name and line.metric == task.metric]


def _overview(summary: Summary) -> Table:
    study, split = summary.study, summary.split
    columns, heads = [], []
    for task in study.targets:
        lines = {line.branch: line for line in _lines_of(summary, task) if line.language == MEAN}
        dagger = "†" if any(line.split != split for line in lines.values()) else ""
        heads.append((task.name + dagger, unit(task.metric)))
        columns.append(_cells(lines.get(branch) for branch in study.branches))
    overall = {line.branch: line for line in summary.lines if line.task == ALL_TASKS}
    if overall:
        heads.append((ALL_TASKS, MEAN))
        columns.append(_cells(overall.get(branch) for branch in study.branches))
    rows = tuple(zip(short_names(study.branches).values(), zip(*columns, strict=True), strict=True))
    title = f"{study.name}: mean over languages, {split}{_over_seeds(summary)}"
    tall = len(study.targets) > len(study.branches)
    return Table(title, corner(study), tuple(heads), rows, columns_title="task", tall=tall)


def corner(study: Study) -> str:
    """The heading of the column of branches: the encoder's name, or `branch` for a new encoder."""
    if study.encoder == "new":
        return "branch"
    return study.encoder.rpartition("/")[2] if study.encoder.startswith("{data}") else study.encoder


def _languages(summary: Summary, task: StudyTask) -> Table:
    study, marks = summary.study, marked_languages(summary, task)
    by_language: dict[str, dict[str, SummaryLine]] = defaultdict(dict)
    for line in _lines_of(summary, task):
        by_language[line.language][line.branch] = line
    rows = [
        (titled(name) + mark, _cells(by_language[name].get(branch) for branch in study.branches))
        for name, mark in marks.items()
    ]
    title = f"{task.name}: {unit(task.metric)}, {shown_split(summary, task)}{_over_seeds(summary)}"
    heads = tuple((branch, "") for branch in short_names(study.branches).values())
    return Table(title, "language", heads, tuple(rows), summaries=len({*marks} & {MEAN, ZERO_SHOT}))


def marked_languages(summary: Summary, task: StudyTask) -> dict[str, str]:
    """The languages with a score, then the means, each with its marks: ‡ in no mean, † on the other split."""
    languages, left_out = _scored_languages(summary, task), summary.left_out.get(task.name, ())
    others = _on_other_split(summary, task)
    some_on_other = len(others) < len(languages)
    marks = {x: "‡" * (x in left_out) + "†" * (x in others and some_on_other) for x in languages}
    found = {line.language for line in _lines_of(summary, task)}
    means = [name for name in (MEAN, ZERO_SHOT) if name in found]
    if not any(task.trained_in(code) for code in languages if code not in left_out):
        means = means[:1]  # the mean is already zero-shot
    return marks | dict.fromkeys(means, "")


def shown_split(summary: Summary, task: StudyTask) -> str:
    """The split that a task's languages show."""
    others, split, other = _on_other_split(summary, task), summary.split, other_split(summary.split)
    if len(others) == len(_scored_languages(summary, task)):
        return f"{other}†"
    return f"{split}, {other} where marked †" if others else split


def _cells(lines: Iterable[SummaryLine | None]) -> tuple[TableCell, ...]:
    """Round lines that are compared; values equal as shown are equally good."""
    some = list(lines)
    values = [line.median for line in some if line]
    best = f"{(max if _higher_is_better(some) else min)(values):.1f}" if len(values) > 1 else ""
    return tuple(_cell(line, best) if line else TableCell() for line in some)


def _cell(line: SummaryLine, best: str) -> TableCell:
    value = f"{line.median:.1f}"
    spread = f"±{(line.max - line.min) / 2:.1f}" if line.seeds > 1 else ""
    gain = "" if line.gain is None else f"{line.gain:+z.1f}"
    return TableCell(value, spread, gain, value == best, COLLAPSED if line.collapsed else "")


def _higher_is_better(lines: Iterable[SummaryLine | None]) -> bool:
    # means over tasks are made only of percentages, all of which are better when higher
    return all(line.task == ALL_TASKS or metrics.get(line.metric).higher_is_better for line in lines if line)


def _over_seeds(summary: Summary) -> str:
    runs = max((line.seeds for line in summary.lines), default=1)
    return f", median over {runs} seeds" if runs > 1 else ""


def _scored_languages(summary: Summary, task: StudyTask) -> tuple[str, ...]:
    """The languages with a score, in the task's order."""
    found = {line.language for line in _lines_of(summary, task)}
    return tuple(language for language in task.languages if language in found)


def _mean_languages(summary: Summary, task: StudyTask) -> set[str]:
    return set(_scored_languages(summary, task)) - set(summary.left_out.get(task.name, ()))


def _fewer_languages(summary: Summary) -> str:
    """Tasks whose mean lacks languages of a task like them, such as an ensemble's; empty if there are none."""
    alike: dict[str, dict[str, set[str]]] = defaultdict(dict)
    for task in summary.study.targets:
        if _lines_of(summary, task):
            name = summary.study.catalogue_names.get(task.name, task.name)
            alike[name][task.name] = _mean_languages(summary, task)
    lacking = {
        task: sorted(set.union(*means.values()) - languages)
        for means in alike.values()
        if set.intersection(*means.values())
        for task, languages in means.items()
    }
    tasks = languages_by_task(lacking)
    return tasks and f"means without languages that a task like them has, so compare by language: {tasks}"


def _on_other_split(summary: Summary, task: StudyTask) -> tuple[str, ...]:
    """The languages that show the other split."""
    found = {line.language for line in _lines_of(summary, task) if line.split != summary.split}
    return tuple(language for language in task.languages if language in found)


def _collapsed_runs(summary: Summary) -> str:
    """Tasks, their branches, how many runs: `xnli: none 2 of 3 runs (seeds 1, 3)`."""
    by_task = []
    names = short_names(summary.study.branches)
    for task in summary.study.targets:
        lines = [x for x in _lines_of(summary, task) if x.language in (task.train_language, MEAN) and x.collapsed]
        runs = [
            f"{names[line.branch]} {len(line.collapsed)} of {counted(line.seeds, 'run')}{_seeds(line.collapsed)}"
            for line in {line.branch: line for line in lines}.values()
        ]
        if runs:
            by_task.append(f"{task.name}: {', '.join(runs)}")
    return "; ".join(by_task)


def _seeds(seeds: Sequence[int | None]) -> str:
    known = [str(seed) for seed in seeds if seed is not None]
    return f" ({'seeds' if len(known) > 1 else 'seed'} {', '.join(known)})" if known else ""


def _sizes(summary: Summary, task: StudyTask) -> str:
    lines = [line for line in _lines_of(summary, task) if line.language in task.languages]
    least, most = min(line.n for line in lines), max(line.n for line in lines)
    count = len(_mean_languages(summary, task))
    languages = f"mean over {count} languages, " if count > 1 else ""
    return f"{languages}{least:,}{f'-{most:,}' if most > least else ''} examples a language"


def document(summary: Summary, views: Sequence[View] = DEFAULT_VIEWS) -> Document:
    """A summary's tables with their legend, and its lines with all digits for programs."""
    study, shown = summary.study, tables(summary, views)
    facts = {
        **study.header(),
        "split": summary.split,
        "lines": [vars(line) for line in summary.lines],
        "missing": [asdict(cell) for cell in summary.missing],
        "left_out": summary.left_out,
        "notes": summary.notes,
    }
    return Document(shown, legend(summary, shown), SummaryLine, summary.lines, facts)


def _document(results: StudyResults, *views: View) -> Document:
    return document(results.summary(), views)


def default(results: StudyResults) -> Document:
    """The targets by language, then the overview."""
    return _document(results, *DEFAULT_VIEWS)


def brief(results: StudyResults) -> Document:
    """The first target by language, then the overview."""
    return _document(results, "first", "overview")


def overview(results: StudyResults) -> Document:
    """The means over languages of all targets."""
    return _document(results, "overview")


LAYOUTS = {"default": default, "brief": brief, "overview": overview}
