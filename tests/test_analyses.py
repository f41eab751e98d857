"""The analyses of XTREME's appendix: each with an example computed by hand, and with the published numbers."""

import json
from collections.abc import Iterator, Mapping, Sequence
from xml.etree import ElementTree

import pytest

from conftest import markdown_rows
from xstilts.errors import UserError
from xstilts.languages import XTREME
from xstilts.render.figure import Matrix
from xstilts.render.svg import draw_figures
from xstilts.render.table import Document
from xstilts.reports import StudyResults, layouts, render
from xstilts.reports.wikipedia_size import AGREES, published_correlations
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


def markers(figure: ElementTree.Element) -> list[ElementTree.Element]:
    """The points of a figure."""
    return [x for x in figure.iter(f"{SVG}path") if x.get("transform") and x.find(f"{SVG}title") is not None]


def look(marker: ElementTree.Element) -> tuple[str | None, str | None]:
    return marker.get("d"), marker.get("fill")


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
    shown = markdown_rows(render(document, "markdown"))
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


def test_wikipedia_names_languages_of_unknown_size_before_the_first_branch_is_done():
    made = study([task("news", [*SPREAD, "qaa"])], ["none", "mnli"])
    document = show(made, [*rows("news", {**SPREAD, "qaa": 1.0}, "mnli")], "wikipedia")
    assert "size unknown, left out: news (qaa)" in document.legend


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
    assert markdown_rows(text)["Tatoeba"] == ["0.68", "0.84*", "0.68", "0.82*", "0.49", "0.63*", "36"]
    assert markdown_rows(text)["XNLI"] == ["0.79", "0.79", "0.80", "0.80", "0.75", "0.75", "15"]


def test_a_figure_says_all_its_numbers_and_each_of_20_branches_looks_different():
    branches = [f"b{i}" for i in range(20)]
    scores = [row for branch in branches for row in rows("a<b", SPREAD, branch)]
    figure = drawn(show(study([task("a<b", SPREAD)], branches), scores, "wikipedia"))
    assert figure.get("role") == "img" and figure.get("aria-labelledby") == "title description"
    described = next(figure.iter(f"{SVG}desc")).text
    assert "b0 (r = 0.71): ar Arabic 70.0 at 1.02, pt Portuguese 60.0 at 1.02, th Thai 60.0 at 0.13" in described
    points = markers(figure)
    assert len(points) == 80 and points[0].find(f"{SVG}title").text == "b0 (r = 0.71), ar Arabic: 70.0"
    assert len({look(x) for x in points}) == 20
    assert len({x.get("d") for x in points[: 4 * 8]}) == 8  # the first eight differ without colour
    assert {"ar pt", "hi th"} <= {x.text for x in figure.iter(f"{SVG}text")}  # names above their numbers of articles
    with pytest.raises(UserError, match="this report has no figure"):
        render(show(study([task("news", SPREAD)]), [*rows("news", SPREAD)], "overview"), "svg")


# From few to many articles: Niger-Congo (sw 0.05), Kartvelian (ka 0.13), Turkic (tr 0.34, kk 0.23: 0.285),
# Slavic (bg 0.26, ru 1.58: 0.92), Germanic (de 2.37, en 5.98: 4.175).
FAMILIES = ["Niger-Congo (1)", "Kartvelian (1)", "Turkic (2)", "IE: Slavic (2)", "IE: Germanic (2)"]


