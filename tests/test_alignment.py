"""Word alignment: links of words, and the answers, entities and parts of speech that follow them."""

import gzip
import json
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import CliResult
from xstilts.data.examples import locate
from xstilts.tasks.user_tasks import with_user_tasks
from xstilts.translate.alignment import Links, align, project_tags, word_spans
from xstilts.translate.entities import plain_text
from xstilts.utils.progress import Progress

pytest.importorskip("thot", reason='needs sil-thot (pip install "xstilts[mt]")')
Cli = Callable[..., CliResult]

WORDS = dict(
    the="le", a="un", old="vieux", red="rouge", farmer="fermier", baker="boulanger", sees="voit", sells="vend",
    house="maison", barrel="tonneau", wheel="roue", quickly="vite",
)  # fmt: skip


def sentences(count: int) -> Iterator[tuple[list[str], list[str], set[tuple[int, int]]]]:
    """English, French with the object before the verb, and the links; no two sentences need be different."""
    rng = random.Random(18)
    for _ in range(count):
        subject = ["the", rng.choice(["old", "red"]), rng.choice(["farmer", "baker"])]
        predicate = [rng.choice(["sees", "sells"]), rng.choice(["a", "the"]), rng.choice(["house", "barrel", "wheel"])]
        adverb = ["quickly"] * rng.randrange(2)
        english = [*subject, *predicate, *adverb, "."]
        order = [0, 2, 1, *(6 for _ in adverb), 4, 5, 3, len(english) - 1]
        yield english, [WORDS.get(english[at], ".") for at in order], {(at, i) for i, at in enumerate(order)}


def test_the_links_of_a_small_language_are_found_and_the_same_each_time() -> None:
    triples = list(sentences(300))
    pairs = [(english, french) for english, french, _ in triples]
    found = align(pairs, Progress(live=False))
    right = [links for _, _, links in triples]
    assert sum(len(one.either & links) for one, links in zip(found, right, strict=True)) >= 0.97 * sum(map(len, right))
    both = sum(len(one.both) for one in found)  # not all: a full stop and `the` are in every sentence
    assert sum(len(one.both & links) for one, links in zip(found, right, strict=True)) >= 0.97 * both
    assert both >= 0.7 * sum(map(len, right))
    assert all(one.both <= one.either for one in found)
    assert found == align(pairs, Progress(live=False))


def test_sentences_without_words_and_very_long_ones_have_no_links(capsys: pytest.CaptureFixture[str]) -> None:
    long = [f"w{number % 90}" for number in range(3000)]
    nothing, there, too_long = align([([], ["le"]), (["the"], ["le"]), (long, long)], Progress(live=False))
    assert nothing == too_long == Links(frozenset(), frozenset())
    assert there.either <= {(0, 0)}
    assert "only 2 different sentences to learn word alignment from" in capsys.readouterr().err


def test_a_word_without_a_link_has_the_tag_of_other_sentences_then_that_of_a_link_one_way() -> None:
    both = frozenset({(0, 0), (1, 1)})
    tagged, routes = project_tags(
        [(["DET", "NOUN"], ["La", "casa"]), (["VERB", "ADV"], ["la", "ve", "hoy"]), (["INTJ"], ["oh", "no"])],
        [Links(both, both), Links(frozenset({(0, 1)}), frozenset({(0, 1), (0, 2), (1, 2)})),
         Links(frozenset(), frozenset({(0, 0)}))],
    )  # fmt: skip
    assert tagged == [["DET", "NOUN"], ["DET", "VERB", "VERB"], None]
    assert routes == {"linked": 3, "elsewhere": 1, "one_way": 2, "untagged": 1}


@pytest.mark.parametrize("code", ["qac", "qaf"])
def test_the_playgrounds_parts_of_speech_come_out_as_the_playground_tags_them(
    code: str, tmp_path: Path, xstilts: Cli
) -> None:
    arguments = ("--to", code, "--split", "test", "--engine", "playground", "--out", tmp_path)
    result = xstilts("translate", "play-pos", *arguments)
    assert "words tagged by alignment (experimental): " in result.out and "experimental: word alignment" in result.err
    found = with_user_tasks([tmp_path / "play-pos.yaml"])[f"play-pos-{code}"]
    translated = locate(found, found.data["test"], (code,), None).read()
    own = with_user_tasks([])["play-pos"]
    tags_of = {one.words: one.tags for one in locate(own, own.data["test"], (code,), None).read()}
    assert len(translated) >= 0.97 * len(tags_of) and {one.words for one in translated} <= tags_of.keys()
    pairs = [pair for one in translated for pair in zip(one.tags, tags_of[one.words], strict=True)]
    assert sum(tag == right for tag, right in pairs) >= 0.97 * len(pairs)
    card = json.loads((tmp_path / "play-pos/card.json").read_text(encoding="utf-8"))["files"][0]
    assert card["made_from"]["markers"] == "align" and card["made_from"]["aligner"].startswith("sil-thot 3")
    assert "experimental" in (tmp_path / "play-pos/README.md").read_text(encoding="utf-8")
    again = xstilts("translate", "play-pos", *arguments)
    assert again.out == result.out and "rounds" not in again.err


