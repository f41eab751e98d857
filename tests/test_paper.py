"""The published numbers: every table against its own means, Table 2 against the others, and the list of conflicts."""

from functools import cache
from statistics import fmean

import pytest

from xstilts.errors import UserError
from xstilts.report import published
from xstilts.report.published import AVERAGE, Conflict, PublishedTable, Row
from xstilts.tasks import GROUPS, TASKS

ROUNDED = 0.05
"""What a number with one digit behind the point can be off."""
BY_TASK = {page.task: page for page in (published.table(f"table{i}") for i in range(6, 15))}


@cache
def numbers() -> tuple[published.Number, ...]:
    """Every published number of both sources."""
    names = [("paper", f"table{i}") for i in (2, 3, *range(6, 16))]
    names += [("xtreme", f"table{i}") for i in (3, 4, *range(8, 18))]
    return tuple(number for source, name in names for number in published.table(name, source).numbers)


def near(one: float, other: float, numbers: int) -> bool:
    """Whether they can be the same but for the rounding of so many numbers."""
    return abs(one - other) <= numbers * ROUNDED + 1e-9


def conflict(
    page: PublishedTable, row: Row, task: str, metric: str, printed: float, other: float, against: str
) -> Conflict:
    return Conflict(page.source, page.name, *row, task, metric, printed, round(other, 1), against)


def against_means():
    """Averages by language against the means of their rows; rows that have gaps are passed over."""
    for page in {(x.source, x.table): published.table(x.table, x.source) for x in numbers()}.values():
        if not page.task or AVERAGE not in page.columns:
            continue
        languages = [x for x in page.columns if any(page.cells[*row, x] for row in page.rows) and x != AVERAGE]
        for row in page.rows:
            cells = [page.cells[*row, language] for language in languages]
            for k, printed in enumerate(page.cells[*row, AVERAGE]):
                if all(len(cell) > k for cell in cells) and not near(mean := fmean(x[k] for x in cells), printed, 2):
                    metric = published.targets()[page.task].metrics[k]
                    yield conflict(page, row, page.task, metric, printed, mean, "mean of its row")


def against_own_row():
    """Table 2's averages: over nine tasks, of question answering the mean of F1 and EM."""
    table = published.table("table2")
    for row in table.rows:
        cells = [table.cells[*row, task] for task in published.targets()]
        for printed in table.cells[*row, AVERAGE]:
            mean = round(fmean(map(fmean, cells)), 6)  # 3.25 is 3.25
            if round(mean, 1) != printed:
                yield conflict(table, row, AVERAGE, AVERAGE, printed, mean, "mean of its row")


def against_languages():
    """Tables 2 and 3, which show differences from the baseline, against the tables of each language."""
    for table in (published.table("table2"), published.table("table3")):
        for block, name in table.rows:
            for task in published.targets():
                full = BY_TASK[task]
                column = block if block in TASKS[task].languages else AVERAGE
                mine = full.cells.get(("without MLM" if block in ("en", "de", "ru", "sw") else block, name, column), ())
                base = full.cells.get(("", "none", column), ())
                if name == "none":
                    mine, base = base, (0.0, 0.0)
                if block == "benchmark" or (table.name == "table3" and column == AVERAGE):
                    continue
                metrics = published.targets()[task].metrics
                for printed, a, b, metric in zip(table.cells[block, name, task], mine, base, metrics, strict=False):
                    if not near(a - b, printed, 1 if name == "none" else 3):
                        yield conflict(table, (block, name), task, metric, printed, a - b, full.name)


def against_xtreme():
    """The row that Table 2 takes from XTREME; and where XTREME's appendix prints the same test set twice."""
    table, row = published.table("table2"), ("benchmark", "published")
    for number in (8, 9, 11, 12, 13, 14, 15, 16, 17):
        page = published.table(f"table{number}", "xtreme")
        cells = [page.cells["", "XLM-R", language] for language in page.columns if language != AVERAGE]
        whole = page.cells.get(("", "XLM-R", AVERAGE)) or tuple(map(fmean, zip(*cells, strict=True)))
        metrics = published.targets()[page.task].metrics
        for printed, other, metric in zip(table.cells[*row, page.task], whole, metrics, strict=True):
            if not near(printed, other, 1):
                yield conflict(table, row, page.task, metric, printed, other, f"xtreme {page.name}")
    for few, many, rows in (
        ("table3", "table13", {("gold", name): ("", name) for name in ("mBERT", "translate-train")}),
        ("table4", "table8", {("accuracy", "gold"): ("", "mBERT")}),
    ):
        page, other = published.table(few, "xtreme"), published.table(many, "xtreme")
        for row, same in rows.items():
            for language in page.columns[:-1]:  # the averages are over other languages
                pairs = zip(page.cells[*row, language], other.cells[*same, language], strict=False)
                for metric, (a, b) in zip(published.targets()[page.task].metrics, pairs, strict=False):
                    if a != b:
                        yield conflict(page, row, f"{page.task} {language}", metric, a, b, many)


def test_the_conflicts_between_published_tables_are_those_listed():
    found = [*against_own_row(), *against_means(), *against_languages(), *against_xtreme()]
    assert set(found) == set(published.conflicts()) and len(found) == len(published.conflicts())


def test_most_of_table_2_is_below_the_tables_by_language():
    apart = [x for x in published.conflicts() if x.table == "table2" and x.against.startswith("table")]
    assert (len(apart), sum(x.other > x.printed for x in apart)) == (187, 180)


def test_published_numbers_are_in_the_printed_cells():
    table = published.table("table2")
    assert table.cells["without MLM", "hellaswag", "xnli"] == (-7.1,)
    assert table.cells["benchmark", "human", "tydiqa"] == (90.1,) and not table.cells["benchmark", "human", "panx"]
    assert published.table("table6").cells["without MLM", "hellaswag", AVERAGE] == (79.8,)
    assert published.table("table12").cells["with MLM", "squad2+masked-text", "sw"] == (74.0, 61.5)
    assert published.table("table3").cells["sw", "mnli-sw", "tydiqa"] == (13.8, 23.4)
    assert published.table("table17", "xtreme").cells["", "MMTE", "zh"] == (28.9,)
    [number] = [x for x in numbers() if (x.table, x.configuration, x.language) == ("table15", "qqp", "de")]
    assert (number.task, number.metric, number.value) == ("qqp", "accuracy", 84.6)
    assert len(numbers()) == 5250


def test_rows_are_the_branches_of_the_paper_and_columns_its_languages():
    nine = GROUPS["intermediate"]
    rows = ["none", *nine, "multi-task", *(f"{name}+masked-text" for name in nine)]
    assert {name for block, name in published.table("table2").rows if block != "benchmark"} == {*rows}
    for task, page in BY_TASK.items():
        assert [name for _, name in page.rows] == [name for _, name in published.table("table6").rows]
        assert {*page.columns} == {*TASKS[task].languages, AVERAGE}


def test_only_cells_marked_unreadable_are_empty():
    for page in BY_TASK.values():
        empty = [key for key, cell in page.cells.items() if not cell and key[2] not in ("kk", "th", "tl", "yo")]
        assert bool(empty) == bool(page.unread), (page.name, empty)
    assert {key[2] for key, cell in BY_TASK["udpos"].cells.items() if key[1] == "none" and not cell} == {
        *("kk", "th", "tl", "yo")
    }


def test_an_unknown_published_table_is_refused():
    with pytest.raises(UserError, match=r"the numbers of 'table66' are not here.*did you mean 'table6'"):
        published.table("table66")
