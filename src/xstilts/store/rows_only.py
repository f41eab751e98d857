"""Copies a study without its encoders, predictions and texts, so that its reports can be published."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from xstilts.errors import UserError
from xstilts.store.example_scores import EXAMPLES, example_scores
from xstilts.store.rows import LAYERS, LayerScore, Score, read_rows, write_rows
from xstilts.store.run_folder import MARK, VERSION, Store
from xstilts.store.step_record import DROPPED
from xstilts.study.index import Study
from xstilts.training.settings import LOG
from xstilts.utils.files import read_json, write_atomic
from xstilts.utils.os_errors import as_user_error

_MARKED = {"format": "xstilts run folder", "version": VERSION, "rows_only": True}


@dataclass(frozen=True)
class RowsOnly:
    """A run folder with the rows of a study; reports read it like any other."""

    folder: Path
    steps: int
    unfinished: int
    """Steps that are in the plan, but not in the copy."""
    bytes: int


def copy_rows(store: Store, study: Study, folder: Path) -> RowsOnly:
    """Copy the finished steps of a study: records, logs, scores and what each example adds to its task's main metric.

    Encoders count as removed, so a run may continue the copy. Paths of files are cut to their last parts. A copy that
    is there already is renewed; steps that have been undone since leave it.

    Raises:
        UserError: the folder is no such copy and not empty, or a file cannot be read or written.
    """
    with as_user_error(folder):
        _check_target(folder)
        write_atomic(folder / MARK, json.dumps(_MARKED) + "\n")
        copy = Store(folder)
        ids = dict.fromkeys([*study.steps, *(cell.step for cell in study.cells)])
        done = [id for id in ids if store.state(id).has_results]
        for id in ids:
            (copy.step(id) / "done.json").unlink(missing_ok=True)
        metric_of = {task.name: task.metric for task in study.tasks}
        for id in done:
            _copy_step(store, copy, id, metric_of)
        tasks = tuple(replace(task, train=None) for task in study.tasks)  # of use only beside predictions
        copy.save_study(
            replace(study, encoder=_portable(study.encoder), tasks=tasks, recipe_text="", recipe_command="")
        )
        size = sum(path.stat().st_size for id in done for path in copy.step(id).iterdir())
    return RowsOnly(folder, len(done), len(ids) - len(done), size)


def _check_target(folder: Path) -> None:
    try:
        ours = read_json(folder / MARK) == _MARKED
    except (OSError, ValueError):
        ours = False
    if folder.exists() and not ours and not (folder.is_dir() and not any(folder.iterdir())):
        hint = "give --to an empty folder, or one that this command has written"
        raise UserError("holds something else than a copy of rows", where=str(folder), hint=hint)


def _copy_step(store: Store, copy: Store, id: str, metric_of: Mapping[str, str]) -> None:
    """Copy one finished step; `done.json` is written last."""
    source, target = store.step(id), copy.step(id)
    for name in ("step.json", LOG, EXAMPLES):
        if (source / name).is_file():
            write_atomic(target / name, (source / name).read_bytes())
    if (source / "scores.jsonl").is_file():
        scores = read_rows(source / "scores.jsonl", Score)
        write_rows(target / "scores.jsonl", [replace(row, encoder=_portable(row.encoder)) for row in scores])
        if (source / LAYERS).is_file():
            by_layer = read_rows(source / LAYERS, LayerScore)
            write_rows(target / LAYERS, [replace(row, encoder=_portable(row.encoder)) for row in by_layer])
        if not (source / EXAMPLES).is_file():
            rows = example_scores(store.predictions(id), metric_of)
            compact = (json.dumps(vars(row), separators=(",", ":")) + "\n" for row in rows)  # half as large
            write_atomic(target / EXAMPLES, "".join(compact))
    else:
        write_atomic(target / DROPPED, "")
    facts = store.facts(id)
    facts.pop("features", None)
    facts["inputs"] = _portable_inputs(facts.get("inputs", {}))
    write_atomic(target / "done.json", json.dumps(facts, indent=1, ensure_ascii=False) + "\n")


def _portable(encoder: str) -> str:
    """An encoder's name without the machine's folders."""
    return Path(encoder).name if Path(encoder).is_absolute() else encoder


def _portable_inputs(inputs: Mapping[str, str]) -> dict[str, str]:
    """The sha256 of each input by the last two parts of its path; by more parts where these are not unique.

    >>> _portable_inputs({"/data/xnli/dev-en.tsv": "1f", "/data/pawsx/dev-en.tsv": "2e"})
    {'xnli/dev-en.tsv': '1f', 'pawsx/dev-en.tsv': '2e'}
    """
    paths = [Path(path).parts for path in inputs]
    for parts in range(2, max(map(len, paths), default=2) + 1):
        names = ["/".join(path[-parts:]) for path in paths]
        if len(set(names)) == len(names):
            return dict(zip(names, inputs.values(), strict=True))
    return dict(inputs)
