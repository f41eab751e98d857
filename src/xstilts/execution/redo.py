"""Finds finished steps whose input files have another content now; the user decides whether they are done again."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from xstilts.errors import Collector, counted, listed
from xstilts.execution.inputs import StepInputs
from xstilts.store.run_folder import Store
from xstilts.store.step_record import StepState
from xstilts.study.plan import Plan
from xstilts.study.step import Step

Confirm: TypeAlias = Callable[[], bool] | None
"""Asks the user whether to do the steps again that have just been listed; None if nobody can be asked."""
_KINDS = {
    "create": "new encoder",
    "train": "training",
    "merge": "merge",
    "evaluate": "evaluation",
    "ensemble": "ensemble",
}
_OF_SEVERAL = {
    "has changed since it was read": "have changed since they were read",
    "is new": "are new",
    "differs from the file of this name that was read": "differ from the files of these names that were read",
}
"""What `Store.changed_inputs` says of a file, said of several."""
_MAX_FILES = 3
"""So many files are named."""


@dataclass
class Outdated:
    """The finished steps of a plan whose input files have changed, with the steps that depend on them."""

    plan: Plan
    store: Store
    steps_of: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))
    """The steps that were made from a file, by what happened to the file and its path."""

    @property
    def ids(self) -> list[str]:
        """All these steps, in the order of the plan."""
        return self._with_dependents(set().union(*self.steps_of.values()))

    def lines(self, rebuilt: Iterable[Step]) -> list[str]:
        """What has changed, and which steps have to be done again; `rebuilt` are those that only lost their encoder."""
        files: dict[str, dict[str, set[str]]] = defaultdict(dict)
        for (what, path), ids in self.steps_of.items():
            files[what][path] = ids
        lines = []
        for what, of in files.items():
            depend = self._counted(self._with_dependents(set().union(*of.values())))
            what, it = (what, "it") if len(of) == 1 else (_OF_SEVERAL[what], "them")
            lines.append(f"{listed(of, _MAX_FILES)}: {what}; made from {it}: {depend}")
        again = f"{self._counted(self.ids)} must be done again"
        if steps := {step.id for step in rebuilt}:
            again += f"; for them also {self._counted(steps)}, because encoders were not kept"
        others = {id for id in self.store.dependents(self.ids) if self.store.state(id).has_results} - {*self.plan.steps}
        if others:
            again += f"; the results of {counted(len(others), 'step')} of other recipes that start from these go"
        return [*lines, again]

    def _with_dependents(self, ids: Collection[str]) -> list[str]:
        found = dict[str, None]()
        for step in self.plan.steps.values():
            depends = not found.keys().isdisjoint(step.parents) and self.store.state(step.id).has_results
            if depends or step.id in ids:
                found[step.id] = None
        return [*found]

    def _counted(self, ids: Collection[str]) -> str:
        kinds = Counter[str]()
        for step in map(self.plan.steps.__getitem__, ids):
            kinds[step.kind] += len(step.scoring.languages) if step.scoring else 1  # as `Plan.evaluations` counts them
        return ", ".join(counted(kinds[kind], name) for kind, name in _KINDS.items() if kinds[kind])


def find_outdated(plan: Plan, store: Store, inputs: StepInputs, errors: Collector) -> Outdated:
    """Compare the input files of finished steps with the content that they had; a file's path and time do not matter.

    Skips the dependents of unfinished steps, which a run does again anyway.
    """
    found, unfinished = Outdated(plan, store), set[str]()
    for step in plan.steps.values():
        if store.state(step.id) is StepState.MISSING or not unfinished.isdisjoint(step.parents):
            unfinished.add(step.id)
        elif store.state(step.id).has_results:
            with errors.catch():
                for path, what in store.changed_inputs(step.id, current_files(inputs, step)).items():
                    found.steps_of[what, path].add(step.id)
    return found


def current_files(inputs: StepInputs, step: Step) -> Mapping[str, str]:
    """The sha256 of the existing files that a finished step would read now."""
    files: dict[str, str] = {}
    for located, _ in inputs.splits([step], Collector()):
        files |= located.files
    return files | inputs.encoder_files(step) | inputs.metric_files(step)
