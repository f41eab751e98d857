"""The documentation is true: its YAML loads, its rows can be read, every recipe field is in it."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import xstilts
from conftest import CliResult
from xstilts.formats import FORMATS, Retrieve, Span
from xstilts.formats.base import Format
from xstilts.metrics import METRICS
from xstilts.model.shape import NewEncoder
from xstilts.study import load
from xstilts.study.defaults import BUDGET, USER_DATA_LR, WARMUP, WEIGHT_DECAY
from xstilts.study.phase import Chain, Merge, Part, Phase, Settings
from xstilts.study.plan import plan
from xstilts.study.recipe import Recipe, Start
from xstilts.tasks import TASKS
from xstilts.tasks.task import Split, Task
from xstilts.tasks.user_tasks import USER_DATA_SETTINGS, from_yaml

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/recipes.md").read_text(encoding="utf-8")
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = ("README.md", "CONTRIBUTING.md", "docs/data.md", "docs/tasks.md", "docs/recipes.md", "docs/your-data.md")
BLOCK = re.compile(r"^(?:`([\w./-]+\.\w+)`[^\n]*\n\n)?```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
"""A fenced block: the file's name if the line before begins with one, the language, the text."""
MODELS: dict[str, tuple[type[BaseModel], ...]] = {
    "A recipe": (Recipe,), "Phases": (Phase, Part), "Merged encoders": (Merge,), "Chains": (Chain,),
    "Settings": (Settings,), "A new encoder": (NewEncoder,), "Several encoders": (Start,),
    "Your own task": (Task,), **{name: (kind,) for name, kind in FORMATS.items()},
}  # fmt: skip


def blocks(page: str) -> Iterator[tuple[str, str, str]]:
    for found in BLOCK.finditer((ROOT / page).read_text(encoding="utf-8")):
        yield found[1] or "", found[2], found[3]


def section(title: str) -> str:
    found = re.search(rf"^#+ {title}$(.*?)(?=^#|\Z)", re.sub(r"^# ", "", PAGE, flags=re.MULTILINE), re.M | re.S)
    assert found, title
    return found[1]


def table(text: str) -> dict[str, str]:
    """The defaults of the fields in a section's tables."""
    return dict(re.findall(r"^\| `(\w+)` \| (.+?) \| .+ \|$", text, flags=re.MULTILINE))


def spelled(field: FieldInfo) -> str:
    """A default as the page spells it; a dash where there is none."""
    value: Any = field.default
    if isinstance(value, BaseModel):
        value = {}
    if field.is_required() or value in (None, ""):
        return "–"
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    text = str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
    return f"`{text}`"


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], list[Path]]:
    """Write what a page shows: its tasks as one `mine.yaml`, its data files; its recipes are returned."""

    def write(page: str) -> list[Path]:
        tasks = ""
        recipes: list[Path] = []
        for name, language, text in blocks(page):
            if language == "yaml" and "\nevaluate:" in text:
                recipes.append(tmp_path / f"{len(recipes)}.yaml")
                recipes[-1].write_text(text, encoding="utf-8")
            elif language == "yaml":
                tasks += text
                if own := re.match(r"# ([\w-]+\.yaml)", text):
                    (tmp_path / own[1]).write_text(text, encoding="utf-8")
            elif name:
                path = tmp_path / name
                path.parent.mkdir(exist_ok=True)
                path.write_text(text, encoding="utf-8")
        if tasks:
            (tmp_path / "mine.yaml").write_text(tasks, encoding="utf-8")
        return recipes

    return write


@pytest.mark.parametrize("page", PAGES)
def test_the_yaml_examples_of_a_page_load(
    page: str, written: Callable[[str], list[Path]], tmp_path: Path, xstilts: Callable[..., CliResult]
) -> None:
    recipes = written(page)
    tasks = from_yaml(tmp_path / "mine.yaml", TASKS)
    assert tasks
    on_dev = [task.name for task in tasks.values() if set(task.scored) != task.data.keys() & {"dev", "test"}]
    assert on_dev == (["pawsx-mini"] if page == "docs/tasks.md" else []), "else a page shows a task that is not scored"
    for path in recipes:
        assert plan(*load.read(str(path))).cells
        errors = xstilts("check", path).err.splitlines()  # a page shows one file of several
        assert all(": no data for '" in line or line.endswith("lists them") for line in errors), errors
    assert len(recipes) == {"README.md": 1, "docs/recipes.md": 6, "docs/your-data.md": 2}.get(page, 0)


@pytest.mark.parametrize(("page", "files"), [("README.md", 1), ("docs/recipes.md", 13), ("docs/your-data.md", 3)])
def test_the_example_rows_of_a_page_can_be_read_by_their_tasks(
    page: str, files: int, written: Callable[[str], list[Path]], tmp_path: Path, xstilts: Callable[..., CliResult]
) -> None:
    written(page)
    mine = tmp_path / "mine.yaml"
    tasks = from_yaml(mine, TASKS)
    result = xstilts("data", "check", *tasks, "--use", mine, "--json")
    assert (result.code, result.err) == (0, "")
    rows = [row for row in json.loads(result.out) if row["found"]]
    shown = {tmp_path / name for name, _, _ in blocks(page) if name}
    assert len(shown) == files
    assert {Path(file["path"]) for row in rows for file in row["files"]} == shown
    assert {row["task"] for row in rows} == tasks.keys()
    for row in rows:
        assert row["examples"] and row["labels"] is not False and not row["problems"] and not row["notes"], row
        reported = xstilts("show", row["task"], row["language"], 0, "--split", row["split"], "--use", mine)
        assert (reported.code, reported.err) == (0, ""), row


