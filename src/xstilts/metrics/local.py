"""Metrics from a user's own Python file, named `module:function`; loaded only if the recipe trusts the module."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from hashlib import sha256
from importlib import import_module
from math import isfinite
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from xstilts.errors import StepFailed, UserError, nearest
from xstilts.metrics.metric import Metric

NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
"""`module:function`."""

_LOADED: dict[str, Metric] = {}


def get(name: str) -> Metric:
    """The loaded metric, or else one (percent, higher is better) that reports can name but that cannot score."""
    return _LOADED.get(name) or Metric(name, function=_unloaded)


def _unloaded(*_: object) -> NoReturn:
    raise UserError("the recipe does not trust the metric's code", hint="see `trust_local_code` in docs/recipes.md")


def load(name: str, folder: Path) -> dict[str, str]:
    """Run the code of a metric's module, so that `get` returns the metric. Call it only with the user's consent.

    Args:
        name: `module:function`.
        folder: searched for the module's file before the installed modules.

    Returns:
        The module's file, with its sha256.

    Raises:
        UserError: the module or the function is missing or cannot be used.
    """
    module_name, _, function_name = name.partition(":")
    path = folder / f"{module_name}.py"
    try:
        module, file, source = _from_file(path) if path.is_file() else _installed(module_name)
    except (Exception, SystemExit) as error:
        missing = isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}.")
        if missing and not path.is_file():
            message = f"there is neither a file {path} nor an installed module '{module_name}'"
            raise UserError(message) from error
        raise UserError(f"the module '{module_name}' cannot be loaded: {_described(error)}") from error
    member = vars(module).get(function_name)
    if isinstance(member, Metric):
        if not (member.percent and member.higher_is_better) or member.by_language:
            raise UserError(f"{name} must be in percent, higher is better, the same for all languages")
    elif not callable(member):
        functions = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise UserError(f"{file} has no function '{function_name}'", hint=nearest(function_name, functions))
    _LOADED[name] = Metric(name, function=_checked(name, member.score if isinstance(member, Metric) else member))
    return {file: sha256(source).hexdigest()}


def _from_file(path: Path) -> tuple[ModuleType, str, bytes]:
    """Load a file as it is now; Python's own import might take its earlier bytecode."""
    source, module = path.read_bytes(), ModuleType(f"xstilts_local_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look the module up there
    exec(compile(source, path, "exec"), vars(module))
    return module, str(path), source


def _installed(name: str) -> tuple[ModuleType, str, bytes]:
    module = import_module(name)
    file = module.__file__ or name
    return module, file, Path(file).read_bytes()


def _checked(name: str, score: Callable[..., Any]) -> Callable[[Sequence[Any], Sequence[Any]], float]:
    """Wrap the function; its failure fails the step."""

    def function(references: Sequence[Any], predictions: Sequence[Any]) -> float:
        try:
            value = float(score(references, predictions))
        except Exception as error:
            raise StepFailed(f"the metric {name} failed: {_described(error)}") from error
        if not isfinite(value):
            raise StepFailed(f"the metric {name} returned {value}, which is not a score")
        return value

    return function


def _described(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
