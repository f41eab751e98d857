"""The walls of the house: imports run one way, a task's name stands in one place, torch is loaded late."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import xstilts
from conftest import without_torch
from xstilts.tasks import TASKS

ROOT = Path(xstilts.__file__).parent
FLOORS = [
    {"errors", "playground"},
    {"languages", "utils", "compute", "render", "metrics"},
    {"formats"},
    {"tasks"},
    {"data", "model"},
    {"training", "corpus", "translate"},
    {"study"},
    {"store"},
    {"execution", "analysis"},
    {"predict", "report"},
    {"rank", "leaderboard"},
    {"cli"},
]
LAYERS = [room for floor in FLOORS for room in sorted(floor)]
TENSORS = {"model", "training", "compute", "execution", "predict", "rank"}


def sources() -> Iterator[tuple[str, Path, ast.AST]]:
    for path in sorted(ROOT.rglob("*.py")):
        room = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if room != "__init__":
            yield room, path, ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_imports_run_one_way() -> None:
    for room, path, tree in sources():
        for name in imported(tree):
            if name.startswith("xstilts."):
                other = name.split(".")[1]
                assert LAYERS.index(other) <= LAYERS.index(room), f"{path} imports {name}"


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
