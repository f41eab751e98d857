"""Each text gets the ids of its own tokenizer, and each word those it has within a sentence."""

import csv
import gzip
import random
from pathlib import Path

import pytest
import tokenizers
from tokenizers import AddedToken

from test_answer_spans import TOKENIZERS
from xstilts.model.tokenizer import Tokenizer

WORDS = ["ma", "Ma", "mama", "N", "k", "don't", "'s", "(ma)", "a,b", "<mask>", "x<MASK>,", "12", ".", "Zoë", "ma\n"]


def texts() -> list[str]:
    """Sentences of common and odd words, mostly separated by single spaces."""
    rng = random.Random(1)
    blanks = [*[" "] * 7, "  ", "\t", "\n"]
    made = ["".join(rng.choice(WORDS) + rng.choice(blanks) for _ in range(rng.randint(1, 6))) for _ in range(300)]
    return [*(text.strip() for text in made[:150]), *made[150:], "", " ", "a", " a", "a ", "\n"]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_batches_have_the_ids_of_the_tokenizer_itself(name: str) -> None:
    backend = TOKENIZERS[name]()
    backend.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    backend.add_tokens(["ma N"])
    expected = [encoding.ids for encoding in backend.encode_batch(texts(), add_special_tokens=False)]
    tokenizer = Tokenizer(backend, max_length=32, unk_id=0)
    assert tokenizer.encode(texts()) == expected
    assert [ids for ids, _ in tokenizer.spans(texts())] == expected


def test_a_repeated_word_has_the_same_ids_every_time() -> None:
    tokenizer = Tokenizer(TOKENIZERS["xlmr"](), max_length=32, unk_id=0)
    (one,), (two,) = tokenizer.words(["ma"]), tokenizer.words(["N"])
    assert tokenizer.words(["ma", "N", "ma"]) == [one, two, one]


@pytest.mark.real
def test_real_pairs_have_the_ids_of_the_real_tokenizer(shared: Path) -> None:
    backend = tokenizers.Tokenizer.from_file(str(shared / "models/mini-xlmr/tokenizer.json"))
    tokenizer = Tokenizer(backend, max_length=128, unk_id=0)
    with gzip.open(shared / "data/nli_small/mnli.dev.csv.gz", "rt", encoding="utf-8", newline="") as stream:
        cells = [cell for row in csv.reader(stream) for cell in row]
    expected = [encoding.ids for encoding in backend.encode_batch(cells, add_special_tokens=False)]
    assert tokenizer.encode(cells) == expected and len(cells) > 20_000
