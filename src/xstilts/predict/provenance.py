"""Finds in a run folder how a trained model came about: its trainings, the study, the scores of its evaluations."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import TypeAdapter

from xstilts.analysis import aggregate
from xstilts.analysis.aggregate import SummaryLine
from xstilts.analysis.selection import SelectedRun, select
from xstilts.predict.model_folder import evaluations_of
from xstilts.store.rows import Score
from xstilts.store.run_folder import MARK, Store, open_existing
from xstilts.store.step_record import StepRecord, read_step
from xstilts.study.index import Cell, Study, StudyTask
from xstilts.tasks.references import TaskData
from xstilts.training.settings import TrainSpec
from xstilts.translate.card import FileCard, cards_of
from xstilts.utils.files import digest, read_json

_CACHED = re.compile(r"models--([^/]+?)--([^/]+)/snapshots/([0-9a-f]{40})")
"""The path of an encoder's file in the Hub's cache."""


@dataclass(frozen=True)
class StepFacts:
    """A step on the way to the model: what it did, and what its `done.json` says."""

    record: StepRecord
    spec: TrainSpec | None
    """The settings of a training."""
    facts: Mapping[str, Any]
    translations: tuple[FileCard, ...] = ()
    """The cards of the translated files that it has read."""


@dataclass(frozen=True)
class ScoreRow:
    """A score of the model, or a mean of them, with the numbers of all seeds of its branch.

    `language` may be `mean` or `zero-shot`; `over` then are the languages of the mean.
    """

    task: StudyTask
    metric: str
    language: str
    split: str
    value: float
    n: int
    chance: float | None
    all_seeds: SummaryLine
    over: tuple[str, ...] = ()


@dataclass(frozen=True)
class Provenance:
    """What is known of a model. A copy of a step outside of its run folder has no scores and no study."""

    steps: tuple[StepFacts, ...] = ()
    """The model's own step last, those that it started from before it."""
    in_run_folder: bool = False
    study: Study | None = None
    """The newest recipe that evaluates the model."""
    cells: tuple[Cell, ...] = ()
    """Those of its evaluations in a branch of the study."""
    evaluations: tuple[StepFacts, ...] = ()
    """The steps of these cells."""
    scores: tuple[Score, ...] = ()
    """Of all models of the study."""
    encoder: str = ""
    """The encoder, if it is no step: a folder or Hub id."""
    task_data: Mapping[str, TaskData] = field(default_factory=dict)
    """Where the data of each task come from, in the newest recipe that trains the model and says it."""

    @property
    def complete(self) -> bool:
        """Whether the steps that it started from are known, too."""
        return self.in_run_folder or not (self.steps and self.steps[0].record.parent_ids)

    @cached_property
    def base(self) -> tuple[str, str]:
        """The pretrained encoder on the Hub, and its commit if that is known; both empty if it is not from there."""
        files = [self.encoder, *(file for step in self.steps for file in step.facts.get("inputs", {}))]
        if found := next((match for file in files if (match := _CACHED.search(file))), None):
            return f"{found[1]}/{found[2]}", found[3]
        is_hub_id = bool(self.encoder) and not Path(self.encoder).exists()
        return (self.encoder.partition("@")[0], "") if is_hub_id else ("", "")

    @property
    def base_folder(self) -> str:
        """The name of the folder of the pretrained encoder; empty if it is from the Hub, made here, or not known."""
        if self.base[0] or any(step.record.kind == "create" for step in self.steps):
            return ""
        mine = {cell.step for cell in self.cells}
        names = (row.encoder for row in self.scores if row.step in mine)
        return Path(self.encoder or next(names, "")).name

    @property
    def trained_tasks(self) -> tuple[str, ...]:
        """The tasks of all its trainings, in order."""
        return tuple(dict.fromkeys(task for step in self.steps for task in step.record.trained_tasks))

    def data(self, task: str) -> TaskData | None:
        """Where the training data of a task come from; None if the run folder does not say it."""
        return self.task_data.get(task)

    def translations(self, task: str) -> list[FileCard]:
        """The cards of the translated files that trainings of a task have read."""
        trainings = (step for step in self.steps if task in step.record.trained_tasks)
        return _unique(card for step in trainings for card in step.translations)

    @cached_property
    def test_translations(self) -> list[FileCard]:
        """The cards of the translated files that its evaluations have read."""
        return _unique(card for step in self.evaluations for card in step.translations)

    @cached_property
    def score_rows(self) -> tuple[ScoreRow, ...]:
        """Its scores by task, metric and language, then the means over languages; test scores where there are some."""
        return tuple(self._score_rows()) if self.study else ()

    @property
    def left_out(self) -> Mapping[str, tuple[str, ...]]:
        """For each of its tasks the languages that no mean includes, because other runs lack them."""
        mine = {row.task.name for row in self.score_rows}
        summary = aggregate.build(self.study, self.scores, split="test") if self.study else None
        return {task: codes for task, codes in summary.left_out.items() if task in mine} if summary else {}

    def _score_rows(self) -> Iterator[ScoreRow]:
        assert self.study is not None
        branch, seed = self.cells[0].branch, self.cells[0].seed
        found, _ = aggregate.join(self.study, self.scores)
        lines = aggregate.build(self.study, self.scores, split="test").lines
        summary = {(x.task, x.metric, x.language): x for x in lines if x.branch == branch}
        for task, metric in ((x, metric) for x in self._tasks() for metric in x.metrics):
            shown = aggregate.scores_by_language(task, metric, found, "test")
            mine = {x: one for x in shown if (one := _of_run(shown[x].get(branch, {}), seed))}
            for language, score in mine.items():
                line = summary[task.name, metric, language]
                yield ScoreRow(task, metric, language, score.split, score.value, score.n, score.chance, line)
            whole = {x: mine[x] for x in aggregate.complete_languages(shown) if x in mine}
            for mean, over in aggregate.languages_of_means(task, whole).items():
                if len(over) > 1:
                    split = aggregate.plus_joined(score.split for score in over.values())
                    value, n = fmean(score.value for score in over.values()), sum(score.n for score in over.values())
                    line = summary[task.name, metric, mean]
                    yield ScoreRow(task, metric, mean, split, value, n, None, line, (*over,))

    def _tasks(self) -> Iterator[StudyTask]:
        """The tasks that its evaluations score; one that is trained in each language is that of its own."""
        assert self.study is not None
        mine = {cell.task: cell for cell in self.cells}
        for task in self.study.tasks:
            if cell := mine.get(task.name):
                yield task.in_language(cell.language) if cell.language else task

    def selected(self) -> Mapping[str, tuple[SelectedRun | None, int, bool]]:
        """For each target: the run that the dev scores select, of how many runs, and whether it is this one.

        The run is None if there are no dev scores. `english-dev` selects, or `dev`; see `selection.best_evaluations`.
        """
        found: dict[str, tuple[SelectedRun | None, int, bool]] = {}
        if self.study is None:
            return found
        languages = {cell.task: cell.language for cell in self.cells}
        for task in (task for task in self._tasks() if not task.is_intermediate):
            cells = [x for x in self.study.cells if (x.task, x.language) == (task.name, languages[task.name])]
            selection = select(replace(self.study, tasks=(task,), cells=tuple(cells)), self.scores)
            rules = (selection.of(rule).get(task.name) for rule in ("english-dev", "dev"))
            run = next((run for run in rules if run and run.selected_on == "dev"), None)
            own = [x for x in cells if x in self.cells]
            is_this = run is not None and any(x.branch == run.branch and run.seed in (None, x.seed) for x in own)
            found[task.name] = run, len({x.step for x in cells}), is_this
        return found