@pytest.mark.parametrize("title", MODELS)
def test_every_recipe_field_is_documented_with_its_default(title: str) -> None:
    fields = {name: field for model in MODELS[title] for name, field in model.model_fields.items()}
    cells = table(section(title))
    if title == "Your own task":
        del fields["name"], fields["like"]
        assert cells.pop("like") == "–" and cells["metrics"] == "the format's"
        del fields["metrics"], cells["metrics"]
    assert cells.keys() == fields.keys()
    if title != "Settings":  # its defaults come from elsewhere
        assert cells == {name: spelled(field) for name, field in fields.items()}


def test_the_documented_training_defaults_are_the_real_ones(tmp_path: Path) -> None:
    cells = table(section("Settings"))
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "name: all\nencoder: some/encoder\nevaluate: xnli\n"
        "phases: [{name: one, choices: [[mnli], [mnli, masked-text], [mnli, qqp]]}, {name: two, each: xnli}]"
    )
    trainings = [step.training for step in plan(*load.read(str(path))).steps.values() if step.training]
    others = "else 1e-5, 5e-6 where raw text is in the mixture, 3e-6 in `each`"
    assert cells["lr"] == f"{USER_DATA_LR:.0e} on [your own data](training.md#your-own-data); {others}".replace(
        "e-0", "e-"
    )
    assert {training.lr for training in trainings} == {1e-5, 5e-6, 3e-6}
    assert cells["epochs"] == "the task's; 3 for built-in tasks where several labelled tasks are mixed"
    assert {tuple(part.epochs for part in training.parts) for training in trainings} == {(2,), (2, 1), (3, 3)}
    assert f"{BUDGET:,}" in section("Settings")
    for training in trainings:
        found = [cells[name].strip("`") for name in ("warmup", "weight_decay", "precision", "patience")]
        assert found == [str(value) for value in (training.warmup, training.weight_decay, training.precision,
                                                  training.patience)]  # fmt: skip


def test_the_documented_defaults_on_the_users_own_data_are_the_real_ones() -> None:
    page = Path(__file__).parents[1] / "docs" / "training.md"
    text = page.read_text(encoding="utf-8").partition("## Your own data")[2].partition("## Mixtures")[0]
    batch, epochs = USER_DATA_SETTINGS["batch"], USER_DATA_SETTINGS["epochs"]
    lr = f"{USER_DATA_LR:.0e}".replace("e-0", "e-")
    assert f"| {lr}, {batch}, {WARMUP:g}, {WEIGHT_DECAY:g} |" in text and f"| `epochs` | {epochs} |" in text


def test_every_split_is_documented() -> None:
    assert tuple(table(section("Splits"))) == get_args(Split)


@pytest.mark.parametrize("name", FORMATS)
def test_every_metric_is_documented_under_its_format(name: str) -> None:
    kinds: dict[str, list[Format]] = {
        "span": [Span(), Span(no_answer=True)],
        "retrieve": [Retrieve(), Retrieve(find="mined"), Retrieve(find="ranked")],
    }
    shapes = kinds.get(name, [FORMATS[name].model_construct()])
    metrics = {metric for shape in shapes for metric in (*shape.supported_metrics, *shape.metrics)}
    listed = re.search(r"^Metrics: (.*?)\n\n", section(name), re.M | re.S)
    assert listed
    assert metrics == set(re.findall(r"`([\w@]+)`", listed[1])) & METRICS.keys()


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *(f"docs/{page.name}" for page in DOCS)])
def test_links_between_pages_resolve(page: str) -> None:
    for link in re.findall(r"\]\((?!http)([^)]+)\)", (ROOT / page).read_text(encoding="utf-8")):
        name, _, anchor = link.partition("#")
        to = (ROOT / page).parent / name if name else ROOT / page
        made = to.name == "report.html" and (to.parent / "store.json").exists()  # by `make docs`
        assert made or (to.exists() and (not anchor or anchor in anchors(to))), link


def test_the_map_of_the_code_names_files_and_functions_that_exist() -> None:
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").partition("## Where to find")[2]
    entries = re.findall(r"`(\w+/\w+\.py)`(?:: `(\w+)`)?", page)
    assert len(entries) > 10
    for path, name in entries:
        code = (ROOT / "src/xstilts" / path).read_text(encoding="utf-8")
        assert not name or re.search(rf"^(?: *def )?{name}\b", code, re.M), (path, name)


def test_every_public_name_of_the_package_can_be_loaded() -> None:
    assert all(getattr(xstilts, name) is not None for name in xstilts.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        xstilts.nothing  # noqa: B018
