"""The quality of translations: BLEU and chrF against the same rows in another data folder."""

import gzip
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import CliResult
from xstilts.errors import UserError
from xstilts.formats import Classify, Span
from xstilts.formats.base import Row
from xstilts.translate.quality import check_same_rows, compare_rows, measure

Cli = Callable[..., CliResult]
needs_sacrebleu = pytest.mark.skipif(
    importlib.util.find_spec("sacrebleu") is None, reason='needs sacrebleu (pip install "xstilts[mt]")'
)
NLI = Classify(labels=("yes", "no"))
SOURCE = [
    {"premise": "Zoe rides home.", "hypothesis": "Zoe moves.", "label": "yes"},
    {"premise": "The lake is cold today.", "hypothesis": "The lake is hot.", "label": "no"},
]
GERMAN = [
    {"premise": "Zoe fährt heim.", "hypothesis": "Zoe bewegt sich.", "label": "yes"},
    {"premise": "Der See ist heute kalt.", "hypothesis": "Der See ist heiß.", "label": "no"},
]


def rows(values: list[dict[str, str]], file: str) -> list[Row]:
    return [Row(one, file, number) for number, one in enumerate(values, start=1)]


def compare(translated: list[dict[str, str] | None]) -> str:
    return str(compare_rows(NLI, translated, rows(GERMAN, "de.jsonl"), "de"))


@needs_sacrebleu
def test_a_human_translation_has_100_points_and_a_row_without_translation_does_not_count() -> None:
    assert compare([*GERMAN]) == "BLEU 100.0, chrF 100.0 of 4 texts"
    assert compare([None, GERMAN[1]]) == "BLEU 100.0, chrF 100.0 of 2 texts"


@needs_sacrebleu
def test_bleu_and_chrf_are_those_of_a_count_by_hand() -> None:
    # 5 of 6 words, 3 of 5 pairs, 1 of 4 triples, 0 of 3 quadruples (smoothed to 1 / (2 * 3)); equal lengths
    quality = measure(["the cold lake is very deep"], ["the cold lake was very deep"], "en")
    assert quality.bleu == pytest.approx(100 * (5 / 6 * 3 / 5 * 1 / 4 * 1 / 6) ** 0.25, abs=1e-6)
    assert quality.texts == 1 and "tok:13a" in quality.signatures[0] and "nw:0" in quality.signatures[1]
    swapped = measure(["ab"], ["ac"], "en")
    # F2 of 1 of 2 letters, 0 of 1 pair; longer n-grams do not exist
    assert swapped.chrf == pytest.approx(25.0)


@needs_sacrebleu
@pytest.mark.parametrize(("language", "tokens"), [("zh-TW", "zh"), ("ja", "char"), ("th", "char"), ("ko", "13a")])
def test_languages_without_blanks_are_compared_by_character(language: str, tokens: str) -> None:
    assert f"tok:{tokens}|" in measure(["红色的自行车在湖边"], ["红色的自行车在河边"], language).signatures[0]


@needs_sacrebleu
def test_equal_pairs_count_once_so_that_a_context_with_many_questions_weighs_as_one() -> None:
    assert measure(["der See", "der See", "ein Rad"], ["der See", "der See", "das Rad"], "de").texts == 2


@pytest.mark.parametrize(
    ("references", "message"),
    [
        (
            GERMAN[:1],
            "de.jsonl: has 1 row, but 2 are to be translated (a reference has the same rows",
        ),
        ([GERMAN[1], GERMAN[0]], "de.jsonl:1: has the label no, but en.jsonl:1 has yes, and 1 more like it (a"),
    ],
    ids=["fewer rows", "another order"],
)
def test_a_reference_with_other_rows_is_refused(references: list[dict[str, str]], message: str) -> None:
    with pytest.raises(UserError) as error:
        check_same_rows(NLI, rows(SOURCE, "en.jsonl"), rows(references, "de.jsonl"))
    assert str(error.value).startswith(message)


def test_a_few_labels_may_differ_as_they_do_in_paws_x() -> None:
    """Each language of PAWS-X was labelled anew: 0.2 to 1.6 % of the rows have another label than in English."""
    one, other = (rows([SOURCE[0]] * 39 + [{**SOURCE[0], "label": label}], "x.tsv") for label in ("yes", "no"))
    assert check_same_rows(NLI, one, other) == 1
    with pytest.raises(UserError, match=r"has the label no, but x\.tsv:40 has yes"):
        check_same_rows(NLI, one[21:], other[21:])


