"""Each format turns examples into features, and perfect outputs into the right predictions."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from tokenizers import models, pre_tokenizers

from xstilts.errors import DataError
from xstilts.formats import FORMATS, Choose, Classify, Mask, Retrieve, Span, Tag
from xstilts.formats.base import IGNORED, Format, HeadOutputs, Row
from xstilts.formats.classify import Labelled, truncate_pair
from xstilts.formats.tag import Tagged
from xstilts.metrics import METRICS
from xstilts.model.batch import by_length, collate, generator
from xstilts.model.encoder import Encoder
from xstilts.model.features import CHUNK, FeatureSet, stored
from xstilts.model.tokenizer import Tokenizer

NLI = Classify(
    labels=("contradiction", "entailment", "neutral"), spellings={"contradictory": "contradiction"}, drop=["-"]
)
NER = Tag(labels=("B-LOC", "I-LOC", "O"))


def row(**values: object) -> Row:
    return Row(values, "file", 1)


def made(format: Format, examples: list[Any], encoder: Encoder, max_length: int = 64) -> FeatureSet:
    return FeatureSet.build(format, examples, encoder.tokenizer_for(max_length))


def perfect(format: Format, features: FeatureSet) -> HeadOutputs:
    """What a head that makes no mistake would keep, built from nothing but the targets."""
    rows = np.split(features.targets_M, features.positions_at[1:-1])
    if isinstance(format, Classify):
        rows = [np.eye(len(format.labels))[target[0]] for target in rows]
    elif isinstance(format, Tag):
        rows = [np.stack((target, np.ones(len(target))), -1) for target in rows]
    return HeadOutputs(features.example_F, rows)


@pytest.mark.parametrize(
    ("format", "examples"),
    [
        (NLI, [NLI.read(row(premise="one", hypothesis="two", label=label)) for label in NLI.labels]),
        (Classify(labels=("0", "1"), texts=("text",)), [Labelled(("one",), "1"), Labelled(("two",), "0")]),
        (NER, [Tagged(("the", "cat"), ("O", "B-LOC")), Tagged(("stone",) * 90, ("B-LOC", "I-LOC", "O") * 30)]),
    ],
)
def test_perfect_outputs_score_100(format: Format, examples: list[Any], tiny: Encoder) -> None:
    predictions = format.decode(examples, perfect(format, made(format, examples, tiny)), None)
    references = [format.reference(example, i) for i, example in enumerate(examples)]
    assert predictions == references
    assert METRICS[format.metrics[0]].score(references, predictions) == 100.0


def test_masked_text_is_its_own_label() -> None:
    kept = HeadOutputs(np.arange(2), [np.array([np.log(4) * 3, 3]), np.array([0.0, 0])])
    predictions = Mask().decode(["one", "two"], kept, None)
    assert METRICS["perplexity"].score(["one", "two"], predictions) == pytest.approx(4)


def test_every_format_names_its_fields_inputs_and_metrics() -> None:
    shapes = [NLI, Choose(), NER, Span(), Retrieve(), Mask()]
    assert [form.name for form in shapes] == list(FORMATS)
    for form in shapes:
        assert form.metrics and set(form.metrics) <= set(form.supported_metrics) <= METRICS.keys()
        assert form.inputs and set(form.inputs) <= set(form.fields)


def test_labels_may_have_other_spellings_or_be_dropped() -> None:
    pair = {"premise": "one", "hypothesis": "two"}
    assert NLI.read(row(**pair, label="contradictory")) == Labelled(("one", "two"), "contradiction")
    assert NLI.read(row(**pair, label="-")) is None
    assert NLI.read(row(**pair)) == Labelled(("one", "two"), None)
    with pytest.raises(DataError, match=r"file:1: unknown label 'Neutral'.*did you mean 'neutral'"):
        NLI.read(row(**pair, label="Neutral"))


def test_an_example_without_a_label_adds_nothing_to_the_loss(tiny: Encoder) -> None:
    assert made(NLI, [Labelled(("one", "two"), None)], tiny).targets_M.tolist() == [IGNORED]
    assert made(NER, [Tagged(("one", "two"), None)], tiny).targets_M.tolist() == [IGNORED, IGNORED]


def test_truncation_of_a_pair_equals_removing_one_token_at_a_time() -> None:
    for a in range(9):
        for b in range(9):
            for room in range(17):
                first, second = list(range(a)), list(range(b))
                while len(first) + len(second) > room:
                    (first if len(first) >= len(second) else second).pop()
                assert truncate_pair(list(range(a)), list(range(b)), room) == (first, second)


def test_a_long_pair_fills_the_window_and_keeps_both_beginnings(tiny: Encoder, sentences: tuple[str, ...]) -> None:
    example = Labelled((" ".join(sentences), sentences[4]), "neutral")
    (features,) = NLI.features([example], tiny.tokenizer_for(32))
    whole = tiny.tokenizer_for(1000).encode(example.texts)
    start, end, second = tiny.tokenizer.bos_token_id, tiny.tokenizer.eos_token_id, features.second
    assert len(features.ids) == 32 and features.ids[0] == start and features.ids[-1] == end
    assert list(features.ids[second - 2 : second]) == [end, end]
    assert list(features.ids[1 : second - 2]) == whole[0][: second - 3]
    assert list(features.ids[second:-1]) == whole[1][: 31 - second]


def test_special_tokens_are_those_of_the_tokenizer(tiny: Encoder, sentences: tuple[str, ...]) -> None:
    pieces = tiny.tokenizer_for(64)
    first, second = pieces.encode(sentences[:2])
    assert pieces.single(first)[0] == tiny.tokenizer(sentences[0]).input_ids
    assert pieces.pair(first, second)[0] == tiny.tokenizer(sentences[0], sentences[1]).input_ids


@pytest.mark.parametrize("max_length", [8, 16, 64])
def test_no_word_is_lost_to_the_window(tiny: Encoder, sentences: tuple[str, ...], max_length: int) -> None:
    words = (*" ".join(sentences).split(), "\u200b", "a" * 300, "猫睡在温暖的石墙上")
    tags = tuple(NER.labels[i % 3] for i in range(len(words)))
    features = made(NER, [Tagged(words, tags), Tagged(("one",), ("O",))], tiny, max_length)
    assert features.lengths_F.max() <= max_length
    assert [NER.labels[t] for t in features.targets_M] == [*tags, "O"]
    assert NER.decode([0, 1], perfect(NER, features), None) == [list(tags), ["O"]]


def test_a_words_position_is_the_token_with_its_first_character(tiny: Encoder, sentences: tuple[str, ...]) -> None:
    words = tuple(" ".join(sentences).split())
    for window in NER.features([Tagged(words, None)], tiny.tokenizer_for(32)):
        tokens = tiny.tokenizer.convert_ids_to_tokens(window.ids)
        for mark in window.positions:
            word, words = words[0], words[1:]
            assert tokens[mark] == "<unk>" or tokens[mark].lstrip("▁")[0] == word[0]
    assert not words


def test_a_word_without_tokens_becomes_unk() -> None:
    tokenizer = tokenizers.Tokenizer(models.WordLevel({"unk": 0, "stone": 1, "wall": 2}, "unk"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    pieces = Tokenizer(tokenizer, max_length=8, unk_id=0)
    (window,) = NER.features([Tagged(("stone", "", " ", "wall"), None)], pieces)
    assert (list(window.ids), list(window.positions)) == ([1, 0, 0, 2], [0, 1, 2, 3])


def test_a_word_longer_than_the_window_becomes_unk(tiny: Encoder) -> None:
    words = ("stone", "a" * 100, "wall")
    windows = list(NER.features([Tagged(words, None)], tiny.tokenizer_for(8)))
    assert sum(tiny.tokenizer.unk_token_id in window.ids for window in windows) == 1
    assert sum(len(window.positions) for window in windows) == 3


def test_words_and_tags_that_do_not_match_are_refused() -> None:
    with pytest.raises(DataError, match="file:1: 2 words but 1 tags"):
        NER.read(row(words=["a", "b"], tags=["O"]))
    with pytest.raises(DataError, match=r"unknown tag 'B-LCO' of 'a'.*did you mean 'B-LOC'"):
        NER.read(row(words=["a"], tags=["B-LCO"]))
    with pytest.raises(DataError, match="must be lists"):
        NER.read(row(words="a b", tags=None))
    with pytest.raises(DataError, match="file:1: tag 2 of the sentence is empty"):
        Tag().read(row(words=["a", "b"], tags=["O", " "]))
    with pytest.raises(DataError, match=r"unknown tag '-1' of 'b' \(known: O\)"):
        Tag().read(row(words=["a", "b"], tags=["O", "-1"]))


def test_chunking_does_not_change_features(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = [Tagged(("stone", "wall") * n, None) for n in (1, 30, 2, 40, 3)]
    whole = made(NER, examples, tiny, 16)
    monkeypatch.setattr("xstilts.model.features.CHUNK", 2)
    parts = made(NER, examples, tiny, 16)
    for name, array in vars(whole).items():
        assert array.tolist() == getattr(parts, name).tolist(), name
    assert sorted(set(whole.example_F.tolist())) == [0, 1, 2, 3, 4] and CHUNK > 2


def test_features_are_stored_by_content(tiny: Encoder, tmp_path: Path) -> None:
    examples, reads = [Tagged(("one", "wall"), ("O", "O"))], []

    def read() -> list[tuple[Any, int]]:
        reads.append(1)
        return [(example, 1) for example in examples]

    keys = [(NER, 16, "a"), (NER, 16, "a"), (NER, 32, "a"), (NER, 16, "b"), (Tag(labels=("O", "B-LOC")), 16, "a")]
    sets = [
        stored(tmp_path, form, tiny.tokenizer_for(length), "tokenizer", source, read) for form, length, source in keys
    ]
    assert len(reads) == 4 and len(list(tmp_path.iterdir())) == 4
    assert sets[0].ids_T.tolist() == sets[1].ids_T.tolist() == made(NER, examples, tiny, 16).ids_T.tolist()


def test_batches_hold_every_forward_pass_once_within_the_token_budget(tiny: Encoder) -> None:
    features = made(NER, [Tagged(("stone",) * n, None) for n in range(1, 40)], tiny, 32)
    batches = list(by_length(features, 100))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(features.lengths_F)))
    assert all(len(passes) * features.lengths_F[passes].max() <= 100 for passes in batches)


def test_a_batch_has_its_own_positions_and_token_types(tiny: Encoder) -> None:
    features = made(NLI, [Labelled(("the cat", "stone"), "neutral"), Labelled(("a", "b c d"), "entailment")], tiny)
    batch = collate(features, [1, 0], None, generator(0))
    ends = batch.lengths_B.cumsum(0).tolist()
    assert batch.examples == 2 and batch.targets_M.tolist() == [1, 2] and batch.num_positions_B.tolist() == [1, 1]
    assert batch.positions_M.tolist() == [0, ends[0]]
    types = [[0] * second + [1] * (length - second) for second, length in zip(
        features.second_F[[1, 0]].tolist(), batch.lengths_B.tolist(), strict=True)]  # fmt: skip
    assert batch.types_T.tolist() == types[0] + types[1]
