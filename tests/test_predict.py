"""`predict` and `xstilts.load` give, for new rows and raw texts, what an evaluation of the same rows gives."""

import io
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import pipeline

from conftest import SENTENCES, CliResult
from xstilts import load, playground
from xstilts.cli import app
from xstilts.data.lines import STDIN, lines
from xstilts.errors import DataError, UserError
from xstilts.formats import Span, Tag
from xstilts.formats.base import HeadOutputs, Row
from xstilts.formats.words import split_words
from xstilts.predict.export import export
from xstilts.predict.inputs import as_they_come
from xstilts.store.rows import Prediction, read_rows
from xstilts.tasks import TASKS
from xstilts.utils.progress import CountBar

RECIPE = """\
name: every-format
encoder: {text: text, layers: 1, hidden: 16, heads: 2, vocabulary: 300}
use: [tasks.yaml]
seeds: [1]
settings: {limit: 12, steps: 8, batch: 8, lr: 1e-2}
phases:
  - {name: target, each: [playground]}
evaluate: [playground]
languages: [en, qag]
keep: all
"""
TASKS_FILE = """\
text: {like: play-text, data: {train: {path: "playground:text/train", part: 1/100}}}
"""
PREDICTED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "classify": lambda result: result["label"],
    "choose": lambda result: result["choice"],
    "tag": lambda result: [one["tag"] for one in result["tags"]],
    "span": lambda result: result["answer"],
}
"""By format, what of a result an evaluation stores."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a barely trained model of every task of the playground."""
    folder = tmp_path_factory.mktemp("every")
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    (folder / "tasks.yaml").write_text(TASKS_FILE, encoding="utf-8")
    app(["run", str(folder / "recipe.yaml"), "--out", str(folder / "runs")], standalone_mode=False)
    return folder / "runs"


@pytest.fixture
def models(runs: Path) -> Path:
    """The folder of the links to the best runs, by task."""
    return runs / "best" / "every-format"


