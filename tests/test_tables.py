"""Tables and texts as spreadsheets, statistics packages and old systems write them: read right, or named."""

import bz2
import csv
import gzip
import io
import json
import lzma
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from xstilts.data.find import Found
from xstilts.data.lines import lines
from xstilts.data.readers import read
from xstilts.errors import DataError
from xstilts.tasks.source import File

REVIEWS = [["Fresh bread", "good"], ['The "best" in town', "good"], ["Closed again", "bad"], ["", "bad"]]


def rows(path: Path, content: str | bytes, fields: tuple[str, ...] = ("text", "label"), **file: Any) -> list[list[Any]]:
    """The values of a file with a text and, at the end, perhaps a label."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    found = Found(File(path=path.name, **file), (str(path),))
    return [list(row.values.values()) for row in read(found, "en", fields=fields, inputs=fields[:1])]


def written(table: list[list[Any]], quoting: Any, end: str = "\n") -> str:
    out = io.StringIO()
    csv.writer(out, delimiter="\t", quoting=quoting, lineterminator=end).writerows(table)
    return out.getvalue()


@pytest.mark.parametrize("before", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("header", [[], [["text", "label"]]])
def test_a_table_with_every_cell_in_quotation_marks_is_unquoted(
    tmp_path: Path, header: list[list[str]], end: str, before: str
) -> None:
    content = before + written(header + REVIEWS[:3], csv.QUOTE_ALL, end)
    assert rows(tmp_path / "a.tsv", content) == REVIEWS[:3]


def test_text_columns_alone_may_stand_in_quotation_marks(tmp_path: Path) -> None:
    """Pandas' QUOTE_NONNUMERIC quotes texts and the whole header, but no number."""
    numbered = [["id", "text", "label"], *([i, *row] for i, row in enumerate(REVIEWS[:3]))]
    content = written(numbered, csv.QUOTE_NONNUMERIC)
    assert content.startswith('"id"\t"text"\t"label"\n0\t"Fresh bread"\t"good"\n')
    assert rows(tmp_path / "a.tsv", content) == [[str(i), *row] for i, row in enumerate(REVIEWS[:3])]


def test_r_writes_a_quotation_mark_inside_with_a_backslash(tmp_path: Path) -> None:
    r"""`write.table(reviews, sep = "\t", row.names = FALSE)`."""
    content = '"text"\t"label"\n"Fresh bread"\t"good"\n"The \\"best\\" in town"\t"good"\n"Closed again"\t"bad"\n'
    assert rows(tmp_path / "a.tsv", content) == REVIEWS[:3]


def test_the_header_may_stand_without_quotation_marks(tmp_path: Path) -> None:
    content = "text\tlabel\n" + written(REVIEWS[:3], csv.QUOTE_ALL)
    assert rows(tmp_path / "a.tsv", content) == REVIEWS[:3]


