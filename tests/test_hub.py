"""Data sets of the Hub are found in its local cache, here a folder of the same layout."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from huggingface_hub import constants

from conftest import CliResult
from xstilts.data import hub
from xstilts.data.find import find
from xstilts.data.readers import read
from xstilts.errors import MissingData, UserError
from xstilts.tasks.source import Source

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PLACE = "hub:google/xtreme/XQuAD.{lang}/validation-*.parquet"
TASK = """\
mine:
  like: xquad
  languages: [de, el]
  more_languages: []
  data:
    train: questions.json
    stop: questions.json
    test: {first_of: ["xquad/xquad.{lang}.json", "hub:google/xtreme/XQuAD.{lang}/validation-*.parquet"]}
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache that nothing can be fetched into."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def table(path: Path, language: str, rows: int = 2) -> None:
    """Questions as the Hub has them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    answers = [{"text": ["Mühle"], "answer_start": [4]}] * rows
    columns = {"id": [f"{language}{i}" for i in range(rows)], "context": ["Die Mühle ist alt."] * rows}
    pyarrow.parquet.write_table(pyarrow.table({**columns, "question": ["Was?"] * rows, "answers": answers}), path)


def cached(cache: Path, language: str, name: str = "validation-00000-of-00001", commit: str = COMMIT) -> Path:
    """A file in the cache, laid out as the Hub's own library does it: a blob, and a link to it in a snapshot."""
    folder = cache / "datasets--google--xtreme"
    blob = folder / "blobs" / f"{commit[:8]}-{language}-{name}"
    table(blob, language)
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs" / "main").write_text(commit)
    link = folder / "snapshots" / commit / f"XQuAD.{language}" / f"{name}.parquet"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(os.path.relpath(blob, link.parent))
    return link


def test_a_cached_file_is_found_and_read(cache: Path) -> None:
    link = cached(cache, "de")
    (found,) = find(Source.model_validate(PLACE), "de", [])
    assert found.paths == (str(link),)
    rows = list(read(found, "de", fields=("id", "context", "question", "answers"), inputs=("context", "question")))
    assert [row.values["id"] for row in rows] == ["de0", "de1"]
    assert rows[0].values["answers"] == {"text": ["Mühle"], "answer_start": [4]}


def test_a_revision_is_a_branch_or_a_commit(cache: Path) -> None:
    old = cached(cache, "de", commit="f" * 40)
    new = cached(cache, "de")
    by_commit = f"hub:google/xtreme@{'f' * 40}/XQuAD.de/validation-*.parquet"
    assert find(Source.model_validate(by_commit), "de", [])[0].paths == (str(old),)
    assert find(Source.model_validate(PLACE), "de", [])[0].paths == (str(new),)
    (cache / "datasets--google--xtreme/refs/refs/convert").mkdir(parents=True)
    (cache / "datasets--google--xtreme/refs/refs/convert/parquet").write_text("f" * 40)
    converted = "hub:google/xtreme@refs/convert/parquet/XQuAD.de/*.parquet"
    assert find(Source.model_validate(converted), "de", [])[0].paths == (str(old),)
    with pytest.raises(MissingData, match=r"google/xtreme@v2/XQuAD.de"):
        find(Source.model_validate("hub:google/xtreme@v2/XQuAD.de/*.parquet"), "de", [])


@pytest.mark.parametrize("named", [b"", b"\xff\xfe", b"nothing"])
def test_a_broken_revision_counts_as_absent(cache: Path, named: bytes) -> None:
    cached(cache, "de")
    (cache / "datasets--google--xtreme/refs/main").write_bytes(named)
    with pytest.raises(MissingData, match="looked for hub:google/xtreme"):
        find(Source.model_validate(PLACE), "de", [])


def test_the_first_named_of_data_folder_and_hub_wins(cache: Path, tmp_path: Path) -> None:
    cached(cache, "de")
    source = Source.model_validate({"first_of": ["xquad/xquad.{lang}.json", PLACE]})
    assert find(source, "de", [tmp_path])[0].file.path == PLACE
    (tmp_path / "xquad").mkdir()
    (tmp_path / "xquad/xquad.de.json").write_text("[]")
    assert find(source, "de", [tmp_path])[0].file.path == "xquad/xquad.{lang}.json"


def test_a_table_in_several_files_needs_all_of_them(cache: Path) -> None:
    first = cached(cache, "de", "validation-00000-of-00002")
    with pytest.raises(MissingData, match=r"validation-\*\.parquet \(only 1 of its 2 parts\)"):
        find(Source.model_validate(PLACE), "de", [])
    second = cached(cache, "de", "validation-00001-of-00002")
    assert find(Source.model_validate(PLACE), "de", [])[0].paths == (str(first), str(second))


def test_parts_of_a_table_in_a_folder_are_counted_too(tmp_path: Path) -> None:
    table(tmp_path / "q/train-00001-of-00002.parquet", "de")
    with pytest.raises(MissingData, match=r"only 1 of its 2 parts"):
        find(Source.model_validate("q/train-*.parquet"), "de", [tmp_path])


