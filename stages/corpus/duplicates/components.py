"""Connected components of a graph given edge by edge: union-find with path halving (Tarjan 1975).

A partition of 0..size-1 is an int64 array of parents, `np.arange(size)` to begin with, that kernels can work on. A
component's root is its smallest member.
"""

import numba
import numpy as np


@numba.njit(cache=True)
def find(parent: np.ndarray, item: int) -> int:
    """The root of an item's component."""
    while parent[item] != item:
        parent[item] = parent[parent[item]]
        item = parent[item]
    return item


@numba.njit(cache=True)
def join(parent: np.ndarray, one: int, other: int) -> None:
    """Make one component of two."""
    a, b = find(parent, one), find(parent, other)
    parent[max(a, b)] = min(a, b)


@numba.njit(cache=True)
def labels(parent: np.ndarray) -> np.ndarray:
    """int64 array: the smallest member of each item's component."""
    result = np.empty(len(parent), np.int64)
    for item in range(len(parent)):
        result[item] = find(parent, item)
    return result
