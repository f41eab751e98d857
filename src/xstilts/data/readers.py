"""Reads the rows of every kind of data file, one at a time, and checks them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from itertools import islice, zip_longest
from types import MappingProxyType
from typing import Any

from xstilts.data import conllu, retrieval_rows, tables, tsv_quotes
from xstilts.data.find import PLAYGROUND, Found, filled
from xstilts.data.headers import absent_inputs, column_hint, field_hint, is_like, looks_like_header
from xstilts.data.lines import OnWarning, lines
from xstilts.data.records import OBJECTS, Record, check_inputs, label_names, nested_value, suffix
from xstilts.errors import DataError, nearest
from xstilts.formats.base import NO_LABEL, Row
from xstilts.formats.span import is_impossible
from xstilts.formats.tag import TAG_LINES


def read(
    found: Found,
    language: str,
    *,
    fields: tuple[str, ...],
    inputs: tuple[str, ...],
    inputs_setting: str = "",
    on_warning: OnWarning | None = None,
    on_error: Callable[[DataError], None] | None = None,
    labels: bool = True,
) -> Iterator[Row]:
    """Yield the rows of a file, streaming.

    Args:
        found: the file, from `find`. Its suffix, before `.gz`, selects the reader: `.tsv` (no quoting, but see
            `tsv_quotes.py`), `.csv`, `.jsonl`, `.json` (SQuAD's layout, or a list of objects), `.parquet`, `.conllu`;
            others have one sentence per line. If `fields` has `words` and `tags`, tsv and plain files have one token
            (and tag) per line. If it has `relevant`, or the file has a `gold`, see `retrieval_rows.py`.
        language: replaces `{lang}` in the file's `where`.
        fields: columns of a file without a header, in order; the label is last.
        inputs: the fields that every row must have.
        inputs_setting: the field of the task that names them, for hints.
        on_warning: receives a warning for each line that is not UTF-8, if the file has `broken: replace`, and for each
            line of tokens that may be a comment, and cell that may hold rows.
        on_error: receives the error of each row that lacks an input; by default the first is raised.
        labels: whether the rows may have labels; False: they are to be predicted, none is left out, and the first row
            of a table is its header.

    Raises:
        DataError: a row cannot be read, an input is missing or empty, or the file has no rows.
    """
    decoding = _decoding_warnings(found, on_warning)
    reader = _Reader(found, language, fields, inputs, decoding, on_error, on_warning, inputs_setting, labels)
    if found.file.part is None:
        yield from reader.rows()
        return
    total = sum(1 for _ in _Reader(found, language, fields, inputs, _decoding_warnings(found, None)).rows())
    wanted = found.file.rows_of(total)
    if not wanted:
        raise DataError(f"has {total} rows, which leaves none for part {found.file.part}", where=found.paths[0])
    yield from islice(reader.rows(), wanted.start, wanted.stop)


def _decoding_warnings(found: Found, on_warning: OnWarning | None) -> OnWarning | None:
    """The receiver of warnings about lines that are not UTF-8; None if they are errors."""
    return (on_warning or (lambda *_: None)) if found.file.broken == "replace" else None


@cache  # the steps of a study read the same few thousand rows
def _generated(path: str, language: str) -> list[dict[str, Any]]:
    """The rows of a `playground:KIND/SPLIT`."""
    from xstilts.playground import rows

    kind, _, split = path.removeprefix(PLAYGROUND).partition("/")
    return list(rows(kind, language, split))


@dataclass(frozen=True)
class _Reader:
    found: Found
    language: str
    fields: tuple[str, ...]
    inputs: tuple[str, ...]
    on_warning: OnWarning | None
    on_error: Callable[[DataError], None] | None = None
    on_comment: OnWarning | None = None
    inputs_setting: str = ""
    labels: bool = True

    def rows(self) -> Iterator[Row]:
        """Yield the rows of all paths that match `where`, checked."""
        filters = self.filters()
        if self.is_retrieval:
            yield from retrieval_rows.rows(self.found, lambda row: all(fits(row) for fits in filters), self.on_warning)
            return
        labels: tuple[bool, ...] | None = None
        checked = self.fields if self.labels and not self.is_generated else ()
        optional = tuple(name for name in checked if name not in self.inputs)
        empty = True
        for row in (row for path in self.found.paths for row in self.rows_of(path)):
            empty = False
            try:
                check_inputs(row, self.inputs, self.fields)
            except DataError as error:
                self.note(error)
                continue
            has = tuple([row.values.get(name) is not None or _has_no_answer(name, row) for name in optional])
            if has != labels:
                _check_labels(optional, has, labels, row.where)
                labels = has
            yield row
        treebank = "words, only _" if suffix(self.found.paths[0]) == ".conllu" else ""
        if empty and (what := f"row with {condition}" if (condition := self.condition()) else treebank):
            raise DataError(f"has no {what}", where=self.found.paths[0])

    def rows_of(self, path: str) -> Iterator[Row]:
        """Yield the rows of one path that the file's `where` selects."""
        filters, empty = self.filters(), True
        convert = self.converted if isinstance(self.found.file.columns, dict) or self.found.file.classes else None
        self.check_classes(path)
        for line, record in self.records(path):
            if self.is_raw_text and self.is_blank(record):
                continue
            if empty:
                self.check_label_column(record, path)
            empty = False
            try:
                row = Row(convert(record, path, line) if convert else record, path, line)
                fits = not filters or all(fits(row) for fits in filters)
            except DataError as error:
                self.note(error)
                continue
            if fits:
                yield row
        if empty:
            self.check_empty(path)

    def check_empty(self, path: str) -> None:
        """Reject a file without rows. A treebank whose words are all `_` is left out where others are beside it."""
        if suffix(path) != ".conllu" or not any(text[:1].isdigit() for _, text in lines(path, self.on_warning)):
            raise DataError("is empty", where=path)
        if self.on_comment:
            self.on_comment("has no words, only _; left out", f"{path}:1")

    def note(self, error: DataError) -> None:
        """Pass on the error of a row, or raise it."""
        if self.on_error is None:
            raise error
        self.on_error(error)

    def check_label_column(self, record: Mapping[str, Any], path: str) -> None:
        """Reject a file without a column of labels that has one with nearly its name."""
        columns, label = self.found.file.columns, self.fields[-1]
        name = columns.get(label, label) if isinstance(columns, dict) else label
        wanted = self.labels and label not in self.inputs and not self.is_generated
        if not wanted or {label, name, name.partition(".")[0]} & record.keys():
            return
        near = [other for other in record if other not in self.fields and is_like(other, name)]
        if near:
            raise DataError(f"has no column '{name}'", where=path, hint=nearest(name, near))

    @cached_property
    def is_generated(self) -> bool:
        """Whether the rows are the playground's, which mix queries and candidates."""
        return self.found.paths[0].startswith(PLAYGROUND)

    @cached_property
    def is_raw_text(self) -> bool:
        """Whether a row is a text alone. A row without text is then left out, as a blank line is."""
        return self.labels and self.fields == self.inputs and len(self.fields) == 1

    def is_blank(self, record: Mapping[str, Any]) -> bool:
        """Whether a record of raw text has its column, but no text there: null, NaN, or blanks."""
        columns, (name,) = self.found.file.columns, self.fields
        name = columns.get(name, name) if isinstance(columns, dict) else name
        value = nested_value(record, name)
        if value is None:
            return name.partition(".")[0] in record
        return value != value or (isinstance(value, str) and not value.strip())

    @cached_property
    def is_tagged(self) -> bool:
        """Whether rows have words and tags, a line each in plain files."""
        return {"words", "tags"} <= {*self.fields}

    @property
    def is_retrieval(self) -> bool:
        """Whether rows are queries and candidates, in one file or in a file and its pair."""
        found = self.found
        records = bool(found.pair) and suffix(found.paths[0]) in OBJECTS
        return not self.is_generated and ("relevant" in self.fields or found.file.gold is not None or records)

    def filters(self) -> list[Callable[[Row], bool]]:
        """The file's `where` as predicates on rows."""
        where = (self.found.file.where or {}).items()
        return [_filter(name, filled(value, self.language)) for name, value in where]

    def condition(self) -> str:
        """The file's `where`, for messages."""
        where = (self.found.file.where or {}).items()
        return " and ".join(f"{name} = {filled(value, self.language)}" for name, value in where)

    def check_classes(self, path: str) -> None:
        """Reject `classes` whose order differs from that in the file's metadata."""
        classes, columns = self.found.file.classes, self.found.file.columns
        if classes and suffix(path) == ".parquet":
            label = columns.get(self.fields[-1], "") if isinstance(columns, dict) else ""
            own = label_names(path, label or self.fields[-1])
            if own != list(classes) and sorted(own) == sorted(classes):
                order = f"numbers its labels {', '.join(own)}, `classes` has {', '.join(classes)}"
                raise DataError(order, where=path)

    def converted(self, record: dict[str, Any], path: str, line: int | str) -> Mapping[str, Any]:
        """A record with the format's column names, and names instead of label numbers."""
        row = Row(record, path, line)
        values = self.renamed(record, row)
        classes, label = self.found.file.classes, self.fields[-1]
        if classes and (number := values.get(label)) is not None:
            values = values | {label: _class_name(number, classes, label, row)}
        return values

    def renamed(self, record: dict[str, Any], row: Row) -> dict[str, Any]:
        """A record with the format's column names; only inputs must exist."""
        columns = self.found.file.columns
        if not isinstance(columns, dict):
            return record
        found = {ours: nested_value(record, theirs) for ours, theirs in columns.items()}
        for name in self.inputs:
            if name in found and found[name] is None:
                hint = nearest(columns[name], record, "it has")
                raise DataError(f"has no '{columns[name]}'", where=row.where, hint=hint)
        others = {name: value for name, value in record.items() if name not in columns}
        return others | {name: value for name, value in found.items() if value is not None}

    def records(self, path: str) -> Iterator[Record]:
        """The records of one path; its suffix selects the reader."""
        if path.startswith(PLAYGROUND):
            return enumerate(_generated(path, self.language), start=1)
        columns, kind = self.found.file.columns, suffix(path)
        records: Iterator[Record]
        if self.found.pair:
            sides = _side_by_side(path, self.found.pair, self.on_warning)
            records = _by_translation(sides) if self.found.file.aligned else _without_labels(sides)
        elif kind in OBJECTS:
            records = OBJECTS[kind](path, self.on_warning)
        elif kind == ".conllu":
            records = _sentences(conllu.sentences(lines(path, self.on_warning), self.language, path))
        elif kind == ".csv" and self.is_tagged:
            raise DataError("is CSV, whose cells cannot hold lists of words", where=path, hint=TAG_LINES)
        elif kind == ".csv":
            return self.table(tables.rows(path, self.column_names(), self.on_warning, self.on_comment), path)
        elif self.is_tagged:
            return self.tagged(path, kind)
        elif kind == ".tsv" or columns is not None:
            return self.table(tables.rows(path, self.column_names(), self.on_warning, self.on_comment), path)
        else:
            records = tables.texts(path, self.inputs[0], self.column_names(), self.on_warning)
        if isinstance(columns, tuple):
            raise DataError("only tables without a header take a list of `columns`", where=path)
        return records

    def tagged(self, path: str, kind: str) -> Iterator[Record]:
        """Yield the sentences of a file with one token per line."""
        columns, note = self.found.file.columns, self.on_comment or (lambda *_: None)
        read = partial(tsv_quotes.unquoted if kind == ".tsv" else lines, path, self.on_warning)
        tokens = conllu.tagged(read, self.language, path, tabs=kind == ".tsv", columns=columns, note=note)
        return _sentences(tokens, columns if isinstance(columns, dict) else {})

    def column_names(self) -> frozenset[str]:
        """The columns that the task knows, as the file names them."""
        columns = self.found.file.columns
        return frozenset(self.fields).union(columns.values() if isinstance(columns, dict) else columns or ())

    def table(self, rows: Iterator[tuple[int, list[str]]], path: str) -> Iterator[Record]:
        """Yield rows of cells as records; a header, `columns`, or the order of the fields names the cells."""
        columns = self.found.file.columns
        header: Sequence[str] = ()
        for line, cells in rows:
            if not header:
                if isinstance(columns, dict) or (columns is None and set(self.inputs) <= set(cells)):
                    header = cells
                    if twice := [name for name in header if name and header.count(name) > 1]:
                        raise DataError(f"the header names the column '{twice[0]}' twice", where=f"{path}:{line}")
                    continue
                is_header = not self.labels or set(self.fields) & set(cells) or looks_like_header(cells)
                if columns is None and is_header:
                    raise self.absent_column(cells, next(rows, (0, []))[1], f"{path}:{line}")
                header = self.positions(len(cells), f"{path}:{line}")
            if len(cells) != len(header):
                hint = tables.width_hint(cells, header)
                message = f"has {_columns(len(cells))}, the first row has {len(header)}"
                raise DataError(message, where=f"{path}:{line}", hint=hint)
            yield line, dict(zip(header, cells, strict=True))

    def absent_column(self, header: Sequence[str], first: Sequence[str], where: str) -> DataError:
        """The error for a header that does not name all inputs; `first` is the row below it."""
        if self.labels:
            hint = column_hint(self.fields, self.inputs, header, first, self.found.file.path, self.inputs_setting)
        else:
            hint = field_hint(self.fields, self.inputs, header, first)
        return DataError(absent_inputs(self.inputs, header), where=where, hint=hint)

    def positions(self, width: int, where: str) -> tuple[str, ...]:
        """Names for the cells of a file without a header; the label at the end may be absent."""
        columns = self.found.file.columns
        known = columns if isinstance(columns, tuple) else self.fields
        if width > len(known) or not set(self.inputs) <= set(known[:width]):
            labels = [name for name in known if name not in self.inputs]
            needs = ", ".join(self.inputs) + (f" (and {', '.join(labels)})" if labels else "")
            hint = "`columns` can name them" if width > len(known) else ""
            raise DataError(f"has {_columns(width)}, needs {needs}", where=where, hint=hint)
        return known[:width]


def _check_labels(
    optional: tuple[str, ...], has: tuple[bool, ...], before: tuple[bool, ...] | None, where: str
) -> None:
    """Reject a row whose labels differ in number from the rows before; `before` is None for the first."""
    if before is not None:
        name = min(name for name, now, then in zip(optional, has, before, strict=True) if now != then)
        present = has[optional.index(name)]
        message = f"has a {name}, the rows before have none" if present else f"has no {name}"
        raise DataError(message, where=where, hint="a split has labels for all rows or for none")


def _has_no_answer(name: str, row: Row) -> bool:
    """Whether a row needs no answers: it is labelled as a question without one."""
    return name == "answers" and is_impossible(row.values)


def _filter(column: str, value: str) -> Callable[[Row], bool]:
    """A predicate: the row's column equals the value, or starts with it if the value ends in `*`."""
    if value.endswith("*"):
        return lambda row: _cell(row, column).startswith(value[:-1])
    return lambda row: _cell(row, column) == value


def _class_name(number: Any, classes: tuple[str, ...], label: str, row: Row) -> Any:
    """The name of a label number, or the names of a list of them; -1 (no label) stays."""
    if isinstance(number, list):
        return [_class_name(item, classes, label, row) for item in number]
    text = "" if isinstance(number, bool | float) else str(number)
    if text == NO_LABEL:
        return text
    if not text.isdecimal() or int(text) >= len(classes):
        hint = f"`classes` has {len(classes)} names, from 0 to {len(classes) - 1}"
        raise DataError(f"{label} {number!r} is not one of the classes", where=row.where, hint=hint)
    return classes[int(text)]


def _columns(number: int) -> str:
    return "1 column" if number == 1 else f"{number} columns"


def _cell(row: Row, column: str) -> str:
    if column not in row.values:
        raise DataError(f"has no '{column}'", where=row.where, hint=nearest(column, row.values, "it has"))
    return str(row.values[column])


def _sentences(sentences: Iterator[conllu.Tokens], names: Mapping[str, str] = MappingProxyType({})) -> Iterator[Record]:
    """Yield sentences as records; `names` has the file's own names of `words` and `tags`."""
    words, tags = names.get("words", "words"), names.get("tags", "tags")
    for sentence in sentences:
        yield sentence.line, {words: sentence.words} | ({} if sentence.tags is None else {tags: sentence.tags})


def _by_translation(sides: Iterator[Record]) -> Iterator[Record]:
    """Yield aligned lines, sorted by the code points of the translations: the leaderboard expects this order."""
    yield from sorted(sides, key=lambda record: str(record[1]["target"]).strip())


def _without_labels(sides: Iterator[Record]) -> Iterator[Record]:
    """Yield lines that are not aligned, in the files' order."""
    return ((line, {**values, "aligned": False}) for line, values in sides)


def _side_by_side(path: str, pair: tuple[str, ...], on_warning: OnWarning | None) -> Iterator[Record]:
    if len(pair) > 1:
        raise DataError(f"has {len(pair)} files as its translation, but needs one", where=path, hint=", ".join(pair))
    sides = lines(path, on_warning), lines(pair[0], on_warning)
    for number, (left, right) in enumerate(zip_longest(*sides), start=1):
        if left is None or right is None:
            longer = number + sum(1 for side in sides for _ in side)
            counts = (longer, number - 1) if right is None else (number - 1, longer)
            raise DataError(f"has {counts[0]} lines, but its translation {pair[0]} has {counts[1]}", where=path)
        yield number, {"source": left[1], "target": right[1], "number": number - 1}
