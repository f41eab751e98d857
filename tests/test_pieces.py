"""Words that were met before are looked up, and every text has the very pieces that its tokenizer gives it."""

import csv
import gzip
import random
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from test_answer_places import TOKENIZERS
from xstilts.model.tokenizer import TokenizerPieces, splits_at_blanks

WORDS = [
    "ma",
    "Ma",
    "mama",
    "N",
    "k",
    "don't",
    "'s",
    "(ma)",
    "a,b",
    "<mask>",
    "x<MASK>,",
    "12",
    "3.5",
    "1",
    ".",
    "Zoë",
    "ma\n",
]


def texts() -> list[str]:
    """Sentences of common and odd words, parted by one blank, mostly; the last ones repeat the first ones."""
    rng = random.Random(1)
    blanks = [" ", " ", " ", " ", " ", " ", " ", "  ", "\t", "\n"]
    made = ["".join(rng.choice(WORDS[:9] if i % 2 else WORDS) + rng.choice(blanks) for _ in range(rng.randint(1, 6)))
            for i in range(300)]  # fmt: skip
    trimmed = [text.strip() for text in made[:150]] + made[150:]
    return [*trimmed, "", " ", "a", " a", "a ", "\n", *trimmed[:100]]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_every_tokenizer_gives_each_text_its_own_pieces(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = TOKENIZERS[name]()
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    own = [encoding.ids for encoding in tokenizer.encode_batch(texts(), add_special_tokens=False)]
    pieces = TokenizerPieces(tokenizer, max_length=32, unk_id=0)
    assert pieces.encode(texts()) == own
    assert [pieces.encode([text])[0] for text in texts()] == own
    monkeypatch.setattr("xstilts.model.tokenizer.WORDS", 3)
    assert [pieces.encode([text])[0] for text in texts()] == own


def test_the_tokenizer_is_asked_for_a_word_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    pieces = TokenizerPieces(TOKENIZERS["xlmr"](), max_length=32, unk_id=0)
    split = pieces._split
    monkeypatch.setattr(pieces, "_split", lambda texts: asked.extend(texts) or split(texts))
    pieces.encode(["ma N ma", "N ma ", "ma Zoë", "ma  N"])
    assert sorted(asked) == ["N", "a ", "a N", "a ma", "ma", "ma  N", "ma Zoë"]
    asked.clear()
    pieces.encode(["ma ma ma N", "N"])
    assert not asked


def test_it_is_known_which_tokenizers_read_word_by_word() -> None:
    known = {name: splits_at_blanks(make()) for name, make in TOKENIZERS.items()}
    assert [name for name, reads in known.items() if not reads] == ["gemma"]


@pytest.mark.parametrize(
    ("normalizer", "splitter"),
    [
        (None, None),
        (None, pre_tokenizers.Metaspace(split=False)),
        (None, pre_tokenizers.ByteLevel(use_regex=False)),
        (None, pre_tokenizers.Sequence([pre_tokenizers.Split("ma N", "isolated"), pre_tokenizers.Metaspace()])),
        (normalizers.Replace("a N", "b"), pre_tokenizers.Metaspace()),
        (normalizers.Prepend("ma"), pre_tokenizers.Metaspace()),
    ],
)
def test_of_what_may_look_beyond_a_word_nothing_is_remembered(
    normalizer: normalizers.Normalizer | None, splitter: pre_tokenizers.PreTokenizer | None
) -> None:
    tokenizer = TOKENIZERS["xlmr"]()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if splitter is None:
        tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0), *((char, -1.0) for char in "maN "), ("a N", -1.0)], 0))
    else:
        tokenizer.pre_tokenizer = splitter
    assert not splits_at_blanks(tokenizer)
    sentences = ["ma N", "N", "ma", "ma N ma"] * 2
    pieces = TokenizerPieces(tokenizer, max_length=32, unk_id=0)
    own = [encoding.ids for encoding in tokenizer.encode_batch(sentences, add_special_tokens=False)]
    assert pieces.encode(sentences) == own


def test_an_added_token_may_hold_a_blank() -> None:
    tokenizer = TOKENIZERS["xlmr"]()
    tokenizer.add_tokens(["ma N"])
    pieces = TokenizerPieces(tokenizer, max_length=32, unk_id=0)
    assert pieces.encode(["N ma", "ma N"])[1] == tokenizer.encode("ma N", add_special_tokens=False).ids
    assert len(pieces.encode(["ma N"])[0]) == 1


@pytest.mark.real
def test_real_pairs_have_the_pieces_of_the_real_tokenizer(shared: Path) -> None:
    tokenizer = Tokenizer.from_file(str(shared / "models/mini-xlmr/tokenizer.json"))
    pieces = TokenizerPieces(tokenizer, max_length=128, unk_id=0)
    with gzip.open(shared / "data/nli_small/mnli.dev.csv.gz", "rt", encoding="utf-8", newline="") as stream:
        cells = [cell for row in csv.reader(stream) for cell in row]
    own = [encoding.ids for encoding in tokenizer.encode_batch(cells, add_special_tokens=False)]
    assert pieces.encode(cells[:5000]) + pieces.encode(cells[5000:]) == own
    assert splits_at_blanks(tokenizer) and len(cells) > 20_000
