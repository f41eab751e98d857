"""Writes a commented task file for a user's data, with guesses that the user can correct."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from xstilts import languages
from xstilts.data.columns import Named, Table, language_column, split_column
from xstilts.data.examples import locate
from xstilts.data.file_names import DataFile, data_files, named, shared_pattern, twice
from xstilts.data.guess import columns_like, guess, has_no_answer, label_values
from xstilts.data.headers import quoted
from xstilts.data.records import suffix
from xstilts.errors import Collector, UserError, listed, visible
from xstilts.tasks import TASKS
from xstilts.tasks.shorthand import SPLITS
from xstilts.tasks.task import Split, Task
from xstilts.tasks.user_tasks import from_yaml
from xstilts.utils.files import write_atomic

ROWS_TO_DIVIDE = 50
"""A file with fewer rows is not divided into train, dev and test."""
PARTS = {"train": "1-8/10", "dev": "9/10", "test": "10/10"}
"""The rows of each split of a single file."""
NO_AGREEMENT = "-"
"""The label of pairs without agreement, as SNLI writes it."""


@dataclass(frozen=True)
class TaskRequest:
    """Whose data to describe, and what the user says of them."""

    paths: tuple[Path, ...]
    named: Named
    languages: tuple[str, ...] = ()
    """Codes: one alone is the language of files whose names say none."""
    name: str = ""
    out: Path | None = None


@dataclass(frozen=True)
class NewTask:
    """The task file that was written, its task, and what the user should know."""

    path: Path
    task: Task
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Rows:
    """The rows of one language in a file."""

    file: DataFile
    language: str
    columns: dict[str, str] | tuple[str, ...] | None = None
    where: str = ""
    """The column with the language, if the file has several."""
    from_column: bool = False
    """Whether a column of the file says the language."""
    of_split: Mapping[str, str] = field(default_factory=dict)
    """The column that says the split, with its value."""
    part: str = ""
    table: Table | None = None
    classes: tuple[str, ...] = ()


_Splits = Mapping[str, dict[str, _Rows]]
"""The rows of each split by language."""


def write_task(request: TaskRequest) -> NewTask:
    """Guess a task from data files, and write its file beside them.

    Raises:
        UserError: a guess needs a name from the user, the data cannot be read, or the file exists.
    """
    draft = _Draft(request)
    path = request.out or draft.folder / f"{draft.name}.yaml"
    if os.path.lexists(path):
        raise UserError("exists already", where=str(path), hint="--out names another file")
    write_atomic(path, draft.text())
    try:
        task = from_yaml(path, TASKS)[draft.name]
    except UserError:
        path.unlink()
        raise
    return NewTask(path, task, (*draft.notes, *_sorted_by_label(task, draft.divided)))


class _Draft:
    """What is guessed of a task."""

    def __init__(self, request: TaskRequest) -> None:
        self.request, self.notes = request, list[str]()
        for code in request.languages:
            if not languages.well_formed(code) or languages.as_code(code) != code:
                raise UserError(f"unknown language '{visible(code)}'", where="--lang", hint=languages.hint(code))
        files = data_files(request.paths)
        given = [path if path.is_dir() else path.parent for path in request.paths]
        folder = Path(os.path.commonpath([path.resolve() for path in given]))
        self.folder = given[0] if given[0].resolve() == folder else folder
        beside = Path(os.path.relpath(folder, request.out.parent.resolve() if request.out else folder)).as_posix()
        self.prefix = "" if beside == "." else f"{beside}/"
        relative = [Path(os.path.relpath(path.resolve(), folder)).as_posix() for path in files]
        self.files = named(files, relative, request.languages)
        self.default, self.default_is_guess = self._default_language()
        self.main = self._main()
        self.guess = guess(str(self.main.path), request.named)
        self.name = request.name or self._name(folder)
        self.divided = False
        self.splits = self._languages_apart(self._assigned())
        self.train_language = self._train_language()

    def _default_language(self) -> tuple[str, bool]:
        """The language of files whose names say none, and whether that is a guess."""
        trained = {file.language for file in self.files if file.split == "train"}
        if len(self.request.languages) == 1:
            return self.request.languages[0], False
        if len(trained) == 1 and (language := trained.pop()):
            return language, not all(file.language for file in self.files)
        return languages.ENGLISH, not all(file.language for file in self.files)

    def _main(self) -> DataFile:
        """The file whose columns and labels the task has: of train, in the default language if possible.

        Beside dev or test data, a single such file without a split in its name is the training data.
        """
        kinds = {suffix(str(file.path)) for file in self.files if file.split}
        rest = [file for file in self.files if not file.split and file.language in ("", self.default)]
        rest = [file for file in rest if suffix(str(file.path)) in kinds]
        if len(rest) == 1 and all(file.split != "train" for file in self.files):
            return rest[0]
        order = {split: number for number, split in enumerate(("train", "dev", "test", ""))}
        return min(self.files, key=lambda file: (order[file.split], file.language not in ("", self.default)))

    def _name(self, folder: Path) -> str:
        """A name for the task: what the files' names share, that of the file without a split, or the folder's name."""
        rest = (
            {file.rest for file in self.files if file.split or file.language} if self.main.split else {self.main.rest}
        )
        words = rest.pop() if len(rest) == 1 else ""
        name = re.sub("[^a-z0-9]+", "-", (words or folder.name).lower()).strip("-")[:90] or "task"
        return name if name.startswith("my-") else f"my-{name}"

    def _assigned(self) -> dict[str, dict[str, _Rows]]:
        """The files by split and language."""
        splits: dict[str, dict[str, _Rows]] = defaultdict(dict)
        any_split = any(file.split for file in self.files)
        for file in self.files:
            split, language = file.split, file.language or self.default
            if not split and any_split and not file.language and file is not self.main:
                self.notes.append(
                    f"{file.path}: left out, because its name says no language, and not train, dev or test"
                )
                continue
            split = split or ("train" if file is self.main else "test")
            if other := splits[split].get(language):
                raise twice(file, split, language, other.file)
            columns, read = (self.guess.columns, self.guess.table) if file is self.main else columns_like(
                str(file.path), self.guess)  # fmt: skip
            splits[split][language] = _Rows(file, language, columns, table=read, classes=self.guess.classes)
        if any_split and splits.keys() == {"train"}:
            self.notes.append("there are only training data; add files with dev or test in their names to score it")
        if self.guess.format == "mask" and not any_split:
            return {"train": {**splits["train"], **splits["test"]}}
        return splits if self.main.split else self._with_parts(splits)

    def _with_parts(self, splits: dict[str, dict[str, _Rows]]) -> dict[str, dict[str, _Rows]]:
        """The splits, with parts of the one file of training data as dev and test data in its language.

        A column of the file may say the split of each row.
        """
        (language, rows), *_ = splits["train"].items()
        read = rows.table
        if splits["dev"] or language in splits["test"]:
            return splits
        column, values = split_column(read)
        if column:
            own = {split: {language: replace(rows, of_split={column: value})} for split, value in values.items()}
            return own | {"test": own.get("test", {}) | splits["test"]}
        if read is not None and read.rows < ROWS_TO_DIVIDE:
            self.notes.append(f"{rows.file.path}: too few rows for dev and test data; add files of them")
            return splits
        self.divided = True
        parts = {split: {language: replace(rows, part=part)} for split, part in PARTS.items()}
        return parts | {"test": parts["test"] | splits["test"]}

    def _languages_apart(self, splits: Mapping[str, dict[str, _Rows]]) -> dict[str, dict[str, _Rows]]:
        """The splits, where a file with a column of several languages stands for each of them."""
        found: dict[str, dict[str, _Rows]] = {}
        for split, by_language in splits.items():
            found[split] = {}
            for language, rows in by_language.items():
                column, codes = ("", []) if rows.file.language else language_column(rows.table)
                for code in codes or [language]:
                    if other := found[split].get(code):
                        raise twice(rows.file, split, code, other.file)
                    where = column if len(codes) > 1 else ""
                    found[split][code] = replace(rows, language=code, where=where, from_column=bool(codes))
        return {split: found[split] for split in SPLITS if found.get(split)}

    def _train_language(self) -> str:
        """The language of the training data, or of the labelled data that there are."""
        trained = [*next(iter(self.splits.values()))]
        preferred = [code for code in (self.default, languages.ENGLISH) if code in trained]
        return (preferred or trained)[0]

    # --- the text

    def text(self) -> str:
        """The task file."""
        files = listed([file.relative for file in self.files], 4)
        lines = [
            f"# Guessed by `xstilts new task` from {visible(files)}; correct what is wrong",
            f"{self.name}:",
            _line("format", self.guess.format, self.guess.comments.get("format", "")),
        ]
        self.splits = self._sources()
        fields = {**self.guess.fields, **self._labels()}
        comments = {**self.guess.comments, **self._label_comments()}
        lines += [_line(key, _value(value), comments.get(key, "")) for key, value in fields.items()]
        lines.append("  data:")
        for split, by_language in self.splits.items():
            lines += self._source(split, by_language)
        return "\n".join([*lines, *self._language_lines()]) + "\n"

    def _labels(self) -> dict[str, object]:
        """The labels of the training data and their other spellings."""
        if self.guess.format == "tag" and "train" not in self.splits:
            raise UserError("is not training data, whose tags the task would have", where=str(self.main.path),
                            hint="give a file with train in its name, too")  # fmt: skip
        if self.guess.format == "span":
            names = self.guess.columns if isinstance(self.guess.columns, dict) else {}
            read = [rows.file for by_language in self.splits.values() for rows in by_language.values()]
            none = any(has_no_answer(str(file.path), names.get("answers", "answers")) for file in read)
            return {"no_answer": none}
        if self.guess.format != "classify":
            return {}
        if self.guess.classes:
            return {"labels": [*self.guess.classes]}
        known, spellings = self._counted_labels()
        if len(known) < 2:
            what = f"has only the label '{visible(next(iter(known)))}'" if known else "has no labels"
            raise UserError(f"{what} in '{self.guess.fields['label']}'", where=str(self.main.path),
                            hint="--label names another column")  # fmt: skip
        numbers = all(re.fullmatch(r"[+-]?\d+", label) for label in known)
        ordered = sorted(known, key=lambda label: (int(label), label) if numbers else (0, label))
        dropped = [label for label in ordered if label == NO_AGREEMENT]
        fields: dict[str, object] = {"labels": [label for label in ordered if label not in dropped]}
        return fields | ({"spellings": spellings} if spellings else {}) | ({"drop": dropped} if dropped else {})

    def _counted_labels(self) -> tuple[Counter[str], dict[str, str]]:
        """Each label with its number of rows, and the label that another spelling means; training data come first."""
        known, spellings, read = Counter[str](), dict[str, str](), set[int]()
        label = str(self.guess.fields["label"])
        for by_language in self.splits.values():
            tables = {id(rows.table): rows.table for rows in by_language.values() if rows.table}
            columns = [one.columns[label] for key, one in tables.items() if label in one.columns and key not in read]
            read |= tables.keys()
            counts = Counter[str]()
            for value, number in label_values(columns):
                counts[value] += number
            for value, number in counts.most_common():
                same = next((one for one in known if one.casefold() == value.casefold()), value)
                known[same] += number
                if same != value:
                    spellings[value] = same
        return known, spellings

    def _label_comments(self) -> dict[str, str]:
        if self.guess.format != "classify" or self.guess.classes:
            return {}
        known, _ = self._counted_labels()
        shown = [f"{visible(label)} {number:,}" for label, number in known.most_common()]
        comments = {"spellings": "how some rows write a label", "drop": "rows with this label are left out"}
        return {"labels": f"rows: {listed(shown, 6)}", **comments}

    def _sources(self) -> dict[str, dict[str, _Rows]]:
        """The splits that the task can have: its dev set is in all of its languages, or in the training language."""
        splits, code = dict(self.splits), self.train_language
        dev, test = splits.get("dev", {}), splits.get("test", {})
        zero_shot = "train" in splits and code in dev and code not in test
        why = "they have no test data"
        if dev and test and (zero_shot or not test.keys() <= dev.keys()):
            if code in dev:
                splits["dev"] = {code: dev[code]}
            elif "train" in splits:
                del splits["dev"]
            why = "the training language has some" if zero_shot else "not all languages have some"
        elif dev and test:
            splits["dev"] = {other: rows for other, rows in dev.items() if other in test}
        if left := [other for other in dev if other not in splits.get("dev", {})]:
            self.notes.append(f"dev data left out, because {why}: {listed(left, 12)}")
        if "train" in splits and (dev or test) and self.guess.format != "mask" and code not in splits.get("dev", {}):
            first = "" if "dev" in splits else ", and the first run counts as the best"
            self.notes.append(f"no dev data in {code}, the training language: no early stopping{first}")
        return splits

    def _source(self, split: str, by_language: dict[str, _Rows]) -> Iterator[str]:
        """The lines of one split."""
        rows = [*by_language.values()]
        alone, first = len(rows) == 1, rows[0]
        alike = all((one.columns, one.where, one.of_split, one.part) == (
            first.columns, first.where, first.of_split, first.part) for one in rows)  # fmt: skip
        same_file = len({one.file.relative for one in rows}) == 1
        pattern = "" if alone or not alike else rows[0].file.relative if same_file else shared_pattern(
            [one.file for one in rows])  # fmt: skip
        if alone:
            foreign = split == "dev" and first.language != self.train_language
            yield f"    {split}: {_file(first, self.prefix + first.file.relative, first.language, only=foreign)}"
        elif pattern:
            yield f"    {split}: {_file(first, self.prefix + pattern, '{lang}')}  # {listed([*by_language], 12)}"
        else:
            yield f"    {split}:"
            yield "      first_of:  # of these the file of the language"
            for one in rows:
                yield f"        - {_file(one, self.prefix + one.file.relative, one.language, only=True)}"

    def _language_lines(self) -> Iterator[str]:
        """The lines of languages."""
        splits = self.splits
        scored = splits.get("test") or splits.get("dev") or splits["train"]
        codes = [code for code in (self.train_language,) if code in scored]
        codes += [code for code in scored if code not in codes]
        guessed = self.default_is_guess and any(
            not rows.file.language and not rows.from_column for rows in scored.values()
        )
        yield _line("languages", _value(codes), "a guess: no file's name says it" if guessed else "")
        trained = splits.get("train", {})
        if len(trained) > 1 and self.guess.format == "mask":
            yield _line("train_languages", "all", "")
        elif len(trained) > 1:
            comment = f"`all` trains on {listed([*trained], 8)} together"
            yield _line("train_languages", _value([self.train_language]), comment)
        elif trained:
            rows = trained[self.train_language]
            known = rows.file.language or rows.from_column or not self.default_is_guess
            yield _line("train_languages", _value([self.train_language]), "" if known else "a guess, too (--lang)")


def _line(key: str, value: str, comment: str) -> str:
    return f"  {key}: {value}" + (f"  # {visible(comment)}" if comment else "")


def _value(value: object) -> str:
    """A value as YAML on one line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{quoted(str(key))}: {_value(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return quoted(str(value))


def _file(rows: _Rows, path: str, code: str, *, only: bool = False) -> str:
    """A file as a task names it."""
    if "*" in path:
        raise UserError("has a `*` in its name, which stands for other characters", where=str(rows.file.path))
    fields: dict[str, object] = {"path": path}
    fields |= {"columns": rows.columns} if rows.columns else {}
    where = {**rows.of_split, **({rows.where: code} if rows.where else {})}
    fields |= {"where": where} if where else {}
    fields |= {"part": rows.part} if rows.part else {}
    fields |= {"classes": rows.classes} if rows.classes else {}
    fields |= {"languages": [code]} if only else {}
    return _value(fields) if len(fields) > 1 else _value(path)


def _sorted_by_label(task: Task, divided: bool) -> Iterator[str]:
    """A note if the parts of one file have different labels, because its rows are sorted."""
    if not divided or task.format.name != "classify":
        return
    seen: dict[Split, set[str]] = {split: set() for split in SPLITS}
    with Collector().catch():  # `data check` shows mistakes of rows
        for split in SPLITS:
            examples = locate(task, task.data[split], task.train_languages, None).read()
            seen[split] = {str(task.format.reference(example, i)) for i, example in enumerate(examples)}
    lacking = sorted(seen["test"] - seen["train"])
    if lacking or len(seen["test"]) < 2 <= len(seen["train"]):
        yield "the rows are sorted by label, so train and test have different ones; shuffle the rows first"


def summary(new: NewTask) -> Iterator[str]:
    """What was written, and the commands that come next."""
    task = new.task
    splits = ", ".join(f"{split} {' '.join(task.languages_of(split))}" for split in SPLITS if split in task.data)
    yield f"{new.path}: {task.name} ({task.format.name}): {splits}"
    yield from (f"note: {note}" for note in new.notes)
