"""README and docs: every command, Python and YAML block runs as it is printed, or a comment above it says why not.

    <!-- not run: REASON -->         the block is not run; the options of its commands are checked all the same
    <!-- not compared: REASON -->    it is run, and what it prints is not compared with the page

The blocks run in one folder: the files of docs/your-data.md and its two studies, done with a tiny encoder under the
name of XLM-R base.
What a `console` block shows must be printed, but for numbers and marks of significance.
"""

import csv
import io
import re
import shlex
import shutil
import subprocess
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import typer
from huggingface_hub import constants

from conftest import CliResult
from test_docs import PAGES as LOADED_PAGES
from xstilts import cli
from xstilts.study import load
from xstilts.study.plan import plan
from xstilts.tasks import TASKS
from xstilts.tasks.user_tasks import from_yaml

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "CONTRIBUTING.md", *(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md")))]
BLOCK = re.compile(r"(?:<!-- (not run|not compared): [^\n]+ -->\n)?^( *)```(\S*)\n(.*?)^ *```$", re.M | re.S)
LANGUAGES = {"bash", "console", "csv", "json", "mermaid", "python", "sh", "text", "toml", "yaml"}
RUN_ELSEWHERE = {"docs/python.md"}
"""Its blocks have a test of their own, test_python_docs.py, which compares their outputs."""
NAMED = re.compile(r"# ([\w-]+\.yaml)")
"""The comment in which a block says its file's name."""
ENCODER = "FacebookAI/xlm-roberta-base"
NUMBER = re.compile(r"[+-]?\d[\d.,]*(?:e[+-]\d+)?[◦•§]?")


class Block(NamedTuple):
    """A fenced block."""

    mark: str
    language: str
    text: str

    @property
    def commands(self) -> list[tuple[str, list[str]]]:
        """Each command with the lines that it prints."""
        lines = self.text.replace("\\\n", " ").splitlines()
        if self.language != "console":
            return [(line, []) for line in lines if line.strip() and not line.startswith("#")]
        found: list[tuple[str, list[str]]] = []
        for line in lines:
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
        return found


def blocks(page: str) -> Iterator[Block]:
    for mark, _, language, text in BLOCK.findall((ROOT / page).read_text(encoding="utf-8")):
        yield Block(mark, language, textwrap.dedent(text))


def run_blocks(page: str) -> list[Block]:
    return [one for one in blocks(page) if one.language in ("sh", "console", "python") and one.mark != "not run"]


def test_every_block_names_its_language() -> None:
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        assert {one.language for one in blocks(page)} <= LANGUAGES, page
        assert len([*blocks(page)]) * 2 == len(re.findall(r"^ *```", text, re.M)), page
        assert not re.search(r"\n\n {4}\S", BLOCK.sub("", text)), f"{page}: a command that is indented, not fenced"
        assert len(re.findall(r"<!-- not ", text)) == sum(bool(one.mark) for one in blocks(page)), page


@pytest.mark.parametrize("page", PAGES)
def test_every_command_has_options_that_exist(page: str) -> None:
    for block in blocks(page):
        if block.language in ("sh", "bash", "console"):
            for command, _ in block.commands:
                if found := re.search(r"(?:^|^[^#]* )xstilts ([a-z-].*?)( &)?$", command):
                    words = shlex.split(re.sub(r"\$\(\(.*?\)\)|\$\w+", "1", found[1]), comments=True)
                    parse(words, command)


@pytest.mark.parametrize("page", [page for page in PAGES if page not in LOADED_PAGES])
def test_the_recipes_and_task_files_of_a_page_load(page: str, tmp_path: Path) -> None:
    """Those of the other pages are read, with example rows, in test_docs.py."""
    found = [one.text for one in blocks(page) if one.language == "yaml" and one.mark != "not run"]
    paths = [tmp_path / (name[1] if (name := NAMED.match(text)) else f"{at}.yaml") for at, text in enumerate(found)]
    for path, text in zip(paths, found, strict=True):
        path.write_text(text, encoding="utf-8")
    for path, text in zip(paths, found, strict=True):
        assert plan(*load.read(str(path))).steps if "\nphases:" in text else from_yaml(path, TASKS)


def parse(words: list[str], command: str) -> None:
    """Parse a command without doing anything."""
    at = typer.main.get_command(cli.app)
    while hasattr(at, "commands"):
        if words[:1] == ["--help"]:
            return
        assert words and words[0] in at.commands, command
        at, words = at.commands[words[0]], words[1:]
    at.make_context(command, [*words])


def table(rows: list[tuple[str, str]], header: tuple[str, str] = ("text", "label")) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()


SUBJECTS = {"en": ("the pizza", "the soup"), "de": ("die Pizza", "die Suppe"), "sw": ("pizza", "supu")}
WORDS = {"en": ("great", "stale"), "de": ("herrlich", "kaputt"), "sw": ("nzuri", "mbaya")}


def reviews(language: str, start: int, rows: int) -> list[tuple[str, str]]:
    """Every second review is good; none repeats another."""
    return [
        (f"{SUBJECTS[language][i % 2]} {WORDS[language][i // 2 % 2]}, {i}", ("good", "bad")[i // 2 % 2])
        for i in range(start, start + rows)
    ]


def write_data(folder: Path) -> None:
    """The files that docs/your-data.md describes, smaller."""
    (folder / "reviews").mkdir()
    (folder / "names").mkdir()
    repeated = "I found the menu great, twice."
    test = [*reviews("en", 60, 19), (repeated, "good")]
    for name, rows in {"train.en": reviews("en", 0, 40), "dev.en": reviews("en", 40, 20), "test.en": test,
                       "test.de": reviews("de", 0, 20), "test.sw": reviews("sw", 0, 20)}.items():  # fmt: skip
        (folder / f"reviews/{name}.csv").write_text(table(rows), encoding="utf-8")
    stars = [(f"My family thought {text}.", str(1 + i % 5)) for i, (text, _) in enumerate(reviews("en", 100, 20))]
    (folder / "products.csv").write_text(table([*stars, (repeated, "5")], ("text", "stars")), encoding="utf-8")
    for name, names in {"train.en": "Anna Juma Nairobi", "dev.en": "Grace Lima", "test.en": "Goethe Kamau",
                        "test.de": "Hans Ada", "test.sw": "Juma Ruth"}.items():  # fmt: skip
        text = "".join(f"{one}\tB-PER\nlives\tO\nin\tO\n{one}ia\tB-LOC\n.\tO\n\n" for one in names.split())
        (folder / f"names/{name}.txt").write_text(text, encoding="utf-8")
    (folder / "new.txt").write_text("I found the menu great.\nDie Suppe war kalt.\nChakula kilikuwa kizuri sana.\n")
    (folder / "new.csv").write_text(table([("In London war die Karte kaputt.", "bad")]), encoding="utf-8")


def fill_cache(folder: Path, encoder: Path) -> None:
    """Make a cache of the Hub in which XLM-R base is this encoder."""
    cached = folder / f"models--{ENCODER.replace('/', '--')}"
    shutil.copytree(encoder, cached / "snapshots" / ("0" * 40))
    (cached / "refs").mkdir()
    (cached / "refs/main").write_text("0" * 40)


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the first page fills: both studies of docs/your-data.md, done."""
    return tmp_path_factory.mktemp("docs")


@pytest.fixture
def shell(
    request: pytest.FixtureRequest,
    studies: Path,
    encoder_folder: Path,
    tmp_path: Path,
    xstilts: Callable[..., CliResult],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[str], CliResult]:
    """Run a command in a copy of the folder of the studies: `xstilts` in this process, all else in a shell."""

    def call(command: str) -> CliResult:
        before, ours, after = command.rpartition("| xstilts ")
        if not ours and not command.startswith("xstilts "):
            result = subprocess.run(["bash", "-c", command], capture_output=True, encoding="utf-8", check=False)
            return CliResult(result.returncode, result.stdout, result.stderr)
        if ours:
            (tmp_path / "stdin").write_bytes(
                subprocess.run(["bash", "-c", before], stdout=subprocess.PIPE, check=True).stdout
            )
            monkeypatch.setattr("sys.stdin", piped := (tmp_path / "stdin").open(encoding="utf-8"))
            request.addfinalizer(piped.close)
        return xstilts(*shlex.split(after.removeprefix("xstilts "), comments=True))

    fill_cache(tmp_path / "hub", encoder_folder)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    if not (studies / "runs").exists():
        write_data(studies)
        for block in blocks("docs/your-data.md"):
            if block.language == "yaml" and (name := NAMED.match(block.text)):
                shorter = "seeds: [1, 2]\nsettings: {epochs: 2}\n" if "\nphases:" in block.text else ""
                (studies / name[1]).write_text(block.text + shorter, encoding="utf-8")
        monkeypatch.chdir(studies)
        for recipe in ("study-names.yaml", "study.yaml"):
            result = xstilts("run", recipe)
            assert result.code == 0, result.err
    shutil.copytree(studies, tmp_path / "work", symlinks=True)
    monkeypatch.chdir(tmp_path / "work")
    return call


def normal(line: str) -> str:
    """A line without numbers, signs and widths."""
    return " ".join(NUMBER.sub("N", line).split())


@pytest.mark.parametrize("page", [page for page in PAGES if run_blocks(page) and page not in RUN_ELSEWHERE])
def test_the_blocks_of_a_page_run(page: str, shell: Callable[[str], CliResult]) -> None:
    names: dict[str, object] = {}
    for block in run_blocks(page):
        if block.language == "python":
            exec(compile(block.text, page, "exec"), names)
            continue
        for command, lines in block.commands:
            result = shell(command)
            assert result.code == (2 if any(line.startswith("error:") for line in lines) else 0), (command, result.err)
            printed = {normal(line) for line in (result.out + result.err).splitlines()}
            missing = [line for line in lines if line != "..." and normal(line) not in printed]
            assert block.mark or not missing, (command, missing, result.out, result.err)
