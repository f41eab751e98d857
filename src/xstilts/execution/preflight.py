"""Checks all inputs of a plan before anything is written."""

from __future__ import annotations

from collections.abc import Sequence

from xstilts.compute import device
from xstilts.errors import Collector, UserError, counted
from xstilts.execution.answers_back import check_back_engines
from xstilts.execution.data_check import check_data
from xstilts.execution.pending import pending_steps
from xstilts.execution.precision import check_precision
from xstilts.execution.redo import Confirm, find_outdated
from xstilts.execution.steps import StepExecutor
from xstilts.formats.pooling import PARTS
from xstilts.model.encoder import Encoder
from xstilts.model.new_encoder import given
from xstilts.study import unread_text
from xstilts.study.plan import Plan
from xstilts.study.step import Step


def check_inputs(
    executor: StepExecutor, confirm: Confirm = None, *, here: bool = True
) -> tuple[dict[str, list[str]], list[str]]:
    """Check the data and encoders of a plan; reads all data of pending steps. Asks last whether to redo finished ones.

    Args:
        executor: has the plan.
        confirm: asks whether to redo the finished steps whose files have changed.
        here: whether this machine does the steps, so that its device counts.

    Returns:
        The notes on each split that was checked for the first time, by the split's key; the finished steps to redo.

    Raises:
        UserError: all errors in data and encoders; input files have changed, and the steps are not to be redone.
    """
    plan = executor.plan
    errors = Collector(plan.recipe.data_check_options(executor.inputs.data))
    outdated = find_outdated(plan, executor.store, executor.inputs, errors)
    pending = pending_steps(plan, executor.store, outdated.ids)
    lines = []
    if outdated.ids:
        others = {*outdated.ids, *(step.id for step in pending_steps(plan, executor.store))}
        lines = outdated.lines(step for step in pending if step.id not in others)
    if lines and confirm is None:
        for line in lines[:-1]:
            errors.add(line)
        errors.add(lines[-1], hint="--redo does it and replaces the old scores; another --out keeps them")
    on_dev = plan.dev_notes if len(pending) == len(plan.steps) else ()  # not each time the run goes on
    on_device = _precision_notes(executor, pending, errors, here=here)
    for note in (*plan.notes, *on_dev, *executor.inputs.stop_notes(pending), *on_device):
        executor.progress.say(note)
    if unlabelled := plan.unlabelled(executor.inputs.data):
        executor.progress.say(f"without labels, so predicted and not scored: {'; '.join(unlabelled)}")
    roots = [step for step in pending if step.new is not None or plan.starts_from_pretrained(step)]
    for root in {step.encoder: step for step in reversed(roots)}.values():  # the first step of each encoder
        with errors.catch():
            _check_encoder(executor, root)
    check_back_engines(plan, pending, errors)
    checked = check_data(executor.inputs, pending, errors, executor.progress.say, executor.store.checked_data())
    errors.raise_any()
    for note in unread_text.notes(plan, pending, executor.inputs.data):
        executor.progress.say(note)
    for line in lines:
        executor.progress.say(line)
    if confirm is not None and lines and not confirm():
        raise UserError("nothing was done", hint="another --out keeps the results and uses the files as they are now")
    return checked, outdated.ids


def _check_encoder(executor: StepExecutor, root: Step) -> None:
    plan, name = executor.plan, executor.inputs.require_encoder(root)
    if root.new is not None:
        if root.new.given is not None:
            given(name)
        return
    loaded = executor.preload(root)
    if loaded.unused_weights:
        executor.progress.say(f"{name}: {loaded.unused_weights}")
    used = [part.task for step in plan.steps.values() for part in step.parts] + [cell.task for cell in plan.cells]
    masked = [task for task in used if plan.tasks[task].format.head.kind == "vocabulary"]
    for part, what in ((loaded.vocabulary, "language-model head"), (loaded.tokenizer.mask_token_id, "mask token")):
        if masked and part is None:
            raise UserError(f"has no {what}, which the task '{masked[0]}' needs", where=name)
    _check_layers(plan, root.encoder, loaded, name)


def _check_layers(plan: Plan, start: str, encoder: Encoder, name: str) -> None:
    """Refuse hidden states that the encoder `start` lacks, and parts of too few layers."""
    specs = [step.scoring for step in plan.steps.values() if step.scoring and step.encoder == start]
    layers = [plan.tasks[spec.task].format.head.layer if spec.layer is None else spec.layer for spec in specs]
    layers += [layer for spec in specs if spec.score_layers != "all" for layer in spec.score_layers]
    deepest = max((layer for layer in layers if layer is not None), default=0)
    if deepest > encoder.layers:
        raise UserError(f"has {encoder.layers} layers; a task pools hidden state {deepest}", where=name)
    if encoder.layers < PARTS and any("concat" in spec.poolings for spec in specs):
        what = f"has {counted(encoder.layers, 'layer')}; `poolings: concat` needs {PARTS}"
        raise UserError(what, where=name, hint="leave concat out of `poolings`")


def _precision_notes(executor: StepExecutor, pending: Sequence[Step], errors: Collector, *, here: bool) -> list[str]:
    """A note if this machine is slow in a precision of the steps; refuses another one than that of finished steps."""
    precisions = {spec.precision for step in pending for spec in (step.training, step.scoring) if spec is not None}
    with errors.catch():
        if here:
            check_precision(pending, executor.plan, executor.store)
        return device.precision_notes(device.device(), precisions)
    return []
