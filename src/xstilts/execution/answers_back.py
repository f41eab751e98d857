"""Translates the answers of translated questions back, and finds them in the original texts (XTREME's appendix C)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from xstilts.errors import Collector, DataError
from xstilts.formats.base import Prediction, Probabilities
from xstilts.formats.span import Question
from xstilts.study.plan import Plan
from xstilts.study.step import Step
from xstilts.tasks.task import Task
from xstilts.translate.engine import Engine, EngineSpec
from xstilts.translate.projection import fuzzy_match
from xstilts.translate.translator import Translator
from xstilts.utils.progress import Progress


def open_back_engine(task: Task, language: str) -> Engine:
    """The engine from a task's training language to the language of the original texts.

    Raises:
        UserError: it is not installed, or does not know the languages.
    """
    back = task.translate_back
    assert back is not None
    spec = EngineSpec("command" if back.command else "hf", back.command, back.model)
    return spec.open(task.train_languages[0], language)


def check_back_engines(plan: Plan, steps: Iterable[Step], errors: Collector) -> None:
    """Note the programs that steps need and that are not installed; models are loaded only when a step runs."""
    wanted = {(step.scoring.task, code): None for step in steps if step.scoring for code in step.scoring.languages}
    for name, language in wanted:
        task = plan.tasks[name]
        if task.translate_back and task.translate_back.command and language not in task.train_languages:
            with errors.catch():
                open_back_engine(task, language)


class AnswersBack:
    """Takes the answers of one language back: translates each by itself, and takes the nearest part of the original.

    An answer without a match (see `fuzzy_match`) is empty, which counts as wrong.
    """

    def __init__(self, task: Task, language: str, folder: Path, progress: Progress) -> None:
        self._task, self._translator = task, Translator(open_back_engine(task, language), folder, progress)
        self.answers, self.not_found = 0, 0

    def originals(self, examples: Sequence[Any]) -> list[Question]:
        """The questions before their translation.

        Raises:
            DataError: a question has no original.
        """
        for example in examples:
            if example.original is None:
                message = f"the question {example.id} has no `original`, so its answer cannot be found there"
                raise DataError(message, where=self._task.name, hint="translate the test set again, `--to` English")
        return [example.original for example in examples]

    def translate(
        self, examples: Sequence[Any], predictions: Sequence[Prediction], probabilities: Sequence[Probabilities | None]
    ) -> tuple[list[Prediction], list[Probabilities | None]]:
        """The answers as parts of the original contexts; counts the best ones and those without a match."""
        originals = self.originals(examples)
        candidates = [
            list(dict.fromkeys(text for text in (best, *(others or ())) if text))
            for best, others in zip(predictions, probabilities, strict=True)
        ]
        with self._translator as translator:
            texts = iter(translator((text for some in candidates for text in some), probe=False))
        found = []
        for example, original, some in zip(examples, originals, candidates, strict=True):
            places = (example.context.find(text) / len(example.context) for text in some)
            found.append(
                {text: _find(next(texts), original.context, at) for text, at in zip(some, places, strict=True)}
            )
        self.answers += sum(map(bool, predictions))
        best_found = [of.get(best, "") for best, of in zip(predictions, found, strict=True)]
        self.not_found += sum(bool(best) and not there for best, there in zip(predictions, best_found, strict=True))
        return list(best_found), [
            None if each is None else _summed(each, of) for each, of in zip(probabilities, found, strict=True)
        ]


def _find(answer: str, context: str, where: float) -> str:
    span = fuzzy_match(answer, context, where)
    return context[span[0] : span[1]] if span else ""


def _summed(probabilities: Probabilities, found: dict[str, str]) -> Probabilities:
    """The probabilities of the original answers; equal ones add up."""
    total = Counter[str]()
    for text, probability in probabilities.items():
        total[found.get(text, "")] += probability  # type: ignore[assignment]
    return dict(total)
