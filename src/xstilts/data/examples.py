"""Locates, reads and checks the examples of a task, and hashes their content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

from xstilts import playground
from xstilts.data.corpus_metadata import CutCorpus, cut_corpus, is_damaged, metadata_file
from xstilts.data.find import PLAYGROUND, Found, find
from xstilts.data.headers import label_column, quoted
from xstilts.data.labels import labelled
from xstilts.data.readers import read
from xstilts.data.row_mistakes import RowMistakes
from xstilts.data.sampling import draw_shots, sample_counts
from xstilts.errors import Collector, DataError, UserError, visible
from xstilts.formats.base import Defect, Example, Row
from xstilts.tasks.source import Source
from xstilts.tasks.task import Task
from xstilts.utils.files import digest
from xstilts.utils.version import __version__


@dataclass(frozen=True)
class LocatedSplit:
    """The files of one split of a task in some languages, and how to read them."""

    task: Task
    found: tuple[tuple[str, Found], ...]
    """Language and file, in reading order."""
    limit: int | None
    each: bool = False
    """Whether the limit holds for each file."""
    train: bool = False
    """Whether it is training data; unusable examples are then left out."""
    shots: int | None = None
    """The examples of each language that are drawn, at most; None: all."""
    seed: int = 0
    """Of the draw."""

    @property
    def files(self) -> dict[str, str]:
        """The sha256 of every file; for generated data, their version."""
        version = f"version {playground.VERSION}"
        files = {
            path: version if path.startswith(PLAYGROUND) else digest(path)
            for _, found in self.found
            for path in found.files
        }
        cut = (corpus.metadata_path for _, corpus in self.cut_corpora() if corpus.unchanged)
        return files | {path: digest(path) for path in cut}

    def cut_corpora(self) -> list[tuple[str, CutCorpus]]:
        """Each text that `xstilts corpus --limit` has cut, with its language, if an epoch is a sample by language."""
        if not self.train or not self.task.format.samples_epoch:
            return []
        texts = [(code, found.file, path) for code, found in self.found for path in found.paths]
        return [(code, cut) for code, file, path in texts if (cut := cut_corpus(path, code, file)) is not None]

    @property
    def content(self) -> str:
        """A string that changes whenever the examples may change; it does not contain file names."""
        files = self.files
        rows = [
            [code, found.file.identity(), [files[path] for path in found.files], len(found.paths)]
            for code, found in self.found
        ]
        cut = [[code, corpus.sentences, corpus.of] for code, corpus in self.cut_corpora() if corpus.unchanged]
        drawn = [["shots", self.shots, self.seed]] if self.shots else []
        return json.dumps([rows, self.limit, self.each, self.train, *([cut] if cut else []), *drawn], sort_keys=True)

    @property
    def labelled(self) -> bool:
        """Whether the first example of each file has a label."""
        return all(labelled(self.task.format, code, (found,)) for code, found in self.found)

    def held_out(self, part: str, limit: int | None) -> LocatedSplit:
        """This part of each file of the training data, at most `limit` examples of each."""
        found = tuple((code, replace(one, file=one.file.taking(part))) for code, one in self.found)
        return replace(self, found=found, limit=limit, each=True)

    def without(self, part: str) -> LocatedSplit:
        """The training data without this part of each file."""
        found = tuple(
            (code, replace(one, file=file)) for code, one in self.found for file in one.file.leaving_out(part)
        )
        return replace(self, found=found)

    def drawing(self, shots: int | None, seed: int) -> LocatedSplit:
        """The training data of which only `shots` examples of each language are drawn, by a seed; None: all."""
        return replace(self, shots=shots, seed=seed if shots else 0)

    def key(self, *, labels: bool) -> str:
        """A hash that changes whenever the examples, their warnings or the program's version may change."""
        text = f"{__version__} {self.task.format!r} {self.content} {list(self.files)} {labels}"
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def read(self, say: Callable[[str], None] | None = None) -> list[Example]:
        """Read all examples; see `stream`."""
        return list(self.stream(say))

    def stream(
        self, say: Callable[[str], None] | None = None, on_row: Callable[[Row], None] | None = None
    ) -> Iterator[Example]:
        """Yield the examples; after the last, `say` receives their defects. `on_row` receives each usable row.

        Raises:
            UserError: after the last example; lists the kinds of invalid rows with file, line and number.
        """
        mistakes, defects, none = RowMistakes(), Defects(), True
        for files in [(one,) for one in self.found] if self.each else [self.found]:
            for example in self._limited(self.examples(files, mistakes, defects, on_row)):
                none = False
                yield example
        mistakes.raise_any()
        if say:
            for line in (*defects.lines(), *self._outdated()):
                say(line)
        if none:
            raise DataError("no usable example", where=", ".join(self.files))

    def sampled(self) -> Iterator[tuple[Example, int]]:
        """Yield the examples of an epoch with how often each occurs in it: once, unless the format samples.

        The sample is the same in every call. Errors as in `stream`.
        """
        format = self.task.format
        if self.shots is not None:
            yield from self._drawn(self.shots)
            return
        if not self.train or not format.samples_epoch:
            yield from ((example, 1) for example in self.stream())
            return
        parts = self._by_language()
        sizes = {code: sum(1 for _ in part.stream()) for code, part in parts.items()}
        whole = dict(sizes)
        for code, cut in self.cut_corpora():
            whole[code] += cut.left_out if cut.unchanged else 0
        wanted = format.sample_sizes(list(sizes.values()), list(whole.values()))
        for (code, part), count in zip(parts.items(), wanted, strict=True):
            counts = map(int, sample_counts(sizes[code], count, code))
            for example, number in zip(part.stream(), counts, strict=True):
                if number:
                    yield example, number

    def _drawn(self, shots: int) -> Iterator[tuple[Example, int]]:
        """Yield the drawn examples of each language, in their order; all of a language that has fewer."""
        for code, part in self._by_language().items():
            chosen = draw_shots(sum(1 for _ in part.stream()), shots, code, self.seed)
            yield from ((example, 1) for example, drawn in zip(part.stream(), chosen, strict=True) if drawn)

    def _by_language(self) -> dict[str, LocatedSplit]:
        codes = dict.fromkeys(code for code, _ in self.found)
        return {code: replace(self, found=tuple(one for one in self.found if one[0] == code)) for code in codes}

    def fewer_than_shots(self) -> dict[str, int]:
        """The number of examples of each language that has fewer than `shots`."""
        if self.shots is None:
            return {}
        sizes = {code: sum(1 for _ in part.stream()) for code, part in self._by_language().items()}
        return {code: size for code, size in sizes.items() if size < self.shots}

    def _outdated(self) -> Iterator[str]:
        """A warning for each cut text that has changed since, and for damaged metadata."""
        sampled = self.train and self.task.format.samples_epoch
        for path in (path for _, found in self.found for path in found.paths if sampled and is_damaged(path)):
            yield f"{metadata_file(path)}: is damaged, so the text's own number of sentences counts"
        for _, cut in self.cut_corpora():
            if not cut.unchanged:
                yield f"{cut.metadata_path}: its text has changed since, so the text's own number of sentences counts"

    def _limited(self, examples: Iterator[Example]) -> Iterator[Example]:
        """Yield at most `limit` examples; in retrieval the limit counts queries, and all candidates are kept."""
        format, left = self.task.format, self.limit
        if left is None or format.head.kind != "mean":
            yield from islice(examples, left)
            return
        for example in examples:
            if not format.is_query(example):
                yield example
            elif left > 0:
                left -= 1
                yield example
            elif (candidate := format.as_candidate(example)) is not None:
                yield candidate

    def examples(
        self,
        files: Sequence[tuple[str, Found]],
        mistakes: RowMistakes,
        defects: Defects,
        on_row: Callable[[Row], None] | None = None,
    ) -> Iterator[Example]:
        """Yield the examples of some of the files; collects invalid rows in `mistakes`."""
        format = self.task.format
        seen: dict[tuple[str, str], str] = {}
        labels: dict[bool, str] = {}
        check = format.checker(self.task.metrics)
        for code, found in files:
            with mistakes.catch():
                for row in read(found, code, fields=format.fields, inputs=format.inputs,
                                inputs_setting=format.inputs_setting, on_warning=defects.note,
                                on_error=mistakes.receive):  # fmt: skip
                    with mistakes.catch():
                        example = format.read(row)
                        if example is not None and defects.usable(format.defect(example), row, self.train):
                            if format.is_query(example):
                                _check_labels(format.reference(example, 0) is not None, row, labels)
                                if not self.train and (id := format.example_id(example)) is not None:
                                    _check_unique(code, id, row.where, seen)
                                if check:
                                    check(example, row.where)
                            if on_row:
                                on_row(row)
                            yield example
                    if mistakes.too_many:
                        return


