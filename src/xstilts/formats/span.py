"""Span: extractive question answering, where the answer is a span of the context."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from xstilts.errors import DataError
from xstilts.formats.base import (
    DIGITS,
    IGNORED,
    Defect,
    Features,
    Format,
    HeadOutputs,
    HeadSpec,
    Probabilities,
    Row,
    TokenizerLike,
    rounded,
)
from xstilts.formats.windows import RankedSpan, best_spans, max_context_window, ranked_spans, window_info, windows
from xstilts.metrics.answers import SQUAD2, match, mlqa_rules, words

MAX_ANSWERS = 5
"""So many answers to a question have a probability in its prediction."""
ANSWER_MOVED = Defect("the answer is not at its answer_start; the nearest occurrence is taken", fatal=False)
ANSWER_MISSING = Defect("the answer is not in the context", fatal=True)


class Question(NamedTuple):
    """A question, its context, and the answers that count as right."""

    id: str | None
    question: str
    context: str
    answers: tuple[str, ...] | None
    """None without labels; one empty text if there is no answer."""
    start: int = -1
    """`answer_start` of the first answer, in characters; -1 if not given."""
    original: Question | None = None
    """The same question before its translation."""

    def answer_span(self) -> tuple[int, int] | None:
        """Character span (end excluded) of the first answer, stripped of spaces; None if the context lacks it."""
        first_answer = self.answers[0] if self.answers else ""
        text = first_answer.strip()
        wanted = max(0, self.start) + len(first_answer) - len(first_answer.lstrip())
        if not text or text not in self.context:
            return None
        before = self.context.rfind(text, 0, wanted + len(text))
        after = self.context.find(text, wanted)
        first = min((at for at in (before, after) if at >= 0), key=lambda at: abs(at - wanted))
        return first, first + len(text)


class Span(Format):
    """Predicts the text of the span of the context with the best sum of its start and end scores."""

    name: ClassVar[str] = "span"
    supported_metrics: ClassVar[tuple[str, ...]] = tuple(
        f"{rules}{score}" for rules in ("", "squad2_", "mlqa_") for score in ("f1_em", "f1", "em")
    )
    file: ClassVar[Literal["answers"]] = "answers"

    no_answer: bool = False
    """Whether a question may have no answer in its context (SQuAD 2)."""
    stride: int = Field(default=128, ge=1)
    """Pieces from the start of one window to the start of the next."""
    question_length: int = Field(default=64, ge=1)
    """Maximum length of a question in pieces; never more than half of a window."""
    n_best: int = Field(default=20, ge=1)
    """How many of a window's best starts, and best ends, make candidate spans."""
    answer_length: int = Field(default=30, ge=1)
    """Maximum length of an answer in pieces."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Those of SQuAD 1.1, or of SQuAD 2 with `no_answer`."""
        return ("squad2_f1_em", "squad2_f1", "squad2_em") if self.no_answer else ("f1_em", "f1", "em")

    @property
    def fields(self) -> tuple[str, ...]:
        """The question's id, its context, the question, its answers."""
        return ("id", "context", "question", "answers")

    @property
    def inputs(self) -> tuple[str, ...]:
        """Context and question."""
        return ("context", "question")

    @property
    def head(self) -> HeadSpec:
        """The head that scores each token as the start and as the end of the answer."""
        return HeadSpec("span", 2)

    def read(self, row: Row) -> Question:
        """Convert a row to an example; its answers are in SQuAD's layout or in the Hub's.

        There is no answer if `is_impossible` is true, if there are no answers, or if all are empty texts without a
        place (`answer_start` -1). Empty texts with a place are hidden labels, as in XTREME's test files.

        A translated row may have the columns of its `original`.

        Raises:
            DataError: the answers cannot be read, or there are none although the format needs one; or the original
                lacks its question or context.
        """
        values = row.values
        id = None if values.get("id") is None else str(values["id"])
        example = Question(id, str(values["question"]), str(values["context"]), None)
        if (original := values.get("original")) is not None:
            if not isinstance(original, dict) or not {"question", "context"} <= original.keys():
                raise DataError("the original needs a question and a context", where=row.where)
            whole = self.read(Row({**original, "id": id}, row.file, row.line))
            example = example._replace(original=whole._replace(original=None))
        if values.get("answers") is None and not is_impossible(values):
            return example
        all_answers = [] if is_impossible(values) else read_answers(values["answers"], row.where)
        answers = [(text, start) for text, start in all_answers if text.strip()]
        if answers:
            return example._replace(answers=tuple(text for text, _ in answers), start=answers[0][1])
        if any(start >= 0 for _, start in all_answers) or (all_answers and not self.no_answer):
            return example
        if not self.no_answer:
            hint = "set `no_answer: true` to allow questions without an answer"
            raise DataError("has no answer", where=row.where, hint=hint)
        return example._replace(answers=("",))

    def defect(self, example: Question) -> Defect | None:
        """Whether the first answer, the training target, is not at its `answer_start`."""
        if not example.answers or example.answers == ("",):
            return None
        span = example.answer_span()
        if span is None:
            return ANSWER_MISSING
        first = example.answers[0]
        return None if span[0] == example.start + len(first) - len(first.lstrip()) else ANSWER_MOVED

    def example_id(self, example: Question) -> str | None:
        """The row's id."""
        return example.id

    def input_text(self, example: Question) -> list[str]:
        """The question and its context."""
        return [example.question, example.context]

    def features(self, examples: Sequence[Question], tokenizer: TokenizerLike) -> Iterator[Features]:
        """A forward pass for each window: the question, then some of the context.

        The positions are the first and the last piece of the first answer; both are 0 if the window lacks a part of
        it. The targets are the same.
        """
        max_pieces = tokenizer.max_pieces(2)
        questions = tokenizer.encode([example.question for example in examples])
        texts = list(dict.fromkeys(example.context for example in examples))  # many questions share a context
        split = tokenizer.spans(texts)
        contexts = {
            text: (ids, np.array(spans, np.int32).reshape(-1, 2))
            for text, (ids, spans) in zip(texts, split, strict=True)
        }
        for index, (example, question) in enumerate(zip(examples, questions, strict=True)):
            ids, span_N2 = contexts[example.context]
            most = min(self.question_length, max_pieces // 2)
            question, truncated = question[:most], len(question) > most
            bounds = windows(len(ids), max_pieces - len(question), self.stride)
            window_N = max_context_window(bounds, len(ids))
            first, last = token_span(span_N2, example.answer_span())
            for number, (a, b) in enumerate(bounds):
                pair, start = tokenizer.pair(question, ids[a:b])
                positions = [start + first - a, start + last - a] if a <= first and last < b else [0, 0]
                targets = positions if example.answers else [IGNORED, IGNORED]
                info = window_info(start, span_N2[a:b], window_N[a:b] == number)
                yield Features(index, pair, positions, targets, start, info, truncated)

    def decode(self, examples: Sequence[Question], outputs: HeadOutputs, threshold: float | None) -> list[str]:
        """The text of each example's best span; empty if no span is valid (jiant returns the word `empty`).

        With `no_answer` it is also empty if the no-answer score is more than `threshold` (0 by default) higher.
        """
        found = best_spans(len(examples), outputs, self.n_best, self.answer_length)
        texts = [example.context[a:b].strip() for example, (a, b) in zip(examples, found.span_E2, strict=True)]
        if not self.no_answer:
            return texts
        answered_E = found.null_E - found.score_E <= (threshold or 0.0)
        return [text if answered else "" for text, answered in zip(texts, answered_E, strict=True)]

    def row_of(self, texts: Sequence[str], where: str) -> dict[str, Any]:
        """None: it would not be clear which text is the question.

        Raises:
            DataError: always.
        """
        hint = "give JSON lines, or a table with a header"
        raise DataError("needs the columns context and question", where=where, hint=hint)

    def results(
        self, examples: Sequence[Question], outputs: HeadOutputs, threshold: float | None, top: int
    ) -> list[dict[str, Any]]:
        """`answer` and its place in the context, its `probability`, and the `top` best `answers` with theirs.

        Places are characters, end excluded; None without an answer. Probabilities are the softmax over the `n_best`
        spans and, with `no_answer`, the no-answer score minus the threshold, which gives `no_answer`.
        """
        found = ranked_spans(len(examples), outputs, self.n_best, self.answer_length)
        null_E = best_spans(len(examples), outputs, self.n_best, self.answer_length).null_E - (threshold or 0.0)
        answers = self.decode(examples, outputs, threshold)
        return [
            _result(*row, self.no_answer, top) for row in zip(examples, answers, found, null_E.tolist(), strict=True)
        ]

    def probabilities(self, examples: Sequence[Question], outputs: HeadOutputs) -> list[Probabilities]:
        """The probabilities of the `MAX_ANSWERS` most probable texts: a softmax over spans, summed over equal texts.

        The spans are the `n_best` best; with `no_answer` there is an empty text, too.
        """
        nulls = best_spans(len(examples), outputs, self.n_best, self.answer_length).null_E.tolist()
        ranked = ranked_spans(len(examples), outputs, self.n_best, self.answer_length)
        found = []
        for example, null, spans in zip(examples, nulls, ranked, strict=True):
            texts = [example.context[span.start : span.end].strip() for span in spans] + [""] * self.no_answer
            scores_N = np.array([span.score for span in spans] + [null] * self.no_answer)
            odds_N = np.exp(scores_N - scores_N.max(initial=-np.inf))
            total = dict[str, float]()
            for text, probability in zip(texts, odds_N / odds_N.sum(), strict=True):
                total[text] = total.get(text, 0.0) + float(probability)
            most = sorted(total, key=total.__getitem__, reverse=True)[:MAX_ANSWERS]
            found.append(rounded(most, np.array([total[text] for text in most])))
        return found

    has_mean: ClassVar[bool] = True

    def mean(self, members: Sequence[Probabilities], language: str) -> tuple[str, Probabilities]:
        """The most probable answer by the mean over the models, where answers are equal after MLQA's normalization.

        Of equal ones the most probable is taken. An empty answer counts only if a question may have none.
        """
        spelled: dict[tuple[str, ...], list[tuple[float, str]]] = defaultdict(list)
        for text, probability in (answer for member in members for answer in member.items()):
            if text or self.no_answer:
                spelled[tuple(words(text, mlqa_rules(language)))].append((probability, text))
        totals = {
            max(each, key=lambda one: one[0])[1]: round(sum(share for share, _ in each) / len(members), DIGITS + 1)
            for each in spelled.values()
        }
        return max(totals, key=totals.__getitem__, default=""), totals

    def scores(self, outputs: HeadOutputs) -> dict[str, float]:
        """The scores of the best span and, with `no_answer`, of no answer."""
        found = best_spans(1, outputs, self.n_best, self.answer_length)
        none = {"no answer": float(found.null_E[0])} if self.no_answer else {}
        return {"best span": float(found.score_E[0])} | none

    def trivial_predictions(self, examples: Sequence[Question]) -> Iterator[list[str]]:
        """No answer, and the whole context."""
        yield [""] * len(examples)
        yield [example.context for example in examples]

    @property
    def has_threshold(self) -> bool:
        """Whether predictions depend on a threshold that `calibrate` tunes."""
        return self.no_answer

    def calibrate(self, examples: Sequence[Question], outputs: HeadOutputs) -> float | None:
        """The threshold with the highest mean of SQuAD 2's F1 and exact match; None if there is nothing to tune.

        It lies midway between two score differences, or 1 beyond the outermost; on ties the nearest to 0.
        """
        if not self.no_answer or any(example.answers is None for example in examples):
            return None
        found = best_spans(len(examples), outputs, self.n_best, self.answer_length)
        gain_E = np.zeros(len(examples))
        for e, (example, (a, b)) in enumerate(zip(examples, found.span_E2, strict=True)):
            with_text, without = (
                100 * sum(match(example.answers or (), text, SQUAD2)) for text in (example.context[a:b].strip(), "")
            )
            gain_E[e] = with_text - without
        return best_threshold(found.null_E - found.score_E, gain_E)

    def reference(self, example: Question, index: int) -> list[str] | None:
        """The right answers; one empty text if there is no answer."""
        return None if example.answers is None else list(example.answers)


def _result(
    example: Question, answer: str, spans: Sequence[RankedSpan], null: float, no_answer: bool, top: int
) -> dict[str, Any]:
    """The prediction for a question, from its ranked spans and its no-answer score."""
    scores = np.array([span.score for span in spans] + [null] * no_answer)
    odds = np.exp(scores - scores.max()) if len(scores) else scores
    shares = (odds / odds.sum()).round(DIGITS).tolist() if len(scores) else []
    answers = []
    for span, share in zip(spans[:top], shares, strict=False):
        text = example.context[span.start : span.end]
        start = span.start + len(text) - len(text.lstrip())
        answers.append({"text": text.strip(), "start": start, "end": start + len(text.strip()), "probability": share})
    best = answers[0] if answer else {"start": None, "end": None, "probability": shares[-1] if no_answer else None}
    result = {"answer": answer} | {name: best[name] for name in ("start", "end", "probability")}
    return result | ({"no_answer": shares[-1]} if no_answer else {}) | {"answers": answers}


def is_impossible(values: Mapping[str, Any]) -> bool:
    """Whether a row says that its question has no answer, as in SQuAD 2."""
    return values.get("is_impossible") in (True, "true", "True")


def read_answers(value: Any, where: str) -> list[tuple[str, int]]:
    """Text and start of each answer of a row's `answers`; the start is -1 if not given. Raises DataError."""
    if isinstance(value, dict) and isinstance(texts := value.get("text"), list):
        starts = value.get("answer_start")
        starts = starts if isinstance(starts, list) else [None] * len(texts)
        if len(texts) != len(starts):
            raise DataError(f"answers has {len(texts)} texts but {len(starts)} starts", where=where)
        value = [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)]
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        hint = 'write a list of {"text": ..., "answer_start": ...}, or an empty one for no answer'
        raise DataError(f"answers cannot be read: {str(value)[:60]!r}", where=where, hint=hint)
    answers = []
    for item in value:
        text, start = item.get("text"), item.get("answer_start")
        if not isinstance(text, str):
            raise DataError(f"the text of an answer must be text, got {str(text)[:60]}", where=where)
        if start is not None and (not isinstance(start, int) or isinstance(start, bool)):
            raise DataError(f"answer_start must be a number of characters, got {str(start)[:60]}", where=where)
        answers.append((text, -1 if start is None else start))
    return answers


