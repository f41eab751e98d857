"""Answers as token spans: exact characters come back with every tokenizer and in every window."""

import gzip
import json
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, processors, trainers

from xstilts.formats import Span
from xstilts.formats.base import IGNORED, Features, HeadOutputs, Row
from xstilts.formats.span import Question, token_span
from xstilts.metrics import METRICS
from xstilts.model.encoder import Encoder
from xstilts.model.features import FeatureSet
from xstilts.model.tokenizer import Tokenizer

OPEN, LONG = Span(no_answer=True), Span(answer_length=10**6)
"""LONG takes answers of any length, where the rule is 30 pieces."""

ANSWERS = {
    "en": ("Ada met the mayor of Novi Sad, who was kind.", ("Ada", "the mayor", "Novi Sad", "kind")),
    "zh": ("林海燕在1958年搬到了杭州，她的女儿在那里出生。", ("林海燕", "1958年", "杭州", "她的女儿")),
    "ja": ("東京タワーは1958年に港区で完成した。ﾀﾜｰの高さは333ｍです。", ("東京タワー", "1958年", "港区", "333ｍ")),
    "th": ("เขาทำน้ำแข็งที่เชียงใหม่ในปี พ.ศ. 2501 กับแม่", ("ทำน้ำแข็ง", "เชียงใหม่", "พ.ศ. 2501", "แม่")),
    "ar": ("كتب الشاعر القصيدةَ في قرطبة ثم زار ﻻهور مع أخيه", ("الشاعر", "القصيدةَ", "قرطبة", "ﻻهور")),
    "hi": ("वह लड़का क़लम लेकर पढ़ने वाराणसी गया।", ("लड़का", "क़लम", "वाराणसी", "पढ़ने वाराणसी")),
    "fa": ("او می\u200cخواهد کتاب\u200cها را در تهران بخواند", ("می\u200cخواهد", "کتاب\u200cها", "تهران")),
    "odd": ("The ﬁre (cafe\u0301) cost ½ of １２３ Café.", ("ﬁre", "cafe\u0301", "½", "１２３")),
}  # fmt: skip
"""A context and answers whose first and last characters are whole pieces of any sensible tokenizer."""

WORDS = (" N N N N N", " k k k k k", " ma ma ma", " क़ क़ क़")
"""What makes pieces of a blank with what follows it."""


def made(format: Span, examples: list[Question], pieces: Tokenizer) -> FeatureSet:
    return FeatureSet.build(format, examples, pieces)


def perfect(features: FeatureSet) -> HeadOutputs:
    """What a head that makes no mistake would keep, built from nothing but the marks."""
    scores = [np.zeros((length, 2), np.float32) for length in features.lengths_F]
    for scores_L2, (first, last) in zip(scores, features.positions_M.reshape(-1, 2), strict=True):
        scores_L2[first, 0] = scores_L2[last, 1] = 10.0
    return HeadOutputs(features.example_F, scores, features.decode_info)


def texts() -> list[str]:
    return [context for context, _ in ANSWERS.values()]


def characters(seen: list[str]) -> list[str]:
    return sorted({char for text in seen for char in text} - {" "})


def xlmr_like() -> tokenizers.Tokenizer:
    """Unigram over NFKC text, each word with a blank's sign before it."""
    tokenizer = tokenizers.Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    alphabet = ["▁", *characters([normalizers.NFKC().normalize_str(text) for text in texts()])]
    tokenizer.model = models.Unigram(
        [("<unk>", 0.0), *((char, -5.0) for char in alphabet), ("▁ma", -3.0), ("▁N", -3.0)], 0
    )
    return tokenizer


def bert_like() -> tokenizers.Tokenizer:
    """WordPiece over lower-cased text without accents."""
    tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=0, special_tokens=["[UNK]"], show_progress=False)
    tokenizer.train_from_iterator(texts(), trainer)
    return tokenizer


def gemma_like() -> tokenizers.Tokenizer:
    """BPE over text whose blanks are spelled out; characters it has not seen fall back to bytes."""
    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    special = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=265, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(WORDS, trainer)
    return tokenizer


