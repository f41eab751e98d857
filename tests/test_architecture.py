"""Architecture: imports run one way, only `tasks` names a task, torch is loaded late."""

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
ARCHITECTURE = (ROOT.parents[1] / "docs/architecture.md").read_text(encoding="utf-8")
PUBLIC = {"_asdict", "_exit", "_replace"}
"""Public names that start with an underscore."""
TORCH_PACKAGES = {"model", "training", "compute", "execution", "predict", "rank", "translate"}


def sources() -> Iterator[tuple[str, Path, ast.AST]]:
    """Each file with its package and its syntax tree."""
    for path in sorted(ROOT.rglob("*.py")):
        package = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if package != "__init__":
            yield package, path, ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def direct_imports() -> tuple[set[str], set[tuple[str, str]]]:
    """The packages, and which imports which; an import that others imply is left out."""
    packages: dict[str, set[str]] = defaultdict(set)
    for package, _, tree in sources():
        packages[package] |= {name.split(".")[1] for name in imported(tree) if name.startswith("xstilts.")} - {package}
    reached: dict[str, set[str]] = {}
    for package in TopologicalSorter(packages).static_order():  # which raises CycleError for a circle of imports
        reached[package] = packages[package].union(*(reached[other] for other in packages[package]))
    return {*packages}, {
        (package, other)
        for package, others in packages.items()
        for other in others
        if not any(other in reached[between] for between in others)
    }


def test_the_picture_of_architecture_md_equals_the_imports() -> None:
    packages, arrows = direct_imports()
    [picture] = re.findall(r"!\[[^]]+\]\((assets/\S+\.svg)\)", ARCHITECTURE)
    titles = re.findall(r"<title>(.*?)</title>", (ROOT.parents[1] / "docs" / picture).read_text(encoding="utf-8"))
    shown = {tuple(title.split("&#45;&gt;")) for title in titles if "&gt;" in title}
    assert shown == arrows, "python tests/pictures.py renews the picture"
    assert packages <= {*titles}
    assert set(re.findall(r"^\| `(\w+)` \| ", ARCHITECTURE, re.MULTILINE)) == packages


def test_every_file_that_architecture_md_names_exists() -> None:
    named = re.findall(r"`([\w/]+\.py)`", ARCHITECTURE)
    assert (
        named and [name for name in named if not any((base / name).is_file() for base in (ROOT, ROOT.parents[1]))] == []
    )


def test_torch_is_imported_only_in_seven_packages() -> None:
    for package, path, tree in sources():
        heavy = [name for name in imported(tree) if name.split(".")[0] in ("torch", "transformers", "safetensors")]
        assert package in TORCH_PACKAGES or not heavy, f"{path} imports {heavy}"


def used(tree: ast.AST) -> Iterator[str]:
    """Names of attributes and imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and re.match(r"\w+\._", node.value):
            yield node.value.split(".")[1]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "setattr"):
            yield node.args[1].value if isinstance(node.args[1], ast.Constant) else ""
    for name in imported(tree):
        yield from name.split(".")


def defined(tree: ast.AST) -> Iterator[str]:
    """Names of functions, and of what is assigned to `self` or in a class."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
            yield node.attr


def test_only_one_file_uses_private_names_of_other_libraries() -> None:
    own = PUBLIC.union(*(defined(tree) for _, _, tree in sources()))
    for _, path, tree in sources():
        others = {name for name in used(tree) if re.match(r"_[A-Za-z]", name)} - own
        assert bool(others) == (path.name == "private.py"), f"{path}: {others}"


def test_only_the_tasks_package_names_a_task() -> None:
    for package, path, tree in sources():
        literals = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        assert package == "tasks" or not literals & TASKS.keys(), path


def test_every_file_has_a_docstring_and_at_most_400_lines() -> None:
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
        ["predict", "--help"],
        ["serve", "--help"],
        ["--help"],
    ],
    ids=lambda command: command[0],
)
def test_these_commands_do_not_load_torch(command: list[str]) -> None:
    without_torch(*command)
