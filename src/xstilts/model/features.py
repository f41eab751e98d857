"""Token features: examples as ragged arrays, built once, stored on disk, and memory-mapped."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from xstilts.errors import UserError
from xstilts.formats.base import Example, Features, Format
from xstilts.model import arrays
from xstilts.model.tokenizer import Tokenizer
from xstilts.utils import locks

CHUNK = 512
"""Examples tokenized at a time; limits the memory of building."""

Block: TypeAlias = dict[str, NDArray[Any]]
"""Some rows of each array of a feature set."""

COUNTS = {
    "ids_at": "ids_T",
    "positions_at": "positions_M",
    "decode_info_at": "decode_info_N",
    "first": "second_F",
    "drawn": "first",
}
"""Arrays of indices, each with the array that it indexes."""


@dataclass(frozen=True)
class FeatureSet:
    """The forward passes of a set of examples, as flat arrays (F passes, T tokens, M positions, N decode_info).

    Pass f has ids_T[ids_at[f]:ids_at[f+1]]; its positions_M and targets_M are [positions_at[f]:positions_at[f+1]], its
    decode_info_N is [decode_info_at[f]:decode_info_at[f+1]]. The passes of example e are first[e]..first[e+1]. Each
    array has the smallest integer type that holds its values, so computing with it may overflow.
    """

    ids_T: NDArray[Any]
    ids_at: NDArray[Any]
    positions_M: NDArray[Any]
    targets_M: NDArray[Any]
    positions_at: NDArray[Any]
    second_F: NDArray[Any]
    decode_info_N: NDArray[Any]
    decode_info_at: NDArray[Any]
    first: NDArray[Any]
    drawn: NDArray[Any]
    """The examples of an epoch, each as often as training sees it: once, unless a task samples its examples."""

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
    def decode_info(self) -> list[NDArray[np.int32]]:
        """The decode_info of each forward pass."""
        return (
            np.split(self.decode_info_N.astype(np.int32), self.decode_info_at[1:-1]) if len(self.decode_info_N) else []
        )

    @classmethod
    def build(cls, format: Format, examples: Iterable[Example], tokenizer: Tokenizer) -> FeatureSet:
        """Tokenize the examples, in memory."""
        blocks = list(_blocks(format, ((example, 1) for example in examples), tokenizer))
        return cls(*(np.concatenate([block[field.name] for block in blocks]) for field in fields(cls)))

    @classmethod
    def of(cls, rows: Sequence[Features], examples: int) -> FeatureSet:
        """The forward passes of so many examples, in memory."""
        none = dict.fromkeys(COUNTS, np.zeros(1, np.int64)) | {"drawn": np.zeros(0, np.int64)}
        block = _arrays(rows, [1] * examples)
        return cls(**{name: np.concatenate([none[name], a]) if name in none else a for name, a in block.items()})

    @classmethod
    def load(cls, folder: Path) -> FeatureSet:
        """Map the arrays of a folder into memory."""
        return cls(*(arrays.memory_map(folder / f"{field.name}.npy") for field in fields(cls)))


def _blocks(
    format: Format, examples: Iterable[tuple[Example, int]], tokenizer: Tokenizer
) -> Generator[Block, None, None]:
    """The arrays of examples, each with its count per epoch, a chunk at a time.

    Threads build the chunks: one assembles while another runs the tokenizer. The result does not depend on their
    number.
    """
    rest, threads = iter(examples), _processors() + 1
    sizes = dict.fromkeys((field.name for field in fields(FeatureSet)), 0)
    yield {name: np.zeros(int(name in COUNTS and name != "drawn"), np.int64) for name in sizes}
    waiting: deque[Future[Block]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            while (some := list(islice(rest, CHUNK))) or waiting:
                if some:
                    waiting.append(pool.submit(_block, format, some, tokenizer))
                if len(waiting) > threads or not some:
                    block = waiting.popleft().result()
                    yield {name: array + sizes[COUNTS[name]] if name in COUNTS else array
                           for name, array in block.items()}  # fmt: skip
                    sizes = {name: size + len(block[name]) for name, size in sizes.items()}
        finally:
            for future in waiting:
                future.cancel()


def _block(format: Format, examples: Sequence[tuple[Example, int]], tokenizer: Tokenizer) -> Block:
    """The arrays of some examples; indices count from the first of them."""
    rows = list(format.features([example for example, _ in examples], tokenizer))
    return _arrays(rows, [number for _, number in examples])


def _arrays(rows: Sequence[Features], times: Sequence[int]) -> Block:
    """The arrays of the forward passes of examples, which occur so many times in an epoch."""
    decode_info = [row.decode_info for row in rows]
    passes = np.bincount([row.example for row in rows], minlength=len(times))
    return {
        "ids_T": _flat([row.ids for row in rows]),
        "ids_at": np.cumsum([len(row.ids) for row in rows]),
        "positions_M": _flat([row.positions for row in rows]),
        "targets_M": _flat([row.targets for row in rows]),
        "positions_at": np.cumsum([len(row.positions) for row in rows]),
        "second_F": np.array([row.second for row in rows]),
        "decode_info_N": np.concatenate(decode_info).astype(np.int32)
        if any(map(len, decode_info))
        else np.zeros(0, np.int32),
        "decode_info_at": np.cumsum([len(row) for row in decode_info]),
        "first": np.cumsum(passes),
        "drawn": np.repeat(np.arange(len(times)), times),
    }


def _flat(rows: Sequence[Sequence[int]]) -> NDArray[np.int32]:
    return np.fromiter(chain.from_iterable(rows), np.int32, sum(map(len, rows)))


@contextmanager
def _gc_disabled() -> Iterator[None]:
    """Turn off Python's garbage collection, which takes a sixth of the time and finds nothing: rows hold no cycle."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def key(format: Format, tokenizer: Tokenizer, tokenizer_digest: str, source: str) -> str:
    """The name of a feature set, from all that it depends on.

    That is the format with its values and version, the tokenizer's digest, the maximum length, and `source`, a digest
    of the rows.
    """
    spec = [format.name, format.version, format.identity(), tokenizer_digest, tokenizer.max_length, source]
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:24]


def stored(
    store: Path,
    format: Format,
    tokenizer: Tokenizer,
    tokenizer_digest: str,
    source: str,
    read: Callable[[], Iterable[tuple[Example, int]]],
) -> FeatureSet:
    """Features from the store; if missing, they are built from a stream and stored.

    Their folder is named by `key`. If several processes need them, one builds and the others wait.
    `read` yields examples, each with its count per epoch.
    """
    folder = store / key(format, tokenizer, tokenizer_digest, source)
    if (complete := _load_if_complete(folder)) is not None:
        return complete
    store.mkdir(parents=True, exist_ok=True)
    with locks.exclusive(folder.with_suffix(".lock"), wait=True):
        if (complete := _load_if_complete(folder)) is not None:
            return complete
        shutil.rmtree(folder, ignore_errors=True)  # it may be incomplete
        part = folder.with_name(f"{folder.name}.{uuid4().hex}.part")  # renamed when complete
        part.mkdir()
        try:
            # closing ends the threads that build blocks
            with _gc_disabled(), closing(_blocks(format, read(), tokenizer)) as blocks:
                arrays.write(part, (field.name for field in fields(FeatureSet)), blocks)
            if not FeatureSet.load(part).examples:
                raise UserError("no example is left to work on", where=source)
            part.rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return FeatureSet.load(folder)


def _load_if_complete(folder: Path) -> FeatureSet | None:
    """Stored features, if complete."""
    try:
        return FeatureSet.load(folder)
    except (FileNotFoundError, ValueError, EOFError):
        return None
