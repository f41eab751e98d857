"""One example followed through its format: row, example, pieces, targets, prediction."""

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
from xstilts.store.step_record import DROPPED, read_step
from xstilts.tasks.task import Split, Task
from xstilts.tasks.user_tasks import with_user_tasks
from xstilts.utils.models import expand_user

if TYPE_CHECKING:
    from xstilts.model.encoder import Encoder
    from xstilts.model.trained import TrainedModel

Place: TypeAlias = tuple[str, int, int] | None
"""A text, and the first and last + 1 character of the answer in it."""

OPEN, CLOSE = ">>", "<<"
"""Marks around an answer."""
AROUND = 16
"""Pieces shown around the ends of a forward pass, the start of the second text, and each position."""


def show_example(
    name: str, language: str, index: int, *, split: Split | None, data: Path | None, encoder: str | None,
    use: Sequence[Path],
) -> Iterator[str]:  # fmt: skip
    """The lines that the command prints.

    Args:
        name: a task.
        language: one of the task's languages.
        index: number of the example in its split, from 0.
        split: by default the first of dev, test and train with files.
        data: the data folder.
        encoder: a folder, a Hub id, or a step of a run folder, whose head then predicts.
        use: YAML files of the user's own tasks.

    Raises:
        UserError: no such task, language, split, file or example.
    """
    tasks = with_user_tasks(use)
    if name not in tasks:
        raise UserError(f"unknown task '{name}'", hint=nearest(name, tasks))
    task = tasks[name]
    if split is None:
        split = _there(task, language, data)
    if split not in task.data:
        raise UserError(f"the task '{name}' has no {split} split", hint=f"it has {', '.join(task.data)}")
    known = task.languages_of(split)
    if language not in known:
        raise UserError(f"the task '{name}' has no {split} data in '{language}'", hint=nearest(language, known))
    if task.format.needs_labels:
        if "train" not in task.data:
            raise UserError(f"the task '{name}' takes its labels from training data, and has none",
                            hint="give it `labels`, or `data` to train on")  # fmt: skip
        examples = locate(task, task.data["train"], task.train_languages, data, train=True).read()
        task = task.model_copy(update={"format": task.format.with_labels_from(examples)})
    rows = locate(task, task.data[split], (language,), data)
    row, example = _pick(task, rows, language, index)
    yield f"task        {task.name} ({task.format.name}), {language}, {split}, example {index}"
    yield f"file        {row.where}"
    place = (example.context, *found) if isinstance(example, Question) and (found := example.answer_span()) else None
    yield from _block("row", (f"{key}: {_short(value, place)}" for key, value in row.values.items()))
    yield from _block("example", _fields(example, place))
    asks, reference = task.format.is_query(example), task.format.reference(example, index)
    yield f"reference   {_short(reference) if asks else 'none: it asks nothing, others may find it'}"
    if encoder is None:
        yield "pieces      give --encoder to see them"
        return
    yield from _through(task, example, encoder, language)


def _there(task: Task, language: str, data: Path | None) -> Split:
    """The first split with files for the language, else the task's first split."""
    kinds: tuple[Split, ...] = ("dev", "test", "train")
    splits = [split for split in kinds if split in task.data]
    for split in splits:
        if language in task.languages_of(split):
            with suppress(UserError):
                locate(task, task.data[split], (language,), data)
                return split
    return splits[0]


def _pick(task: Task, rows: LocatedSplit, language: str, index: int) -> tuple[Row, Example]:
    count = 0
    for _, found in rows.found:
        for row in read(found, language, fields=task.format.fields, inputs=task.format.inputs):
            example = task.format.read(row)
            if example is None:
                continue
            if count == index:
                return row, example
            count += 1
    raise UserError(f"there is no example {index}; the last is {count - 1}", where=", ".join(rows.files))


def _block(title: str, values: Any) -> Iterator[str]:
    for i, value in enumerate(values):
        yield f"{title if i == 0 else '':12}{value}"


def _fields(example: Example, place: Place) -> Iterator[str]:
    """The fields of an example: each ending on a numbered line, the answer marked."""
    if not hasattr(example, "_asdict"):
        yield _short(example)
        return
    for key, value in example._asdict().items():
        if isinstance(example, Choice) and value is example.endings:
            yield from (f"ending {number}: {_short(text)}" for number, text in enumerate(value))
        elif place is not None and value == place[0]:
            text, first, last = place
            marked = f"{text[:first]}{OPEN}{text[first:last]}{CLOSE}{text[last:]}"
            yield f"{key}: {_short(marked, (marked, first, last))}"
        elif value is not None:
            yield f"{key}: {_short(value)}"


