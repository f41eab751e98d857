"""The layouts of a report by name; a module adds one by an entry in a dictionary `LAYOUTS` of its own."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

import xstilts.analysis
import xstilts.reports
from xstilts.analysis.results import LayoutFunction, StudyResults
from xstilts.errors import UserError, nearest
from xstilts.render.table import Document


@cache
def all_layouts() -> dict[str, LayoutFunction]:
    """Every layout by name: the `LAYOUTS` of each module in the packages `reports` and `analysis`."""
    found: dict[str, LayoutFunction] = {}
    for wing in (xstilts.reports, xstilts.analysis):
        for module in iter_modules(wing.__path__, f"{wing.__name__}."):
            found |= getattr(import_module(module.name), "LAYOUTS", {})
    return found


def check(layout: str, *, beside: bool = False) -> None:
    """Check a layout's name, and that it has published numbers if they are wanted.

    Raises:
        UserError: there is no such layout, or nothing is published in it.
    """
    if layout not in all_layouts():
        raise UserError(f"there is no layout '{layout}'", where="--layout", hint=nearest(layout, all_layouts()))
    from xstilts.reports import layer_tables, paper_document, pseudo_tables, wikipedia_size

    published = (paper_document, wikipedia_size, layer_tables, pseudo_tables)
    known = [name for module in published for name in module.LAYOUTS]
    if beside and layout not in known:
        raise UserError(
            f"nothing is published in the layout '{layout}'", where="--beside", hint=f"known: {', '.join(known)}"
        )


def show(results: StudyResults, layout: str = "default") -> Document:
    """The results of a study in a layout, ready to be rendered.

    Raises:
        UserError: as `check`, or the study has nothing to show in this layout.
    """
    check(layout, beside=results.beside)
    return all_layouts()[layout](results)