def test_a_question_with_another_id_is_refused() -> None:
    one, other = ([Row({"id": id, "question": "Wo?", "context": "In Bern."}, "de.json", 1)] for id in ("q1", "q2"))
    with pytest.raises(UserError, match=r"has the id q2, but de\.json:1 has q1"):
        check_same_rows(Span(), one, other)


def test_without_sacrebleu_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(UserError, match=r'needs the package sacrebleu \(pip install "xstilts\[mt\]"\)'):
        measure(["a"], ["a"], "en")


@needs_sacrebleu
@pytest.mark.real
def test_human_translations_of_flores_are_nearer_to_themselves_than_to_the_source(shared: Path) -> None:
    folder = shared / "data/mt_parallel/flores101_devtest"
    english, spanish = (
        gzip.decompress((folder / f"{code}.devtest.gz").read_bytes()).decode().splitlines() for code in ("eng", "spa")
    )
    copied = measure(english, spanish, "es")
    assert measure(spanish, spanish, "es").bleu == pytest.approx(100) and copied.bleu < 10 and copied.chrf < 40


@needs_sacrebleu
def test_the_playground_s_translations_are_equal_to_its_own_data_in_that_language(tmp_path: Path, xstilts: Cli) -> None:
    arguments = ("--to", "qab", "--split", "test", "--engine", "playground", "--out", tmp_path / "out", "--limit", "40")
    without = xstilts("translate", "play-questions", *arguments)
    assert (without.code, "BLEU" in without.out) == (0, False)
    result = xstilts("translate", "play-questions", *arguments, "--reference", tmp_path)
    assert "40 spans: 40 by tags (100.0 %)" in result.out and "BLEU 100.0, chrF 100.0 of" in result.out
    (card,) = json.loads((tmp_path / "out/play-questions/card.json").read_text(encoding="utf-8"))["files"]
    assert card["quality"]["bleu"] == pytest.approx(100) and "tok:13a" in card["quality"]["signatures"][0]
    assert xstilts("translate", "play-questions", *arguments).out == result.out, "a file that is made keeps its quality"


@needs_sacrebleu
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("play-ner", "--split", "test"), "--reference: sentences with tags cannot be compared"),
        (("play-nli", "--split", "train"), "has none of the rows to translate in qab"),
    ],
)
def test_data_without_a_reference_are_refused_before_work(
    arguments: tuple[str, ...], said: str, tmp_path: Path, xstilts: Cli
) -> None:
    task, *split = arguments
    options = ("--to", "qab", "--engine", "playground", "--out", tmp_path / "out", "--reference", tmp_path)
    result = xstilts("translate", task, *split, *options)
    assert (result.code, said in result.err) == (2, True), result.err
    assert not (tmp_path / "out").exists()


@needs_sacrebleu
def test_splits_without_a_reference_are_translated_and_named(tmp_path: Path, xstilts: Cli) -> None:
    options = ("--engine", "playground", "--out", tmp_path / "out", "--reference", tmp_path, "--limit", "10")
    result = xstilts("translate", "play-nli", "--to", "qab", "--split", "train,test", *options)
    assert result.code == 0 and result.out.count("BLEU") == 1 and "train-qab.jsonl: 10 rows" in result.out
    assert f"not compared with {tmp_path}: play-nli: train is not in 'qab'" in result.err


def test_a_pseudo_test_set_shares_the_training_of_the_real_one(tmp_path: Path, xstilts: Cli) -> None:
    options = ("--engine", "playground", "--out", tmp_path / "out", "--limit", "10")
    assert xstilts("translate", "play-nli", "--to", "qab", "--split", "test", *options).code == 0
    recipe = tmp_path / "pseudo.yaml"
    recipe.write_text(
        "name: pseudo\nencoder: {text: play-text}\nseeds: [1]\nuse: [out/play-nli.yaml]\n"
        "phases: [{name: target, each: [play-nli, play-nli-qab]}]\nevaluate: [play-nli, play-nli-qab]\n",
        encoding="utf-8",
    )
    result = xstilts("plan", recipe, "--json")
    assert result.code == 0, result.err
    plan = json.loads(result.out)
    assert (plan["trainings"], plan["trainings_before_folding"], plan["evaluations"]) == (1, 2, 8 + 1)
