"""XTREME's evaluation: scores a folder of predictions against a folder of labels, as the leaderboard does."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from statistics import fmean
from typing import Any, TypeAlias

from xstilts import metrics
from xstilts.data.lines import lines
from xstilts.errors import Collector, DataError, UserError, nearest
from xstilts.formats import Retrieve
from xstilts.languages import titled
from xstilts.leaderboard.files import FILE_TYPES, Entries, Reasons, reason_lines
from xstilts.render.table import Table, TableCell
from xstilts.reports import ALL_TASKS, MEAN
from xstilts.tasks import GROUPS, TASKS, WITH_MORE_LANGUAGES
from xstilts.tasks.task import Task
from xstilts.utils.os_errors import as_user_error

ALL = "all_task"
FAMILIES = {
    "classify": ("classification",),
    "tag": ("tagging",),
    "span": ("qa",),
    "retrieve": ("retrieval",),
    "choose": ("classification", "multi_choice"),
}
"""The leaderboard's groups of each format; multiple choice counts in two of them."""

BenchmarkTasks: TypeAlias = Sequence[tuple[Task, tuple[str, ...]]]
"""The tasks of a benchmark, each with its languages."""

Numbers: TypeAlias = dict[str, float]

HEADLINE = ("exact_match", "f1")
"""A task with both scores has their mean as its main score; another task has its first score."""


UNANSWERED = "without a prediction, so counted as wrong; how many, and the first"
UNKNOWN_IDS = "predictions for what the labels do not have, counted nowhere; how many, and the first"
UNKNOWN_LABELS = "predictions unlike any label, so counted as wrong; how many, and the first"
UNKNOWN_SOURCES = (
    "pairs of which none begins with an id that the labels have, so all are wrong; how many, and the first"
)


@dataclass
class Scored:
    """The numbers of a benchmark in percent, under the names that the official evaluator gives them.

    `overall` has the means over tasks; `detailed` has, for each task, every number by language and its mean over them.
    """

    benchmark: str
    overall: Numbers = field(default_factory=dict)
    detailed: dict[str, dict[str, Any]] = field(default_factory=dict)
    missing: list[dict[str, Any]] = field(default_factory=list)
    """Languages that count nowhere: `task`, `languages`, and what `lacks`: predictions, labels, or both (files)."""
    notes: Reasons = field(default_factory=lambda: defaultdict(lambda: defaultdict(dict)))
    """Warnings: by reason, then task, the languages."""

    def to_json(self) -> dict[str, Any]:
        """The document that `xstilts score --json` prints."""
        return {"overall": self.overall, "detailed": self.detailed, "missing": self.missing}

    def warnings(self) -> list[str]:
        """The missing parts and the notes as sentences."""
        missing: Reasons = defaultdict(dict)
        for entry in self.missing:
            missing[f"no {entry['lacks']}, counted nowhere"][entry["task"]] = dict.fromkeys(entry["languages"])
        return reason_lines(missing) + reason_lines(self.notes)


def benchmark(name: str) -> BenchmarkTasks:
    """The tasks and languages of a benchmark, or of another group of tasks.

    Raises:
        UserError: no benchmark has this name.
    """
    if name not in GROUPS:
        raise UserError(f"no benchmark '{name}'", where="--benchmark", hint=nearest(name, GROUPS))
    tasks = [TASKS[task] for task in GROUPS[name]]
    return [(task, task.all_languages if name in WITH_MORE_LANGUAGES else task.languages) for task in tasks]


