"""Raw files as XTREME's scripts preprocess them and as we read them; a test explains each difference."""

import json
from pathlib import Path
from typing import Any

import pytest

from test_readers import NLI, tags, values
from xstilts.data import conllu
from xstilts.errors import DataError

pytestmark = pytest.mark.real


def test_conllu_becomes_what_xtreme_makes_of_it(shared: Path, tmp_path: Path) -> None:
    golden = json.loads((shared / "golden" / "udpos_conllu.json").read_text())
    assert golden["precedence"] == {
        "default": [*conllu.DEFAULT_PRECEDENCE],
        **{k: [*v] for k, v in conllu.PRECEDENCE.items()},
    }
    for case in golden["cases"]:
        sentences = tags(tmp_path / "a.conllu", case["conllu"], case["language"])
        text = "\n".join("".join(f"{word}\t{tag}\n" for word, tag in zip(*one, strict=True)) for one in sentences)
        assert text == case["expected_train_tsv"]


@pytest.fixture
def golden(shared: Path) -> Any:
    """Raw files of XTREME's data sets in small, and what XTREME's scripts make of them."""
    return json.loads((shared / "golden" / "preprocess.json").read_text())


def test_every_case_of_the_golden_file_is_compared(golden: Any) -> None:
    looked_at = {"panx", "panx_tokenize", "udpos_tokenize", "udpos", "pawsx", "xnli", "tydiqa"}
    assert golden.keys() - {"meta", "note"} == looked_at


def test_sentences_without_text_are_dropped_as_in_xtreme(golden: Any, tmp_path: Path) -> None:
    ours = []
    for name, content in sorted(golden["udpos"]["raw_files"].items()):
        ours += tags(tmp_path / f"{name}.conllu", content, "fr")
    expected = golden["udpos"]["expected"]
    for split in ("train", "dev"):
        assert ours == tags(tmp_path / f"{split}.tsv", expected[split])
    assert [(words, None) for words, _ in ours] == tags(tmp_path / "test.tsv", expected["test"])


def test_raw_panx_gives_what_xtreme_makes_of_it(golden: Any, tmp_path: Path) -> None:
    ours = tags(tmp_path / "raw", golden["panx"]["raw"])
    assert [words for words, _ in ours] == [["Die", "Tür", "in", "Berlin:Mitte", "12:30"], ["", "ACME GmbH", "x y"]]
    for split in ("train", "dev"):
        assert ours == tags(tmp_path / f"{split}.tsv", golden["panx"]["expected"][split])
    # An empty token is an empty line in XTREME's test file, which ends a sentence there: it cannot be told afterwards.
    without = [([word for word in words if word], None) for words, _ in ours]
    assert without == tags(tmp_path / "test.tsv", golden["panx"]["expected"]["test"])


@pytest.mark.parametrize(("key", "default"), [("panx_tokenize", "O"), ("udpos_tokenize", "X")])
def test_long_sentences_are_read_whole(golden: Any, tmp_path: Path, key: str, default: str) -> None:
    # XTREME cuts sentences here, by the tokenizer's pieces, and the .idx file puts them together again; we read them
    # whole, and the format makes windows. It also gives the commonest tag to a token that has none: we refuse.
    raw, expected = golden[key]["raw"], golden[key]["expected"]
    with pytest.raises(DataError, match=r"raw\.tsv:\d+: has 1 column, line 1 has 2"):
        tags(tmp_path / "raw.tsv", raw)
    ours = tags(tmp_path / "raw.tsv", raw.replace("\nq\n", f"\nq\t{default}\n"))
    cut = tags(tmp_path / "cut.tsv", expected)
    assert len(cut) > len(ours) == 3
    assert [tag for _, some in ours for tag in some or ()] == [tag for _, some in cut for tag in some or ()]
    unknown = [(a, b) for a, b in zip(words(ours), words(cut), strict=True) if a != b]
    assert unknown == [("\u200b", "<unk>"), ("z" * 60, "<unk>")]  # which the format does, where the pieces are known


def words(sentences: list[tuple[list[str], list[str] | None]]) -> list[str]:
    return [word for some, _ in sentences for word in some]


