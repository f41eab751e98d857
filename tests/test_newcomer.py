"""A newcomer's studies: from CSV files to a model elsewhere by commands alone; and what one changes afterwards."""

import csv
import io
import itertools
import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from conftest import Files

GOOD = {"en": "good kind warm", "de": "gut nett warm", "sw": "nzuri mwema safi", "es": "bueno amable rico"}
BAD = {"en": "bad rude cold", "de": "schlecht grob kalt", "sw": "mbaya mkali baridi", "es": "malo grosero frío"}
NOUN = {"en": "The soup was", "de": "Die Suppe war", "sw": "Supu ilikuwa", "es": "La sopa estaba"}
NAMES = ("Ada", "Nairobi", "Goethe", "Lima")

RECIPE = """\
name: reviews
encoder: ENCODER
seeds: [1, 2]
use: [mine.yaml]
settings: {lr: 3e-3, epochs: 2, batch: 8}
phases:
  - {name: intermediate, choices: [[], [names]]}
  - {name: target, each: [reviews]}
evaluate: [reviews]
"""

STOCK = """\
import json, sys
sys.modules["xstilts"] = None  # so an import of it fails
from transformers import pipeline
classify = pipeline("text-classification", model=sys.argv[1])
json.dump([(one["label"], one["score"]) for one in classify(json.load(sys.stdin), truncation=True)], sys.stdout)
"""
"""Labels and scores of texts by transformers alone."""

TASKS = """\
reviews:
  format: classify
  texts: [text]
  labels: [bad, good]
  data: {train: train.csv, dev: dev.csv, test: "test.{lang}.csv"}
  languages: [en, de, sw]
names:
  format: tag
  data: {train: names.txt, dev: names.txt, test: "names.{lang}.txt"}
  languages: [en, de]
"""


def reviews(language: str, rows: int) -> list[tuple[str, str, str]]:
    """Reviews with the user's own ids; every second one is good."""
    words = itertools.cycle(zip(GOOD[language].split(), BAD[language].split(), strict=True))
    pairs = [(good, bad) for good, bad in itertools.islice(words, rows)]
    return [
        (f"{language}-{i}", f"{NOUN[language]} {pair[i % 2]}, {i} euros.", ("good", "bad")[i % 2])
        for i, pair in enumerate(pairs)
    ]


def write_csv(files: Files, name: str, rows: list[tuple[str, str, str]]) -> None:
    write_table(files.folder / name, [("id", "text", "label"), *rows])


