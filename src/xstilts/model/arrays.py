"""Integer arrays that grow in files, in the smallest type for their values, and are memory-mapped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

TYPES = (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.int64)
"""Types of stored values; an array has the first that holds them all."""
BLOCK = 2**20
"""Values rewritten at a time when an array needs a wider type."""


class GrowingArray:
    """A new one-dimensional `.npy` file that grows at its end; closing completes it."""

    def __init__(self, path: Path) -> None:
        self.path, self.dtype, self.size = path, np.dtype(TYPES[0]), 0
        self._least = self._most = 0
        self._stream = path.open("w+b")
        self._header()

    def add(self, values: NDArray[Any]) -> None:
        """Append; rewrite the file if a value does not fit its type."""
        if len(values):
            self._least, self._most = min(self._least, int(values.min())), max(self._most, int(values.max()))
            fits = (t for t in TYPES if np.iinfo(t).min <= self._least and self._most <= np.iinfo(t).max)
            if (dtype := np.dtype(next(fits))) != self.dtype:
                self._widen(dtype)
            self._write(values)

    def _write(self, values: NDArray[Any]) -> None:
        self._stream.write(values.astype(self.dtype).tobytes())
        self.size += len(values)

    def _widen(self, dtype: np.dtype[Any]) -> None:
        self.close()
        old = memory_map(self.path)
        self.path.unlink()  # a mapped file stays readable
        self._stream, self.dtype, self.size = self.path.open("w+b"), dtype, 0
        self._header()
        for start in range(0, len(old), BLOCK):
            self._write(old[start : start + BLOCK])

    def _header(self) -> None:
        """Write the header; numpy leaves room in it for any size."""
        shape = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": (self.size,)}
        np.lib.format.write_array_header_1_0(self._stream, shape)

    def close(self) -> None:
        """Finish the file."""
        if self._stream.closed:  # reopening failed
            return
        try:
            self._stream.seek(0)
            self._header()
        finally:
            self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def write(folder: Path, names: Iterable[str], blocks: Iterable[Mapping[str, NDArray[Any]]]) -> None:
    """Write arrays block by block, each into `NAME.npy`."""
    with ExitStack() as stack:
        growing = {name: stack.enter_context(GrowingArray(folder / f"{name}.npy")) for name in names}
        for block in blocks:
            for name, values in block.items():
                growing[name].add(values)


def memory_map(path: Path) -> NDArray[Any]:
    """The memory-mapped array of a file.

    Raises:
        FileNotFoundError, ValueError, EOFError: the file is missing or incomplete.
    """
    return np.asarray(np.load(path, mmap_mode="r"))  # slices of a plain array are cheaper than those of a memmap
