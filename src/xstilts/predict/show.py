"""Shows one example at every stage of its format: row, example, tokens, targets, prediction."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from xstilts.data.examples import LocatedSplit, locate
from xstilts.data.readers import read
from xstilts.errors import UserError, nearest
from xstilts.formats import Span
from xstilts.formats.base import IGNORED, Example, Features, Format, Row
from xstilts.formats.choose import Choice
from xstilts.formats.span import Question
from xstilts.languages import among
from xstilts.store.step_record import encoder_of
from xstilts.tasks.task import Split, Task
from xstilts.tasks.user_tasks import with_user_tasks

if TYPE_CHECKING:
    from xstilts.model.encoder import Encoder

AnswerSpan: TypeAlias = tuple[str, int, int] | None
"""A text, and the start and end (exclusive) of the answer in characters."""

OPEN, CLOSE = ">>", "<<"
"""Marks around an answer."""
CONTEXT = 16
"""Tokens shown around the ends of a forward pass, the start of the second text, and each position."""


def show_example(
    name: str, language: str, index: int, *, split: Split | None, data: Path | None, encoder: str | None,
    use: Sequence[Path],
) -> Iterator[str]:  # fmt: skip
    """Yield the lines that the command prints.

    Args:
        name: a task.
        language: one of the task's languages.
        index: number of the example in its split, from 0.
        split: default: the first of dev, test and train with files.
        data: the data folder.
        encoder: a folder, a Hub id, or a trained step of a run folder, whose head then predicts; as a plan prints it.
        use: YAML files with the user's own tasks.

    Raises:
        UserError: unknown task, language, split, file or example.
    """
    tasks = with_user_tasks(use)
    if name not in tasks:
        raise UserError(f"unknown task '{name}'", hint=nearest(name, tasks))
    task = tasks[name]
    codes = {code: None for one in task.data for code in task.languages_of(one)}
    if language not in codes:
        raise UserError(f"the task '{name}' has no data in '{language}'", hint=among(language, codes))
    if split is None:
        split = _default_split(task, language, data)
    if split not in task.data:
        raise UserError(f"the task '{name}' has no {split} split", hint=f"it has {', '.join(task.data)}")
    known = task.languages_of(split)
    if language not in known:
        raise UserError(f"the task '{name}' has no {split} data in '{language}'", hint=among(language, known))
    if task.format.needs_labels:
        if "train" not in task.data:
            raise UserError(f"the task '{name}' takes its labels from its training data, but has none",
                            hint="give it `labels`, or `data` to train on")  # fmt: skip
        examples = locate(task, task.data["train"], task.train_languages, data, train=True).read()
        task = task.model_copy(update={"format": task.format.with_labels_from(examples)})
    rows = locate(task, task.data[split], (language,), data)
    row, example = _pick(task, rows, language, index)
    yield f"task        {task.name} ({task.format.name}), {language}, {split}, example {index} (the first is 0)"
    yield f"file        {row.where}"
    span = (example.context, *found) if isinstance(example, Question) and (found := example.answer_span()) else None
    yield from _block("row", (f"{key}: {_short(value, span)}" for key, value in row.values.items()))
    yield from _block("example", _fields(example, span))
    is_query, reference = task.format.is_query(example), task.format.reference(example, index)
    yield f"reference   {_short(reference) if is_query else 'none: it is a candidate of retrieval'}"
    if encoder is None:
        yield "tokens      give --encoder to see them"
        return
    yield from _passes_and_prediction(task, example, encoder_of(encoder, data), language)


def _default_split(task: Task, language: str, data: Path | None) -> Split:
    """The first split with files for the language, else the task's first split."""
    order: tuple[Split, ...] = ("dev", "test", "train")
    splits = [split for split in order if split in task.data]
    for split in splits:
        if language in task.languages_of(split):
            with suppress(UserError):
                locate(task, task.data[split], (language,), data)
                return split
    return splits[0]


def _pick(task: Task, rows: LocatedSplit, language: str, index: int) -> tuple[Row, Example]:
    count = 0
    for _, found in rows.found:
        form = task.format
        for row in read(found, language, fields=form.fields, inputs=form.inputs, inputs_setting=form.inputs_setting):
            example = task.format.read(row)
            if example is None:
                continue
            if count == index:
                return row, example
            count += 1
    raise UserError(f"no example {index}; the first is 0, the last {count - 1}", where=", ".join(rows.files))


def _block(title: str, values: Any) -> Iterator[str]:
    for i, value in enumerate(values):
        yield f"{title if i == 0 else '':12}{value}"


def _fields(example: Example, span: AnswerSpan) -> Iterator[str]:
    """The fields of an example: each choice on a numbered line, the answer marked."""
    if not hasattr(example, "_asdict"):
        yield _short(example)
        return
    for key, value in example._asdict().items():
        if isinstance(example, Choice) and value is example.endings:
            yield from (f"ending {number}: {_short(text)}" for number, text in enumerate(value))
        elif span is not None and value == span[0]:
            text, start, end = span
            marked = f"{text[:start]}{OPEN}{text[start:end]}{CLOSE}{text[end:]}"
            yield f"{key}: {_short(marked, (marked, start, end))}"
        elif value is not None:
            yield f"{key}: {_short(value)}"


