"""The published numbers: every table against its own means, Table 2 against the others, and the list of conflicts."""

from functools import cache
from statistics import correlation, fmean

import pytest

from xstilts import languages
from xstilts.errors import UserError
from xstilts.reports import published
from xstilts.reports.published import AVERAGE, Conflict, PublishedTable, Row
from xstilts.study.defaults import MULTI_TASK_EPOCHS
from xstilts.tasks import GROUPS, TASKS
from xstilts.tasks.counts import COUNTS, official_count

ROUNDED = 0.05
"""What a number with one digit behind the point can be off."""
BY_TASK = {page.task: page for page in (published.table(f"table{i}") for i in range(6, 15))}


@cache
def numbers() -> tuple[published.Number, ...]:
    """Every published number of both sources."""
    names = [("paper", f"table{i}") for i in (2, 3, *range(6, 16))]
    names += [("xtreme", f"table{i}") for i in range(3, 18)]
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
        if not page.task or AVERAGE not in page.columns or "difference" in page.columns:
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


def against_counts():
    """Table 1's sizes against those of the files; a range has its least and most."""
    for row in published.facts("table1"):
        name = row["task"]
        ours = {"train": official_count(name, "train", "en"), "dev": official_count(name, "dev", "en")}
        if name in ("xquad", "mlqa"):
            ours["dev"] = official_count("squad1", "dev", "en")
        if name == "tydiqa":
            ours["dev"] = official_count(name, "test", "en")
        sizes = {column: int(row[column]) for column in ("train", "dev") if row[column]}
        if row["test"] and "test" in COUNTS[name]:
            least, _, most = row["test"].partition("-")
            sizes |= {"test least": int(least), "test most": int(most or least)}
            counts = [count for x in TASKS[name].languages if (count := official_count(name, "test", x)) is not None]
            assert len(counts) == len(TASKS[name].languages)
            ours |= {"test least": min(counts), "test most": max(counts)}
        for column, printed in sizes.items():
            if printed != ours[column]:
                yield Conflict("paper", "table1", "", name, name, column, printed, ours[column] or 0, "the files")


def against_catalogue():
    """The number of languages in Table 2's head against the other tables, of data sets in XTREME's Table 1."""
    for task, printed in published.table("table2").language_counts.items():
        page = BY_TASK[task]
        if printed != (other := len([x for x in page.columns if x != AVERAGE])):
            yield Conflict("paper", "table2", "", "", task, "languages", printed, other, f"columns of {page.name}")
    for row in published.facts("table1", "xtreme"):
        code, printed = row["code"], int(row["datasets"])
        if printed != (other := sum(code in TASKS[name].languages for name in GROUPS["xtreme"])):
            yield Conflict("xtreme", "table1", "", code, "", "datasets", printed, other, "the catalogue")


def weights(vocabulary: int, width: int, layers: int, positions: int, kinds: int, *, tied: bool, pooler: bool) -> int:
    """Parameters of an encoder with its vocabulary head; with a pooler also BERT's head for the next sentence."""
    layer = 4 * (width * width + width) + 2 * 4 * width * width + 5 * width + 4 * width
    total = (vocabulary + positions + kinds) * width + 2 * width + layers * layer + vocabulary
    total += 0 if tied else vocabulary * width
    return total + (width * width + width + 2 * width + 2 if pooler else 0)


def head_transform(width: int) -> int:
    """Parameters of the dense layer with its norm between encoder and vocabulary, which XLM has not."""
    return width * width + 3 * width


SHAPES = {
    "BERT-large": lambda v, n: weights(v, 1024, n, 512, 2, tied=False, pooler=True) + head_transform(1024),
    "mBERT": lambda v, n: weights(v, 768, n, 512, 2, tied=True, pooler=True) + head_transform(768),
    "XLM-15": lambda v, n: weights(v, 1024, n, 512, 15, tied=False, pooler=False),
    "XLM-100": lambda v, n: weights(v, 1280, n, 512, 0, tied=False, pooler=False),
    "XLM-R-Base": lambda v, n: weights(v, 768, n, 514, 0, tied=False, pooler=False) + head_transform(768),
    "XLM-R-Large": lambda v, n: weights(v, 1024, n, 514, 0, tied=False, pooler=False) + head_transform(1024),
}
"""The known architectures, by size of the vocabulary and number of layers."""


def against_parameters():
    """The layers of XTREME's Table 2 against its parameters, where the rest of the architecture is known."""
    for row in published.facts("table2", "xtreme"):
        if (shape := SHAPES.get(row["name"])) is not None:
            layers, vocabulary = int(row["layers"]), int(row["vocabulary"])
            [fitting] = [n for n in range(1, 49) if shape(vocabulary, n) == int(row["parameters"])]
            if fitting != layers:
                yield Conflict("xtreme", "table2", "", row["name"], "", "layers", layers, fitting, "its parameters")