def test_families_go_from_few_to_many_articles_with_cubic_fits_of_the_extremes():
    news = {"en": 12.0, "de": 8.0, "bg": 10.0, "tr": 15.0, "kk": 25.0, "ka": 10.0, "sw": 10.0, "qaa": 90.0}
    web = {"en": 40.0, "ru": 50.0, "sw": 30.0}
    scores = [*rows("news", news), *rows("web", web)]
    document = show(study([task("news", news), task("web", web)]), scores, "families")
    shown = markdown_rows(render(document, "markdown"))
    # The minima are 10, 10, 20, 10, 10. Their fourth difference is 10 - 40 + 120 - 40 + 10 = 60, and a cubic through
    # five points misses them by 60/70 of 1, -4, 6, -4, 1: at the third it is 20 - 6 * 60/70 = 14.9.
    # The maxima are 30, 10, 20, 50, 40: 30 - 40 + 120 - 200 + 40 = -50, so at the third 20 + 6 * 50/70 = 24.3.
    assert shown["Niger-Congo (1)"] == ["0.05", "10.0", "30.0", "10.0", "30.0", "9.1", "30.7"]
    assert shown["Turkic (2)"] == ["0.29", "20.0", "-", "20.0", "20.0", "14.9", "24.3"]
    assert shown["IE: Slavic (2)"] == ["0.92", "10.0", "50.0", "10.0", "50.0", "13.4", "47.1"]
    assert shown["IE: Germanic (2)"][1:] == ["10.0", "40.0", "10.0", "40.0", "9.1", "40.7"]
    assert [name for name in shown if name in FAMILIES] == FAMILIES
    assert "family unknown, left out: qaa" in document.legend
    assert [x.score for x in document.rows if x.task == "maximum over tasks"] == [30, 10, 20, 50, 40]
    lines = [x for x in drawn(document).iter(f"{SVG}path") if x.get("stroke-dasharray") is not None]
    assert len({x.get("stroke-dasharray") for x in lines}) == 2
    assert lines[0].get("d").count("L") == 40  # a curve: ten parts between two of the five groups
    described = next(drawn(document).iter(f"{SVG}desc")).text
    assert "cubic fit of the minimum: Niger-Congo (1) 9.1, Kartvelian (1) 13.4, Turkic (2) 14.9" in described


def test_a_family_s_gain_is_the_mean_of_its_languages_gains():
    """Turkish gains 2 and 4 at the two seeds, so 3; Kazakh 1 and 9, so 5: the family gains 4."""
    made = study([task("news", ["en", "tr", "kk"])], branches=("none", "nli"), seeds=(1, 2))
    scores = [*rows("news", {"en": 80, "tr": 50, "kk": 40}), *rows("news", {"en": 81, "tr": 60, "kk": 45}, seed=2),
              *rows("news", {"en": 80, "tr": 52, "kk": 41}, "nli"),
              *rows("news", {"en": 80, "tr": 64, "kk": 54}, "nli", seed=2)]  # fmt: skip
    document = show(made, scores, "families")
    assert [x.gain for x in document.rows if x.group == "Turkic" and x.task == "news"] == [None, 4]
    assert markdown_rows(render(document, "markdown"))["Turkic (2)"][1] == "52.8 (+4.0)"
    assert any(
        line.startswith("signed numbers: the mean of the languages' gains over 'none'") for line in document.legend
    )


def test_scripts_group_languages_of_one_script_and_say_when_there_is_no_fit():
    values = {"en": 80.0, "sw": 60.0, "bg": 50.0, "el": 40.0, "uk": 30.0, "pa": 20.0}
    document = show(study([task("news", values)]), [*rows("news", values)], "scripts")
    shown = markdown_rows(render(document, "markdown"))
    # Brahmic has no known size; Greek 0.17; Cyrillic 0.26, of Bulgarian alone; Latin (0.05 + 5.98) / 2
    assert [*shown][2:] == ["Brahmic (1)‡", "Greek (1)", "Cyrillic (2)", "Latin (2)"]
    assert shown["Latin (2)"] == ["3.02", "70.0", "70.0", "70.0", "-", "-"]
    assert shown["Cyrillic (2)"][:2] == ["0.26", "40.0"]
    on_dev = render(show(study([task("news", values)]), [*rows("news", values, split="dev")], "scripts"), "markdown")
    assert "| news† (accuracy) |" in on_dev and "- † dev, because not every language has test scores: news" in on_dev
    assert "no fit: it needs 5 groups" in document.legend and "‡ size unknown, shown first" in document.legend
    with pytest.raises(UserError, match="no language with a score has a known script"):
        show(study([task("play", ["qaa"])]), [*rows("play", {"qaa": 1.0})], "scripts")