def write_table(path: Path, rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def stock_answers(folder: Path, texts: list[str]) -> list[tuple[str, float]]:
    """What transformers' pipeline says in a fresh process that cannot import X-STILTs."""
    result = subprocess.run([sys.executable, "-c", STOCK, str(folder)], input=json.dumps(texts), cwd=folder.parent,
                            capture_output=True, encoding="utf-8", check=True)  # fmt: skip
    return [(label, score) for label, score in json.loads(result.stdout)]


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["tiny", "mini-xlmr"])
def test_from_csv_files_to_a_model_elsewhere(encoder: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """A file of English reviews, one of stars, a few reviews in other languages; each command as it is printed."""
    folder = request.getfixturevalue("encoder_folder" if encoder == "tiny" else "shared")
    model = folder if encoder == "tiny" else folder / "models" / encoder
    if not model.is_dir():
        pytest.skip(f"needs {model}")
    write_table(tmp_path / "reviews.csv", [("id", "text", "label"), *reviews("en", 300)])
    for language in ("de", "sw", "es"):
        write_table(tmp_path / f"test.{language}.csv", [("id", "text", "label"), *reviews(language, 30)])
    words = [*zip(BAD["en"].split(), (1, 2, 1), strict=True), *zip(GOOD["en"].split(), (4, 5, 5), strict=True)]
    stars = [(f"Parcel {i} was {word}.", count) for i, (word, count) in enumerate(words * 30)]
    (tmp_path / "stars").mkdir()
    write_table(tmp_path / "stars/products.csv", [("body", "stars"), *stars])

    def xstilts(*arguments: str) -> str:
        command = [sys.executable, "-m", "xstilts.cli", *arguments]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", check=False)
        assert result.returncode == 0, (arguments, result.stderr)
        return result.stdout

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    files = ["reviews.csv", *(f"test.{language}.csv" for language in ("de", "sw", "es"))]
    assert "train en, dev en, test en de sw es" in xstilts("new", "task", *files)
    assert "xstilts new recipe stars/my-products.yaml" in xstilts("new", "task", "stars")
    assert "test" in xstilts("data", "check", "--use", "my-reviews.yaml")
    xstilts("new", "recipe", "my-reviews.yaml", "stars/my-products.yaml", "--intermediate", "my-products",
            "--encoder", str(model))  # fmt: skip
    recipe = tmp_path / "my-reviews-study.yaml"
    text = recipe.read_text(encoding="utf-8").replace("seeds: [1, 2, 3]", "seeds: [1]")
    recipe.write_text(text.replace("# settings: {lr: 2e-5, epochs: 10}", "settings: {lr: 1e-4, epochs: 2}"))
    assert "no mistakes; 3 trainings, 8 evaluations\n" in (checked := xstilts("check", recipe.name))
    assert "optimistic" not in checked, "dev and test data are different parts of one file"
    shown = xstilts("run", recipe.name)
    assert "zero-shot" in shown and xstilts("report", "runs") in shown
    best = "runs/best/my-reviews/my-reviews"
    predicted = [json.loads(line) for language in ("de", "sw")
                 for line in xstilts("predict", best, f"test.{language}.csv").splitlines()]  # fmt: skip
    assert [one["id"] for one in predicted] == [id for language in ("de", "sw") for id, *_ in reviews(language, 30)]
    assert "XLMRobertaForSequenceClassification" in xstilts("export", best, "elsewhere")
    labels, scores = zip(*stock_answers(tmp_path / "elsewhere", [one["text"] for one in predicted]), strict=True)
    assert labels == tuple(one["label"] for one in predicted)
    assert scores == pytest.approx([max(one["probabilities"].values()) for one in predicted], abs=1e-3)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert seconds < 120, "of processor time"


@pytest.fixture
def newcomer(tmp_path: Path, encoder_folder: Path, xstilts: object) -> Files:
    files = Files(tmp_path, xstilts)  # type: ignore[arg-type]
    files.write("recipe.yaml", RECIPE.replace("ENCODER", str(encoder_folder)))
    files.write("mine.yaml", TASKS)
    write_csv(files, "train.csv", reviews("en", 40))
    write_csv(files, "dev.csv", reviews("en", 60)[40:])
    for language in ("en", "de", "sw", "es"):
        write_csv(files, f"test.{language}.csv", reviews(language, 90)[60:])
    names = "".join(f"{name} B-{'LOC' if i % 2 else 'PER'}\nsleeps O\n\n" for i, name in enumerate(NAMES))
    for name in ("names.txt", "names.en.txt", "names.de.txt"):
        files.write(name, names)
    return files


def test_from_a_csv_to_a_believed_answer(newcomer: Files) -> None:
    """Check, plan, run, stop, resume, report; then another language, another learning rate, another test file."""
    recipe, out = newcomer.folder / "recipe.yaml", newcomer.out
    assert newcomer.call("check", recipe).code == 0
    planned = newcomer.call("plan", recipe).out
    assert "6 trainings" in planned and "lr 3e-3, epochs 2, batch 8 (recipe.yaml, line 5)" in planned

    command = [sys.executable, "-m", "xstilts.cli", "run", str(recipe), "--out", str(out)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as stopped:
        while not list(out.glob("steps/*/done.json")):
            assert stopped.poll() is None
            time.sleep(0.05)
        stopped.send_signal(signal.SIGTERM)
    done = {path: path.read_bytes() for path in out.glob("steps/*/done.json")}
    assert newcomer.run().code == 0
    assert done and all(path.read_bytes() == content for path, content in done.items())
    rows = significance(newcomer)
    assert list(rows) == ["zero-shot", "mean", "en", "de", "sw"]
    assert {row["paired"] for row in rows.values()} == {"2"}
    answers = [json.loads(line) for line in (out / "best/reviews/reviews.predictions.jsonl").read_text().splitlines()]
    german = [answer for answer in answers if answer["language"] == "de"]
    assert [answer["id"] for answer in german] == [f"de-{i}" for i in range(60, 90)]
    assert all(sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-3) for answer in german)

    newcomer.edit("mine.yaml", "[en, de, sw]", "[en, de, sw, es]")
    assert newcomer.run().code == 0
    assert list(significance(newcomer)) == ["zero-shot", "mean", "en", "de", "sw", "es"]

    newcomer.edit("recipe.yaml", "lr: 3e-3", "lr: 1e-3")
    result = newcomer.run()
    assert result.code == 0 and "the earlier 'reviews' stays as 'reviews@2'" in result.err
    compared = newcomer.call("report", out, "--compare", "reviews@2").out
    assert "difference: reviews minus reviews@2 at the same seed" in compared

    write_csv(newcomer, "test.sw.csv", reviews("sw", 80)[60:])
    result = newcomer.run()
    assert result.code == 2 and "test.sw.csv: has changed" in result.err and "--redo" in result.err
    assert newcomer.run("--redo").code == 0
    assert {language: row["n"] for language, row in significance(newcomer).items() if language in ("de", "sw")} == {
        "de": "30",
        "sw": "20",
    }


def significance(newcomer: Files) -> dict[str, dict[str, str]]:
    """The rows of the branch with the intermediate task, by language."""
    text = newcomer.call("report", newcomer.out, "--layout", "significance", "--format", "csv").out
    return {row["language"]: row for row in csv.DictReader(io.StringIO(text)) if row["branch"] == "names"}
