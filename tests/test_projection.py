"""Projection: spans and entities are marked before translation and found in the translation."""

import gzip
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from conftest import CliResult
from xstilts.errors import DataError
from xstilts.translate.engine import CommandEngine
from xstilts.translate.entities import mark_entities
from xstilts.translate.projection import MARKERS, Markers, counts_line, fuzzy_match, mark, unmark

SIGNS = [markers for markers, pairs in MARKERS.items() if pairs]
TEXT = "Zoe's old red bike stands by the lake (in Bern), not in Basel."


def span(text: str, part: str) -> tuple[int, int]:
    return text.index(part), text.index(part) + len(part)


def in_spanish(lines: Sequence[str]) -> list[str]:
    """The lines, translated from English by Apertium."""
    return [line.text for line in CommandEngine("apertium -u eng-spa", "en", "es").translate(lines)]


@pytest.mark.parametrize("markers", SIGNS)
def test_touching_nested_and_overlapping_spans_come_back_as_they_were(markers: Markers) -> None:
    spans = [span(TEXT, "old red bike"), span(TEXT, "red"), span(TEXT, "red bike stands"), span(TEXT, "old red bike")]
    marked = mark(TEXT, spans, markers)
    assert marked.text != TEXT
    projected = unmark(marked, marked.text)
    assert (projected.text, list(projected.spans), set(projected.routes)) == (TEXT, spans, {"tags"})
    assert not projected.missing
    touching = [(0, 3), (3, 5), (0, 5)]
    marked = mark(TEXT, touching, markers)
    assert list(unmark(marked, marked.text).spans) == touching


def test_markers_nest_like_brackets() -> None:
    spans = [(0, 3), (0, 2), (2, 3), (3, 5)]
    assert mark("abcde", spans).text == "<b><c>ab</c><d>c</d></b><f>de</f>"


def test_blanks_at_the_ends_of_a_span_stay_outside_its_markers() -> None:
    assert mark("the lake shore", [(3, 9)]).text == "the <b>lake</b> shore"


@pytest.mark.parametrize("wrong", [(3, 4), (4, 4), (-1, 2), (0, 99), (5, 2)])
def test_a_span_without_text_is_refused(wrong: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="no text at"):
        mark("the lake", [wrong])


def test_a_marker_that_the_text_has_is_left_out() -> None:
    text = "In HTML, < B >bold</b> is bold; [see] {there}."
    assert mark(text, [span(text, "bold")]).markers == (("<c>", "</c>"),)
    assert mark(text, [span(text, "bold")], "html").markers == (("<i>", "</i>"),)
    marked = mark(text, [span(text, "there")], "brackets")
    assert unmark(marked, marked.text).spans == (span(text, "there"),)


def test_spans_beyond_the_number_of_markers_are_left_to_the_fuzzy_match() -> None:
    words = [f"word{number}" for number in range(30)]
    text = " ".join(words)
    marked = mark(text, [span(text, f"{word} ") for word in words[:-1]])
    projected = unmark(marked, marked.text)
    assert Counter(projected.routes) == {"tags": 26, "dropped": 3} and projected.missing == [
        "word26",
        "word27",
        "word28",
    ]
    again = projected.recover(projected.missing)
    assert [text[a:b] for a, b in filter(None, again.spans)] == words[:-1]
    assert counts_line(Counter(again.routes)) == (
        "29 spans: 26 by tags (89.7 %), 3 by fuzzy match (10.3 %), 0 dropped (0.0 %)"
    )


