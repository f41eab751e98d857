"""Private names of transformers that this package needs, each behind a function of its own."""

from __future__ import annotations

from typing import Any


def has_model(auto: Any, config: Any) -> bool:
    """Whether an `AutoModelFor...` class has a model for a configuration."""
    return type(config) in auto._model_mapping
