"""A study's test predictions as files in the leaderboard's layout: every run's, and the selected runs'."""

from __future__ import annotations

import json
import re
import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from xstilts.analysis.selection import SelectedRun
from xstilts.errors import Collector, UserError
from xstilts.leaderboard.files import FILE_TYPES, FileType, Reasons, reason_lines
from xstilts.store.rows import Prediction
from xstilts.store.run_folder import Store
from xstilts.store.step_record import read_step
from xstilts.study.index import Study, StudyTask
from xstilts.tasks import GROUPS
from xstilts.utils.files import write_atomic
from xstilts.utils.os_errors import as_user_error

BEST = "best"
"""The folder of the selected runs, beside those of the branches."""


@dataclass
class Export:
    """The files written: one folder for each branch and seed, with `predictions` and, if known, `labels`."""

    folders: dict[Path, set[Path]] = field(default_factory=lambda: defaultdict(set))
    """The files of each folder."""
    tasks: set[str] = field(default_factory=set)
    incomplete: Reasons = field(default_factory=lambda: defaultdict(lambda: defaultdict(dict)))
    """Missing or incomplete parts: by reason, then task, the languages."""

    def lines(self) -> list[str]:
        """The files written, the command to score them, and missing parts."""
        lines = [f"{run_folder}: {len(files)} files" for run_folder, files in self.folders.items()]
        shared = {group: len(self.tasks & set(tasks)) for group, tasks in GROUPS.items()}
        best = max(shared, key=lambda group: shared[group])
        labelled = [run_folder for run_folder in self.folders if (run_folder / "labels").is_dir()]
        if labelled and shared[best]:
            folders = " ".join(f"--{side} {shlex.quote(str(labelled[0] / side))}" for side in ("predictions", "labels"))
            lines.append(f"score it with: xstilts score {folders} --benchmark {best}")
        return lines + reason_lines(self.incomplete)


def export_study(store: Store, study: Study, folder: Path, chosen: Mapping[str, SelectedRun] | None = None) -> Export:
    """Write the test predictions of all finished steps, `folder/<branch>/seed-<n>/{predictions,labels}/`.

    Args:
        store: where the steps are.
        study: its branches and seeds are exported.
        folder: to write into.
        chosen: the selected run of each task (see `analysis.selection`). Its files are copied into `folder/best/`,
            beside `selection.json`, which says how it was selected. None: there is no such folder.

    Raises:
        UserError: no finished step has predictions of a test split, or a file cannot be read or written.
    """
    if any(task.file not in FILE_TYPES for task in study.targets):
        what, hint = f"'{study.name}' was run by an earlier xstilts, which kept too little for this", "run it again"
        raise UserError(what, where=str(store.folder), hint=hint)
    if folder.exists() and not folder.is_dir():
        raise UserError("is no folder", where=str(folder), hint="--to names the folder to write into")
    export, names = Export(), _folder_names([BEST, *study.branches])
    tasks = {line.name: line for line in study.targets}
    folders_of_step: dict[str, list[Path]] = defaultdict(list)
    cells = [cell for cell in study.cells if cell.task in tasks]
    for cell in cells:
        if store.state(cell.step).has_results:
            folders_of_step[cell.step].append(folder / names[cell.branch] / f"seed-{cell.seed}")
        else:
            export.incomplete["not finished or failed"][f"{cell.branch}, seed {cell.seed}"][cell.task] = None
    of = {x.step: tasks[x.task].in_language(x.language) if x.language else tasks[x.task] for x in cells}
    found = Collector()
    with as_user_error(folder):
        for step, run_folders in folders_of_step.items():
            read: tuple[dict[str, list[Prediction]], int | None] = ({}, None)
            with found.catch():
                read = _test_rows(store, step, of[step])
            _write_step(of[step], *read, run_folders, export)
        if chosen is not None:
            _write_best(study, folder, names, chosen, export)
    found.raise_any()
    if not export.folders:
        hint = "only predictions of test data are exported; the study has scored others or is not finished"
        raise UserError(f"'{study.name}' has no predictions of a test split", where=str(store.folder), hint=hint)
    _note_stale_files(export)
    return export