def _short(value: Any, span: AnswerSpan = None, width: int = 400) -> str:
    """A value in at most about `width` characters: the first ones, or those around the answer."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    answer = span[1] if span is not None and span[0] == text else 0
    start = max(0, min(answer - width // 2, len(text) - width))
    if len(text) <= width:
        return text
    return f"{'... ' if start else ''}{text[start : start + width]} ... ({len(text):,} characters)"


def _passes_and_prediction(task: Task, example: Example, name: str, language: str) -> Iterator[str]:
    """Tokens and targets of every forward pass, and the prediction if `name` is a trained step."""
    from xstilts.model import heads
    from xstilts.model.features import FeatureSet
    from xstilts.model.forward import head_outputs
    from xstilts.model.tokenizer import unknown_id
    from xstilts.predict.model_folder import load_model

    model = load_model(name)
    encoder, spec = model.encoder, task.format.head
    trained = model.head_for(task.name, task.format) if spec.trained else None
    if trained is not None:
        task = task.model_copy(update={"format": task.format.as_trained(trained.record.format)})
    tokenizer = encoder.tokenizer_for(task.max_length)
    unknown = unknown_id(tokenizer.tokenizer)
    for number, features in enumerate(task.format.features([example], tokenizer), start=1):
        tokens = encoder.tokenizer.convert_ids_to_tokens(list(features.ids))
        answer = ""
        if isinstance(task.format, Span) and example.answers:
            first, last = features.positions
            answer = f", the answer is tokens {first} to {last}" if first or last else ", without the answer"
        unknowns = sum(id == unknown for id in features.ids)
        share = f", {unknowns} of them {encoder.tokenizer.convert_ids_to_tokens(unknown)}" if unknowns else ""
        yield f"pass {number:<7}{len(tokens)} tokens{share}{answer}"
        yield from _block("tokens", [_marked_tokens(task.format, features, tokens)])
    if reason := _no_prediction(task, encoder):
        yield f"prediction  none: {reason}"
        return
    source, threshold = "", None
    if trained is not None:
        head, threshold = trained.module, trained.record.threshold
        source = "" if trained.record.task == task.name else f" (by the head of the task '{trained.record.task}')"
    elif spec.trained:
        yield f"prediction  {_no_head(task, [head.record.task for head in model.heads])}"
        return
    else:
        head = heads.build(spec, encoder.config, encoder.vocabulary)
    feature_set = FeatureSet.build(task.format, [example], tokenizer)
    outputs = head_outputs(encoder.eval(), head.eval(), task.format, feature_set, language=language)
    if scores := task.format.scores(outputs):
        yield f"scores      {', '.join(f'{name} {score:.2f}' for name, score in scores.items())}"
    yield f"prediction  {_short(task.format.decode([example], outputs, threshold)[0])}{source}"


def _no_prediction(task: Task, encoder: Encoder) -> str:
    """The reason why the encoder cannot predict for a single example; empty if it can."""
    if task.format.head.kind == "mean":
        return "retrieval needs all candidates"
    if task.format.head.kind == "vocabulary" and encoder.vocabulary is None:
        return "the encoder has no language-model head"
    if task.format.head.kind == "vocabulary" and encoder.tokenizer.mask_token_id is None:
        return "the tokenizer has no mask token"
    return ""


def _no_head(task: Task, trained: Sequence[str]) -> str:
    """What to give as --encoder instead of one that was trained on these tasks."""
    if not trained:
        return "give a trained step of a run folder as --encoder to see it"
    others = "other labels" if task.name in trained else ", ".join(trained)
    return f"none: this step was trained on {others}; give one that was trained on {task.name}"


def _marked_tokens(format: Format, features: Features, tokens: Sequence[str]) -> str:
    """The tokens of a forward pass: the head's positions with their targets, and the tokens near them."""
    shown = list(tokens)
    if not isinstance(format, Span):
        for position, target in zip(features.positions, features.targets, strict=True):
            shown[position] += f"={_target_name(format, target)}"
    elif any(features.positions):
        first, last = features.positions
        shown[first] = OPEN + shown[first]
        shown[last] += CLOSE
    centers = np.array([0, len(shown), features.second, *features.positions])
    near = [i for i in range(len(shown) + 1) if np.abs(centers - i).min() <= CONTEXT]
    for a, b in reversed([*pairwise(near)]):
        if b - a > CONTEXT:
            shown[a + 1 : b] = [f"... {b - a - 1} more ..."]
    return " ".join(shown)


def _target_name(format: Format, target: int) -> str:
    """The name of a class; in multiple choice, `right` or `wrong`."""
    if target == IGNORED:
        return "?"
    if format.head.outputs == 1:
        return "right" if target else "wrong"
    return str(getattr(format, "labels", ())[target])