@pytest.mark.parametrize("odd", ["plain", 'half "quoted', '"so" and "so"', '"open', '"'])
@pytest.mark.parametrize("first", [True, False])
def test_one_cell_outside_of_quotation_marks_leaves_its_column_unchanged(tmp_path: Path, odd: str, first: bool) -> None:
    table = [*([f"{odd}\tgood"] if first else []), '"Fine."\tgood', '"Fine, too."\tbad', "" if first else f"{odd}\tbad"]
    texts = [text for text, _ in rows(tmp_path / "a.tsv", "\n".join(table))]
    assert texts == [line.split("\t")[0] for line in table if line]
    assert '"Fine."' in texts


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "text;label\nHi;good\n", r"semicolons between its columns, not commas \(save it with commas as .csv"),
        ("a.csv", '"text";"label"\n"Well, yes";good\n', "semicolons between its columns"),
        ("a.csv", "Kommentar;Urteil\nNa, gut;good\nOh;bad\n", "semicolons between its columns"),
        ("a.csv", "Ja;good\nNein;bad\nDoch;bad\n", "semicolons between its columns"),
        ("a.csv", "text|label\nHi|good\n", "vertical bars between its columns"),
        ("a.csv", "text\tlabel\nHi\tgood\n", r"tabs between its columns, not commas \(rename it to .tsv\)"),
        ("a.tsv", "text,label\nHi,good\n", r"commas between its columns, not tabs \(rename it to .csv\)"),
        ("a.csv", "sep=,\r\ntext,label\r\nHi,good\r\n", r"begins with Excel's line `sep=,` \(delete this line\)"),
        *(
            (f"a.{suffix}", '{"text": "Hi", "label": "good"}\n', r"has JSON objects \(rename it to .jsonl\)")
            for suffix in ("csv", "tsv", "txt", "jsonlines")
        ),
        ("a.tsv", "Title\nOh\n", r"a.tsv:1: the header has Title; .*if it is a row, `columns: \[text\]`\)"),
        ("a.tsv", '"text"\t"label"\n"1"\t"Hi"\t"good"\n', r"a.tsv:2: has 3 columns, .* \(are .* R's row names\? write"),
        ("a.txt", "Hi\tgood\nOh\tbad\nGo\tbad\n", r"tabs between its columns, not one text a line \(rename it to .tsv"),
        ("a.txt", "text,label\nHi,good\n", r"commas between its columns, not one text a line \(rename it to .csv"),
        ("a.tsv", '"a day\nof rain"\tgood\n', r"a.tsv:2: has 2 columns, .* save it as .csv"),
        ("a.tsv", 'text\tlabel\n"a day\nof rain"\tgood\n', r"a.tsv:2: has 1 column, .* \(does a cell end in another"),
        ("a.csv", "text,label\nHi,good\rOh,bad\r", r"a.csv:2: has a carriage return alone outside of quotation marks"),
        ("a.csv", "text,label\u200b\nHi,good\n", r"has no column 'label' \(did you mean 'label\\u200b'"),
        ("a.csv", "\u00a0text,label\nHi,good\n", r"header has \\xa0text, label; .*\(did you mean '\\xa0text'"),
    ],
)
def test_a_table_of_another_kind_is_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        rows(tmp_path / name, content)


def test_semicolons_and_commas_inside_texts_are_no_separators(tmp_path: Path) -> None:
    texts = ["One; two", "one", "so; so", "a;b;c", "d"]
    assert rows(tmp_path / "a.csv", "\n".join(["text", *texts])) == [[text] for text in texts]
    assert rows(tmp_path / "b.csv", "\n".join(f'"{text}",good' for text in texts)) == [[t, "good"] for t in texts]
    assert rows(tmp_path / "c.tsv", "\n".join(f"{text}, yes; no\tgood" for text in texts))[3] == [
        "a;b;c, yes; no",
        "good",
    ]
    sentences = ["Well, yes", "No, never", "Oh, so\tlate", "Go on, go"]
    assert rows(tmp_path / "d.txt", "\n".join(sentences)) == [[text] for text in sentences]
    assert rows(tmp_path / "d.csv", "x;y\nx;y\nx;y\n", ("text",)) == [["x;y"]] * 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,label\nJa,good\n".encode("utf-16"), r"a.csv: is UTF-16, not UTF-8 \(save it as UTF-8\)"),
        (b"\xfe\xff" + "text,label\n".encode("utf-16-be"), "a.csv: is UTF-16, not UTF-8"),
        (
            "text,label\nJa,good\n".encode("utf-16-le"),
            r"a.csv:1: has a NUL byte at byte 1 \(is it UTF-16, or damaged\?\)",
        ),
        (
            "text,label\nGröße,good\n".encode("cp1252"),
            r"a.csv:2: is not UTF-8 at byte 13 \(saved by Excel\? save as UTF-8 C",
        ),
        (b"\xef\xbb\xbftext,label\nJa\0,good\n", "a.csv:2: has a NUL byte at byte 16"),
        (
            b"<!DOCTYPE html>\n<title>Sign in</title>",
            r"a.csv: is an HTML page, not data \(did the download end at a login",
        ),
        (b"PK\x03\x04\x14\x00\x06\x00", r"a.csv: is a zip archive or an Excel workbook, not text \(save the table"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\x00", "a.csv: is an Excel workbook, not text"),
        (b"\xff\xff\xff\xff\x78\x00", r"a.csv: is an Arrow file, not text \(save it with `to_parquet`\)"),
        (b"404: Not Found", r"a.csv: is a server's error, not data"),
        (b"<?xml version='1.0'?><Error>AccessDenied</Error>", "a.csv: is XML, not data"),
        (b"/annex/objects/SHA256E-s7--a.csv", r"a.csv: is a git-annex pointer, not the file itself \(git annex get"),
        (b"\xef\xbb\xbfversion https://git-lfs.github.com/spec/v1\r\n", "a.csv: is a Git LFS pointer"),
        (b"BZh91AY&SY\x00", r"a.csv: is compressed, .* \(rename it to .bz2\)"),
        (b"\x1f\x8b\x08\x00\x00", r"a.csv: is compressed, but its name does not say so \(rename it to .gz\)"),
    ],
)
def test_bytes_that_are_no_utf8_text_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        rows(tmp_path / "a.csv", content)


