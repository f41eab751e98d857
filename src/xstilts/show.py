"""One example followed through its format: row, example, pieces, targets, prediction."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from xstilts.data.examples import Batchable, locate
from xstilts.data.readers import read
from xstilts.errors import UserError, nearest
from xstilts.task import IGNORED, Example, Row, Split, Task
from xstilts.tasks import TASKS, from_yaml


def lines(
    name: str, language: str, index: int, *, split: Split | None, data: Path | None, encoder: str | None,
    use: Sequence[Path],
) -> Iterator[str]:  # fmt: skip
    """What the command prints.

    Args:
        name: a task.
        language: one of the task's languages.
        index: number of the example in its split, from 0.
        split: the first of dev, test and train that the task has by default.
        data: the data folder.
        encoder: a folder, a Hub id, or a step of a run folder, whose head then predicts.
        use: YAML files with tasks of one's own.

    Raises:
        UserError: no such task, language, split, file or example.
    """
    tasks = dict(TASKS)
    for path in use:
        tasks |= from_yaml(path, tasks)
    if name not in tasks:
        raise UserError(f"unknown task '{name}'", hint=nearest(name, tasks))
    task = tasks[name]
    if split is None:
        split = next(s for s in ("dev", "test", "train") if s in task.data)
    if split not in task.data:
        raise UserError(f"the task '{name}' has no {split} split", hint=f"it has {', '.join(task.data)}")
    known = task.train_languages if split == "train" else task.languages
    if language not in known:
        raise UserError(f"the task '{name}' has no {split} data in '{language}'", hint=nearest(language, known))
    rows = locate(task, task.data[split], (language,), data)
    row, example = _pick(task, rows, language, index)
    yield f"task        {task.name} ({task.format.name}), {language}, {split}, example {index}"
    yield f"file        {row.where}"
    yield from _block("row", (f"{key}: {_short(value)}" for key, value in row.values.items()))
    yield from _block("example", (f"{key}: {_short(value)}" for key, value in example._asdict().items())
                      if hasattr(example, "_asdict") else [_short(example)])  # fmt: skip
    yield f"reference   {_short(task.format.reference(example, index))}"
    if encoder is None:
        yield "pieces      give --encoder to see them"
        return
    yield from _through(task, example, language, encoder)


def _pick(task: Task, rows: Batchable, language: str, index: int) -> tuple[Row, Example]:
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


def _short(value: Any, width: int = 400) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= width else f"{text[:width]} ... ({len(text):,} characters)"


def _through(task: Task, example: Example, language: str, name: str) -> Iterator[str]:
    """Pieces and targets of every forward pass, and the prediction if `name` is a trained step."""
    from xstilts import encoder as encoders
    from xstilts.evaluate import evaluate
    from xstilts.features import FeatureSet

    step = Path(name).expanduser()
    name = str(step) if name.startswith("~") else name
    trained = (step / "step.json").is_file()
    row = _row(step) if trained else {}
    model = encoders.load(str(step / "encoder") if trained else name)
    pieces = model.pieces(task.max_length)
    labels = getattr(task.format, "labels", ())
    for k, one in enumerate(task.format.features([example], pieces)):
        yield f"pass {k + 1:<7}{len(one.ids)} pieces"
        marks = dict(zip(one.marks, one.targets, strict=True))
        words = []
        for at, token in enumerate(model.tokenizer.convert_ids_to_tokens(list(one.ids))):
            target = "" if at not in marks else "=?" if marks[at] == IGNORED else f"={labels[marks[at]]}"
            words.append(f"{token}{target}")
        yield from _block("pieces", [" ".join(words)])
    if task.format.head.kind == "mean":
        yield "prediction  none: a sentence is found among all the others, which are not looked at here"
        return
    if task.format.head.kind == "vocabulary" and model.vocabulary is None:
        yield "prediction  none: the encoder has no language-model head"
        return
    head, whose = _head(task, step, model, row) if trained or not task.format.head.trained else (None, "")
    if head is None:
        yield "prediction  give a trained step of a run folder as --encoder to see it"
        return
    model.eval()
    head.eval()
    features = FeatureSet.build(task.format, [example], pieces)
    result = evaluate(model, head, task.format, (), [example], features, language=language)
    yield f"prediction  {_short(result.predictions[0])}{whose}"


def _row(step: Path) -> dict[str, Any]:
    """What a step's step.json says.

    Raises:
        UserError: it cannot be read, or the step has no encoder of its own.
    """
    try:
        row: dict[str, Any] = json.loads((step / "step.json").read_text(encoding="utf-8"))
        kind, parent = row["kind"], row["parent"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError("cannot be read", where=str(step / "step.json")) from error
    if kind == "evaluate":
        hint = f"give {step.parent / parent}, from which it starts" if parent else "give the recipe's own encoder"
        raise UserError("is an evaluation, which has no encoder of its own", where=str(step), hint=hint)
    return row


def _head(task: Task, step: Path, model: Any, row: dict[str, Any]) -> tuple[Any, str]:
    """The head for a task: the step's own for it, else one of the same shape and whose that is."""
    from safetensors.torch import load_file

    from xstilts import heads

    head = heads.build(task.format.head, model.config, model.vocabulary)
    if not task.format.head.trained:
        return head, ""
    names = [part["task"] for part in (row.get("training") or {}).get("parts", ())]
    heads_of = [(step / f"head-{i}.safetensors", name) for i, name in enumerate(names)]
    for path, name in sorted(heads_of, key=lambda pair: pair[1] != task.name):
        if not path.is_file() or not _alike(task, name):
            continue
        state = load_file(path)
        mine = head.state_dict()
        if state.keys() == mine.keys() and all(state[key].shape == mine[key].shape for key in mine):
            head.load_state_dict(state)
            return head, "" if name == task.name else f" (by the head of the task '{name}')"
    return None, ""


def _alike(task: Task, name: str) -> bool:
    """Whether a task of this name may have the same labels; one that is not built in cannot be looked up."""
    other = TASKS.get(name)
    return name == task.name or other is None or _labels(other) == _labels(task)


def _labels(task: Task) -> tuple[str, tuple[str, ...]]:
    return task.format.name, tuple(getattr(task.format, "labels", ()))
