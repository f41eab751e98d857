"""Where rows come from when a file alone does not say it: retrieval data, classes, invalid bytes."""

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from xstilts.data.check import check
from xstilts.data.examples import locate
from xstilts.data.find import find
from xstilts.data.readers import read
from xstilts.errors import DataError, UserError
from xstilts.formats import Choose, Classify, Retrieve, Span, Tag
from xstilts.formats.base import Format
from xstilts.tasks import TASKS
from xstilts.tasks.source import File, Source
from xstilts.tasks.task import Task

RANKED = Retrieve(find="ranked")
BUCC = {"path": "a.{lang}", "pair": "a.en", "gold": "a.gold"}


def values(folder: Path, source: Any, form: Format = RANKED, language: str = "de") -> list[dict[str, Any]]:
    """The rows of a source."""
    found = find(Source.model_validate(source), language, [folder])
    return [dict(row.values) for one in found for row in read(one, language, fields=form.fields, inputs=form.inputs)]


def task(form: Format, source: Any, **more: Any) -> Task:
    return Task(name="mine", format=form, data={"test": source}, languages=("de",), metrics=form.metrics, **more)


def examples(folder: Path, form: Format, source: Any, *, train: bool = False) -> tuple[list[Any], list[str]]:
    """The examples of a source, and what is said of them."""
    mine = task(form, source)
    result: list[str] = []
    return locate(mine, mine.data["test"], ("de",), folder, train=train).read(result.append), result


def bucc(folder: Path, de: str = "d1\teins\nd2\tzwei\n", en: str = "e1\tone\ne2\ttwo\n", gold: str = "") -> Path:
    for name, text in (("a.de", de), ("a.en", en), ("a.gold", gold)):
        if text:
            (folder / name).write_text(text)
    return folder


def test_bucc_gives_queries_then_candidates(tmp_path: Path) -> None:
    assert values(bucc(tmp_path, gold="d2\te1\nd2\te2\nd2\te1\n"), BUCC) == [
        {"query": "eins", "id": "d1", "relevant": []},
        {"query": "zwei", "id": "d2", "relevant": ["e1", "e2"]},
        {"candidate": "one", "id": "e1"},
        {"candidate": "two", "id": "e2"},
    ]


def test_without_a_gold_file_there_are_no_labels(tmp_path: Path) -> None:
    rows = values(bucc(tmp_path), BUCC)
    assert rows[0] == {"query": "eins", "id": "d1"} and rows[2] == {"candidate": "one", "id": "e1"}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"de": "d1\teins\nzwei\n"}, "a.de:2: has no tab between id and sentence"),
        ({"en": "e1\tone\n\ne2\ttwo\n"}, "a.en:2: has no tab between id and sentence"),
        ({"de": "d1\teins\nd1\tzwei\n"}, r"a.de:2: the id 'd1' is already used in .*a.de:1"),
        ({"en": "e1\tone\ne2\ttwo\ne1\tsix\n"}, r"a.en:3: the id 'e1' is already used in .*a.en:1"),
        ({"de": "d1\t \n"}, "a.de:1: empty query"),
        ({"en": "\tone\n"}, "a.en:1: empty id"),
        ({"gold": "d1 e1\n"}, "a.gold:1: is not a pair of ids with a tab between them"),
        ({"gold": "d1\te1\nd9\te1\n"}, r"a.gold:2: the id 'd9' is unknown$"),
        ({"gold": "d1\te9\nd9\te1\nd8\te1\n"}, "a.gold:1: the id 'e9' is unknown, and 2 more ids"),
    ],
)  # fmt: skip
def test_malformed_bucc_files_are_refused_in_one_line(tmp_path: Path, files: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        values(bucc(tmp_path, **files), BUCC)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "message"), [("a.en", "a.en: has no candidate"),
                                               ("a.de", "a.de: has no query"),
                                               ("a.gold", "a.gold: is empty")])  # fmt: skip