def score(predictions: Path, labels: Path, tasks: BenchmarkTasks, name: str) -> Scored:
    """Score a folder in the leaderboard's layout.

    Args:
        predictions: the folder with `{task}/test-{language}.*`.
        labels: a folder of the same layout.
        tasks: the tasks and languages to look for.
        name: of the benchmark.

    Raises:
        UserError: lists all mistakes in the folders and their files.
    """
    _check_folders(predictions, labels, [task.name for task, _ in tasks], name)
    found, scored = Collector(), Scored(name)
    for task, languages in tasks:
        file_type, lacking = FILE_TYPES[task.format.file], dict[str, list[str]]()
        by_language: dict[str, Numbers] = {}
        for language in languages:
            predicted, labelled = (file_type.path(folder, task.name, language) for folder in (predictions, labels))
            with found.catch():
                there = _is_file(predicted), _is_file(labelled)
                if all(there):
                    by_language[language] = _score_file(task, language, predicted, labelled, scored.notes)
                else:
                    lacks = {(True, False): "labels", (False, True): "predictions"}.get(there, "files")
                    lacking.setdefault(lacks, []).append(language)
        scored.missing += [{"task": task.name, "languages": x, "lacks": lacks} for lacks, x in lacking.items()]
        if by_language:
            scored.detailed[task.name] = _with_means(by_language)
    found.raise_any()
    if not scored.detailed:
        task, languages = next(one for one in tasks if _has_task_folder(predictions, [one[0].name]))
        looked = FILE_TYPES[task.format.file].path(Path(), task.name, languages[0])
        raise UserError(f"no language of any task has a file here and in {labels}", where=str(predictions),
                        hint=f"files are named as {looked}")  # fmt: skip
    scored.overall = _overall(scored, tasks)
    if beside := _unscored(predictions, tasks):
        scored.notes[f"not of {name}, so not looked at"] = {what: {} for what in beside}
    return scored


def tables(scored: Scored) -> list[Table]:
    """The numbers as tables: means over tasks, means over languages, languages by task."""
    groups = [(ALL_TASKS if name == ALL else name, _row([value])) for name, value in scored.overall.items()]
    names = list(dict.fromkeys(name for numbers in scored.detailed.values() for name in _names(numbers)))
    means = []
    for task, numbers in scored.detailed.items():
        means.append((task, _row([numbers["avg_metric"], *(numbers.get(f"avg_{name}") for name in names)])))
    by_task = {task: _by_language(numbers) for task, numbers in scored.detailed.items()}
    languages = sorted({language for values in by_task.values() for language in values})
    rows = [(titled(x), _row([values.get(x) for values in by_task.values()])) for x in languages]
    rows.append((MEAN, _row([numbers["avg_metric"] for numbers in scored.detailed.values()])))
    heads = [
        (task, ", ".join(_headline_metrics(_names(numbers))).replace("exact_match", "em"))
        for task, numbers in scored.detailed.items()
    ]
    return [
        Table(f"{scored.benchmark}: mean over tasks, percent", "tasks", (("score", ""),), tuple(groups)),
        Table("mean over languages, percent", "task", (("score", ""), *((name, "") for name in names)), tuple(means)),
        Table("score of each language, percent", "language", tuple(heads), tuple(rows), summaries=1),
    ]


def _names(numbers: dict[str, Any]) -> list[str]:
    return [name for name, value in numbers.items() if isinstance(value, dict)]


def _headline_metrics(names: Sequence[str]) -> Sequence[str]:
    """The metrics whose mean is the task's main score."""
    return HEADLINE if set(HEADLINE) <= set(names) else names[:1]


def _by_language(numbers: dict[str, Any]) -> Numbers:
    columns = [numbers[name] for name in _headline_metrics(_names(numbers))]
    return {language: fmean(column[language] for column in columns) for language in columns[0]}


def _row(values: Sequence[float | None]) -> tuple[TableCell, ...]:
    return tuple(TableCell.of(value, ".1f") for value in values)


def _with_means(by_language: dict[str, Numbers]) -> dict[str, Any]:
    """A task's scores by metric and language, with their means and the main score."""
    names = list(next(iter(by_language.values())))
    columns: dict[str, Any] = {name: {x: numbers[name] for x, numbers in by_language.items()} for name in names}
    means = {f"avg_{name}": fmean(columns[name].values()) for name in names}
    return {**columns, **means, "avg_metric": fmean(means[f"avg_{name}"] for name in _headline_metrics(names))}


