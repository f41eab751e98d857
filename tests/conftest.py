"""Fixtures that several test files use: a tiny encoder, a tiny study on files of its own, the command line."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell script starts background processes so
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for matrices this small a second thread costs more than it brings

import pytest

SENTENCES = (
    "The cat sleeps on the warm stone wall.",
    "She read the whole letter twice before dinner.",
    "Nobody knew where the old bridge had been.",
    "A man is playing a guitar on the street.",
    "Der Hund schläft unter dem alten Tisch.",
    "Sie las den ganzen Brief noch einmal.",
    "Niemand wusste, wo die Brücke gewesen war.",
    "Watoto wanacheza mpira nje ya nyumba.",
    "Mama anapika chakula cha jioni leo.",
    "Кошка спит на тёплой каменной стене.",
    "Она дважды прочитала всё письмо.",
    "Никто не знал, где был старый мост.",
    "Η γάτα κοιμάται πάνω στον τοίχο.",
    "Διάβασε το γράμμα δύο φορές.",
    "القط ينام على الجدار الحجري الدافئ.",
    "قرأت الرسالة كلها مرتين قبل العشاء.",
    "बिल्ली गर्म दीवार पर सो रही है।",
    "उसने पूरा पत्र दो बार पढ़ा।",
    "猫睡在温暖的石墙上。",
    "她在晚饭前把信读了两遍。",
)
"""Twenty sentences in six scripts."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Reverse the tests if XSTILTS_TEST_ORDER asks for it: no test may need another before it."""
    if os.environ.get("XSTILTS_TEST_ORDER") == "reversed":
        items.reverse()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and reference results, which lies outside the repository."""
    folder = Path(os.environ.get("XSTILTS_SHARED") or Path(__file__).parents[2] / "shared")
    if not folder.is_dir():
        pytest.skip("needs the shared reference data (set XSTILTS_SHARED)")
    return folder


@pytest.fixture(scope="session")
def apertium() -> None:
    """Skip a test that translates from English to Spanish where Apertium cannot."""
    listed = ["apertium", "-l"]
    if not shutil.which("apertium") or b"eng-spa" not in subprocess.run(listed, capture_output=True, check=True).stdout:
        pytest.skip("needs Apertium: apt-get install apertium apertium-eng-spa")


@pytest.fixture(scope="session")
def sentences() -> tuple[str, ...]:
    return SENTENCES


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved encoder of two layers of 16 with a language-model head; 64 tokens at most."""
    from xstilts.model.new_encoder import create
    from xstilts.model.shape import NewEncoder

    folder = tmp_path_factory.mktemp("models") / "tiny"
    shape = NewEncoder(text="none", layers=2, hidden=16, heads=2, vocabulary=400, max_length=64)
    create(shape, SENTENCES).save(folder)
    return folder


@pytest.fixture(scope="session")
def with_dropout(encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same encoder with dropout, whose random numbers are part of a training's state."""
    folder = shutil.copytree(encoder_folder, tmp_path_factory.mktemp("models") / "dropout")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def tiny(encoder_folder: Path) -> Any:
    """The tiny encoder, shared and read-only; a test that trains loads its own."""
    from xstilts.model.encoder import load

    return load(str(encoder_folder)).eval()


def failing_at(function: Callable[..., Any], number: int, error: BaseException, times: int = 1) -> Callable[..., Any]:
    """The same function, except that some `times` calls raise an error, beginning with the call of this number."""
    calls = 0

    def call(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if number <= calls < number + times:
            raise error
        return function(*arguments, **named)

    return call


@dataclass(frozen=True)
class CliResult:
    """Exit code and output of a call of the command line."""

    code: int
    out: str
    err: str


@pytest.fixture
def xstilts(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., CliResult]:
    """Call the command line in this process."""
    from xstilts import cli

    monkeypatch.delenv("XSTILTS_DATA", raising=False)

    def call(*arguments: object) -> CliResult:
        monkeypatch.setattr(sys, "argv", ["xstilts", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_info:
            cli.main()
        result = capsys.readouterr()
        return CliResult(int(exit_info.value.code or 0), result.out, result.err)

    return call


def markdown_rows(text: str) -> dict[str, list[str]]:
    """The cells of Markdown tables by the first cell of each row."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return {label: cells for label, *cells in lines}


def without_torch(*arguments: object) -> str:
    """The output of the command line in a process of its own; assert that it loads no torch."""
    code = f"import sys; sys.argv[1:] = {list(map(str, arguments))!r}; from xstilts.cli import main\n"
    code += "try: main()\nexcept SystemExit: print(*sys.modules, file=sys.stderr)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    loaded = set(result.stderr.split())
    assert "xstilts.cli" in loaded and not {"torch", "transformers", "tokenizers"} & loaded
    return result.stdout


@dataclass(frozen=True)
class Files:
    """A study on its own files: sentence pairs to train on, in English and German, and translations to find."""

    folder: Path
    call: Callable[..., CliResult]

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.folder / name).read_text(encoding="utf-8")
        assert old in text
        self.write(name, text.replace(old, new, 1))

    def run(self, *more: object) -> CliResult:
        return self.call("run", self.folder / "recipe.yaml", "--out", self.out, *more)

    def refused(self, *pieces: str, lines: int = 1) -> None:
        """Assert that a run prints all `pieces`, in `lines` errors, and writes nothing."""
        result = self.run()
        assert result.code == 2
        assert [piece for piece in pieces if piece not in result.err] == [], result.err
        assert (result.err.count("error: "), result.err.count("\n")) == (lines, lines), result.err
        assert not self.out.exists()


@pytest.fixture
def study(tmp_path: Path, encoder_folder: Path, xstilts: Callable[..., CliResult]) -> Files:
    """One task is scored without training; another is trained with one seed and scored in two languages."""
    files = Files(tmp_path, xstilts)
    files.write("recipe.yaml", RECIPE.replace("ENCODER", str(encoder_folder)))
    files.write("tasks.yaml", TASKS)
    labels = ("entailment", "neutral", "contradiction")
    for split, language, start in (("train", "en", 0), ("dev", "en", 3), ("dev", "de", 4), ("test", "de", 0)):
        more = " Ja." if split == "train" else ""
        rows = [f"{SENTENCES[start + i % 4]}\t{SENTENCES[i % 7]}{more}\t{labels[i % 3]}\n" for i in range(12)]
        files.write(f"{split}-{language}.tsv", "".join(rows))
    files.write("de.txt", "\n".join(SENTENCES[4:7]))
    files.write("en.txt", "\n".join((SENTENCES[0], SENTENCES[1], SENTENCES[2])))
    return files


RECIPE = """\
name: tiny
encoder: ENCODER
seeds: [1]
use: [tasks.yaml]
settings: {steps: 2, lr: 1e-3, batch: 4, max_length: 32}
phases:
  - {name: target, each: [mine]}
evaluate: [pairs, mine]
keep: all
"""

TASKS = """\
mine:
  like: xnli
  languages: [en, de]
  data: {train: train-en.tsv, dev: "dev-{lang}.tsv", test: "test-{lang}.tsv"}
pairs:
  like: tatoeba
  languages: [de]
  data: {test: {path: de.txt, pair: en.txt}}
"""
