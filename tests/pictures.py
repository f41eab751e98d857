"""Draws the pictures of README and docs, with Chromium and Graphviz: `python tests/pictures.py [report|packages]`."""

import subprocess
import sys
from io import BytesIO
from pathlib import Path

from PIL import Image

from xstilts.analysis.results import read_results
from xstilts.html.page import report_page
from xstilts.store.run_folder import Store

DOCS = Path(__file__).parents[1] / "docs"
STUDY = DOCS / "quickstart"
"""The rows of the study whose report README shows."""
WIDTH, SCALE, COLOURS = 1310, 1.5, 128
"""The width of the window in pixels, how many pixels of the picture each of them has, and colours of the picture."""
LOOKS = """
svg { --paper: #ffffff; --box: #eaf3fb; --line: #6b7a89; --text: #1a1a1a }
@media (prefers-color-scheme: dark) { svg { --paper: #14171a; --box: #173549; --line: #8a98a6; --text: #e8e8e8 } }
.graph > polygon { fill: var(--paper) }
.node path { fill: var(--box); stroke: var(--line) }
.node text { fill: var(--text); font-family: system-ui, sans-serif }
.edge path { stroke: var(--line) }
.edge polygon { fill: var(--line); stroke: var(--line) }
"""
"""Looks of the picture of packages, by Graphviz's classes."""


def draw_report(study: Path, folder: Path) -> None:
    """Write `report-light.png` and `report-dark.png`: the top of a study's report, down to its first heat maps."""
    from test_html_browser import CHROMIUM, playwright

    store = Store(study)
    page = report_page(store, read_results(store, None))
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            options = {"viewport": {"width": WIDTH, "height": 900}, "device_scale_factor": SCALE}
            tab = browser.new_context(color_scheme=scheme, **options).new_page()
            tab.set_content(page)
            first = tab.locator("table.languages").first.bounding_box()
            clip = {"x": 0, "y": 0, "width": WIDTH, "height": first["y"] + first["height"] + 12}
            shot = Image.open(BytesIO(tab.screenshot(clip=clip, full_page=True))).convert("RGB")
            shot.quantize(COLOURS, dither=Image.Dither.NONE).save(folder / f"report-{scheme}.png", optimize=True)
        browser.close()


def draw_packages(path: Path) -> None:
    """Write the picture of the packages and their imports as SVG, readable on light and dark pages."""
    from test_architecture import direct_imports

    packages, arrows = direct_imports()
    lines = [*sorted(packages), *(f"{package} -> {other}" for package, other in sorted(arrows))]
    svg = subprocess.run(["dot", "-Tsvg"], input=_dot(lines), capture_output=True, text=True, check=True).stdout
    drawn = svg[svg.index("<svg") :].replace(">", f"><style>{LOOKS}</style>", 1)
    path.write_text(drawn, encoding="utf-8")


def _dot(lines: list[str]) -> str:
    looks = (
        "graph [ranksep=0.35, nodesep=0.3, pad=0.2]",
        'node [shape=box, style="rounded,filled", fontname="Helvetica", fontsize=15, height=0.36, margin="0.14,0.04"]',
        "edge [arrowsize=0.6]",
    )
    return f"digraph packages {{{'; '.join([*looks, *lines])}}}"


if __name__ == "__main__":
    chosen = sys.argv[1:] or ["report", "packages"]
    if "report" in chosen:
        draw_report(STUDY, DOCS / "assets")
    if "packages" in chosen:
        draw_packages(DOCS / "assets/packages.svg")
