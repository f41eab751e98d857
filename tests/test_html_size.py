"""The report's page stays small: Table 2 at full size, packed curves and examples."""

import random
import re
from base64 import b64decode
from collections.abc import Collection, Sequence
from dataclasses import replace
from gzip import decompress
from pathlib import Path

import pytest

from made_up_study import TARGETS, write_study
from xstilts.analysis.results import read_results
from xstilts.html import page as page_module
from xstilts.html.page import report_page
from xstilts.languages import XTREME
from xstilts.store.rows import Prediction, Score, read_rows, write_rows
from xstilts.store.run_folder import Store


@pytest.mark.slow
def test_table_2_at_full_size_takes_less_than_two_megabytes_with_twenty_examples_a_language(tmp_path: Path) -> None:
    store = write_study(tmp_path)
    text = report_page(store, read_results(store, None))
    assert len(text.encode()) < 2_000_000
    assert text.count("<td") > 14_000
    write_wrong_predictions(store, {*re.findall(r">steps/(\w+)</a>", text)}, languages=XTREME)
    larger = report_page(store, read_results(store, None))
    examples = unpacked(larger, "examples")
    assert len(larger.encode()) < 2_000_000 < len((larger + examples).encode())
    assert examples.count("the 20 worst examples of each language</span>") == len(TARGETS)
    assert examples.count("<tr>") > 20 * len(TARGETS) * len(XTREME)


def test_curves_and_examples_of_a_large_page_are_packed_and_then_examples_fewer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = write_study(tmp_path, branches=("none", "mnli"), targets=("xnli", "pawsx"), languages=("en", "de", "sw"))
    page = report_page(store, read_results(store, None))
    assert "<template>" not in page
    monkeypatch.setattr(page_module, "MOST_BYTES", len(page.encode()) - 1000)
    packed = report_page(store, read_results(store, None))
    assert len(packed.encode()) < len(page.encode()) - 1000
    for section in ("trainings", "examples"):
        [shown] = re.findall(rf'<section id="{section}">.*?</section>', page, re.DOTALL)
        last = re.findall(r"<t[dr][ >].*?(?=<t)|<figure.*?</figure>", shown, re.DOTALL)[-1]
        assert last in unpacked(packed, section) and last not in packed
    monkeypatch.setattr(page_module, "MOST_BYTES", 1)
    assert "the 1 worst examples of each language" in unpacked(
        report_page(store, read_results(store, None)), "examples"
    )


def unpacked(page: str, section: str) -> str:
    """What a section has in its packed boxes."""
    [text] = re.findall(rf'<section id="{section}">.*?</section>', page, re.DOTALL)
    return "".join(decompress(b64decode(x)).decode() for x in re.findall("<template>(.*?)</template>", text))


def write_wrong_predictions(store: Store, steps: Collection[str], languages: Sequence[str]) -> None:
    """Add twenty wrong predictions of each language, with texts of random letters of several scripts."""
    draw, alphabets = random.Random(1), ("abcdefghijklmnopqrstuvwxyz", "абвгдежзиклмнопрстуя", "ابتثجحخدذرزسش")
    for step in steps:
        folder = store.step(step)
        rows, scores = read_rows(folder / "predictions.jsonl", Prediction), read_rows(folder / "scores.jsonl", Score)
        n = scores[0].n
        for language in languages:
            for i in range(n, n + 20):
                text = ["".join(draw.choices(draw.choice(alphabets), k=6)) for _ in range(10)]
                labels = {"prediction": "neutral", "reference": "contradiction"}
                rows.append(replace(rows[0], language=language, index=i, id=str(i), text=text, **labels))
        write_rows(folder / "predictions.jsonl", rows)
        write_rows(folder / "scores.jsonl", [replace(score, n=n + 20) for score in scores])
