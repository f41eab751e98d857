"""Check everything that the pending steps will read, before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from xstilts.compute import device, distributed
from xstilts.data.examples import check
from xstilts.errors import Collector, StepFailed, UserError
from xstilts.execution.steps import StepExecutor
from xstilts.model.new_encoder import given
from xstilts.store.step_record import StepState
from xstilts.study.step import Step


@dataclass
class Outcome:
    """What a run did."""

    done: int = 0
    failed: dict[str, StepFailed] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    """Steps that start from a failed one."""


@dataclass
class Run:
    """One run of a plan over a store."""

    executor: StepExecutor
    outcome: Outcome = field(default_factory=Outcome)
    read: dict[str, list[str]] = field(default_factory=dict)
    """What `check` has read, and said of it."""

    def pending(self) -> list[Step]:
        """The steps that are not done, or start from such a one, and those whose removed encoders are wanted."""
        plan, store = self.executor.plan, self.executor.store
        left: set[str] = set()
        for step in plan.steps.values():
            if not left.isdisjoint(step.parents) or store.state(step.id) is StepState.MISSING:
                left.add(step.id)
        for step in reversed(plan.steps.values()):  # encoders that were removed, and are wanted
            if plan.keeps_encoder(step) and store.state(step.id) is not StepState.DONE:
                left.add(step.id)
            if step.id in left:
                left |= {id for id in plan.encoder_inputs(step) if store.state(id) is not StepState.DONE}
        return [step for id, step in plan.steps.items() if id in left]

    # --- before anything is written -------------------------------------------------------------------------------

    def check(self, pending: Sequence[Step]) -> None:
        """Read all that the pending steps will read.

        Raises:
            UserError: everything that is wrong with data and encoder.
        """
        found = Collector()
        for note in self.executor.plan.notes:
            self.executor.progress.say(note)
        with found.catch():
            device.device()
        ids = {step.id for step in pending}
        for step in self.executor.plan.steps.values():
            if step.id not in ids and self.executor.store.state(step.id).has_results:
                now: dict[str, str] = {}
                for located, _ in self.executor.inputs.splits(
                    [step], Collector()
                ):  # files that are gone are not missed
                    now |= located.files
                now |= self.executor.inputs.encoder_files(step)
                with found.catch():
                    self.executor.store.unchanged(step.id, now)
        roots = [step for step in pending if step.new is not None or self.executor.plan.starts_from_pretrained(step)]
        for root in {step.encoder: step for step in reversed(roots)}.values():  # the first one of each encoder
            with found.catch():
                self._check_encoder(root)
        self._check_data(pending, found)
        found.raise_any()

    def checked(self) -> None:
        """Check what is pending, and let the other processes know whether to go on."""
        good = False
        try:
            self.check(self.pending())
            good = True
        finally:
            distributed.broadcast(good)

    def _check_data(self, pending: Sequence[Step], found: Collector) -> None:
        """Read the data that were not read before as they are now; mistakes go to `found`."""
        said: set[str] = set()
        noted = self.executor.store.read()

        def say(line: str) -> None:  # dev examples are read twice, to stop by and to be scored
            if line not in said:
                said.add(line)
                self.executor.progress.say(line)

        for located, needs_labels in self.executor.inputs.splits(pending, found):
            with found.catch():
                key = located.key(labels=needs_labels)
                if key not in noted:
                    lines: list[str] = []
                    check(located, lines.append, labels=needs_labels)
                    noted[key] = self.read[key] = lines
                for line in noted[key]:
                    say(line)

    def _check_encoder(self, root: Step) -> None:
        if root.new is not None:
            if root.new.given is not None:
                given(self.executor.inputs.placed(root))
            return
        name = self.executor.inputs.placed(root)
        loaded = self.executor.ready(root)
        if loaded.notes:
            self.executor.progress.say(f"{name}: {loaded.notes}")
        used = [part.task for step in self.executor.plan.steps.values() for part in step.parts]
        used += [cell.task for cell in self.executor.plan.cells]
        masked = [name for name in used if self.executor.plan.tasks[name].format.head.kind == "vocabulary"]
        for lacks, what in ((loaded.vocabulary, "language-model head"), (loaded.tokenizer.mask_token_id, "mask token")):
            if masked and lacks is None:
                raise UserError(f"has no {what}, which the task '{masked[0]}' needs", where=name)
        layers = [self.executor.plan.tasks[c.task].format.head.layer for c in self.executor.plan.cells]
        deepest = max((layer for layer in layers if layer is not None), default=0)
        if deepest > loaded.layers:
            raise UserError(f"has {loaded.layers} layers; a task pools hidden state {deepest}", where=name)
