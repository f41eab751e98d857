"""Finds the pending steps of a plan, those whose removed encoders are needed again among them; loads no torch."""

from __future__ import annotations

from collections.abc import Collection

from xstilts.execution.retention import RecipeNeeds, target_of
from xstilts.store.run_folder import Store
from xstilts.store.step_record import StepState
from xstilts.study.plan import Plan
from xstilts.study.step import Step


def pending_steps(plan: Plan, store: Store, redo: Collection[str] = ()) -> list[Step]:
    """The unfinished steps and those to redo, their dependents, and steps whose removed encoders are needed again."""
    pending = {*redo}
    for step in plan.steps.values():
        if not pending.isdisjoint(step.parents) or store.state(step.id) is StepState.MISSING:
            pending.add(step.id)
    kept = _best_runs(plan, store, pending) if plan.recipe.keep == "best" else set()
    for step in reversed(plan.steps.values()):  # removed encoders that are needed again
        if (plan.keeps_encoder(step) or step.id in kept) and store.state(step.id) is not StepState.DONE:
            pending.add(step.id)
        if step.id in pending:
            pending |= {id for id in plan.encoder_inputs(step) if store.state(id) is not StepState.DONE}
    return [step for id, step in plan.steps.items() if id in pending]


def repeated_steps(plan: Plan, store: Store) -> list[str]:
    """The pending steps that were finished before, and whose encoders were removed."""
    return [step.id for step in pending_steps(plan, store) if store.state(step.id) is not StepState.MISSING]


def _best_runs(plan: Plan, store: Store, pending: Collection[str]) -> set[str]:
    """The steps whose encoders are the best runs of the targets that have all their scores."""
    recipe = RecipeNeeds(store, plan.study())
    waiting = {target_of(cell) for cell in plan.cells if cell.step in pending}
    best = [recipe.best(task) for task in recipe.targets if task not in waiting]
    return {id for steps in best if steps for id in recipe.study.steps[steps[0]]}
