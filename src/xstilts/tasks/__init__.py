"""The catalogue of tasks, and the door through which a user's own tasks come in."""

from __future__ import annotations

from xstilts.languages import codes
from xstilts.tasks import choice, pairs, play, questions, retrieval, tagging, text
from xstilts.tasks.task import Task

_MODULES = (pairs, choice, tagging, questions, retrieval, text, play)
TASKS: dict[str, Task] = {task.name: task for module in _MODULES for task in module.CATALOGUE}

GROUPS: dict[str, tuple[str, ...]] = {
    "intermediate": codes("anli-plus mnli qqp squad2 squad1 hellaswag ccg cosmosqa commonsenseqa"),
    "xtreme": codes("xnli pawsx udpos panx xquad mlqa tydiqa bucc2018 tatoeba"),
    "xtreme-r": codes("xnli xcopa udpos panx xquad mlqa tydiqa tatoeba mewslix lareqa"),
    "playground": play.TARGETS,
}
"""Names that stand for several tasks in `each` and `evaluate`: the paper's nine intermediate tasks, the benchmarks."""

WIDE = ("xtreme-r",)
"""Groups whose tasks are scored in their `more_languages` too."""

TAKEN = ("none", "all", *GROUPS)
"""Names that no task can have: those of branches without a choice, and of groups."""
