"""Packed token rows on disk, and which of them make up a batch: pure functions, no stateful loader to resume."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stages.base.errors import InputError
from stages.base.seeds import derive
from stages.lm.chat import token_dtype

if TYPE_CHECKING:
    from stages.base.contracts.pack import Pack


class PackedRows:
    """Memory-mapped rows of seq_len + 1 tokens, as `tokens.pack` writes them."""

    def __init__(self, path: Path | str, seq_len: int, dtype: str = "uint16") -> None:
        self.path, self.seq_len = Path(path), seq_len
        if not self.path.is_file():
            raise InputError(f"{path}: no such file; run tokens.pack first")
        size, width = self.path.stat().st_size, np.dtype(dtype).itemsize * (seq_len + 1)
        if size == 0 or size % width:
            raise InputError(
                f"{path}: {size} bytes is no whole number of rows of {seq_len + 1} {dtype} tokens; "
                "it was cut short or packed with another tokens.pack.seq_len: pack again"
            )
        self.rows = np.memmap(
            self.path, dtype=np.dtype(dtype).newbyteorder("<"), mode="r", shape=(size // width, seq_len + 1)
        )

    @classmethod
    def of(cls, path: Path | str, pack: "Pack") -> "PackedRows":
        """The shard at `path` as `pack.json` describes it.

        Raises InputError for a shard that isn't the one described: another number of rows (cut short, another dtype or
        row length), rows that don't begin with `<|bos|>` or ids outside the vocabulary (another tokenizer's), and for a
        dtype that doesn't hold the vocabulary. Rows are looked at in 1,024 places.
        """
        seq_len, dtype, vocab_size = pack.seq_len, pack.dtype, pack.vocab_size
        if dtype != token_dtype(vocab_size):
            raise InputError(
                f"{Path(path).parent}: tokens are stored as {dtype}, a vocabulary of {vocab_size} needs "
                f"{token_dtype(vocab_size)}; run tokens.pack again"
            )
        made = cls(path, seq_len, dtype)
        expected = getattr(pack, made.path.stem).rows
        if len(made) != expected:
            raise InputError(
                f"{path}: {len(made)} rows of {seq_len + 1} {dtype} tokens, pack.json says {expected}; "
                "it was cut short, or packed with another dtype or tokens.pack.seq_len: pack again"
            )
        seen = made.rows[np.linspace(0, expected - 1, min(expected, 1024)).astype(np.int64)]
        if (seen[:, 0] != pack.bos_id).any() or int(seen.max()) >= vocab_size:
            raise InputError(
                f"{path}: not packed with the tokenizer and row length of pack.json (a vocabulary of {vocab_size}, "
                f"<|bos|> {pack.bos_id}, rows of {seq_len + 1} tokens); run tokens.pack again"
            )
        return made

    def __len__(self) -> int:
        return len(self.rows)


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
