"""Files that a clone or a download left incomplete: Git LFS pointers, and tables with a part missing."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from conftest import CliResult, Files
from xstilts.data.find import find
from xstilts.errors import DataError, IncompleteData, UserError, visible
from xstilts.formats.base import Row
from xstilts.formats.classify import Classify
from xstilts.model import encoder_folder as folders
from xstilts.tasks.source import Source
from xstilts.utils.files import missing_parts

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "7c" * 32 + "\nsize 48211\n"
TASKS = """\
sentences: {format: classify, texts: [text], labels: ["1", "0"], languages: [de], data: {test: "de.SUFFIX"}}
raw: {format: mask, languages: [de], train_languages: [de], data: {train: "de.SUFFIX"}}
words: {format: tag, labels: [A, B], languages: [de], data: {test: "de.SUFFIX"}}
sides: {format: retrieve, languages: [de], data: {test: {path: "de.SUFFIX", pair: "de.SUFFIX"}}}
mined: {format: retrieve, find: mined, languages: [de], data: {test: {path: "de.SUFFIX", pair: "de.SUFFIX"}}}
answers: {format: span, languages: [de], data: {test: "de.SUFFIX"}}
"""
READERS = {
    "sentences": ("tsv", "csv", "jsonl", "json", "parquet", "tsv.gz", "csv.gz"),
    "raw": ("txt", "txt.gz", "jsonl", "parquet"),
    "words": ("txt", "tsv", "conllu", "conllu.gz", "parquet"),
    "sides": ("txt",),
    "mined": ("txt", "jsonl"),
    "answers": ("json", "jsonl", "parquet"),
}


@pytest.mark.parametrize(("task", "suffix"), [(task, suffix) for task, kinds in READERS.items() for suffix in kinds])
def test_every_reader_knows_a_git_lfs_pointer(
    task: str, suffix: str, tmp_path: Path, xstilts: Callable[..., CliResult]
) -> None:
    file = tmp_path / f"de.{suffix}"
    file.write_text(POINTER)
    (tmp_path / "tasks.yaml").write_text(TASKS.replace("SUFFIX", suffix.removesuffix(".gz")))
    result = xstilts("data", "check", task, "--use", tmp_path / "tasks.yaml")
    assert result.code == 2
    assert result.err == f"error: {file}: is a Git LFS pointer, not the file itself (git lfs pull)\n"


@pytest.mark.parametrize("suffix", ["txt", "jsonl", "parquet", "xml", "xml.bz2"])
def test_a_corpus_is_not_made_from_a_git_lfs_pointer(
    suffix: str, tmp_path: Path, xstilts: Callable[..., CliResult]
) -> None:
    file = tmp_path / f"sw.{suffix}"
    file.write_text(POINTER)
    result = xstilts("corpus", "sw", "--from", file, "--out", tmp_path / "out")
    assert result.code == 2
    assert "is a Git LFS pointer, not the file itself (git lfs pull)" in result.err
    assert not (tmp_path / "out/sw.txt").exists()


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_run_refuses_a_git_lfs_pointer_in_the_encoder(study: Files, encoder_folder: Path, name: str) -> None:
    copy = study.folder / "clone"
    shutil.copytree(encoder_folder, copy)
    (copy / name).write_text(POINTER)
    study.edit("recipe.yaml", str(encoder_folder), str(copy))
    study.refused(f"{copy / name}: is a Git LFS pointer, not the file itself (git lfs pull)")


def test_an_encoder_needs_all_parts_of_its_weights(encoder_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "clone"
    shutil.copytree(encoder_folder, copy)
    (copy / "model.safetensors").rename(copy / "model-00002-of-00003.safetensors")
    with pytest.raises(UserError, match=r"clone: lacks weights \(only 1 of its 3 parts\)"):
        folders.check(str(copy))


def test_an_encoder_needs_the_files_that_its_index_names(encoder_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "clone"
    shutil.copytree(encoder_folder, copy)
    (copy / "model.safetensors").rename(copy / "first.safetensors")
    index = copy / "model.safetensors.index.json"
    for content, message in [
        (
            '{"weight_map": {"a": "first.safetensors", "b": "second.safetensors"}}',
            r"lacks weights .* \(second.s",
        ),
        ("{}", r"index.json: does not say which file has which weights \(copy it anew\)"),
        (POINTER, "index.json: is a Git LFS pointer"),
    ]:
        index.write_text(content)
        with pytest.raises(UserError, match=message):
            folders.check(str(copy))
    index.write_text('{"weight_map": {"a": "first.safetensors"}}')
    folders.check(str(copy))


def table(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table({"text": ["tea", "mud"], "label": ["1", "0"]}), path)


@pytest.mark.parametrize(
    ("names", "remark"),
    [
        (["train-00001-of-00002-0f1e2d3c4b5a6978.parquet"], "only 1 of its 2 parts"),
        (["train-00000-of-00002-0f1e2d3c4b5a6978.parquet", "train-00001-of-00002-8796a5b4c3d2e1f0.parquet"], ""),
        (["c4-sw.00000-of-00004.json.gz", "c4-sw.00003-of-00004.json.gz"], "only 2 of its 4 parts"),
        (["dump.jsonl-00002-of-00003"], "only 1 of its 3 parts"),
        (["en-00000-of-00001.parquet", "de-00000-of-00002.parquet"], "only 1 of its 2 parts"),
        (["en-00000-of-00001.parquet", "de-00000-of-00001.parquet"], ""),
        (["en-00000-of-00001.parquet", "en-00000-of-00001-0f1e2d3c4b5a6978.parquet"], "2 files for its 1 parts"),
        (
            ["en-00000-of-00001.parquet", "en-00000-of-00002.parquet", "en-00001-of-00002.parquet"],
            "3 files for its 2 parts",
        ),
        (["0000.parquet"], ""),
        (["0000.parquet", "0001.parquet", "0003.parquet"], "only 3 of its 4 parts"),
        (["2019.parquet", "2021.parquet"], ""),
    ],
)
def test_the_names_of_parts_tell_how_many_there_are(names: list[str], remark: str) -> None:
    assert missing_parts(map(Path, names)) == remark


def test_a_part_that_the_user_names_is_read_alone(tmp_path: Path) -> None:
    for number in range(2):
        table(tmp_path / f"train-0000{number}-of-00004.parquet")
    names = ["train-00000-of-00004.parquet", "train-00001-of-00004.parquet"]
    assert len(find(Source.model_validate(names), "en", [tmp_path])) == 2
    with pytest.raises(IncompleteData, match="only 2 of its 4 parts"):
        find(Source.model_validate("train-*.parquet"), "en", [tmp_path])


def test_half_of_a_table_is_broken_and_not_just_missing(tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    table(tmp_path / "dev-00000-of-00002-0f1e2d3c4b5a6978.parquet")
    task = {"dev": "dev-*.parquet", "test": "test-*.parquet"}
    text = f"reviews: {{format: classify, texts: [text], labels: ['0', '1'], languages: [en], data: {task}}}"
    (tmp_path / "reviews.yaml").write_text(text)
    result = xstilts("data", "check", "reviews", "--use", tmp_path / "reviews.yaml")
    assert result.code == 2
    assert result.err.count("\n") == 1
    assert "dev-*.parquet (only 1 of its 2 parts)" in result.err


def test_a_study_that_skips_missing_files_does_not_skip_half_of_a_table(study: Files) -> None:
    """A dev set of which a part is missing would otherwise be left out without a word."""
    study.edit("tasks.yaml", 'dev: "dev-{lang}.tsv"', 'dev: "{lang}/dev-*.tsv"')
    study.edit("recipe.yaml", "seeds: [1]", "seeds: [1]\nmissing: skip")
    for language in ("de", "en"):
        (study.folder / language).mkdir()
        study.write(f"{language}/dev-00000-of-00002.tsv", (study.folder / f"dev-{language}.tsv").read_bytes())
    result = study.run()
    assert result.code == 2
    assert [f"{code}/dev-*.tsv (only 1 of its 2 parts)" in result.err for code in ("de", "en")] == [True, True]
    assert result.err.count("error: ") == 2


def test_a_training_does_not_go_without_its_dev_set_if_half_of_it_is_there(study: Files) -> None:
    study.edit("tasks.yaml", 'dev: "dev-{lang}.tsv"', 'stop: "{lang}/dev-*.tsv"')
    study.edit("tasks.yaml", "languages: [en, de]", "languages: [de]")
    (study.folder / "en").mkdir()
    study.write("en/dev-00000-of-00002.tsv", (study.folder / "dev-en.tsv").read_bytes())
    study.refused("en/dev-*.tsv (only 1 of its 2 parts)")


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("good\u200b", r"good\u200b"),
        ("go\u00adod", r"go\xadod"),
        ("go\u00a0od", r"go\xa0od"),
        ("\u200fgood", r"\u200fgood"),
        ("\ufeffgood", r"\ufeffgood"),
        ("good\ufe0f", r"good\ufe0f"),
        ("cafe\u0301", r"cafe\u0301"),
        ("goood", "goood"),
    ],
)
def test_a_message_shows_what_cannot_be_seen(label: str, shown: str) -> None:
    form = Classify(labels=("good", "café"), texts=("text",))
    with pytest.raises(DataError) as error:
        form.read(Row({"text": "It rains.", "label": label}, "a.csv", 7))
    assert f"a.csv:7: unknown label '{shown}' (did you mean '" in str(error.value)


def test_letters_of_any_script_are_shown_as_they_are() -> None:
    for text in ("Größe", "हिन्दी", "ไทย", "العربية", "日本語", "👍🏽", "a b"):
        assert visible(text) == text
    assert visible("a \n") == "a \\n"
