"""Multiple choice: rows in their many layouts, one forward pass an ending, the softmax over endings."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from xstilts.data.examples import locate
from xstilts.errors import DataError
from xstilts.formats import Choose
from xstilts.formats.base import IGNORED, HeadOutputs, Row
from xstilts.formats.choose import Choice
from xstilts.formats.classify import truncate_pair
from xstilts.metrics import METRICS
from xstilts.model.batch import Batch, ShuffledBatches, collate, generator
from xstilts.model.encoder import Encoder
from xstilts.model.features import FeatureSet
from xstilts.model.heads import Jiant
from xstilts.tasks.source import File, Source
from xstilts.tasks.task import Task

PLAIN = Choose()
COPA = Choose(
    context=("premise",),
    stem=("question",),
    endings=("choice1", "choice2"),
    spellings={"question": {"cause": "Why?", "effect": "So?"}},
)


def row(**values: object) -> Row:
    return Row(values, "file", 1)


def read(**values: object) -> Choice:
    return PLAIN.read(row(context="c", **values))


def made(examples: list[Any], encoder: Encoder, max_length: int = 64) -> FeatureSet:
    return FeatureSet.build(PLAIN, examples, encoder.tokenizer_for(max_length))


def group(sizes: list[int], right: list[int | None]) -> Batch:
    """A batch of examples with so many endings each, of which one is right."""
    example_B = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    targets = [IGNORED if r is None else int(i == r) for n, r in zip(sizes, right, strict=True) for i in range(n)]
    passes = len(targets)
    ones_B, zeros_B = torch.ones(passes, dtype=torch.long), torch.zeros(passes, dtype=torch.long)
    return Batch(len(sizes), zeros_B, ones_B, zeros_B, torch.arange(passes), torch.tensor(targets), ones_B, example_B)


def loss(scores: Tensor, batch: Batch) -> float:
    return float(Jiant(4, 1, 0.0).loss(scores[:, None], batch))


def test_perfect_outputs_score_100_whatever_the_number_of_endings(tiny: Encoder) -> None:
    endings = [("one", "two"), ("a", "b", "c"), ("w", "x", "y", "z")]
    examples = [Choice("where", texts, number) for texts in endings for number in range(len(texts))]
    features = made(examples, tiny)
    kept = HeadOutputs(features.example_F, [np.array([float(target)]) for target in features.targets_M])
    predictions = PLAIN.decode(examples, kept, None)
    references = [PLAIN.reference(example, i) for i, example in enumerate(examples)]
    assert predictions == references == [0, 1, 0, 1, 2, 0, 1, 2, 3]
    assert METRICS[PLAIN.metrics[0]].score(references, predictions) == 100.0


def test_the_first_of_endings_with_equal_scores_is_predicted() -> None:
    kept = HeadOutputs(np.array([0, 0, 0, 1, 1]), [np.array([x]) for x in (1.0, 2.0, 2.0, -1.0, -1.0)])
    assert PLAIN.decode([None, None], kept, None) == [1, 0]


def test_each_ending_is_encoded_as_a_pair_with_the_context(tiny: Encoder, sentences: tuple[str, ...]) -> None:
    passes = list(PLAIN.features([Choice(sentences[0], sentences[1:4], 2)], tiny.tokenizer_for(64)))
    assert [list(one.ids) for one in passes] == [
        tiny.tokenizer(sentences[0], ending).input_ids for ending in sentences[1:4]
    ]
    assert [(one.example, one.positions, one.targets) for one in passes] == [
        (0, [0], [0]),
        (0, [0], [0]),
        (0, [0], [1]),
    ]
    assert {one.second for one in passes} == {len(tiny.tokenizer(sentences[0]).input_ids) + 1}


def test_a_long_context_is_truncated_at_its_start(tiny: Encoder, sentences: tuple[str, ...]) -> None:
    context, ending = " ".join(sentences), sentences[3]
    whole = tiny.tokenizer_for(10**6).encode([context, ending])
    one, _ = PLAIN.features([Choice(context, (ending, ending), None)], tiny.tokenizer_for(48))
    room = 44 - len(whole[1])
    assert list(one.ids[1 : one.second - 2]) == whole[0][-room:]
    assert list(one.ids[one.second : -1]) == whole[1]
    assert len(one.ids) == 48 and list(one.targets) == [IGNORED]


def test_truncation_from_the_start_equals_removing_one_token_at_a_time() -> None:
    for a in range(8):
        for b in range(8):
            for room in range(15):
                first, second = list(range(a)), list(range(b))
                while len(first) + len(second) > room:
                    (first if len(first) >= len(second) else second).pop(0)
                assert truncate_pair(list(range(a)), list(range(b)), room, start=True) == (first, second)


def test_the_loss_is_the_cross_entropy_over_the_endings() -> None:
    scores_EC = torch.tensor([[1.0, -2.0, 0.5], [80.0, 90.0, -90.0], [0.0, 0.0, 0.0]])
    right = [2, 0, 1]
    expected = cross_entropy(scores_EC, torch.tensor(right))
    assert loss(scores_EC.flatten(), group([3, 3, 3], list(right))) == pytest.approx(float(expected), rel=1e-6)


def test_the_loss_of_examples_with_two_and_with_three_endings() -> None:
    # ln(e^0 + e^ln3) - ln3 = ln(4/3) and ln(1 + 1 + 2) - 0 = ln 4, whose mean is ln(16/3) / 2
    scores = torch.tensor([0.0, 3.0, 1.0, 1.0, 2.0]).clamp_min(1.0).log()
    assert loss(scores, group([2, 3], [1, 0])) == pytest.approx(np.log(16 / 3) / 2, rel=1e-6)


def test_endings_without_a_label_add_nothing_to_the_loss() -> None:
    scores = torch.tensor([1.0, 2.0, 5.0, 7.0])
    assert loss(scores, group([2, 2], [0, None])) == pytest.approx(loss(scores[:2], group([2], [0])))


def test_a_batch_counts_examples_and_holds_all_their_endings(tiny: Encoder) -> None:
    examples = [Choice("c", ("a", "b", "c", "d")[: 2 + i % 3], i % 2) for i in range(10)]
    features = made(examples, tiny)
    batches = ShuffledBatches(features, 4, generator(1))
    epoch = [next(batches) for _ in range(3)]
    assert sorted(f for passes in epoch for f in passes) == list(range(len(features.lengths_F)))
    for passes in epoch:
        batch = collate(features, passes, None, generator(0))
        counts = torch.bincount(batch.example_B).tolist()
        assert counts == [len(examples[e].endings) for e in dict.fromkeys(features.example_F[passes].tolist())]
        assert torch.bincount(batch.example_B[batch.targets_M == 1]).tolist() == [1] * batch.examples
    assert [len(set(features.example_F[passes])) for passes in epoch] == [4, 4, 2]


def test_rows_in_all_layouts() -> None:
    expected = Choice("c", ("sit", "stand"), 1)
    assert read(endings=["sit", "stand"], label=1) == expected
    assert read(endings=["sit", "stand"], label="1") == expected
    listed = [{"label": "B", "text": "stand"}, {"label": "A", "text": "sit"}]
    spelled = PLAIN.model_copy(update={"answers": ("A", "B", "C")})
    assert spelled.read(row(context="c", endings=listed, label="B")) == expected
    columns = {"label": ["B", "A"], "text": ["stand", "sit"]}
    assert spelled.read(row(context="c", endings=columns, label="B")) == expected


def test_columns_are_joined_and_a_stem_begins_every_ending() -> None:
    story = Choose(context=("context", "question"), stem=("stem",))
    values = {"context": "It rains.", "question": "Why?", "endings": ["so", "because"], "label": 0}
    assert story.read(row(**values)) == Choice("It rains. Why?", ("so", "because"), 0)
    assert story.read(row(**values, stem="")) == Choice("It rains. Why?", ("so", "because"), 0)
    assert story.read(row(**values, stem=0)).endings == ("0 so", "0 because")
    assert story.read(row(**values, stem="Well")) == Choice("It rains. Why?", ("Well so", "Well because"), 0)


def test_a_column_value_is_replaced_by_its_wording() -> None:
    values = {"premise": "It rains.", "choice1": "We go in.", "choice2": "We go out.", "label": 0}
    assert COPA.read(row(**values, question="effect")).endings == ("So? We go in.", "So? We go out.")
    assert COPA.inputs == ("premise", "choice1", "choice2") and PLAIN.inputs == ("context",)
    with pytest.raises(DataError, match=r"file:1: unknown question 'effct' \(did you mean 'effect'"):
        COPA.read(row(**values, question="effct"))


@pytest.mark.parametrize("hidden", [{}, {"label": None}, {"label": ""}, {"label": -1}, {"label": "-1"}])
def test_a_hidden_label_is_read_as_no_label(hidden: dict[str, object]) -> None:
    assert read(endings=["a", "b"], **hidden).answer is None
    spelled = Choose(answers=("-1", "1"))
    assert spelled.read(row(context="c", endings=["a", "b"], label="-1")).answer == 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "has no endings"),
        ({"ending": ["a", "b"]}, r"has no endings \(did you mean 'ending'"),
        ({"endings": []}, "has no endings"),
        ({"endings": ["a"]}, "has only one ending"),
        ({"endings": ["a", " "]}, "ending 2 is empty"),
        ({"endings": ["a", None]}, "ending 2 must be text, got None"),
        ({"endings": "a or b"}, "endings must be a list, got a or b"),
        ({"endings": [{"text": "a"}, {"text": "b"}]}, "an object in endings needs `label` and `text`"),
        ({"endings": [{"label": "A", "text": "a"}] * 2}, "endings are labelled A, A"),
        ({"endings": {"label": ["A", "B"], "text": ["a"]}}, "endings has 2 labels but 1 texts"),
        ({"endings": {"label": ["A", "B"], "text": 5}}, "endings must be a list"),
        ({"endings": {"label": ["A", "B"], "text": "ab"}}, "endings must be a list"),
        ({"endings": ["a", "b"], "label": 2}, r"unknown label '2' among 2 endings \(known: 0, 1\)"),
        ({"endings": ["a", "b"], "label": "A"}, r"unknown label 'A' among 2 endings \(known: 0, 1\)"),
    ],
)
def test_malformed_rows_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=f"file:1: {message}"):
        read(**values)


def test_labels_of_endings_must_be_the_answers_of_the_format() -> None:
    endings = [{"label": label, "text": label} for label in "ACD"]
    spelled = Choose(answers=("A", "B", "C", "D"))
    with pytest.raises(DataError, match=r"endings are labelled A, C, D \(known answers: A, B, C, D\)"):
        spelled.read(row(context="c", endings=endings, label="C"))
    with pytest.raises(DataError, match="unknown label 'D' among 3 endings"):
        spelled.read(row(context="c", endings=["a", "b", "c"], label="D"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"context": ("a", "a")}, "must be different columns"),
        ({"answers": ("A", "A")}, "the same value for two endings"),
        ({"spellings": {"contxt": {"a": "b"}}}, "did you mean 'context'"),
    ],
)
def test_a_format_that_contradicts_itself_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Choose(**fields)


SENSE = {"context": "question.stem", "endings": "question.choices", "label": "answerKey"}
REAL = [
    ("hellaswag/hellaswag_val.from_text.jsonl", PLAIN, {"context": "ctx"}, 10_042, 4),
    ("commonsenseqa/dev_rand_split.jsonl", Choose(answers=("A", "B", "C", "D", "E")), SENSE, 1_221, 5),
    ("siqa/socialIQa_v1.4_dev.jsonl", Choose(
        context=("context", "question"), endings=("answerA", "answerB", "answerC"), answers=("A", "B", "C"),
        label="correct"), None, 1_954, 3),
    *((f"cosmosqa/valid.{ending}", Choose(
        context=("context", "question"), endings=("answer0", "answer1", "answer2", "answer3")), None, 2_985, 4)
      for ending in ("csv", "jsonl")),
    ("copa_en/val.en.jsonl", COPA, None, 100, 2),
    ("xcopa/val.zh.jsonl", COPA, None, 100, 2),
]  # fmt: skip


@pytest.mark.real
@pytest.mark.parametrize(("path", "format", "columns", "rows", "endings"), REAL, ids=[f"{path}" for path, *_ in REAL])
def test_the_published_files_are_read(
    shared: Path, path: str, format: Choose, columns: dict[str, str] | None, rows: int, endings: int
) -> None:
    source = Source(layouts=((File(path=path, columns=columns),),))
    task = Task(name="mine", format=format, data={"dev": source}, metrics=("accuracy",))
    examples = locate(task, source, ("en",), shared / "data").read()
    assert len(examples) == rows
    assert {len(example.endings) for example in examples} == {endings}
    answers = np.bincount([example.answer for example in examples])
    assert len(answers) == endings and answers.min() > 0.7 * rows / endings  # the right ones stand anywhere
    assert not any("\r" in text for example in examples for text in (example.context, *example.endings))
