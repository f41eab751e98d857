"""Writes a study's report as one HTML page that needs no other file and no network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from xstilts.analysis.aggregate import Series, Summary, join, scores_by_language
from xstilts.analysis.results import StudyResults
from xstilts.analysis.selection import select
from xstilts.errors import UserError
from xstilts.html.examples import WORST, TaskExamples, all_examples
from xstilts.html.finding import best_finding, study_sentence
from xstilts.html.render import fill, render
from xstilts.html.scores import ScoreTables
from xstilts.html.steps import StepViews
from xstilts.html.tables import from_text
from xstilts.render.figure import Matrix
from xstilts.render.svg import draw_figures
from xstilts.reports import selection_tables
from xstilts.reports.layouts import all_layouts
from xstilts.reports.legend import split_notes
from xstilts.reports.significance import Significance, compare
from xstilts.reports.significance_tables import legend_of_tests, with_progress
from xstilts.reports.study_tables import DEFAULT_VIEWS, legend, tables
from xstilts.store.run_folder import Store

PAGE = "report.html"
"""The page in its run folder."""
FIGURES = ("wikipedia", "families", "scripts", "transfer")
"""The layouts whose figures are on the page."""
MOST_FIGURE_BYTES = 150_000
"""A larger figure is left out; its layout draws it."""
MOST_BYTES = 1_950_000
"""Curves and examples that would make a page larger are packed, and then there are fewer examples."""
REFRESH_SECONDS = 20
"""A page of a running study loads itself again after this time."""


def report_page(store: Store, results: StudyResults, *, running: bool = False, quick: bool = False) -> str:
    """The page of a study.

    Args:
        store: the run folder.
        results: the study with its scores.
        running: whether steps are still being done. Then the page refreshes itself, and is `quick`.
        quick: leave out what takes long: significance, examples, the figures of analyses.
    """
    quick = quick or running
    summary = results.summary()
    found = _significance(results, quick=quick)
    scores = ScoreTables(summary, found, _runs(results))
    steps, study = StepViews(store, results.study), results.study
    selection = select(study, results.scores)
    shown = selection_tables.document(selection)
    examples = [] if quick else all_examples(results, summary, selection.best())
    page = render(
        "page.html",
        title=f"{study.name}: report",
        quick=quick,
        refresh=REFRESH_SECONDS if running else None,
        sentence=study_sentence(study),
        finding=best_finding(found),
        study=study,
        scores=scores,
        steps=steps,
        notes=results.notes,
        legend=_legend(summary, found if scores.has_tests else None),
        untested={} if quick else found.untested,
        selection=[scores.linked(from_text(table)) for table in shown.tables],
        selection_marks=(marks := selection_tables.explain_marks()),
        selection_legend=[line for line in shown.legend if line not in marks],
        figures=[] if quick else [*_figures(results)],
        examples=examples,
        folder=store.folder,
        others=[name for name in store.recipes() if name != study.name],
    )
    return _with_large_parts(page, steps, examples)


def _with_large_parts(page: str, steps: StepViews, examples: Sequence[TaskExamples]) -> str:
    """The page with learning curves and examples in their places, which comments mark."""
    room = MOST_BYTES - len(page.encode())
    trainings = [training for training in steps.curves() if training.charts]
    most, packed = WORST, False
    while True:
        curves = fill("curves.html", trainings=trainings, packed=packed)
        worst = fill("examples.html", examples=examples, most=most, anchor=steps.anchor, packed=packed)
        size = len((curves + worst).encode())
        if size <= room or (packed and most == 1):
            return page.replace("<!-- curves -->", curves).replace("<!-- examples -->", worst)
        if packed:
            most = max(1, min(most - 1, most * room // size))
        packed = True


def _significance(results: StudyResults, *, quick: bool) -> Significance:
    """The comparisons with the baseline; quick ones test nothing."""
    if quick:
        return compare(results.study, results.scores, lambda _: (), unscored=results.unscored)
    reads = results.predictions, results.example_scores
    return compare(results.study, results.scores, *reads, progress=with_progress, unscored=results.unscored)


def _legend(summary: Summary, tested: Significance | None) -> list[str]:
    """What the marks mean, each line once; the notes on the study stand elsewhere."""
    tests = legend_of_tests(tested) if tested else []
    shown, _ = split_notes(legend(summary, tables(summary, DEFAULT_VIEWS), spreads=False))
    return [*dict.fromkeys([*shown, *(text for text, holds in tests if holds)])]


def _runs(results: StudyResults) -> Mapping[tuple[str, str], Mapping[str, Series]]:
    """The main scores behind the medians by task, language and branch, each by seed."""
    joined, _ = join(results.study, results.scores)
    return {
        (task.name, language): {branch: {seed: x.value for seed, x in of.items()} for branch, of in by_branch.items()}
        for task in results.study.targets
        for language, by_branch in scores_by_language(task, task.metric, joined, "dev").items()
    }


def _figures(results: StudyResults) -> Iterator[dict[str, Any]]:
    """The figures of analyses that the study has enough scores for."""
    for layout in FIGURES:
        try:
            shown = all_layouts()[layout](results)
        except UserError:  # too few languages, or no baseline
            continue
        drawn = any(isinstance(x, Matrix) or len(x.ticks) != 1 for x in shown.figures)  # one family compares nothing
        if drawn:
            svg = draw_figures(shown.figures, (), id_prefix=f"{layout}-")
            small = len(svg) <= MOST_FIGURE_BYTES
            yield {"layout": layout, "svg": Markup(svg) if small else "", "legend": split_notes(shown.legend)[0]}
