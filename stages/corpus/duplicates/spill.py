"""Arrays that grow on disk: what a pass over the corpus leaves for later and memory can't hold."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

PARTITIONS = 64


@contextmanager
def spill_folder(folder: Path) -> Iterator[Path]:
    """An empty folder that is gone when the block ends."""
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


class Spill:
    """An array of one type that is appended to, then read in place."""

    def __init__(self, path: Path, dtype: np.dtype | type) -> None:
        self._path, self._dtype = path, np.dtype(dtype)
        self._file = path.open("wb")

    def append(self, values: np.ndarray) -> None:
        self._file.write(np.ascontiguousarray(values, self._dtype).data)

    def read(self) -> np.ndarray:
        """The whole array, mapped from the file; nothing can be appended any more."""
        self._file.close()
        if self._path.stat().st_size == 0:  # can't be mapped
            return np.zeros(0, self._dtype)
        return np.memmap(self._path, self._dtype, mode="r")


class Partitions:
    """Pairs (64-bit key, row), parted by key: a key's rows can be counted with one part of them in memory."""

    DTYPE = np.dtype([("key", np.uint64), ("row", np.int64)])

    def __init__(self, folder: Path) -> None:
        self._parts = [Spill(folder / f"partition_{number:02d}", self.DTYPE) for number in range(PARTITIONS)]

    def append(self, keys: np.ndarray, rows: np.ndarray) -> None:
        pairs = np.empty(len(keys), self.DTYPE)
        pairs["key"], pairs["row"] = keys, rows
        part = keys % np.uint64(PARTITIONS)
        order = np.argsort(part, kind="stable")
        ends = np.searchsorted(part[order], np.arange(PARTITIONS + 1, dtype=np.uint64))
        for number, spill in enumerate(self._parts):
            spill.append(pairs[order[ends[number] : ends[number + 1]]])

    def __iter__(self) -> Iterator[np.ndarray]:
        """Part after part, of `DTYPE`; no key is in two of them."""
        for spill in self._parts:
            yield spill.read()
