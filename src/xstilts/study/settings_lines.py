"""Shows the settings of a plan's trainings, each value with where it comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from xstilts.study.defaults import is_labelled
from xstilts.study.plan import Plan
from xstilts.training.settings import MAX_INTERVAL, MIN_EVALUATIONS, RULES, STOP_EXAMPLES, Mixing, TrainSpec, as_written

_Item: TypeAlias = tuple[str, str]
"""A setting with its value, and where it comes from."""


def settings_lines(plan: Plan) -> Iterator[str]:
    """The settings of each training; those that all trainings have come first, once."""
    trained: dict[tuple[str, tuple[_Item, ...]], dict[str, None]] = {}
    for step in plan.steps.values():
        if step.training is not None:
            labelled = [part.batch for part in step.parts if is_labelled(plan.tasks[part.task])]
            phase, _, mixture = step.heading.rpartition(": ")
            if (name := plan.tasks[step.parts[0].task].name) != step.parts[0].task:
                mixture = f"{name} in each language"
            items = tuple(_items(step.training, step.origins, labelled))
            trained.setdefault((phase, items), {})[mixture] = None
    each = [items for _, items in trained]
    shared = [item for item in each[0] if all(item in items for items in each)] if len(each) > 1 else []
    if shared:
        yield f"all trainings: {_joined(shared)}"
    for (phase, items), mixtures in trained.items():
        if own := [item for item in items if item not in shared]:
            yield f"{phase}: {', '.join(mixtures)}: {_joined(own)}"


def _items(spec: TrainSpec, origins: Mapping[str, str], batches: Sequence[int]) -> Iterator[_Item]:
    """The settings of a training; `batches` are those of its labelled tasks."""
    yield f"lr {as_written(spec.lr)}", origins["lr"]
    if spec.steps is not None:
        yield f"steps {spec.steps:,}", origins["steps"]
    for name in ("epochs", "batch", "max_length", "shots") if spec.steps is None else ("batch", "max_length", "shots"):
        yield from _task_items(spec, name, origins)
    if spec.mixing is not None:
        named = [name for name, fields in RULES.items() if spec.mixing == Mixing(**fields)]
        yield f"mixing {named[0] if named else spec.mixing}", origins["mixing"]
    for name in ("warmup", "weight_decay"):
        yield f"{name} {as_written(getattr(spec, name))}", origins[name]
    yield f"precision {spec.precision}", origins["precision"]
    if batches:
        yield f"weights {spec.weights}", origins["weights"]
    if batches and spec.weights == "best":
        yield f"patience {spec.patience}", origins["patience"]
        yield _interval(spec, batches), origins.get("eval_every", "default")


def _interval(spec: TrainSpec, batches: Sequence[int]) -> str:
    """How often a training scores its dev examples."""
    if spec.eval_every is not None:
        share = STOP_EXAMPLES * len(batches) / (spec.eval_every * min(batches))
        return f"eval_every {spec.eval_every:,}: at most {100 * share:.0f} % as many dev as training examples"
    every = f"eval_every: {MIN_EVALUATIONS} times in a training, at least every {MAX_INTERVAL:,} updates"
    if spec.dev_share is None:
        return every
    return f"{every}; fewer if dev examples would pass {100 * spec.dev_share:.0f} % of the training examples"


def _task_items(spec: TrainSpec, name: str, origins: Mapping[str, str]) -> Iterator[_Item]:
    """A setting of each task; one that all tasks share is shown once."""
    parts = [part for part in spec.parts if getattr(part, name) and (name != "epochs" or not part.raw_text)]
    if not parts:
        return
    values = [(part.task, f"{name} {getattr(part, name):,}", origins[f"{part.task}.{name}"]) for part in parts]
    if len({value[1:] for value in values}) == 1:
        values = [("", *values[0][1:])]
    yield from ((f"{task} {text}".strip(), origin) for task, text, origin in values)


def _joined(items: Sequence[_Item]) -> str:
    """Settings, those of one origin together: `lr 2e-5, batch 16 (study.yaml, line 4)`."""
    by_origin: dict[str, list[str]] = {}
    for text, origin in items:
        by_origin.setdefault(origin, []).append(text)
    return "; ".join(f"{', '.join(texts)} ({origin})" for origin, texts in by_origin.items())
