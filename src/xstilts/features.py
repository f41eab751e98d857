"""Token features: examples as ragged arrays that are built once, kept on disk, and mapped into memory."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, fields
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from xstilts import arrays
from xstilts.errors import UserError
from xstilts.task import Example, Format

BLANKS = ("▁", "Ġ")
"""How tokenizers write a blank."""
CHUNK = 512
"""Examples that are tokenized at once; bounds the memory of building."""
WORDS = 100_000
"""Words whose pieces are remembered."""


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
        known = self._words  # other threads may fill it, or begin a new one
        new = [word for word in dict.fromkeys(words) if word not in known]
        encodings = self.tokenizer.encode_batch([" " + word for word in new], add_special_tokens=False)
        for word, encoding in zip(new, encodings, strict=True):
            first = next((i for i, (_, end) in enumerate(encoding.offsets) if end > 1), 0)
            known[word] = (encoding.ids, first) if encoding.ids else ([self.unk_id], 0)
        if len(known) > WORDS:
            self._words = {}
        return [known[word] for word in words]

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


Block: TypeAlias = dict[str, NDArray[Any]]
"""Some rows of each array of a feature set."""

COUNTS = {"ids_at": "ids_T", "marks_at": "marks_M", "notes_at": "notes_N", "first": "second_F", "drawn": "first"}
"""Arrays that hold places in another one."""


@dataclass(frozen=True)
class FeatureSet:
    """The forward passes of a set of examples, as flat arrays (F passes, T tokens, M marks, N notes).

    ids_T of pass f is the slice [ids_at[f]:ids_at[f+1]], its marks and targets_M are [marks_at[f]:marks_at[f+1]], its
    notes_N are [notes_at[f]:notes_at[f+1]]; the passes of example e are first[e]..first[e+1]. Each array is of the
    smallest integer type that holds its values, so mind what is computed with them.
    """

    ids_T: NDArray[Any]
    ids_at: NDArray[Any]
    marks_M: NDArray[Any]
    targets_M: NDArray[Any]
    marks_at: NDArray[Any]
    second_F: NDArray[Any]
    notes_N: NDArray[Any]
    notes_at: NDArray[Any]
    first: NDArray[Any]
    drawn: NDArray[Any]
    """The examples of an epoch, each as often as it is seen: once, unless they were drawn from more or fewer."""

    @property
    def examples(self) -> int:
        """Number of examples of an epoch."""
        return len(self.drawn)

    @property
    def lengths_F(self) -> NDArray[np.int64]:
        """Tokens of each forward pass, special tokens included."""
        return np.diff(self.ids_at).astype(np.int64)

    @property
    def example_F(self) -> NDArray[np.int64]:
        """The example that each forward pass belongs to."""
        return np.repeat(np.arange(len(self.first) - 1), np.diff(self.first))

    @property
    def notes(self) -> list[NDArray[np.int32]]:
        """The notes of each forward pass."""
        return np.split(self.notes_N.astype(np.int32), self.notes_at[1:-1]) if len(self.notes_N) else []

    @classmethod
    def build(cls, format: Format, examples: Iterable[Example], pieces: TokenizerPieces) -> FeatureSet:
        """Tokenize the examples, in memory."""
        blocks = list(_blocks(format, ((example, 1) for example in examples), pieces))
        return cls(*(np.concatenate([block[field.name] for block in blocks]) for field in fields(cls)))

    @classmethod
    def load(cls, folder: Path) -> FeatureSet:
        """Map the arrays of a folder into memory."""
        return cls(*(arrays.mapped(folder / f"{field.name}.npy") for field in fields(cls)))


def _blocks(
    format: Format, examples: Iterable[tuple[Example, int]], pieces: TokenizerPieces
) -> Generator[Block, None, None]:
    """The arrays of examples, and of how often each is in an epoch, a chunk at a time.

    The chunks are made in threads, of which one assembles while another is inside of the tokenizer. What comes out
    does not depend on their number.
    """
    rest, threads = iter(examples), _processors() + 1
    sizes = dict.fromkeys((field.name for field in fields(FeatureSet)), 0)
    yield {name: np.zeros(int(name in COUNTS and name != "drawn"), np.int64) for name in sizes}
    waiting: deque[Future[Block]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            while (some := list(islice(rest, CHUNK))) or waiting:
                if some:
                    waiting.append(pool.submit(_block, format, some, pieces))
                if len(waiting) > threads or not some:
                    block = waiting.popleft().result()
                    yield {name: array + sizes[COUNTS[name]] if name in COUNTS else array
                           for name, array in block.items()}  # fmt: skip
                    sizes = {name: size + len(block[name]) for name, size in sizes.items()}
        finally:
            for future in waiting:
                future.cancel()


def _block(format: Format, examples: Sequence[tuple[Example, int]], pieces: TokenizerPieces) -> Block:
    """The arrays of some examples; places are counted from these."""
    rows = list(format.features([example for example, _ in examples], pieces))
    notes = [row.notes for row in rows]
    passes = np.bincount([row.example for row in rows], minlength=len(examples))
    times = np.array([number for _, number in examples])
    return {
        "ids_T": _flat([row.ids for row in rows]),
        "ids_at": np.cumsum([len(row.ids) for row in rows]),
        "marks_M": _flat([row.marks for row in rows]),
        "targets_M": _flat([row.targets for row in rows]),
        "marks_at": np.cumsum([len(row.marks) for row in rows]),
        "second_F": np.array([row.second for row in rows]),
        "notes_N": np.concatenate(notes).astype(np.int32) if any(map(len, notes)) else np.zeros(0, np.int32),
        "notes_at": np.cumsum([len(row) for row in notes]),
        "first": np.cumsum(passes),
        "drawn": np.repeat(np.arange(len(examples)), times),
    }


def _flat(rows: Sequence[Sequence[int]]) -> NDArray[np.int32]:
    return np.fromiter(chain.from_iterable(rows), np.int32, sum(map(len, rows)))


def _processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def stored(
    store: Path,
    format: Format,
    pieces: TokenizerPieces,
    tokenizer: str,
    source: str,
    read: Callable[[], Iterable[tuple[Example, int]]],
) -> FeatureSet:
    """Features from the store, or built of what is read, as a stream, and put there.

    The key holds all that the features depend on: the format with its values and version, the tokenizer's digest, the
    maximum length, and `source`, which tells the content of the rows. `read` gives examples, and how often each is in
    an epoch.
    """
    spec = [format.name, format.version, format.model_dump(mode="json"), tokenizer, pieces.max_length, source]
    key = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:24]
    folder = store / key
    if folder.exists():
        try:
            return FeatureSet.load(folder)
        except (FileNotFoundError, ValueError, EOFError):  # a part of it is gone
            shutil.rmtree(folder)
    part = folder.with_name(f"{folder.name}.{uuid4().hex}.part")  # becomes the folder when it is whole
    part.mkdir(parents=True)
    try:
        with closing(_blocks(format, read(), pieces)) as blocks:  # its threads end here, whatever happens
            arrays.write(part, (field.name for field in fields(FeatureSet)), blocks)
        if not FeatureSet.load(part).examples:
            raise UserError("no example is left to work on", where=source)
        part.rename(folder)
    except OSError:
        if not folder.exists():  # another process may have been first
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return FeatureSet.load(folder)
