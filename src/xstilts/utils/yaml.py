"""Reads YAML in which scalars stay text and keys are unique; every mistake has a file and a line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from xstilts.errors import UserError, nearest

KeyPath: TypeAlias = tuple[str | int, ...]
"""The keys and list positions that lead from the top of a document to a value."""

MAX_VALUES = 100_000
"""Values in a file, at most."""

_PLACEHOLDER = re.compile(r"\{(lang3?|[Ll]anguage)\}")
_OTHER_NAMES = {"learning_rate": "lr", "batch_size": "batch", "num_epochs": "epochs", "num_train_epochs": "epochs",
                "max_steps": "steps"}  # fmt: skip
"""What other tools call a setting."""

_TAG = "tag:yaml.org,2002:"
_MISSING = "is missing"

_KINDS = {
    "a whole number": ("int_type", "int_parsing", "int_parsing_size", "int_from_float"),
    "a number": ("float_type", "float_parsing"),
    "true or false": ("bool_type", "bool_parsing"),
    "text": ("string_type",),
    "a list": ("list_type", "tuple_type", "set_type", "frozen_set_type"),
    "a mapping": ("dict_type", "mapping_type", "model_type", "model_attributes_type"),
}
_NEEDED = {error: kind for kind, errors in _KINDS.items() for error in errors}


class KeyPathError(ValueError):
    """A validator's error about a part of its value: a message, and the path from the value to the part."""

    def __init__(self, message: str, *key_path: str | int) -> None:
        super().__init__(message)
        self.key_path = key_path


@dataclass(frozen=True)
class Document:
    """A YAML file, or a mapping of Python: its value (nested dict, list, str and None) and the line of each part.

    A mapping has no lines, and its `path` is what messages call it, in the folder that its relative paths start from.
    """

    path: Path
    value: dict[str, Any]
    lines: dict[KeyPath, int]
    moved: Mapping[str, KeyPath] = field(default_factory=dict)
    """The path in the file of each key that is not at its top."""

    @property
    def text(self) -> str:
        """The file as it was written; of a mapping, the YAML that means the same."""
        if self.lines:
            return self.path.read_text(encoding="utf-8")
        return yaml.safe_dump(self.value, sort_keys=False, allow_unicode=True)

    def line(self, key_path: KeyPath) -> int:
        """The line of a key or list item, or of its nearest parent in the file."""
        key_path = self._in_file(key_path)
        while key_path and key_path not in self.lines:
            key_path = key_path[:-1]
        return self.lines.get(key_path, 0)

    def where(self, key_path: KeyPath) -> str:
        """File, line and path for a message: `recipe.yaml:4: phases[0].choices`."""
        line = f":{self.line(key_path)}" if self.lines else ""
        return f"{self.path}{line}" + (f": {dotted(self._in_file(key_path))}" if key_path else "")

    def origin(self, key_path: KeyPath) -> str:
        """File and line of a value, as `plan` says where it comes from: `study.yaml, line 4`."""
        return f"{self.path.name}, line {self.line(key_path)}" if self.lines else f"your {self.path.name}"

    def _in_file(self, key_path: KeyPath) -> KeyPath:
        return (*self.moved.get(str(key_path[0]), ()), *key_path) if key_path else ()


def dotted(key_path: KeyPath) -> str:
    """Write a path with dots and brackets.

    >>> dotted(("phases", 0, "choices"))
    'phases[0].choices'
    """
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in key_path).removeprefix(".")


def load(path: Path) -> Document:
    """Read a YAML file whose top is a mapping.

    Raises:
        UserError: no such file, not UTF-8, not YAML, empty, no mapping at the top, or a key given twice.
    """
    text = _text(path)
    try:
        top = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = ", ".join(part for part in (error.context, error.problem) if part)
        places = _PLACEHOLDER.finditer("".join(text.splitlines()[mark.line : mark.line + 1])) if mark else ()
        bare = next((place[0] for place in places if mark and mark.column in place.span()), "")
        hint = f"put the path with {bare} in quotes" if bare else ""
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise UserError(f"is not YAML: {what}", where=where, hint=hint) from error
    except RecursionError as error:
        raise UserError("is nested too deep", where=str(path)) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UserError(f"is not YAML: {error.reason}", where=f"{path}:{line}") from error
    if top is None:
        raise UserError("is empty", where=str(path))
    if not isinstance(top, yaml.MappingNode):
        raise UserError("must have lines like 'name: value'", where=f"{path}:{top.start_mark.line + 1}")
    reader = _Reader(path)
    try:
        return Document(path, reader.value(top, ()), reader.lines)
    except RecursionError as error:
        raise UserError("is nested too deep", where=str(path)) from error


