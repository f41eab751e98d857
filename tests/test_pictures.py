"""The pictures of README and docs exist, are small, say what they show, and can be drawn again."""

import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

import pictures
from test_html_browser import CHROMIUM

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
MOST_BYTES = 200_000


def test_readme_shows_the_report_in_light_and_dark() -> None:
    [shown] = re.findall("<picture>.*?</picture>", README, re.DOTALL)
    [(dark, light, alt)] = re.findall(
        r'<source media="\(prefers-color-scheme: dark\)" srcset="(.*?)">\s*<img src="(.*?)" alt="(.{50,})">', shown
    )
    files = [pictures.DOCS.parent / name for name in (light, dark)]
    assert alt and all(file.stat().st_size < MOST_BYTES for file in files)
    assert image(files[0]).size == image(files[1]).size
    assert brightness(files[0]) > 200 > 60 > brightness(files[1])


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
def test_the_pictures_of_the_report_are_drawn(tmp_path: Path) -> None:
    pictures.draw_report(pictures.STUDY, tmp_path)
    light, dark = (tmp_path / f"report-{scheme}.png" for scheme in ("light", "dark"))
    assert brightness(light) > 200 > 60 > brightness(dark)
    assert all(file.stat().st_size < MOST_BYTES for file in (light, dark))
    assert image(light).width == pictures.WIDTH * pictures.SCALE


@pytest.mark.skipif(shutil.which("dot") is None, reason="needs Graphviz: apt-get install graphviz")
def test_the_picture_of_the_packages_is_drawn(tmp_path: Path) -> None:
    pictures.draw_packages(tmp_path / "packages.svg")
    drawn, shown = (titles(path) for path in (tmp_path / "packages.svg", pictures.DOCS / "assets/packages.svg"))
    assert drawn == shown


def titles(path: Path) -> set[str]:
    return {*re.findall("<title>(.*?)</title>", path.read_text(encoding="utf-8"))}


def brightness(path: Path) -> int:
    """Of the picture's first pixel, a part of its background: 0 is black, 255 white."""
    return image(path).convert("L").getpixel((0, 0))


def image(path: Path) -> Image.Image:
    with Image.open(path) as file:
        return file.convert("RGB")