@pytest.mark.parametrize(
    ("translation", "text", "found"),
    [
        ("das <b>rote</b> Rad", "das rote Rad", "rote"),
        ("das < b > rote < / b > Rad", "das rote Rad", "rote"),
        ("das <B>rote</B>, Rad", "das rote, Rad", "rote"),
        ("das ( <b> rote </b> ), Rad", "das (rote), Rad", "rote"),
        ("<b> rote </b> das Rad", "rote das Rad", "rote"),
        ("das Rad <b>rote </b> .", "das Rad rote.", "rote"),
        ("das &lt;b&gt;rote&lt;/b&gt; Rad", "das rote Rad", "rote"),
        ("那 ＜b＞ 红 ＜／b＞ 车", "那红车", "红"),
        ("รถ <b> แดง </b> คัน", "รถ แดง คัน", "แดง"),
        ("das rote</b> Rad", "das rote Rad", None),
        ("das <b>rote Rad", "das rote Rad", None),
        ("das rote Rad", "das rote Rad", None),
        ("<b>das</b> <b>rote</b> Rad", "das rote Rad", None),
        ("das <b>rote<b> Rad", "das rote Rad", None),
        ("das </b>rote<b> Rad", "das rote Rad", None),
        ("das <b></b> rote Rad", "das rote Rad", None),
        ("das rote Rad <b> </b>", "das rote Rad", None),
        ("", "", None),
    ],
)
def test_a_marker_counts_if_it_stands_once_closed_and_around_text(
    translation: str, text: str, found: str | None
) -> None:
    projected = unmark(mark("the red bike", [(4, 7)]), translation)
    assert projected.text == text
    assert projected.spans == ((span(text, found) if found else None),)
    assert projected.missing == ([] if found else ["red"])


@pytest.mark.parametrize("text", ["He rides ( fast ) .", "ฝนตก แต่ แดง ไป", "湖 边 的 车", "Now (fast), home."])
def test_a_text_keeps_the_blanks_of_its_source(text: str) -> None:
    words = [(hit.start(), hit.end()) for hit in re.finditer(r"\w+", text)]
    marked = mark(text, words)
    projected = unmark(marked, marked.text)
    assert (projected.text, list(projected.spans)) == (text, words)


def test_a_text_with_parts_of_markers_is_translated_again_without_them() -> None:
    marked = mark("the red bike near Bern", [(4, 7), (18, 22)])
    projected = unmark(marked, "das <b>rote</b> Rad bei <und>Bern</c>")
    assert projected.remains and projected.missing == ["the red bike near Bern", "Bern"]
    again = projected.recover(["das rote Rad bei Bern", "Bern"])
    assert (again.text, again.routes, again.missing) == ("das rote Rad bei Bern", ("fuzzy", "fuzzy"), [])
    assert again.spans == (span(again.text, "rote"), span(again.text, "Bern"))
    assert not unmark(mark("a < b", [(0, 1)]), "ein <b>a</b> < b").remains, "the source has such a sign itself"
    with pytest.raises(ValueError, match="needs 2 translations, got 1"):
        projected.recover(["Bern"])


def test_of_equal_matches_the_nearest_to_the_source_s_place_is_taken() -> None:
    text = "Bern, Basel, Bern"
    lost = unmark(mark(text, [(0, 4), (13, 17)]), "Berne, Bâle, Berne").recover(["Berne", "Berne"])
    assert lost.spans == ((0, 5), (13, 18))


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("roten Rad", "rote Rad"),
        ("das Rote rad", "Das rote Rad"),
        ("Berm", "Bern"),
        ("B", "B"),
        ("X", None),
        ("Bx", "B"),
        ("abcdefgh", None),
        ("  ", None),
        ("das rote Rad stand am See und fuhr nie mehr fort", None),
    ],
)
def test_the_smallest_edit_distance_up_to_half_of_the_answer_and_ten(answer: str, found: str | None) -> None:
    text = "Das rote Rad stand in Bern. B"
    match = fuzzy_match(answer, text)
    assert (text[slice(*match)] if match else None) == found


def plain_distance(a: str, b: str) -> int:
    """The edit distance, as in a textbook."""
    row = list(range(len(b) + 1))
    for i, one in enumerate(a, start=1):
        before, row[0] = row[0], i
        for j, other in enumerate(b, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (one != other))
    return row[-1]


@pytest.mark.parametrize(("answer", "text"), [("lakes", "a lke or a lackes"), ("абв", "абаббв"), ("aab", "ba aba")])
def test_no_part_of_the_text_is_nearer_than_the_match(answer: str, text: str) -> None:
    start, end = fuzzy_match(answer, text) or (0, 0)
    parts = [text[a:b] for a in range(len(text)) for b in range(a + 1, len(text) + 1)]
    assert plain_distance(answer, text[start:end]) == min(plain_distance(answer, part) for part in parts)


