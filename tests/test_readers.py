"""Reading data files: every layout, and every way in which one can be broken."""

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from xstilts.data.find import Found
from xstilts.data.readers import read
from xstilts.errors import DataError
from xstilts.formats.base import Row
from xstilts.tasks.source import File

NLI = ("premise", "hypothesis", "label")


def rows(path: Path, content: str | bytes = "", fields: tuple[str, ...] = NLI, **more: Any) -> list[Row]:
    """Read a file, after writing it if there is content; `labels` fields at the end may be absent."""
    if content or not path.exists():
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    language, labels = more.pop("lang", "de"), more.pop("labels", 1)
    pair = (str(path.parent / more["pair"]),) if "pair" in more else ()
    gold = str(path.parent / more["gold"]) if "gold" in more else None
    found = Found(File(path=path.name, **more), (str(path),), pair, gold)
    return list(read(found, language, fields=fields, inputs=fields[: len(fields) - labels]))


def values(*args: Any, **kwargs: Any) -> list[dict[str, Any]]:
    return [dict(row.values) for row in rows(*args, **kwargs)]


def tags(path: Path, content: str | bytes = "", lang: str = "de") -> list[tuple[list[str], list[str] | None]]:
    return [(row["words"], row.get("tags")) for row in values(path, content, ("words", "tags"), lang=lang)]


def test_tsv_without_header_has_no_quoting(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    assert values(path, '"Ein ""Satz"""\tzwei\tneutral\r\na\t"b\tentailment') == [
        {"premise": '"Ein ""Satz"""', "hypothesis": "zwei", "label": "neutral"},
        {"premise": "a", "hypothesis": '"b', "label": "entailment"},
    ]
    assert [row.where for row in rows(path)] == [f"{path}:1", f"{path}:2"]


def written(cells: list[list[str]], end: str = "\r\n") -> str:
    """A table as a CSV writer makes it with tabs."""
    out = io.StringIO()
    csv.writer(out, delimiter="\t", lineterminator=end).writerows(cells)
    return out.getvalue()


CELLS = [["a", "b", "neutral"], ['Ein "Satz"', "zwei", "neutral"], ['"', 'say ""so""', "neutral"], ["it's", '"c"', "x"]]


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_a_table_written_as_csv_is_unwrapped(tmp_path: Path, end: str, suffix: str) -> None:
    once = written(CELLS, end)
    twice = written([line.split("\t") for line in once.split(end)[:-1]], end)
    for name, content in (("once", once), ("twice", twice)):
        whole = gzip.compress(content.encode()) if suffix else content.encode()
        read = values(tmp_path / f"{name}.tsv{suffix}", whole)
        assert [list(row.values()) for row in read] == CELLS, name


@pytest.mark.parametrize("odd", ['"c"', 'c "d"', '"', '"c', '""', '"a "" b" c"'])
def test_one_cell_that_is_not_csv_leaves_all_cells_unchanged(tmp_path: Path, odd: str) -> None:
    content = written(CELLS) + f"{odd}\tb\tneutral\r\n"
    assert [row["premise"] for row in values(tmp_path / "a.tsv", content)][1:] == [
        '"Ein ""Satz"""',
        '""""',
        "it's",
        odd,
    ]


def test_a_file_with_only_input_columns_has_no_labels(tmp_path: Path) -> None:
    assert values(tmp_path / "a.tsv", "a\tb\n") == [{"premise": "a", "hypothesis": "b"}]


def test_a_header_is_recognised_by_its_names_even_after_a_bom(tmp_path: Path) -> None:
    content = "\ufeffid\thypothesis\tlabel\tpremise\n7\tb\tneutral\ta\n"
    assert values(tmp_path / "a.tsv", content) == [{"id": "7", "hypothesis": "b", "label": "neutral", "premise": "a"}]


def test_a_header_without_an_input_is_not_read_as_an_example(tmp_path: Path) -> None:
    """A table of `text,label` gives a task with the default `texts` no pair of text and label."""
    with pytest.raises(DataError, match=r"a.csv:1: the header has text, label; the task wants premise, hypothesis"):
        rows(tmp_path / "a.csv", "text,label\nThe tea was cold.,bad\n")
    with pytest.raises(DataError, match=r"b.tsv:1: .*; the task wants premise \(did you mean 'premises'\?\)"):
        rows(tmp_path / "b.tsv", "premises\thypothesis\nIt rains.\tIt is wet.\n")


def test_columns_name_or_rename(tmp_path: Path) -> None:
    (row,) = values(tmp_path / "a.tsv", "1\ta\tb\t18\n", columns=("label", "premise", "hypothesis", "id"))
    assert row == {"label": "1", "premise": "a", "hypothesis": "b", "id": "18"}
    renaming = {"premise": "sentence1", "hypothesis": "sentence2", "label": "gold"}
    (row,) = values(tmp_path / "b.tsv", "sentence1\tsentence2\na\tb\n", columns=renaming)
    assert row == {"sentence1": "a", "sentence2": "b", "premise": "a", "hypothesis": "b"}
    with pytest.raises(DataError, match=r"b.tsv:2: has no 'sentence3' \(did you mean 'sentence2'\?\)"):
        rows(tmp_path / "b.tsv", columns={"hypothesis": "sentence3"})


def test_unusual_characters_do_not_end_a_line(tmp_path: Path) -> None:
    odd = "a\u2028b\u0085c\x0bd\x0ce\x1cf\rg"
    assert values(tmp_path / "a.txt", f"{odd}\nh\n", ("text",), labels=0) == [{"text": odd}, {"text": "h"}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\n", r"a.tsv:1: has 1 column, needs premise, hypothesis \(and label\)"),
        ("a\tb\tc\td\n", r"a.tsv:1: has 4 columns, needs premise, hypothesis \(and label\) \(`columns` can name"),
        ("a\tb\tc\na\tb\n", "a.tsv:2: has 2 columns, the first row has 3"),
        ("a\tb\na\tb\tc\n", "a.tsv:2: has 3 columns, the first row has 2"),
        ("a\tb\tc\n \tb\tc\n", "a.tsv:2: empty premise"),
        ("", "a.tsv: is empty"),
        ("premise\thypothesis\tlabel\n", "a.tsv: is empty"),
        (b"a\tb\tc\nd\te\xff\tf\n", "a.tsv:2: is not UTF-8 at byte 9"),
        (b"\xef\xbb\xbfa\tb\xff\n", "a.tsv:1: is not UTF-8 at byte 6"),
    ],
)
def test_broken_tables_are_refused_with_their_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        rows(tmp_path / "a.tsv", content)


