"""The report of a run folder: one object that writes itself in every format and shows itself in a notebook."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

from xstilts.analysis.results import StudyResults, read_results
from xstilts.errors import UserError, counted, nearest
from xstilts.render.table import Document
from xstilts.render.writers import render
from xstilts.reports import layouts
from xstilts.reports.legend import note_lines
from xstilts.reports.recipe_comparison import Side, compare_recipes
from xstilts.store.run_folder import Store, open_existing
from xstilts.store.step_record import StepState
from xstilts.store.study_differences import difference_notes
from xstilts.store.train_data import train_examples


class Report:
    """The results of a recipe as `xstilts report` shows them: `print` draws tables, a notebook shows them as Markdown.

    >>> shown = report("runs", layout="languages")  # doctest: +SKIP
    >>> shown.rows[0]["task"], shown.rows[0]["value"]  # doctest: +SKIP
    ('my-reviews', 88.5)

    Attributes:
        recipe: the recipe's name.
    """

    def __init__(self, recipe: str, document: Callable[[], Document], no_scores: Sequence[str] = ()) -> None:
        self.recipe, self._document, self._no_scores = recipe, document, no_scores

    @cached_property
    def document(self) -> Document:
        """The tables, the lines below them, and the numbers."""
        return self._document()

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Every number as a record, with the columns of the format `csv`, as `pandas.DataFrame` takes it."""
        return [] if self._no_scores else [asdict(row) for row in self.document.rows]

    def render(self, format: str = "table", *, width: int = 100, colour: bool = False) -> str:
        """The report as text in a format: `table`, `markdown`, `csv`, `latex`, `json` or `svg`.

        Args:
            format: one of these names.
            width: columns of a `table`; a wider one is folded.
            colour: whether a `table` has the colours of a terminal.

        Raises:
            UserError: there is no such format, or the report has no figure for `svg`.
        """
        if self._no_scores and format == "table":
            return "\n".join(self._no_scores) + "\n"
        return render(self.document, format, width=width, colour=colour)

    def __str__(self) -> str:
        return self.render()

    __repr__ = __str__

    def _repr_markdown_(self) -> str:
        return "".join(f"{line}\n\n" for line in self._no_scores) or self.render("markdown")


def report(
    folder: str | os.PathLike[str] = "runs", *, recipe: str | None = None, layout: str = "default",
    beside: Literal["paper"] | None = None, compare: str | None = None, data: str | os.PathLike[str] | None = None,
) -> Report:  # fmt: skip
    """The results in a run folder.

    Args:
        folder: a run folder, or `DIR:RECIPE`.
        recipe: the recipe; by default the newest.
        layout: `default`, `languages`, `significance` and others; docs/reports.md lists them.
        beside: `paper` adds the published numbers to the paper's tables.
        compare: another recipe of this folder, or another `DIR` or `DIR:RECIPE`; shows the differences from it.
        data: the data folder, which the layouts `tags` and `entities` read.

    Raises:
        UserError: no such folder, recipe or layout; the study has nothing to show in this layout.

    >>> print(report("runs", recipe="reviews", layout="significance"))  # doctest: +SKIP
    """
    place, name = folder_and_recipe(Path(folder), recipe)
    if compare is not None:
        if layout != "default" or beside is not None:
            raise UserError("cannot be used with --compare", where="--beside" if layout == "default" else "--layout")
        shown, first, _ = compare_with(place, name, compare)
        return Report(first.results.study.name, lambda: shown)
    layouts.check(layout, beside=beside is not None)
    store = open_existing(place)
    results = read_results(store, name)
    study, recipes = results.study, [*store.recipes()]
    reader = partial(train_examples, store, None if data is None else Path(data), study)
    by_layer = partial(store.layer_scores, study)
    results = replace(results, beside=beside is not None, train_examples=reader, layer_scores=by_layer)
    all_recipes = f"recipes here, the last started last: {', '.join(recipes)}; shown: {study.name}"
    others = [all_recipes] if len(recipes) > 1 else []

    def document() -> Document:
        shown = layouts.show(results, layout)
        return replace(shown, legend=[*shown.legend, *others], facts={**shown.facts, "recipes": recipes})

    made = Report(study.name, document, () if results.scores else _no_scores(store, results, others))
    if results.scores:
        made.document  # noqa: B018  (its mistakes are raised here)
    return made


def _no_scores(store: Store, results: StudyResults, others: Sequence[str]) -> list[str]:
    """What to say of a study without scores."""
    study = results.study
    done = sum(store.state(id) is not StepState.MISSING for id in study.steps)
    first = f"{study.name}: no scores yet; done: {done:,} of {counted(len(study.steps), 'step')}"
    return [first, *note_lines(results.notes), *others]


def folder_and_recipe(folder: Path, recipe: str | None) -> tuple[Path, str | None]:
    """The parts of `DIR:RECIPE`; a recipe alone is one of the default run folder."""
    if folder.exists() or recipe is not None:
        return folder, recipe
    if (Path("runs") / "recipes" / f"{folder}.json").is_file():
        return Path("runs"), str(folder)
    before, _, name = str(folder).rpartition(":")
    return (Path(before), name) if before else (folder, None)


def compare_with(folder: Path, recipe: str | None, other: str) -> tuple[Document, Side, Side]:
    """A recipe compared with another of the folder or of another folder, and the two.

    Raises:
        UserError: there is no such recipe or folder, or the two are one.
    """
    store = open_existing(folder)
    there, name = (folder, other) if other in store.recipes() else folder_and_recipe(Path(other), None)
    if not there.exists() and name is None:
        hint = nearest(other, store.recipes())
        raise UserError(f"'{other}' is no recipe of {folder}, and no run folder", where="--compare", hint=hint)
    stores = store, open_existing(there)
    results = read_results(store, recipe), read_results(stores[1], name)
    same_folder = folder.resolve() == there.resolve()
    places = zip((folder, there), results, strict=True)
    labels = [x.study.name if same_folder else f"{place}:{x.study.name}" for place, x in places]
    if labels[0] == labels[1]:
        hint = "--recipe names the first one"
        raise UserError(f"'{labels[0]}' is compared with itself", where="--compare", hint=hint)
    studies = [(label, of, x.study) for label, of, x in zip(labels, stores, results, strict=True)]
    sides = Side(labels[0], results[0]), Side(labels[1], results[1])
    return compare_recipes(*sides, notes=difference_notes(*studies)), *sides
