"""Raw text: a wiki's dump, the Hub's tables and plain files become sentences, a file each language."""

import bz2
import errno
import fcntl
import gzip
import json
import lzma
import os
import random
import re
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import escape

import pyarrow
import pyarrow.parquet
import pytest
from huggingface_hub import constants

from conftest import CliResult, without_torch
from xstilts.corpus.articles import read
from xstilts.corpus.sentences import MAX_THAI_OR_LAO, sentences
from xstilts.corpus.wikitext import HOLE, plain
from xstilts.data.examples import LocatedSplit, check, locate
from xstilts.languages import XTREME
from xstilts.tasks import TASKS
from xstilts.tasks.source import Source
from xstilts.tasks.task import Task

HEAD = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" xml:lang="sw"><siteinfo><namespaces>
<namespace key="0" /><namespace key="1">Majadiliano</namespace><namespace key="6">Picha</namespace>
<namespace key="14">Jamii</namespace></namespaces></siteinfo>
"""
NAIROBI = """{{Infobox mji|jina=Nairobi|picha={{Picha|a.jpg}}
|wakazi=4,397,073}}
[[Picha:Nairobi.jpg|thumb|200px|Mandhari ya [[Nairobi]] mwaka wa 2010.]]
'''Nairobi''' ({{lang|mas|Enkare}}) ni [[mji mkuu]] wa [[Kenya|nchi ya Kenya]].<ref name="sensa">Sensa ya watu
mwaka [http://knbs.or.ke 2019] hapa.</ref> Una wakazi milioni&nbsp;nne &amp; zaidi.<ref name="sensa" />
{| class="wikitable"
! Mwaka !! Wakazi wa mji huu wote
|-
| 1999 || Watu milioni mbili tu {{x}}
|}
== Historia ya mji wa Nairobi ==
* Mji ulianzishwa mwaka wa 1899 na [[:en:Uganda Railway|reli]]. <!-- angalia tena mwaka huu -->
{{Marejeo ambayo hayakufungwa vizuri kabisa
[[Jamii:Miji ya Kenya yote mikubwa]]
[[en:Nairobi is a city there]]"""
CLEAN = [
    "Nairobi (Enkare) ni mji mkuu wa nchi ya Kenya.",
    "Una wakazi milioni nne & zaidi.",
    "Mji ulianzishwa mwaka wa 1899 na reli.",
]


def page(text: str, ns: int = 0, redirect: str = "", model: str = "wikitext") -> str:
    return (
        f"<page><title>T</title><ns>{ns}</ns>{redirect}<revision><id>1</id><model>{model}</model>"
        f'<text xml:space="preserve">{escape(text)}</text></revision></page>\n'
    )


def article(number: int) -> str:
    return page(f"Makala ya '''namba''' {number} ni fupi sana. Sentensi yake ya pili ni {number} pia.")


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    """A wiki with an article, a talk page, a redirect, a page of data, and an article again; two streams of bzip2."""
    first = page(NAIROBI) + page("Haya ni majadiliano ya makala hii.", ns=1)
    second = page("#REDIRECT [[Nairobi mji mkuu wa Kenya]]", redirect='<redirect title="Nairobi" />')
    second += page('{"hii": "ni data tu ya makala"}', model="json") + article(7) + "</mediawiki>"
    path = tmp_path / "swwiki-latest-pages-articles-multistream.xml.bz2"
    path.write_bytes(bz2.compress((HEAD + first).encode()) + bz2.compress(second.encode()))
    return path


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def test_only_the_prose_of_a_dumps_articles_remains(
    dump: Path, tmp_path: Path, xstilts: Callable[..., CliResult]
) -> None:
    result = xstilts("corpus", "sw", "--from", dump, "--out", tmp_path / "out", "--workers", 1)
    assert (result.code, result.out) == (0, f"{tmp_path}/out/sw.txt: 5 sentences\n")
    last = ["Makala ya namba 7 ni fupi sana.", "Sentensi yake ya pili ni 7 pia."]
    assert lines(tmp_path / "out/sw.txt") == CLEAN + last
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["sw.json", "sw.txt"]


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("a '''b''' ''c'' l'autre", "a b c l'autre"),
        ("[[a|]] [[Star Wars: A]] [[wikt:x|y]] [[de:Mond]] [http://a.b c] http://d.e", " Star Wars: A y  c "),
        ("[[Bild:a.jpg|mini|links|ein Bild]] [[Category:Towns]]", " "),
        ("x<sup>2</sup> <math>x^2</math><br/>y <nowiki>[z]</nowiki>", f"x² {HOLE}\n\ny [z]"),
        ("<div>a {{b|[[c]]}} <table><tr><td>d</td></tr></table></div>", f"\na {HOLE} \n"),
        ("__NOTOC__-{zh-hans:软件; zh-hant:軟體}-好-{A|zh-cn:服务器;zh-tw:伺服器}-很-{原}-", "软件好服务器很原"),
        ("-{H|zh-cn:软件;zh-tw:軟體}-好-{T|zh-cn:甲}-", "好"),
        ("北京（{{x|en|x}}，）是 (;) [ ] ()", "北京是"),
        ("&eacute;&#x110000;&#xd800;&#7;&nbsp;", "é&#x110000;\xa0"),
        ("a\n| b || c\nd }} e\n! f\ng", "a\ng"),
        ("a <!-- b --> c\nd <ref>e\nf <!-- g", "a  c"),
    ],
)
def test_wikitext_becomes_its_visible_text(markup: str, text: str) -> None:
    assert plain(markup) == text


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("Nell''''arte''' e nell''''''uso'''''", "Nell'arte e nell'uso"),
        ("un'''opera'' di ''altri''", "un'opera di altri"),  # MediaWiki: after a word
        ("'''Dopo''' l'''opera'' e poi", "Dopo l'opera e poi"),  # after a single letter, before other marks
        ("''Un '''altro''' modo'' e '''uno ''solo'' qui'''", "Un altro modo e uno solo qui"),
        ("'''''Tutti''' e'' due, '''''poi'' uno'''", "Tutti e due, poi uno"),
        ("La '''frase\nche '''va''' a capo", "La frase\nche va a capo"),
        ("'''riga<br />unica''' con ''due''", "riga\n\nunica con due"),
        ("l&#39;''uso'', d<nowiki>''</nowiki>'''oro''', {{'}}''90''", "l'uso, d''oro, '90"),
        ("[[Roma|l'''Urbe'']] e all'''Alba''", "l'Urbe e all'Alba"),
    ],
)
def test_apostrophes_are_told_from_marks_of_bold_and_italics(markup: str, text: str) -> None:
    assert plain(markup) == text


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("{{convert|8|mi|km|1|abbr=on}}, {{cvt|2|–|3|kg}}, {{Convert|5|ft|9|in|cm}}", "8 mi, 2–3 kg, 5 ft 9 in"),
        ("{{formatnum:60512}} und {{val|2.5|u=GHz}}, {{unité|12|km}}", "60512 und 2.5 GHz, 12 km"),
        ("{{val|2.5|ul=m}}, {{nombre|7}} und {{cvt|6|ft|2|in|m|abbr=on}}", "2.5 m, 7 und 6 ft 2 in"),
        ("{{convert|5|e6km2}} 10<sup>2.5</sup> Na<sup>+</sup> 1<sup>er</sup>", "\ufffc 10\ufffc Na⁺ 1er"),
        ("{{val|2.5|e=6|u=kg}} {{val|2|0.1|u=m}} {{val|9|u=m|up=s}} {{unité|12|km|2}}", "\ufffc \ufffc \ufffc \ufffc"),
        ("{{lang|la|''[[vox]]''}} {{nowrap|1=a b}} {{abbr|UN|United Nations}} {{lang-ru|мир}}", "vox a b UN мир"),
        ("3{{nbsp}}kg{{sfn|A|2001}} 1901{{efn|b}}, gut.{{X|c}} Und{{Y|d}}, ja", "3\xa0kg 1901, gut. Und, ja"),
        ("10<sup>−6</sup> m, 19<sup>th</sup>, CO<sub>2</sub>", "10⁻⁶ m, 19th, CO2"),
        ("Ulm ({{IPA|x}}; ''alt'') liegt", "Ulm liegt"),
        ("{{Kasten\n|a=1}}Ulm liegt", "\nUlm liegt"),
        ("Er ist {{Alter|1960}} Jahre", f"Er ist {HOLE} Jahre"),
        ("für 5{{Bruch|1|2}} und {{{1}}}", f"für 5{HOLE} und {HOLE}"),
    ],
)
def test_a_known_template_shows_its_text_and_an_unknown_one_leaves_a_hole(markup: str, text: str) -> None:
    assert plain(markup) == text


def test_a_sentence_with_a_hole_is_dropped_and_its_neighbours_stay(
    tmp_path: Path, xstilts: Callable[..., CliResult]
) -> None:
    text = "Der Fluss ist {{convert|90|km}} lang. Er hat {{Anzahl|Q1}} Brücken aus Holz. Im Winter friert er immer zu."
    (tmp_path / "a.xml").write_text(HEAD + page(text) + "</mediawiki>", encoding="utf-8")
    assert xstilts("corpus", "de", "--from", tmp_path / "a.xml", "--out", tmp_path / "out", "--workers", 1).code == 0
    assert lines(tmp_path / "out/de.txt") == ["Der Fluss ist 90 km lang.", "Im Winter friert er immer zu."]
    (tmp_path / "b.txt").write_text(f"In diesem Text steht {HOLE} von Anfang an.", encoding="utf-8")
    assert xstilts("corpus", "de", "--from", tmp_path / "b.txt", "--out", tmp_path / "b").code == 0
    assert HOLE in lines(tmp_path / "b/de.txt")[0]


@pytest.mark.parametrize(
    ("code", "text", "parts"),
    [
        ("en", "Mr. Smith saw  3.5 p.m. trains.\tDid “he go?” Yes. “No, he didn’t.”",
         ["Mr. Smith saw 3.5 p.m. trains.", "Did “he go?”", "“No, he didn’t.”"]),
        ("zh", "他从北京来到这里。她说：“今天天气很好！”　真的吗？“我不知道是不是。”好。",
         ["他从北京来到这里。", "她说：“今天天气很好！”", "“我不知道是不是。”"]),
        ("ja", "今日は天気がいいです。元気？「はい、元気です。」と彼は言った。",
         ["今日は天気がいいです。", "「はい、元気です。」", "と彼は言った。"]),
        ("ar", "ذهب الولد إلى المدرسة. هل عاد إلى البيت؟ نعم، عاد مساء اليوم۔ لا",
         ["ذهب الولد إلى المدرسة.", "هل عاد إلى البيت؟", "نعم، عاد مساء اليوم۔"]),
        ("hi", "राम कल घर गया। सीता आज आई॥ वह कौन है?", ["राम कल घर गया।", "सीता आज आई॥", "वह कौन है?"]),
        ("el", "Τι είναι αυτό εδώ; Δεν ξέρω ακόμα.", ["Τι είναι αυτό εδώ;", "Δεν ξέρω ακόμα."]),
        ("th", "วันนี้อากาศดีมาก ผมไปตลาด", ["วันนี้อากาศดีมาก ผมไปตลาด"]),
        ("qaa", "Mi lo sa po. 😀😀 Ta ki lo no. So", ["Mi lo sa po.", "😀😀 Ta ki lo no."]),
    ],
)  # fmt: skip
def test_sentences_end_where_their_language_ends_them(code: str, text: str, parts: list[str]) -> None:
    assert list(sentences(text, code)) == parts


def test_a_paragraph_ends_a_sentence_and_a_line_separator_does_not() -> None:
    text = "One line of text\nand one more line\r\n\n  \nand this\u2028is a third"
    assert list(sentences(text, "en")) == ["One line of text", "and one more line", "and this is a third"]


def test_thai_is_split_at_blanks_into_usable_parts() -> None:
    words = [f"คำที่{i}" * 5 for i in range(100)]
    parts = list(sentences(" ".join(words), "th"))
    assert max(map(len, parts)) <= MAX_THAI_OR_LAO and len(parts) > 5
    assert " ".join(parts) == " ".join(words)
    assert list(sentences("word " * 100, "en")) == [("word " * 100).strip()]


def hub(cache: Path, language: str, columns: dict[str, list[str]], parts: int = 1) -> None:
    """The Hub's Wikipedia as its own library keeps it."""
    folder = cache / "datasets--wikimedia--wikipedia"
    snapshot = folder / f"snapshots/{'0' * 40}" / f"20231101.{language}"
    (folder / "refs").mkdir(parents=True, exist_ok=True)
    (folder / "refs/main").write_text("0" * 40)
    snapshot.mkdir(parents=True)
    rows = len(next(iter(columns.values()))) // parts
    for part in range(parts):
        table = pyarrow.table({name: values[part * rows : (part + 1) * rows] for name, values in columns.items()})
        pyarrow.parquet.write_table(table, snapshot / f"train-{part:05}-of-{parts:05}.parquet", row_group_size=2)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def test_the_hub_is_the_default_source(cache: Path, tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    texts = [f"Makala ya namba {i}.\n\nMarejeo\n\nSentensi hii ni ya {i}." for i in range(6)]
    hub(cache, "sw", {"id": list("abcdef"), "url": ["u"] * 6, "title": ["t"] * 6, "text": texts}, parts=2)
    hub(cache, "yo", {"id": ["a"], "url": ["u"], "title": ["t"], "text": ["Ìlú Èkó jẹ́ ìlú ńlá."]})
    result = xstilts("corpus", "sw", "yo", "--out", tmp_path / "out")
    assert result.code == 0, result.err
    made = [line for i in range(6) for line in (f"Makala ya namba {i}.", f"Sentensi hii ni ya {i}.")]
    assert lines(tmp_path / "out/sw.txt") == made
    assert lines(tmp_path / "out/yo.txt") == ["Ìlú Èkó jẹ́ ìlú ńlá."]


def test_a_missing_hub_table_is_reported_and_the_others_are_built(
    cache: Path, tmp_path: Path, xstilts: Callable[..., CliResult]
) -> None:
    hub(cache, "yo", {"text": ["Ìlú Èkó jẹ́ ìlú ńlá."]})
    hub(cache, "ta", {"id": ["a"], "body": ["b"]})
    result = xstilts("corpus", "sw", "ta", "yo", "--out", tmp_path / "out")
    assert (result.code, result.out) == (2, "")
    missing, column = (line for line in result.err.splitlines() if line.startswith("error: "))
    assert "no data for 'sw': looked for hub:wikimedia/wikipedia/20231101.sw/train-*.parquet" in missing
    assert "give a dump or text with --from" in missing
    assert "has no string column `text` (its columns: id (string), body (string))" in column
    assert [path.name for path in sorted((tmp_path / "out").glob("*.txt"))] == ["yo.txt"]


@pytest.mark.parametrize("name", ["a.txt", "a.en", "a.txt.gz", "a.txt.bz2", "a.txt.xz", "a.jsonl", "a.ndjson.xz"])
def test_text_is_a_paragraph_a_line_packed_or_not(name: str, tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    paragraphs = ["It is late now. Go home at once.", "", "x", "This is the end."]
    objects = "".join(json.dumps({"id": 1, "text": one}) + "\n" for one in paragraphs)
    whole = (objects if "json" in name else "\n".join(paragraphs)).encode()
    pack = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}.get(name.split(".")[-1], bytes)
    (tmp_path / name).write_bytes(pack(whole))
    assert xstilts("corpus", "en", "--from", tmp_path / name, "--out", tmp_path).code == 0
    assert lines(tmp_path / "en.txt") == ["It is late now.", "Go home at once.", "This is the end."]


def test_the_raw_text_task_reads_the_corpus_that_was_built(tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    for code in ("sw", "yo"):
        (tmp_path / f"{code}.raw").write_text(f"Makala ya {code} ni fupi.\n")
    result = xstilts("corpus", "sw", "yo", "--from", tmp_path / "{lang}.raw", "--out", tmp_path / "mlm_text")
    assert result.code == 0, result.err
    (tmp_path / "t.yaml").write_text("mine: {like: masked-text, languages: [sw, yo], train_languages: [sw, yo]}")
    messages = xstilts("data", "check", "mine", "--use", tmp_path / "t.yaml", "--data", tmp_path, "--json")
    assert [row["examples"] for row in json.loads(messages.out)] == [1, 1]


def test_the_number_of_processes_does_not_change_the_text(
    dump: Path, tmp_path: Path, xstilts: Callable[..., CliResult]
) -> None:
    many = [page(NAIROBI)] + [article(i) for i in range(12_000)]
    dump.write_bytes(bz2.compress((HEAD + "".join(many) + "</mediawiki>").encode()))
    assert len(list(read(str(dump)))) > 2
    for workers in (1, 2):
        out = tmp_path / str(workers)
        assert xstilts("corpus", "sw", "--from", dump, "--out", out, "--workers", workers).code == 0
    assert lines(tmp_path / "1/sw.txt")[:5] == [*CLEAN, "Makala ya namba 0 ni fupi sana.",
                                                "Sentensi yake ya pili ni 0 pia."]  # fmt: skip
    assert (tmp_path / "1/sw.txt").read_bytes() == (tmp_path / "2/sw.txt").read_bytes()


def test_a_limit_samples_the_whole_file_by_the_seed(tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    every = [f"This is sentence number {i}." for i in range(1000)]
    (tmp_path / "a.txt").write_text("\n".join(every))

    def drawn(name: str, seed: int) -> list[str]:
        out = tmp_path / name
        assert (
            xstilts("corpus", "en", "--from", tmp_path / "a.txt", "--out", out, "--limit", 100, "--seed", seed).code
            == 0
        )
        return lines(out / "en.txt")

    first = drawn("1", 1)
    assert first == drawn("2", 1) != drawn("3", 2)
    places = [every.index(line) for line in first]
    assert places == sorted(set(places)) and len(places) == 100
    assert 35 < sum(place < 500 for place in places) < 65
    assert json.loads((tmp_path / "1/en.json").read_text())["of"] == 1000


SIZES = {"en": 4000, "de": 800, "sw": 50}
"""Sentences of three languages before a limit."""


@pytest.fixture
def limited(tmp_path: Path, xstilts: Callable[..., CliResult]) -> LocatedSplit:
    """Text for training, made by the command of docs/data.md with a small limit from texts of our own."""
    page = (Path(__file__).parents[1] / "docs/data.md").read_text(encoding="utf-8")
    [command] = re.findall(r"^xstilts corpus xtreme .*--limit \d+", page, flags=re.MULTILINE)
    words = [tmp_path if word == "data/mlm_text" else word for word in command.split()]
    words[words.index("xtreme") : words.index("xtreme") + 1] = [*SIZES, "--from", tmp_path / "{lang}.raw"]
    words[words.index("--limit") + 1] = 60
    for code, size in SIZES.items():
        (tmp_path / f"{code}.raw").write_text("".join(f"The {code} sentence number {i}.\n" for i in range(size)))
    assert xstilts(*words[1:]).code == 0
    format = TASKS["masked-text"].format.model_copy(update={"sentences": None})
    source = Source.model_validate("{lang}.txt")
    task = Task(name="text", format=format, metrics=("perplexity",), languages=(*SIZES,), train_languages=(*SIZES,),
                data={"train": source})  # fmt: skip
    return locate(task, source, (*SIZES,), tmp_path, train=True)


def sampled_by_language(rows: LocatedSplit) -> dict[str, int]:
    counts = dict.fromkeys(SIZES, 0)
    for sentence, number in rows.sampled():
        counts[sentence.split()[1]] += number
    return counts


def test_sampled_shares_follow_the_sentences_before_a_limit(limited: LocatedSplit) -> None:
    sampled = sampled_by_language(limited)
    total, mass = sum(sampled.values()), sum(size**0.3 for size in SIZES.values())
    assert total == 60 + 60 + 50  # no more than there is
    for code, size in SIZES.items():
        assert abs(sampled[code] / total - size**0.3 / mass) < 1 / total


def test_a_part_of_a_cut_text_stands_for_the_same_part_of_its_source(limited: LocatedSplit, tmp_path: Path) -> None:
    half = Source.model_validate({"path": "{lang}.txt", "part": "1/2"})
    sampled = sampled_by_language(locate(limited.task, half, (*SIZES,), tmp_path, train=True))
    total, mass = sum(sampled.values()), sum(size**0.3 for size in SIZES.values())
    assert total == 30 + 30 + 25
    assert all(abs(sampled[code] / total - size**0.3 / mass) < 1 / total for code, size in SIZES.items())


def test_the_metadata_of_a_cut_text_are_an_input_of_training(limited: LocatedSplit, tmp_path: Path) -> None:
    content = limited.content
    assert {Path(path).name for path in limited.files} == {"en.txt", "de.txt", "sw.txt", "en.json", "de.json"}
    metadata = json.loads((tmp_path / "de.json").read_text())
    (tmp_path / "de.json").write_text(json.dumps(metadata | {"of": 90_000}))
    assert limited.content != content and sampled_by_language(limited)["de"] > 100
    scored = locate(limited.task, limited.task.data["train"], (*SIZES,), tmp_path)
    assert {Path(path).suffix for path in scored.files} == {".txt"}


@pytest.mark.parametrize("metadata", ["no JSON", "[1]", '{"language": "en", "sentences": "60", "of": 4000}', None])
def test_text_without_metadata_counts_as_it_is(limited: LocatedSplit, tmp_path: Path, metadata: str | None) -> None:
    for code in SIZES:
        (tmp_path / f"{code}.json").unlink()
        if metadata is not None:
            (tmp_path / f"{code}.json").write_text(metadata)
    sampled = sampled_by_language(limited)
    assert abs(sampled["en"] - sampled["de"]) <= 1 and sampled["sw"] > 50
    warnings: list[str] = []
    check(limited, warnings.append, labels=True)
    damaged = [f"{tmp_path / code}.json: is damaged, so the text's own number of sentences counts" for code in SIZES]
    assert sorted(warnings) == (sorted(damaged) if metadata else [])


def test_metadata_of_a_changed_text_give_a_warning_and_are_not_used(limited: LocatedSplit, tmp_path: Path) -> None:
    with (tmp_path / "en.txt").open("a") as stream:
        stream.write("The en sentence that came later.\n")
    warnings: list[str] = []
    check(limited, warnings.append, labels=True)
    assert warnings == [
        f"{tmp_path / 'en.json'}: its text has changed since, so the text's own number of sentences counts"
    ]
    sampled = sampled_by_language(limited)
    assert sampled["en"] < sampled["de"]


def test_a_finished_language_is_rebuilt_only_for_another_source_or_setting(
    tmp_path: Path, xstilts: Callable[..., CliResult]
) -> None:
    source, out = tmp_path / "a.txt", tmp_path / "out"
    source.write_text("It is late now.\nIt is not late.\n")

    def call(*more: object) -> str:
        result = xstilts("corpus", "en", "--from", source, "--out", out, *more)
        assert result.code == 0, result.err
        return result.out.partition(": ")[2].strip()

    assert [call(), call(), call("--seed", 5)] == ["2 sentences", *["2 sentences, already made"] * 2]
    assert [call("--limit", 1), call("--limit", 1)] == ["1 sentence", "1 sentence, already made"]
    assert [call("--limit", 1, "--seed", 5), call()] == ["1 sentence", "2 sentences"]
    source.rename(tmp_path / "b.txt")
    source.write_text("It is late now.\nIt was very late.\n")
    assert call() == "2 sentences"
    assert lines(out / "en.txt")[1] == "It was very late."
    (out / "en.txt").write_text("cut off")
    assert call() == "2 sentences"


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks for the run's processes in /proc")
def test_a_killed_build_keeps_finished_languages_and_resumes(tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    (tmp_path / "sw.xml").write_text(HEAD + article(1) + "</mediawiki>")
    (tmp_path / "yo.xml").write_text(HEAD + "".join(map(article, range(150_000))) + "</mediawiki>")
    command = ["corpus", "sw", "yo", "--from", f"{tmp_path}/{{lang}}.xml", "--out", f"{tmp_path}/out", "--workers", "2"]
    code = "from xstilts.cli import main\nif __name__ == '__main__': main()\n"
    (tmp_path / "call.py").write_text(code)
    run = subprocess.Popen([sys.executable, tmp_path / "call.py", *command], stderr=subprocess.DEVNULL)
    part = tmp_path / "out/.yo.txt.part"
    end = time.monotonic() + 300
    while not (part.exists() and part.stat().st_size) and run.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    workers = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert part.stat().st_size and not (tmp_path / "out/yo.txt").exists()
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < end:
        time.sleep(0.01)
    assert workers and not any(Path(f"/proc/{pid}").exists() for pid in workers), "a process was left behind"
    (tmp_path / "yo.xml").write_text(HEAD + article(2) + "</mediawiki>")
    result = xstilts(*command)
    assert result.code == 0, result.err
    assert [line.partition(": ")[2] for line in result.out.splitlines()] == [
        "2 sentences, already made",
        "2 sentences",
    ]
    assert not part.exists()


@pytest.mark.parametrize("name", ["en.txt", "en.json"])
def test_a_users_own_file_is_never_overwritten(name: str, tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    (tmp_path / "a.txt").write_text("It is late now.\n")
    (tmp_path / name).write_text("my own")
    result = xstilts("corpus", "en", "--from", tmp_path / "a.txt", "--out", tmp_path)
    assert result.code == 2 and f"{name}: exists, and en.json does not say that" in result.err, result.err
    assert (tmp_path / name).read_text() == "my own"


def test_a_source_is_never_overwritten(tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    (tmp_path / "a.txt").write_text("It is late now.\n")
    assert xstilts("corpus", "en", "--from", tmp_path / "a.txt", "--out", tmp_path).code == 0
    (tmp_path / "link.txt").symlink_to(tmp_path / "en.txt")
    result = xstilts("corpus", "en", "--from", tmp_path / "link.txt", "--out", tmp_path)
    assert result.code == 2 and "en.txt: is a source, so it cannot be overwritten" in result.err, result.err
    assert lines(tmp_path / "en.txt") == ["It is late now."]


def test_a_source_given_twice_is_read_once(tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    (tmp_path / "a.txt").write_text("It is late now.\n")
    twice = ["--from", tmp_path / "a.txt", "--from", f"{tmp_path}/./a.txt"]
    assert xstilts("corpus", "en", *twice, "--out", tmp_path).code == 0
    assert lines(tmp_path / "en.txt") == ["It is late now."]


def test_a_pipe_is_refused(tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    os.mkfifo(tmp_path / "pipe")
    result = xstilts("corpus", "en", "--from", tmp_path / "pipe", "--out", tmp_path)
    assert result.code == 2 and "pipe: is not a regular file, and can be read only once" in result.err


def test_a_file_system_without_locks_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, xstilts: Callable[..., CliResult]
) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none)
    (tmp_path / "a.txt").write_text("It is late now.\n")
    result = xstilts("corpus", "en", "--from", tmp_path / "a.txt", "--out", tmp_path)
    assert result.code == 2 and "en.txt: this file system cannot lock files: No locks" in result.err, result.err


def test_only_one_build_writes_a_file_at_a_time(tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    (tmp_path / "a.txt").write_text("It is late now.\n")
    call = ["corpus", "en", "--from", tmp_path / "a.txt", "--out", tmp_path]
    with (tmp_path / ".en.txt.part").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        result = xstilts(*call)
    assert result.code == 2 and f"error: {tmp_path}/en.txt: another run is writing this file" in result.err
    assert xstilts(*call).code == 0


def test_a_long_dump_takes_no_more_memory_than_a_short_one(tmp_path: Path) -> None:
    numbers = random.Random(1)

    def peak(pages: int) -> int:
        path = tmp_path / f"{pages}.xml"
        with path.open("w") as stream:
            stream.write(HEAD)
            for _ in range(pages):
                stream.write(page(" ".join(str(numbers.random()) for _ in range(500))))
            stream.write("</mediawiki>")
        tracemalloc.start()
        assert sum(len(batch.texts) for batch in read(str(path))) == pages
        try:
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(1500) < 1.5 * peak(150)


def latin() -> bytes:
    """A table whose text is not UTF-8, though it says so."""
    whole, stream = pyarrow.array([b"caf\xe9 au lait"]), pyarrow.BufferOutputStream()
    text = pyarrow.Array.from_buffers(pyarrow.string(), 1, whole.buffers())
    pyarrow.parquet.write_table(pyarrow.table({"text": text}), stream)
    return bytes(stream.getvalue())


BROKEN = {
    "cut.xml.bz2": (lambda whole: bz2.compress(whole)[:-20], "is not a complete bzip2 file"),
    "junk.xml.bz2": (lambda whole: b"junk" + whole, "is not a bzip2 file"),
    "cut.xml": (lambda whole: whole[:-5], "is not a complete dump: it ends after page 3 ("),
    "empty.xml": (lambda _: b"", "is not a complete dump: it ends before its first page ("),
    "page.xml": (lambda _: b"<html><body/></html>", "is not a Wikipedia dump: it begins with <html>"),
    "none.xml": (lambda _: HEAD.encode() + b"</mediawiki>", "contains no sentence"),
    "a.parquet": (lambda whole: whole, "is not a complete Parquet file: "),
    "a.jsonl": (lambda _: b'{"text": "a"}\n{"texts": "b"}\n', ":2: is not a JSON object with a string in `text`"),
    "b.jsonl": (lambda _: b'{"text": "\\ud800 is half of one."}\n', ":1: text contains half a character"),
    "a.txt": (lambda _: b"It is.\n\xff\n", ":2: is not UTF-8 at byte 7"),
    "a.csv": (lambda _: b"a,b\n", "cannot be read as text (.csv)"),
    "a.tar.gz": (lambda _: b"", "cannot be read as text (.tar)"),
    "utf7.xml": (lambda whole: b'<?xml version="1.0" encoding="utf-7"?>' + whole, "an encoding that cannot be read"),
    "none.xml.bz2": (lambda _: bz2.compress(b'<?xml version="1.0" encoding="x-none"?><a/>'), "an encoding that cannot"),
    "latin.parquet": (lambda _: latin(), "contains text that is not UTF-8"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_source_gives_one_error_and_leaves_no_output(
    name: str, tmp_path: Path, xstilts: Callable[..., CliResult]
) -> None:
    spoil, message = BROKEN[name]
    whole = HEAD + "".join(map(article, range(3))) + "</mediawiki>"
    (tmp_path / name).write_bytes(spoil(whole.encode()))
    result = xstilts("corpus", "sw", "--from", tmp_path / name, "--out", tmp_path / "out", "--workers", 1)
    errors = [line for line in result.err.splitlines() if line.startswith("error: ")]
    assert (result.code, len(errors)) == (2, 1), result.err
    assert errors[0].startswith(f"error: {tmp_path / name}") and message in errors[0], errors
    assert not list((tmp_path / "out").glob("*"))


def test_a_truncated_dump_names_the_last_page_read(tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    noise = random.Random(1)
    pages = [page(" ".join(str(noise.random()) for _ in range(200))) for _ in range(600)]
    path = tmp_path / "sw.xml.bz2"
    path.write_bytes(bz2.compress((HEAD + "".join(pages) + "</mediawiki>").encode())[:-1000])
    result = xstilts("corpus", "sw", "--from", path, "--out", tmp_path / "out", "--workers", 2)
    assert result.code == 2 and "is not a complete bzip2 file: it ends after page " in result.err, result.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["german"], "'german' is not a language code (write de)"),
        (["jpn", "EN"], "'EN' is not a language code (write en)"),
        (["sw", "--from", "none.txt"], "no data for 'sw': looked for none.txt, also with .gz"),
        (
            ["sw", "yo", "--from", "a.txt"],
            "a.txt: is one file for several languages (write {lang} in place of the code",
        ),
        (["sw", "--from", "hub:x"], "'hub:x' names no file of a data set on the Hub"),
        (["sw", "--from", " "], "error: --from: names no file"),
        (["sw", "--from", "."], "error: .: is a folder"),
        (["sw", "--from", "a.txt", "--snapshot", "20240101"], "--snapshot: cannot be used with --from"),
    ],
)
def test_command_line_mistakes_are_reported_before_any_output(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    xstilts: Callable[..., CliResult],
) -> None:
    monkeypatch.chdir(tmp_path)
    result = xstilts("corpus", *arguments, "--out", "out")
    assert result.code == 2 and message in result.err, result.err
    assert not list(tmp_path.iterdir())


def test_a_group_stands_for_its_languages(tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    for code in XTREME:
        (tmp_path / f"{code}.txt").write_text("One two three four.\n")
    assert xstilts("corpus", "xtreme", "sw", "--from", tmp_path / "{lang}.txt", "--out", tmp_path / "out").code == 0
    assert [path.stem for path in sorted((tmp_path / "out").glob("*.txt"))] == sorted(XTREME)


@pytest.mark.parametrize("package", ["icu4py", "mwparserfromhell"])
def test_without_the_corpus_extra_the_error_says_how_to_install_it(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, xstilts: Callable[..., CliResult]
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    result = xstilts("corpus", "sw", "--from", "a.txt", "--out", tmp_path)
    assert result.code == 2
    assert result.err == f'error: corpus: needs the package {package} (pip install "xstilts[corpus]")\n'


def test_corpus_does_not_load_torch(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("It is late now.\n")
    assert "1 sentence" in without_torch("corpus", "en", "--from", tmp_path / "a.txt", "--out", tmp_path / "out")
