"""X-STILTs: intermediate-task training and zero-shot cross-lingual transfer.

These are the public names; docs/python.md describes them. Each is loaded on first use, so that importing the package is
fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from xstilts.utils.version import __version__

if TYPE_CHECKING:
    from xstilts.api import plan, run
    from xstilts.errors import UserError
    from xstilts.metrics import METRICS, Metric
    from xstilts.predict.export import export
    from xstilts.predict.predictor import Predictor, load
    from xstilts.reports.report import Report, report
    from xstilts.study.load import load_recipe
    from xstilts.study.recipe import Recipe
    from xstilts.tasks.task import Task
    from xstilts.utils.progress import StepProgress

__all__ = [
    "METRICS", "Metric", "Predictor", "Recipe", "Report", "StepProgress", "Task", "UserError", "__version__", "export",
    "load", "load_recipe", "plan", "report", "run",
]  # fmt: skip

_MODULES = {
    "METRICS": "metrics", "Metric": "metrics", "Predictor": "predict.predictor", "Recipe": "study.recipe",
    "Report": "reports.report", "StepProgress": "utils.progress", "Task": "tasks.task", "UserError": "errors",
    "export": "predict.export", "load": "predict.predictor", "load_recipe": "study.load", "plan": "api",
    "report": "reports.report", "run": "api",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'xstilts' has no attribute '{name}'")
    return getattr(import_module(f"xstilts.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