def _overall(scored: Scored, tasks: BenchmarkTasks) -> Numbers:
    """The mean of each group; the mean over all tasks only if no language of any task is missing."""
    families: dict[str, list[float]] = {}
    for task, _ in tasks:
        if task.name in scored.detailed:
            for family in FAMILIES.get(task.format.name, (task.format.name,)):
                families.setdefault(family, []).append(scored.detailed[task.name]["avg_metric"])
    means = {family: fmean(values) for family, values in families.items()}
    whole = {ALL: fmean(numbers["avg_metric"] for numbers in scored.detailed.values())}
    return means if scored.missing else whole | means


# --- one task in one language ----------------------------------------------------------------------------------------


def _score_file(task: Task, language: str, predictions: Path, labels: Path, notes: Reasons) -> Numbers:
    file_type = FILE_TYPES[task.format.file]
    labelled = file_type.read_labels(_text(labels), str(labels))
    predicted = file_type.read(_text(predictions), str(predictions))
    _check_labels(labelled, getattr(task.format, "labels", None), labels)
    if file_type is FILE_TYPES["pairs"]:
        references, answers = _by_source(labelled, predicted)
        if {id for id, _ in labelled}.isdisjoint(id for id, _ in predicted):
            _add_note(notes, UNKNOWN_SOURCES, task, language, [id for id, _ in predicted])
    elif file_type.by_id:
        _check_ids(labelled, predicted, predictions, labels)
        without: list[str] | None = [] if file_type is FILE_TYPES["rankings"] else None
        answered, known = dict(predicted), dict(labelled)
        references, answers = [value for _, value in labelled], [answered.get(id, without) for id, _ in labelled]
        _add_note(notes, UNANSWERED, task, language, [id for id, _ in labelled if id not in answered])
        _add_note(notes, UNKNOWN_IDS, task, language, [id for id in answered if id not in known])
    else:
        references, answers = _by_position(labelled, predicted, predictions, labels)
        if not isinstance(task.format, Retrieve):  # its answers are sentence numbers, not labels
            likely = {*_words(references), *(getattr(task.format, "labels", None) or ())}
            _add_note(notes, UNKNOWN_LABELS, task, language, [word for word in _words(answers) if word not in likely])
    main = metrics.get(task.metric)
    if main.official:
        return main.official_scores(references, answers, language)
    return {name: metrics.get(name).score(references, answers, language) for name in task.metrics}


def _text(path: Path) -> str:
    return "\n".join(line for _, line in lines(str(path)))


def _words(values: Sequence[Any]) -> list[str]:
    """The labels of examples with one label each, or one a word."""
    return [word for value in values for word in ([value] if isinstance(value, str) else value or [])]


def _add_note(notes: Reasons, why: str, task: Task, language: str, what: Sequence[str]) -> None:
    if what:
        notes[why][task.name][f"{language} {len(what):,}: {what[0]!r}"] = None


def _check_labels(labelled: Entries, known: Sequence[str] | None, path: Path) -> None:
    """Check that there are labels: the published test files have none."""
    values = [value for _, value in labelled]
    if known:
        some = not set(known).isdisjoint(_words(values))
    else:
        some = any(any(value) if isinstance(value, list) else value not in (None, "") for value in values)
    if not some:
        hint = "test sets are published without them; nothing can be scored here"
        raise DataError("has no labels", where=str(path), hint=hint)


def _by_position(labelled: Entries, predicted: Entries, predictions: Path, labels: Path) -> tuple[list[Any], list[Any]]:
    """Labels and predictions of files without ids, paired by position."""
    tags = isinstance(labelled[0][1], list)
    if len(labelled) != len(predicted):
        unit = "sentences" if tags else "lines"
        raise DataError(f"has {len(predicted):,} {unit}, but {labels} has {len(labelled):,}", where=str(predictions))
    references, answers = [value for _, value in labelled], [value for _, value in predicted]
    for number, (reference, answer) in enumerate(zip(references, answers, strict=True), start=1):
        for value, path in ((reference, labels), (answer, predictions)):
            if value in (None, ""):
                raise DataError("has no label", where=f"{path}:{number}")
        if tags and len(reference) != len(answer):
            what = f"sentence {number:,} has {len(answer):,} tags, but in {labels} it has {len(reference):,}"
            raise DataError(what, where=str(predictions))
    return references, answers


