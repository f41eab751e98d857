"""Runs a plan: checks everything the user gave, then does the steps that are not done yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError

from xstilts import device, parallel
from xstilts.data.examples import check
from xstilts.errors import Collector, StepFailed, UserError
from xstilts.intake import Intake
from xstilts.keeping import Keeping
from xstilts.plan import Plan
from xstilts.progress import Progress, several
from xstilts.runners import Ended, Job, Order, Runner, Worker
from xstilts.runners.agenda import Agenda
from xstilts.runners.local import Here, Local
from xstilts.scratch import given
from xstilts.step import Step
from xstilts.store import Store, opened, usable
from xstilts.system import told
from xstilts.work import Resources, Work

__all__ = ["Outcome", "Resources", "run"]

Hire = Callable[[Job, int, Progress], Runner]
"""Makes a runner that does several steps at once: told the run, how many workers at most, how to show what they do."""
POLL = 0.5
"""Seconds after which it is seen again whether another run has done its steps."""
DEATHS = 2
"""Workers that may die of the same step; then the step is to blame."""


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
        """The steps that are not done, or start from such a one, and those whose removed encoders are wanted."""
        plan, store = self.work.plan, self.work.store
        left: set[str] = set()
        for step in plan.steps.values():
            if not left.isdisjoint(step.parents) or not store.finished(step.id):
                left.add(step.id)
        for step in reversed(plan.steps.values()):  # encoders that were removed, and are wanted
            if plan.keeps(step) and not store.there(step.id):
                left.add(step.id)
            if step.id in left:
                left |= {id for id in plan.reads(step) if not store.there(id)}
        return [step for id, step in plan.steps.items() if id in left]

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
            if step.id not in ids and self.work.store.done(step.id):
                now: dict[str, str] = {}
                for batchable, _ in self.work.intake.inputs([step], Collector()):  # files that are gone are not missed
                    now |= batchable.files
                now |= self.work.intake.encoder_files(step)
                with found.catch():
                    self.work.store.unchanged(step.id, now)
        roots = [step for step in pending if step.new is not None or self.work.plan.rooted(step)]
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


def run(
    plan: Plan,
    out: Path,
    data: Path | None,
    progress: Progress,
    resources: Resources | None = None,
    workers: int | None = 1,
    hire: Hire | None = None,
) -> Outcome:
    """Do what is not done yet.

    Everything the user gave is checked before the run folder is made. A step that fails (its loss is not a number) is
    left out with those that start from it, and the others go on. Under torchrun all processes do each training
    together, and the first does the rest. Other runs may use the same folder at the same time: no step is done twice.

    Args:
        plan: what is to be done.
        out: the run folder.
        data: the folder with the data sets.
        progress: told how it goes.
        resources: what each worker may use.
        workers: processes that do one step each at a time; None leaves it to `hire`.
        hire: makes the runner that has them; None for this machine, where one worker is this process.

    Raises:
        UserError: anything wrong with the data, the encoder or the run folder; a full disk.
    """
    if (workers, hire) != (1, None) and several():
        what = "several workers do several steps at once, torchrun's processes do one step together: choose one of them"
        raise UserError(what, where="--workers")
    with parallel.joined(), told(out, SafetensorError):
        store = usable(out) if parallel.rank() == 0 else Store(out)
        work = Work(plan, store, Intake(plan, data), progress, resources or Resources())
        job = Run(work)
        if parallel.rank() == 0:
            job.checked()
            with opened(store, progress.say):
                store.note_read(job.read)
                keeping = Keeping(store)
                with keeping.noted(plan.study()) as replaced:
                    if replaced:
                        progress.say(
                            f"the report now shows this recipe, not the earlier one named '{plan.recipe.name}'"
                        )
                    keeping.tidy(plan.steps)
                    _do_all(job, hire, workers, keeping)
            parallel.said("")
        elif parallel.said(True):
            _follow(work)
        else:
            raise SystemExit(2)  # the first process says why
    if work.intake.missing:
        progress.say(f"left out, for there are no files: {', '.join(work.intake.missing)}")
    return job.outcome


def _follow(work: Work) -> None:
    """Take part in the trainings that the first process begins."""
    while id := parallel.said(""):
        with suppress(StepFailed):  # which the first process notes
            work.do(work.plan.steps[id])


def _do_all(job: Run, hire: Hire | None, workers: int | None, keeping: Keeping) -> None:
    # asked again, for another run may have done some before this one held the folder
    work, pending = job.work, job.pending()
    done = len(work.plan.steps) - len(pending)
    if done:
        work.progress.say(f"{done} of {done + len(pending)} steps are done already")
    if not pending:
        return
    if (workers, hire) == (1, None):
        here: Runner = Here(Worker(work))
    else:
        work.forget()
        asked = Job(work.plan, work.store.folder.absolute(), work.intake.data, work.resources)
        here = (hire or Local)(asked, min(workers or len(pending), len(pending)), work.progress)
    try:
        _Course(job, here, pending, keeping).go()
    except KeyboardInterrupt:
        if not isinstance(here, Here):
            work.progress.say("the workers are asked to end; once more Ctrl-C ends them at once")
        raise
    finally:
        here.stop()


class _Course:
    """The steps of a run on their way through a runner."""

    def __init__(self, job: Run, runner: Runner, pending: Sequence[Step], keeping: Keeping) -> None:
        self.keeping, self.reads = keeping, job.work.plan.reads
        self.store, self.outcome, self.say = job.work.store, job.outcome, job.work.progress.say
        self.runner, self.total = runner, len(pending)
        self.steps = {step.id: step for step in pending}
        self.again = {id for id in self.steps if self.store.finished(id)}
        self.agenda = Agenda(pending, runner.places, self.reads)
        self.under_way: dict[str, int] = {}
        """Steps and the places where they are done."""
        self.elsewhere: dict[str, None] = {}
        """Steps that another run is doing."""
        self.shared = False
        self.numbers: dict[str, int] = {}
        self.deaths: Counter[str] = Counter()

    def go(self) -> None:
        """Do all that can be done."""
        while True:
            self._start()
            if not (self.under_way or self.elsewhere or self.agenda.waits):
                return
            ended = self.runner.wait(POLL if self.elsewhere else None)
            if ended is not None:
                place = self.under_way.pop(ended.step)
                self.agenda.left(place, ended)
                self._take(ended)
            self._look_elsewhere()

    def _start(self) -> None:
        """Begin a step in every free place, while there are any that can be done."""
        for place in self.runner.free:
            step = self.agenda.next(place)
            if step is None:
                return
            self.under_way[step.id] = place
            number = self.numbers.setdefault(step.id, len(self.numbers) + 1)
            self.runner.start(Order(step.id, place, number, self.total, step.id in self.again))

    def _take(self, ended: Ended) -> None:
        """Draw the conclusions from how a step went."""
        id, step = ended.step, self.steps[ended.step]
        match ended.how:
            case "done" | "already":
                self.outcome.done += ended.how == "done"
                self.agenda.done(id)
                self.keeping.tidy([*self.reads(step), id])
            case "busy":
                if not self.shared:
                    self.say("another run is at work in this folder: what it is doing is waited for")
                self.shared, self.elsewhere[id] = True, None
            case "died":
                self._died(step, ended.text)
            case "lost":
                self.say(f"{step.name}: {ended.text}; the step is tried again")
                self.elsewhere[id] = None  # for its claim may outlive it
            case "failed":
                assert isinstance(ended.error, StepFailed)
                self._failed(id, ended.error)
            case "refused":
                assert ended.error is not None
                raise ended.error
            case "broken":
                raise RuntimeError(f"{step.name}, in a worker process:\n{ended.text}")

    def _died(self, step: Step, how: str) -> None:
        self.deaths[step.id] += 1
        if self.deaths[step.id] < DEATHS:
            self.say(f"{step.name}: its worker {how}; the step is tried again")
            self.agenda.again(step.id)
            return
        what = f"its worker {how}, and so did the one before"
        hint = "if the memory is too small for it, fewer --workers or --tokens may help"
        self._failed(step.id, StepFailed(what, hint=hint))
        self.say(f"{step.name}: {self.outcome.failed[step.id]}")

    def _failed(self, id: str, failure: StepFailed) -> None:
        self.outcome.failed[id] = failure
        self.outcome.skipped += self.agenda.lost(id)

    def _look_elsewhere(self) -> None:
        """See what has become of the steps that another run is doing, or was doing when it died."""
        for id in [*self.elsewhere]:
            with self.store.claim(id) as free:
                pass
            if free:
                del self.elsewhere[id]
                self.agenda.again(id)
