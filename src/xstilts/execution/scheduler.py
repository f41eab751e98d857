"""Which step comes next, and where: those that read only what is done, where their encoder still is in memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from xstilts.execution.runner import StepResult
from xstilts.study.step import Step


class Scheduler:
    """The steps that are still to be done.

    One slot does them in the plan's order. Several slots take first what starts from the encoder that their last step
    has left in memory, scoring before training, for training changes it; then what most other steps wait for.

    Args:
        pending: the steps that are not done, each after those that it reads.
        slots: in how many slots steps are done.
        reads: gives the steps whose encoders a step reads, such as `Plan.encoder_inputs`.
    """

    def __init__(self, pending: Sequence[Step], slots: int, reads: Callable[[Step], Sequence[str]]) -> None:
        self._steps = {step.id: step for step in pending}
        self._reads = {step.id: {*reads(step)} for step in pending}
        self._number = {id: number for number, id in enumerate(self._steps)}
        self._children: dict[str, list[str]] = defaultdict(list)
        self._missing = {id: read & self._steps.keys() for id, read in self._reads.items()}
        for step in pending:
            for parent in self._missing[step.id]:
                self._children[parent].append(step.id)
        self._unlocks: dict[str, int] = {}
        for step in reversed(pending):
            self._unlocks[step.id] = sum(1 + self._unlocks[child] for child in self._children[step.id])
        self._ready = dict.fromkeys(id for id, missing in self._missing.items() if not missing)
        self._lost: set[str] = set()
        self._held: list[str | None] = [None] * slots
        """The step whose encoder each slot holds, empty for the recipe's own; None for no encoder."""

    @property
    def waits(self) -> bool:
        """Whether there are steps that can be done now."""
        return bool(self._ready)

    def next(self, slot: int) -> Step | None:
        """Take the step that a slot should do now; None if none can be done yet."""
        if not self._ready:
            return None
        id = min(self._ready, key=lambda id: self._rank(self._steps[id], slot))
        del self._ready[id]
        return self._steps[id]

    def _rank(self, step: Step, slot: int) -> tuple[int, ...]:
        """What decides between two steps; the smaller goes first."""
        number = self._number[step.id]
        if len(self._held) == 1:
            return (number,)
        needs = step.parent or ""
        here = self._held[slot] == needs and step.kind in ("train", "evaluate")
        elsewhere = needs in self._held
        return (not here, here and step.kind == "train", -self._unlocks[step.id], elsewhere, number)

    def again(self, id: str) -> None:
        """A step that was taken is to be done after all."""
        self._ready[id] = None

    def done(self, id: str) -> None:
        """A step is done, whoever did it."""
        for child in self._children[id]:
            self._missing[child].discard(id)
            if not self._missing[child]:
                self._ready[child] = None

    def left(self, slot: int, ended: StepResult) -> None:
        """Note which encoder a step has left in its slot."""
        step = self._steps[ended.step]
        if ended.how == "done" and step.kind in ("train", "evaluate"):
            self._held[slot] = step.id if step.kind == "train" else step.parent or ""
        elif ended.how not in ("already", "busy"):
            self._held[slot] = None

    def lost(self, id: str) -> list[str]:
        """A step has failed; gives the steps that are lost with it, for they read it, or such a step."""
        found = {id: None}
        for later, read in self._reads.items():  # what is read comes first
            if not found.keys().isdisjoint(read):
                found[later] = None
        new = [step for step in found if step != id and step not in self._lost]
        self._lost |= {*new}
        return new
