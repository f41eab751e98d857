"""Extractive question answering: rows, windows, decoding, the no-answer threshold, the loss."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from xstilts.data.find import Found
from xstilts.data.readers import read
from xstilts.errors import DataError
from xstilts.formats import Span
from xstilts.formats.base import HeadOutputs, Row
from xstilts.formats.span import ANSWER_MISSING, ANSWER_MOVED, Question
from xstilts.formats.windows import max_context_window, window_info, windows
from xstilts.metrics import METRICS
from xstilts.model.batch import Batch, collate, generator
from xstilts.model.encoder import Encoder
from xstilts.model.features import FeatureSet
from xstilts.model.heads import SpanEnds
from xstilts.tasks.source import File

PLAIN, OPEN = Span(), Span(no_answer=True)


def row(**values: object) -> Row:
    return Row({"question": "q", "context": "the old mill by the river"} | values, "file", 1)


def test_windows_move_by_the_stride_and_cover_every_token() -> None:
    assert windows(384, 384, 128) == [(0, 384)]
    assert windows(385, 384, 128) == [(0, 384), (128, 385)]
    assert windows(513, 384, 128) == [(0, 384), (128, 512), (256, 513)]
    assert windows(7, 3, 128) == [(0, 3), (3, 6), (6, 7)]
    assert windows(0, 3, 128) == [(0, 0)]


def test_a_token_belongs_to_its_maximum_context_window() -> None:
    for pieces, room, stride in ((50, 20, 7), (50, 7, 7), (10, 20, 7), (41, 20, 10)):
        parts = windows(pieces, room, stride)
        expected = [
            max(
                (k for k, (a, b) in enumerate(parts) if a <= at < b),
                key=lambda k: (min(at - parts[k][0], parts[k][1] - 1 - at) + 0.01 * (parts[k][1] - parts[k][0]), -k),
            )
            for at in range(pieces)
        ]
        assert max_context_window(parts, pieces).tolist() == expected


def slow_best(kept: HeadOutputs, form: Span, example: int) -> tuple[float, int, int]:
    """The best span of an example, one pair at a time."""
    found = (-np.inf, 0, 0)
    for e, scores_L2, notes in zip(kept.example_F, kept.scores, kept.decode_info, strict=True):
        width = (len(notes) - 1) // 2
        ranked = [sorted(range(len(scores_L2)), key=lambda i, k=k: -scores_L2[i][k])[: form.n_best] for k in (0, 1)]  # type: ignore[misc]
        for start in ranked[0] if e == example else ():
            for end in ranked[1]:
                a, b = start - notes[0], end - notes[0]
                if 0 <= a <= b < width and b - a < form.answer_length and notes[1 + a] >= 0:
                    score = scores_L2[start][0] + scores_L2[end][1]
                    if score > found[0]:
                        found = (score, notes[1 + a], notes[1 + width + b])
    return found


@pytest.mark.parametrize("seed", range(5))
def test_the_best_span_equals_that_of_an_exhaustive_search(seed: int) -> None:
    rng = np.random.default_rng(seed)
    form = Span(n_best=5, answer_length=4)
    example_F = np.sort(rng.integers(0, 8, 20))
    scores, notes = [], []
    for _ in example_F:
        width, at = int(rng.integers(0, 12)), int(rng.integers(1, 4))
        scores.append(rng.integers(-3, 4, (at + width + 1, 2)) / 2)  # halves, so that many are equal
        firsts = np.arange(width, dtype=np.int32) * 2
        notes.append(window_info(at, np.stack([firsts, firsts + 1], 1), rng.random(width) < 0.7))
    kept = HeadOutputs(example_F, scores, notes)
    context = "".join(map(chr, range(97, 122)))
    expected = [slow_best(kept, form, e) for e in range(8)]
    found = form.decode([Question(None, "q", context, None)] * 8, kept, None)
    assert found == [context[a:b] for _, a, b in expected]
    assert any(found)


def windows_of(*differences: float) -> HeadOutputs:
    """One window for each question, in which no answer is so much better than the span "old mill"."""
    notes = window_info(1, np.array([[0, 3], [4, 8]], np.int32), np.array([True, True]))
    scores = [np.array([[difference, 0.0], [0.0, -9.0], [-9.0, 0.0]]) for difference in differences]
    return HeadOutputs(np.arange(len(scores)), scores, [notes] * len(scores))


def old(*answers: str) -> list[Question]:
    return [Question(None, "q", "old mill", (answer,), 0) for answer in answers]


def test_no_answer_is_predicted_above_the_threshold() -> None:
    kept, examples = windows_of(-1.0, 0.0, 0.5, 2.0), old("a", "b", "c", "d")
    assert OPEN.decode(examples, kept, None) == ["old mill", "old mill", "", ""]
    assert OPEN.decode(examples, kept, 0.5) == ["old mill"] * 3 + [""]
    assert OPEN.decode(examples, kept, -1.5) == [""] * 4
    assert PLAIN.decode(examples, kept, None) == ["old mill"] * 4


def test_the_no_answer_score_is_the_lowest_of_the_windows() -> None:
    kept = windows_of(5.0, -1.0)
    assert OPEN.decode(old("a"), HeadOutputs(np.array([0, 0]), kept.scores, kept.decode_info), None) == ["old mill"]


@pytest.mark.parametrize("form", [PLAIN, OPEN])
def test_without_a_valid_span_the_answer_is_empty(form: Span) -> None:
    nothing = HeadOutputs(np.array([0]), [np.ones((2, 2))], [np.array([1], np.int32)])
    assert form.decode(old("a"), nothing, None) == [""]
    assert form.calibrate(old("a"), nothing) in (None, 0.0)


@pytest.mark.parametrize("seed", range(4))
def test_the_tuned_threshold_is_optimal(seed: int) -> None:
    rng = np.random.default_rng(seed)
    differences = (rng.integers(-6, 7, 40) / 2).tolist()
    answers = rng.choice(["", "old mill", "old", "new"], 40).tolist()
    kept, examples = windows_of(*differences), old(*answers)
    references = [OPEN.reference(example, 0) for example in examples]

    def score(threshold: float) -> float:
        return METRICS["squad2_f1_em"].score(references, OPEN.decode(examples, kept, threshold))

    threshold = OPEN.calibrate(examples, kept)
    assert threshold is not None and threshold not in differences
    each = {candidate: score(candidate) for candidate in np.arange(-4.25, 4.5, 0.5).tolist()}
    assert score(threshold) == pytest.approx(max(each.values()))
    near = min(abs(candidate) for candidate, value in each.items() if value >= max(each.values()) - 1e-6)
    assert abs(threshold) <= near + 0.75


def test_the_tuned_threshold_is_midway_and_near_zero() -> None:
    assert OPEN.calibrate(old("old mill", ""), windows_of(1.0, 4.0)) == 2.5
    assert OPEN.calibrate(old("", ""), windows_of(1.0, 4.0)) == 0.0  # 1 below the lowest difference
    assert OPEN.calibrate(old("old mill"), windows_of(-4.0)) == -3.0
    assert OPEN.calibrate([Question(None, "q", "c", None)], windows_of(1.0)) is None
    assert PLAIN.calibrate(old("old mill"), windows_of(1.0)) is None


def test_the_loss_is_the_mean_cross_entropy_of_the_two_ends() -> None:
    head = SpanEnds(8)
    rng = torch.Generator().manual_seed(1)
    lengths = torch.randint(3, 500, (300,), generator=rng)
    starts = lengths.cumsum(0) - lengths
    marks_B2 = (torch.rand(300, 2, generator=rng) * lengths[:, None]).long()
    tokens = int(lengths.sum())
    batch = Batch(
        300, torch.zeros(tokens), lengths, torch.zeros(tokens), (marks_B2 + starts[:, None]).flatten(),
        torch.zeros(600), torch.full((300,), 2), torch.arange(300),
    )  # fmt: skip
    hidden_TH = torch.randn(tokens, 8, generator=rng) * 20
    parts = zip(head(hidden_TH, batch).split(lengths.tolist()), marks_B2, strict=True)
    expected = torch.stack([cross_entropy(scores_L2.T, marks) for scores_L2, marks in parts]).mean()
    loss = head.loss(head(hidden_TH, batch), batch)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    slopes = (torch.autograd.grad(value, head.out.weight)[0] for value in (loss, expected))
    torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert head.loss(head(hidden_TH, batch), batch).item() == pytest.approx(loss.item(), rel=1e-6)


def test_start_and_end_scores_are_kept_per_window(tiny: Encoder) -> None:
    example = Question(None, "why", "the old mill by the river " * 9, ("mill",), 8)
    features = FeatureSet.build(PLAIN, [example], tiny.tokenizer_for(32))
    batch = collate(features, range(len(features.lengths_F)), None, generator(0))
    head = SpanEnds(tiny.config.hidden_size)
    with torch.inference_mode():
        kept = head.split_reduced(head(tiny.hidden(batch), batch).numpy(), batch)
    assert [scores.shape for scores in kept] == [(length, 2) for length in features.lengths_F]


def test_answers_are_read_in_the_layouts_of_squad_and_the_hub() -> None:
    expected = Question("x", "q", "the old mill by the river", ("mill", "the old mill"), 8)
    squad = [{"text": "mill", "answer_start": 8}, {"text": "the old mill", "answer_start": 0}]
    assert PLAIN.read(row(id="x", answers=squad)) == expected
    hub = {"text": ["mill", "the old mill"], "answer_start": [8, 0]}
    assert PLAIN.read(row(id="x", answers=hub)) == expected
    assert PLAIN.reference(expected, 3) == ["mill", "the old mill"]
    assert (PLAIN.id(expected, 3), PLAIN.id(expected._replace(id=None), 3)) == ("x", "3")
    assert PLAIN.read(row(id=12, answers=squad)).id == "12"


STRIPPED = [{"text": "", "answer_start": 0}]


def test_hidden_answers_are_read_as_no_labels() -> None:
    for form in (PLAIN, OPEN):
        assert form.reference(form.read(row()), 0) is None
        assert form.reference(form.read(row(answers=STRIPPED)), 0) is None
        assert form.defect(form.read(row(answers=STRIPPED))) is None


def test_unanswerable_questions_need_no_answer_true() -> None:
    assert OPEN.read(row(answers=[])).answers == OPEN.read(row(answers=STRIPPED, is_impossible=True)).answers == ("",)
    assert OPEN.read(row(answers={"text": [], "answer_start": []})).answers == ("",)
    assert OPEN.defect(OPEN.read(row(answers=[]))) is None
    assert OPEN.reference(OPEN.read(row(answers=[])), 0) == [""]
    with pytest.raises(DataError, match=r"file:1: has no answer .*no_answer: true"):
        PLAIN.read(row(answers=[]))


NO_ANSWER: list[dict[str, Any]] = [
    {"answers": [], "is_impossible": False},
    {"answers": None, "is_impossible": True},
    {"is_impossible": True},
    {"is_impossible": "true", "answers": [{"text": "mill", "answer_start": 8}]},
    {"answers": {"text": [], "answer_start": []}},
]
EMPTY: list[dict[str, Any]] = [
    {"answers": {"text": [""], "answer_start": [-1]}},
    {"answers": [{"text": " ", "answer_start": -1}]},
    {"answers": [{"text": ""}]},
]


@pytest.mark.parametrize("values", NO_ANSWER + EMPTY)
def test_no_answer_means_the_same_however_it_is_spelled(values: dict[str, Any]) -> None:
    assert OPEN.read(row(**values)).answers == ("",)


@pytest.mark.parametrize("values", NO_ANSWER)
def test_a_task_that_needs_answers_refuses_a_question_without_one(values: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"has no answer \(set `no_answer: true`"):
        PLAIN.read(row(**values))


def test_a_file_may_leave_out_the_answers_of_impossible_questions(tmp_path: Path) -> None:
    rows = [{"context": "It rained.", "question": "What fell?", "answers": [{"text": "rained", "answer_start": 3}]}]
    rows.append({"context": "It rained.", "question": "Who sang?", "is_impossible": True})
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    found = Found(File(path="a.jsonl"), (str(path),))
    read_rows = list(read(found, "en", fields=OPEN.fields, inputs=OPEN.inputs))
    assert [OPEN.read(one).answers for one in read_rows] == [("rained",), ("",)]
    path.write_text(path.read_text() + json.dumps(rows[1] | {"is_impossible": False}) + "\n")
    with pytest.raises(DataError, match=r"a.jsonl:3: has no answers \(a split has labels for all rows or for none\)"):
        list(read(found, "en", fields=OPEN.fields, inputs=OPEN.inputs))


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ("mill", "answers cannot be read: 'mill' .*an empty one for no answer"),
        ("", "answers cannot be read: ''"),
        ([""], "answers cannot be read"),
        ({}, "answers cannot be read"),
        (["mill"], "answers cannot be read"),
        ([{"text": None, "answer_start": 0}], "the text of an answer must be text, got None"),
        ([{"text": "mill", "answer_start": "8"}], "answer_start must be a number of characters, got 8"),
        ([{"text": "mill", "answer_start": True}], "answer_start must be a number of characters, got True"),
        ({"text": ["mill"], "answer_start": []}, "answers has 1 texts but 0 starts"),
    ],
)
def test_malformed_answers_are_refused(answers: object, message: str) -> None:
    with pytest.raises(DataError, match=f"file:1: {message}"):
        PLAIN.read(row(answers=answers))


@pytest.mark.parametrize(
    ("text", "start", "place", "flaw"),
    [
        ("the", 0, 0, None),
        ("the", 16, 16, None),
        ("the", 15, 16, ANSWER_MOVED),
        ("the", 3, 0, ANSWER_MOVED),
        ("the", 8, 0, ANSWER_MOVED),
        ("the", 99, 16, ANSWER_MOVED),
        ("the", -1, 0, ANSWER_MOVED),
        (" old ", 3, 4, None),
        (" old ", 4, 4, ANSWER_MOVED),
        ("Mill", 8, None, ANSWER_MISSING),
    ],
)
def test_a_misplaced_answer_is_found_and_a_missing_one_is_reported(
    text: str, start: int, place: int | None, flaw: object
) -> None:
    example = PLAIN.read(row(answers=[{"text": text, "answer_start": start}]))
    found = example.answer_span()
    assert (found[0] if found else None) == place and PLAIN.defect(example) == flaw
    assert PLAIN.reference(example, 0) == [text]


def test_an_answer_without_a_start_is_found() -> None:
    assert PLAIN.read(row(answers=[{"text": "river"}])).answer_span() == (20, 25)
    assert PLAIN.read(row(answers={"text": ["river"]})).answer_span() == (20, 25)


@pytest.mark.real
def test_decoding_equals_jiants(shared: Path) -> None:
    """But for its `get_final_text`, which takes the whole word where it cannot align a piece of one."""
    cases = json.loads((shared / "golden/squad_decode.json").read_text(encoding="utf-8"))["cases"]
    seen: Counter[str] = Counter()
    for case in cases:
        examples, kept = golden(case)
        form = Span(
            no_answer=case["version_2_with_negative"],
            n_best=case["n_best_size"],
            answer_length=case["max_answer_length"],
        )
        for example, answer in zip(
            examples, form.decode(examples, kept, case["null_score_diff_threshold"]), strict=True
        ):
            expected = case["expected_predictions"][example.id]
            if answer != expected:
                assert not case["skip_get_final_text"] and expected in whole_words(answer, example.context)
            seen["the same" if answer == expected else "whole words"] += 1
    assert seen == {"the same": 280, "whole words": 35}


def whole_words(answer: str, context: str) -> list[str]:
    """The words of a context that an answer touches, wherever in it the answer stands."""
    at = [i for i in range(len(context)) if context.startswith(answer, i)]
    firsts = [context.rfind(" ", 0, i + 1) + 1 for i in at]
    return [
        context[a : context.find(" ", i + len(answer)) % (len(context) + 1)] for a, i in zip(firsts, at, strict=True)
    ]


def golden(case: dict[str, Any]) -> tuple[list[Question], HeadOutputs]:
    """The examples of a case, and what a head kept of them; places in words become places in characters."""
    scores = {one["unique_id"]: np.array([one["start_logits"], one["end_logits"]]).T for one in case["results"]}
    examples, example_F, scores_F, notes = [], [], [], []
    for number, one in enumerate(case["examples"]):
        examples.append(Question(one["qas_id"], "q", " ".join(one["doc_tokens"]), None))
        for window in one["features"]:
            words = {int(at): word for at, word in window["token_to_orig_map"].items()}
            deep = np.array([window["token_is_max_context"][str(at)] for at in words])
            example_F.append(number)
            scores_F.append(scores[window["unique_id"]])
            notes.append(window_info(min(words), places(one["doc_tokens"], window["tokens"], words), deep))
    return examples, HeadOutputs(np.array(example_F), scores_F, notes)


def places(words: list[str], tokens: list[str], word_of: dict[int, int]) -> np.ndarray[Any, np.dtype[np.int32]]:
    """First and last + 1 character of a window's context tokens; the window may begin inside of a word."""
    shown = {at: tokens[at].removeprefix("▁") for at in word_of}
    spans = []
    for word in dict.fromkeys(word_of.values()):
        mine = [shown[at] for at in word_of if word_of[at] == word]
        first = sum(len(text) + 1 for text in words[:word])
        if not words[word].startswith("".join(mine)):
            first += len(words[word]) - sum(map(len, mine))
        for text in mine:
            spans.append((first, first + len(text)))
            first += len(text)
    assert all(" ".join(words)[a:b] == text for (a, b), text in zip(spans, shown.values(), strict=True))
    return np.array(spans, np.int32)
