"""The numbers published in the paper and in XTREME's appendix, as data, to print beside ours.

The files lie in `published/`: a CSV file for each table, laid out as it is printed, and `index.json`, which describes
its rows and columns. A question answering cell holds F1/EM. A cell that is empty here is empty in print, or we could
not read it for certain (`PublishedTable.unread`). XTREME's Table 6 is turned: its columns are the languages.
`table` gives scores and correlations; `facts` gives the tables of counts, settings, languages and models.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple, TypeAlias

from xstilts.errors import UserError, nearest

AVERAGE = "average"
"""Used as a language or a task: the mean over them."""


@dataclass(frozen=True)
class Number:
    """One published number, in percent unless its metric says otherwise.

    In Tables 2 and 3 the rows of intermediate tasks are differences from the baseline's.

    `configuration` is a recipe's branch by what it was trained on: `none` for the baseline, a task of the catalogue, a
    task and the raw text (`mnli+masked-text`), a task with the language that it was translated into (`mnli-de`), all
    nine (`multi-task`); in XTREME's tables, and in the block `benchmark`, it may be a model instead. `task` and
    `language` are AVERAGE in means; `language` is `difference` for English less the average.
    """

    source: str
    table: str
    block: str
    configuration: str
    task: str
    language: str
    metric: str
    value: float


@dataclass(frozen=True)
class Target:
    """A target task: its name in the paper, the metrics of its cell, its group on the leaderboard."""

    label: str
    metrics: tuple[str, ...]
    group: str
    first_piece: str = ""
    """Of a tag task: at which piece a word has its tag (`formats/tag.py`)."""


Row: TypeAlias = tuple[str, str]
"""A block of a table, and the configuration."""


@dataclass(frozen=True)
class PublishedTable:
    """A published table: its columns, which are languages or tasks, and its rows in the order of print.

    `task` is the task of all columns if they are languages; empty if columns or rows are tasks.
    """

    source: str
    name: str
    title: str
    split: str
    task: str
    unread: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    numbers: tuple[Number, ...]
    cells: Mapping[tuple[str, str, str], tuple[float, ...]]
    """By block, configuration, column: no number, one, or F1 and EM."""
    language_counts: Mapping[str, int]
    """How many languages of a task the head of the table prints; empty where it prints none."""


class Conflict(NamedTuple):
    """Two published numbers that contradict each other; both stay as printed.

    `printed` is the number in this cell; `other` follows from the numbers that `against` names. In a table of facts
    `configuration` is the row and `metric` the column.
    """

    source: str
    table: str
    block: str
    configuration: str
    task: str
    metric: str
    printed: float
    other: float
    against: str


def table(name: str, source: str = "paper") -> PublishedTable:
    """A published table by its name, such as `table6`.

    Raises:
        UserError: the package does not have its numbers.
    """
    _require_table("tables", name, source)
    return _read_table(source, name)


def tables(source: str) -> list[PublishedTable]:
    """All tables of numbers of a source."""
    return [_read_table(source, name) for name in _index()["tables"][source]]


def facts(name: str, source: str = "paper") -> tuple[Mapping[str, str], ...]:
    """The rows of a table of facts by its name, such as `table4`: each a text by the name of its column.

    `task` is the catalogue's name (two for SQuAD, with a space between); `-` and `Mixed` in print are empty here.

    Raises:
        UserError: it is not among these.
    """
    _require_table("facts", name, source)
    return _read_facts(source, name)


@cache
def targets() -> dict[str, Target]:
    """The nine target tasks by their names in the catalogue, in the paper's order."""
    return {name: Target(**x | {"metrics": tuple(x["metrics"])}) for name, x in _index()["targets"].items()}


def label(configuration: str) -> str:
    """The paper's name of a configuration, or else its own."""
    return str(_index()["configurations"].get(configuration, configuration))


def languages(task: str, split: str) -> set[str]:
    """The languages in the paper's mean of a target: those of its own table, or on test all of them."""
    own = next(x for name in _index()["tables"]["paper"] if (x := table(name)).task == task)
    wanted = [x for x in own.columns if x != AVERAGE]
    return {x for x in wanted if split == "test" or own.cells[*own.rows[0], x]}


@cache
def conflicts() -> tuple[Conflict, ...]:
    """The contradictions among the published numbers."""
    return tuple(
        Conflict(source, table, block, name, task, metric, float(printed), float(other), against)
        for source, table, block, name, task, metric, printed, other, against in _read("conflicts.csv")[1:]
    )


@cache
def disputed(source: str, name: str) -> frozenset[tuple[str, str, str]]:
    """The cells of a table, by block, configuration, column, on either side of a conflict."""
    own, found = table(name, source), set()
    for x in conflicts():
        column = x.task.removeprefix(own.task).strip() if own.task else x.task
        if (x.source, x.table) == (source, name):
            found.add((x.block, x.configuration, column or AVERAGE))
        elif (x.source, x.against) == (source, name) and x.table == "table2":
            found.add((x.block, x.configuration, AVERAGE))
    return frozenset(found)


def _require_table(kind: str, name: str, source: str) -> None:
    """Refuse a table that is not here."""
    known = _index()[kind].get(source, {})
    if name not in known:
        raise UserError(f"the numbers of '{name}' are not here", where=source, hint=nearest(name, known))


@cache
def _index() -> dict[str, Any]:
    index: dict[str, Any] = json.loads((files("xstilts") / "published" / "index.json").read_text(encoding="utf-8"))
    return index


def _read(name: str) -> list[list[str]]:
    text = (files("xstilts") / "published" / name).read_text(encoding="utf-8")
    return list(csv.reader(text.splitlines()))


@cache
def _read_facts(source: str, name: str) -> tuple[Mapping[str, str], ...]:
    head, *body = _read(f"{source}-{name}.csv")
    return tuple(dict(zip(head, line, strict=True)) for line in body)


@cache
def _read_table(source: str, name: str) -> PublishedTable:
    entry = _index()["tables"][source][name]
    head, *body = _read(f"{source}-{name}.csv")
    at = head.index("configuration") + 1
    columns, own = head[at:], entry.get("task", "")
    rows, found, cells = [], [], {}
    for line in body:
        block, configuration = ["", *line[:at]][-2:]
        rows.append((block, configuration))
        for column, cell in zip(columns, line[at:], strict=True):
            if column in targets() or not (own or {*columns} - {*targets(), AVERAGE}):
                task, language = column, block if entry.get("blocks") == "languages" else AVERAGE
            else:
                task, language = own or configuration, column
            known = targets()[task].metrics if task in targets() else (AVERAGE,)
            metrics = [block] if entry.get("blocks") == "metrics" else entry.get("metrics", known)
            values = [(metric, float(value)) for metric, value in zip(metrics, cell.split("/"), strict=False) if value]
            found += [Number(source, name, block, configuration, task, language, *value) for value in values]
            cells[block, configuration, column] = tuple(value for _, value in values)
    words = (entry["title"], entry["split"], own, entry.get("unread", ""))
    counts = entry.get("language_counts", {})
    return PublishedTable(source, name, *words, tuple(columns), tuple(rows), tuple(found), cells, counts)