def test_transfer_has_gains_of_sources_on_targets_and_ranks_gaps():
    tasks = [
        task("news", ["en", "de", "sw"]),
        StudyTask("pairs", "retrieve", "accuracy", ("accuracy",), ("de", "sw"), ""),
    ]
    made = study(tasks, ["none", "mnli", "qqp"], seeds=(1, 2, 3))
    scores: list[Score] = []
    for seed, shift in ((1, 0), (2, 3), (3, -9)):
        scores += rows("news", {"en": 90.0 + shift, "de": 80.0 + shift, "sw": 60.0 + shift}, "none", seed, "dev")
        scores += rows("news", {"en": 91.0, "de": 87.0, "sw": 79.0}, "mnli", seed, "dev")
        scores += rows("news", {"en": 90.0, "de": 70.0, "sw": 50.0}, "qqp", seed, "dev")
        for branch, value in (("none", 20.0), ("mnli", 60.0)):
            scores += rows("pairs", {"de": value, "sw": value - 10}, branch, seed)
    document = show(made, scores, "transfer")
    gains, ranked = render(document, "markdown").split("\n**")[:2]
    # mnli's zero-shot mean is 83 at each seed; the baseline's 70, 73, 61: gains 13, 10, 22, whose median is 13
    assert markdown_rows(gains)["mnli"] == ["+13.0", "+40.0"] and markdown_rows(gains)["qqp"] == ["-10.0", "-"]
    # gaps: none 90 - 70 at each seed, mnli 91 - 83, qqp 90 - 60; the languages' are 4 to 12, 10 to 30, 20 to 40
    assert list(markdown_rows(ranked).items())[2:] == [
        ("mnli", ["91.0", "83.0", "+8.0", "+4.0 de", "+12.0 sw"]),
        ("none", ["90.0", "70.0", "+20.0", "+10.0 de", "+30.0 sw"]),
        ("qqp", ["90.0", "60.0", "+30.0", "+20.0 de", "+40.0 sw"]),
    ]
    assert any("no gap, and the mean is over all languages: pairs" in line for line in document.legend)
    assert [matrix.columns for matrix in document.figures] == [("news", "pairs"), ("news",)]
    shades = [x.get("fill") for x in drawn(document).iter(f"{SVG}rect")]
    # white, then mnli's row: 40 is the largest gain, half of the way to the blue 0, 114, 178; 13 is 13/80 of it
    assert shades[1:3] == ["rgb(214,232,242)", "rgb(128,184,216)"]
    assert shades[3] == "rgb(250,235,223)"  # qqp's loss of 10: 10/80 of the way to the orange 213, 94, 0
    with pytest.raises(UserError, match="no target has scores in a language that it is not trained on"):
        show(study([task("news", ["en"])]), [*rows("news", {"en": 1.0})], "transfer")


def test_transfer_of_one_task_trained_on_several_languages_is_a_matrix_of_languages():
    german = StudyTask("news-de", "classify", "accuracy", ("accuracy",), ("en", "de", "sw"), "de")
    french = StudyTask("nouvelles", "classify", "accuracy", ("accuracy",), ("en", "de", "sw"), "fr")
    # as `Task.catalogue_name` has it, with the training language; that of news-de is its own name
    made = study([task("news", ["en", "de", "sw"]), german, french], catalogue_names={"nouvelles": "news-fr"})
    scores = [*rows("news", {"en": 90, "de": 70, "sw": 50}), *rows("news-de", {"en": 75, "de": 85, "sw": 55})]
    scores += rows("nouvelles", {"en": 74, "de": 64, "sw": 54})
    document = show(made, [*scores], "transfer")
    shown = markdown_rows(render(document, "markdown"))
    assert shown["en (news, none)"] == ["90.0", "70.0", "50.0"]
    assert shown["de (news-de, none)"] == ["75.0", "85.0", "55.0"]
    assert shown["fr (nouvelles, none)"] == ["74.0", "64.0", "54.0"]
    assert [(x.task, x.language, x.gap) for x in document.rows if x.task == "news-de"] == [
        ("news-de", "zero-shot", 20), ("news-de", "en", 10), ("news-de", "sw", 30),
    ]  # fmt: skip


