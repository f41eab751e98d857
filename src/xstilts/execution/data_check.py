"""Checks the data of a plan's steps, before a run and for `xstilts check`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from xstilts.data.availability import on_hub
from xstilts.data.examples import check
from xstilts.data.find import PLAYGROUND, Found
from xstilts.data.leaks import TrainingRows
from xstilts.errors import Collector, MissingData
from xstilts.execution.inputs import StepInputs
from xstilts.study.plan import Plan
from xstilts.study.step import Step


def check_data(
    inputs: StepInputs,
    steps: Sequence[Step],
    errors: Collector,
    say: Callable[[str], None],
    known: Mapping[str, list[str]],
) -> dict[str, list[str]]:
    """Check the data of steps, and whether training examples are among the dev and test data.

    Args:
        inputs: finds the files.
        steps: the steps.
        errors: receives all mistakes.
        say: receives the notes on each split.
        known: the notes on splits that were checked before, which are not read again, by the split's key.

    Returns:
        The notes on each split that was read, by its key.
    """
    notes, new, shown = dict(known), dict[str, list[str]](), set[str]()
    rows, training = TrainingRows(), {located.key(labels=True): located for located in inputs.training_sets()}
    trained_on = " ".join(sorted(training))
    for located, needs_labels in sorted(inputs.splits(steps, errors), key=lambda one: not one[0].train):
        if all(_is_generated(found) for _, found in located.found):
            continue
        with errors.catch():
            key = located.key(labels=needs_labels)
            is_scored = not needs_labels and located.task.format.head.trained
            if is_scored and trained_on:
                key = hashlib.sha256(f"{key} {trained_on}".encode()).hexdigest()[:24]
            if key not in notes:
                if is_scored:
                    for other in [training.pop(one) for one in [*training]]:  # those that an earlier run has checked
                        with Collector().catch():
                            check(other, lambda _: None, labels=True, on_row=(unshown := rows.reader(other)))
                            unshown.finish()
                training.pop(key, None)
                reader = rows.reader(located) if is_scored or located.train else None
                notes[key] = new[key] = list[str]()
                check(located, notes[key].append, labels=needs_labels, on_row=reader)
                notes[key] += reader.lines() if reader else ()
            for line in notes[key]:
                if line not in shown:  # dev examples come twice: for early stopping and for scoring
                    shown.add(line)
                    say(line)
    return new


def _is_generated(found: Found) -> bool:
    """Whether the playground generates all rows of a file, which then need no check."""
    return found.paths[0].startswith(PLAYGROUND) and not found.file.where and not found.file.part


def check_all_data(plan: Plan, data: Path | None, errors: Collector, say: Callable[[str], None]) -> None:
    """Check all data of a plan, as its run would; without a data folder what is missing is noted.

    Args:
        plan: the plan.
        data: the data folder.
        errors: receives all mistakes.
        say: receives the notes.
    """
    plan, without = plan.with_training_data(data)
    inputs, found = StepInputs(plan, data), Collector()
    for note in (*plan.notes, *plan.dev_notes, *inputs.stop_notes([*plan.steps.values()])):
        say(note)
    if unlabelled := plan.unlabelled(data):
        say("\n  ".join(["without labels, so predicted and not scored:", *unlabelled]))
    read = check_data(inputs, [*plan.steps.values()], found, say, {})
    left_out = {
        line: line.partition(" ")[0].rstrip(":") for line in (*without, *inputs.missing, *plan.unaveraged(data))
    }
    lacking = {one.where for one in found.errors if type(one) is MissingData} | {*left_out.values()}
    unread = {name for name in lacking if data is None and not plan.tasks[name].own}
    errors.errors += [one for one in found.errors if type(one) is not MissingData or one.where not in unread]
    if unread:
        from_hub = sorted(name for name in unread if on_hub(plan.tasks[name]))
        fetch = f", or download with `xstilts data fetch {' '.join(from_hub)}`" if from_hub else ""
        say(f"files not read: {', '.join(sorted(unread))}; give the data folder with --data{fetch}")
    if lines := [line for line, name in left_out.items() if name not in unread]:
        say(f"left out because files are missing: {', '.join(lines)}")
    if read:
        from xstilts.study import unread_text  # loads the tokenizers

        for note in unread_text.notes(plan, plan.steps.values(), data):
            say(note)