def against_text():
    """Section 3.3 says that the multi-task model is 0.3 better than MNLI's on average."""
    cells = published.table("table2").cells
    [multi_task] = cells["without MLM", "multi-task", AVERAGE]
    [mnli] = cells["without MLM", "mnli", AVERAGE]
    yield Conflict(
        "paper", "section3.3", "", "multi-task", AVERAGE, AVERAGE, 0.3, round(multi_task - mnli, 1), "table2"
    )


def test_the_conflicts_between_published_data_are_those_listed():
    found = [*against_own_row(), *against_means(), *against_languages(), *against_xtreme(), *against_counts()]
    found += [*against_catalogue(), *against_parameters(), *against_text()]
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
    assert published.table("table6", "xtreme").cells["", "4-grams unseen", "he"] == (27.4,)
    assert published.table("table7", "xtreme").cells["", "Latin", "ka"] == (89.6,)
    assert len(numbers()) == 5532


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


def test_the_defaults_are_those_of_tables_4_and_5():
    for number in (4, 5):
        for row in published.facts(f"table{number}"):
            for name in row["task"].split():
                if name == "multi-task":
                    assert int(row["epochs"]) == MULTI_TASK_EPOCHS
                    continue
                task = TASKS[name]
                printed = tuple(int(row[column]) if row[column] else None for column in ("batch", "epochs"))
                if not any(printed):
                    assert not task.trainable, name
                else:
                    assert (task.batch, task.epochs if row["epochs"] else None) == printed, name
    named = [name for number in (4, 5) for row in published.facts(f"table{number}") for name in row["task"].split()]
    assert sorted(named) == sorted([*GROUPS["intermediate"], *GROUPS["xtreme"], "masked-text", "multi-task"])


def test_table_1_has_every_task_of_the_paper():
    rows = published.facts("table1")
    assert [row["task"] for row in rows if row["block"] == "intermediate"] == [*GROUPS["intermediate"]]
    assert [row["task"] for row in rows if row["block"] == "target"] == [*GROUPS["xtreme"]]


def test_the_languages_are_those_of_xtremes_table_1():
    marks = ("diacritics", "compounding", "bound_words", "inflection", "derivation")
    rows = published.facts("table1", "xtreme")
    assert sorted(row["code"] for row in rows) == [*languages.XTREME]
    for row in rows:
        known = languages.get(row["code"])
        assert (known.name, known.script, known.family) == (row["name"], row["script"], row["family"])
        assert (known.articles, known.tasks) == (float(row["articles"]), int(row["datasets"]))
        assert [getattr(known, mark) for mark in marks] == [row[mark] == "x" for mark in marks]
    families = {row["family"].partition(":")[0] for row in rows}
    assert len(families - {"Basque", "Koreanic"}) == 12  # as the caption says, with two isolates


@pytest.mark.parametrize(("task", "number"), [("xnli", 8), ("pawsx", 11), ("panx", 17)])
def test_xtremes_correlations_follow_from_its_scores_and_sizes_of_wikipedia(task, number):
    printed, page = published.table("table5", "xtreme"), published.table(f"table{number}", "xtreme")
    articles = {row["code"]: float(row["articles"]) for row in published.facts("table1", "xtreme")}
    codes = [x for x in page.columns if x != AVERAGE]
    for model in ("mBERT", "XLM", "XLM-R"):
        scores = [page.cells["", model, code][0] for code in codes]
        [rho] = printed.cells["", model, task]
        assert abs(correlation(scores, [articles[code] for code in codes]) - rho) < 0.006


def test_xtremes_table_6_has_its_own_means_and_differences():
    page = published.table("table6", "xtreme")
    others = [x for x in page.columns if x not in ("en", AVERAGE, "difference")]
    assert {*others, "en"} < {*TASKS["udpos"].languages} and len(others) == 24
    for row in page.rows:
        english, average, difference = (page.cells[*row, x][0] for x in ("en", AVERAGE, "difference"))
        assert near(fmean(page.cells[*row, x][0] for x in others), average, 2)
        assert near(english - average, difference, 3)


def test_xtremes_table_7_has_its_own_differences():
    page = published.table("table7", "xtreme")
    assert {*page.columns} < {*TASKS["panx"].languages}
    for code in page.columns:
        of = {name: page.cells["", name, code][0] for _, name in page.rows}
        assert near(of["seen"] - of["not seen"], of["seen - not seen"], 3)
        nearest = min(abs(of["seen"] - of[name]) for name in ("short", "Latin", "frequent"))
        assert near(nearest, of["seen - nearest"], 3)


def test_an_unknown_table_of_facts_is_refused():
    with pytest.raises(UserError, match=r"the numbers of 'table3' are not here"):
        published.facts("table3")
    with pytest.raises(UserError, match=r"the numbers of 'table1' are not here"):
        published.table("table1")
