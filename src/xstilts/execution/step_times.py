"""Expects the seconds of steps that are to come, from those of finished steps like them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from xstilts.errors import UserError
from xstilts.store.run_folder import Store
from xstilts.study.step import Step
from xstilts.utils.live_table import StudyProgress


@dataclass
class _Sum:
    """Of some finished steps."""

    steps: int = 0
    seconds: float = 0.0
    updates: int = 0


@dataclass
class StepTimes:
    """The seconds that finished steps took: of all of a kind, and of those that train or score the same."""

    store: Store
    _finished: dict[tuple[str, ...], _Sum] = field(default_factory=lambda: defaultdict(_Sum))

    def add(self, step: Step) -> None:
        """Add a finished step."""
        with suppress(UserError, OSError):  # another run may undo it meanwhile
            facts = self.store.facts(step.id)
            for found in (self._finished[kind] for kind in _kinds(step)):
                found.steps += 1
                found.seconds += facts.get("seconds", 0.0)
                found.updates += facts.get("updates", 0)

    def expected(self, step: Step) -> float | None:
        """The mean of finished steps that do the same, else of its kind, by updates if known; None if there is none."""
        same, kind = (self._finished.get(key) for key in _kinds(step))
        if same is None and kind and kind.updates and step.training and step.training.steps:
            return kind.seconds / kind.updates * step.training.steps
        found = same or kind
        return found.seconds / found.steps if found else None

    def study(self, running: Sequence[Step], waiting: Sequence[Step], steps: int) -> StudyProgress:
        """How far a run of so many steps is, of which these are running and these have not begun."""
        later = [self.expected(step) for step in waiting]
        known = [seconds for seconds in later if seconds is not None]
        expected = {step.id: seconds for step in running if (seconds := self.expected(step)) is not None}
        done = steps - len(running) - len(waiting)
        return StudyProgress(done, steps, sum(known) if len(known) == len(later) else None, expected)


def _kinds(step: Step) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What a step does, whatever its seed and branch; its kind."""
    task = step.scoring.task if step.scoring else step.ensemble.task if step.ensemble else step.heading
    return (step.kind, task), (step.kind,)