def evaluations(runs: Path) -> Iterator[tuple[dict[str, Any], list[Prediction]]]:
    """The record of each evaluation with its predictions."""
    for path in sorted(runs.glob("steps/*/step.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["kind"] == "evaluate":
            yield record, read_rows(path.with_name("predictions.jsonl"), Prediction)


def rows(task: str, language: str, split: Any) -> Iterator[dict[str, Any]]:
    path = TASKS[task].data[split].layouts[0][0].path
    kind, _, name = path.removeprefix("playground:").partition("/")
    return playground.rows(kind, language, name)


def test_every_format_predicts_what_its_evaluation_stored(runs: Path) -> None:
    formats = set()
    for record, stored in evaluations(runs):
        if record["scoring"]["head"] is None:
            continue
        predictor = load(runs / "steps" / record["parent"])
        formats.add(predictor.format.name)
        assert predictor.notes == []
        for language, split in dict.fromkeys((row.language, row.split) for row in stored):
            expected = [row for row in stored if (row.language, row.split) == (language, split)]
            own = islice(rows(record["scoring"]["task"], language, split), len(expected))
            results = list(predictor.predict(own, language=language))
            found = [PREDICTED[predictor.format.name](result) for result in results]
            assert found == [row.prediction for row in expected], (record["title"], language, split)
            for result, row in zip(results, expected, strict=True):
                if "probabilities" in result:  # answers have theirs by place, not by text
                    assert result["probabilities"] == pytest.approx(row.probabilities or {}, abs=2e-4)
    assert formats == PREDICTED.keys()


def test_neighbours_are_those_that_retrieval_finds(runs: Path) -> None:
    checked = 0
    for record, stored in evaluations(runs):
        if record["scoring"]["task"] != "play-parallel":
            continue
        predictor = load(runs / "steps" / record["parent"], vectors=True)
        for language in dict.fromkeys(row.language for row in stored):
            expected = [row.prediction for row in stored if row.language == language]
            pairs = list(rows("play-parallel", language, "test"))
            pool, queries = [row["source"] for row in pairs], [row["target"] for row in pairs[: len(expected)]]
            found = list(predictor.neighbours(queries, pool, language=language, top=3))
            assert [one["neighbours"][0]["index"] for one in found] == expected
            assert all(pool[near["index"]] == near["text"] for one in found for near in one["neighbours"])
            checked += len(expected)
    assert checked > 10
    labels = next(record["parent"] for record, _ in evaluations(runs) if record["scoring"]["task"] == "play-nli")
    with pytest.raises(UserError, match=r"load the model with xstilts.load\(FOLDER, vectors=True\)"):
        next(load(runs / "steps" / labels).neighbours(["a cat"], ["a dog"]))


def answered(result: CliResult) -> list[dict[str, Any]]:
    assert result.code == 0, result.err
    return [json.loads(line) for line in result.out.splitlines()]


def test_the_command_reads_every_layout_and_writes_it_with_columns_added(
    models: Path, tmp_path: Path, xstilts: Callable[..., CliResult]
) -> None:
    """Two pairs, of which one has a comma and quotation marks; a label that the model does not know is no mistake."""
    nli, pairs = models / "play-nli", [("the dog runs", 'he said "no", twice'), (SENTENCES[3], SENTENCES[13])]
    files = {
        "pairs.txt": "".join(f"{a}\t{b}\n" for a, b in pairs),
        "pairs.tsv": "premise\thypothesis\tlabel\n" + "".join(f"{a}\t{b}\tmaybe\n" for a, b in pairs),
        "pairs.jsonl": "".join(json.dumps({"id": a[:5], "premise": a, "hypothesis": b}) + "\n" for a, b in pairs),
        "pairs.csv": 'hypothesis,premise,note\n"he said ""no"", twice",the dog runs,1\n'
        + f"{SENTENCES[13]},{SENTENCES[3]},2\n",
    }
    found, same = {}, {}
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
        found[name] = answered(xstilts("predict", nli, tmp_path / name))
        same[name] = xstilts("predict", nli, tmp_path / name, "--same").out
    first = found["pairs.txt"]
    assert [one["text"] for one in first] == [list(pair) for pair in pairs]
    for name, results in found.items():
        assert [{**one, "id": 0} for one in results] == [{**one, "id": 0} for one in first], name
    assert [one["id"] for one in found["pairs.jsonl"]] == ["the d", "A man"]
    assert same["pairs.tsv"].splitlines()[0] == "premise\thypothesis\tlabel\tpredicted_label\tprobabilities"
    assert same["pairs.tsv"].splitlines()[1].split("\t")[2:4] == ["maybe", first[0]["label"]]
    assert same["pairs.txt"].splitlines()[1].startswith("\t".join((*pairs[1], first[1]["label"])))
    assert same["pairs.csv"].startswith("hypothesis,premise,note,label,probabilities\n" + '"he said ""no"", twice",the')
    row = json.loads(same["pairs.jsonl"].splitlines()[1])
    assert row == {**json.loads(files["pairs.jsonl"].splitlines()[1]), **{k: first[1][k] for k in list(first[1])[1:]}}
    renamed = tmp_path / "renamed.dat"
    renamed.write_text(files["pairs.csv"].replace("premise", "s1").replace("hypothesis", "s2"), encoding="utf-8")
    names = ("--field", "premise=s1", "--field", "hypothesis=s2")
    assert answered(xstilts("predict", nli, renamed, "--input", "csv", *names)) == first


def test_tags_have_the_places_of_their_words(models: Path, tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    ner, text = models / "play-ner", "Well,  Anna's  dog — 東京!"
    (tmp_path / "texts.txt").write_text(f"{text}\n", encoding="utf-8")
    refused = xstilts("predict", ner, tmp_path / "texts.txt")
    assert refused.code == 2 and "may have a text or a word a line (--input lines: a text" in refused.err
    (result,) = answered(xstilts("predict", ner, tmp_path / "texts.txt", "--input", "lines"))
    words = ["Well", ",", "Anna's", "dog", "—", "東", "京", "!"]
    assert (
        [text[one["start"] : one["end"]] for one in result["tags"]] == [one["word"] for one in result["tags"]] == words
    )
    assert result["text"] == text and isinstance(result["entities"], list)
    tokens = "dog\tO\nruns\tO\n\nHe\tB-PER\n"
    (tmp_path / "words.conll").write_text(tokens, encoding="utf-8")
    lists = answered(xstilts("predict", ner, tmp_path / "words.conll"))
    assert [one["text"] for one in lists] == [["dog", "runs"], ["He"]]
    assert [(one["start"], one["end"]) for one in lists[0]["tags"]] == [(0, 3), (4, 8)]
    same = xstilts("predict", ner, tmp_path / "words.conll", "--same").out
    tags = [one["tag"] for result in lists for one in result["tags"]]
    assert same == "dog\tO\t{}\nruns\tO\t{}\n\nHe\tB-PER\t{}\n\n".format(*tags)


def test_entities_join_the_words_of_a_name() -> None:
    """With the classes that a good model would find, since the tiny model knows no names."""
    form = Tag(labels=("O", "B-PER", "I-PER", "B-LOC"))
    example = form.read(Row({"text": "Anna  Schmidt, Berlin"}, "t", 1))
    outputs = HeadOutputs(np.array([0]), [np.array([[1, 0.9], [2, 0.7], [0, 0.95], [3, 0.6]])])
    (result,) = form.results([example], outputs, None, 1)
    assert result["entities"] == [
        {"type": "PER", "text": "Anna  Schmidt", "start": 0, "end": 13, "probability": pytest.approx(0.8)},
        {"type": "LOC", "text": "Berlin", "start": 15, "end": 21, "probability": 0.6},
    ]
    assert [one["probability"] for one in result["tags"]] == [0.9, 0.7, 0.95, 0.6]
    parts_of_speech = form.model_copy(update={"labels": ("NOUN", "PUNCT", "PROPN", "VERB")})
    assert "entities" not in parts_of_speech.results([example], outputs, None, 1)[0]


def test_probabilities_of_tags_are_those_of_transformers_pipeline(models: Path, tmp_path: Path) -> None:
    """At the token with each word's first character; the probability of an entity is the mean."""
    text = "Lena will wash a car in Marisk tomorrow"  # `predict` alone splits off punctuation marks
    (result,) = load(models / "play-ner").predict([text])
    export(models / "play-ner", tmp_path / "out")
    tokens = pipeline("token-classification", model=str(tmp_path / "out"), device="cpu", ignore_labels=[])(text)
    for word in result["tags"]:
        *_, token = (one for one in tokens if one["start"] <= word["start"] < one["end"])
        assert (word["tag"], word["probability"]) == (token["entity"], pytest.approx(token["score"], abs=1e-4))
    for entity in result["entities"]:
        own = [one["probability"] for one in result["tags"] if entity["start"] <= one["start"] < entity["end"]]
        assert entity["probability"] == pytest.approx(np.mean(own), abs=2e-4)


def test_words_of_many_scripts() -> None:
    texts = {
        "उसने पूरा पत्र पढ़ा।": ["उसने", "पूरा", "पत्र", "पढ़ा", "।"],
        "don't stop—it's 3.14 (U.S.)...": ["don't", "stop", "—", "it's", "3.14", "(", "U.S", ".", ")", "..."],
        "«Привет», -- сказал": ["«", "Привет", "»", ",", "--", "сказал"],
        "\u200fالقط ينام.": ["\u200fالقط", "ينام", "."],
    }
    for text, words in texts.items():
        assert [text[a:b] for a, b in split_words(text)] == words


def test_answers_are_ranked_and_placed(models: Path) -> None:
    predictor = load(models / "play-maybe")
    assert isinstance(predictor.format, Span)
    context = " ".join(SENTENCES[:6])
    (result,) = predictor.predict([{"question": "Who sleeps?", "context": context, "answers": []}], top=4)
    assert len(result["answers"]) == 4
    shares = [one["probability"] for one in result["answers"]]
    assert shares == sorted(shares, reverse=True) and sum(shares) + result["no_answer"] <= 1.001
    assert all(context[one["start"] : one["end"]] == one["text"] for one in result["answers"])
    assert (result["answer"] == "") == (result["no_answer"] > shares[0]) == (result["start"] is None)
    assert result["answer"] in ("", result["answers"][0]["text"])
    with pytest.raises(DataError, match="input:1: needs the columns context and question"):
        list(predictor.predict([("Who?", context)]))


def test_the_threshold_of_a_language_comes_from_its_evaluation(models: Path, tmp_path: Path) -> None:
    """A copy of a step elsewhere has none, and says so."""
    (facts,) = [
        json.loads((path / "done.json").read_text(encoding="utf-8"))["thresholds"]
        for path in models.parents[1].glob("steps/*")
        if '"task": "play-maybe"' in (path / "step.json").read_text(encoding="utf-8")
        and '"kind": "evaluate"' in (path / "step.json").read_text(encoding="utf-8")
    ]
    assert facts.keys() == {"en", "qag"}
    predictor = load(models / "play-maybe")
    assert {code: predictor.threshold(code) for code in facts} == facts
    assert predictor.threshold("sw") == facts["en"], "another language has that of the training language"
    copy = shutil.copytree((models / "play-maybe").resolve(), tmp_path / "copy")
    (note,) = load(copy).notes
    assert note == f"{copy}: the threshold for no answer is not known, so it is 0 (no evaluation lies beside it)"


def test_a_text_that_is_too_long_is_marked_and_counted(
    models: Path, tmp_path: Path, xstilts: Callable[..., CliResult]
) -> None:
    lines_of = [f"{SENTENCES[0]}\tshort", "\t".join([" ".join(SENTENCES * 3)] * 2)]
    path = tmp_path / "long.txt"
    path.write_text("\n".join(lines_of), encoding="utf-8")
    result = xstilts("predict", models / "play-same", path)
    assert [one.get("truncated") for one in answered(result)] == [None, True]
    assert "1 row not read whole (64 tokens at most; `truncated` marks them)" in result.err


def test_rows_with_mistakes_are_named_and_the_others_predicted(
    models: Path, tmp_path: Path, xstilts: Callable[..., CliResult]
) -> None:
    path = tmp_path / "some.jsonl"
    good = {"premise": "a", "hypothesis": "b"}
    some = [good, {"premise": "a", "hypo": "b"}, {**good, "hypothesis": " "}, {**good, "label": "neutral"}, good]
    path.write_text("".join(json.dumps(row) + "\n" for row in some), encoding="utf-8")
    result = xstilts("predict", models / "play-nli", path)
    assert result.code == 2 and result.out.count("\n") == 3
    assert f"error: {path}:2: has no hypothesis (it has: hypo, premise)\n" in result.err
    assert f"error: {path}:3: empty hypothesis\n" in result.err
    assert "rows with these mistakes have no prediction; all others have one" in result.err
    (tmp_path / "table.csv").write_text("first,second,label\nA long text,b,x\n", encoding="utf-8")
    result = xstilts("predict", models / "play-nli", tmp_path / "table.csv")
    assert "the task wants premise, hypothesis (such as --field premise=first --field hypothesis=second;" in result.err
    (tmp_path / "named.txt").write_text("premise,hypothesis,label\na,b,x\n", encoding="utf-8")
    result = xstilts("predict", models / "play-nli", tmp_path / "named.txt")
    assert "named.txt:1: is a table's header, not a text (--input csv or tsv)" in result.err and result.code == 2
    (tmp_path / "texts.tsv").write_text("id\ttext\na7\tThe dog runs.\nb3\tA cat sleeps.\n", encoding="utf-8")
    result = xstilts("predict", models / "play-ner", tmp_path / "texts.tsv")
    assert "has words or tags with blanks (is it a table of texts? name their column: --field" in result.err
    (result,) = answered(xstilts("predict", models / "play-ner", tmp_path / "texts.tsv", "--field", "text"))[:1]
    assert [one["word"] for one in result["tags"]] == ["The", "dog", "runs", "."]
    (tmp_path / "latin.txt").write_bytes(b"a\tb\nein \xfcbles\tc\n")
    result = xstilts("predict", models / "play-nli", tmp_path / "latin.txt")
    assert result.code == 2 and f"{tmp_path / 'latin.txt'}:2: is not UTF-8 at byte 8" in result.err
    predictor = load(models / "play-nli")
    for row, message in (
        ({"premise": "a"}, "input:2: has no hypothesis"),
        ("one", r"input:2: has 1 text \(it needs premise, hypothesis"),
        (("a", 3.5, "c"), "input:2: has 3 texts"),
        ({**good, "premise": ["a"]}, "input:2: premise must be text"),
    ):
        with pytest.raises(DataError, match=message):
            list(predictor.predict([good, row]))


def test_folders_that_are_no_model_are_named_for_what_they_are(
    runs: Path, models: Path, tmp_path: Path, encoder_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = (models / "play-ner").resolve()
    evaluation = next(record["id"] for record, _ in evaluations(runs))
    old, half = tmp_path / "old", tmp_path / "half" / "steps" / step.name
    shutil.copytree(step, half)
    (half / "done.json").unlink()
    shutil.copytree(step, old / "steps" / step.name)
    (old / "store.json").write_text('{"version": 1}', encoding="utf-8")
    headless, foreign = shutil.copytree(step, tmp_path / "headless"), shutil.copytree(step, tmp_path / "foreign")
    shutil.rmtree(headless / "encoder")
    shutil.copy(encoder_folder / "tokenizer.json", foreign / "encoder" / "tokenizer.json")
    for folder, message in (
        (runs, "is a run folder with several models .give one of its models: .*best/every-format/play-"),
        (runs / "steps" / evaluation, "is an evaluation, which has no encoder of its own"),
        (old / "steps" / step.name, "was made by an earlier version of xstilts"),
        (half, "this step is not finished"),
        (headless, "has a head, but no encoder"),
        (foreign, "was trained with another tokenizer than that in|the tokenizer has the id"),
        (encoder_folder, "has no head that predicts labels"),
        (tmp_path, "is not the folder of a model .give one of its models: .*foreign"),
        (runs / "recipes", "is not the folder of a model .neither step.json nor config.json is in it"),
        (models, "is not the folder of a model .give one of its models: .*every-format/play-"),
        (runs / "store.json", "is a file, not the folder of a model"),
        (models / "play-nerr", "no such folder .did you mean 'play-ner'"),
        ("0123456789ab", "no step '0123456789ab' in runs"),
    ):
        with pytest.raises(UserError, match=message):
            load(folder)
    with pytest.raises(UserError, match="has no head of the task 'play-pos'"):
        load(step, task="play-pos")
    monkeypatch.chdir(runs.parent)
    assert load("best/every-format/play-ner").record == load(step).record == load(step.name).record
    vector = next(iter(load(encoder_folder, vectors=True).predict(["A cat."])))["vector"]
    assert vector.shape == (16,)


def test_a_line_that_ends_the_reading_hides_no_earlier_mistake(
    models: Path, tmp_path: Path, xstilts: Callable[..., CliResult]
) -> None:
    """Rows before it have their predictions."""
    rows = ['{"words": ["A", "cat"]}', '{"tokens": ["A"]}', '{"words": ["A", " "]}', "no JSON"]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
    result = xstilts("predict", models / "play-ner", tmp_path / "rows.jsonl")
    assert result.code == 2 and result.out.count("\n") == 1
    assert [f"rows.jsonl:{line}: " in result.err for line in (2, 3, 4)] == [True] * 3, result.err


def test_options_that_do_not_fit_are_refused(models: Path, tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    (tmp_path / "a.txt").write_text("a\tb\n", encoding="utf-8")
    os.mkfifo(tmp_path / "pipe")
    for options, message in (
        (("--same", tmp_path / "a.txt", tmp_path / "a.txt"), "--same: writes one file at a time"),
        (("--field", "text"), "--field text: does not say which text is meant (--field premise=COLUMN --field hypo"),
        (("--field", "texts=a"), "--field: has no 'texts' (the columns are premise, hypothesis, label)"),
        ((tmp_path / "b.txt",), "b.txt: no such file"),
        ((tmp_path,), "is a folder"),
        ((tmp_path / "pipe",), "pipe: is no ordinary file (copy it to a file first, or give it as stdin)"),
        (("--language", "ger", tmp_path / "a.txt"), "--language: unknown language 'ger' (write de)"),
    ):
        result = xstilts("predict", models / "play-nli", *options)
        assert result.code == 2 and message in result.err, result.err


def test_a_pool_and_vectors_on_the_command_line(
    models: Path, tmp_path: Path, xstilts: Callable[..., CliResult]
) -> None:
    (tmp_path / "pool.csv").write_text(
        "n,text\n" + "".join(f'{i},"{SENTENCES[i]}"\n' for i in range(8)), encoding="utf-8"
    )
    (tmp_path / "asked.txt").write_text(f"{SENTENCES[5]}\n\n{SENTENCES[2]}\n", encoding="utf-8")
    call = ("predict", models / "play-ner", tmp_path / "asked.txt")
    result = xstilts(*call, "--pool", tmp_path / "pool.csv", "--top", "2")
    near = [one["neighbours"] for one in answered(result)]
    assert [[len(one), one[0]["index"], one[0]["cosine"]] for one in near] == [[2, 5, 1.0], [2, 2, 1.0]]
    assert "1 blank line left out" in result.err
    first, _ = answered(xstilts(*call, "--vectors"))
    assert first["text"] == SENTENCES[5] and len(first["vector"]) == 16


def test_the_standard_input_is_lines_json_or_a_table(
    models: Path, tmp_path: Path, xstilts: Callable[..., CliResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    def piped(text: str, *options: str) -> list[dict[str, Any]]:
        path = tmp_path / "input"
        path.write_text(text, encoding="utf-8")
        with path.open(encoding="utf-8") as stream:
            monkeypatch.setattr(sys, "stdin", stream)
            return answered(xstilts("predict", models / "play-nli", *options))

    first = piped("a\tb\n")
    assert piped('{"premise": "a", "hypothesis": "b"}\n') == first == piped("a\tb\n", "-")
    assert piped("hypothesis,premise\nb,a\n", "--input", "csv") == first
    assert piped('{"x": {"y": "a"}, "hypothesis": "b"}\n', "--field", "premise=x.y") == first


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
@pytest.mark.parametrize(
    "first", [("comment", "foo", "bar"), ("kommentar", "foo"), ("A dog runs.", "It moves.", "yes")]
)
def test_the_first_row_of_a_table_is_its_header_and_never_a_text(
    models: Path, tmp_path: Path, xstilts: Callable[..., CliResult], first: tuple[str, ...], suffix: str
) -> None:
    """Also where it has as many cells as the task has texts, or texts and a label."""
    path, comma = tmp_path / f"new.{suffix}", "," if suffix == "csv" else "\t"
    path.write_text(f"{comma.join(first)}\n{comma.join(['A cat sleeps.', 'It dreams.', 'no'][: len(first)])}\n")
    for options in ((), ("--same",)):
        result = xstilts("predict", models / "play-nli", path, *options)
        assert result.code == 2 and not result.out
        assert f"{path}:1: the header has {', '.join(first)}; the task wants premise, hypothesis (such as" in result.err
    path.write_text(path.read_text().replace(comma.join(first[:2]), f"premise{comma}hypothesis", 1))
    assert len(answered(xstilts("predict", models / "play-nli", path))) == 1


def test_a_bar_on_the_terminal_leaves_the_output_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, terminal = os.openpty()
    output = io.StringIO()
    with os.fdopen(terminal, "w", encoding="utf-8") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        monkeypatch.setattr(sys, "stdout", output)
        with CountBar("rows.txt", 300) as bar:
            sys.stdout.write("a row\n")
            bar.update(200)
    drawn = ""
    with suppress(OSError):  # at the end of the closed terminal's text
        while part := os.read(screen, 100_000):
            drawn += part.decode()
    os.close(screen)
    assert output.getvalue() == "a row\n"
    assert "rows.txt" in drawn and "200/300" in drawn


def test_a_line_of_a_slow_pipe_is_there_before_the_next_one() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stream, os.fdopen(writing, "wb", buffering=0) as pipe:
        numbered = lines(STDIN, None, stream)
        for number in (1, 2, 3):
            pipe.write(f"line {number}\n".encode())
            assert next(numbered) == (number, f"line {number}")


def test_rows_are_handed_on_as_they_come_and_few_are_read_ahead() -> None:
    """The second row comes only after the first was handed on; of endless rows eight may wait."""
    handed, read = threading.Event(), count()

    def slow() -> Iterator[Row]:
        yield Row({"text": "a"}, "t", 1)
        assert handed.wait(20)
        while True:
            yield Row({"text": "abc"}, "t", next(read))

    groups = as_they_come(slow(), 8, 12)
    assert [row.line for row in next(groups)] == [1]
    handed.set()
    numbers = [row.line for _ in range(200) for row in next(groups)]
    assert numbers == list(range(len(numbers)))
    assert next(read) - len(numbers) <= 6, "four rows of three characters wait, one more was read"

    def broken() -> Iterator[Row]:
        yield Row({"text": "a"}, "t", 1)
        raise DataError("is not UTF-8", where="t:2")

    groups = as_they_come(broken(), 8, 100)
    assert len(next(groups)) == 1
    with pytest.raises(DataError, match="t:2: is not UTF-8"):
        next(groups)
