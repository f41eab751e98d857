"""Runs a plan: checks everything the user gave, then does the steps that are not done yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError

from xstilts import device, parallel
from xstilts.data.examples import check
from xstilts.errors import Collector, StepFailed, UserError
from xstilts.intake import Intake
from xstilts.plan import Plan
from xstilts.progress import Progress
from xstilts.scratch import given
from xstilts.step import Step
from xstilts.store import CHECKPOINT, Store, opened, told, usable
from xstilts.work import Resources, Work

__all__ = ["Outcome", "Resources", "run"]


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

    work: Work
    outcome: Outcome = field(default_factory=Outcome)
    read: dict[str, list[str]] = field(default_factory=dict)
    """What `check` has read, and said of it."""

    def pending(self) -> list[Step]:
        """The steps that are not done, and those that start from such a one: these are to be done again."""
        left: dict[str, Step] = {}
        for step in self.work.plan.steps.values():
            if not left.keys().isdisjoint(step.parents) or not self.work.store.done(step.id):
                left[step.id] = step
        return list(left.values())

    # --- before anything is written -------------------------------------------------------------------------------

    def check(self, pending: Sequence[Step]) -> None:
        """Read all that the pending steps will read.

        Raises:
            UserError: everything that is wrong with data and encoder.
        """
        found = Collector()
        for note in self.work.plan.notes:
            self.work.progress.say(note)
        with found.catch():
            device.device()
        ids = {step.id for step in pending}
        for step in self.work.plan.steps.values():
            if step.id not in ids:
                now: dict[str, str] = {}
                for batchable, _ in self.work.intake.inputs([step], Collector()):  # files that are gone are not missed
                    now |= batchable.files
                now |= self.work.intake.encoder_files(step)
                with found.catch():
                    self.work.store.unchanged(step.id, now)
        roots = [step for step in pending if step.new is not None or self.work.plan.rooted(step)]
        if roots:
            with found.catch():
                self._check_encoder(roots[0])
        self._check_data(pending, found)
        found.raise_any()

    def checked(self) -> None:
        """Check what is pending, and let the other processes know whether to go on."""
        good = False
        try:
            self.check(self.pending())
            good = True
        finally:
            parallel.said(good)

    def _check_data(self, pending: Sequence[Step], found: Collector) -> None:
        """Read the data that were not read before as they are now; mistakes go to `found`."""
        said: set[str] = set()
        noted = self.work.store.read()

        def say(line: str) -> None:  # dev examples are read twice, to stop by and to be scored
            if line not in said:
                said.add(line)
                self.work.progress.say(line)

        for batchable, needs_labels in self.work.intake.inputs(pending, found):
            with found.catch():
                key = batchable.key(labels=needs_labels)
                if key not in noted:
                    lines: list[str] = []
                    check(batchable, lines.append, labels=needs_labels)
                    noted[key] = self.read[key] = lines
                for line in noted[key]:
                    say(line)

    def _check_encoder(self, root: Step) -> None:
        if root.new is not None:
            if root.new.given is not None:
                given(self.work.intake.placed(root))
            return
        name = self.work.intake.placed(root)
        loaded = self.work.ready(root)
        if loaded.notes:
            self.work.progress.say(f"{name}: {loaded.notes}")
        used = [part.task for step in self.work.plan.steps.values() for part in step.parts]
        used += [cell.task for cell in self.work.plan.cells]
        masked = [name for name in used if self.work.plan.tasks[name].format.head.kind == "vocabulary"]
        for lacks, what in ((loaded.vocabulary, "language-model head"), (loaded.tokenizer.mask_token_id, "mask token")):
            if masked and lacks is None:
                raise UserError(f"has no {what}, which the task '{masked[0]}' needs", where=name)
        layers = [self.work.plan.tasks[c.task].format.head.layer for c in self.work.plan.cells]
        deepest = max((layer for layer in layers if layer is not None), default=0)
        if deepest > loaded.layers:
            raise UserError(f"has {loaded.layers} layers; a task pools hidden state {deepest}", where=name)


def run(plan: Plan, out: Path, data: Path | None, progress: Progress, resources: Resources | None = None) -> Outcome:
    """Do what is not done yet.

    Everything the user gave is checked before the run folder is made. A step that fails (its loss is not a number) is
    left out with those that start from it, and the others go on. Under torchrun all processes do each training
    together, and the first does the rest.

    Raises:
        UserError: anything wrong with the data, the encoder or the run folder; a full disk.
    """
    with parallel.joined(), told(out, SafetensorError):
        store = usable(out) if parallel.rank() == 0 else Store(out)
        work = Work(plan, store, Intake(plan, data), progress, resources or Resources())
        job = Run(work)
        if parallel.rank() == 0:
            job.checked()
            with opened(store):
                store.sweep()
                store.note_read(job.read)
                if store.save_study(plan.study()):
                    progress.say(f"the report now shows this recipe, not the earlier one named '{plan.recipe.name}'")
                _do_all(job)
        elif parallel.said(True):
            _do_all(job)
        else:
            raise SystemExit(2)  # the first process says why
    if work.intake.missing:
        progress.say(f"left out, for there are no files: {', '.join(work.intake.missing)}")
    return job.outcome


def _do_all(job: Run) -> None:
    # asked again, for another run may have done some before this one held the folder
    pending = parallel.said([step.id for step in job.pending()] if parallel.rank() == 0 else [])
    done = len(job.work.plan.steps) - len(pending)
    if pending and done:
        job.work.progress.say(f"{done} of {done + len(pending)} steps are done already")
    for number, id in enumerate(pending, start=1):
        step = job.work.plan.steps[id]
        if parallel.rank() != 0 and step.kind != "train":
            continue
        lost = bool({*job.outcome.failed, *job.outcome.skipped} & {*step.parents})
        if parallel.said(lost) if step.kind == "train" else lost:
            job.outcome.skipped.append(id)
            continue
        job.work.progress.step(number, len(pending), step.name)
        try:
            job.work.do(step)
            job.outcome.done += 1
        except StepFailed as failure:
            (job.work.store.step(step.id) / CHECKPOINT).unlink(missing_ok=True)
            job.outcome.failed[step.id] = failure
            job.work.progress.end(str(failure))
