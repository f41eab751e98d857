"""YAML with strings only, no repeated keys, and every error with its line."""

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from xstilts.errors import UserError
from xstilts.utils.yaml import Document, load, user_errors


def written(tmp_path: Path, text: str) -> Document:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return load(path)


def test_scalars_stay_text_and_only_empty_ones_are_none(tmp_path: Path) -> None:
    document = written(tmp_path, "all: [no, on, 1e-5]\nday: 2020-01-01\na: ~\nb: null\nc:\nd: 'null'\nno: 012\n")
    texts = {"all": ["no", "on", "1e-5"], "day": "2020-01-01", "d": "null", "no": "012"}
    assert document.value == {**texts, "a": None, "b": None, "c": None}


def test_every_value_has_its_line_or_its_parents(tmp_path: Path) -> None:
    document = written(tmp_path, "# title\nname: x\nphases:\n  - name: a\n    choices: [[], [mnli]]\n  - {}\n")
    assert document.line(("name",)) == 2
    assert document.line(("phases", 0, "choices", 1)) == 5
    assert document.line(("phases", 1)) == 6
    assert document.line(("phases", 1, "absent", 3)) == 6
    assert document.line(("absent",)) == 2  # where the top begins


def test_anchors_aliases_and_merges(tmp_path: Path) -> None:
    document = written(tmp_path, "a: &all {x: 1, y: 2}\nb: *all\nc: {<<: *all, y: 3}\n")
    assert document.value["b"] == {"x": "1", "y": "2"}
    assert document.value["c"] == {"x": "1", "y": "3"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "yaml:3: 'a' is given twice, in line 1 and again in line 3"),
        ("a:\n  b: {c: 1, c: 2}\n", "yaml:2: 'c' is given twice"),
        ("a: 1\nb: [1,\n", "yaml:3: is not YAML: .* found '<stream end>'"),
        ("a:\n\t- x\n", "yaml:2: is not YAML"),
        ("a: 1\n---\nb: 2\n", "yaml:2: is not YAML: expected a single document"),
        ("a: b\nc: \x01\n", "yaml:2: is not YAML: special characters"),
        ("a: &x [*x]\n", "yaml:1: an anchor holds its own alias"),
        ("a: !include b.yaml\n", "yaml:1: the tag '!include' means nothing here"),
        ("? [a, b]\n: 1\n", "yaml:1: a key must be plain text"),
        ("- a\n", "yaml:1: must have lines like 'name: value'"),
        ("", "recipe.yaml: is empty"),
        ("# nothing\n", "recipe.yaml: is empty"),
    ],
)
def test_yaml_outside_the_strict_subset_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        written(tmp_path, text)


def test_broken_utf8_is_refused_with_its_line_and_a_bom_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: x\n")
    assert load(path).value == {"name": "x"}
    path.write_bytes(b"name: x\nnote: \xff\n")
    with pytest.raises(UserError, match="yaml:2: is not UTF-8"):
        load(path)


def test_a_missing_yaml_file_gets_a_suggestion(tmp_path: Path) -> None:
    written(tmp_path, "a: 1\n")
    with pytest.raises(UserError, match=r"recipy.yaml: no such file \(did you mean 'recipe.yaml'\?\)"):
        load(tmp_path / "recipy.yaml")
    with pytest.raises(UserError, match="no such file"):
        load(tmp_path / "nowhere" / "recipe.yaml")
    with pytest.raises(UserError, match="cannot be read"):
        load(tmp_path)


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Part(Strict):
    task: str
    weight: float = 1.0


def as_part(value: Any) -> Any:
    return {"task": value} if isinstance(value, str) else value


class Phase(Strict):
    name: str
    choices: tuple[tuple[Annotated[Part, BeforeValidator(as_part)], ...], ...] | None = None
    each: int | list[str] | Part | None = None
    precision: Literal["fp32", "bf16"] = "fp32"


class Recipe(Strict):
    lr: float = 1e-5
    batch: int = Field(default=24, ge=1)
    shuffle: bool = True
    phases: list[Phase] = Field(default=[], min_length=1)
    more: dict[str, Part] = {}

    @field_validator("lr")
    @classmethod
    def small(cls, value: float) -> float:
        if value > 1:
            raise ValueError("is too large")
        return value


def reported(tmp_path: Path, text: str) -> list[str]:
    document = written(tmp_path, text)
    with pytest.raises(ValidationError) as caught:
        Recipe.model_validate(document.value)
    return [str(error).removeprefix(f"{document.path}:") for error in user_errors(caught.value, Recipe, document)]


def test_text_is_converted_to_the_types_of_the_model(tmp_path: Path) -> None:
    document = written(tmp_path, "lr: 1e-5\nbatch: 24\nshuffle: no\nphases: [{name: no, choices: [[mnli]]}]\n")
    recipe = Recipe.model_validate(document.value)
    assert (recipe.lr, recipe.batch, recipe.shuffle, recipe.phases[0].name) == (1e-5, 24, False, "no")


def test_unknown_fields_get_a_suggestion_from_their_model(tmp_path: Path) -> None:
    text = "btach: 2\nphases:\n- name: a\n  choicess: []\n- name: b\n  choices: [[mnli, {task: x, wieght: 2}]]\n"
    assert reported(tmp_path, text) == [
        "1: btach: not a field of Recipe (did you mean 'batch'?)",
        "4: phases[0].choicess: not a field of Phase (did you mean 'choices'?)",
        "6: phases[1].choices[0][1].wieght: not a field of Part (did you mean 'weight'?)",
    ]


def test_wrong_values_are_reported_in_plain_words(tmp_path: Path) -> None:
    text = "lr: fast\nbatch: 1.5\nshuffle: perhaps\nphases:\n- precision: fp16\n  choices: mnli\nmore: {a: [b]}\n"
    assert reported(tmp_path, text) == [
        "1: lr: needs a number, got 'fast'",
        "2: batch: needs a whole number, got '1.5'",
        "3: shuffle: needs true or false, got 'perhaps'",
        "5: phases[0].name: is missing",
        "5: phases[0].precision: needs 'fp32' or 'bf16', got 'fp16'",
        "6: phases[0].choices: needs a list, got 'mnli'",
        "7: more.a: needs a mapping, got a list",
    ]


def test_limits_and_validators_keep_their_messages(tmp_path: Path) -> None:
    assert reported(tmp_path, "lr: 3\nbatch: 0\nphases: []\n") == [
        "1: lr: is too large",
        "2: batch: should be greater than or equal to 1, got '0'",
        "3: phases: needs at least 1 item, got 0",
    ]


def test_a_union_reports_one_error(tmp_path: Path) -> None:
    text = "phases:\n- {name: a, each: x}\n- {name: b, each: [x, [y]]}\n- {name: c, each: {tsk: x}}\n"
    assert reported(tmp_path, text) == [
        "2: phases[0].each: needs a whole number or a list or a mapping, got 'x'",
        "3: phases[1].each[1]: needs text, got a list",
        "4: phases[2].each.tsk: not a field of Part (did you mean 'task'?)",
    ]


def test_a_part_of_a_document_keeps_its_line(tmp_path: Path) -> None:
    document = written(tmp_path, "tasks:\n  mine:\n    task: x\n    weight: much\n")
    with pytest.raises(ValidationError) as caught:
        Part.model_validate(document.value["tasks"]["mine"])
    (error,) = user_errors(caught.value, Part, document, ("tasks", "mine"))
    assert error.where == f"{document.path}:4: tasks.mine.weight"