def test_csv_may_hold_commas_quotes_and_line_ends(tmp_path: Path) -> None:
    content = 'premise,hypothesis,label\r\n"a, ""b""\r\nc",d,neutral\r\n\r\ne,f,neutral\r\n'
    first, second = rows(tmp_path / "a.csv", content)
    assert (first.values["premise"], first.line, second.line) == ('a, "b"\nc', 2, 5)


@pytest.mark.parametrize("cell", ['"open', '"he said "no" to it"'])
def test_csv_with_a_stray_quote_is_refused(tmp_path: Path, cell: str) -> None:
    with pytest.raises(DataError, match=r"a.csv:2: is not CSV: .*quotation mark"):
        rows(tmp_path / "a.csv", f"premise,hypothesis,label\n{cell},b,neutral\n")


def test_jsonl_renames_and_reaches_into_objects(tmp_path: Path) -> None:
    question = {"question": {"stem": "why?", "choices": [{"text": "no"}, {"text": "yes"}]}, "answerKey": "B"}
    columns = {"ask": "question.stem", "second": "question.choices.1.text", "label": "answerKey"}
    (row,) = values(tmp_path / "a.jsonl", json.dumps(question) + "\r\n\n", ("ask", "second", "label"), columns=columns)
    assert (row["ask"], row["second"], row["label"]) == ("why?", "yes", "B")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"premise": "a", "hypothesis": "b", "label": 1', "a.jsonl:2: is not JSON: .* at column 47"),
        ('{"premise": "a", "hypotesis": "b"}', r"a.jsonl:2: has no hypothesis \(did you mean 'hypotesis'\?\)"),
        ('{"premise": "a", "hypothesis": null}', "a.jsonl:2: has no hypothesis"),
        ('{"premise": "", "hypothesis": "b"}', "a.jsonl:2: empty premise"),
        ('{"premise": "a", "hypothesis": "b"}', "a.jsonl:2: has no label"),
        ("[1]", r"a.jsonl:2: is not a JSON object \(a list of objects needs the suffix .json\)"),
    ],
)
def test_broken_jsonl_is_refused_with_its_line(tmp_path: Path, line: str, message: str) -> None:
    good = '{"premise": "a", "hypothesis": "b", "label": 1}\n'
    with pytest.raises(DataError, match=message):
        rows(tmp_path / "a.jsonl", good + line)


