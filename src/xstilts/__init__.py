"""X-STILTs: intermediate-task training and zero-shot cross-lingual transfer.

These are the public names. Each is loaded on first use, so that importing the package is fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from xstilts.utils.version import __version__

if TYPE_CHECKING:
    from xstilts.errors import UserError
    from xstilts.formats.base import Format
    from xstilts.metrics import METRICS
    from xstilts.model.encoder import Encoder
    from xstilts.predict.predictor import Predictor, load
    from xstilts.study.recipe import Recipe
    from xstilts.tasks import TASKS
    from xstilts.tasks.task import Task

__all__ = [
    "METRICS", "TASKS", "Encoder", "Format", "Predictor", "Recipe", "Task", "UserError", "__version__", "load",
]  # fmt: skip

_MODULES = {
    "METRICS": "metrics", "TASKS": "tasks", "Encoder": "model.encoder", "Format": "formats.base",
    "Predictor": "predict.predictor", "Recipe": "study.recipe", "Task": "tasks.task", "UserError": "errors",
    "load": "predict.predictor",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'xstilts' has no attribute '{name}'")
    return getattr(import_module(f"xstilts.{_MODULES[name]}"), name)
