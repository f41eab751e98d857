"""The page's view of predictions: which labels are confused, and the worst examples of each language."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from xstilts import metrics
from xstilts.analysis.aggregate import Summary
from xstilts.analysis.results import StudyResults
from xstilts.analysis.selection import SelectedRun
from xstilts.errors import StepFailed, UserError
from xstilts.html.tables import Cell, PageTable, Row, prose
from xstilts.languages import titled
from xstilts.reports.legend import short_names
from xstilts.store.rows import Prediction
from xstilts.study.index import StudyTask

WORST = 20
"""Examples of a language, at most."""
MOST_LABELS = 20
"""Tasks with more labels have no matrix."""
CONFUSIONS = 5
"""The most frequent confusions of a language."""
_SPACE = "\N{NO-BREAK SPACE}"
_LONGEST = 300
"""Characters of a text that are shown."""


@dataclass(frozen=True)
class TaskExamples:
    """What a task's shown run predicts: confused labels and the worst examples of each language, the worst first."""

    task: str
    run: str
    steps: Sequence[str]
    confusions: Sequence[PageTable]
    worst: Mapping[str, Sequence[Row]]
    has_texts: bool

    def tables(self, most: int) -> list[PageTable]:
        """The tables, with at most this many examples of each language."""
        heads = [*prose(["language", "example", "prediction", "reference", "text"]), Cell("its score")]
        rows = [row for of_language in self.worst.values() for row in of_language[:most]]
        if not self.has_texts:
            del heads[4]
            rows = [replace(row, cells=[*row.cells[:3], *row.cells[4:]]) for row in rows]
        legend = [] if self.has_texts else ["xstilts run RECIPE --with-text adds the texts"]
        caption = f"{self.task}: the {most} worst examples of each language"
        return [*self.confusions, *([PageTable(caption, heads, rows, kind="texts", legend=legend)] if rows else [])]


def all_examples(results: StudyResults, summary: Summary, best: Mapping[str, SelectedRun]) -> list[TaskExamples]:
    """For each target the predictions of its best run (`best`), or of the first run with scores."""
    return [x for task in summary.study.targets if (x := _of_task(results, summary, task, best.get(task.name)))]


def _of_task(results: StudyResults, summary: Summary, task: StudyTask, best: SelectedRun | None) -> TaskExamples | None:
    if not summary.languages(task):
        return None
    branch, seed, steps = _run(results, task, best)
    try:
        by_language = _predictions(results, summary, task, branch, steps)
    except UserError:  # a copy of rows has no predictions
        return None
    name = short_names(summary.study.branches)[branch] + ("" if seed is None else f", seed {seed}")
    texts = any(row.text is not None for of in by_language.values() for row in of[:1])
    worst = {x: _worst(task, rows, x) for x, rows in by_language.items()}
    return (
        TaskExamples(task.name, name, steps, [*_confusions(task, by_language)], worst, texts) if by_language else None
    )


def _run(results: StudyResults, task: StudyTask, best: SelectedRun | None) -> tuple[str, int | None, list[str]]:
    """Branch and seed of the run to show, and its steps."""
    scored = {score.step for score in results.scores if score.task == task.name}
    cells = [cell for cell in results.study.cells if cell.task == task.name and cell.step in scored]
    if best is not None:
        cells = [x for x in cells if x.branch == best.branch and best.seed in (None, x.seed)] or cells
    branch, seed = cells[0].branch, cells[0].seed
    steps = dict.fromkeys(x.step for x in cells if (x.branch, x.seed) == (branch, seed))
    return branch, (seed if best is None or best.seed is not None else None), [*steps]


def _predictions(
    results: StudyResults, summary: Summary, task: StudyTask, branch: str, steps: Sequence[str]
) -> dict[str, list[Prediction]]:
    """The labelled predictions of each language, on the split whose scores the page shows."""
    lines = (x for x in summary.lines if (x.task, x.metric, x.branch) == (task.name, task.metric, branch))
    split = {line.language: line.split for line in lines}
    found = defaultdict[str, list[Prediction]](list)
    for row in (row for step in steps for row in results.predictions(step)):
        if row.task == task.name and row.reference is not None and row.split == split.get(row.language):
            found[row.language].append(row)
    return {language: found[language] for language in task.languages if language in found}


def _label_pairs(row: Prediction) -> list[tuple[str, str]]:
    """The right and the predicted labels of an example."""
    if isinstance(row.reference, list):
        return [*zip(map(str, row.reference), map(str, row.prediction), strict=False)]
    return [(str(row.reference), str(row.prediction))]