WORDS = "Zoe Frei rides from Bern to Lake Thun .".split()
TAGS = ["B-PER", "I-PER", "O", "O", "B-LOC", "O", "B-LOC", "I-LOC", "O"]


def test_entities_are_tagged_in_the_translation_in_its_own_order() -> None:
    entities = mark_entities(WORDS, TAGS, "en")
    assert entities.marked.text == "<b>Zoe Frei</b> rides from <c>Bern</c> to <d>Lake Thun</d> ."
    projected = unmark(entities.marked, "Von <c>Bern</c> zum <d>Thunersee</d> fährt <b>Zoe Frei</b>.")
    assert entities.tag_translation(projected, "de") == (
        ["Von", "Bern", "zum", "Thunersee", "fährt", "Zoe", "Frei", "."],
        ["O", "B-LOC", "O", "B-LOC", "O", "B-PER", "I-PER", "O"],
    )


def test_languages_without_blanks_have_a_tag_for_each_character() -> None:
    entities = mark_entities(WORDS, TAGS, "en")
    projected = unmark(entities.marked, "<b>佐伊</b>从<c>伯尔尼</c>骑到 <d>图恩湖</d>。")
    words, tags = entities.tag_translation(projected, "zh-TW") or ([], [])
    assert "".join(words) == "佐伊从伯尔尼骑到图恩湖。" and all(len(word) == 1 for word in words)
    assert tags == "B-PER I-PER O B-LOC I-LOC I-LOC O O B-LOC I-LOC I-LOC O".split()
    back = mark_entities(words, tags, "zh")
    assert back.marked.text == "<b>佐伊</b>从<c>伯尔尼</c>骑到<d>图恩湖</d>。"


@pytest.mark.parametrize(
    "translation",
    [
        "<b>Zoe Frei</b> fährt von <c>Bern</c> zum Thunersee.",
        "<b>Zoe</b><c>Bern</c> fährt zum <d>Thunersee</d>.",
        "<b>Zoe Frei <c>Bern</c></b> fährt zum <d>Thunersee</d>.",
    ],
    ids=["lost", "two in a word", "one in another"],
)
def test_a_sentence_with_other_entities_than_its_source_is_dropped(translation: str) -> None:
    entities = mark_entities(WORDS, TAGS, "en")
    assert entities.tag_translation(unmark(entities.marked, translation), "de") is None


def test_tags_with_ends_stay_so_and_a_sentence_without_entities_needs_no_marker() -> None:
    entities = mark_entities(["Lake", "Thun", "and", "Bern"], ["B-LOC", "E-LOC", "O", "S-LOC"], "en")
    projected = unmark(entities.marked, "der <b>Thuner See</b> und <c>Bern</c>")
    assert (entities.tag_translation(projected, "de") or [])[1] == ["O", "B-LOC", "E-LOC", "O", "S-LOC"]
    without = mark_entities(["It", "rains", "."], ["O"] * 3, "en")
    assert without.tag_translation(unmark(without.marked, "Es regnet."), "de") == (["Es", "regnet", "."], ["O"] * 3)


def test_markers_refuse_parts_of_speech_and_name_alignment() -> None:
    with pytest.raises(DataError, match=r"dev\.tsv:3: the tag 'NOUN' of 'bike' marks a word.*write --markers align"):
        mark_entities(["bike"], ["NOUN"], "en", where="dev.tsv:3")


@pytest.mark.usefixtures("apertium")
@pytest.mark.parametrize("markers", SIGNS)
def test_apertium_moves_markers_with_the_words(markers: Markers) -> None:
    text = "The old man bought a red house in London because he was happy."
    spans = [span(text, "red house"), span(text, "London"), span(text, "old man")]
    marked = mark(text, spans, markers)
    projected = unmark(marked, in_spanish([marked.text])[0])
    assert not projected.missing and set(projected.routes) == {"tags"}
    house, london, man = [projected.text[slice(*found)] for found in projected.spans if found]
    assert "casa" in house and london == "Londres" and "hombre" in man
    assert not any(sign in projected.text for pair in MARKERS[markers] for sign in pair)


