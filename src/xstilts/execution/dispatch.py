"""Give the steps of a run to a runner, and act on how each of them ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from xstilts.errors import StepFailed
from xstilts.execution.preflight import Run
from xstilts.execution.runner import Runner, StepRequest, StepResult
from xstilts.execution.scheduler import Scheduler
from xstilts.store.retention import Retention
from xstilts.store.step_record import StepState
from xstilts.study.step import Step


class Dispatcher:
    """The steps of a run on their way through a runner."""

    def __init__(self, job: Run, runner: Runner, pending: Sequence[Step], retention: Retention) -> None:
        self.retention, self.encoder_inputs = retention, job.executor.plan.encoder_inputs
        self.store, self.outcome, self.say = job.executor.store, job.outcome, job.executor.progress.say
        self.runner, self.total = runner, len(pending)
        self.steps = {step.id: step for step in pending}
        self.again = {id for id in self.steps if self.store.state(id) is not StepState.MISSING}
        self.scheduler = Scheduler(pending, runner.slots, self.encoder_inputs)
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
            if not (self.under_way or self.elsewhere or self.scheduler.waits):
                return
            ended = self.runner.wait(POLL if self.elsewhere else None)
            if ended is not None:
                slot = self.under_way.pop(ended.step)
                self.scheduler.left(slot, ended)
                self._take(ended)
            self._look_elsewhere()

    def _start(self) -> None:
        """Begin a step in every free slot, while there are any that can be done."""
        for slot in self.runner.free:
            step = self.scheduler.next(slot)
            if step is None:
                return
            self.under_way[step.id] = slot
            number = self.numbers.setdefault(step.id, len(self.numbers) + 1)
            self.runner.start(StepRequest(step.id, slot, number, self.total, step.id in self.again))

    def _take(self, ended: StepResult) -> None:
        """Draw the conclusions from how a step went."""
        id, step = ended.step, self.steps[ended.step]
        match ended.how:
            case "done" | "already":
                self.outcome.done += ended.how == "done"
                self.scheduler.done(id)
                self.retention.tidy([*self.encoder_inputs(step), id])
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
            self.scheduler.again(step.id)
            return
        what = f"its worker {how}, and so did the one before"
        hint = "if the memory is too small for it, fewer --workers or --tokens may help"
        self._failed(step.id, StepFailed(what, hint=hint))
        self.say(f"{step.name}: {self.outcome.failed[step.id]}")

    def _failed(self, id: str, failure: StepFailed) -> None:
        self.outcome.failed[id] = failure
        self.outcome.skipped += self.scheduler.lost(id)

    def _look_elsewhere(self) -> None:
        """See what has become of the steps that another run is doing, or was doing when it died."""
        for id in [*self.elsewhere]:
            with self.store.claim(id) as free:
                pass
            if free:
                del self.elsewhere[id]
                self.scheduler.again(id)


POLL = 0.5
"""Seconds after which it is seen again whether another run has done its steps."""


DEATHS = 2
"""Workers that may die of the same step; then the step is to blame."""
