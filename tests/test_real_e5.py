"""The page of the real study shows what its rows say."""

import re
from pathlib import Path

import pytest

import study_page

ROOT = Path(__file__).parents[1]
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def test_the_page_s_tables_are_the_report_s() -> None:
    """Equal words; numbers may differ in their last digit, because other processors round otherwise."""
    page = (ROOT / "docs/real-e5.md").read_text(encoding="utf-8")
    made = study_page.filled(page)
    assert NUMBER.sub("0", made.replace("**", "")) == NUMBER.sub("0", page.replace("**", ""))
    old, new = ([float(x) for x in NUMBER.findall(text)] for text in (page, made))
    assert new == pytest.approx(old, abs=0.11)


def test_the_page_names_no_file_of_a_machine() -> None:
    for path in (ROOT / "docs/real-e5").rglob("*.json*"):
        assert not re.search(r'"/\w', path.read_text(encoding="utf-8")), path
