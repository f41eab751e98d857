"""A newcomer's study: reviews in CSV, names in CoNLL, English labels, tests in other languages."""

import csv
import io
import itertools
import json
import signal
import subprocess
import sys
import time
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
    with (files.folder / name).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "text", "label"), *rows])


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