def _confusions(task: StudyTask, by_language: Mapping[str, Sequence[Prediction]]) -> Iterator[PageTable]:
    """A matrix of labels over the languages without training data, and each language's most frequent confusions."""
    if task.format not in ("classify", "tag"):
        return
    counts = {x: Counter(pair for row in rows for pair in _label_pairs(row)) for x, rows in by_language.items()}
    zero_shot = [x for x in counts if not task.trained_in(x)] or [*counts]
    total = sum((counts[x] for x in zero_shot), Counter[tuple[str, str]]())
    labels = sorted({label for pair in total for label in pair})
    if len(labels) <= MOST_LABELS:
        rows = []
        for right in labels:
            of_label = sum(total[right, other] for other in labels)
            cells = [_share(total[right, predicted], of_label, right == predicted) for predicted in labels]
            rows.append(Row(Cell(right, prose=True), [*cells, Cell(f"{of_label:,}")]))
        heads = [Cell("right label"), *prose(labels), Cell("count")]
        over = f"{len(zero_shot)} languages without training data" if len(zero_shot) < len(counts) else "all languages"
        yield PageTable(f"{task.name}: percent of each right label (rows) predicted as each label, {over}", heads, rows)
    rows = [Row(Cell(titled(x), prose=True), [Cell(_most_confused(counts[x]), prose=True)]) for x in counts]
    yield PageTable(
        f"{task.name}: the most frequent confusions by language",
        prose(["language", "right → predicted, percent of the right label"]),
        rows,
        kind="texts",
    )


def _share(count: int, total: int, right: bool) -> Cell:
    percent = 100 * count / total if total else 0.0
    level = sum(percent >= bound for bound in (10, 25, 50, 75))
    return Cell(f"{percent:.0f}", colour=f"{'g' if right else 'l'}{level}" if level else "")


def _most_confused(counts: Counter[tuple[str, str]]) -> str:
    totals = Counter[str]()
    for (right, _), count in counts.items():
        totals[right] += count
    wrong = Counter({pair: count for pair, count in counts.items() if pair[0] != pair[1]})
    return (
        ", ".join(
            f"{right} → {predicted} {100 * count / totals[right]:.0f}{_SPACE}%{_SPACE}({count:,})"
            for (right, predicted), count in wrong.most_common(CONFUSIONS)
        )
        or "none"
    )


def _worst(task: StudyTask, rows: Sequence[Prediction], language: str) -> list[Row]:
    """The worst examples: the lowest own score first, of these the most certain ones."""
    scores = _own_scores(task, rows, language) or []
    wrong = [i for i, score in enumerate(scores) if score < 100.0]
    ranked = sorted(wrong, key=lambda i: (scores[i], -_certainty(rows[i]), i))[:WORST]
    return [_example(task, language, rows[i], scores[i]) for i in ranked]


def _own_scores(task: StudyTask, rows: Sequence[Prediction], language: str) -> list[float] | None:
    """The score of each example by itself; None if the metric has none."""
    metric = metrics.get(task.metric)
    if metric.parts is None or not metric.higher_is_better:
        return None
    try:
        references, predictions = [row.reference for row in rows], [row.prediction for row in rows]
        parts_NK = metric.example_parts(references, predictions, language)
        return [float(x) for x in np.broadcast_to(metric.combine(parts_NK), len(rows))]
    except (TypeError, ValueError, LookupError, AttributeError, StepFailed):  # someone has changed the file
        return None


def _certainty(row: Prediction) -> float:
    return (row.probabilities or {}).get(str(row.prediction), 0.0)


def _example(task: StudyTask, language: str, row: Prediction, score: float) -> Row:
    if task.format == "tag":
        words = row.text if isinstance(row.text, list) else [str(i + 1) for i in range(len(row.reference))]
        wrong = [i for i, (right, predicted) in enumerate(_label_pairs(row)) if right != predicted]
        predicted, reference = (
            " ".join(f"{words[i]}/{tags[i]}" for i in wrong if i < len(words))
            for tags in (row.prediction, row.reference)
        )
    else:
        predicted, reference = _text(row.prediction), _text(row.reference)
    certain = f" ({100 * _certainty(row):.0f}{_SPACE}%)" if row.probabilities and _certainty(row) else ""
    text = _text(row.text, " ".join if task.format == "tag" else " ‖ ".join)
    texts = [f"{row.split} {row.id}", _clipped(predicted) + certain, _clipped(reference), _clipped(text)]
    return Row(Cell(titled(language), prose=True), [*prose(texts), Cell(f"{score:.0f}")])


def _text(value: Any, join: Any = " | ".join) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return str(join(_text(part) for part in value))
    if isinstance(value, dict):
        return str(join(_text(part) for part in value.values()))
    return str(value)


def _clipped(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