@pytest.mark.usefixtures("apertium")
@pytest.mark.real
def test_letter_tags_recover_human_answers_of_xquad_and_fuzzy_matches_most_of_the_rest(shared: Path) -> None:
    articles = json.loads(gzip.decompress((shared / "data/xquad/xquad.en.json.gz").read_bytes()))["data"][:12]
    marked = []
    for paragraph in (paragraph for article in articles for paragraph in article["paragraphs"]):
        answers = [question["answers"][0] for question in paragraph["qas"]]
        starts = [(answer["answer_start"], len(answer["text"])) for answer in answers]
        marked.append(mark(paragraph["context"], [(start, start + size) for start, size in starts]))
    projected = [unmark(one, text) for one, text in zip(marked, in_spanish([one.text for one in marked]), strict=True)]
    by_tags = Counter(route for one in projected for route in one.routes)
    assert by_tags.total() > 250 and by_tags["tags"] >= 0.99 * by_tags.total()

    plain = [unmark(one, text) for one, text in zip(marked, in_spanish([one.plain for one in marked]), strict=True)]
    lost = iter(in_spanish([text for one in plain for text in one.missing]))
    by_match = Counter(route for one in plain for route in one.recover([next(lost) for _ in one.missing]).routes)
    assert by_match["fuzzy"] > 0.85 * by_match.total()


def test_questions_on_one_context_share_its_translation(tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    context = "Zoe rides from Bern to the lake."
    answers = [{"text": part, "answer_start": context.index(part)} for part in ("Zoe", "Bern", "the lake")]
    questions = [{"id": str(one["text"]), "question": f"And {one['text']}?", "answers": [one]} for one in answers]
    squad = {"version": "1.1", "data": [{"title": "", "paragraphs": [{"context": context, "qas": questions}]}]}
    (tmp_path / "en.json").write_text(json.dumps(squad), encoding="utf-8")
    (tmp_path / "mine.yaml").write_text("rides: {format: span, data: {train: en.json}}\n", encoding="utf-8")
    (tmp_path / "capitals.py").write_text("import sys; sys.stdout.write(sys.stdin.read().upper())", encoding="utf-8")
    program = f"{sys.executable} {tmp_path}/capitals.py"
    options = ("--engine", "command", "--command", program, "--out", tmp_path / "out", "--use", tmp_path / "mine.yaml")
    result = xstilts("translate", "rides", "--to", "de", *options)
    assert "3 rows, 0 left out; 4 lines" in result.out and "3 spans: 3 by tags (100.0 %)" in result.out
    written = json.loads((tmp_path / "out/rides/train-de.json").read_text(encoding="utf-8"))
    (paragraph,) = written["data"][0]["paragraphs"]
    assert paragraph["context"] == context.upper()
    assert [one["answers"] for one in paragraph["qas"]] == [
        [one | {"text": str(one["text"]).upper()}] for one in answers
    ]


def test_names_that_stay_as_they_are_do_not_make_an_engine_suspect(
    tmp_path: Path, xstilts: Callable[..., CliResult]
) -> None:
    names = "".join(f"Zoe\tB-PER\nFrei-Ito{number}\tI-PER\n\n" for number in range(40))
    (tmp_path / "en.tsv").write_text(f"{names}Zoe\tB-PER\nsings\tO\nand\tO\nrides\tO\n\n", encoding="utf-8")
    (tmp_path / "mine.yaml").write_text("names: {format: tag, data: {train: en.tsv}}\n", encoding="utf-8")
    program = "sed 's/sings and rides/singt und fährt/'"
    options = ("--engine", "command", "--command", program, "--out", tmp_path / "out", "--use", tmp_path / "mine.yaml")
    result = xstilts("translate", "names", "--to", "de", *options)
    assert "41 rows, 0 left out; 41 lines, 40 unchanged" in result.out, result.err
    content = (tmp_path / "out/names/train-de.tsv").read_text(encoding="utf-8")
    assert content.endswith("Zoe\tB-PER\nsingt\tO\nund\tO\nfährt\tO\n\n")
