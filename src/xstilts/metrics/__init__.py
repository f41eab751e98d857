"""Every metric by name, in percent but perplexity. A new one is an entry in labels.py, answers.py or retrieval.py.

Each takes the references of one task in one language beside the predictions, in the same order. They follow XTREME's
evaluate.py (google-research/xtreme, 838c13b); `docs/scoring.md` has the source of each, and says where the official
code differs.
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
    """Look a metric up by name; of a user's own, `module:function`, see `local.get`.

    Raises:
        UserError: for an unknown one.

    >>> get("accuracy").percent
    True
    """
    if local.NAME.fullmatch(name):
        return local.get(name)
    if name not in METRICS:
        raise UserError(f"there is no metric '{name}'", hint=nearest(name, METRICS))
    return METRICS[name]
