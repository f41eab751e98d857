"""The playground's rows: the same everywhere, parallel where they say so, and ever farther from English."""

import os
import re
import subprocess
import sys
from collections import Counter
from itertools import islice, pairwise

import pytest

from xstilts import playground
from xstilts.playground import KINDS, LANGUAGES, describe, rows, splits

SOME_ROWS = """
import hashlib, itertools, json
from xstilts.playground import KINDS, LANGUAGES, rows, splits
parts = [(k, l, s) for k in KINDS for l in LANGUAGES for s in splits(k, l)]
some = [list(itertools.islice(rows(*part), 5)) for part in parts]
print(hashlib.sha256(json.dumps(some).encode()).hexdigest())
"""


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_every_machine_gives_the_same_rows(hash_seed):
    told = subprocess.run(
        [sys.executable, "-c", SOME_ROWS],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == "abb656be1305df95d0968b1ac337fbb7f7f226972fc0e17cfcaab1a180bbeffe"


def test_a_language_says_the_same_whatever_was_said_before():
    alone = list(islice(rows("text", "qac", "train"), 20))
    mixed = [
        (row, next(other))
        for other in [rows("text", "qad", "train")]
        for row in islice(rows("text", "qac", "train"), 20)
    ]
    assert [row for row, _ in mixed] == alone


def test_the_playground_says_how_far_a_language_is():
    assert LANGUAGES[0] == "en" and describe("en").shared == 1.0
    assert {describe(code).word_order for code in LANGUAGES} == {"SVO", "SOV", "VSO"}
    assert len({describe(code).script for code in LANGUAGES}) >= 3


def test_each_language_shares_fewer_words_with_english():
    shares = [describe(code).shared for code in LANGUAGES]
    assert all(near > far for near, far in pairwise(shares))


def test_farther_languages_borrow_a_part_of_what_nearer_ones_borrow():
    lexicons = [playground.tongue(code).lexicon for code in LANGUAGES]
    borrowed = [{concept for concept, word in words.items() if word == concept} for words in lexicons]
    assert all(near > far for near, far in pairwise(borrowed))


@pytest.mark.parametrize("code", LANGUAGES)
def test_a_lexicon_has_no_word_twice(code):
    words = list(playground.tongue(code).lexicon.values())
    assert len(set(words)) == len(words)


@pytest.mark.parametrize("code", LANGUAGES[1:])
def test_every_language_is_asked_about_the_same_facts(code):
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
        tongue = playground.tongue(code)
        for row in rows("ner", code, "dev"):
            for word, tag in zip(row["words"], row["tags"], strict=True):
                assert (tag != "O") == (word in {tongue.lexicon[name] for name in playground.NAMES})


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
        told = " ".join(row["text"] for row in rows("text", code, "train"))
        assert set(re.split(r"(?<=[.?]) ", told)).isdisjoint(pair["source"] for pair in pairs)


def test_raw_text_says_other_facts_in_every_language():
    digits = {code: tuple(re.sub(r"\D", "", row["text"]) for row in rows("text", code, "dev")) for code in LANGUAGES}
    assert len(set(digits.values())) == len(LANGUAGES)


def test_training_data_is_english():
    for kind in KINDS.keys() - {"text"}:
        assert "train" not in splits(kind, "qaa")
    with pytest.raises(KeyError, match="nli/qaa/train"):
        next(rows("nli", "qaa", "train"))
