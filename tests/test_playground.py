"""Playground rows: equal on every machine, parallel where promised, each language farther from English."""

import os
import re
import statistics
import subprocess
import sys
from collections import Counter
from itertools import islice, pairwise

import pytest

from xstilts import playground
from xstilts.formats import FORMATS
from xstilts.playground import DATASETS, LANGUAGES, rows, splits
from xstilts.playground.languages import GRAMMARS
from xstilts.playground.world import NOUNS_OF, QUESTIONS
from xstilts.study.load import read
from xstilts.study.plan import plan
from xstilts.tasks import GROUPS, TASKS

ASKED = ("questions", "passages", "facts", "maybe")
WHOLE = """\
name: whole
encoder: {text: text, layers: 1, hidden: 16, heads: 2, vocabulary: 300}
use: [tasks.yaml]
seeds: [1]
settings: {limit: 10, steps: 1, lr: 1e-3}
phases:
  - {name: target, each: [playground]}
evaluate: [playground]
languages: [qag]
"""
PLAYED = {name: task for name, task in TASKS.items() if name.startswith("play-")}

SOME_ROWS = """
import hashlib, itertools, json
from xstilts.playground import DATASETS, LANGUAGES, rows, splits
parts = [(k, l, s) for k in DATASETS for l in LANGUAGES for s in splits(k, l)]
some = [list(itertools.islice(rows(*part), 5)) for part in parts]
print(hashlib.sha256(json.dumps(some).encode()).hexdigest())
"""


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_the_rows_are_the_same_on_every_machine(hash_seed):
    messages = subprocess.run(
        [sys.executable, "-c", SOME_ROWS],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert messages.stdout.strip() == "7028f9384f95ee6cb697453b08b6bf3ab55b3a610932ce2bc3e187a915219b22"


def test_the_rows_of_a_language_do_not_depend_on_other_languages():
    alone = list(islice(rows("text", "qac", "train"), 20))
    mixed = [
        (row, next(other))
        for other in [rows("text", "qad", "train")]
        for row in islice(rows("text", "qac", "train"), 20)
    ]
    assert [row for row, _ in mixed] == alone


def shared(language):
    """The share of a language's word types that English has too, over the parallel test sentences."""
    own, english = ({word for row in rows("pos", code, "test") for word in row["words"]} for code in (language, "en"))
    return len(own & english) / len(own)


def test_the_languages_differ_in_word_order_and_script():
    grammars = [GRAMMARS[code] for code in LANGUAGES]
    assert LANGUAGES[0] == "en" and shared("en") == 1.0
    orders = {"".join(part for part in grammar.clause if part in "SVO") for grammar in grammars}
    assert orders == {"SVO", "SOV", "VSO"}
    assert len({grammar.script for grammar in grammars}) >= 3


def test_each_language_shares_fewer_words_with_english():
    shares = [shared(code) for code in LANGUAGES]
    assert all(near > far for near, far in pairwise(shares))


def test_each_language_borrows_a_subset_of_the_nearer_ones_words():
    lexicons = [playground.get_language(code).lexicon for code in LANGUAGES]
    borrowed = [{concept for concept, word in words.items() if word == concept} for words in lexicons]
    assert all(near > far for near, far in pairwise(borrowed))


@pytest.mark.parametrize("code", LANGUAGES)
def test_a_lexicon_has_no_word_twice(code):
    words = list(playground.get_language(code).lexicon.values())
    assert len(set(words)) == len(words)


@pytest.mark.parametrize("code", LANGUAGES[1:])
def test_test_sets_are_parallel_across_languages(code):
    for kind in ("nli", "paraphrase"):
        assert [row["label"] for row in rows(kind, code, "test")] == [row["label"] for row in rows(kind, "en", "test")]
    for own, english in zip(rows("pos", code, "test"), rows("pos", "en", "test"), strict=True):
        optional = {"DET", "AUX"}  # not every language has articles, or a word for the future
        assert Counter(set(own["tags"]) - optional) == Counter(set(english["tags"]) - optional)


@pytest.mark.parametrize("kind", ["pos", "ner"])
@pytest.mark.parametrize("code", LANGUAGES)
def test_every_word_has_a_tag(kind, code):
    for row in rows(kind, code, "test"):
        assert len(row["words"]) == len(row["tags"]) > 2
        assert all(word and not re.search(r"\s", word) for word in row["words"])


def test_names_are_entities_in_every_language():
    for code in LANGUAGES:
        language = playground.get_language(code)
        for row in rows("ner", code, "dev"):
            for word, tag in zip(row["words"], row["tags"], strict=True):
                assert (tag != "O") == (word in {language.lexicon[name] for name in playground.NAMES})


@pytest.mark.parametrize(("kind", "labels"), [("nli", 3), ("paraphrase", 2)])
def test_labels_are_balanced(kind, labels):
    for split in ("dev", "test"):
        counts = Counter(row["label"] for row in rows(kind, "en", split))
        assert len(counts) == labels and len(set(counts.values())) == 1


def test_the_length_of_a_hypothesis_does_not_give_its_label_away():
    lengths = Counter()
    for row in rows("nli", "en", "train"):
        lengths[len(row["hypothesis"].split()), row["label"]] += 1
    guessed = sum(
        max(n for (size, _), n in lengths.items() if size == length) for length in {size for size, _ in lengths}
    )
    assert guessed < 0.6 * sum(lengths.values())


def test_no_parallel_sentence_is_in_the_raw_text():
    for code in ("qaa", "qag"):
        pairs = list(rows("parallel", code, "test"))
        assert len({pair["target"] for pair in pairs}) == len(pairs) == 300
        messages = " ".join(row["text"] for row in rows("text", code, "train"))
        assert set(re.split(r"(?<=[.?]) ", messages)).isdisjoint(pair["source"] for pair in pairs)


def test_raw_text_is_not_parallel():
    digits = {code: tuple(re.sub(r"\D", "", row["text"]) for row in rows("text", code, "dev")) for code in LANGUAGES}
    assert len(set(digits.values())) == len(LANGUAGES)


def test_training_data_is_english():
    for kind in DATASETS.keys() - {"text"}:
        assert "train" not in splits(kind, "qaa")
    with pytest.raises(KeyError, match="nli/qaa/train"):
        next(rows("nli", "qaa", "train"))


@pytest.mark.parametrize("kind", ASKED)
@pytest.mark.parametrize("code", LANGUAGES)
def test_an_answer_is_at_its_answer_start(kind, code):
    asking = {playground.get_language(code).lexicon[word] for word in QUESTIONS.values()}
    for row in rows(kind, code, "dev"):
        assert len(set(re.findall(r"\w+", row["question"])) & asking) == 1
        assert asking.isdisjoint(re.findall(r"\w+", row["context"]))
        for answer in row["answers"]:
            start, end = answer["answer_start"], answer["answer_start"] + len(answer["text"])
            assert row["context"][start:end] == answer["text"]
            assert start == 0 or row["context"][start - 1] == " "
            assert row["context"][end] in " ."


@pytest.mark.parametrize("kind", ASKED)
def test_one_sentence_at_most_answers_a_question(kind):
    wider = {f"{word}{plural}" for word in NOUNS_OF for plural in ("", "s")}
    for row in rows(kind, "en", "test"):
        sentences = row["context"].split(". ")
        assert len(sentences) == (3 if kind == "passages" else 2)
        given = {*re.findall(r"\w+", row["question"])} - {*QUESTIONS.values(), "the"} - wider
        fitting = [sentence for sentence in sentences if given <= {*re.findall(r"\w+", sentence)}]
        assert len(fitting) == len(row["answers"])
        assert all(answer["text"] in fitting[0] for answer in row["answers"])


def test_the_position_of_an_answer_cannot_be_guessed():
    for kind in ASKED:
        answered = [row for row in rows(kind, "en", "test") if row["answers"]]
        before = Counter(row["context"][: row["answers"][0]["answer_start"]].count(".") for row in answered)
        assert max(before.values()) < 0.6 * len(answered)
        for word in QUESTIONS.values():
            assert sum(word in row["question"] for row in answered) > 0.1 * len(answered)


def test_the_length_of_a_context_does_not_give_away_whether_it_has_an_answer():
    words = {there: [] for there in (False, True)}
    for row in rows("maybe", "en", "train"):
        words[bool(row["answers"])].append(len(row["context"].split()))
    assert 0.25 < len(words[False]) / 4000 < 0.4
    assert abs(statistics.fmean(words[False]) - statistics.fmean(words[True])) < 1


@pytest.mark.parametrize("code", LANGUAGES[1:])
def test_parallel_questions_are_parallel_and_others_are_not(code):
    for kind in ASKED:
        own, english = (
            [Counter(re.findall(r"\d", row["context"])) for row in rows(kind, language, "test")]
            for language in (code, "en")
        )
        assert (own == english) is DATASETS[kind].parallel
    assert not DATASETS["passages"].parallel and DATASETS["questions"].parallel


@pytest.mark.parametrize("code", LANGUAGES)
def test_the_right_ending_is_the_same_in_every_language(code):
    for row, english in zip(rows("choice", code, "test"), rows("choice", "en", "test"), strict=True):
        assert len(set(row["endings"])) == 4
        assert row["label"] == english["label"]
    labels = Counter(row["label"] for row in rows("choice", code, "test"))
    assert set(labels) == {0, 1, 2, 3} and max(labels.values()) < 100


def test_a_wrong_ending_has_one_word_that_is_new():
    for row in rows("choice", "en", "test"):
        messages = {*re.findall(r"\w+", row["endings"][row["label"]])}
        for ending in row["endings"][: row["label"]] + row["endings"][row["label"] + 1 :]:
            assert len({*re.findall(r"\w+", ending)} - messages) == 1


@pytest.mark.parametrize("code", LANGUAGES[1:])
@pytest.mark.parametrize("split", ["dev", "test"])
def test_half_of_the_queries_have_a_translation_among_the_candidates(code, split):
    found = list(rows("mined", code, split))
    queries, candidates = ([row for row in found if side in row] for side in ("query", "candidate"))
    wanted = [id for row in queries for id in row["relevant"]]
    assert len(queries) == len(candidates) == 200 and len(wanted) == len(set(wanted)) == 100
    for side, name in ((queries, "query"), (candidates, "candidate")):
        assert len({row["id"] for row in side}) == len({row[name] for row in side}) == 200
    result = {row["id"]: row.get("query", row.get("candidate")) for row in found}
    for row in queries:
        for id in row["relevant"]:  # numerals are the same in every language
            assert re.findall(r"\d", row["query"]) == re.findall(r"\d", result[id])
    numbers = [int(id.removeprefix("en-")) for id in wanted]
    assert 80 < statistics.fmean(numbers) < 120, "an id does not tell whether there is a translation"


def test_the_candidates_are_the_same_for_all_languages():
    candidates = [[row for row in rows("mined", code, "test") if "candidate" in row] for code in LANGUAGES[1:]]
    assert all(others == candidates[0] for others in candidates)


def test_every_format_has_a_playground_task():
    assert {task.format.name for task in PLAYED.values()} == FORMATS.keys()
    assert set(GROUPS["playground"]) == PLAYED.keys() - {"play-text"}
    shown = {file.path for task in PLAYED.values() for source in task.data.values() for file in source.layouts[0]}
    assert shown == {f"playground:{kind}/{split}" for kind, made in DATASETS.items() for split in made.sizes}


@pytest.mark.parametrize("name", PLAYED)
def test_show_works_on_every_playground_task(name, xstilts):
    task = PLAYED[name]
    for split in task.data.keys() & {"train", "dev", "test"}:
        code = task.train_languages[0] if split == "train" else task.languages[-1]
        result = xstilts("show", name, code, 1, "--split", split)
        assert result.code == 0 and f"{task.format.name}), {code}, {split}, example 1 (the first is 0)\n" in result.out


def test_the_quickstart_covers_the_formats_of_all_nine_targets_and_folds_equal_trainings():
    made = plan(*read("quickstart"))
    measured = {(PLAYED[cell.task].format.name, PLAYED[cell.task].metric) for cell in made.cells}
    assert measured == {(TASKS[name].format.name, TASKS[name].metric) for name in GROUPS["xtreme"]}
    assert len({cell.task for cell in made.cells}) == len(GROUPS["xtreme"]) == 9
    parents = {(cell.branch, cell.seed, cell.task): made.steps[cell.step].parent for cell in made.cells}
    for branch, seed, task in parents:
        if task == "play-passages":
            assert parents[branch, seed, task] == parents[branch, seed, "play-questions"]
    assert made.trainings_before_folding - made.trainings >= len({(b, s) for b, s, _ in parents})


def test_every_playground_task_can_be_trained_and_scored(tmp_path, xstilts):
    (tmp_path / "whole.yaml").write_text(WHOLE, encoding="utf-8")
    (tmp_path / "tasks.yaml").write_text("text: {like: play-text, train_languages: [en]}", encoding="utf-8")
    result = xstilts("run", tmp_path / "whole.yaml", "--out", tmp_path / "out")
    assert result.code == 0, result.err
    assert {line.split()[0].rstrip("†:,") for line in result.out.splitlines() if line.startswith("play-")} == {
        *GROUPS["playground"]
    }
    assert result.out.count("\nqag") == 1, "of many tasks only the first is shown by language"
    assert result.out.endswith("out --layout languages\n")
    assert xstilts("report", tmp_path / "out", "--layout", "languages").out.count("\nqag") == len(GROUPS["playground"])
