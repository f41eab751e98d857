"""POS tags in a row and entities, by whether the training data have them (Tables 6 and 7 of XTREME's appendix)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

from xstilts.analysis.results import StudyResults
from xstilts.analysis.seen import (
    FREQUENT,
    LATIN,
    SEEN,
    SHORT,
    SIZES,
    UNSEEN,
    Counts,
    SetAccuracy,
    entity_counter,
    marks_chunks,
    mean_and_difference,
    ngram_counter,
    set_accuracies,
)
from xstilts.errors import UserError
from xstilts.formats.tag import Tag, Tagged
from xstilts.languages import titled
from xstilts.render.table import Document, Table, TableCell
from xstilts.reports.legend import full_names, legend_lines, short_names
from xstilts.store.rows import Prediction
from xstilts.study.index import StudyTask

MIN_ENTITIES = 100
"""XTREME's table has only languages whose sets are all as large."""
_Counter: TypeAlias = Callable[[Sequence[Prediction]], Counts]


def tags(results: StudyResults) -> Document:
    """The accuracy on n-grams of tags that the training data have, and on the others.

    Raises:
        UserError: no task of tags that mark no chunks has scores, or its training data cannot be read.
    """
    found, tasks = _accuracies(results, ngram_counter, chunked=False)
    if not found:
        raise UserError("no task that tags each word by itself has labelled predictions", where="--layout tags")
    kinds = [f"{size}-grams {kind}" for size in SIZES for kind in ("seen", "unseen")]
    shown = []
    for task, title, by_language in _branches(results, tasks, found):
        rows = [(name, _cells(x.accuracy for x in by_set.values())) for name, by_set in _labelled(by_language)]
        accuracies = [{code: by_set[kind].accuracy for code, by_set in by_language.items()} for kind in kinds]
        ends = zip(*(mean_and_difference(values, task.trained_in) for values in accuracies), strict=True)
        rows += zip(("zero-shot mean", "difference"), map(_cells, ends), strict=True)
        heads = tuple((kind, "") for kind in kinds)
        shown.append(Table(f"{title}: accuracy of n-grams of tags", "language", heads, tuple(rows), summaries=2))
    explained: list[tuple[str, object]] = [
        ("seen: in the training data; an n-gram is right if all its tags are, and counts as often as it occurs", True),
        ("difference: the training language minus the zero-shot mean", True),
    ]
    return _document(results, shown, explained, found)


def entities(results: StudyResults) -> Document:
    """The accuracy on five sets of entities; the first has those of the training data.

    Raises:
        UserError: no task of entities has scores, its training data cannot be read, or its predictions have no texts.
    """
    found, tasks = _accuracies(results, entity_counter, chunked=True)
    if not found:
        raise UserError("no task whose tags mark entities has labelled predictions", where="--layout entities")
    kinds = f"(a) {SEEN}", f"(b) {UNSEEN}", "(a) - (b)", f"(c) {SHORT}", f"(d) {LATIN}", f"(e) {FREQUENT}"
    heads = (*((name, "") for name in kinds), ("difference", "least"))
    shown, few = [], False
    for _, title, by_language in _branches(results, tasks, found):
        rows = []
        for name, by_set in _labelled(by_language):
            small = any(x.n < MIN_ENTITIES for x in by_set.values())
            few = few or small
            values = {kind: x.accuracy for kind, x in by_set.items()}
            seen, unseen, *others = values.values()
            cells = _cells((seen, unseen, _minus(seen, unseen), *others, least_difference(values)))
            rows.append((name + ("†" if small else ""), cells))
        shown.append(Table(f"{title}: accuracy of entities", "language", heads, tuple(rows)))
    explained: list[tuple[str, object]] = [
        ("right: words and type exactly; (a) two or more consecutive words are an entity of the training data", True),
        ("(c) at most two words; (d) Latin letters only; (e) at least twice in these data", True),
        ("least: of the differences of (a) from (c), (d) and (e)", True),
        (f"† a set has fewer than {MIN_ENTITIES} entities", few),
    ]
    return _document(results, shown, explained, found)


def least_difference(values: Mapping[str, float | None]) -> float | None:
    """The least distance between the seen entities and a set that they are compared with.

    >>> least_difference({"seen": 76.3, "not seen": 80.4, "short": 86.6, "Latin": 80.0, "frequent": None})
    3.7
    """
    found = [_minus(values[SEEN], values[kind]) for kind in (SHORT, LATIN, FREQUENT)]
    return min((round(abs(value), 9) for value in found if value is not None), default=None)


def _minus(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _accuracies(
    results: StudyResults, counter: Callable[[Iterable[Tagged]], _Counter], *, chunked: bool
) -> tuple[list[SetAccuracy], list[StudyTask]]:
    """The accuracies of the scored tag tasks whose tags mark chunks, or do not, and these tasks.

    Tasks whose trainings read different data are left out.
    """
    scored = {score.task for score in results.scores}
    tasks = [x for x in results.study.targets if x.format == Tag.name and x.train_languages and x.name in scored]
    tasks = [task for task in tasks if not task.trained_in_each and not task.draws_shots]
    tasks = [task for task in tasks if marks_chunks(results, task) == chunked]
    return [x for task in tasks for x in set_accuracies(results, task, counter(results.train_examples(task)))], tasks


_BySet: TypeAlias = dict[str, SetAccuracy]


def _branches(
    results: StudyResults, tasks: Sequence[StudyTask], found: Sequence[SetAccuracy]
) -> Iterable[tuple[StudyTask, str, dict[str, _BySet]]]:
    """For each task and branch: the task, the start of a title, and the accuracies by language and set."""
    for task in tasks:
        for branch, name in short_names(results.study.branches).items():
            mine = [x for x in found if (x.task, x.branch) == (task.name, branch)]
            codes = dict.fromkeys(x.language for x in sorted(mine, key=lambda x: not task.trained_in(x.language)))
            if mine:
                by_language = {code: {x.set: x for x in mine if x.language == code} for code in codes}
                yield task, f"{results.study.name}, {task.name}, {name}", by_language


def _labelled(by_language: Mapping[str, _BySet]) -> Iterable[tuple[str, _BySet]]:
    """Each language's accuracies with its name, marked if they are on test."""
    for code, by_set in by_language.items():
        on_test = any(x.split == "test" for x in by_set.values())
        yield titled(code) + ("‡" if on_test else ""), by_set


def _cells(values: Iterable[float | None]) -> tuple[TableCell, ...]:
    return tuple(map(TableCell.of, values))


def _document(
    results: StudyResults, shown: Sequence[Table], explained: list[tuple[str, object]], found: Sequence[SetAccuracy]
) -> Document:
    study = results.study
    runs = {x.runs for x in found}
    explained += [
        (f"medians over seeds {', '.join(map(str, study.seeds))}", len(study.seeds) > 1),
        (f"some branches or languages have only {min(runs)} of {max(runs)} runs", len(runs) > 1),
        ("‡ test, because there are no dev labels", any(x.split == "test" for x in found)),
        ("- no such n-gram or entity", any(x.n == 0 for x in found)),
    ]
    return results.document(shown, legend_lines(explained, full_names(study), results.notes), found)


LAYOUTS = {"tags": tags, "entities": entities}
