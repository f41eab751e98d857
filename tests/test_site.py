"""The documentation site is built without a warning, has every page, and loads nothing from elsewhere."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import xstilts

ROOT = Path(__file__).parents[1]
CONFIG = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]
PAGES = {page.name for page in (ROOT / "docs").glob("*.md")}
STUDIES = sorted(mark.parent.name for mark in (ROOT / "docs").glob("*/store.json"))
"""The folders with the rows of a study."""
LOADED = re.compile(
    r"<(?:script|img|iframe|source|link)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//|url\([\"']?(?:https?:)?//"
)
"""What a browser would get from another machine."""


def in_navigation(entry: Any) -> list[str]:
    """The pages of an entry: a name with a page, or a name with further entries."""
    if isinstance(entry, str):
        return [entry]
    return [page for one in (entry.values() if isinstance(entry, dict) else entry) for page in in_navigation(one)]


def test_every_page_has_one_place_in_the_navigation() -> None:
    assert sorted(in_navigation(CONFIG["nav"])) == sorted(PAGES)


def test_the_reference_has_every_public_name() -> None:
    shown = re.findall(r"^::: xstilts\.(\w+)$", (ROOT / "docs/api.md").read_text(encoding="utf-8"), re.M)
    assert {*shown} == {*xstilts.__all__} - {"METRICS", "__version__"}


def test_the_site_is_built_strictly_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("zensical", reason="needs the group docs: pip install --group docs")
    for name in ("docs", "src"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("zensical.toml", "Makefile"):
        shutil.copy(ROOT / name, tmp_path)
    command = ["make", "--old-file=.venv/ready", "docs", f"BIN={Path(sys.executable).parent}"]
    built = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    site = tmp_path / CONFIG["site_dir"]
    assert {page.stem for page in site.glob("*.html")} == {Path(page).stem for page in PAGES} | {"404"}
    for file in (*site.rglob("*.html"), *site.rglob("*.css")):
        assert not LOADED.search(file.read_text(encoding="utf-8")), file
    assert not any('class="mermaid"' in page.read_text(encoding="utf-8") for page in site.glob("*.html")), (
        "Zensical would load the program that draws the picture from elsewhere"
    )

    for study in STUDIES:
        page = (site / study / "report.html").read_text(encoding="utf-8")
        assert "<h1>" in page and "script-src 'sha256-" in page.replace("&#39;", "'") and "unsafe" not in page


@pytest.mark.parametrize("study", STUDIES)
def test_how_to_read_a_report_links_to_the_page_of_each_study(study: str) -> None:
    assert f"]({study}/report.html)" in (ROOT / "docs/reports.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *(f"docs/{name}" for name in sorted(PAGES))])
def test_no_page_names_a_folder_of_one_machine(page: str) -> None:
    assert not re.search(r"(?<![\w{.])/(?:tmp|work|root|home|Users)/", (ROOT / page).read_text(encoding="utf-8"))
