"""A bounded number of labelled documents for a classifier, the same ones whatever the order of the corpus.

Of each class those with the smallest hashes are taken (a bottom-k sample, Cohen and Kaplan 2007): a document more or
less moves at most one other.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_matrix, vstack

from stages.base.engine import map_batches
from stages.base.seeds import derive
from stages.corpus.classifiers.folds import features
from stages.corpus.links.graph import hashes, member


def priorities(keys: np.ndarray, seed: int) -> np.ndarray:
    """uint64 of each uint64 key: a random order of the keys that the seed sets (SplitMix64, Steele et al. 2014)."""
    value = keys + np.uint64(derive(seed, "example"))
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


class Smallest:
    """The `limit` distinct keys that come first in the seed's order; memory holds at most twice as many and a batch."""

    def __init__(self, limit: int, seed: int) -> None:
        self._limit, self._seed = limit, seed
        self._keys = np.zeros(0, np.uint64)

    def add(self, keys: np.ndarray) -> None:
        self._keys = np.concatenate([self._keys, keys])
        if len(self._keys) > 2 * self._limit:
            self._keys = self.first(self._limit)

    def first(self, count: int) -> np.ndarray:
        """uint64: the first `count` (of the limit at most) distinct keys, in the seed's order."""
        keys = np.unique(self._keys)
        return keys[np.argsort(priorities(keys, self._seed), kind="stable")][: min(count, self._limit)]


class Wanted(NamedTuple):
    """Which rows to take features of."""

    keys: np.ndarray  # uint64, ascending
    columns: tuple[str, ...]  # of the table, that make a row's key
    characters: int
    bits: int


class Found(NamedTuple):
    """The wanted rows of the corpus."""

    keys: np.ndarray  # uint64, ascending, each once
    matrix: csr_matrix  # their features, a row each
    row_keys: np.ndarray  # uint64: the key of every row that has a wanted one, copies too
    row_ids: np.ndarray  # uint64: hash of the id of each of these rows


def row_keys(table: pa.Table, columns: Sequence[str]) -> np.ndarray:
    """uint64 hash of these columns' values, row by row."""
    values = zip(*(table[name].to_pylist() for name in columns), strict=True)
    return hashes("\x1f".join(row) for row in values)


def _pick(batch: pa.Table, wanted: Wanted) -> tuple[np.ndarray, np.ndarray, csr_matrix]:
    keys = row_keys(batch, wanted.columns)
    rows = np.flatnonzero(member(keys, wanted.keys))
    part = batch.select(["id", "text"]).take(pa.array(rows, pa.int64()))
    matrix = features(part["text"].to_pylist(), wanted.characters, wanted.bits)
    return keys[rows], hashes(part["id"].to_pylist()), matrix


def gather(batches: Iterable[pa.Table], wanted: Wanted) -> Found:
    """Features of the wanted rows, of copies the first; batches need `id`, `text` and the key's columns.

    Rows come back in the order of their keys, so that what is fitted on them doesn't depend on the corpus's order.
    """
    none = np.zeros(0, np.uint64)
    every, ids, kept, matrices, seen = [none], [none], [none], [csr_matrix((0, 1 << wanted.bits))], none
    for keys, names, matrix in map_batches(_pick, batches, wanted):
        new, first = np.unique(keys, return_index=True)
        fresh = ~member(new, seen)
        every.append(keys)
        ids.append(names)
        kept.append(new[fresh])
        matrices.append(
            matrix[first[fresh]]
        )  # of copies the first: memory holds what is wanted, however often it is met
        seen = np.union1d(seen, new)
    order = np.argsort(np.concatenate(kept))
    return Found(seen, vstack(matrices, format="csr")[order], np.concatenate(every), np.concatenate(ids))