FRENCH = """\
import re, sys
words = WORDS
for line in sys.stdin:
    out = []
    for english in re.findall(r"[^.]+[.]?", line.strip()):
        french = [words.get(word, word) for word in english.lower().replace(".", " .").split()]
        if len(french) > 6:
            french[3:6] = [*french[4:6], french[3]]
        out.append(" ".join(french).replace(" .", "."))
    print(" ".join(out))
"""


@pytest.fixture
def program(tmp_path: Path) -> str:
    """A command that translates word by word and puts the object of a sentence before its verb."""
    (tmp_path / "french.py").write_text(FRENCH.replace("WORDS", repr(WORDS)), encoding="utf-8")
    return f"{sys.executable} {tmp_path}/french.py"


def test_answers_follow_the_links_and_sentences_are_translated_one_by_one(
    program: str, tmp_path: Path, xstilts: Cli
) -> None:
    paragraphs, right = [], {}
    texts = [" ".join(english[:-1]).capitalize() + "." for english, _, _ in sentences(240)]
    for number in range(120):
        context = " ".join(texts[2 * number : 2 * number + 2])
        words = context.split()
        name, answer = str(number), " ".join(words[1:3])  # an adjective and its noun
        right[name] = " ".join(WORDS[word] for word in words[1:3])
        answers = [{"text": answer, "answer_start": context.index(answer)}]
        question = {"id": name, "question": "Who sees the wheel?", "answers": answers}
        paragraphs.append({"context": context, "qas": [question]})
    squad = {"version": "1.1", "data": [{"title": "", "paragraphs": paragraphs}]}
    (tmp_path / "en.json").write_text(json.dumps(squad), encoding="utf-8")
    (tmp_path / "mine.yaml").write_text("farms: {format: span, data: {train: en.json}}\n", encoding="utf-8")
    options = ("--engine", "command", "--command", program, "--out", tmp_path / "out", "--use", tmp_path / "mine.yaml")
    result = xstilts("translate", "farms", "--to", "fr", *options, "--markers", "align")
    assert "120 spans: " in result.out and " by alignment (" in result.out and "by tags" not in result.out, result.err
    written = json.loads((tmp_path / "out/farms/train-fr.json").read_text(encoding="utf-8"))["data"][0]["paragraphs"]
    found = {one["id"]: (p["context"], one["answers"][0]) for p in written for one in p["qas"]}
    assert all(text[one["answer_start"] :].startswith(one["text"]) for text, one in found.values())
    assert sum(one["text"] == right[name] for name, (_, one) in found.items()) >= 114


def test_entities_follow_the_links(program: str, tmp_path: Path, xstilts: Cli) -> None:
    lines, count = [], 150
    for english, _, _ in sentences(count):
        tags = ["O", "B-PER", "I-PER", *("O" for _ in english[3:])]
        lines += [*(f"{word}\t{tag}\n" for word, tag in zip(english, tags, strict=True)), "\n"]
    (tmp_path / "en.tsv").write_text("".join(lines), encoding="utf-8")
    (tmp_path / "mine.yaml").write_text("farmers: {format: tag, data: {train: en.tsv}}\n", encoding="utf-8")
    options = ("--engine", "command", "--command", program, "--out", tmp_path / "out", "--use", tmp_path / "mine.yaml")
    assert xstilts("translate", "farmers", "--to", "fr", *options, "--markers", "align").code == 0
    rows = (tmp_path / "out/farmers/train-fr.tsv").read_text(encoding="utf-8").strip().split("\n\n")
    right = ("vieux", "rouge", "fermier", "boulanger")
    marked = [[line.split("\t")[0] for line in row.split("\n") if not line.endswith("\tO")] for row in rows]
    assert len(rows) >= 0.95 * count and sum(len(one) == 2 and {*one} <= {*right} for one in marked) >= 0.95 * count


CHARACTERS = """\
import sys
words = dict(zip("the old man sleeps sings dog cat red .".split(), "那 老 人 睡 唱 狗 猫 红 。".split()))
for line in sys.stdin:
    print("".join(words[word] for word in line.replace(".", " .").split()))
"""


