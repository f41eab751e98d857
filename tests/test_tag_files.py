"""Tags as people write them: columns, headers, comments, tag schemes, and what is refused."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import CliResult
from test_readers import rows, tags, values
from test_tables import written
from xstilts import metrics
from xstilts.data.examples import locate
from xstilts.errors import DataError, UserError
from xstilts.formats import Tag
from xstilts.formats.base import Row
from xstilts.metrics.chunks import miscounted
from xstilts.tasks.source import Source
from xstilts.tasks.task import Task
from xstilts.tasks.user_tasks import with_user_tasks

WORDS = ("words", "tags")


def task(path: Path, content: str, **fields: Any) -> Task:
    """A task with one file of tags for training."""
    path.write_text(content)
    source = Source.model_validate({"path": path.name, "base": path.parent})
    return Task(**{"name": "names", "format": Tag(), "data": {"train": source}, "metrics": ("chunk_f1",)} | fields)


def read(path: Path, content: str, **fields: Any) -> tuple[list[Any], list[str]]:
    """The examples of a task with one file, and the notes about them."""
    made, notes = task(path, content, **fields), list[str]()
    return locate(made, made.data["train"], ("en",), None, train=True).read(notes.append), notes


# Types and schemes


def test_a_type_is_all_that_follows_the_first_hyphen() -> None:
    score = metrics.get("chunk_f1").score
    assert score([["B-dish-cold", "O"]], [["B-drink-cold", "O"]]) == 0.0
    assert score([["B-dish-cold", "I-dish-cold"]], [["B-dish-cold", "I-dish-cold"]]) == 100.0
    assert score([["I-dish-cold", "I-drink-cold"]], [["I-dish-cold", "I-drink-cold"]]) == 100.0  # two chunks


def test_a_bare_tag_is_a_type_whatever_its_letters() -> None:
    """Seqeval 0.0.12 has no chunk for `.` and `ORD`, and one type for all brackets."""
    score = metrics.get("chunk_f1").official_scores
    assert score([["DT", "ORD", "."]], [["DT", "NN", "."]])["recall"] == pytest.approx(200 / 3)
    assert score([["-LRB-", "NN", "-RRB-"]], [["-RRB-", "NN", "-LRB-"]])["f1"] == pytest.approx(100 / 3)


@pytest.mark.parametrize(
    "seen",
    [
        "O B-ship I-ship", "O I-ship", "O B-ship I-ship E-ship S-ship", "O B-ship-old I-ship_new", "NOUN SCONJ SYM X",
        "DT . -LRB- `` IN OTH", "N-SG V-PST A-POS", "a b c i n o v", "A B I N", "ADJ-i",
        "S[dcl]\\NP (S\\NP)/NP N/N",
    ],
)  # fmt: skip
def test_chunk_f1_counts_bio_bioes_and_a_bare_tag_a_word(seen: str) -> None:
    assert miscounted(seen.split()) is None


@pytest.mark.parametrize(
    ("seen", "what"),
    [
        ("O B-ship L-ship", r"'L-ship' beside 'O' .*write 'E-ship'"),
        ("O U-port", r"'U-port' beside 'O' .*write 'S-port'"),
        ("B-ship M-ship E-ship", r"'M-ship' beside 'B-ship' .*write 'I-ship'"),
        ("O B_ship I_ship", r"'B_ship' beside 'O' .*write 'B-ship'"),
        ("B_ship I_ship", r"'B_ship' .*write 'B-ship'"),
        ("O ship-B ship-I", r"'ship-B' beside 'O' .*write 'B-ship'"),
        ("ship-B ship-I", r"'ship-B' .*write 'B-ship'"),
        ("B I O", r"'B' beside 'O'"),
        ("B O", r"'B' beside 'O'"),
        ("B I", r"'B' "),
        ("B M E S", r"'B' "),
        ("S B E", r"'S' "),
        ("b i o", r"'b' "),
        ("o b-ship i-ship", r"'b-ship' .*write 'B-ship'"),
        ("O B-", r"'B-' beside 'O'"),
        ("O SHIP PORT", r"'SHIP' beside 'O'"),
        ("B-ship I-ship 0", r"'0' beside 'B-ship' .*write 'O'"),
        ("B-ship _", r"'_' beside 'B-ship' .*write 'O'"),
        ("* (ship* *)", r"'\(ship\*' "),
        ("O B\u2013ship", r"'B\u2013ship' beside 'O' .*write 'B-ship'"),
        ("0 3 4", r"'0' .*`classes` names numbered tags"),
        ("NOUN _ VERB", r"'_' .*write 'O'"),
        ("NOUN B-ship VERB", r"'NOUN' beside 'B-ship'"),
    ],
)
def test_chunk_f1_refuses_other_schemes_when_data_are_read(tmp_path: Path, seen: str, what: str) -> None:
    content = "\n".join(f"w{n}\t{tag}" for n, tag in enumerate(seen.split())) + "\n"
    with pytest.raises(DataError, match=r"a.txt:1: chunk_f1 cannot count the tag " + what) as caught:
        read(tmp_path / "a.txt", content)
    assert "B-TYPE, I-TYPE, E-TYPE, S-TYPE" in str(caught.value) and "token_accuracy" in str(caught.value)
    with pytest.raises(ValueError, match="cannot count the tag"):
        task(tmp_path / "a.txt", content, format=Tag(labels=tuple(seen.split()) + (() if " " in seen else ("O",))))
    assert len(read(tmp_path / "a.txt", content, metrics=("token_accuracy",))[0]) == 1


def test_a_foreign_scheme_is_told_once_with_its_first_place(tmp_path: Path) -> None:
    content = "The\tO\nAda\tU-ship\n\n" + "Port\tB-port\nAda\tL-port\n\n" * 30
    with pytest.raises(DataError, match=r"a.txt:1: chunk_f1 cannot count the tag 'U-ship' beside 'O'"):
        read(tmp_path / "a.txt", content)
    with pytest.raises(DataError, match=r"a.jsonl:2: .*'L-port' beside 'O'"):
        lines = ['{"words": ["a"], "tags": ["O"]}', '{"words": ["a", "b"], "tags": ["B-port", "L-port"]}']
        read(tmp_path / "a.jsonl", "\n".join(lines))


def test_labels_of_a_foreign_scheme_are_refused_in_the_task_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("ships:\n  format: tag\n  labels: [O, B-ship, L-ship]\n  data: {train: a.txt}\n")
    with pytest.raises(UserError, match=r"mine.yaml:1: ships: .*'L-ship' beside 'O'; write 'E-ship'"):
        with_user_tasks([path])
    path.write_text(path.read_text() + "  metrics: [token_accuracy]\n")
    assert with_user_tasks([path])["ships"].metric == "token_accuracy"


@pytest.mark.parametrize("sign", ["\u200b", "\ufeff", "\u00a0", "\u00ad", "\r"])
def test_signs_in_tags_that_cannot_be_seen_are_refused_and_shown(tmp_path: Path, sign: str) -> None:
    shown = ascii(sign)[1:-1].replace("\\", r"\\")
    with pytest.raises(DataError, match=rf"a.txt:1: the tag 'B-ship{shown}' of 'Ada' has an invisible character"):
        read(tmp_path / "a.txt", f"Ada\tB-ship{sign} \nleft\tO\n")
    with pytest.raises(DataError, match=rf"unknown tag 'B-ship{shown}' of 'Ada' \(did you mean 'B-ship'\?\)"):
        Tag(labels=("O", "B-ship")).read(Row({"words": ["Ada"], "tags": [f"B-ship{sign}"]}, "f", 1))


# Comments


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "# id 7-1 lang=en\nShe _ _ O\nsails _ _ O\n\n# id 7-2 lang=en\nAda _ _ B-ship\n"),
        ("a.txt", "# 7\nShe O\nsails O\n\n# 8\nAda B-ship\n"),
        ("a.txt", "# id 7\tlang=en\nShe\t_\t_\tO\nsails\t_\t_\tO\n\n# id 8\tlang=en\nAda\t_\t_\tB-ship\n"),
        ("a.tsv", "# id 7\tlang=en\nShe\tO\nsails\tO\n\n# id 8\tlang=en\nAda\tB-ship\n"),
        ("a.tsv", "# by hand\n#\n\n# id = 7\n# text = She sails\nShe\tO\nsails\tO\n\n# id = 8\nAda\tB-ship"),
    ],
)  # fmt: skip
def test_comments_before_a_sentence_are_left_out(tmp_path: Path, name: str, content: str) -> None:
    assert tags(tmp_path / name, content) == [(["She", "sails"], ["O", "O"]), (["Ada"], ["B-ship"])]


def test_number_sign_and_tab_begin_a_comment_unless_the_columns_are_those_of_tokens(tmp_path: Path) -> None:
    content = "#\thttps://ships.example\t[2009-10-17]\n1\tAda\tB-ship\tO\n2\tsails\tO\tO\n\n#\tb\n1\t#\tO\tO\n"
    found = values(tmp_path / "a.tsv", content, WORDS, columns=("number", "words", "tags", "inner"))
    assert found == [{"words": ["Ada", "sails"], "tags": ["B-ship", "O"]}, {"words": ["#"], "tags": ["O"]}]


def test_comments_after_the_header_are_left_out(tmp_path: Path) -> None:
    content = "TOKEN\tNE\tMISC\n# language = de\n# text = Ada in _\nAda\tB-ship\t_\nsails\tO\t_\n\n# id 2\nShe\tO\t_\n"
    found = values(tmp_path / "a.tsv", content, WORDS, columns={"words": "TOKEN", "tags": "NE"})
    assert [row["words"] for row in found] == [["Ada", "sails"], ["She"]]


def test_a_comment_without_tabs_is_no_token_of_a_file_with_tabs(tmp_path: Path) -> None:
    found, notes = read(tmp_path / "a.txt", "# text O\nAda\tx\tB-ship\nsails\tx\tO\n\n# b O\nShe\tx\tO\n")
    assert [example.words for example in found] == [("Ada", "sails"), ("She",)] and notes == []


def test_comments_of_sentences_without_tags_are_left_out(tmp_path: Path) -> None:
    assert tags(tmp_path / "a.tsv", "# sent_id = 7\nShe\nsails\n\n# 8\n#\n1\n") == [
        (["She", "sails"], None),
        (["#", "1"], None),
    ]


def test_a_number_sign_that_is_a_word_stays(tmp_path: Path) -> None:
    assert tags(tmp_path / "a.txt", "# O\n1 O\n\n# no token\n# O\n") == [(["#", "1"], ["O", "O"]), (["#"], ["O"])]
    assert tags(tmp_path / "d.txt", "# #\n5 CD\n\n# #\n") == [(["#", "5"], ["#", "CD"]), (["#"], ["#"])]
    content = "# # B-NP\n1.5 CD I-NP\n. . O\n\n# # B-NP\n2 CD I-NP\nin IN B-NP\n"
    assert [words for words, _ in tags(tmp_path / "b.txt", content)] == [["#", "1.5", "."], ["#", "2", "in"]]
    assert tags(tmp_path / "c.tsv", "#\tSYM\n1\tNUM\n\n#sale\tX\n") == [
        (["#", "1"], ["SYM", "NUM"]),
        (["#sale"], ["X"]),
    ]


def test_a_line_that_may_be_a_word_is_noted(tmp_path: Path) -> None:
    found, notes = read(tmp_path / "a.txt", "# 7\nAda B-ship\nsails O\n\n# 8\nShe O\n")
    assert [example.words for example in found] == [("Ada", "sails"), ("She",)]
    assert notes == [
        f"{tmp_path}/a.txt:1: is read as a comment, because it begins with '# ' and does not end in a tag, and 1 more "
        "like it"
    ]


def test_other_comments_are_refused_at_their_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a.tsv:4: has 1 column, line 1 has 2 \(a comment begins with '# '"):
        tags(tmp_path / "a.tsv", "Ada\tB-ship\nsails\tO\n\n#begin 2\nShe\tO\n")
    with pytest.raises(DataError, match=r"b.tsv:2: has 1 column, line 1 has 2 \(a comment .* before a sentence\)"):
        tags(tmp_path / "b.tsv", "Ada\tB-ship\n# a note\nsails\tO\n")

    with pytest.raises(DataError, match=r"c.txt:1: has 5 columns, line 2 has 2 \(a comment begins"):
        tags(tmp_path / "c.txt", "#begin document (log/7); part 0\nAda B-ship\n\n#end document\n")


# Columns


NUMBERED = "1\tAda\tB-ship\tO\n2\tsails\tO\tO\n\n1\tPort\tB-club\tB-port\n2\tAda\tI-club\tI-port\n"


@pytest.mark.parametrize(
    "content",
    [NUMBERED, NUMBERED.replace("\t", " "), "0\tAda\n1\tsails\n", "7\tAda\tO\n7\tsails\tO\n\n8\tShe\tO\n8\tsails\tO\n",
     "1\tAda\tO\n2\tsails\tO\n\n3\tShe\tO\n4\tsails\tO\n", "7\tAda\tO\n7\tsails\tO\n8\tShe\tO\n8\tsails\tO\n",
     "1-2\tAtsea\tO\n1\tAt\tO\n2\tsea\tO\n",
     "1-1\t0-3\tAda\tB-ship\n1-2\t4-9\tsails\tO\n"],
)  # fmt: skip
def test_a_first_column_of_numbers_is_not_read_as_words(tmp_path: Path, content: str) -> None:
    with pytest.raises(DataError, match=r"a.txt:1: the first column numbers the tokens \(`columns: \[number, words"):
        tags(tmp_path / "a.txt", content)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("B-ship Ada\nO sails\nO home\n", "has tags"),
        ("PROPN\tAda\nVERB\tsails\nADV\thome\n", "has tags"),
        ("log/7 0 Ada B-ship\nlog/7 1 sails O\n\n" * 3, "has one value for all tokens of a sentence"),
        ("1\tAda\tAda\tPROPN\t_\t_\t2\tsubj\t_\t_\n2\tsails\tsail\tVERB\t_\t_\t0\troot\t_\t_\n",
         "numbers the tokens .*; CoNLL-U has the suffix .conllu"),
    ],
)  # fmt: skip
def test_a_first_column_without_words_is_refused(tmp_path: Path, content: str, what: str) -> None:
    if "log" in content:
        content = content.replace("\n\n", "\nlog/7 2 far O\n\n")
    with pytest.raises(DataError, match=rf"a.txt:1: the first column {what}"):
        tags(tmp_path / "a.txt", content)


def test_words_that_are_numbers_are_words(tmp_path: Path) -> None:
    assert tags(tmp_path / "a.tsv", "1\tNUM\n\n2\tNUM\n\nEin\tDET\n")[1] == (["2"], ["NUM"])
    assert tags(tmp_path / "b.tsv", "1\tNUM\n2\tNUM\n3\tNUM\n\nlos\tX\n")[0][0] == ["1", "2", "3"]
    assert tags(tmp_path / "c.tsv", "12\tNUM\n5\tNUM\n\n3\tNUM\n8\tNUM\n")[0][0] == ["12", "5"]


def test_columns_say_which_column_is_which(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    (first, second) = values(path, NUMBERED, WORDS, columns=("number", "words", "tags", "inner"))
    assert first == {"words": ["Ada", "sails"], "tags": ["B-ship", "O"]}
    assert second["tags"] == ["B-club", "I-club"]
    inner = values(path, fields=WORDS, columns=("number", "words", "outer", "tags"))
    assert inner[1] == {"words": ["Port", "Ada"], "tags": ["B-port", "I-port"]}
    assert values(tmp_path / "b.tsv", "1\tAda\n", WORDS, columns=("number", "words", "tags")) == [{"words": ["Ada"]}]
    with pytest.raises(DataError, match=r"a.txt:1: has 4 columns, `columns` names number, words, tags"):
        rows(path, fields=WORDS, columns=("number", "words", "tags"))
    with pytest.raises(DataError, match=r"a.txt:1: `columns` has 'token', but no 'words' \(call it `words`\)"):
        rows(path, fields=WORDS, columns=("number", "token", "tags", "inner"))
    with pytest.raises(DataError, match=r"a.txt:1: `columns` has 'ner', but no 'tags'"):
        rows(path, fields=WORDS, columns={"words": "token", "ner": "ner"})


@pytest.mark.parametrize("head", ["Word\tTag", "token ner_tags", "Sentence\tword\ttag", "\nFORM\tmisc\tUPOS"])
def test_a_header_is_not_a_token(tmp_path: Path, head: str) -> None:
    first = "x\t" if "Sentence" in head else ""
    cells = f"{first}Ada\tPROPN" if "misc" not in head else "Ada\t_\tPROPN"
    twice = f"{head}\n{cells}\n\n{cells}\n\n" * 2
    assert tags(tmp_path / "a.txt", twice) == [(["Ada"], ["PROPN"])] * 4


def test_columns_name_a_headers_columns(tmp_path: Path) -> None:
    content = "nr\ttoken\tpos\tner\n1\tAda\tPROPN\tB-ship\n2\tsails\tVERB\tO\n"
    with pytest.raises(DataError, match=r"a.tsv:1: the header names pos and ner, which may both be meant"):
        tags(tmp_path / "a.tsv", content)
    (row,) = values(tmp_path / "a.tsv", content, WORDS, columns={"words": "token", "tags": "ner"})
    assert (row["words"], row["tags"]) == (["Ada", "sails"], ["B-ship", "O"])
    with pytest.raises(DataError, match=r"a.tsv:1: the header has no column 'tokens' \(did you mean 'token'\?\)"):
        rows(tmp_path / "a.tsv", fields=WORDS, columns={"words": "tokens", "tags": "ner"})


def test_blanks_around_columns_and_between_sentences_mean_nothing(tmp_path: Path) -> None:
    content = "Ada\t B-ship\t\nsails\tO \t \n \t \nShe\tO\n\u00a0\nsails\tO\n\n \n\t\n"
    assert tags(tmp_path / "a.tsv", content) == [
        (["Ada", "sails"], ["B-ship", "O"]),
        (["She"], ["O"]),
        (["sails"], ["O"]),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Ada\tB-ship\nsails\t\nto\tO\n", "a.tsv:2: has 1 column, line 1 has 2"),
        ("Ada\t\nsails\tO\n", "a.tsv:2: has 2 columns, line 1 has 1"),
        ("Ada\tx\tB-ship\nsails\tx\t\n", "a.tsv:2: has 2 columns, line 1 has 3"),
    ],
)
def test_a_token_without_its_tag_is_refused(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        tags(tmp_path / "a.tsv", content)


@pytest.mark.parametrize("quoting", [csv.QUOTE_ALL, csv.QUOTE_MINIMAL])
def test_a_csv_writers_quoting_of_words_and_tags_is_undone(tmp_path: Path, quoting: Any) -> None:
    content = written([["word", "tag"], ["Ada", "B-ship"], ['"', "O"], ["", ""], ["sails", "O"]], quoting)
    content = content.replace('""\t""\n', "\n")
    assert tags(tmp_path / "a.tsv", content) == [(["Ada", '"'], ["B-ship", "O"]), (["sails"], ["O"])]
    assert tags(tmp_path / "b.tsv", '"\tO\n"Ada"\tO\n')[0][0] == ['"', '"Ada"']


def test_a_file_without_blank_lines_is_noted(tmp_path: Path) -> None:
    (found,), notes = read(tmp_path / "a.txt", "Ada\tB-ship\nsails\tO\n" * 501)
    assert len(found.words) == 1002
    assert notes == [f"{tmp_path}/a.txt:1: begins a sentence of more than 1,000 words; are blank lines missing?"]


def test_a_table_of_words_and_tags_is_refused_with_the_right_layout(tmp_path: Path) -> None:
    for head in ("words,tags", "Sentence #,Word,POS,Tag"):
        with pytest.raises(UserError, match=r"a.csv: is CSV, whose cells cannot hold lists of words \(a word, a tab"):
            read(tmp_path / "a.csv", f"{head}\nAda,B-ship\n")
    with pytest.raises(UserError, match=r"a.json: object 1: words and tags must be lists \(or a word, a tab and its"):
        read(tmp_path / "a.json", '[{"words": "Ada", "tags": "B-ship"}]')
    with pytest.raises(UserError, match=r"a.jsonl:1: .* must be text, not 3 \(`classes` names numbered tags"):
        read(tmp_path / "a.jsonl", '{"words": ["Ada"], "tags": [3]}')
    with pytest.raises(UserError, match=r"a.txt:1: has JSON objects \(rename it to .jsonl\)"):
        read(tmp_path / "a.txt", '{"words": ["Ada"], "tags": ["O"]}\n')
    for mark in ",;|":
        with pytest.raises(UserError, match=r"a.txt:1: has a word and its tag without a tab between"):
            read(tmp_path / "a.txt", "Ada,B-ship\nsails,O\nhome,O\n".replace(",", mark))
    with pytest.raises(UserError, match=r"a.jsonl:1: the tag 'O ' of 'Ada' has a blank around it"):
        read(tmp_path / "a.jsonl", '{"words": ["Ada"], "tags": ["O "]}')


# Line ends


def test_a_file_with_carriage_returns_alone_has_lines(tmp_path: Path) -> None:
    assert tags(tmp_path / "a.tsv", "Ada\tB-ship\rsails\tO\r\rShe\tO\r") == [
        (["Ada", "sails"], ["B-ship", "O"]),
        (["She"], ["O"]),
    ]
    texts = [{"text": "It is late."}, {"text": "Go."}]
    objects = "\r".join(json.dumps(text) for text in texts)
    csv = "text\rIt is late.\rGo.\r"
    for name, content in (("a.csv", csv), ("b.tsv", csv + "\n"), ("c.txt", csv[5:]), ("d.jsonl", objects)):
        assert values(tmp_path / name, content, ("text",), labels=0) == texts, name
    with pytest.raises(DataError, match=r"e.txt:2: is not UTF-8 at byte 5"):
        rows(tmp_path / "e.txt", b"Go.\ra\xff\r", ("text",), labels=0)


def test_doubled_carriage_returns_are_no_part_of_a_line(tmp_path: Path) -> None:
    assert tags(tmp_path / "a.tsv", "Ada\tB-ship\r\r\nsails\tO\r\r\n") == [(["Ada", "sails"], ["B-ship", "O"])]


# CoNLL-U


def conllu(*tokens: str) -> str:
    """Lines of CoNLL-U from `number word tag`."""
    return "".join("{}\t{}\t_\t{}\t_\t_\t0\t_\t_\t_\n".format(*token.split()) for token in tokens)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (conllu("1 Ada PROPN", "1 sails VERB"), r"a.conllu:2: token 1 comes again \(is a blank line missing\?\)"),
        ("# a\n" + conllu("1 Ada PROPN") + "# b\n" + conllu("1 She PRON"), "a.conllu:4: token 1 comes again"),
        (conllu("1 Ada PROPN", "2 sails VERB", "2 far ADV"), "a.conllu:3: token 2 comes again"),
        (conllu("1 Ada PROPN", "3 far ADV"), "a.conllu:2: token 3 comes after 1"),
        (conllu("2 sails VERB"), "a.conllu:1: token 2 comes after 0"),
        ("# global.columns = ID FORM UPOS\n" + conllu("1 Ada PROPN"), "a.conllu:1: has the columns of CoNLL-U Plus"),
        (conllu("1 Ada PROPN", "2 sails _"), r"a.conllu:2: token 2 has no UPOS \(_\)"),
    ],
)
def test_tokens_of_conllu_are_not_lost(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        tags(tmp_path / "a.conllu", content)


def test_conllu_without_upos_has_no_tags(tmp_path: Path) -> None:
    assert tags(tmp_path / "a.conllu", conllu("1 Ada _", "2 sails _")) == [(["Ada", "sails"], None)]
    content = conllu("1 Ada _") + "\n" + conllu("1 Ada PROPN")
    with pytest.raises(DataError, match="has a tags, the rows before have none"):
        rows(tmp_path / "a.conllu", content, WORDS)


def test_the_check_of_data_lists_every_refused_file(tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    (tmp_path / "bilou.txt").write_text("Ada\tU-ship\nsails\tO\n")
    (tmp_path / "mine.yaml").write_text("ships: {format: tag, languages: [en], data: {train: bilou.txt}}\n")
    result = xstilts("data", "check", "ships", "--use", tmp_path / "mine.yaml")
    assert result.code == 2 and "bilou.txt:1: chunk_f1 cannot count the tag 'U-ship' beside 'O'" in result.err


def test_a_treebank_without_words_is_left_out_of_several(tmp_path: Path) -> None:
    (tmp_path / "de_without.conllu").write_text(conllu("1 _ PROPN", "2 _ VERB"))
    made = task(tmp_path / "de_with.conllu", conllu("1 Ada PROPN", "2 sails VERB"))
    source, notes = Source.model_validate({"path": "de_*.conllu", "base": tmp_path}), list[str]()
    (found,) = locate(made, source, ("en",), None).read(notes.append)
    assert found.words == ("Ada", "sails") and notes == [
        f"{tmp_path}/de_without.conllu:1: has no words, only _; left out"
    ]
    (tmp_path / "de_with.conllu").unlink()
    with pytest.raises(UserError, match=r"de_without.conllu: has no words, only _"):
        locate(made, source, ("en",), None).read()
    (tmp_path / "de_without.conllu").write_text("# a\n\n# b\n")
    with pytest.raises(UserError, match=r"de_without.conllu: is empty"):
        locate(made, source, ("en",), None).read()


def test_tags_that_the_training_data_do_not_have_are_counted(tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    """A misspelt type in the German file; a list of `labels` refuses it anyway."""
    (tmp_path / "train.txt").write_text("Ada\tB-ship\nsails\tO\n\nto\tO\nRiga\tB-port\n")
    (tmp_path / "en.txt").write_text("Ida\tB-ship\nsinks\tO\n")
    (tmp_path / "de.txt").write_text("Ida\tB-shp\nMaria\tI-shp\nsinkt\tO\n\nEva\tB-shp\nvor\tO\nRiga\tB-port\n")
    (tmp_path / "mine.yaml").write_text(
        "ships: {format: tag, languages: [en, de], data: {train: train.txt, test: '{lang}.txt'}}\n"
    )
    (tmp_path / "study.yaml").write_text(
        "name: ships\nencoder: me/encoder\nuse: [mine.yaml]\n"
        "phases: [{name: target, each: [ships]}]\nevaluate: [ships]\n"
    )
    note = f"{tmp_path}/de.txt: tags that no training example has, so no model predicts them: B-shp 2, I-shp 1"
    checked = xstilts("check", tmp_path / "study.yaml")
    assert (checked.code, checked.out.splitlines()[1:]) == (0, [note])
    counted = xstilts("data", "check", "ships", "--use", tmp_path / "mine.yaml")
    assert counted.code == 0 and [x for x in counted.out.splitlines() if x.startswith("note: ")] == [f"note: {note}"]
