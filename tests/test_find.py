"""Finding the files of a source, and the error when they are missing."""

import gzip
from pathlib import Path

import pytest

from xstilts.data.find import find
from xstilts.errors import Collector, MissingData, Mistakes
from xstilts.tasks.source import Source
from xstilts.utils.files import digest


def make(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(gzip.compress(b"x\n") if name.endswith(".gz") else b"x\n")
    return root


def names(source: object, language: str, *roots: Path) -> list[str]:
    found = find(Source.model_validate(source), language, roots)
    return [Path(path).relative_to(roots[-1].parent).as_posix() for file in found for path in file.paths]


def test_language_codes_are_filled_and_gz_copies_found(tmp_path: Path) -> None:
    root = make(tmp_path / "data", "xnli/dev-de.tsv.gz", "tatoeba.deu-eng.deu")
    assert names("xnli/dev-{lang}.tsv", "de", root) == ["data/xnli/dev-de.tsv.gz"]
    assert names("tatoeba.{lang3}-eng.{lang3}", "de", root) == ["data/tatoeba.deu-eng.deu"]


def test_plain_file_goes_before_its_gz_copy_and_first_root_before_second(tmp_path: Path) -> None:
    first, second = make(tmp_path / "a", "x.tsv"), make(tmp_path / "b", "x.tsv", "x.tsv.gz", "y.tsv", "y.tsv.gz")
    assert names("x.tsv", "de", first, second) == ["a/x.tsv"]
    assert names("y.tsv", "de", first, second) == ["b/y.tsv"]


def test_star_matches_sorted_files_once_each(tmp_path: Path) -> None:
    files = ["ud/de_pud-test.conllu", "ud/de_gsd-test.conllu.gz", "ud/de_gsd-test.conllu", "ud/de_lit-test.conllu.gz"]
    root = make(tmp_path / "data[1]", *files, "ud/fr_gsd-test.conllu")
    found = names("ud/{lang}_*-test.conllu", "de", root)
    assert [Path(path).name for path in found] == [
        "de_gsd-test.conllu", "de_lit-test.conllu.gz", "de_pud-test.conllu",
    ]  # fmt: skip
    assert len(names("*/{lang}_*.conllu", "de", root)) == 3


def test_first_complete_layout_wins(tmp_path: Path) -> None:
    root = make(tmp_path / "data", "a/1.tsv", "b/1.tsv", "b/2.tsv")
    assert names({"first_of": [["a/1.tsv", "a/2.tsv"], ["b/1.tsv", "b/2.tsv"]]}, "de", root) == [
        "data/b/1.tsv", "data/b/2.tsv",
    ]  # fmt: skip


def test_aligned_text_needs_both_sides(tmp_path: Path) -> None:
    root = make(tmp_path / "data", "t.deu", "t.eng")
    (found,) = find(Source.model_validate({"path": "t.{lang3}", "pair": "t.eng"}), "de", [root])
    assert found.pair == (str(root / "t.eng"),)
    with pytest.raises(MissingData, match=r"t\.fra"):
        find(Source.model_validate({"path": "t.deu", "pair": "t.fra"}), "de", [root])


def test_the_other_side_may_be_many_files_and_gold_may_be_missing(tmp_path: Path) -> None:
    root = make(tmp_path / "data", "r/de.json", "r/en.json.gz")
    source = Source.model_validate({"path": "r/{lang}.json", "pair": "r/*.json", "gold": "r/gold"})
    (found,) = find(source, "de", [root])
    assert found.files == (*found.paths, *found.pair)
    assert [Path(path).name for path in found.files] == ["de.json", "de.json", "en.json.gz"]
    make(root, "r/gold")
    assert find(source, "de", [root])[0].gold == str(root / "r/gold")


def test_playground_needs_no_folder() -> None:
    (found,) = find(Source.model_validate("playground:nli/dev"), "qaa", [])
    assert found.paths == ("playground:nli/dev",)


def test_a_missing_file_names_every_path_tried_and_the_nearest_name(tmp_path: Path) -> None:
    first, second = make(tmp_path / "a", "xnli/dev-de.tsv.gz"), make(tmp_path / "b", "other.tsv")
    with pytest.raises(MissingData) as caught:
        names({"first_of": ["xnli/dev-{lang}e.tsv", "nli/{lang}.tsv"]}, "de", first, second)
    for place in ("a/xnli/dev-dee.tsv", "b/xnli/dev-dee.tsv", "a/nli/de.tsv", "b/nli/de.tsv"):
        assert str(tmp_path / place) in caught.value.message
    assert caught.value.hint == f"the nearest there is {first / 'xnli/dev-de.tsv'}"


def test_a_misspelled_folder_gets_a_suggestion(tmp_path: Path) -> None:
    root = make(tmp_path / "data", "udpos/test-de.tsv")
    with pytest.raises(MissingData, match=r"the nearest there is .*data/udpos"):
        names("udpso/test-{lang}.tsv", "de", root)


@pytest.mark.parametrize("roots", [[], [Path("/nowhere/data")]])
def test_without_a_data_folder_the_error_asks_for_one(roots: list[Path]) -> None:
    with pytest.raises(MissingData, match=r"xnli/dev-de\.tsv.*--data or XSTILTS_DATA"):
        find(Source.model_validate("xnli/dev-{lang}.tsv"), "de", roots)


def test_absolute_path_needs_no_root(tmp_path: Path) -> None:
    path = make(tmp_path, "x.tsv") / "x.tsv"
    assert find(Source.model_validate(str(path)), "de", [])[0].paths == (str(path),)


def test_digest_follows_the_content(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"")
    assert digest(path) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    path.write_bytes(b"abc")
    assert digest(path).startswith("ba7816bf")


def test_only_the_first_of_many_missing_files_is_named(tmp_path: Path) -> None:
    missing = Collector()
    for task, codes in (("xnli", ("ar", "bg", "de", "el")), ("panx", ("af", "ar"))):
        for code in codes:
            with missing.catch():
                find(Source.model_validate("{lang}.tsv"), code, [tmp_path], task=task)
    with pytest.raises(Mistakes) as result:
        missing.raise_any()
    lines = str(result.value).split("\n")
    assert [line.split(": looked")[0] for line in lines if "looked" in line] == [
        "xnli: no data for 'ar'", "xnli: no data for 'bg'", "panx: no data for 'af'", "panx: no data for 'ar'",
    ]  # fmt: skip
    assert lines[2] == "xnli: and 2 more; `xstilts data check xnli` lists them" and len(lines) == 5
