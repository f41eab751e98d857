"""The page and the notebook on the Python names show what their code really prints, but for trained numbers."""

import contextlib
import inspect
import io
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import xstilts

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/python.md").read_text(encoding="utf-8")
NOTEBOOK = ROOT / "examples/pairs.ipynb"


def masked(text: str) -> list[str]:
    """The words of a text, each number and the marks beside it replaced: another machine rounds otherwise."""
    return re.sub(r"-?\d+(\.\d+)?§?", "0", text).split()


@pytest.mark.slow
def test_the_examples_of_the_page_print_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XSTILTS_DATA", raising=False)
    names: dict[str, object] = {}
    found = re.findall(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert len(found) == PAGE.count("```python\n") > 6
    for code, printed in found:
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile(code, "docs/python.md", "exec"), names)
        assert masked(out.getvalue()) == masked(printed), code


def test_the_page_has_every_name_and_the_true_signatures() -> None:
    listed = PAGE.partition("## All names")[2]
    for name in xstilts.__all__:
        member = getattr(xstilts, name)
        shown = f"`{name}`"
        if inspect.isfunction(member):
            parameters = inspect.signature(member).parameters.values()
            first = next(one.name for one in parameters if one.kind is one.KEYWORD_ONLY)
            parts = [
                f"{'*, ' if one.name == first else ''}{one.name}"
                + ("" if one.default is one.empty else f"={one.default!r}".replace("'", '"'))
                for one in parameters
            ]
            shown = f"`{name}({', '.join(parts)})`"
        assert shown in listed


@pytest.mark.slow
def test_the_notebook_prints_what_it_stores(tmp_path: Path) -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    stored, run = (nbformat.reads(text, as_version=4) for _ in range(2))
    NotebookClient(run, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    for before, after in zip(stored.cells, run.cells, strict=True):
        assert outputs(before) == outputs(after), before.source
    assert "zero-shot" in text and len(text) < 20_000
    assert not re.search(r"/(home|root|tmp|work)/", text), "a path of one machine"


def outputs(cell: nbformat.NotebookNode) -> dict[str, list[str]]:
    """The masked text of each stream of a cell, and of its value."""
    found: dict[str, str] = {}
    for one in cell.get("outputs", []):
        text = one.get("text") or one["data"]["text/plain"]
        if "TqdmWarning" not in text:  # of another library, where Jupyter's widgets are not installed
            found[one.get("name", "value")] = found.get(one.get("name", "value"), "") + text
    return {name: masked(text) for name, text in found.items()}