def test_an_empty_bucc_file_is_one_error(tmp_path: Path, name: str, message: str) -> None:
    (bucc(tmp_path, gold="d1\te1\n") / name).write_text("")
    with pytest.raises(UserError, match=message):
        examples(tmp_path, Retrieve(find="mined"), BUCC)


def test_a_users_own_queries_and_candidates_may_be_in_one_file_or_two(tmp_path: Path) -> None:
    queries = [{"text": "what?", "n": 1, "relevant": [7]}, {"text": "who?", "n": 2, "relevant": []}]
    answers = [{"candidate": "that", "id": 7}, {"candidate": "she", "id": "8"}]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, queries)))
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, answers)))
    (tmp_path / "both.jsonl").write_text("\n".join(map(json.dumps, [*queries, *answers])))
    columns = {"query": "text", "id": "n"}
    for source in (
        {"path": "q.jsonl", "pair": "a.jsonl", "columns": columns},
        {"path": "both.jsonl", "columns": columns},
    ):
        read, _ = examples(tmp_path, RANKED, source)
        assert [(e.query or e.candidate, e.id, e.relevant) for e in read] == [
            ("what?", "1", ("7",)), ("who?", "2", ()), ("that", "7", None), ("she", "8", None),
        ]  # fmt: skip
    with pytest.raises(DataError, match=r"q.jsonl: has no candidate"):
        values(tmp_path, {"path": "q.jsonl", "columns": columns})
    with pytest.raises(DataError, match=r"a.jsonl: has no query"):
        values(tmp_path, "a.jsonl")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"relevant": "c1"}, "q.jsonl:1: relevant must be a list of ids, got c1"),
        ({"relevant": 1}, "q.jsonl:1: relevant must be a list of ids, got 1"),
        ({"relevant": {"c1": 1}}, "q.jsonl:1: relevant must be a list of ids, got {'c1': 1}"),
        ({"id": True}, "q.jsonl:1: id must be text, got True"),
        ({"id": "\ud83d"}, "q.jsonl:1: id contains half a character"),
        ({"query": "\ud83d"}, "q.jsonl:1: query contains half a character"),
        ({"relevant": ["\ud83d"]}, "q.jsonl:1: relevant contains half a character"),
    ],
)  # fmt: skip
def test_a_malformed_query_is_refused(tmp_path: Path, query: dict[str, Any], message: str) -> None:
    (tmp_path / "q.jsonl").write_text(json.dumps({"query": "what?", "id": "q1"} | query))
    (tmp_path / "c.jsonl").write_text('{"candidate": "that", "id": "c1"}')
    with pytest.raises(DataError, match=message):
        values(tmp_path, {"path": "q.jsonl", "pair": "c.jsonl"})


