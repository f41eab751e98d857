"""Token features: examples as ragged arrays that are built once, kept on disk, and mapped into memory."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from xstilts.errors import UserError
from xstilts.task import Example, Features, Format

BLANKS = ("▁", "Ġ")
"""How tokenizers write a blank."""
CHUNK = 2048
"""Examples that are tokenized at once; bounds the memory of building."""


class TokenizerPieces:
    """A fast tokenizer with a maximum length; see `task.Pieces`.

    How special tokens stand around one text and around a pair is read off two probes of the tokenizer, so no family
    needs a rule of its own. Words are read with a space before them, as they stand in a sentence, which gives the same
    pieces for tokenizers that add such a space by themselves and for those that do not.
    """

    def __init__(self, tokenizer: Tokenizer, *, max_length: int, unk_id: int) -> None:
        self.tokenizer, self.max_length, self.unk_id = tokenizer, max_length, unk_id
        tokenizer.no_padding()
        tokenizer.no_truncation()
        one, two = tokenizer.encode("a"), tokenizer.encode("a", "a")
        (self._head, self._tail), (self._before, self._between, self._after) = _around(one, 1), _around(two, 2)
        self._words: dict[str, tuple[list[int], int]] = {}

    def room(self, texts: int) -> int:
        """Pieces that fit beside the special tokens of one text or of a pair."""
        one, two = len(self._head) + len(self._tail), len(self._before) + len(self._between) + len(self._after)
        return self.max_length - (one if texts == 1 else two)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Piece ids of each text, without special tokens and without truncation."""
        encodings = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def spans(self, texts: Sequence[str]) -> list[tuple[list[int], list[tuple[int, int]]]]:
        """Piece ids of each text as in `encode`, and for each piece the first and last + 1 character it stands for.

        A blank that a tokenizer takes into a piece does not count; a piece of nothing else has an empty span. What it
        drops (a combining mark, a zero-width blank) counts with the piece before it.
        """
        encodings = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        signs = {self.tokenizer.token_to_id(sign): sign for sign in BLANKS}
        return [(one.ids, _own(text, one.ids, one.offsets, signs)) for text, one in zip(texts, encodings, strict=True)]

    def words(self, words: Sequence[str]) -> list[tuple[list[int], int]]:
        """For each word its piece ids (`unk` if it has none) and which of them has its first character."""
        new = [word for word in dict.fromkeys(words) if word not in self._words]
        encodings = self.tokenizer.encode_batch([" " + word for word in new], add_special_tokens=False)
        for word, encoding in zip(new, encodings, strict=True):
            first = next((i for i, (_, end) in enumerate(encoding.offsets) if end > 1), 0)
            self._words[word] = (encoding.ids, first) if encoding.ids else ([self.unk_id], 0)
        return [self._words[word] for word in words]

    def single(self, ids: Sequence[int]) -> tuple[list[int], int]:
        """Add the special tokens of one text; also the position of the first piece."""
        return [*self._head, *ids, *self._tail], len(self._head)

    def pair(self, first: Sequence[int], second: Sequence[int]) -> tuple[list[int], int]:
        """Add the special tokens of a pair; also the position of the second text's first piece."""
        start = len(self._before) + len(first) + len(self._between)
        return [*self._before, *first, *self._between, *second, *self._after], start


def _own(
    text: str, ids: Sequence[int], offsets: Sequence[tuple[int, int]], signs: Mapping[int | None, str]
) -> list[tuple[int, int]]:
    """The offsets of a text's pieces without the blanks at their ends, and with the dropped characters that follow.

    Args:
        text: what was split.
        ids: its pieces.
        offsets: first and last + 1 character of each, as the tokenizer has it.
        signs: the pieces that are a blank. A tokenizer that puts one before a word says that it is the word's first
            character.
    """
    spans = []
    for i, (first, last) in enumerate(offsets):
        if ids[i] in signs and text[first:last] != signs[ids[i]]:
            last = first
        while first < last and text[last - 1].isspace():
            last -= 1
        while first < last and text[first].isspace():
            first += 1
        after = offsets[i + 1][0] if i + 1 < len(offsets) else len(text)
        while first < last < after and not text[last].isspace():
            last += 1
        spans.append((first, last))
    return spans


def _around(encoding: Any, texts: int) -> list[list[int]]:
    """Special tokens before, between and after the texts of a probe."""
    groups: list[list[int]] = [[]]
    seen = None
    for token, sequence in zip(encoding.ids, encoding.sequence_ids, strict=True):
        if sequence is None:
            groups[-1].append(token)
        elif sequence != seen:
            groups.append([])
            seen = sequence
    assert len(groups) == texts + 1, "the tokenizer loses a text"
    return groups


