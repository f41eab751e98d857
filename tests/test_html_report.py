"""The report as a web page: its numbers, its links, its size, names with markup, and how honest its finding is."""

import csv
import io
import json
import os
import re
from base64 import b64encode
from collections import Counter, defaultdict
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import pytest

from made_up_study import write_study
from xstilts.analysis.results import read_results
from xstilts.execution.run import run
from xstilts.html import live
from xstilts.html.finding import best_finding
from xstilts.html.live import LivePage
from xstilts.html.page import report_page
from xstilts.html.scores import ScoreTables
from xstilts.html.steps import StepViews
from xstilts.metrics import at_chance
from xstilts.reports.significance import Comparison, Significance, compare
from xstilts.store.rows_only import copy_rows
from xstilts.store.run_folder import Store
from xstilts.study.index import Study, StudyTask
from xstilts.study.load import read
from xstilts.study.plan import plan
from xstilts.utils.progress import Progress

HOSTILE = (
    "<script>hacked=1</script>", "<img src=x onerror=hacked=1>", '"><svg onload=hacked=1>', "' onmouseover='hacked=1",
    "</style><b>", "</script><script>hacked=1</script>", "{{ 7*7 }}", "{% raw %}", "&lt;b&gt;", "<!--", "]]>",
    "javascript:hacked=1", "\u202egnp.exe", "\u2067שלום\u2069", "مرحبا بالعالم", "\u200f\u200e", "a\u2028b",
    "<details open ontoggle=hacked=1>", "<a href=https://example.com>x</a>", "日本語<b>",
)  # fmt: skip
"""Names and texts that would do harm if they were not escaped."""


