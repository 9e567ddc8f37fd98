"""Connected components of a graph given edge by edge (union-find with path halving; Tarjan 1975)."""

import numpy as np


class Components:
    """A partition of 0..size-1 in which each component is named by its smallest member."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def find(self, item: int) -> int:
        parent = self._parent
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    def join(self, one: int, other: int) -> None:
        a, b = self.find(one), self.find(other)
        self._parent[max(a, b)] = min(a, b)

    def labels(self) -> np.ndarray:
        """int64 array: the smallest member of each item's component."""
        return np.array([self.find(item) for item in range(len(self._parent))], np.int64)
