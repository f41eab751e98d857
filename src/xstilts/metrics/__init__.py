"""Every metric by name, in percent except perplexity. Add one in labels.py, answers.py or retrieval.py.

Each takes references and predictions of one task in one language, in the same order. They follow XTREME's evaluate.py
(google-research/xtreme, 838c13b); `docs/scoring.md` has their sources and the differences to the official code.
"""

from __future__ import annotations

from xstilts.errors import UserError, nearest
from xstilts.metrics import answers, labels, local, retrieval
from xstilts.metrics.chance import at_chance
from xstilts.metrics.metric import Metric

__all__ = ["METRICS", "Metric", "at_chance", "get"]


METRICS: dict[str, Metric] = {**labels.METRICS, **answers.METRICS, **retrieval.METRICS}
"""Every metric that a task can name."""


def get(name: str) -> Metric:
    """Look up a metric by name; a user's own is `module:function`, see `local.get`.

    Raises:
        UserError: the name is unknown.

    >>> get("accuracy").percent
    True
    """
    if local.NAME.fullmatch(name):
        return local.get(name)
    if name not in METRICS:
        raise UserError(f"there is no metric '{name}'", hint=nearest(name, METRICS))
    return METRICS[name]
