"""Packed token rows on disk, and which of them make up a batch: pure functions, no stateful loader to resume."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stages.base.errors import InputError
from stages.base.seeds import derive


class PackedRows:
    """Memory-mapped uint16 rows of seq_len + 1 tokens, as `tokens.pack` writes them."""

    def __init__(self, path: Path | str, seq_len: int) -> None:
        self.path, self.seq_len = Path(path), seq_len
        if not self.path.is_file():
            raise InputError(f"{path}: no such file; run tokens.pack first")
        size, width = self.path.stat().st_size, 2 * (seq_len + 1)
        if size == 0 or size % width:
            raise InputError(
                f"{path}: {size} bytes is no whole number of rows of {seq_len + 1} uint16 tokens; "
                "it was cut short or packed with another tokens.pack.seq_len: pack again"
            )
        self.rows = np.memmap(self.path, dtype=np.uint16, mode="r", shape=(size // width, seq_len + 1))

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: np.ndarray) -> Tensor:
        """The rows at these indices, [B, seq_len + 1] int64."""
        return torch.from_numpy(self.rows[indices].astype(np.int64))


def batch_rows(seed: int, step: int, batch_size: int, n_rows: int) -> np.ndarray:
    """Row indices of one step's batch: consecutive places in a stream of seeded permutations, one an epoch.

    A pure function, so a resumed run, or one on another number of processes (each takes a slice), sees the same order.
    """
    places = np.arange(step * batch_size, (step + 1) * batch_size)
    indices = np.empty(batch_size, dtype=np.int64)
    for epoch in np.unique(places // n_rows):
        order = np.random.default_rng(derive(seed, "epoch", int(epoch))).permutation(n_rows)
        chosen = places // n_rows == epoch
        indices[chosen] = order[places[chosen] % n_rows]
    return indices


def in_order(step: int, batch_size: int, n_rows: int) -> np.ndarray:
    """Row indices of one step's batch in file order, for files whose order was seeded when they were packed."""
    return np.arange(step * batch_size, (step + 1) * batch_size) % n_rows