def test_nul_bytes_may_be_replaced_with_a_warning(tmp_path: Path) -> None:
    assert rows(tmp_path / "a.tsv", b"J\0a\tgood\n", broken="replace") == [["J\ufffda", "good"]]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\r\r\n"])
@pytest.mark.parametrize(("name", "comma"), [("a.csv", ","), ("a.tsv", "\t")])
def test_every_kind_of_line_end_is_read_and_blank_rows_are_not(tmp_path: Path, name: str, comma: str, end: str) -> None:
    table = ["\ufefftext,label", "Ja,good", "Nein,bad", ",", "", "  "]
    content = end.join(line.replace(",", comma) for line in table)
    assert rows(tmp_path / name, content) == [["Ja", "good"], ["Nein", "bad"]]


def test_a_carriage_return_inside_a_line_stays_where_line_feeds_end_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\rtwo\nthree\n")
    assert list(lines(str(path))) == [(1, "one\rtwo"), (2, "three")]
    path.write_bytes(b"one\rtwo\r\rthree")
    assert list(lines(str(path))) == [(1, "one"), (2, "two"), (3, ""), (4, "three")]


def test_blank_lines_at_the_end_of_a_file_are_no_lines(tmp_path: Path) -> None:
    """Aligned text stays aligned when an editor adds a blank line to one side; inside a file a blank line counts."""
    for name, content in (("de.txt", "ja\n\nnein\n\n \n"), ("en.txt", "yes\nmaybe\nno\n")):
        (tmp_path / name).write_text(content)
    found = Found(
        File(path="de.txt", pair="en.txt", aligned=False), (str(tmp_path / "de.txt"),), (str(tmp_path / "en.txt"),)
    )
    with pytest.raises(DataError, match=r"de.txt:2: empty source"):
        list(read(found, "de", fields=("source", "target"), inputs=("source", "target")))
    (tmp_path / "de.txt").write_text("ja\nvielleicht\nnein\n\n \n")
    assert len(list(read(found, "de", fields=("source", "target"), inputs=("source", "target")))) == 3


TEXTS = ["Tea is hot.", "", None, "  \n", "Rain is wet."]


def test_empty_rows_of_raw_text_are_left_out_of_every_kind_of_file(tmp_path: Path) -> None:
    kept = [["Tea is hot."], ["Rain is wet."]]
    objects = [json.dumps({"text": text}) for text in TEXTS]
    assert rows(tmp_path / "a.jsonl", "\n".join([*objects, '{"text": NaN}']), ("text",)) == kept
    assert rows(tmp_path / "a.json", f"[{', '.join(objects)}]", ("text",)) == kept
    assert rows(tmp_path / "a.csv", "id,text\n1,Tea is hot.\n2,\n3,  \n4,Rain is wet.\n", ("text",)) == [
        ["1", "Tea is hot."],
        ["4", "Rain is wet."],
    ]
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": TEXTS}), path)
    assert rows(path, path.read_bytes(), ("text",)) == kept
    nested = "\n".join(json.dumps({"page": {"body": text}}) for text in TEXTS)
    assert len(rows(tmp_path / "b.jsonl", nested, ("text",), columns={"text": "page.body"})) == 2