@dataclass(frozen=True)
class FeatureSet:
    """The forward passes of a set of examples, as flat arrays (F passes, T tokens, M marks, N notes, E examples).

    ids_T of pass f is the slice [ids_at[f]:ids_at[f+1]], its marks and targets_M are [marks_at[f]:marks_at[f+1]], its
    notes_N are [notes_at[f]:notes_at[f+1]]; the passes of example e are first[e]..first[e+1].
    """

    ids_T: NDArray[np.int32]
    ids_at: NDArray[np.int64]
    marks_M: NDArray[np.int32]
    targets_M: NDArray[np.int32]
    marks_at: NDArray[np.int64]
    second_F: NDArray[np.int32]
    notes_N: NDArray[np.int32]
    notes_at: NDArray[np.int64]
    first: NDArray[np.int64]

    @property
    def examples(self) -> int:
        """Number of examples."""
        return len(self.first) - 1

    @property
    def lengths_F(self) -> NDArray[np.int64]:
        """Tokens of each forward pass, special tokens included."""
        return np.diff(self.ids_at)

    @property
    def example_F(self) -> NDArray[np.int64]:
        """The example that each forward pass belongs to."""
        return np.repeat(np.arange(self.examples), np.diff(self.first))

    @property
    def notes(self) -> list[NDArray[np.int32]]:
        """The notes of each forward pass."""
        return np.split(self.notes_N, self.notes_at[1:-1]) if len(self.notes_N) else []

    @classmethod
    def build(cls, format: Format, examples: Sequence[Example], pieces: TokenizerPieces) -> FeatureSet:
        """Tokenize the examples, a chunk at a time."""
        rows = (
            (start + row.example, row)
            for start in range(0, len(examples), CHUNK)
            for row in format.features(examples[start : start + CHUNK], pieces)
        )
        return cls._gather(rows, len(examples))

    @classmethod
    def _gather(cls, rows: Iterable[tuple[int, Features]], examples: int) -> FeatureSet:
        ids, marks, targets, notes = _Flat(), _Flat(), _Flat(), _Flat()
        second: list[int] = []
        passes = np.zeros(examples, np.int64)
        for example, row in rows:
            ids.add(row.ids)
            marks.add(row.marks)
            targets.add(row.targets)
            notes.add(row.notes)
            second.append(row.second)
            passes[example] += 1
        first = np.concatenate([[0], np.cumsum(passes)])
        return cls(
            ids.values(),
            ids.starts(),
            marks.values(),
            targets.values(),
            marks.starts(),
            np.array(second, np.int32),
            notes.values(),
            notes.starts(),
            first,
        )

    def save(self, folder: Path) -> None:
        """Write the arrays into a new folder, which appears only when it is whole."""
        part = folder.with_name(f"{folder.name}.{uuid4().hex}.part")
        part.mkdir(parents=True)
        try:
            for field in fields(self):
                _write(part / f"{field.name}.npy", getattr(self, field.name))
            part.rename(folder)
        except OSError:
            shutil.rmtree(part, ignore_errors=True)
            if not folder.exists():  # another process may have been first
                raise

    @classmethod
    def load(cls, folder: Path) -> FeatureSet:
        """Map the arrays of a folder into memory."""
        return cls(*(np.load(folder / f"{field.name}.npy", mmap_mode="r") for field in fields(cls)))


def _write(path: Path, array: NDArray[Any]) -> None:
    """What `np.save` does, which says nothing, though, when a full disk takes only a part of the array."""
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(array))
        stream.write(array.tobytes())


class _Flat:
    """Ragged integers, gathered into one array without a Python object for each."""

    def __init__(self) -> None:
        self._rows: list[NDArray[np.int32]] = []
        self._lengths: list[int] = []

    def add(self, row: Sequence[int] | NDArray[np.int32]) -> None:
        self._rows.append(np.array(row, np.int32))
        self._lengths.append(len(row))

    def values(self) -> NDArray[np.int32]:
        return np.concatenate(self._rows) if self._rows else np.zeros(0, np.int32)

    def starts(self) -> NDArray[np.int64]:
        return np.concatenate([[0], np.cumsum(np.array(self._lengths, np.int64))]).astype(np.int64)


def stored(
    store: Path, format: Format, pieces: TokenizerPieces, tokenizer: str, source: str, read: Callable[[], list[Example]]
) -> FeatureSet:
    """Features from the store, or built by `read` and put there.

    The key holds all that the features depend on: the format with its values and version, the tokenizer's digest, the
    maximum length, and `source`, which tells the content of the rows.
    """
    spec = [format.name, format.version, format.model_dump(mode="json"), tokenizer, pieces.max_length, source]
    key = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:24]
    folder = store / key
    if folder.exists():
        try:
            return FeatureSet.load(folder)
        except (FileNotFoundError, ValueError, EOFError):  # a part of it is gone
            shutil.rmtree(folder)
    made = FeatureSet.build(format, read(), pieces)
    if not made.examples:
        raise UserError("no example is left to work on", where=source)
    made.save(folder)
    return FeatureSet.load(folder)
