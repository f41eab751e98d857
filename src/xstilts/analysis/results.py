"""The results of one study, as every layout takes them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from xstilts.analysis.aggregate import Split, Summary, build
from xstilts.errors import UserError
from xstilts.formats.tag import Tagged
from xstilts.render.figure import Figure
from xstilts.render.table import Document, Table
from xstilts.store.example_scores import ExampleScores
from xstilts.store.label_notes import cause_notes, label_notes, unscored_steps
from xstilts.store.rows import LayerScore, Prediction, Score
from xstilts.store.run_folder import Store
from xstilts.study.index import Study, StudyTask


def _no_predictions(step: str) -> Iterable[Prediction]:  # noqa: ARG001
    return ()


def _has_predictions(step: str) -> None:  # noqa: ARG001
    return None


def _no_layer_scores() -> Sequence[LayerScore]:
    return ()


def _no_train_data(task: StudyTask) -> Sequence[Tagged]:
    raise UserError("needs the training data", where=task.name, hint="give the data folder with --data")


@dataclass(frozen=True)
class StudyResults:
    """What a layout shows: a study and its score rows.

    `predictions` reads the prediction rows of a step. `notes` are shown below the tables (see `Store.notes`). `beside`
    asks for the published numbers too. `example_scores` reads what a step of a copy has in place of predictions.
    `unscored` are finished evaluations of data without labels. `train_examples` reads a tag task's training data.
    `layer_scores` reads the scores of retrieval by layer and pooling.
    """

    study: Study
    scores: Sequence[Score]
    predictions: Callable[[str], Iterable[Prediction]] = _no_predictions
    notes: Sequence[str] = ()
    beside: bool = False
    example_scores: Callable[[str], Sequence[ExampleScores] | None] = _has_predictions
    unscored: Collection[str] = ()
    train_examples: Callable[[StudyTask], Sequence[Tagged]] = _no_train_data
    layer_scores: Callable[[], Sequence[LayerScore]] = _no_layer_scores

    def summary(self, split: Split = "dev") -> Summary:
        """The scores averaged over languages, with medians over the seeds."""
        return build(self.study, self.scores, split=split, notes=self.notes, unscored=self.unscored)

    def document(
        self, tables: Sequence[Table], legend: Sequence[str], lines: Sequence[Any], figures: Sequence[Figure] = (),
        **facts: object,
    ) -> Document:  # fmt: skip
        """A layout's document. Its rows are these lines, at least one, of one type; its facts have them, too."""
        facts = {**self.study.header(), **facts, "lines": [asdict(line) for line in lines]}
        return Document(tables, legend, type(lines[0]), lines, facts, figures)


def read_results(store: Store, name: str | None) -> StudyResults:
    """The results of a recipe of a run folder; by default of the newest.

    Raises:
        UserError: there is no such recipe, or its rows cannot be read.
    """
    study = store.study(name)
    scores = store.scores(study)
    noted = store.notes(study)
    notes = [*noted.values(), *cause_notes(store, study, scores, noted), *label_notes(store, study)]
    unscored = unscored_steps(store, study, scores)
    return StudyResults(study, scores, store.predictions, notes, example_scores=store.example_scores, unscored=unscored)


LayoutFunction: TypeAlias = Callable[[StudyResults], Document]
"""A layout; a module of `reports` or `analysis` names its own in a dictionary `LAYOUTS`."""