def test_a_candidates_file_allows_nested_columns_but_no_part_or_classes(tmp_path: Path) -> None:
    rows = [{"q": {"text": "what?", "n": 1}, "relevant": [7]}, {"candidate": "that", "id": 7}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = {"path": "a.jsonl", "columns": {"query": "q.text", "id": "q.n"}}
    assert [row["id"] for row in values(tmp_path, source)] == ["1", "7"]
    for more in ({"part": "1/2"}, {"classes": ["a"]}, {"columns": ["query"]}):
        with pytest.raises(DataError, match=f"a.jsonl: .*`{min(more)}`"):
            values(tmp_path, source | more)


def test_queries_are_labelled_all_or_none(tmp_path: Path) -> None:
    rows = [{"query": "a", "id": "1", "relevant": ["3"]}, {"query": "b", "id": "2"}, {"candidate": "c", "id": "3"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(DataError, match=r"a.jsonl:2: has no `relevant` \(a split has labels for all rows or for none"):
        values(tmp_path, "a.jsonl")


def article(text: str, breaks: list[list[int]], *asked: tuple[str, int]) -> dict[str, Any]:
    questions = [
        {"id": id, "question": f"{id}?", "answers": [{"text": text[at : at + 1], "answer_start": at}]}
        for id, at in asked
    ]
    return {"paragraphs": [{"context": text, "sentence_breaks": breaks, "qas": questions}]}


def test_xquad_r_has_candidates_in_all_languages(tmp_path: Path) -> None:
    german = [article("Ja. Nein. Ja.", [[0, 3], [4, 9], [10, 13]], ("q1", 10), ("q2", 4))]
    english = [article("Well.", [[0, 5]]), article("Yes. No.", [[0, 4], [5, 8]], ("q1", 0), ("q2", 5))]
    (tmp_path / "de.json").write_text(json.dumps({"version": "1", "data": german}))
    (tmp_path / "en.json").write_text(json.dumps({"version": "1", "data": english}))
    rows = values(tmp_path, {"path": "{lang}.json", "pair": "*.json"})
    assert rows[:2] == [
        {"query": "q1?", "id": "q1", "relevant": ["de_1_0", "de_1_2", "en_2_0"]},  # equal sentences are right together
        {"query": "q2?", "id": "q2", "relevant": ["de_1_1", "en_2_1"]},
    ]
    assert [row["candidate"] for row in rows[2:]] == ["Ja.", "Nein.", "Ja.", "Well.", "Yes.", "No."]
    assert [row["id"] for row in rows[2:]] == ["de_1_0", "de_1_1", "de_1_2", "en_1_0", "en_2_0", "en_2_1"]


def test_plain_xquad_in_place_of_xquad_r_is_refused(tmp_path: Path) -> None:
    plain = article("Ja.", [], ("q1", 0))
    del plain["paragraphs"][0]["sentence_breaks"]
    (tmp_path / "de.json").write_text(json.dumps({"data": [plain]}))
    with pytest.raises(DataError, match=r"de.json: paragraph 1: has no sentence_breaks \(use XQuAD-R; XQuAD has none"):
        values(tmp_path, {"path": "{lang}.json", "pair": "*.json"})
    (tmp_path / "de.json").write_text('{"data": [{"title": "t"}]}')
    with pytest.raises(DataError, match=r"de.json: is not in XQuAD-R's layout \(KeyError: 'paragraphs'\)"):
        values(tmp_path, {"path": "{lang}.json", "pair": "*.json"})


def mewslix(folder: Path, text: str = "Eins. In Ulm\nregnet es {oft}. Drei.") -> dict[str, Any]:
    mention = {"example_id": "m1", "entity_id": "Q3012", "mention_span": {"start": 9, "end": 12, "text": "Ulm"}}
    spans = [{"start": 0, "end": 5}, {"start": 6, "end": 29}, {"start": 30, "end": 35}]
    context = {"language": "de", "text": text, "sentence_spans": spans}
    other = {"context": {**context, "language": "en"}, "mentions": [{**mention, "example_id": "m2"}]}
    entity = {"entity_id": "Q3012", "title": "Ulm", "description": "A city.\n  On the Danube.",
              "sentence_spans": [{"start": 0, "end": 7}, {"start": 10, "end": 24}]}  # fmt: skip
    (folder / "m.jsonl").write_text(f"{json.dumps(other)}\n{json.dumps({'context': context, 'mentions': [mention]})}\n")
    (folder / "c.jsonl").write_text(json.dumps(entity) + "\n")
    return {"path": "m.jsonl", "pair": "c.jsonl", "where": {"language": "{lang}"}}


def test_mewsli_x_marks_the_mention_in_its_sentence(tmp_path: Path) -> None:
    assert values(tmp_path, mewslix(tmp_path)) == [
        {"query": "Ulm: In { Ulm } regnet es (oft).", "id": "m1", "relevant": ["Q3012"], "language": "de"},
        {"candidate": "A city. On the Danube.", "id": "Q3012"},
    ]


def test_mewsli_x_without_its_texts_says_how_to_download_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"m.jsonl:1: the article has no text \(get-mewsli-x.sh adds it"):
        values(tmp_path, mewslix(tmp_path, text=""))
    with pytest.raises(DataError, match=r"m.jsonl:1: the mention 'Ulm' is not at its span"):
        values(tmp_path, mewslix(tmp_path, text="Kurz."))


def test_numeric_labels_become_class_names(tmp_path: Path) -> None:
    form = Classify(labels=("no", "yes"), texts=("text",), drop=("-1",))
    rows = [{"text": "a", "label": 1}, {"text": "b", "label": -1}, {"text": "c", "label": "0"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    read, _ = examples(tmp_path, form, {"path": "a.jsonl", "classes": ["no", "yes"]})
    assert [(e.texts, e.label) for e in read] == [(("a",), "yes"), (("c",), "no")]
    for number in (2, -2, 1.0, True, "yes"):
        (tmp_path / "b.jsonl").write_text(json.dumps({"text": "a", "label": number}))
        with pytest.raises(DataError, match=rf"b.jsonl:1: label {number!r} is not one of the classes .*from 0 to 1"):
            values(tmp_path, {"path": "b.jsonl", "classes": ["no", "yes"]}, form)


def test_numeric_tags_become_class_names(tmp_path: Path) -> None:
    table = pyarrow.table({"tokens": [["Ulm", "liegt"]], "ner_tags": [[1, 0]]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    source = {"path": "a.parquet", "columns": {"words": "tokens", "tags": "ner_tags"}, "classes": ["O", "B-LOC"]}
    (example,), _ = examples(tmp_path, Tag(labels=("B-LOC", "O")), source)
    assert example[:2] == (("Ulm", "liegt"), ("B-LOC", "O"))


def test_classes_in_another_order_than_the_files_own_are_refused(tmp_path: Path) -> None:
    feature = {"names": ["no", "yes"], "_type": "ClassLabel"}
    tags = {"feature": feature, "_type": "Sequence"}
    about = {b"huggingface": json.dumps({"info": {"features": {"gold": feature, "tags": tags}}}).encode()}
    table = pyarrow.table({"text": ["a"], "gold": [1], "words": [["a"]], "tags": [[1]]}).replace_schema_metadata(about)
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    form = Classify(labels=("no", "yes"), texts=("text",))
    source = {"path": "a.parquet", "columns": {"label": "gold"}}
    assert values(tmp_path, {**source, "classes": ["no", "yes"]}, form)[0]["label"] == "yes"
    assert values(tmp_path, {**source, "classes": ["nein", "ja"]}, form)[0]["label"] == "ja"
    for mine, its in ((form, source), (Tag(), {"path": "a.parquet"})):
        with pytest.raises(DataError, match=r"a.parquet: numbers its labels no, yes, `classes` has yes, no"):
            values(tmp_path, {**its, "classes": ["yes", "no"]}, mine)


def test_a_value_with_a_star_matches_a_prefix(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("id\ttext\nenglish-1\ta\ngerman-1\tb\nenglish\tc\n")
    form = Classify(labels=("x", "y"), texts=("text",))
    rows = values(tmp_path, {"path": "a.tsv", "where": {"id": "{language}-*"}}, form, "en")
    assert [row["text"] for row in rows] == ["a"]
    with pytest.raises(DataError, match=r"has no row with id = finnish-\*"):
        values(tmp_path, {"path": "a.tsv", "where": {"id": "{language}-*"}}, form, "fi")


def test_broken_utf8_is_refused_or_replaced_with_one_warning_a_file(tmp_path: Path) -> None:
    form = Classify(labels=("x", "y"), texts=("text",))
    (tmp_path / "a.tsv").write_bytes(b"ok\tx\nbr\xffken\ty\n\xfe\xff\tx\n")
    (tmp_path / "b.tsv").write_bytes(b"br\xc3ken\ty\n")
    with pytest.raises(DataError, match=r"a\.tsv:2: is not UTF-8 at byte 7"):
        examples(tmp_path, form, "a.tsv")
    files = [{"path": name, "broken": "replace"} for name in ("a.tsv", "b.tsv")]
    read, result = examples(tmp_path, form, files)
    assert [e.texts[0] for e in read] == ["ok", "br\ufffdken", "\ufffd\ufffd", "br\ufffdken"]
    what = "is not UTF-8; invalid bytes are read as U+FFFD"
    assert result == [f"{tmp_path}/a.tsv:2: {what}, and 1 more like it", f"{tmp_path}/b.tsv:1: {what}"]


def test_part_of_a_file_warns_of_broken_lines_once(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes(b"br\xffken\tx\nfine\ty\n")
    form = Classify(labels=("x", "y"), texts=("text",))
    _, result = examples(tmp_path, form, {"path": "a.tsv", "broken": "replace", "part": "1/2"})
    assert len(result) == 1 and "more like it" not in result[0]


def squad(folder: Path, *ids: str) -> str:
    asked = [{"id": id, "question": "wo?", "answers": [{"text": "Ulm", "answer_start": 0}]} for id in ids]
    (folder / "q.json").write_text(json.dumps({"data": [{"paragraphs": [{"context": "Ulm.", "qas": asked}]}]}))
    return "q.json"


def test_a_repeated_id_is_refused_in_a_scored_split(tmp_path: Path) -> None:
    message = r"q.json: question 3 \(id a\): the id 'a' is already used in .*q.json: question 1 \(id a\)"
    with pytest.raises(DataError, match=message):
        examples(tmp_path, Span(), squad(tmp_path, "a", "b", "a"))
    assert len(examples(tmp_path, Span(), "q.json", train=True)[0]) == 3  # TyDiQA's training ids repeat
    assert len(examples(tmp_path, Span(), squad(tmp_path, "a", "b", "c"))[0]) == 3


ANSWERED = {"context": "Ulm.", "question": "wo?", "answers": [{"text": "Ulm", "answer_start": 0}]}
CHOICE = {"context": "a", "endings": ["b", "c"]}


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(
    ("form", "labelled", "hidden"),
    [
        (Span(), ANSWERED, ANSWERED | {"answers": [{"text": "", "answer_start": 0}]}),
        (Choose(), CHOICE | {"label": 1}, CHOICE | {"label": -1}),
        (Classify(labels=("x", "y"), texts=("text",)), {"text": "a", "label": "x"}, {"text": "a", "label": -1}),
        (Tag(), {"words": ["a"], "tags": ["X"]}, {"words": ["a"], "tags": ["-1"]}),
    ],
    ids=["span", "choose", "classify", "tag"],
)  # fmt: skip
def test_hidden_labels_among_others_give_one_warning(
    tmp_path: Path, form: Format, labelled: dict[str, Any], hidden: dict[str, Any], train: bool
) -> None:
    for rows, what in (([labelled, hidden], "has no label, .*a.jsonl:1 has one"),
                       ([hidden, labelled, labelled], "has a label, .*a.jsonl:1 has none")):  # fmt: skip
        (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
        with pytest.raises(DataError, match=f"a.jsonl:2: {what}") as caught:
            examples(tmp_path, form, "a.jsonl", train=train)
        assert "\n" not in str(caught.value)
    (tmp_path / "a.jsonl").write_text(json.dumps(hidden))
    read, _ = examples(tmp_path, form, "a.jsonl")
    assert form.reference(read[0], 0) is None


@pytest.mark.parametrize("more", [{"id": "\ud83d"}, {"answers": [{"text": "\ud83d", "answer_start": 0}]}])
def test_a_lone_surrogate_is_refused_in_every_field(tmp_path: Path, more: dict[str, Any]) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(ANSWERED | more))
    with pytest.raises(DataError, match=f"a.jsonl:1: {min(more)} contains half a character"):
        values(tmp_path, "a.jsonl", Span())


def test_examples_without_ids_are_numbered(tmp_path: Path) -> None:
    rows = [{"context": "Ulm.", "question": "wo?", "answers": [{"text": "Ulm", "answer_start": 0}]}] * 3
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert len(examples(tmp_path, Span(), "q.jsonl")[0]) == 3


@pytest.mark.parametrize(
    "text", ["a\u2028b\u0085c", "e\u0301 ne\u0301", "می\u200cخواهم", "a\r\nb\rc", "\ufeffa\u00a0b"]
)
def test_texts_of_a_json_file_are_read_unchanged(tmp_path: Path, text: str) -> None:
    question = {"id": "1", "question": text, "answers": [{"text": text, "answer_start": 0}]}
    document = {"data": [{"title": text, "paragraphs": [{"context": text, "qas": [question]}]}]}
    for ascii_only in (True, False):
        content = json.dumps(document, ensure_ascii=ascii_only, indent=1).replace("\n", "\r\n")
        (tmp_path / "q.json").write_bytes(b"\xef\xbb\xbf" + content.encode())
        (row,) = values(tmp_path, "q.json", Span())
        assert (row["context"], row["question"], row["answers"][0]["text"]) == (text, text, text)


OWN: list[tuple[str, Format, Any, str, int]] = [
    ("qqp", TASKS["qqp"].format, {"path": "qqp/dev.tsv", "columns": ["label", "sentence1", "sentence2", "id"],
                                  "broken": "replace"}, "en", 10_000),
    ("nli", TASKS["mnli"].format, "nli_small/mnli.dev.csv", "en", 19_647),
    ("pawsx", TASKS["pawsx"].format, "pawsx_with_ids/{lang}.dev_2k.tsv", "de", 2_000),
    ("hellaswag", TASKS["hellaswag"].format, {"path": "hellaswag/hellaswag_val.from_text.jsonl",
                                              "columns": {"ctx_a": "ctx"}}, "en", 10_042),
    ("cosmosqa", TASKS["cosmosqa"].format, "cosmosqa/valid.jsonl", "en", 2_985),
    ("ccg", Tag(), "ccg_silver/SICK_trial.depccg.tsv", "en", 1_000),
    ("panx", TASKS["panx"].format, "panx_unlabelled/test-{lang}.tsv", "sw", 1_000),
    ("squad1", Span(), "squad_v1.1_partial/squad_v1.1_train_5pct_tokenized.json", "en", 4_284),
    ("squad2", Span(no_answer=True), "squad_v2.0_partial/small-dev-set.json", "en", 1_292),
    ("squad2", Span(no_answer=True), "squad_v2.0_partial/train-subset-1.json", "en", 753),
    ("mlqa", Span(), "mlqa/dev/dev-context-{lang}-question-en.json", "de", 512),
    ("flores", Retrieve(), {"path": "mt_parallel/flores101_devtest/{lang3}.devtest",
                            "pair": "mt_parallel/flores101_devtest/eng.devtest"}, "de", 1_012),
]  # fmt: skip
"""Data sets of the shared folder that the catalogue has another file of, or none: name, format, source, examples."""


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "form", "source", "language", "count"), OWN, ids=[f"{one[0]}-{one[4]}" for one in OWN]
)
def test_real_files_of_other_layouts_are_read_whole(
    shared: Path, name: str, form: Format, source: Any, language: str, count: int
) -> None:
    mine = Task(name=name, format=form, data={"test": source}, languages=(language,), metrics=form.metrics)
    assert len(locate(mine, mine.data["test"], (language,), shared / "data").read()) == count


@pytest.mark.real
def test_every_task_reads_all_its_real_files(shared: Path) -> None:
    names = ["snli", "anli", "xnli", "pawsx", "cosmosqa", "commonsenseqa", "siqa", "copa", "xcopa", "xquad", "mlqa",
             "tydiqa", "bucc2018", "tatoeba", "lareqa"]  # fmt: skip
    rows = [row for row in check([TASKS[name] for name in names], shared / "data", print) if row.places]
    assert [row.problems for row in rows if row.problems] == []
    assert {row.task for row in rows} == set(names)
    other = {(row.task, row.split): (row.examples, row.official) for row in rows if row.examples != row.official}
    assert {key: pair for key, pair in other.items() if pair[1] is not None} == {("anli", "dev"): (3_198, 3_200)}


def test_a_path_differs_by_language_code_or_name() -> None:
    for path in ("a/{lang}.tsv", "a/{lang3}.tsv", "a/{language}.tsv", "a/{Language}.tsv"):
        assert File(path=path).per_language
    assert not File(path="a.tsv").per_language and File(path="a.tsv", where={"id": "{language}-*"}).per_language
