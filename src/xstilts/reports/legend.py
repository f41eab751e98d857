"""The legend below a layout's tables: its one builder, and the words that several layouts share."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from xstilts import metrics
from xstilts.analysis.aggregate import Summary, other_split
from xstilts.study.index import Cell, Study, StudyTask

COLLAPSED = "§"
AT_CHANCE = "within two standard errors of chance in the training language"
"""What it means that a run has collapsed."""
_NOTE = "note: "
MAX_SPELLED_TASKS = 4
"""A branch whose mixture has more tasks gets a short name in tables."""


def legend_lines(
    explained: Iterable[tuple[str, object]], full_names: Mapping[str, str], notes: Iterable[str] = ()
) -> list[str]:
    """The lines of a legend.

    Args:
        explained: explanations, each with its condition; those with a true condition are shown.
        full_names: for each name in the tables the full one; shown where they differ.
        notes: remarks on the numbers.
    """
    spelled = [f"{name}: {full}" for name, full in full_names.items() if name != full]
    return [text for text, shown in explained if shown] + spelled + note_lines(notes)


def note_lines(notes: Iterable[str]) -> list[str]:
    """Remarks on the numbers as lines of a legend."""
    return [_NOTE + note for note in notes]


def split_notes(legend: Iterable[str]) -> tuple[list[str], list[str]]:
    """The lines of a legend without its notes, and the notes.

    >>> split_notes(["- missing", *note_lines(["one training ended at chance"])])
    (['- missing'], ['one training ended at chance'])
    """
    lines = [*legend]
    notes = [line.removeprefix(_NOTE) for line in lines if line.startswith(_NOTE)]
    return [line for line in lines if not line.startswith(_NOTE)], notes


def full_names(study: Study) -> dict[str, str]:
    """The branch behind each short name."""
    return {name: branch for branch, name in short_names(study.branches).items()}


def short_names(branches: Sequence[str]) -> dict[str, str]:
    """A short name for each branch: without weights, and of many tasks the first and the last.

    Where this makes two branches equal, weights stay; where that does too, so do all tasks.
    """
    for weights in (r"\b[\d.]+x(?=[a-z])", r"$^"):
        bare = {branch: re.sub(weights, "", branch) for branch in branches}
        short = {
            branch: re.sub(r"[^ ,()]+", lambda mixture: _short_mixture(mixture[0]), name)
            for branch, name in bare.items()
        }
        if len(set(short.values())) == len(short):
            return short
    return {branch: branch for branch in branches}


def _short_mixture(mixture: str) -> str:
    parts = mixture.split("+")
    return mixture if len(parts) <= MAX_SPELLED_TASKS else f"{parts[0]}+{len(parts) - 2} more+{parts[-1]}"


def unit(metric: str) -> str:
    """A metric's name as a table shows it, with an arrow where lower is better."""
    return metric + ("" if metrics.get(metric).higher_is_better else " ↓")


def baseline(study: Study) -> str:
    """What gains are measured against."""
    return "the same encoder's baseline" if study.baseline is None else f"'{study.baseline}'"


def over_seeds(seeds: Sequence[int], *, listed: bool = False) -> str:
    """How the gains at several seeds become one number; empty for a single seed."""
    numbers = f" {', '.join(map(str, seeds))}" if listed else ""
    unlike = ", not the medians' difference" if len(seeds) > 2 and not listed else ""  # equal for two seeds
    return f", median over seeds{numbers}{unlike}" if len(seeds) > 1 else ""


def dagger(summary: Summary, task: StudyTask) -> str:
    """The mark of a task on dev where test was wanted; `views_of_medians` explains it."""
    return "†" if "dev" in summary.splits(task) else ""


def views_of_medians(summary: Summary, tasks: Sequence[StudyTask]) -> list[tuple[str, object]]:
    """What views of test scores by language explain: seeds, tasks on dev, languages left out; for `legend_lines`."""
    seeds, on_dev = summary.study.seeds, ", ".join(task.name for task in tasks if dagger(summary, task))
    left_out = {task.name: summary.left_out.get(task.name, ()) for task in tasks}
    return [
        (f"scores are medians over seeds {', '.join(map(str, seeds))}", len(seeds) > 1),
        (split_replaced("test", on_dev), on_dev),
        (lacking(left_out), any(left_out.values())),
    ]


def split_replaced(split: str, where: str) -> str:
    """Explains the mark of tasks or languages without scores on the wanted split."""
    return f"† {other_split(split)}, because not every language has {split} scores: {where}"


def in_no_mean(left_out: Mapping[str, Sequence[str]]) -> str:
    """Which languages are in no mean; empty if there are none."""
    languages = languages_by_task(left_out)
    return languages and f"in no mean, for want of scores in some branch or seed: {languages}"


def lacking(left_out: Mapping[str, Sequence[str]]) -> str:
    """Which languages a view leaves out; empty if there are none."""
    languages = languages_by_task(left_out)
    return languages and f"left out, because some branch or seed lacks them: {languages}"


def languages_by_task(languages: Mapping[str, Sequence[str]]) -> str:
    """Languages of tasks: `xnli (de, sw); panx (eu)`."""
    return "; ".join(f"{task} ({', '.join(codes)})" for task, codes in languages.items() if codes)


def not_finished(study: Study, missing: Iterable[Cell]) -> str:
    """Tasks, their branches and seeds without a score: `...: xnli, panx: all; udpos: mnli, qqp (seeds 1, 2)`."""
    names, planned = short_names(study.branches), _seeds_by_branch(study.cells)
    tasks: dict[str, list[str]] = defaultdict(list)
    for task, branches in _seeds_by_branch(missing).items():
        runs = []
        for branch, seeds in branches.items():
            some = f" ({_seeds(seeds)})" if seeds != planned[task][branch] else ""
            runs.append(names[branch] + some)
        tasks["all" if branches == planned[task] else ", ".join(runs)].append(task)
    lines = "; ".join(f"{', '.join(of)}: {runs}" for runs, of in tasks.items())
    return f"not finished or failed, counted nowhere: {lines}"


def unpaired(study: Study, missing: Iterable[Cell]) -> str:
    """Scored runs whose baseline lacks their seed, so that no gain includes them; empty if there are none."""
    gone = {(cell.task, cell.branch, cell.seed) for cell in missing}
    cells = [
        cell
        for cell in study.cells
        if (cell.task, study.baseline_of(cell.branch), cell.seed) in gone
        and (cell.task, cell.branch, cell.seed) not in gone
    ]
    names = short_names(study.branches)
    tasks = [
        f"{task}: " + ", ".join(f"{names[x]} ({_seeds(seeds)})" for x, seeds in branches.items())
        for task, branches in _seeds_by_branch(cells).items()
    ]
    return "in no gain, because the baseline lacks the seed: " + "; ".join(tasks) if tasks else ""


def _seeds(seeds: Sequence[str]) -> str:
    return f"seed{'s'[: len(seeds) > 1]} {', '.join(seeds)}"


def _seeds_by_branch(cells: Iterable[Cell]) -> dict[str, dict[str, list[str]]]:
    """The seeds of each branch, by task."""
    by_task: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for cell in cells:
        by_task[cell.task][cell.branch].append(str(cell.seed))
    return by_task
