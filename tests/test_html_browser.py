"""The report's page in a real browser: sorting, grouping, following a number, print, dark, accessibility."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from made_up_study import write_study
from test_html_report import HOSTILE
from xstilts.analysis.results import read_results
from xstilts.html import page as page_module
from xstilts.html.page import report_page
from xstilts.store.run_folder import Store

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (pip install --group dev)")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
AXE = Path(sys.prefix) / "node_modules/axe-core/axe.min.js"


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a study in languages of several families and scripts."""
    folder = tmp_path_factory.mktemp("runs")
    store = write_study(folder, branches=("none", "mnli", "qqp"), targets=("xnli", "pawsx"),
                        languages=("en", "de", "sw", "ar", "hi", "uk", "qaa"))  # fmt: skip
    path = folder / "page.html"
    path.write_text(report_page(store, read_results(store, None)), encoding="utf-8")
    return path


class Opened:
    """A page with what it has logged and loaded."""

    def __init__(self, browser, path: Path, **options) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.errors, self.loaded = [], []
        self.page.on("console", lambda message: self.errors.append(message.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("dialog", lambda dialog: self.errors.append(dialog.message))
        self.page.on("request", lambda request: self.loaded.append(request.url))
        self.page.goto(path.as_uri())

    def column(self, number: int) -> list[str]:
        """The texts of a column of the first heat map, without the rows that stay above."""
        cells = f"table.languages >> nth=0 >> tbody >> nth=1 >> tr:not(.group) > :nth-child({number})"
        return self.page.locator(cells).all_inner_texts()


@pytest.fixture
def opened(browser, file: Path) -> Iterator[Opened]:
    found = Opened(browser, file)
    yield found
    assert found.errors == []
    assert found.loaded == [file.as_uri()]
    found.context.close()


def test_a_head_sorts_its_column(opened: Opened) -> None:
    head = opened.page.locator("table.languages >> nth=0 >> th[scope=col] >> nth=2")
    before = opened.column(1)
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    values = [float(text.split()[0].rstrip("§")) for text in opened.column(3)]
    assert values == sorted(values, reverse=True)
    head.locator("button").focus()
    opened.page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    values = [float(text.split()[0].rstrip("§")) for text in opened.column(3)]
    assert values == sorted(values)
    opened.page.locator("table.languages >> nth=0 >> th[scope=col] >> nth=0 >> button").click()
    assert opened.column(1) == sorted(before) and head.get_attribute("aria-sort") == "none"
    above = opened.page.locator("table.languages >> nth=0 >> tbody.fixed th").all_inner_texts()
    assert above == ["mean", "zero-shot", "en English"]


def test_times_sizes_and_intervals_sort_by_their_amount(opened: Opened) -> None:
    def amount(text: str) -> float:
        number, *unit = text.split()
        minutes, _, seconds = number.rpartition(":")
        number = number.strip("[,<") if not minutes else f"{60 * int(minutes) + int(seconds)}"
        return float(number) * (1000 if unit == ["GB"] else 1)

    opened.page.evaluate("for (const box of document.querySelectorAll('details')) box.open = true")
    for section, column in (("#steps", 5), ("#steps", 7), ("#intervals", 4), ("#intervals", 5)):
        table = opened.page.locator(f"{section} table >> nth=0")
        table.locator(f"thead th:nth-child({column}) button").click()
        shown = [amount(text) for text in table.locator(f"tbody td:nth-child({column})").all_inner_texts()]
        assert shown == sorted(shown, reverse=True) and len({*shown}) > 1


def test_languages_are_grouped_by_family_script_and_size(opened: Opened) -> None:
    groups = opened.page.locator("table.languages >> nth=0 >> .group th")
    opened.page.select_option("#group", "script")
    assert groups.all_inner_texts() == ["Arabic (1)", "Cyrillic (1)", "Devanagari (1)", "Latin (2)", "unknown (1)"]
    opened.page.select_option("#group", "family")
    assert "IE: Slavic (1)" in groups.all_inner_texts()
    opened.page.locator("table.languages >> nth=0 >> th[scope=col] >> nth=1 >> button").click()
    assert "IE: Slavic (1)" in groups.all_inner_texts() and len(opened.column(1)) == 6
    opened.page.select_option("#group", "size")
    assert "a million articles or more (2)" in groups.all_inner_texts()
    opened.page.select_option("#group", "")
    assert groups.count() == 0


def test_a_number_leads_to_its_runs_and_these_to_their_steps(opened: Opened) -> None:
    page = opened.page
    cell = page.locator("table.languages >> nth=0 >> tbody >> nth=1 >> tr >> nth=0 >> td >> nth=1")
    median = cell.locator("a").inner_text()
    cell.locator("a").click()
    target = page.locator(":target")
    assert target.is_visible() and target.inner_text().startswith(median)
    assert len(target.locator("p").inner_text().split()) == 3  # a score for each seed
    target.locator("xpath=ancestor::table").locator("thead a").first.click()
    steps = page.locator(":target")
    assert steps.is_visible() and "scores.jsonl" in steps.inner_text()
    id = steps.locator("tbody a").first
    name = id.inner_text()
    id.click()
    assert page.locator(":target").is_visible() and name in page.locator(":target").locator("xpath=..").inner_text()


@pytest.mark.parametrize("script", [True, False])
def test_a_packed_box_unpacks_when_it_is_opened(browser, file: Path, monkeypatch, script: bool) -> None:
    store = Store(file.parent)
    monkeypatch.setattr(page_module, "MOST_BYTES", 1)
    path = file.parent / "packed.html"
    path.write_text(report_page(store, read_results(store, None)), encoding="utf-8")
    found = Opened(browser, path, java_script_enabled=script)
    for summary, inside in (("Learning curves", "svg.chart"), ("xnli: ", "table.texts")):
        box = found.page.locator("details", has=found.page.locator("summary", has_text=summary)).last
        assert box.locator(inside).count() == 0
        box.locator("summary").click()
        if script:
            box.locator(inside).first.wait_for(state="visible")
        else:
            assert "only a browser with JavaScript shows this" in box.inner_text()
    assert (found.errors, found.loaded) == ([], [path.as_uri()])
    found.context.close()


def test_print_shows_the_tables_and_no_navigation(opened: Opened) -> None:
    opened.page.emulate_media(media="print")
    assert not opened.page.locator("nav").is_visible() and not opened.page.locator("#group").is_visible()
    assert opened.page.locator("table.languages").first.is_visible()
    assert opened.page.pdf()[:4] == b"%PDF"


def test_dark_and_narrow(browser, file: Path) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    for scheme, expected in (("dark", "rgb(20, 23, 26)"), ("light", "rgb(255, 255, 255)")):
        for width in (400, 900, 1600):
            found = Opened(browser, file, color_scheme=scheme, viewport={"width": width, "height": 800})
            assert found.page.evaluate(colour) == expected
            assert found.page.evaluate("document.documentElement.scrollWidth") == width  # only tables scroll sideways
            captions = found.page.locator("caption span").evaluate_all(
                "all => all.map(x => x.getBoundingClientRect().right)"
            )
            assert 0 < max(captions) <= width
            found.context.close()


def test_names_with_markup_do_no_harm(browser, tmp_path: Path) -> None:
    store = write_study(tmp_path / "runs", branches=("none", *HOSTILE), targets=("xnli",), languages=("en", *HOSTILE),
                        seeds=(1,), labels=HOSTILE[:3], texts=HOSTILE)  # fmt: skip
    path = tmp_path / "page.html"
    path.write_text(report_page(store, read_results(store, None)), encoding="utf-8")
    found = Opened(browser, path)
    found.page.evaluate("for (const box of document.querySelectorAll('details')) box.open = true")
    found.page.select_option("#group", "script")
    assert found.page.evaluate("typeof hacked") == "undefined"
    assert (found.errors, found.loaded) == ([], [path.as_uri()])
    heads = found.page.locator("table.languages >> nth=0 >> thead th").all_text_contents()
    assert [name for name in HOSTILE if name not in heads] == []
    found.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser, file: Path, scheme: str) -> None:
    if not AXE.is_file():
        pytest.skip(f"needs axe-core: npm install --prefix {sys.prefix} axe-core@4.14.1")
    found = Opened(browser, file, color_scheme=scheme, bypass_csp=True)
    found.page.evaluate("for (const box of document.querySelectorAll('details')) box.open = true")
    found.page.add_script_tag(path=str(AXE))
    report = found.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    serious = [x for x in report["violations"] if x["impact"] in ("serious", "critical")]
    assert [(x["id"], x["nodes"][0]["html"], len(x["nodes"])) for x in serious] == []
    found.context.close()