def _short(value: Any, place: Place = None, width: int = 400) -> str:
    """A value in about `width` characters at most; of a text with the answer, those around the answer."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    first = place[1] if place is not None and place[0] == text else 0
    start = max(0, min(first - width // 2, len(text) - width))
    if len(text) <= width:
        return text
    return f"{'... ' if start else ''}{text[start : start + width]} ... ({len(text):,} characters)"


def _through(task: Task, example: Example, name: str, language: str) -> Iterator[str]:
    """Pieces and targets of every forward pass, and the prediction if `name` is a trained step."""
    from xstilts.model import heads
    from xstilts.model.features import FeatureSet
    from xstilts.model.forward import head_outputs

    model = _load(expand_user(name))
    encoder, spec = model.encoder, task.format.head
    tokenizer = encoder.tokenizer_for(task.max_length)
    for k, one in enumerate(task.format.features([example], tokenizer)):
        tokens = encoder.tokenizer.convert_ids_to_tokens(list(one.ids))
        held = ""
        if isinstance(task.format, Span) and example.answers:
            first, last = one.positions
            held = f", the answer is pieces {first} to {last}" if first or last else ", without the answer"
        yield f"pass {k + 1:<7}{len(tokens)} pieces{held}"
        yield from _block("pieces", [_pieces(task.format, one, tokens)])
    if missing := _no_prediction(task, encoder):
        yield f"prediction  none: {missing}"
        return
    whose, trained, threshold = "", model.head_for(task.name, task.format) if spec.trained else None, None
    if trained is not None:
        head, threshold = trained.module, trained.record.threshold
        whose = "" if trained.record.task == task.name else f" (by the head of the task '{trained.record.task}')"
    elif spec.trained:
        yield "prediction  give a trained step of a run folder as --encoder to see it"
        return
    else:
        head = heads.build(spec, encoder.config, encoder.vocabulary)
    features = FeatureSet.build(task.format, [example], tokenizer)
    outputs = head_outputs(encoder.eval(), head.eval(), task.format, features, language=language)
    if scores := task.format.scores(outputs):
        yield f"scores      {', '.join(f'{name} {score:.2f}' for name, score in scores.items())}"
    yield f"prediction  {_short(task.format.decode([example], outputs, threshold)[0])}{whose}"


def _load(name: str) -> TrainedModel:
    """The model of a step's folder, or an encoder without heads.

    Raises:
        UserError: it cannot be loaded, or the step has no encoder of its own.
    """
    from xstilts.model import encoder as encoders
    from xstilts.model.trained import TrainedModel, is_trained_model

    folder = Path(name)
    if (folder / DROPPED).is_file():
        hint = "run the recipe again with `keep: all`, or another word of `keep` that keeps it"
        raise UserError("the encoder of this step was not kept", where=name, hint=hint)
    if is_trained_model(folder):
        return TrainedModel.load(folder)
    if (folder / "step.json").is_file() and (record := read_step(folder)).kind == "evaluate":
        parent = record.parent
        hint = f"give {folder.parent / parent}, from which it starts" if parent else "give the recipe's own encoder"
        raise UserError("is an evaluation, which has no encoder of its own", where=name, hint=hint)
    return TrainedModel(encoders.load(name))


def _no_prediction(task: Task, encoder: Encoder) -> str:
    """Why no model of this kind predicts for a single example; empty if one can."""
    if task.format.head.kind == "mean":
        return "a sentence is found among all the others, which are not looked at here"
    if task.format.head.kind == "vocabulary" and encoder.vocabulary is None:
        return "the encoder has no language-model head"
    if task.format.head.kind == "vocabulary" and encoder.tokenizer.mask_token_id is None:
        return "the tokenizer has no mask token"
    return ""


def _pieces(format: Format, one: Features, tokens: Sequence[str]) -> str:
    """The pieces of a forward pass: the head's positions with their targets, and the pieces near them."""
    words = list(tokens)
    if not isinstance(format, Span):
        for mark, target in zip(one.positions, one.targets, strict=True):
            words[mark] += f"={_meaning(format, target)}"
    elif any(one.positions):
        first, last = one.positions
        words[first] = OPEN + words[first]
        words[last] += CLOSE
    near = np.array([0, len(words), one.second, *one.positions])
    shown = [i for i in range(len(words) + 1) if np.abs(near - i).min() <= AROUND]
    for a, b in reversed([*pairwise(shown)]):
        if b - a > AROUND:
            words[a + 1 : b] = [f"... {b - a - 1} more ..."]
    return " ".join(words)


def _meaning(format: Format, target: int) -> str:
    """The name of a class; in multiple choice `right` or `wrong`."""
    if target == IGNORED:
        return "?"
    if format.head.outputs == 1:
        return "right" if target else "wrong"
    return str(getattr(format, "labels", ())[target])