def from_mapping(value: Mapping[str, Any], name: str) -> Document:
    """A mapping of Python as a document that means what the same YAML means; paths start from the working directory.

    Raises:
        UserError: a value is no text, number, list or mapping.

    >>> from_mapping({"lr": 1e-5, "seeds": (1, 2), "text": None, "best": True}, "recipe").value
    {'lr': '1e-05', 'seeds': ['1', '2'], 'text': None, 'best': 'true'}
    """
    document = Document(Path(name), {}, {})
    try:
        return replace(document, value=_plain(dict(value), document, ()))
    except RecursionError as error:
        raise UserError("is nested too deep", where=name) from error


def _plain(value: Any, document: Document, key_path: KeyPath) -> Any:
    """A value of Python as YAML would read it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part, document, (*key_path, str(key))) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part, document, (*key_path, i)) for i, part in enumerate(value)]
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Integral | PathLike):
        return str(value)
    if isinstance(value, Real):
        return repr(float(value))
    needs = f"needs text, a number, a list or a mapping, got {type(value).__name__}"
    raise UserError(needs, where=document.where(key_path))


def nearest_file(path: Path) -> str:
    """A hint: the YAML file in the folder with the most similar name."""
    return nearest(path.name, [file.name for file in path.parent.glob("*.y*ml")])


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        if path.is_symlink():
            raise UserError("is a link to a file that is not there", where=str(path)) from None
        raise UserError("no such file", where=str(path), hint=nearest_file(path)) from None
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except ValueError as error:
        raise UserError("is no path", where=repr(str(path))) from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError("is not UTF-8 text", where=f"{path}:{line}") from error


class _Reader:
    """Turns the nodes of a file into values, and notes their lines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[KeyPath, int] = {}
        self.open: list[yaml.Node] = []
        self.count = 0

    def fail(self, message: str, node: yaml.Node) -> UserError:
        return UserError(message, where=f"{self.path}:{node.start_mark.line + 1}")

    def value(self, node: yaml.Node, key_path: KeyPath) -> Any:
        if not str(node.tag).startswith(_TAG):
            raise self.fail(f"the tag '{node.tag}' means nothing here", node)
        if any(node is parent for parent in self.open):
            raise self.fail("an anchor holds its own alias", node)
        self.count += 1
        if self.count > MAX_VALUES:
            raise self.fail(f"holds more than {MAX_VALUES} values, with those that aliases repeat", node)
        self.lines.setdefault(key_path, node.start_mark.line + 1)
        if isinstance(node, yaml.ScalarNode):
            if any("\ud800" <= letter <= "\udfff" for letter in node.value):
                raise self.fail("holds half a character (a lone surrogate)", node)
            return None if node.tag == _TAG + "null" else node.value
        self.open.append(node)
        if isinstance(node, yaml.MappingNode):
            value: Any = self.mapping(node, key_path)
        else:
            value = [self.value(item, (*key_path, index)) for index, item in enumerate(node.value)]
        self.open.pop()
        return value

    def mapping(self, node: yaml.MappingNode, key_path: KeyPath) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self.fail("a key must be plain text", key)
            line = key.start_mark.line + 1
            if key.value in own:
                both = f"in line {self.lines[*key_path, key.value]} and again in line {line}"
                raise self.fail(f"'{key.value}' is given twice, {both}", key)
            if key.tag == _TAG + "merge":  # `<<: *anchor`: keys of the mapping itself win, then the first merged one
                for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    if not isinstance(source, yaml.MappingNode):
                        raise self.fail("'<<' takes a mapping", value)
                    merged = self.value(source, key_path) | merged
            else:
                self.lines[*key_path, key.value] = line
                own[key.value] = self.value(value, (*key_path, key.value))
        return merged | own