class Page(HTMLParser):
    """What a page consists of: its tags, ids, links, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.ids, self.links, self.attributes = Counter[str](), Counter[str](), list[str](), set[str]()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        found = dict(attrs)
        self.attributes |= {f"{tag} {name}" for name in found}
        self.ids[found.get("id")] += "id" in found
        self.links += [found["href"]] if "href" in found else []

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("runs")
    return write_study(
        folder, branches=("none", "mnli", "qqp"), targets=("xnli", "pawsx"), languages=("en", "de", "sw")
    )


@pytest.fixture(scope="module")
def page(store: Store) -> str:
    return report_page(store, read_results(store, None))


def test_the_numbers_are_those_of_the_report(store: Store, page: str) -> None:
    text, summary = Page(page).text, read_results(store, None).summary()
    for line in summary.lines:
        gain = "" if line.gain is None else f" {line.gain:+z.1f}"
        assert re.search(rf"{line.median:.1f}§?{re.escape(gain)}", text), line
    each_seed = defaultdict(list)
    for score in read_results(store, None).scores:
        branch = next(cell.branch for cell in summary.study.cells if cell.step == score.step)
        each_seed[score.task, score.language, branch].append(f"{score.value:.1f}")
    for values in each_seed.values():
        assert " ".join(values) in text


def test_a_task_trained_on_all_its_languages_has_no_zero_shot_mean(tmp_path: Path) -> None:
    results = read_results(write_study(tmp_path, branches=("none", "mnli"), targets=("xnli", "pawsx", "bucc"),
                                       languages=("en", "de"), seeds=(1,)), None)  # fmt: skip
    xnli, pawsx, bucc = results.study.tasks
    tasks = xnli, replace(pawsx, more_train_languages=("de",)), replace(bucc, train_language="")
    study = replace(results.study, tasks=tasks)
    summary = replace(results, study=study).summary()
    tables = [*ScoreTables(summary, compare(study, results.scores, lambda _: ()), {}).overviews()]
    shown = {table.caption: [head.text for head in table.heads] for table in tables}
    assert shown["Branches by targets: zero-shot mean"] == ["branch", "xnli", "bucc"]
    assert shown["Branches by targets: mean over all languages"] == ["branch", "xnli", "pawsx", "bucc", "all tasks"]


def test_a_collapsed_run_has_its_own_score(store: Store, page: str) -> None:
    results = read_results(store, None)
    branches = {cell.step: cell.branch for cell in results.study.cells}
    failed = defaultdict(list)
    for x in results.scores:
        if x.language == "en" and at_chance(x.value, [x.chance or 0.0], [x.n]):
            failed[x.task, branches[x.step]].append((str(x.seed), f"{x.value:.1f}"))
    [table] = re.findall(r"<caption><span>Collapsed runs.*?</table>", page, re.DOTALL)
    text = " ".join(re.sub("<[^>]*>", " ", table).split())
    assert len(failed) > 1
    for (task, branch), runs in failed.items():
        seeds, values = (", ".join(x) for x in zip(*runs, strict=True))
        assert f"{task} {branch} en English {seeds} {values} 33.3" in text


def test_the_legend_explains_what_the_page_shows_and_has_no_backticks(store: Store) -> None:
    noted = replace(read_results(store, None), notes=["xnli: raise `lr` or <b>`epochs`"])
    text = report_page(store, noted, quick=True)
    assert "raise <code>lr</code> or &lt;b&gt;<code>epochs</code>" in text
    assert "values are medians over seeds 1, 2, 3" in text and "±" not in text


def test_each_link_leads_to_a_place_on_the_page(page: str) -> None:
    parsed = Page(page)
    assert max(parsed.ids.values()) == 1
    assert len(parsed.links) > 50
    assert [link for link in parsed.links if link[0] != "#" or link[1:] not in parsed.ids] == []


def test_selected_runs_curves_and_examples_lead_to_their_rows(page: str) -> None:
    for section, place in (("selection", "t"), ("trainings", "s"), ("examples", "s")):
        [text] = re.findall(rf'<section id="{section}">.*?</section>', page, re.DOTALL)
        links = Page(text).links
        assert place in {link[1] for link in links}, section


def test_the_page_loads_nothing_and_allows_only_its_own_style_and_script(page: str) -> None:
    [policy] = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    for tag in ("style", "script"):
        [inner] = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert f"{tag}-src 'sha256-{b64encode(sha256(inner.encode()).digest()).decode()}'" in policy.replace(
            "&#39;", "'"
        )
    assert "default-src" in policy and "unsafe" not in policy
    assert not {x for x in Page(page).attributes if x.split()[1] in ("src", "style") or x.split()[1].startswith("on")}
    assert not re.findall(r"https?://(?!www\.w3\.org)", page)


def test_names_with_markup_stay_text(tmp_path: Path, page: str) -> None:
    plain = Page(page)
    store = write_study(
        tmp_path, branches=("none", *HOSTILE), targets=("xnli",), languages=("en", *HOSTILE), seeds=(1,),
        labels=HOSTILE[:3], texts=HOSTILE, name="a",
    )  # fmt: skip
    found = Page(report_page(store, read_results(store, None)))
    assert found.tags.keys() <= plain.tags.keys() and found.attributes <= plain.attributes
    assert found.tags["script"] == found.tags["style"] == 1
    for name in HOSTILE:
        assert name in found.text, name


def test_marks_of_rules_are_explained_beside_the_selected_runs_and_branches_are_texts(page: str) -> None:
    [section] = re.findall(r'<section id="selection">.*?</section>', page, re.DOTALL)
    before_the_rules, rules = section.split("<details>")
    assert "dev‡, paper‡: not zero-shot, because" in before_the_rules and "‡" not in rules
    [runs] = re.findall(r"<caption><span>the selected runs.*?</table>", section, re.DOTALL)
    cells = re.findall(r"<td[^>]*>(?:none|mnli|qqp), \d", runs)
    assert cells and all(cell.startswith("<td class=p dir=auto>") for cell in cells)


def test_a_running_study_has_a_page_that_refreshes_itself(store: Store, page: str) -> None:
    running = report_page(store, read_results(store, None), running=True)
    assert '<meta http-equiv="refresh"' in running and "Running: " in Page(running).text
    assert '<meta http-equiv="refresh"' not in page and "unning: " not in page
    nothing_yet = replace(read_results(store, None), scores=())
    warned = report_page(store, replace(read_results(store, None), notes=("mnli ended at chance",)))
    [summary] = re.findall('class="summary".*?</section>', warned, re.DOTALL)
    assert "mnli ended at chance" in summary and warned.count("mnli ended at chance") == 1
    empty = report_page(store, nothing_yet, running=True)
    assert "No gain is known yet." in empty and "There are no scores yet." in empty and "has collapsed" not in empty


def test_a_copy_of_rows_has_all_but_the_examples(store: Store, tmp_path: Path, page: str) -> None:
    copied = copy_rows(store, read_results(store, None).study, tmp_path / "copy")
    again = Store(copied.folder)
    text = report_page(again, read_results(again, None))
    assert 'id="examples"' in page and 'id="examples"' not in text
    assert re.findall('id="intervals".*?</details>', page, re.DOTALL) == re.findall(
        'id="intervals".*?</details>', text, re.DOTALL
    )


def test_the_worst_examples_come_with_their_texts(page: str) -> None:
    text = Page(page).text
    assert "the 20 worst examples of each language" in text
    assert "The cat sleeps on the wall." in text and "القط ينام على الجدار." in text
    assert "percent of each right label" in text


def test_the_command_line_writes_the_page_into_the_run_folder(store: Store, xstilts, tmp_path: Path) -> None:
    result = xstilts("report", store.folder, "--format", "html")
    assert (result.code, result.out) == (0, f"{store.folder / 'report.html'}\n")
    assert "<!doctype html>" in (store.folder / "report.html").read_text(encoding="utf-8")
    assert xstilts("report", store.folder, "--format", "html", "--to", tmp_path / "new/x.html").code == 0
    assert (tmp_path / "new/x.html").is_file()
    for option in ("--open", "--to"):
        given = [option] if option == "--open" else [option, tmp_path]
        assert "needs --format" in xstilts("report", store.folder, *given).err
    refused = xstilts("report", store.folder, "--format", "html", "--layout", "table2")
    assert (refused.code, refused.err) == (2, "error: --layout: cannot be used with --format html\n")


def test_two_recipes_are_compared_on_a_page(store: Store, xstilts, tmp_path: Path) -> None:
    other = write_study(tmp_path, branches=("none", "mnli"), targets=("xnli",), languages=("en", "de"), name="<b>")
    result = xstilts("report", store.folder, "--compare", other.folder, "--format", "html")
    assert (result.code, result.out) == (0, f"{store.folder / 'comparison.html'}\n")
    text = (store.folder / "comparison.html").read_text(encoding="utf-8")
    found, table = Page(text), xstilts("report", store.folder, "--compare", other.folder, "--format", "csv").out
    rows = [*csv.DictReader(io.StringIO(table))]
    assert {row["branch"] for row in rows} == {"none", "mnli"} and len(rows) > 6
    for row in (row for row in rows if row["difference"]):
        assert f"{float(row['difference']):+z.1f}" in found.text and f"{float(row['first']):.1f}" in found.text
    assert "<b>" in found.text and "b" not in found.tags
    assert [link for link in found.links if link[1:] not in found.ids] == []
    assert "branches of" in found.text and "that are not compared: qqp" in found.text
    assert "cannot be used with --compare" in xstilts("report", store.folder, "--compare", "x", "--to", tmp_path).err


def test_a_step_notes_its_memory_and_versions(study) -> None:
    assert study.run().code == 0
    [facts, *_] = [json.loads(path.read_bytes()) for path in study.out.glob("steps/*/done.json")]
    assert facts["versions"].keys() == {"xstilts", "Python", "torch", "transformers"}
    assert not Path("/proc/self/clear_refs").exists() or facts["memory_bytes"] > 10**7
    assert study.call("report", study.out, "--format", "html").code == 0
    shown = Page((study.out / "report.html").read_text(encoding="utf-8")).text
    assert "name: tiny" in shown and f"torch {facts['versions']['torch']}" in shown
    assert f"xstilts run {study.folder / 'recipe.yaml'}" in shown


def test_a_run_keeps_its_page_up_to_date(study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(live, "SHARE", 1e9)
    page, seen = LivePage(study.out, "tiny", print), list[str]()

    def look() -> None:
        page.update()
        seen.append((study.out / "report.html").read_text(encoding="utf-8"))

    planned = plan(*read(str(study.folder / "recipe.yaml")))
    progress = Progress(live=False)
    progress.on_step = look
    with pytest.raises(KeyboardInterrupt), page:
        run(planned, study.out, None, progress)
        raise KeyboardInterrupt
    assert [re.findall(r"Running: (\d) of 3 steps", text) for text in seen] == [["0"], ["1"], ["2"], ["3"]]
    assert all(text.rstrip().endswith("</html>") for text in seen)
    assert 'http-equiv="refresh"' not in (study.out / "report.html").read_text(encoding="utf-8")
    page.finish(changed=False)
    assert 'id="examples"' not in (study.out / "report.html").read_text(encoding="utf-8")
    page.finish(changed=True)
    assert 'id="examples"' in (study.out / "report.html").read_text(encoding="utf-8")


def test_the_command_run_leaves_a_final_page(study) -> None:
    result = study.run()
    assert result.code == 0 and f"everything on one page: {study.out / 'report.html'}\n" in result.err
    text = (study.out / "report.html").read_text(encoding="utf-8")
    assert 'http-equiv="refresh"' not in text and 'id="examples"' in text


def test_a_page_that_cannot_be_written_stops_no_study(study) -> None:
    assert study.run().code == 0
    (study.out / "report.html").unlink()
    (study.out / "report.html").mkdir()
    study.edit("recipe.yaml", "lr: 1e-3", "lr: 2e-3")
    result = study.run()
    assert result.code == 0 and result.err.count("report.html is not up to date: ") == 1
    assert "everything on one page" not in result.err


def test_a_page_with_a_mistake_in_it_stops_no_study(tmp_path: Path) -> None:
    store, lines = write_study(tmp_path, branches=("none",), targets=("xnli",), languages=("en", "de")), list[str]()
    for facts in tmp_path.glob("steps/*/done.json"):
        facts.write_text('{"seconds": "soon", "inputs": {}}', encoding="utf-8")
    page = LivePage(store.folder, "full", lines.append)
    page.update()
    page.finish(changed=True)
    assert len(lines) == 1 and "report.html is not up to date: " in lines[0]


def test_only_a_page_is_replaced(store: Store, xstilts, tmp_path: Path) -> None:
    (mine := tmp_path / "mine.html").write_text("<!doctype html>\nmy notes\n", encoding="utf-8")
    refused = xstilts("report", store.folder, "--format", "html", "--to", mine)
    assert (refused.code, mine.read_text(encoding="utf-8")) == (2, "<!doctype html>\nmy notes\n")
    assert refused.err.startswith(f"error: {mine}: is no page that xstilts has written")


def test_the_page_of_another_recipe_is_replaced(store: Store) -> None:
    page, path = LivePage(store.folder, "full", print), store.folder / "report.html"
    page.finish(changed=True)
    final = path.read_text(encoding="utf-8")
    path.write_text(final + "final", encoding="utf-8")
    page.finish(changed=False)
    assert path.read_text(encoding="utf-8").endswith("final")
    path.write_text(final.replace("full: report", "other: report") + "final", encoding="utf-8")
    page.finish(changed=False)
    assert not path.read_text(encoding="utf-8").endswith("final")


def test_files_that_a_running_step_removes_do_not_matter(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    step, again = (StepViews(store, store.study(None)).all[0] for _ in range(2))
    size, walk = step.bytes, os.walk
    monkeypatch.setattr(os, "walk", lambda folder: [*walk(folder), (folder, [], ["gone.tmp"])])
    assert again.bytes == size > 0
    log = step.folder / "log.jsonl"
    rows = [*step.log()]
    log.write_bytes(log.read_bytes() + '{"task": "Ü'.encode()[:-1])
    assert [*step.log()] == rows


def finding(*rows: Comparison):
    names = tuple(dict.fromkeys(row.branch for row in rows))
    task = StudyTask("nli", "classify", "accuracy", ("accuracy",), ("en", "sw"), "en")
    study = Study("s", "tiny", (1, 2, 3), names, names[0], (task,), ())
    english = [replace(row, language="en") for row in rows]
    return best_finding(Significance(study, "dev", (*rows, *english), {}, {}))


def compared(branch, gain=None, low=None, high=None, adjusted=None, *, collapsed=()):
    p = adjusted and adjusted / 2
    values = {"seeds": 3, "median": 50.0, "mean": 50.0, "deviation": 1.0, "min": 49.0, "max": 51.0}
    row = Comparison("nli", branch, "zero-shot", "dev", "accuracy", 100, **values, collapsed=collapsed)
    return replace(row, paired=3, gain=gain, low=low, high=high, p=p, adjusted=adjusted)


def test_a_gain_that_holds_across_seeds_is_preferred_to_a_larger_one() -> None:
    found = finding(compared("none"), compared("a", 9.0, -1, 12, 0.01), compared("b", 3.0, 1, 5, 0.01))
    assert found.sentence.startswith("'b' improves") and "significant also across seeds" in found.sentence
    assert any("the largest gain that holds across seeds, of 2 gains" in line for line in found.caveats)


def test_a_gain_of_these_runs_alone_says_so() -> None:
    found = finding(compared("none"), compared("a", 9.0, -1, 12, 0.01))
    assert "in these runs" in found.sentence and "Other seeds may differ" in found.sentence
    found = finding(compared("none"), compared("a", 9.0, -1, 12, 0.01), compared("larger", 11.0, -5, 30, 0.3))
    assert any("the largest significant gain of 2 gains" in line for line in found.caveats)


def test_without_a_significant_gain_the_page_says_so_first() -> None:
    found = finding(compared("none"), compared("a", 9.0, -1, 12, 0.3))
    assert found.sentence.startswith("No branch is significantly better than its baseline in the zero-shot mean. ")
    assert finding(compared("none"), compared("a", -2.0, -4, -1, 0.01)).sentence.startswith("No branch is better")
    assert "It has not been tested" in finding(compared("none"), compared("a", 9.0)).sentence
    assert not any("Significant in" in line for line in found.caveats)


def test_significant_gains_outside_the_zero_shot_mean_are_counted_beside_it() -> None:
    zero_shot = compared("none"), compared("a", 2.0, -1, 12, 0.3)
    others = [replace(compared("a", 20.0, -1, 30, 0.01), language=language) for language in ("en", "mean")]
    worse = replace(compared("a", -20.0, -30, -1, 0.01), language="sw")
    task = StudyTask("nli", "classify", "accuracy", ("accuracy",), ("en", "sw"), "en")
    study = Study("s", "tiny", (1, 2, 3), ("none", "a"), "none", (task,), ())
    found = best_finding(Significance(study, "dev", (*zero_shot, *others, worse), {}, {}))
    assert "No branch is significantly better than its baseline in the zero-shot mean." in found.sentence
    assert "Significant in single languages or in another mean: 2 gains, marked ◦ below." in found.caveats


def test_a_collapsed_baseline_is_named_beside_the_gain() -> None:
    found = finding(compared("none", collapsed=(1, 2)), compared("a", 9.0, 1, 12, 0.01))
    within = "within two standard errors of chance in the training language"
    assert f"Careful: 2 of 3 runs of 'none' collapsed ({within})." in found.caveats