def test_squad_layout_gives_a_row_for_each_question(tmp_path: Path) -> None:
    asked = [{"id": f"q{i}", "question": f"what {i}?", "answers": [{"text": "c", "answer_start": 0}]} for i in range(2)]
    document = {"version": "1.1", "data": [{"title": "t", "paragraphs": [{"context": "c", "qas": asked}]}]}
    first, second = values(tmp_path / "a.json", json.dumps(document, indent=1), ("context", "question", "answers"))
    assert (first, second["question"]) == ({"title": "t", "context": "c", **asked[0]}, "what 1?")


def test_json_is_a_list_of_objects_or_refused(tmp_path: Path) -> None:
    assert values(tmp_path / "a.json", '[{"text": "a"}, {"text": "b"}]', ("text",), labels=0)[1] == {"text": "b"}
    with pytest.raises(DataError, match=r"b.json:2: is not JSON: Extra data .*needs the suffix .jsonl"):
        rows(tmp_path / "b.json", '{"text": "a"}\n{"text": "b"}\n', ("text",), labels=0)
    with pytest.raises(DataError, match="neither in SQuAD's layout"):
        rows(tmp_path / "c.json", '{"text": "a"}', ("text",), labels=0)


def test_parquet_counts_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pyarrow.table({"premise": ["a", "c"], "hypothesis": ["b", "d"], "label": [0, 2]})
    pyarrow.parquet.write_table(table, path)
    assert [(row.values["premise"], row.values["label"], row.line) for row in rows(path)] == [("a", 0, 1), ("c", 2, 2)]
    with pytest.raises(DataError, match=r"b.parquet: is not Parquet"):
        rows(tmp_path / "b.parquet", "nonsense")


def test_aligned_text_keeps_line_with_line(tmp_path: Path) -> None:
    (tmp_path / "t.eng").write_text("one\ntwo\n")
    pairs = values(tmp_path / "t.deu", "eins\nzwei", ("source", "target"), labels=0, pair="t.eng")
    assert pairs == [
        {"source": "eins", "target": "one", "number": 0},
        {"source": "zwei", "target": "two", "number": 1},
    ]


@pytest.mark.parametrize(("text", "number"), [("eins\n", 1), ("1\n2\n3\n4\n", 4)])
def test_aligned_text_of_unequal_length_is_refused(tmp_path: Path, text: str, number: int) -> None:
    (tmp_path / "t.eng").write_text("one\ntwo\n")
    with pytest.raises(DataError, match=f"t.deu: has {number} lines, but its translation .*t.eng has 2"):
        rows(tmp_path / "t.deu", text, ("source", "target"), labels=0, pair="t.eng")


def test_damaged_gzip_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress("".join(f"{i * 7919 % 1000003}\tb\tc\n" for i in range(50_000)).encode())
    with pytest.raises(DataError, match=r"a.tsv.gz: is not a complete gzip file: it ends after line \d+"):
        rows(tmp_path / "a.tsv.gz", whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"b.tsv.gz: is not a gzip file"):
        rows(tmp_path / "b.tsv.gz", "a\tb\tc\n")
    assert len(rows(tmp_path / "c.tsv.gz", whole)) == 50_000


def test_where_keeps_the_rows_of_a_language(tmp_path: Path) -> None:
    content = "language\tpremise\thypothesis\nfr\ta\tb\nde\tc\td\n"
    (row,) = rows(tmp_path / "a.tsv", content, where={"language": "{lang}"})
    assert (row.values["premise"], row.line) == ("c", 3)
    with pytest.raises(DataError, match="has no row with language = sw"):
        rows(tmp_path / "a.tsv", lang="sw", where={"language": "{lang}"})
    with pytest.raises(DataError, match=r"has no 'lang' \(did you mean 'language'\?\)"):
        rows(tmp_path / "a.tsv", where={"lang": "de"})