def test_pawsx_as_xtreme_writes_it_has_the_sentences_of_the_original(golden: Any, tmp_path: Path) -> None:
    fields = ("sentence1", "sentence2", "label")
    raw = values(tmp_path / "raw.tsv", golden["pawsx"]["raw"], fields)
    assert [row.pop("id") for row in raw] == ["1", "2", "3"]
    for split in ("train", "dev"):
        assert values(tmp_path / f"{split}.tsv", golden["pawsx"]["expected"][split], fields) == raw
    inputs = [{name: row[name] for name in fields[:2]} for row in raw]
    assert values(tmp_path / "test.tsv", golden["pawsx"]["expected"]["test"], fields) == inputs
    assert raw[0]["sentence1"] == 'A " quote' and raw[2]["sentence2"] == '"q"'


def test_xnli_as_xtreme_writes_it_has_the_sentences_of_the_original(golden: Any, tmp_path: Path) -> None:
    columns = {"premise": "sentence1", "hypothesis": "sentence2", "label": "gold_label"}
    spellings = {"contradictory": "contradiction"}  # the format's, which XTREME puts into the files
    for language in ("ar", "de"):
        where = {"language": "{lang}"}
        original = values(tmp_path / "raw.tsv", golden["xnli"]["eval_raw"], columns=columns, where=where, lang=language)
        ours = [(row["premise"], row["hypothesis"], spellings.get(row["label"], row["label"])) for row in original]
        dev = values(tmp_path / "dev.tsv", golden["xnli"]["expected"][f"dev-{language}.tsv"])
        assert ours == [tuple(row[name] for name in NLI) for row in dev]
        test = values(tmp_path / "test.tsv", golden["xnli"]["expected"][f"test-{language}.tsv"])
        assert [one[:2] for one in ours] == [(row["premise"], row["hypothesis"]) for row in test]
    train = values(tmp_path / "train.tsv", golden["xnli"]["expected"]["train-en.tsv"])
    original = values(tmp_path / "mt.tsv", golden["xnli"]["train_raw"], columns={"hypothesis": "hypo"})
    assert [row["premise"] for row in train] == [row["premise"] for row in original] == ['A man "runs" .', "B"]


def test_tydiqa_is_split_into_languages_by_its_ids(golden: Any, tmp_path: Path) -> None:
    fields = ("id", "context", "question", "answers")
    kept = ("context", "question", "answers")
    raw = tmp_path / "raw.json"
    raw.write_text(json.dumps(golden["tydiqa"]["raw"]))
    for language, ids in (("en", ["english-111-0", "english-222-3"]), ("ko", ["korean-5-1"])):
        ours = values(raw, fields=fields, where={"id": "{language}-*"}, lang=language)
        made = golden["tydiqa"]["expected_train"][f"tydiqa.goldp.{language}.train.json"]
        theirs = values(tmp_path / f"{language}.json", json.dumps(made), fields)
        # XTREME keeps the last part of an id alone, so that ids repeat; we keep all of it.
        assert [row["id"] for row in ours] == ids
        assert [id.rpartition("-")[2] for id in ids] == [row["id"] for row in theirs]
        assert [[row[name] for name in kept] for row in ours] == [[row[name] for name in kept] for row in theirs]
    hidden = values(tmp_path / "dev.json", json.dumps(golden["tydiqa"]["expected_dev_en"]), fields)
    assert [row["answers"] for row in hidden] == [[{"answer_start": 0, "text": ""}]] * 3  # no labels, says the format


@pytest.mark.parametrize("language", ["en", "de", "fr", "he", "tr"])
def test_treebanks_give_xtremes_test_set(shared: Path, language: str) -> None:
    folder = shared / "data"
    paths = sorted((folder / "ud_conllu_r2.5").glob(f"{language}_*-ud-test.conllu.gz"))
    ours = [sentence for path in paths for sentence in tags(path, lang=language)]
    assert ours == tags(folder / "udpos" / f"test-{language}.tsv.gz")


def test_raw_panx_gives_xtremes_file(shared: Path) -> None:
    folder = shared / "data"
    assert tags(folder / "panx_rahimi/en/test.gz", lang="en") == tags(folder / "panx" / "test-en.tsv.gz")