def user_errors(
    error: ValidationError, model: type[BaseModel], document: Document, at: KeyPath = ()
) -> list[UserError]:
    """The mistakes that pydantic found, with their lines and in plain words.

    Args:
        error: what validating `model` raised.
        model: the model that was to be made.
        document: where the values came from.
        at: the part of the document that was validated.
    """
    problems: dict[KeyPath, list[_Problem]] = {}
    for details in error.errors(include_url=False):
        key_path, models = _follow(details, model, document, at)
        problems.setdefault(key_path, []).append(_explain(details, models))
    hints = {(*key_path[:-1], reason.hint) for key_path, reasons in problems.items() for reason in reasons}
    found = []
    for key_path, reasons in sorted(problems.items(), key=lambda item: document.line(item[0])):
        if reasons[0].message == _MISSING and (*key_path[:-1], f"did you mean '{key_path[-1]}'?") in hints:
            continue  # a misspelt key is one mistake
        exact = [reason for reason in reasons if not reason.needs]
        deeper = any(len(other) > len(key_path) and other[: len(key_path)] == key_path for other in problems)
        # Each branch of a union reports its mistakes; those of another kind of value are dropped if one got further.
        # Pydantic also calls a list too short if its items are wrong.
        if not exact and not deeper:
            needs = " or ".join(dict.fromkeys(reason.needs for reason in reasons))
            exact = [_Problem(f"needs {needs}, got {reasons[0].got}")]
        found += [UserError(reason.message, where=document.where(key_path), hint=reason.hint) for reason in exact]
    return list({str(one): one for one in found}.values())


@dataclass(frozen=True)
class _Problem:
    message: str = ""
    hint: str = ""
    needs: str = ""
    """The kind of value that the field needs, if it got another kind."""
    got: str = ""


def _explain(details: ErrorDetails, models: list[type[BaseModel]]) -> _Problem:
    kind, got, context = details["type"], _shown(details["input"]), details.get("ctx", {})
    if kind == "extra_forbidden":
        names = " or ".join(model.__name__ for model in models)
        fields = {name: field.annotation for model in models for name, field in model.model_fields.items()}
        key = _OTHER_NAMES.get(key := str(details["loc"][-1]), key)
        holders = [name for name, type_ in fields.items() if key in getattr(type_, "model_fields", ())]
        hint = f"write `{holders[0]}: {{{key}: ...}}`" if holders else nearest(key, fields)
        return _Problem(f"not a field of {names}", hint=hint)
    if kind == "missing":
        return _Problem(_MISSING)
    if kind == "literal_error":
        return _Problem(needs=context["expected"], got=got)
    if kind in _NEEDED:
        return _Problem(needs=_NEEDED[kind], got=got)
    if kind == "too_short":
        items = "1 item" if context["min_length"] == 1 else f"{context['min_length']} items"
        return _Problem(needs=f"at least {items}", got=str(context["actual_length"]))
    if "error" in context:  # a validator's own message
        return _Problem(str(context["error"]))
    return _Problem(re.sub(r"^[A-Z]\w+ (?=should)", "", details["msg"]) + f", got {got}")


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict | list | tuple):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _follow(
    details: ErrorDetails, model: type[BaseModel], document: Document, at: KeyPath
) -> tuple[KeyPath, list[type[BaseModel]]]:
    """The path in the document for a location of pydantic, and the models that its last mapping may be.

    A location also names branches of unions and parts that a validator made, which are not in the document.
    """
    value: Any = document.value
    for step in at:
        value = value[step]
    key_path, models, keys = at, [model], set[str]()
    for step in details["loc"]:
        fields = [one.model_fields[str(step)].annotation for one in models if step in one.model_fields]
        inner = [part for annotation in fields for part in _models(annotation)]
        models = [one for one in models if one.__name__ == step] or inner or models
        known = range(len(value)) if isinstance(value, list) else value if isinstance(value, dict) else ()
        keys = set(value) if isinstance(value, dict) else keys
        if step in known:
            key_path, value = (*key_path, step), value[step]
    if details["type"] == "missing":
        key_path = (*key_path, details["loc"][-1])
    if isinstance(error := details.get("ctx", {}).get("error"), KeyPathError):
        key_path = (*key_path, *error.key_path)
    return key_path, [one for one in models if one.model_fields.keys() & keys] or models


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models anywhere in a type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]