def byte_level(prefix: bool, trim: bool) -> tokenizers.Tokenizer:
    """BPE over bytes, of which a character has up to four."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix, trim_offsets=trim)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=trim)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(WORDS, trainer)
    return tokenizer


TOKENIZERS: dict[str, Callable[[], tokenizers.Tokenizer]] = {
    "xlmr": xlmr_like,
    "bert": bert_like,
    "gemma": gemma_like,
    "bytes": lambda: byte_level(False, False),
    "bytes-trimmed": lambda: byte_level(False, True),
    "bytes-prefixed": lambda: byte_level(True, False),
    "bytes-both": lambda: byte_level(True, True),
}


def pieces_of(name: str) -> Tokenizer:
    return Tokenizer(TOKENIZERS[name](), max_length=384, unk_id=0)


def asked(context: str, answers: tuple[str, ...]) -> list[Question]:
    """A question for each answer, which stands where it first occurs."""
    return [Question(None, "q", context, (answer,), context.index(answer)) for answer in answers]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_an_answer_decodes_to_its_exact_characters_with_every_tokenizer(name: str) -> None:
    for context, answers in ANSWERS.values():
        examples = asked(context, answers)
        features = made(LONG, examples, pieces_of(name))
        assert LONG.decode(examples, perfect(features), None) == list(answers)
        assert (features.targets_M == features.positions_M).all() and features.positions_M.min() > 0


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_span_covers_exactly_the_tokens_of_the_answer(name: str) -> None:
    pieces = pieces_of(name)
    for context, answers in ANSWERS.values():
        whole, spans = pieces.spans([context])[0]
        for example in asked(context, answers):
            (one,) = LONG.features([example], pieces)
            place, at = example.answer_span(), len(one.ids) - len(whole)
            assert place is not None
            first, last = (mark - at for mark in one.positions)
            assert spans[first][0] == place[0] and spans[last][1] == place[1]
            assert spans[first][1] > place[0] and spans[last][0] < place[1]
            assert all(end <= place[0] for _, end in spans[:first]) and all(a >= place[1] for a, _ in spans[last + 1 :])


@pytest.mark.parametrize(
    ("name", "given", "around"),
    [
        ("xlmr", ("ayor", "the m"), ["mayor", "the ma"]),
        ("bytes", ("ayor", "the m"), ["mayor", "the ma"]),
        ("bert", ("nown", "\u093cल"), ["☃nown", "क़ल"]),
    ],
)
def test_an_answer_inside_a_token_is_widened_to_the_whole_token(
    name: str, given: tuple[str, ...], around: list[str]
) -> None:
    examples = asked("the mayor, a ☃nown क़लम.", given)
    assert LONG.decode(examples, perfect(made(LONG, examples, pieces_of(name))), None) == around


def long_question(answer: str, start: int) -> Question:
    words = " ".join(f"w{number}" for number in range(60))
    return Question("7", "which " * 100, words, (answer,), start)


def test_a_long_context_is_read_in_windows_after_a_short_question(tiny: Encoder) -> None:
    example = long_question("w40 w41", 40 * 4 - 10)
    form = Span(stride=8, question_length=12)
    pieces = tiny.tokenizer_for(48)
    question, (context, spans) = pieces.encode([example.question])[0][:12], pieces.spans([example.context])[0]
    passes: list[Features] = list(form.features([example], pieces))
    assert len(passes) > 3
    at = len(question) + 3
    for k, one in enumerate(passes):
        shown = context[8 * k : 8 * k + 48 - at - 1]
        assert list(one.ids) == pieces.pair(question, shown)[0] and one.second == at
        first, last = one.positions
        if first:
            place = spans[first - at + 8 * k][0], spans[last - at + 8 * k][1]
            assert example.context[place[0] : place[1]] == "w40 w41"
        else:
            assert last == 0
    holding = [one for one in passes if one.positions[0]]
    assert 1 < len(holding) < len(passes)
    assert form.decode([example], perfect(made(form, [example], pieces)), None) == ["w40 w41"]


def test_a_question_is_truncated_to_half_of_a_window(tiny: Encoder) -> None:
    example = long_question("w1", 3)
    lengths = {one.second for one in LONG.features([example], tiny.tokenizer_for(32))}
    assert lengths == {3 + 14}


def test_an_answer_that_fits_in_no_window_has_no_positions(tiny: Encoder) -> None:
    example = long_question(" ".join(f"w{n}" for n in range(2, 50)), 6)
    features = made(LONG, [example], tiny.tokenizer_for(48))
    assert not features.positions_M.any() and len(features.lengths_F) > 1


def test_questions_without_labels_or_answer_point_at_the_first_token(tiny: Encoder) -> None:
    unknown, none = Question(None, "q", "c", None), Question(None, "q", "c", ("",))
    features = made(OPEN, [unknown, none], tiny.tokenizer_for(48))
    assert features.positions_M.tolist() == [0, 0, 0, 0] and features.targets_M.tolist() == [IGNORED, IGNORED, 0, 0]


def test_empty_tokens_belong_to_no_answer() -> None:
    span_N2 = np.array([[0, 0], [0, 2], [2, 2], [3, 5], [5, 5]], np.int32)
    assert token_span(span_N2, (0, 2)) == (1, 1) and token_span(span_N2, (3, 5)) == (3, 3)
    assert token_span(span_N2, (0, 5)) == (1, 3) and token_span(span_N2, None) == (-1, -1)
    assert token_span(span_N2[:0], (0, 2)) == (-1, -1)


LOST = {
    "xquad": {"ar": 11, "de": 6, "el": 2, "en": 3, "es": 2, "hi": 2, "ru": 2, "th": 2, "tr": 1, "vi": 1, "zh": 4},
    "mlqa": {"ar": 19, "de": 6, "en": 3, "es": 4, "hi": 2, "zh": 6},
    "tydiqa_goldp": {"ar": 14, "bn": 2, "en": 1, "fi": 21, "id": 2, "ko": 3, "ru": 3, "sw": 4},
}
"""Answers that begin or end inside of a piece of mini-xlmr's vocabulary, in a way that the metric sees."""
FILES = {
    "xquad": "xquad.{}.json.gz",
    "mlqa": "dev/dev-context-{0}-question-{0}.json.gz",
    "tydiqa_goldp": "tydiqa.goldp.{}.dev.json.gz",
}


