"""The analyses of XTREME's appendix: each with an example computed by hand, and with the published numbers."""

import json
from collections.abc import Iterator, Mapping, Sequence
from xml.etree import ElementTree

import pytest

from xstilts.errors import UserError
from xstilts.render.table import Document
from xstilts.report import StudyResults, layouts, render
from xstilts.report.wikipedia_size import AGREES, published_correlations
from xstilts.store.rows import Score
from xstilts.study.index import Cell, Study, StudyTask

SVG = "{http://www.w3.org/2000/svg}"


def task(name: str, languages: Sequence[str], **more) -> StudyTask:
    return StudyTask(name, "classify", "accuracy", ("accuracy",), tuple(languages), "en", **more)


def study(tasks: Sequence[StudyTask], branches=("none",), seeds=(1,), **more) -> Study:
    cells = [Cell(b, s, t.name, f"{t.name} {b} {s}") for b in branches for s in seeds for t in tasks]
    return Study("mine", "some/encoder", tuple(seeds), tuple(branches), branches[0], tuple(tasks), tuple(cells), **more)


def rows(name: str, values: Mapping[str, float], branch="none", seed=1, split="test") -> Iterator[Score]:
    for language, value in values.items():
        yield Score(name, language, split, "accuracy", value, 100, f"{name} {branch} {seed}", "some/encoder", seed)


def show(made: Study, scores: Sequence[Score], layout: str, **more) -> Document:
    return layouts.show(StudyResults(made, scores, **more), layout)


def table(text: str) -> dict[str, list[str]]:
    """The cells of a Markdown table by the first cell of each row."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return {label: cells for label, *cells in lines}


def drawn(document: Document) -> ElementTree.Element:
    return ElementTree.fromstring(render(document, "svg"))


# Articles in millions: ar 1.02, pt 1.02, th 0.13, hi 0.13. From their means, 0.445 and 60, the products add up to
# 0.445 * (10 + 0 - 0 + 10) = 8.9, the squares to 0.792 and 200: 8.9 / sqrt(0.792 * 200) = 1 / sqrt(2).
SPREAD = {"ar": 70.0, "pt": 60.0, "th": 60.0, "hi": 50.0}


def test_wikipedia_is_pearson_s_correlation_with_the_number_of_articles():
    tasks = [task("news", [*SPREAD, "qaa"]), task("web", SPREAD)]
    made = study(tasks, ["none", "mnli"])
    scores = [*rows("news", {**SPREAD, "qaa": 1.0}), *rows("news", {**dict.fromkeys(SPREAD, 5.0), "qaa": 1.0}, "mnli")]
    scores += [*rows("web", {x: 100 - y for x, y in SPREAD.items()}), *rows("web", SPREAD, "mnli")]
    document = show(made, scores, "wikipedia")
    shown = table(render(document, "markdown"))
    assert shown["news accuracy"] == ["0.71", "-", "4"]
    assert shown["web accuracy"] == ["-0.71", "0.71", "4"]
    assert document.rows[0].pearson == pytest.approx(0.5**0.5) and document.rows[0].p == pytest.approx(1 - 0.5**0.5)
    assert "size unknown, left out: news (qaa)" in document.legend
    assert json.loads(render(document, "json"))["lines"][0]["languages"] == 4
    assert render(document, "csv").startswith(
        "task,branch,metric,splits,languages,pearson,p\nnews,none,accuracy,test,4,"
    )
    with pytest.raises(UserError, match="no task has scores in 3 languages whose Wikipedia's size is known"):
        show(
            study([task("play", ["qaa", "qab", "en", "sw"])]),
            [*rows("play", {"qaa": 1, "en": 2, "sw": 3})],
            "wikipedia",
        )


def test_wikipedia_takes_medians_over_seeds_and_only_languages_of_every_run():
    made = study([task("news", [*SPREAD, "de"])], seeds=(1, 2, 3))
    scores = [*rows("news", {**SPREAD, "de": 1.0}), *rows("news", SPREAD, seed=2)]
    scores += rows("news", dict.fromkeys(SPREAD, 0.0), seed=3)
    document = show(made, scores, "wikipedia")
    assert document.rows[0].languages == 4 and document.rows[0].pearson == pytest.approx(0.5**0.5)
    assert "left out, because some branch or seed lacks them: news (de)" in document.legend


def test_xtreme_s_scores_give_13_of_the_27_correlations_of_its_table_5():
    found = published_correlations()
    agree = {(model, name) for (model, name), (printed, ours, _) in found.items() if abs(printed - ours) <= AGREES}
    models = ("mBERT", "XLM", "XLM-R")
    whole = {(model, name) for model in models for name in ("xnli", "pawsx", "panx")}
    assert len(found) == 27
    assert agree == whole | {
        ("XLM-R", "udpos"), ("XLM-R", "mlqa"), ("mBERT", "tydiqa"), ("mBERT", "bucc2018"),
    }  # fmt: skip
    document = show(study([task("news", SPREAD)]), [*rows("news", SPREAD)], "wikipedia", beside=True)
    text = render(document, "markdown")
    assert table(text)["Tatoeba"] == ["0.68", "0.84*", "0.68", "0.82*", "0.49", "0.63*", "36"]
    assert table(text)["XNLI"] == ["0.79", "0.79", "0.80", "0.80", "0.75", "0.75", "15"]


def test_a_figure_says_all_its_numbers_and_needs_no_colour():
    branches = [f"b{i}" for i in range(9)]
    scores = [row for branch in branches for row in rows("a<b", SPREAD, branch)]
    figure = drawn(show(study([task("a<b", SPREAD)], branches), scores, "wikipedia"))
    assert figure.get("role") == "img" and figure.get("aria-labelledby") == "title description"
    described = next(figure.iter(f"{SVG}desc")).text
    assert "b0 (r = 0.71): ar Arabic 70.0, pt Portuguese 60.0, th Thai 60.0, hi Hindi 50.0" in described
    points = [x for x in figure.iter(f"{SVG}path") if x.find(f"{SVG}title") is not None]
    assert len(points) == 36 and points[0].find(f"{SVG}title").text == "b0 (r = 0.71), ar Arabic: 70.0"
    looks = {(x.get("d"), x.get("fill")) for x in points}
    assert len(looks) == 9  # a marker for each branch
    colours = {x.get(key) for x in figure.iter() for key in ("fill", "stroke")} - {None, "none"}
    assert colours == {"#000", "#fff", "#ccc"}
    with pytest.raises(UserError, match="this report has no figure"):
        render(show(study([task("news", SPREAD)]), [*rows("news", SPREAD)], "overview"), "svg")