def test_chinese_characters_are_words_and_sentences_without_tags_stay_so(tmp_path: Path, xstilts: Cli) -> None:
    rng = random.Random(3)
    (tmp_path / "characters.py").write_text(CHARACTERS, encoding="utf-8")
    tags = dict(the="DET", old="ADJ", red="ADJ", sleeps="VERB", sings="VERB")
    lines = []
    for _ in range(120):
        words = ["the", rng.choice(["old", "red"]), rng.choice(["man", "dog", "cat"]), rng.choice(["sleeps", "sings"])]
        lines += [f"{word}\t{tags.get(word, 'NOUN')}\n" for word in words] + [".\tPUNCT\n\n"]
    (tmp_path / "train.tsv").write_text("".join(lines), encoding="utf-8")
    (tmp_path / "test.tsv").write_text("the\nold\ncat\nsings\n.\n\n", encoding="utf-8")
    mine = tmp_path / "mine.yaml"
    mine.write_text("words: {format: tag, data: {train: train.tsv, test: test.tsv}}\n", encoding="utf-8")
    program = f"{sys.executable} {tmp_path}/characters.py"
    options = ("--engine", "command", "--command", program, "--out", tmp_path / "out", "--use", mine)
    result = xstilts("translate", "words", "--to", "zh", *options)
    assert result.code == 0, result.err
    right = dict(zip("那老红人狗猫睡唱。", "DET ADJ ADJ NOUN NOUN NOUN VERB VERB PUNCT".split(), strict=True))
    written = (tmp_path / "out/words/train-zh.tsv").read_text(encoding="utf-8").split()
    pairs = list(zip(written[::2], written[1::2], strict=True))
    assert len(pairs) >= 580 and sum(right[word] == tag for word, tag in pairs) >= 0.97 * len(pairs)
    assert (tmp_path / "out/words/test-zh.tsv").read_text(encoding="utf-8") == "那\n老\n猫\n唱\n。\n\n"


def test_a_missing_aligner_is_named_before_any_work(
    tmp_path: Path, xstilts: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "thot.alignment", None)
    for task, more in (("play-pos", ()), ("play-questions", ("--markers", "align"))):
        result = xstilts("translate", task, "--to", "qaa", "--engine", "playground", "--out", tmp_path / "out", *more)
        message = 'needs the package sil-thot (pip install "xstilts[mt]")'
        assert (result.code, message in result.err) == (2, True), result.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("code", "text", "words"),
    [
        ("en", "Zoe's e-mail: $3.5!", ["Zoe", "'", "s", "e", "-", "mail", ":", "$", "3", ".", "5", "!"]),
        ("th", "ใน Bern 12", ["ใ", "น", "Bern", "12"]),
        ("ja", "3月のZoe。", ["3", "月", "の", "Zoe", "。"]),
        ("ta", "வணக்கம் நீ", ["வணக்கம்", "நீ"]),
        ("zh", " \u200b", []),
    ],
)
def test_words_are_letters_with_their_marks(code: str, text: str, words: list[str]) -> None:
    assert [text[a:b] for a, b in word_spans(text, code)] == words


def test_words_are_joined_as_people_write_them() -> None:
    assert plain_text("Zoe did n't ( she 's ill ) , no .".split(), "en") == "Zoe didn't (she's ill), no."
    assert plain_text(["去", "伯尔尼", "。"], "zh-TW") == "去伯尔尼。"


@pytest.mark.real
@pytest.mark.slow
def test_english_tags_fit_human_translations(shared: Path) -> None:
    """Parallel treebanks have the same sentences in English and Spanish, tagged by people in both."""
    english, spanish = (
        _treebank(shared / f"data/ud_conllu_r2.5/{code}_pud-ud-test.conllu.gz") for code in ("en", "es")
    )
    both = [(english[name], spanish[name]) for name in english if name in spanish]
    assert len(both) > 900
    links = align([([w for w, _ in one], [w for w, _ in other]) for one, other in both], Progress(live=False))
    tagged, _ = project_tags([([t for _, t in one], [w for w, _ in other]) for one, other in both], links)
    whole = [(tags, other) for tags, (_, other) in zip(tagged, both, strict=True) if tags]
    pairs = [pair for tags, other in whole for pair in zip(tags, other, strict=True)]
    assert len(whole) > 0.9 * len(both)
    assert sum(tag == right for tag, (_, right) in pairs) > 0.75 * len(pairs)


def _treebank(path: Path) -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    name = ""
    for line in gzip.decompress(path.read_bytes()).decode().split("\n"):
        if line.startswith("# sent_id"):
            name = line.split("=")[1].strip()
        elif line.split("\t")[0].isdigit():
            cells = line.split("\t")
            found.setdefault(name, []).append((cells[1], cells[3]))
    return found