def _note_stale_files(export: Export) -> None:
    files = set().union(*export.folders.values())
    for run_folder in export.folders:
        for old in sorted(run_folder.rglob("test-*.*")):
            if old not in files:
                export.incomplete["there from before, and not written now"].setdefault(str(old.parent), {})[
                    old.name
                ] = None


def _write_best(
    study: Study, folder: Path, names: Mapping[str, str], chosen: Mapping[str, SelectedRun], export: Export
) -> None:
    """Copy the files of the selected runs, and list these in `selection.json`."""
    best = folder / BEST
    taken = {}
    for task in study.targets:
        selected_run = chosen.get(task.name)
        if selected_run is None:
            export.incomplete["no run is selected"][task.name] = {}
            continue
        taken[task.name] = asdict(selected_run)
        seed = study.seeds[0] if selected_run.seed is None else selected_run.seed
        run_folder = folder / names[selected_run.branch] / f"seed-{seed}"
        for path in sorted(export.folders.get(run_folder, ())):
            if path.parent.name == task.name:
                place = best / path.relative_to(run_folder)
                write_atomic(place, path.read_bytes())
                export.folders[best].add(place)
    if best in export.folders:
        write_atomic(best / "selection.json", json.dumps(taken, indent=1, ensure_ascii=False) + "\n")


def _write_step(
    task: StudyTask,
    by_language: dict[str, list[Prediction]],
    limit: int | None,
    run_folders: Sequence[Path],
    export: Export,
) -> None:
    """Write a step's test predictions into the folders of all branches and seeds that share the step."""
    file_type = FILE_TYPES[task.file]
    for language, rows in by_language.items():
        incomplete, texts = list[str](), dict[str, str]()
        if rows:
            texts, incomplete = _texts(file_type, rows)
        else:
            incomplete.append("no test split")
        if texts and limit is not None:
            incomplete.append(f"not whole, for the recipe's limit is {limit:,} examples")
        for why in incomplete:
            export.incomplete[why][task.name][language] = None
        for side, text in texts.items():
            export.tasks.add(task.name)
            for run_folder in run_folders:
                place = file_type.path(run_folder / side, task.name, language)
                write_atomic(place, text)
                export.folders[run_folder].add(place)


def _test_rows(store: Store, step: str, task: StudyTask) -> tuple[dict[str, list[Prediction]], int | None]:
    """The test predictions of each language, and the step's limit of examples."""
    rows = store.predictions(step)
    folder = store.step(step)
    with as_user_error(folder):
        record = read_step(folder)
    scoring = record.scoring or record.ensemble
    if scoring is None:
        raise UserError("does not say how many examples were scored", where=str(folder / "step.json"))
    test = [row for row in rows if row.split == "test"]
    return {language: [row for row in test if row.language == language] for language in task.languages}, scoring.limit


def _texts(file_type: FileType, rows: Sequence[Prediction]) -> tuple[dict[str, str], list[str]]:
    """The files of a task in a language: predictions and, if all are known, labels; and why a file is missing."""
    predicted = [(row.id, row.prediction) for row in rows]
    labelled = [(row.id, row.reference) for row in rows]
    if file_type is FILE_TYPES["lines"] and not all(isinstance(value, str | int) for _, value in predicted):
        return {}, ["predictions that fit no file of the leaderboard"]
    if file_type.suffix == "json" and len(dict(predicted)) < len(predicted):
        return {}, ["several examples have one id, and the file holds one answer an id"]
    texts = {"predictions": file_type.write(predicted)}
    if any(reference is None for _, reference in labelled):
        return texts, ["without labels"]
    return {**texts, "labels": file_type.write_labels(labelled)}, []


def _folder_names(branches: Sequence[str]) -> dict[str, str]:
    """A different folder name for each branch.

    >>> _folder_names(["none", "mnli > squad2", "mnli+0.5xtext", "mnli / squad2"])
    {'none': 'none', 'mnli > squad2': 'mnli_squad2', 'mnli+0.5xtext': 'mnli+0.5xtext', 'mnli / squad2': 'mnli_squad2-2'}
    """
    names: dict[str, str] = {}
    for branch in branches:
        safe = re.sub(r"[^a-z0-9.+-]+", "_", branch, flags=re.IGNORECASE)[:100]
        number = 1
        while (name := safe if number == 1 else f"{safe}-{number}") in names.values():
            number += 1
        names[branch] = name
    return names
