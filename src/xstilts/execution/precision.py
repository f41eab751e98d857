"""Refuses to continue a study with `precision: auto` in another precision than that of its finished steps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

from xstilts.compute.device import device, effective_precision
from xstilts.errors import UserError, counted
from xstilts.store.run_folder import Store
from xstilts.study.plan import Plan
from xstilts.study.step import Step

EARLIER = "fp32"
"""The precision of `auto` in steps that record none."""


def precision_of(step: Step) -> str:
    """The precision in which this device does a step; empty for a step without forward passes of its own."""
    spec = step.training or step.scoring
    return effective_precision(device(), spec.precision) if spec else ""


def _is_automatic(step: Step) -> bool:
    spec = step.training or step.scoring
    return spec is not None and spec.precision == "auto"


def check_precision(pending: Sequence[Step], plan: Plan, store: Store) -> None:
    """Check that steps with `auto` get the precision of the plan's finished ones, so that scores are comparable.

    Raises:
        UserError: this device has another one.
    """
    left = {step.id for step in pending}
    if any(map(_is_automatic, pending)):
        _compare([step for step in plan.steps.values() if _is_automatic(step) and step.id not in left], store)


def check_step(step: Step, plan: Plan, store: Store) -> None:
    """Check one step likewise, by the first finished one: other workers and runs may have begun on other devices.

    Raises:
        UserError: this device has another precision.
    """
    if _is_automatic(step):
        others = (one for one in plan.steps.values() if _is_automatic(one) and one.id != step.id)
        _compare(islice((one for one in others if store.state(one.id).has_results), 1), store)


def _compare(finished: Iterable[Step], store: Store) -> None:
    now = effective_precision(device(), "auto")
    before = [store.facts(step.id).get("precision", EARLIER) for step in finished]
    if others := [precision for precision in before if precision != now]:
        what = f"auto is {now} on this device, but {others[0]} in {counted(len(others), 'finished step')} of the study"
        hint = f"`precision: {others[0]}` in the recipe, or another --out, runs these steps anew"
        if now == "bf16":
            hint += "; XSTILTS_DEVICE=cpu goes on as before"
        raise UserError(what, where="precision", hint=hint)
