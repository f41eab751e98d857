"""File and Source: where the rows of a split come from, as the catalogue and task files write it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from xstilts import languages
from xstilts.utils.models import PathText, Strict

RECIPES = Path(__file__).parents[1] / "recipes"
"""The folder of the recipes in the package, and of their task files."""


class File(Strict):
    """One file of a source, as a pattern relative to the data folder.

    `{lang}` stands for the language's code, `{lang3}` for its ISO 639-3 code, `{language}` and `{Language}` for its
    name; `*` matches several files, which are read in sorted order. A `.gz` copy is found, too. `playground:` paths are
    generated, `hub:OWNER/NAME/PATH` is a file of a data set on the Hugging Face Hub.
    """

    path: PathText
    pair: PathText | None = None
    """The other side of aligned text (line k belongs to line k), or the candidates for the first file's queries."""
    gold: PathText | None = None
    """The gold pairs of sentences (`id TAB id`); may be missing."""
    aligned: bool = True
    """False: the lines of `pair` are in another order, so that no line has a label."""
    columns: tuple[str, ...] | dict[str, str] | None = None
    """Names of the columns of a file without a header, or {our name: the file's name}."""
    part: str | None = Field(default=None, pattern=r"^[1-9]\d*(-[1-9]\d*)?/[1-9]\d*$")
    """`2/3` is the second third of the rows, `1-9/10` the first nine tenths."""
    where: dict[str, str] | None = None
    """Only rows whose column has this value, or begins with it if it ends in `*`; `{lang}` works here too."""
    classes: tuple[str, ...] | None = Field(default=None, min_length=1)
    """The names of labels or tags in a file that numbers them from 0."""
    languages: tuple[str, ...] | None = Field(default=None, min_length=1)
    """The languages of its rows, if its path does not say it; other languages pass over its layout."""
    broken: Literal["error", "replace"] = "error"
    """Bytes that are not UTF-8 are an error, or are replaced by U+FFFD and counted."""
    folder: str = ""
    """Folder of its task file, as the recipe writes it; tells apart equal paths in two folders."""
    base: Path | None = Field(default=None, exclude=True)
    """The same folder as a path; searched first."""

    @property
    def per_language(self) -> bool:
        """Whether each language has its own file or rows."""
        patterns = (self.path, self.pair or "", *(self.where or {}).values())
        named = self.path.startswith("playground:") or any("{lang" in text.lower() for text in patterns)
        return named or (self.languages is not None and len(self.languages) == 1)

    def serves(self, language: str) -> bool:
        """Whether it may have rows in a language."""
        return self.languages is None or language in self.languages

    @field_validator("languages")
    @classmethod
    def _known_languages(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return None if value is None else known_codes(value)

    @field_validator("part")
    @classmethod
    def _within(cls, value: str | None) -> str | None:
        if value is not None:
            first, last, parts = part_numbers(value)
            if not first <= last <= parts:
                raise ValueError(f"there is no part {value}")
        return value

    def may_share_rows(self, other: File) -> bool:
        """Whether its rows and those of another file may be the same, if both have the same path."""
        (first, last), (start, end) = _share(self), _share(other)
        mine, theirs = self.where or {}, other.where or {}
        apart = (mine[name] != theirs[name] for name in mine.keys() & theirs.keys()
                 if not mine[name].endswith("*") and not theirs[name].endswith("*"))  # fmt: skip
        return first < end and start < last and not any(apart)

    def rows_of(self, total: int) -> range:
        """The numbers of its rows in a file with `total` rows."""
        first, last = _share(self)
        return range(math.floor(total * first), math.floor(total * last))

    def taking(self, part: str) -> File:
        """The same file with only this part of its rows."""
        return _between(self, *_inside(self, part))

    def leaving_out(self, part: str) -> tuple[File, ...]:
        """The same file without this part of its rows: what comes before it, and what comes after it."""
        (first, last), (start, end) = _share(self), _inside(self, part)
        return tuple(_between(self, a, b) for a, b in ((first, start), (end, last)) if a < b)


class Source(Strict):
    """The rows of a split, from the first layout whose files all exist; a layout's files are joined.

    Written as one path, one file, a list (joined), or `{first_of: [...]}`.
    """

    layouts: tuple[tuple[File, ...], ...]

    @property
    def own(self) -> bool:
        """Whether a user's task file names it."""
        return any(file.base not in (None, RECIPES) for layout in self.layouts for file in layout)

    @model_validator(mode="before")
    @classmethod
    def _spellings(cls, value: Any) -> Any:
        if isinstance(value, Source) or (isinstance(value, dict) and "layouts" in value):
            return value
        if isinstance(value, dict) and set(value) == {"first_of"}:
            if not isinstance(value["first_of"], list | tuple) or not value["first_of"]:
                raise ValueError("first_of needs a list of at least one file")
            return {"layouts": [_joined(layout) for layout in value["first_of"]]}
        return {"layouts": [_joined(value)]}

    @property
    def per_language(self) -> bool:
        """Whether each language has rows of its own, in every layout."""
        return all(any(file.per_language for file in layout) for layout in self.layouts)

    def overlaps(self, other: Source, codes: Sequence[str]) -> bool:
        """Whether two sources share rows in one of these languages; different parts of one file do not.

        Nor do rows of one file with different values of a column in `where`.
        """
        mine, theirs = ([file for layout in source.layouts for file in layout] for source in (self, other))
        return any(_overlap(mine, theirs, code) for code in codes)


def _overlap(mine: Sequence[File], theirs: Sequence[File], language: str) -> bool:
    """Whether a file may share rows with one of the others."""
    places, others = ([(file, _names(file, language)) for file in files if file.serves(language)]
                      for files in (mine, theirs))  # fmt: skip
    return any(
        file.may_share_rows(other) and any(_matches(a, b) or _matches(b, a) for a in names for b in other_names)
        for file, names in places
        for other, other_names in others
    )


def _names(file: File, language: str) -> set[str]:
    """The paths that a file may have: in the data folder, and beside its task file."""
    path = file.path.replace("{lang}", language).removesuffix(".gz")
    return {str(Path(path))} | ({str((file.base / path).resolve())} if file.base else set())


def _matches(pattern: str, path: str) -> bool:
    """Whether a path matches a pattern with `*`."""
    return pattern == path or re.fullmatch(re.escape(pattern).replace(r"\*", "[^/]*"), path) is not None


def known_codes(codes: tuple[str, ...]) -> tuple[str, ...]:
    """The codes.

    Raises:
        ValueError: a language occurs twice, or is not written as its code.
    """
    if len(set(codes)) != len(codes):
        raise ValueError("names a language twice")
    for code in codes:
        if not languages.well_formed(code) or languages.as_code(code) != code:
            raise ValueError(f"unknown language '{code}': {languages.hint(code)}")
    return codes


def part_numbers(part: str) -> tuple[int, int, int]:
    """The first and the last part that `part` names, and the number of parts.

    >>> part_numbers("2/3"), part_numbers("1-9/10")
    ((2, 2, 3), (1, 9, 10))
    """
    numbers, _, parts = part.partition("/")
    first, _, last = numbers.partition("-")
    return int(first), int(last or first), int(parts)


def _share(file: File) -> tuple[Fraction, Fraction]:
    """Where a file's part begins and ends, as shares of its rows."""
    first, last, parts = part_numbers(file.part or "1/1")
    return Fraction(first - 1, parts), Fraction(last, parts)


def _inside(file: File, part: str) -> tuple[Fraction, Fraction]:
    """Where a part of a file's part begins and ends, as shares of all its rows."""
    start, end = _share(file)
    first, last, parts = part_numbers(part)
    size = (end - start) / parts
    return start + size * (first - 1), start + size * last


def _between(file: File, start: Fraction, end: Fraction) -> File:
    """A file with only the rows between two shares of its rows."""
    parts = math.lcm(start.denominator, end.denominator)
    first, last = int(start * parts) + 1, int(end * parts)
    numbers = f"{first}" if first == last else f"{first}-{last}"
    return file.model_copy(update={"part": None if end - start == 1 else f"{numbers}/{parts}"})


def _joined(value: Any) -> list[Any]:
    files = value if isinstance(value, list | tuple) else [value]
    if not files:
        raise ValueError("names no file")
    return [{"path": file} if isinstance(file, str) else file for file in files]
