"""Architecture: imports run one way, a task's name stands in one place, torch is loaded late."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import xstilts
from conftest import without_torch
from xstilts.tasks import TASKS

ROOT = Path(xstilts.__file__).parent
PAGE = (ROOT.parents[1] / "docs/architecture.md").read_text(encoding="utf-8")
TENSORS = {"model", "training", "compute", "execution", "predict", "rank"}


def sources() -> Iterator[tuple[str, Path, ast.AST]]:
    """Each file of a wing, with the wing's name."""
    for path in sorted(ROOT.rglob("*.py")):
        wing = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if wing != "__init__":
            yield wing, path, ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_the_picture_of_the_wings_shows_how_they_import_one_another() -> None:
    wings: dict[str, set[str]] = defaultdict(set)
    for wing, _, tree in sources():
        wings[wing] |= {name.split(".")[1] for name in imported(tree) if name.startswith("xstilts.")} - {wing}
    reached: dict[str, set[str]] = {}
    for wing in TopologicalSorter(wings).static_order():  # which raises CycleError for a circle of imports
        reached[wing] = wings[wing].union(*(reached[other] for other in wings[wing]))
    direct = {
        f"{wing} --> {other}"
        for wing, others in wings.items()
        for other in others
        if not any(other in reached[between] for between in others)
    }
    assert set(re.findall(r"^    (\w+ --> \w+)$", PAGE, re.MULTILINE)) == direct
    assert set(re.findall(r"^\| `(\w+)` \| ", PAGE, re.MULTILINE)) == wings.keys()


def test_the_page_names_files_that_are_there() -> None:
    named = re.findall(r"`([\w/]+\.py)`", PAGE)
    assert (
        named and [name for name in named if not any((base / name).is_file() for base in (ROOT, ROOT.parents[1]))] == []
    )


def test_torch_is_imported_only_where_tensors_are() -> None:
    for room, path, tree in sources():
        heavy = [name for name in imported(tree) if name.split(".")[0] in ("torch", "transformers", "safetensors")]
        assert room in TENSORS or not heavy, f"{path} imports {heavy}"


def test_the_name_of_a_task_stands_in_the_catalogue_only() -> None:
    for room, path, tree in sources():
        literals = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        assert room == "tasks" or not literals & TASKS.keys(), path


def test_every_file_says_what_it_is_for_and_is_no_longer_than_400_lines() -> None:
    for _, path, tree in sources():
        assert ast.get_docstring(tree), path
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, path


@pytest.mark.parametrize(
    "command",
    [
        ["check", "quickstart"],
        ["plan", "quickstart", "--json"],
        ["tasks"],
        ["score", "--predictions", "none", "--labels", "none"],
        ["report", "none", "--format", "submission"],
        ["data", "fetch", "playground"],
        ["--help"],
    ],
    ids=lambda command: command[0],
)
def test_commands_that_need_no_tensors_do_not_load_torch(command: list[str]) -> None:
    without_torch(*command)
