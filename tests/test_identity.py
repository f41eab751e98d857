"""Identities: a new field at its default changes no step id, and any other value does."""

from collections.abc import Iterator
from typing import Any

from pydantic import create_model

from xstilts.formats import FORMATS
from xstilts.model.shape import NewEncoder
from xstilts.study.load import read
from xstilts.study.plan import Plan, plan
from xstilts.study.recipe import Recipe
from xstilts.tasks import TASKS
from xstilts.tasks.source import File, Source
from xstilts.training.settings import Mixing
from xstilts.utils.models import Strict

MERGES: dict[str, Any] = {
    "name": "merges", "encoder": "some/encoder", "seeds": [1, 2], "evaluate": ["pawsx", "copa", "lareqa"],
    "phases": [
        {"name": "middle", "choices": [{"merge": [["mnli"], ["qqp"]], "how": "vectors", "scale": 0.4}]},
        {"name": "target", "each": ["pawsx", "copa"], "average": "both"},
    ],
}  # fmt: skip


def studies() -> list[Plan]:
    recipes = [read(name) for name in ("quickstart", "paper-table2", "multi-task")]
    return [plan(*recipe) for recipe in recipes] + [plan(Recipe.model_validate(MERGES), TASKS)]


def models(value: Any) -> Iterator[Strict]:
    """A value's typed models, itself included, at any depth."""
    if isinstance(value, Strict):
        yield value
        yield from models([getattr(value, name) for name in type(value).model_fields])
    elif isinstance(value, tuple | list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from models(part)


def hashed() -> dict[type[Strict], Strict]:
    """An example of every typed model that the ids of steps depend on, by its class."""
    found: dict[type[Strict], Strict] = {}
    for study in studies():
        for step in study.steps.values():
            parts = [step.training, step.scoring, step.merging, step.new]
            found |= {type(model): model for part in parts for model in models(part)}
    for task in TASKS.values():
        found |= {type(model): model for model in models([task.format, task.data])}
    return found


def test_a_new_field_at_its_default_changes_no_step_id() -> None:
    found = hashed()
    assert {File, Source, NewEncoder, Mixing, *FORMATS.values()} < found.keys() and len(found) >= 14
    for kind, model in found.items():
        wider: type[Any] = create_model(kind.__name__, __base__=kind, new_word=(int, 7))
        given = {name: getattr(model, name) for name in model.model_fields_set}
        assert wider(**given).identity() == model.identity()
        assert wider(**given, new_word=8).identity() != model.identity()


def test_a_value_that_differs_from_the_default_is_in_the_identity() -> None:
    shape = NewEncoder(text="play-text", layers=3)
    assert shape.identity() == {"text": "play-text", "layers": 3}
    assert NewEncoder(text="play-text", layers=2).identity() == {"text": "play-text"}
