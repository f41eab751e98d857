"""Adds the texts of the examples to the predictions of finished evaluations."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby

from xstilts.execution.inputs import StepInputs
from xstilts.formats.base import Example
from xstilts.store.rows import write_rows
from xstilts.store.run_folder import Store
from xstilts.study.plan import Plan
from xstilts.study.step import Step


def add_texts(plan: Plan, store: Store, inputs: StepInputs) -> None:
    """Add its text to each prediction of a plan that has none; reads the data of each task once.

    Raises:
        UserError: data or predictions cannot be read.
    """
    done = [step for step in plan.steps.values() if step.scoring and store.state(step.id).has_results]
    for _, steps in groupby(sorted(done, key=_task), key=_task):
        read: dict[str, list[Example]] = {}
        for step in steps:
            with store.claim(step.id) as claimed:
                if claimed:  # else another run scores it anew
                    _add(step, store, inputs, read)


def _task(step: Step) -> str:
    return step.scoring.task if step.scoring else ""


def _add(step: Step, store: Store, inputs: StepInputs, read: dict[str, list[Example]]) -> None:
    """Add the texts to the predictions of one step; `read` has the examples that were read before."""
    rows, format = store.predictions(step.id), inputs.plan.tasks[_task(step)].format
    if all(row.text is not None for row in rows):
        return
    examples: dict[tuple[str, str], list[Example]] = {}
    for language in dict.fromkeys(row.language for row in rows):
        for split, located in inputs.eval_splits(step, language).items():
            if located.content not in read:
                read[located.content] = located.read()
            examples[language, split] = read[located.content]
    texts = (format.input_text(examples[row.language, row.split][row.index]) for row in rows)
    with_text = [replace(row, text=text) for row, text in zip(rows, texts, strict=True)]
    write_rows(store.step(step.id) / "predictions.jsonl", with_text)