def token_span(span_N2: NDArray[np.int32], char_span: tuple[int, int] | None) -> tuple[int, int]:
    """The first and the last piece that overlap a character span; -1 and -1 if none does.

    >>> token_span(np.array([[0, 3], [3, 3], [4, 7], [7, 9]]), (5, 8))
    (2, 3)
    """
    first, last = char_span or (0, 0)
    inside = np.flatnonzero((span_N2[:, 0] < last) & (span_N2[:, 1] > first) & (span_N2[:, 0] < span_N2[:, 1]))
    return (int(inside[0]), int(inside[-1])) if len(inside) else (-1, -1)


def best_threshold(difference_E: NDArray[np.float64], gain_E: NDArray[np.float64]) -> float:
    """The threshold with the highest total gain of the differences up to it, midway between two of them.

    >>> best_threshold(np.array([-3.0, 5.0, 1.0, 2.0]), np.array([2.0, -1.0, 1.0, -2.0]))
    1.5
    """
    finite_E = np.isfinite(difference_E)  # an example without a valid span has an empty answer at every threshold
    difference_E, gain_E = difference_E[finite_E], gain_E[finite_E]
    if not len(difference_E):
        return 0.0
    distinct_D, which_E = np.unique(difference_E, return_inverse=True)
    total_gain = np.concatenate([[0.0], np.cumsum(np.bincount(which_E, gain_E))])
    edges = np.concatenate([[distinct_D[0] - 2.0], distinct_D, [distinct_D[-1] + 2.0]])
    best = np.flatnonzero(total_gain >= total_gain.max() - 1e-6)  # equal sums differ by rounding
    middles = (edges[best] + edges[best + 1]) / 2
    return float(middles[np.abs(middles).argmin()])