def test_language_names_are_filled_into_hub_paths(cache: Path) -> None:
    link = cached(cache, "Chinese")
    assert find(Source.model_validate(PLACE.replace("lang", "Language")), "zh", [])[0].paths == (str(link),)


@pytest.mark.parametrize("text", ["hub:squad/a.parquet", "hub:a/b", "hub:a/b@/c", "hub:/a/b/c", "hub:a/b/"])
def test_a_path_that_names_no_file_of_a_data_set_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"names no file of a data set on the Hub .*write hub:OWNER/NAME/PATH"):
        hub.place(text)


@pytest.mark.usefixtures("cache")
def test_a_missing_data_set_names_both_ways_to_get_it(tmp_path: Path) -> None:
    source = Source.model_validate({"first_of": ["xquad/xquad.{lang}.json", PLACE]})
    with pytest.raises(MissingData) as caught:
        find(source, "de", [tmp_path], task="mine")
    assert f"looked for {tmp_path}/xquad/xquad.de.json, hub:google/xtreme/XQuAD.de/validation-*.parquet" in str(
        caught.value
    )
    ways = f"`xstilts data fetch mine` downloads it from the Hub, or put it at {tmp_path}/xquad/xquad.de.json"
    assert caught.value.hint == ways


@pytest.mark.usefixtures("cache")
def test_fetching_offline_says_which_file_to_put_where(tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    (tmp_path / "mine.yaml").write_text(TASK)
    result = xstilts("data", "fetch", "mine", "--use", tmp_path / "mine.yaml", "--data", tmp_path)
    assert (result.code, result.out) == (2, "")
    assert "downloading XQuAD.de/validation-*.parquet and 1 more of google/xtreme" in result.err
    assert "google/xtreme could not be downloaded; the Hub was not reached: " in result.err
    errors = [line for line in result.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 3, result.err
    assert errors[0] == f"error: mine train: is not on the Hub in en (put questions.json into {tmp_path})"
    files = f"xquad/xquad.{{lang}}.json into {tmp_path}"
    assert errors[2] == f"error: mine test: could not be downloaded in de el (put {files})"


@pytest.mark.usefixtures("cache")
def test_only_the_layout_that_becomes_complete_is_fetched(tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    joined = "data: {train: {first_of: [[a.tsv, b.tsv], ['hub:me/a/a.tsv', b.tsv], [a.tsv, 'hub:me/b/b.tsv']]}}"
    (tmp_path / "mine.yaml").write_text(f"mine:\n  like: mnli\n  {joined}\n")
    (tmp_path / "a.tsv").write_text("a\tb\tneutral\n")
    result = xstilts("data", "fetch", "mine", "--use", tmp_path / "mine.yaml", "--data", tmp_path)
    assert "downloading b.tsv of me/b\n" in result.err and "of me/a" not in result.err
    assert f"error: mine train: could not be downloaded in en (put b.tsv into {tmp_path})\n" in result.err


def test_present_files_are_not_fetched(cache: Path, tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    (tmp_path / "mine.yaml").write_text(TASK)
    (tmp_path / "questions.json").write_text("[]")
    for language in ("de", "el"):
        cached(cache, language)
    result = xstilts("data", "fetch", "mine", "--use", tmp_path / "mine.yaml", "--data", tmp_path)
    assert (result.code, result.out, result.err) == (0, "", "all data of mine are available\n")


def test_the_cache_follows_the_environment_and_torch_is_not_loaded(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(TASK)
    cached(tmp_path / "home/hub", "de")
    command = ["data", "check", "mine", "--json", "--use", str(tmp_path / "mine.yaml")]
    code = f"import sys; sys.argv[1:] = {command!r}; from xstilts.cli import main\n"
    code += "try: main()\nexcept SystemExit: print(*sys.modules, file=sys.stderr)"
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    environment.pop("HF_HUB_CACHE", None)
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, encoding="utf-8", check=True
    )
    assert '"examples": 2' in result.stdout and "home/hub/datasets--google--xtreme" in result.stdout
    assert not {"torch", "transformers", "httpx", "httpx2"} & set(result.stderr.split())


@pytest.mark.usefixtures("cache")
def test_labelled_copies_of_files_without_labels_are_fetched(tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    sources = "{first_of: ['{lang}.tsv', 'hub:me/mine/{lang}.tsv']}"
    task = f"mine:\n  like: mnli\n  languages: [de, fr]\n  data: {{dev: {sources}, train: train.tsv}}\n"
    (tmp_path / "mine.yaml").write_text(task)
    for name, row in (("train", "a\tb\tneutral\n"), ("de", "a\tb\tneutral\n"), ("fr", "a\tb\n")):
        (tmp_path / f"{name}.tsv").write_text(row)
    result = xstilts("data", "fetch", "mine", "--use", tmp_path / "mine.yaml", "--data", tmp_path)
    assert result.code == 0 and "downloading fr.tsv of me/mine\n" in result.err and "de.tsv" not in result.err
    assert "without labels, so predicted and not scored: mine: dev of fr" in result.err