def test_languages_is_drawn_with_families_the_human_estimate_and_versions_of_one_s_own():
    tasks = [task("xnli", ["en", "sw", "de", "bg"]), task("xnli-auto", ["en", "sw"])]
    made = study(tasks, ["none", "mnli"], catalogue_names={"xnli-auto": "xnli"})
    scores = [
        *rows("xnli", {"en": 88, "sw": 60, "de": 80, "bg": 70}, split="dev"),
        *rows("xnli-auto", {"en": 88, "sw": 55}),
    ]
    scores += rows("xnli", {"en": 89, "sw": 66, "de": 81, "bg": 72}, "mnli", split="dev")
    document = show(made, [*scores], "languages")
    assert len(document.figures) == 1 and len(document.tables) == 2
    chart = document.figures[0]
    # English first, then by family; the zero-shot means are (60 + 80 + 70) / 3 = 70, (66 + 81 + 72) / 3 = 73, and 55
    assert chart.ticks == (
        "en (IE: Germanic)", "de (IE: Germanic)", "bg (IE: Slavic)", "sw (Niger-Congo)", "zero-shot",
    )  # fmt: skip
    found = {series.name: {name: y for _, y, name in series.points} for series in chart.series}
    assert found["none"]["zero-shot"] == 70 and found["mnli"]["zero-shot"] == 73
    assert found["xnli-auto†, none"] == {"en (IE: Germanic)": 88, "sw (Niger-Congo)": 55, "zero-shot": 55}
    assert [x.hollow for x in chart.series if x.points] == [False, False, True, False]
    # the version of one's own has the shape of its branch
    points = {x.find(f"{SVG}title").text: look(x) for x in markers(drawn(document))}
    filled, hollow = points["none, en (IE: Germanic): 88.0"], points["xnli-auto†, none, en (IE: Germanic): 88.0"]
    assert filled[0] == hollow[0] and hollow[1] == "#fff" != filled[1]
    # the equal scores of English lie side by side
    places = [x.get("transform") for x in markers(drawn(document)) if x.find(f"{SVG}title").text.endswith(": 88.0")]
    assert len(places) == len({*places}) == 2
    assert found["human, estimated (Hu et al., 2020): 92.8"] == {"all languages": 92.8}
    play = study([task("play", ["en", "qaa"])])
    assert show(play, [*rows("play", {"en": 9, "qaa": 8})], "languages").figures[0].ticks[1] == "qaa"


@pytest.mark.parametrize("layout", ["languages", "wikipedia"])
def test_a_branch_has_one_marker_in_all_figures_also_where_another_branch_is_not_finished(layout: str):
    tasks = [task("news", ["en", "sw", "de"]), task("web", ["en", "sw", "de"])]
    made = study(tasks, ["none", "nli"])
    values = {"en": 88.0, "sw": 60.0, "de": 70.0}
    scores = [*rows("news", values), *rows("news", values, "nli"), *rows("web", values, "nli")]
    points = markers(drawn(show(made, scores, layout)))
    assert len({look(x) for x in points if str(x.findtext(f"{SVG}title")).startswith("nli")}) == 1


def test_languages_on_the_other_split_and_in_no_mean_are_marked_in_the_figure_too():
    made = study([task("news", ["en", "sw", "th"]), task("pairs", ["de", "sw"])], seeds=(1, 2))
    scores = [*rows("news", {"en": 9, "th": 7}, split="dev"), *rows("news", {"sw": 8})]
    scores += [*rows("news", {"en": 9}, seed=2, split="dev"), *rows("news", {"sw": 8}, seed=2)]
    scores += [*rows("pairs", {"de": 5, "sw": 6}), *rows("pairs", {"de": 5, "sw": 6}, seed=2)]
    charts = show(made, scores, "languages").figures
    assert charts[0].ticks == ("en (IE: Germanic)", "th‡ (Kra-Dai)", "sw† (Niger-Congo)", "zero-shot")
    assert charts[0].title.endswith("dev, test where marked †")
    assert charts[1].ticks == ("de (IE: Germanic)", "sw (Niger-Congo)", "mean")  # no language that it is trained on


def test_everything_in_a_figure_is_inside_it_and_no_two_numbers_of_a_matrix_overlap():
    wide, long = tuple(XTREME), "a-rather-long-name-of-a-study-" * 6
    values = (tuple(float(i) for i in range(40)),)
    figure = ElementTree.fromstring(draw_figures([Matrix(long, ("en (news, none)",), wide, values)], []))
    cells = [x for x in figure.iter(f"{SVG}rect")][1:]
    at = sorted((float(x.get("y")), float(x.get("x")), float(x.get("width"))) for x in cells)
    assert len(at) == 40 and min(width for *_, width in at) >= 38  # four digits, a sign and a dot
    assert all(x + width <= 960 for _, x, width in at) and len({y for y, *_ in at}) == 2
    for title in (long, "多語言 " * 60):
        figure = ElementTree.fromstring(draw_figures([Matrix(title, ("a",), ("b",), ((1.0,),))], []))
        lines = [x.text for x in figure.iter(f"{SVG}text") if x.get("font-weight")]
        assert len(lines) > 1 and max(map(len, lines)) < (960 / 12 if title[0] == "多" else 960 / 6)
