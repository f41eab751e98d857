"""Finds training examples again, in dev, test and training data, and labels that the training data do not have."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from xstilts.data.examples import LocatedSplit
from xstilts.errors import counted, listed, visible
from xstilts.formats import Classify
from xstilts.formats.base import NO_LABEL, Row

MOST = 0.05
"""The largest share of equal examples that may be chance: in a language that the task does not train on."""
_MAX_LABELS = 5
"""So many unknown labels are named."""


@dataclass
class TrainingRows:
    """The places of training examples, by a hash of their inputs, in each file."""

    files: dict[str, dict[int, int | str]] = field(default_factory=dict)
    labels: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """The labels or tags of each task of the user's own whose training set was read whole, and `-1`, which is none."""

    def reader(self, located: LocatedSplit) -> Reader:
        """What reads the rows of a training set."""
        return Reader(located, self)

    def find(self, key: int) -> str:
        """The place of an example, or an empty text."""
        return next((Row({}, path, rows[key]).where for path, rows in self.files.items() if key in rows), "")


class Reader:
    """Receives the rows of a split; notes those of a training set, counts those of others that are known."""

    def __init__(self, located: LocatedSplit, training: TrainingRows) -> None:
        self._located, self._training = located, training
        self._first, self._total, self._equal = "", 0, 0
        format = located.task.format  # the inputs are all fields but the label and an id
        self._trained, self._unknown = {NO_LABEL}, Counter[str]()
        self._own = located.task.own and format.head.kind != "vocabulary"  # lines of raw text may repeat
        self._label = format.fields[-1] if self._own and "label" in type(format).model_fields else ""
        self._earlier: dict[int, tuple[str, str]] = {}
        """The place and the label of each example of a user's task."""
        self._repeats, self._first_repeat, self._conflicts, self._first_conflict = 0, "", 0, ""
        self._inputs = [name for name in dict.fromkeys([*format.inputs, *format.fields[:-1]]) if name != "id"]

    def __call__(self, row: Row) -> None:
        """Receive a row."""
        values = row.values
        key = hash(tuple([str(values.get(name)) for name in self._inputs]))
        labels = self._labels(row)
        if self._own:
            self._note_repeats(row, key)
        if self._located.train:
            self._trained.update(labels)
            self._training.files.setdefault(row.file, {}).setdefault(key, row.line)
            self._total += 1
            return
        self._total += 1
        known = self._training.labels.get(self._located.task.name)
        if known and not known.issuperset(labels):
            self._unknown.update(label for label in labels if label not in known)
        if other := self._training.find(key):
            self._equal += 1
            self._first = self._first or f"{row.where.removeprefix(row.file).lstrip(': ')} is {other}"

    def _labels(self, row: Row) -> Sequence[str]:
        """The label or the tags of a row, if its task is the user's own and may have others than its training data."""
        format, value = self._located.task.format, row.values.get(self._located.task.format.fields[-1])
        if isinstance(format, Classify):
            label = format.spellings.get(str(value), str(value))
            return [label] if self._own and value is not None and label not in format.drop else []
        return value or [] if format.needs_labels and self._located.task.own else []

    def _note_repeats(self, row: Row, key: int) -> None:
        """Note an example whose inputs are those of an earlier one."""
        label = str(row.values.get(self._label, ""))
        where, other = self._earlier.setdefault(key, (row.where, label))
        if where == row.where:
            return
        if label != other:
            self._conflicts += 1
            shown = (
                f"{_place(row.where, row.file)} has '{visible(label)}', {_place(where, row.file)} '{visible(other)}'"
            )
            self._first_conflict = self._first_conflict or shown
        elif self._located.train:
            self._repeats += 1
            self._first_repeat = self._first_repeat or f"{_place(row.where, row.file)} is {_place(where, row.file)}"

    def finish(self) -> None:
        """Note the labels of a training set that was read whole: one with a mistake may have others further on."""
        if self._located.train and len(self._trained) > 1:
            self._training.labels[self._located.task.name] |= self._trained

    def _repeat_lines(self) -> Iterator[str]:
        """A warning on repeated training examples, and one on equal examples with different labels."""
        if self._repeats:
            yield f"{self._repeats:,} of {self._total:,} examples repeat an earlier one: {self._first_repeat}"
        if self._conflicts:
            examples = counted(self._conflicts, "example")
            yield f"{examples} with the text of an earlier one, but another label: {self._first_conflict}"

    def lines(self) -> Iterator[str]:
        """Warnings on training examples that occur again, and on labels that are not in the training data."""
        self.finish()
        path = next(iter(self._located.found[0][1].files))
        yield from (f"{path}: {line}" for line in self._repeat_lines())
        if self._located.train:
            return
        trained = set(self._located.task.train_languages)
        share = self._equal / max(1, self._total)
        if share > (0 if any(code in trained for code, _ in self._located.found) else MOST):
            of = f"{self._equal:,} of {self._total:,} examples ({100 * share:.1f} %)"
            yield f"{path}: {of} are training examples, too: line {self._first}"
        if self._unknown:
            kind, does = (
                ("labels", "learns") if isinstance(self._located.task.format, Classify) else ("tags", "predicts")
            )
            found = listed([f"{visible(label)} {count:,}" for label, count in self._unknown.most_common()], _MAX_LABELS)
            yield f"{path}: {kind} that no training example has, so no model {does} them: {found}"


def _place(where: str, file: str) -> str:
    """The place of an example as a message on a file names it: `line 3`, or with the other file."""
    inside = where.removeprefix(file)
    if inside == where:
        return where
    return f"line {inside[1:]}" if inside[1:].isdecimal() else inside[1:].strip()