@pytest.mark.real
@pytest.mark.parametrize("folder", LOST)
def test_real_answers_are_exact_unless_they_begin_or_end_inside_a_token(shared: Path, folder: str) -> None:
    tokenizer = tokenizers.Tokenizer.from_file(str(shared / "models/mini-xlmr/tokenizer.json"))
    pieces = Tokenizer(tokenizer, max_length=384, unk_id=3)
    exact_match = METRICS["mlqa_em" if folder == "mlqa" else "em"]
    for language, lost in LOST[folder].items():
        examples = published(shared / "data" / folder / FILES[folder].format(language))
        assert all(LONG.defect(example) is None for example in examples)
        answers = LONG.decode(examples, perfect(made(LONG, examples, pieces)), None)
        references = [LONG.reference(example, 0) for example in examples]
        score = exact_match.score(references, answers, language)
        assert score == pytest.approx(100 * (1 - lost / len(examples)))
        contexts = list({example.context for example in examples})
        split = {context: spans for context, (_, spans) in zip(contexts, pieces.spans(contexts), strict=True)}
        for example, answer in zip(examples, answers, strict=True):
            a, b = example.answer_span() or (-1, -1)
            starts, ends = zip(*(span for span in split[example.context] if span[0] < span[1]), strict=True)
            first, last = starts[bisect_right(starts, a) - 1], ends[bisect_left(ends, b)]
            assert answer == example.context[first:last].strip()


def published(path: Path) -> list[Question]:
    with gzip.open(path) as stream:
        articles = json.load(stream)["data"]
    rows = [{**part, **one} for article in articles for part in article["paragraphs"] for one in part["qas"]]
    return [LONG.read(Row(values, path.name, line)) for line, values in enumerate(rows, start=1)]