def _check_labels(has_label: bool, row: Row, first: dict[bool, str]) -> None:
    """Raise DataError at the first example that has a label when others have none, or vice versa."""
    if has_label not in first:
        first[has_label] = where = row.where
        if len(first) > 1:
            other = f"{first[not has_label]} has {'none' if has_label else 'one'}"
            raise DataError(f"has {'a' if has_label else 'no'} label, {other}", where=where,
                            hint="a split has labels for all rows or for none")  # fmt: skip


def _check_unique(code: str, id: str, where: str, seen: dict[tuple[str, str], str]) -> None:
    """Raise DataError if another example of the language has the id: predictions are stored by id."""
    first = seen.setdefault((code, id), where)
    if first != where:
        raise DataError(f"the id '{id}' is already used in {first}", where=where, hint="ids must be unique")


class Defects:
    """Counts the defects of examples by kind, with the place of the first and whether training excludes them."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, bool, str], tuple[str, int]] = {}

    def usable(self, defect: Defect | None, row: Row, train: bool) -> bool:
        """Whether to use an example; counts its defect."""
        if defect is None:
            return True
        excluded = train and defect.fatal
        self._count((defect.message, excluded, ""), row.where)
        return not excluded

    def note(self, warning: str, where: str) -> None:
        """Count a warning about a line; warnings are counted per file."""
        self._count((warning, False, where.rpartition(":")[0]), where)

    def _count(self, key: tuple[str, bool, str], where: str) -> None:
        first, count = self._seen.get(key, (where, 0))
        self._seen[key] = (first, count + 1)

    @property
    def excluded(self) -> int:
        """How many examples were left out."""
        return sum(count for (_, excluded, _), (_, count) in self._seen.items() if excluded)

    def lines(self) -> Iterator[str]:
        """Yield one line per kind of defect."""
        for (message, excluded, _), (first, count) in self._seen.items():
            others = f", and {count - 1:,} more like it" if count > 1 else ""
            yield f"{first}: {message}{others}{'; left out of training' if excluded else ''}"


def locate(
    task: Task, source: Source, codes: Sequence[str], data: Path | None, limit: int | None = None, *,
    each: bool = False, train: bool = False,
) -> LocatedSplit:  # fmt: skip
    """Find the files of a source in the given languages; `limit` counts examples, with `each` those of each file.

    A layout without labels is passed over if a later one has them.

    Raises:
        MissingData: lists the paths searched for each language without files.
    """
    roots = [] if data is None else [data]
    missing = Collector()
    found: list[tuple[str, Found]] = []
    for code in codes:
        with missing.catch():
            has_labels = partial(labelled, task.format, code)
            files = find(source, code, roots, task=task.name, has_labels=has_labels)
            found.extend((code, file) for file in files)
    missing.raise_any()
    return LocatedSplit(task, tuple(found), limit, each, train)


def check(
    located: LocatedSplit,
    say: Callable[[str], None],
    *,
    labels: bool,
    on_row: Callable[[Row], None] | None = None,
) -> None:
    """Read all examples to find mistakes; see `LocatedSplit.stream`.

    Raises:
        UserError: lists invalid rows, or `labels` are needed and an example has none.
    """
    format = located.task.format
    labels = labels and format.head.kind != "mean"
    unlabelled = sum(
        labels and format.reference(example, i) is None for i, example in enumerate(located.stream(say, on_row))
    )
    if unlabelled:
        raise _no_labels(located)


def _no_labels(located: LocatedSplit) -> UserError:
    """The error for a split without labels; names the column that may have them."""
    format, label, where = located.task.format, located.task.format.fields[-1], ", ".join(located.files)
    code, found = located.found[0]
    columns = dict(next(read(found, code, fields=format.fields, inputs=format.inputs)).values)
    others = [name for name in columns if name not in format.fields]
    if "label" not in type(format).model_fields or label in columns or not others:
        hint = f"training needs '{label}'; test sets are often published without labels"
        if not located.train:
            hint = f"early stopping needs '{label}'; `held_out: 10/10` in the task takes a tenth of the training rows"
        return UserError("this split has no labels", where=where, hint=hint)
    name = label_column(others, [columns[name] for name in others], getattr(format, "labels", None) or ())
    hint = f"write `label: {quoted(name)}`" if name else "the task's `label` names the column with the labels"
    return UserError(
        f"has no column '{label}'; its columns are {', '.join(map(visible, columns))}", where=where, hint=hint
    )