def _check_ids(labelled: Entries, predicted: Entries, predictions: Path, labels: Path) -> None:
    """Check that the two files have ids in common."""
    known = {id for id, _ in labelled}
    if known.isdisjoint(id for id, _ in predicted):
        first = f"; its first is for '{predicted[0][0]}'" if predicted else ""
        what = f"has no prediction for any of the {len(known):,} ids in {labels}{first}"
        raise DataError(what, where=str(predictions), hint="are these of another task or language?")


def _by_source(labelled: Entries, predicted: Entries) -> tuple[list[Any], list[Any]]:
    """The targets of each source sentence in either file; the labels do not list the other sentences."""
    references, answers = dict(labelled), dict(predicted)
    sources = dict.fromkeys([*references, *answers])
    return [references.get(id, []) for id in sources], [answers.get(id, []) for id in sources]


# --- the folders ------------------------------------------------------------------------------------------------------


def _no_folder(folder: Path, what: str) -> UserError:
    beside = [path.name for path in folder.parent.iterdir() if path.is_dir()] if folder.parent.is_dir() else []
    return UserError(what, where=str(folder), hint=nearest(folder.name, beside))


def _check_folders(predictions: Path, labels: Path, names: Sequence[str], benchmark: str) -> None:
    found = Collector()
    for option, folder in (("predictions", predictions), ("labels", labels)):
        with found.catch(), as_user_error(folder):
            if not folder.is_dir():
                raise _no_folder(folder, f"no such folder (--{option})")
            if not _has_task_folder(folder, names):
                what = f"has no folder of a task of {benchmark} (--{option})"
                raise UserError(what, where=str(folder), hint=_folder_hint(folder, option, names))
    if not found.errors and predictions.resolve() == labels.resolve():
        found.add("is given for the predictions and for the labels", where=str(labels), hint="these are two folders")
    found.raise_any()


def _is_file(path: Path) -> bool:
    """Whether the file exists; a folder or a broken link of this name is an error."""
    with as_user_error(path):
        if not path.is_file() and (path.is_symlink() or path.exists()):
            raise DataError("is no file, or a link to nowhere", where=str(path))
        return path.is_file()


def _has_task_folder(folder: Path, names: Sequence[str]) -> bool:
    return any(os.path.isdir(folder / name) for name in names)  # noqa: PTH112  (no error in an unreadable folder)


def _folder_hint(folder: Path, option: str, names: Sequence[str]) -> str:
    """A hint at the folder that the user may have meant."""
    inside = [
        path
        for depth in ("*/", "*/*/", "*/*/*/")
        for path in sorted(folder.glob(depth))
        if _has_task_folder(path, names)
    ]
    named = [path for path in inside if path.name == option]
    others = [group for group, tasks in GROUPS.items() if _has_task_folder(folder, tasks)]
    if folder.name in names:
        return f"give the folder above it, {folder.parent}"
    if inside:
        return f"did you mean {(named or inside)[0]}?"
    if others:
        return f"it has tasks of --benchmark {others[0]}"
    return f"it needs folders such as {', '.join(names[:3])}"


def _unscored(predictions: Path, tasks: BenchmarkTasks) -> list[str]:
    """Files and folders of predictions that were not scored."""
    known = {task.name: (FILE_TYPES[task.format.file], languages) for task, languages in tasks}
    extra = []
    for folder in sorted(path for path in predictions.iterdir() if path.is_dir()):
        if folder.name not in known:
            close = [] if folder.name in TASKS else get_close_matches(folder.name.lower(), known, 1)
            extra.append(folder.name + "".join(f" (did you mean '{name}'?)" for name in close))
        else:
            file_type, languages = known[folder.name]
            looked = {file_type.path(predictions, folder.name, language) for language in languages}
            extra += [f"{folder.name}/{path.name}" for path in sorted(folder.iterdir()) if path not in looked]
    return extra
