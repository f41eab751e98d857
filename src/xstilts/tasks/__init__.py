"""The catalogue of built-in tasks, and groups of them."""

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
"""Names for several tasks in `each` and `evaluate`: the paper's nine intermediate tasks, and the benchmarks."""

INTERMEDIATE = "mnli"
"""The intermediate task of a first recipe."""

PAPER_TABLES = dict.fromkeys((*GROUPS["intermediate"], "masked-text"), "paper, Table 4") | dict.fromkeys(
    GROUPS["xtreme"], "paper, Table 5"
)
"""The tables of the paper with the batch and epochs of its tasks."""

WITH_MORE_LANGUAGES = ("xtreme-r",)
"""Groups whose tasks are also scored in their `more_languages`."""

RESERVED_NAMES = ("none", "all", *GROUPS)
"""Names of branches or groups, which no task can have."""
