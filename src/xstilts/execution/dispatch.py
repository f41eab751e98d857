"""Gives the steps of a run to a runner, and acts on each result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from xstilts.errors import StepFailed, UserError, counted
from xstilts.execution.retention import Retention
from xstilts.execution.runner import Runner, StepRequest, StepResult
from xstilts.execution.scheduler import Scheduler
from xstilts.execution.step_times import StepTimes
from xstilts.execution.steps import StepExecutor
from xstilts.store.rows import mean_score
from xstilts.store.step_record import StepState
from xstilts.study.plan import Plan
from xstilts.study.step import Step
from xstilts.utils.progress import StepProgress

POLL_SECONDS = 0.5
"""Seconds between two checks whether another run has finished its steps."""
MAX_DEATHS = 2
"""A step fails after this many workers died while doing it."""


@dataclass
class Outcome:
    """The numbers of done steps, and the failed and skipped steps."""

    done: int = 0
    failed: dict[str, StepFailed] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    """Steps that depend on a failed one."""

    def error(self, plan: Plan) -> UserError | None:
        """What to tell the user if steps have failed."""
        if not self.failed:
            return None
        lines = [f"{plan.steps[id].name}: {reason}" for id, reason in self.failed.items()]
        them = "it" if len(lines) == 1 else "them"
        depend, were = ("depends", "was") if len(self.skipped) == 1 else ("depend", "were")
        skipped = (
            f"; {counted(len(self.skipped), 'step')} that {depend} on {them} {were} skipped" if self.skipped else ""
        )
        return UserError("\n".join([f"{counted(len(lines), 'step')} failed{skipped}", *lines]))


class Dispatcher:
    """Sends pending steps to a runner until none is left."""

    def __init__(
        self,
        executor: StepExecutor,
        runner: Runner,
        pending: Sequence[Step],
        retention: Retention,
        outcome: Outcome,
    ) -> None:
        self.store, self.progress, self.say = executor.store, executor.progress, executor.progress.say
        self.step_ended = executor.progress.step_ended
        self.tasks = executor.plan.tasks
        self.encoder_inputs, self.retention = executor.plan.encoder_inputs, retention
        self.runner, self.outcome = runner, outcome
        self.steps = {step.id: step for step in pending}
        self.repeated = {id for id in self.steps if self.store.state(id) is not StepState.MISSING}
        self.scheduler = Scheduler(pending, runner.slots, self.encoder_inputs)
        self.running: dict[str, int] = {}
        """The slot of each step that is running."""
        self.claimed_elsewhere: dict[str, None] = {}
        """Steps that another run has claimed."""
        self.ended: set[str] = set()
        """The steps of this run that are done, by it or by another, or failed or were skipped."""
        self.times = StepTimes(self.store)
        for step in executor.plan.steps.values() if self.progress.live else ():
            if self.store.state(step.id).has_results:
                self.times.add(step)
        self.announced_shared = False
        self.numbers: dict[str, int] = {}
        self.deaths: Counter[str] = Counter()

    def run(self) -> Outcome:
        """Do all steps that can be done."""
        self.step_ended()
        while True:
            self._start_steps()
            if not (self.running or self.claimed_elsewhere or self.scheduler.has_ready):
                return self.outcome
            result = self.runner.wait(POLL_SECONDS if self.claimed_elsewhere else None)
            if result is not None:
                slot = self.running.pop(result.step)
                self.scheduler.note_result(slot, result)
                self._handle(result)
                self._show_study()
                self.step_ended()
            self._requeue_unclaimed()

    def _start_steps(self) -> None:
        """Start a ready step in every free slot."""
        for slot in self.runner.free_slots:
            step = self.scheduler.next(slot)
            if step is None:
                return
            self.running[step.id] = slot
            number = self.numbers.setdefault(step.id, len(self.numbers) + 1)
            self._show_study()
            self.runner.start(StepRequest(step.id, slot, number, len(self.steps), step.id in self.repeated))

    def _show_study(self) -> None:
        """Show how far the run is, and how long it will take."""
        if self.progress.live:
            waiting = [step for id, step in self.steps.items() if id not in self.ended and id not in self.running]
            running = [self.steps[id] for id in self.running]
            self.progress.show_study(self.times.study(running, waiting, len(self.steps)))

    def _handle(self, result: StepResult) -> None:
        id, step = result.step, self.steps[result.step]
        match result.status:
            case "done" | "already":
                self.outcome.done += result.status == "done"
                self.ended.add(id)
                if self.progress.live:
                    self.times.add(step)
                self.scheduler.mark_done(id)
                self.retention.remove_unneeded([*self.encoder_inputs(step), id])
                self._tell_end(step)
            case "busy":
                if not self.announced_shared:
                    self.say("another run works in this folder: this run waits for its steps")
                self.announced_shared, self.claimed_elsewhere[id] = True, None
            case "died":
                self._worker_died(step, result.detail)
            case "lost":
                self.say(f"{step.name}: {result.detail}; the step is tried again")
                self.claimed_elsewhere[id] = None  # its lock may outlive the machine
            case "failed":
                assert isinstance(result.error, StepFailed)
                self._fail(id, result.error)
            case "refused":
                assert result.error is not None
                raise result.error
            case "broken":
                raise RuntimeError(f"{step.name}, in a worker process:\n{result.detail}")

    def _worker_died(self, step: Step, how: str) -> None:
        self.deaths[step.id] += 1
        if self.deaths[step.id] < MAX_DEATHS:
            self.say(f"{step.name}: its worker {how}; the step is tried again")
            self.scheduler.requeue(step.id)
            return
        what = f"its worker {how}, and so did the one before"
        hint = "if the memory is too small for it, fewer --workers or --tokens may help"
        self._fail(step.id, StepFailed(what, hint=hint))
        self.say(f"{step.name}: {self.outcome.failed[step.id]}")

    def _fail(self, id: str, failure: StepFailed) -> None:
        skipped = self.scheduler.drop_dependents(id)
        self.outcome.failed[id] = failure
        self.outcome.skipped += skipped
        self.ended |= {id, *skipped}
        self._tell_end(self.steps[id], failure)

    def _tell_end(self, step: Step, failure: StepFailed | None = None) -> None:
        """Tell a callback, if there is one, how a step ended."""
        if not self.progress.has_callback:
            return
        score = None if failure else self._score(step)
        number, steps = self.numbers[step.id], len(self.steps)
        state: Literal["done", "failed"] = "failed" if failure else "done"
        error = str(failure or "")
        event = StepProgress(step.id, step.kind, step.name, number, steps, state, score=score, error=error)
        self.progress.ended(event)

    def _score(self, step: Step) -> float | None:
        """The main score of a finished step; None for a step without one."""
        if step.kind == "train":
            return self.store.facts(step.id).get("dev")
        spec = step.scoring or step.ensemble
        return mean_score(self.store.step_scores(step.id), self.tasks[spec.task].metric) if spec else None

    def _requeue_unclaimed(self) -> None:
        """Queue the steps that other runs have released, finished or not."""
        for id in [*self.claimed_elsewhere]:
            with self.store.claim(id) as claimed:
                pass
            if claimed:
                del self.claimed_elsewhere[id]
                self.scheduler.requeue(id)
