"""Writes the tables and figures of docs/real-e5.md from the rows in docs/real-e5."""

from __future__ import annotations

import re
from pathlib import Path

import xstilts

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "real-e5.md"
ROWS = PAGE.with_suffix("")
FIGURES = ("languages", "transfer", "layers", "families")
"""Layouts whose figures the page shows."""
_TABLE = re.compile(
    r"(?P<head><!-- table (?P<layout>\S+?)(?P<beside> beside the paper)?(?: of (?P<title>.+?))? -->\n)"
    r".*?(?=<!-- end -->)",
    re.DOTALL,
)
"""A layout's tables and legend, or without legend those with some words in their titles."""


def filled(page: str) -> str:
    """The page with its tables made anew."""

    def table(found: re.Match[str]) -> str:
        shown = shown_layout(found["layout"], beside=bool(found["beside"]))
        if found["title"]:
            blocks = re.findall(r"^\*\*.+?\*\*\n\n(?:\|.+\n)+", shown, re.MULTILINE)
            shown = "\n".join(block for block in blocks if found["title"] in block.partition("\n")[0])
        return f"{found['head']}\n{shown.strip()}\n\n"

    return _TABLE.sub(table, page)


def shown_layout(layout: str, *, beside: bool = False, format: str = "markdown") -> str:
    """A layout of the study."""
    return xstilts.report(str(ROWS), layout=layout, beside="paper" if beside else None).render(format)


def main() -> None:
    """Write the page and its figures."""
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    for layout in FIGURES:
        figure = DOCS / f"assets/{PAGE.stem}-{layout}.svg"
        figure.write_text(shown_layout(layout, format="svg"), encoding="utf-8")


if __name__ == "__main__":
    main()