def test_raw_text_without_its_column_or_without_any_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a.jsonl:1: has no text"):
        rows(tmp_path / "a.jsonl", '{"content": "Tea is hot."}\n', ("text",))
    with pytest.raises(DataError, match=r"b\.jsonl: is empty"):
        rows(tmp_path / "b.jsonl", '{"text": ""}\n{"text": null}\n', ("text",))


def test_an_empty_text_with_a_label_stays_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a.csv:2: empty text"):
        rows(tmp_path / "a.csv", "text,label\n,good\n")


@pytest.mark.parametrize("name", ["words", "query", "candidate", "tags"])
def test_texts_have_any_name_even_those_of_other_formats(tmp_path: Path, name: str) -> None:
    assert rows(tmp_path / "a.tsv", f"{name}\tlabel\nGo on\tgood\n", (name, "label")) == [["Go on", "good"]]
    assert rows(tmp_path / "a.jsonl", f'{{"{name}": "Go on", "label": "good"}}', (name, "label")) == [["Go on", "good"]]
    with pytest.raises(DataError, match=rf"a.jsonl:1: {name} must be text, got \['Go', 'on'\]"):
        rows(tmp_path / "a.jsonl", f'{{"{name}": ["Go", "on"], "label": "good"}}', (name, "label"))
    with pytest.raises(DataError, match=rf"a.jsonl:1: has no {name}$"):
        rows(tmp_path / "a.jsonl", f'{{"{name}": null, "label": "good"}}', (name, "label"))


def test_the_suffix_before_that_of_the_compression_selects_the_reader(tmp_path: Path) -> None:
    for open_compressed, suffix in ((gzip.open, "gz"), (bz2.open, "bz2"), (lzma.open, "xz")):
        for name, content in (("a.csv", "text,label\nHi,good\n"), ("a.jsonl", '{"text": "Hi", "label": "good"}\n')):
            with open_compressed(tmp_path / f"{name}.{suffix}", "wt") as file:
                file.write(content)
            packed = (tmp_path / f"{name}.{suffix}").read_bytes()
            assert rows(tmp_path / f"{name}.{suffix}", packed) == [["Hi", "good"]]


def test_raw_text_is_not_json(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a.txt: has JSON objects"):
        rows(tmp_path / "a.txt", '{"text": "Hi"}\n', ("text",))
    assert rows(tmp_path / "b.txt", "{a} he said, sep=,\n", ("text",)) == [["{a} he said, sep=,"]]


def test_a_file_of_which_every_row_is_wrong_has_no_other_mistake(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\nHi,2\nOh,2\n")
    found, mistakes = Found(File(path="a.csv", classes=("bad", "good")), (str(tmp_path / "a.csv"),)), list[DataError]()
    assert not [*read(found, "en", fields=("text", "label"), inputs=("text",), on_error=mistakes.append)]
    assert [error.message for error in mistakes] == ["label '2' is not one of the classes"] * 2


def test_a_quotation_mark_that_swallows_rows_is_noted(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text,label\n"Hi,good\nOh,bad\nSo",bad\n"Well,\nyes, or no\n",good\n')
    found, notes = Found(File(path="a.csv"), (str(tmp_path / "a.csv"),)), list[str]()
    rows = read(found, "en", fields=("text", "label"), inputs=("text",), on_warning=lambda *note: notes.extend(note))
    assert len([*rows]) == 2
    assert notes == [
        "a cell has lines that look like rows; is its quotation mark not closed?", f"{tmp_path}/a.csv:2"
    ]  # fmt: skip
