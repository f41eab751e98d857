"""Chooses the next step for a free slot: one whose inputs are done, preferably with its encoder still in memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from xstilts.execution.runner import StepResult
from xstilts.study.step import Step


class Scheduler:
    """The queue of pending steps.

    A single slot does the steps in the plan's order. With several slots, each first takes steps that start from the
    encoder in its memory (scoring before training, which changes the encoder), then the step with the most dependents.

    Args:
        pending: the steps that are not done, each after the steps that it reads.
        slots: the number of steps that run at once.
        encoder_inputs: gives the steps whose encoders a step reads, such as `Plan.encoder_inputs`.
    """

    def __init__(self, pending: Sequence[Step], slots: int, encoder_inputs: Callable[[Step], Sequence[str]]) -> None:
        self._steps = {step.id: step for step in pending}
        self._reads = {step.id: {*encoder_inputs(step)} for step in pending}
        self._number = {id: number for number, id in enumerate(self._steps)}
        self._children: dict[str, list[str]] = defaultdict(list)
        self._missing = {id: read & self._steps.keys() for id, read in self._reads.items()}
        for step in pending:
            for parent in self._missing[step.id]:
                self._children[parent].append(step.id)
        self._num_dependents: dict[str, int] = {}
        for step in reversed(pending):
            self._num_dependents[step.id] = sum(1 + self._num_dependents[child] for child in self._children[step.id])
        self._ready = dict.fromkeys(id for id, missing in self._missing.items() if not missing)
        self._dropped: set[str] = set()
        self._loaded: list[str | None] = [None] * slots
        """For each slot, the step whose encoder it has in memory, or the name of a pretrained one; None: no encoder."""

    @property
    def has_ready(self) -> bool:
        """Whether a step can start now."""
        return bool(self._ready)

    def next(self, slot: int) -> Step | None:
        """Take the best step for a slot; None if none is ready."""
        if not self._ready:
            return None
        id = min(self._ready, key=lambda id: self._rank(self._steps[id], slot))
        del self._ready[id]
        return self._steps[id]

    def _rank(self, step: Step, slot: int) -> tuple[int, ...]:
        """The sort key of a step for a slot; the smallest goes first."""
        number = self._number[step.id]
        if len(self._loaded) == 1:
            return (number,)
        needs = step.parent or step.encoder
        in_slot = self._loaded[slot] == needs and step.kind in ("train", "evaluate")
        in_any_slot = needs in self._loaded
        return (not in_slot, in_slot and step.kind == "train", -self._num_dependents[step.id], in_any_slot, number)

    def requeue(self, id: str) -> None:
        """Put a step back into the queue."""
        self._ready[id] = None

    def mark_done(self, id: str) -> None:
        """Record that this run or another has done a step."""
        for child in self._children[id]:
            self._missing[child].discard(id)
            if not self._missing[child]:
                self._ready[child] = None

    def note_result(self, slot: int, result: StepResult) -> None:
        """Record which encoder a step left in its slot's memory."""
        step = self._steps[result.step]
        if result.status == "done" and step.kind in ("train", "evaluate"):
            self._loaded[slot] = step.id if step.kind == "train" else step.parent or step.encoder
        elif result.status not in ("already", "busy"):
            self._loaded[slot] = None

    def drop_dependents(self, id: str) -> list[str]:
        """Drop the steps that depend on a failed one; returns those not dropped before."""
        affected = {id: None}
        for later, read in self._reads.items():  # in the plan's order, inputs first
            if not affected.keys().isdisjoint(read):
                affected[later] = None
        new = [step for step in affected if step != id and step not in self._dropped]
        self._dropped |= {*new}
        return new
