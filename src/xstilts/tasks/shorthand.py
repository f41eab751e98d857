"""Short forms for the sources of the catalogue."""

from itertools import product
from typing import Any

from xstilts.tasks.source import File, Source
from xstilts.tasks.task import Split

SPLITS: tuple[Split, ...] = ("train", "dev", "test")


def either(*sources: str | File | Source) -> Source:
    """The first of several sources for the same rows.

    >>> [[file.path for file in layout] for layout in either("a.tsv", "b.tsv").layouts]
    [['a.tsv'], ['b.tsv']]
    """
    files = [File(path=source) if isinstance(source, str) else source for source in sources]
    return Source(layouts=tuple(x for file in files for x in ([(file,)] if isinstance(file, File) else file.layouts)))


def joined(*sources: Source) -> Source:
    """The rows of several sources, one after another; each may have several layouts.

    >>> [[file.path for file in layout] for layout in joined(either("a.tsv", "b.tsv"), either("c.tsv")).layouts]
    [['a.tsv', 'c.tsv'], ['b.tsv', 'c.tsv']]
    """
    return Source(layouts=tuple(sum(layouts, ()) for layouts in product(*(source.layouts for source in sources))))


def hub(folder: str, split: str, **fields: Any) -> File:
    """A split of a data set on the Hub, where dev is called `validation`.

    >>> hub("google/xquad/xquad.{lang}", "dev").path
    'hub:google/xquad/xquad.{lang}/validation-*.parquet'
    """
    return File(path=f"hub:{folder}/{'validation' if split == 'dev' else split}-*.parquet", **fields)
