"""A small study of real text, with a small real encoder and three languages."""

from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import CliResult
from xstilts.store.rows import Score, read_rows

pytestmark = pytest.mark.real

RECIPE = """\
name: real
encoder: "{data}/../models/mini-xlmr"
seeds: [1]
use: [tasks.yaml]
languages: [en, de, sw]
missing: skip
settings: {limit: 50, lr: 3e-4, batch: 16, eval_every: 100}
phases:
  - {name: target, each: [udpos, nli], settings: {steps: 40}}
evaluate: [udpos, nli, tatoeba]
"""
TASKS = """\
nli: {like: xnli, languages: [en, de, sw], data: {train: nli_small/mnli.dev.csv}}
"""


def test_forty_updates_on_real_data(shared: Path, tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    (tmp_path / "tasks.yaml").write_text(TASKS, encoding="utf-8")
    (tmp_path / "real.yaml").write_text(RECIPE, encoding="utf-8")
    result = xstilts("run", tmp_path / "real.yaml", "--out", tmp_path / "out", "--data", shared / "data")
    assert result.code == 0, result.err
    rows = [row for path in tmp_path.glob("out/steps/*/scores.jsonl") for row in read_rows(path, Score)]
    scores = {(row.task, row.language, row.split, row.metric): row.value for row in rows}
    assert all(0 <= row.value <= 100 and 0 < row.n <= 50 for row in rows)
    assert scores["udpos", "en", "dev", "token_accuracy"] > 40  # 70 here; a sixth of all tokens are nouns
    assert scores["udpos", "de", "dev", "token_accuracy"] > 25  # 38 here
    assert {(row.task, row.language) for row in rows} >= {("nli", "de"), ("nli", "sw"), ("tatoeba", "sw")}
    assert "udpos" in result.out and "sw Swahili" in result.out


@pytest.mark.parametrize("task", ["xnli", "udpos", "panx", "tatoeba"])
def test_show_works_on_real_rows(shared: Path, xstilts: Callable[..., CliResult], task: str) -> None:
    model = shared / "models/mini-xlmr"
    result = xstilts("show", task, "de", 7, "--data", shared / "data", "--encoder", model)
    assert result.code == 0, result.err
    assert str(shared / "data") in result.out and "reference" in result.out and "▁" in result.out