def test_parts_divide_all_rows_in_order(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("".join(f"{i}\n" for i in range(8)))
    parts = [[row["text"] for row in values(path, "", ("text",), labels=0, part=f"{k}/3")] for k in (1, 2, 3)]
    assert parts == [["0", "1"], ["2", "3", "4"], ["5", "6", "7"]]
    with pytest.raises(DataError, match="has 8 rows, which leaves none for part 1/9"):
        rows(path, "", ("text",), labels=0, part="1/9")


def test_paths_of_a_pattern_are_joined(tmp_path: Path) -> None:
    paths = tuple(str(tmp_path / f"{name}.tsv") for name in "ab")
    for path in paths:
        Path(path).write_text(f"{path}\tx\tneutral\n")
    joined = read(Found(File(path="*.tsv"), paths), "de", fields=NLI, inputs=NLI[:2])
    assert [(row.values["premise"], row.where) for row in joined] == [(path, f"{path}:1") for path in paths]


def test_rows_are_read_lazily(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\n" * 10 + b"\xff\n")
    assert next(read(Found(File(path="a.txt"), (str(path),)), "de", fields=("text",), inputs=("text",))).line == 1


def test_tagged_sentences_are_separated_by_any_number_of_blank_lines(tmp_path: Path) -> None:
    content = "\ufeff\nEin\tDET\r\nHund\tNOUN \r\n\r\n \t\r\n# Tag\tNOUN\n\tO"
    (first, second) = rows(tmp_path / "a.tsv", content, ("words", "tags"))
    assert (first.values, first.line) == ({"words": ["Ein", "Hund"], "tags": ["DET", "NOUN"]}, 2)
    assert (second.values, second.line) == ({"words": ["# Tag", ""], "tags": ["NOUN", "O"]}, 6)


def test_tokens_alone_are_sentences_without_tags(tmp_path: Path) -> None:
    assert tags(tmp_path / "a.tsv", "ACME GmbH\nist\t\n\nda\n") == [(["ACME GmbH", "ist"], None), (["da"], None)]


def test_conll_columns_may_be_separated_by_spaces(tmp_path: Path) -> None:
    content = "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\n"
    assert tags(tmp_path / "a.conll", content) == [(["EU", "rejects"], ["B-ORG", "O"])]
    assert tags(tmp_path / "train", "Ein DET\n") == [(["Ein"], ["DET"])]


@pytest.mark.parametrize("content", ["a\tX\nb\n", "a\tX\n\nb\n", "a\n\nb\tX\n"])
def test_labelled_and_unlabelled_tokens_do_not_mix(tmp_path: Path, content: str) -> None:
    with pytest.raises(DataError, match=r"a.tsv:[23]: has \d columns?, line 1 has"):
        tags(tmp_path / "a.tsv", content)


def test_raw_panx_tokens_lose_their_language(tmp_path: Path) -> None:
    content = "de:Berlin:Mitte\tB-LOC\nde:12:30\tO\n\nde:\tO\nde:ACME GmbH\tB-ORG\nnocolon\tO\nde: x\tI-ORG\n"
    assert tags(tmp_path / "dev", content) == [
        (["Berlin:Mitte", "12:30"], ["B-LOC", "O"]),
        (["", "ACME GmbH", "x"], ["O", "B-ORG", "I-ORG"]),
    ]
    assert tags(tmp_path / "dev", lang="fr")[0][0][0] == "de:Berlin:Mitte"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1\tEin\t_\tDET\n", "a.conllu:1: has 4 columns, CoNLL-U has 10"),
        ("# text\n\nx\ta\t_\tX\t_\t_\t0\t_\t_\t_\n", "a.conllu:3: 'x' is not a token number"),
        ("1-2\tIm\t_\t_\t_\t_\t_\t_\t_\t_\n1\tIn\t_\tADP\t_\t_\t0\t_\t_\t_\n", "a.conllu:1: .*'Im' lacks a part"),
    ],
)
def test_broken_conllu_is_refused_with_its_line(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        tags(tmp_path / "a.conllu", content)