def find_provenance(folder: Path, head: int | None, layer: int) -> Provenance:
    """How the model of a step's folder came about.

    Args:
        folder: of the step, a link to it, or a copy of it anywhere; of an encoder that is no step nothing is known.
        head: the number of the head; None for vectors, which evaluations of retrieval score.
        layer: the hidden state of vectors; evaluations of others do not score the model.

    Raises:
        UserError: a file of the run folder is damaged.
    """
    step = folder.resolve()
    if not (step / "step.json").is_file():
        return Provenance(encoder=str(folder))
    if not (step.parents[1] / MARK).is_file():
        return Provenance((_step_facts(step),))
    store = open_existing(step.parents[1])
    steps = tuple(_step_facts(store.step(id)) for id in _with_ancestors(store, step.name))
    evaluations = {
        other.name for other, record in evaluations_of(step)
        if record.scoring and record.scoring.head == head and record.scoring.layer in (None, layer)
    }  # fmt: skip
    studies = [store.study(name) for name in reversed(store.recipes())]
    data = next((study.data for study in studies if study.data and step.name in study.steps), {})
    for study in studies:
        tasks = {task.name for task in study.tasks if task.layer in (None, layer)}
        cells = [cell for cell in study.cells if cell.step in evaluations and cell.task in tasks]
        if cells:
            own = tuple(x for x in cells if (x.branch, x.seed) == (cells[0].branch, cells[0].seed))
            evaluated = tuple(_step_facts(store.step(cell.step)) for cell in own)
            return Provenance(steps, True, study, own, evaluated, tuple(store.scores(study)), task_data=data)
    return Provenance(steps, True, task_data=data)


def _with_ancestors(store: Store, id: str) -> list[str]:
    """The steps that a step starts from, directly or indirectly, the first one first; then the step."""
    parents = [x for parent in read_step(store.step(id)).parent_ids for x in _with_ancestors(store, parent)]
    return [*dict.fromkeys(parents), id]


def _step_facts(folder: Path) -> StepFacts:
    """What a step's files say; without the settings or the facts that another version has written otherwise."""
    spec, facts = None, {}
    with suppress(OSError, ValueError, KeyError, TypeError):
        spec = TrainSpec.model_validate(read_json(folder / "step.json").get("training"))
    with suppress(OSError, ValueError):
        facts = read_json(folder / "done.json")
    facts = facts if isinstance(facts, dict) else {}
    return StepFacts(read_step(folder), spec, facts, tuple(_translations(folder, facts)))


def _translations(folder: Path, facts: Mapping[str, Any]) -> Iterator[FileCard]:
    """The cards in a step's facts; steps of an earlier version name the files only, whose cards lie beside them."""
    if "translations" in facts:
        with suppress(ValueError):
            yield from TypeAdapter(list[FileCard]).validate_python(facts["translations"])
        return
    inputs: Mapping[str, str] = facts.get("inputs", {})
    for start in (Path(), folder.parents[2]):  # of relative paths: here, or beside the run folder
        same = [file for file, sha256 in inputs.items() if (start / file).is_file() and digest(start / file) == sha256]
        if cards := cards_of(same, start):
            yield from cards
            return


def _unique(cards: Iterable[FileCard]) -> list[FileCard]:
    return [*{(card.split, card.file, card.target): card for card in cards}.values()]


def _of_run(by_seed: Mapping[int | None, Score], seed: int) -> Score | None:
    """The score of the run with a seed, or of one that serves every seed."""
    return by_seed.get(seed, by_seed.get(None))
