"""Finds languages whose text a tokenizer cannot write, such as that of another encoder; loads no weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path

import tokenizers

from xstilts.data.examples import locate
from xstilts.errors import UserError
from xstilts.formats.base import Example
from xstilts.model.encoder_folder import local_folder
from xstilts.model.tokenizer import Tokenizer, unknown_id
from xstilts.study.plan import Plan
from xstilts.study.step import Step
from xstilts.tasks.task import Split, Task
from xstilts.utils.models import encoder_path

MOST = 0.05
"""The largest share of unknown tokens that is not noted."""
EXAMPLES = 100
"""The first examples of a split and language that are tokenized."""


def notes(plan: Plan, steps: Iterable[Step], data: Path | None) -> Iterator[str]:
    """A line for each encoder whose tokenizer gives over 5 % unknown tokens in a language that the steps read.

    Encoders and data that are not on this machine are left out, as are tokenizers that the study trains.
    """
    given = {step.encoder: step.new.given for step in plan.steps.values() if step.new is not None}
    read: dict[str, dict[tuple[str, Split, str], None]] = {}
    for step in steps:
        if name := given.get(step.encoder, step.encoder):
            read.setdefault(name, {}).update(dict.fromkeys(_splits(plan, step)))
    for name, splits in read.items():
        folder = local_folder(encoder_path(name, data), "tokenizer.json")
        if folder is None or not (folder / "tokenizer.json").is_file():
            continue
        backend = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        unknown = unknown_id(backend)
        if unknown is None:
            continue
        shares = _shares(backend, unknown, ((plan.tasks[task], split, code) for task, split, code in splits), data)
        over = sorted((-share, code) for code, share in shares.items() if share > MOST)
        if over:
            parts = ", ".join(f"{code} {-100 * share:.0f} %" for share, code in over)
            token = backend.id_to_token(unknown)
            yield f"{name}: the tokenizer gives many {token} ({parts} of the tokens); is it this encoder's own?"


def _splits(plan: Plan, step: Step) -> Iterator[tuple[str, Split, str]]:
    """Task, split and language of the examples that a step trains on or scores."""
    for part in step.parts:
        yield from ((part.task, "train", code) for code in plan.tasks[part.task].train_languages)
    if step.scoring is not None:
        task, languages = plan.tasks[step.scoring.task], step.scoring.languages
        scored = ((split, code) for split in task.scored for code in languages if code in task.languages_of(split))
        yield from ((task.name, split, code) for split, code in scored)


def _shares(
    backend: tokenizers.Tokenizer, unknown: int, splits: Iterable[tuple[Task, Split, str]], data: Path | None
) -> dict[str, float]:
    """The share of unknown tokens by language, special tokens left out."""
    special = {id for id, token in backend.get_added_tokens_decoder().items() if token.special} - {unknown}
    count, unknowns = Counter[str](), Counter[str]()
    for task, split, code in splits:
        examples = _first(task, split, code, data)
        format = task.format.with_labels_from(examples) if task.format.needs_labels else task.format
        tokenizer = Tokenizer(backend, max_length=task.max_length, unk_id=unknown)
        for features in format.features(examples, tokenizer):
            count[code] += sum(id not in special for id in features.ids)
            unknowns[code] += sum(id == unknown for id in features.ids)
    return {code: unknowns[code] / total for code, total in count.items() if total}


def _first(task: Task, split: Split, code: str, data: Path | None) -> list[Example]:
    """The first examples of a split in a language; none where they are missing or a row is invalid."""
    with suppress(UserError):
        located = locate(task, task.data[split], (code,), data, train=split == "train")
        with closing(located.stream()) as examples:  # type: ignore[type-var]
            return list(islice(examples, EXAMPLES))
    return []
