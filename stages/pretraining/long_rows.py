"""Long documents out of packed rows, by the shard's document index; long rows of them; loss by position."""

from bisect import bisect_right
from itertools import pairwise

import numpy as np
import pyarrow as pa

from stages.base.errors import InputError
from stages.lm.build import LanguageModel
from stages.lm.scoring import token_losses


def long_documents(rows: np.ndarray, placements: pa.Table, min_tokens: int) -> list[np.ndarray]:
    """The tokens of every document of at least `min_tokens`, put together from its pieces; repeats are left out."""
    first = {name: placements[name].to_numpy() for name in ("row", "offset", "length", "document", "copy", "start")}
    order = np.lexsort((first["start"], first["document"]))
    order = order[first["copy"][order] == 0]
    ends = np.flatnonzero(np.diff(first["document"][order], append=-1)) + 1
    documents, begin = [], 0
    for end in ends.tolist():
        pieces = order[begin:end]
        begin = end
        if int(first["length"][pieces].sum()) >= min_tokens:
            parts = zip(
                first["row"][pieces].tolist(),
                first["offset"][pieces].tolist(),
                first["length"][pieces].tolist(),
                strict=True,
            )
            documents.append(np.concatenate([rows[row, at : at + length] for row, at, length in parts]))
    return documents


def segments(documents: list[np.ndarray], seq_len: int) -> list[np.ndarray]:
    """Documents cut into pieces of at most `seq_len` tokens, in order."""
    return [document[start : start + seq_len] for document in documents for start in range(0, len(document), seq_len)]


def single_rows(pieces: list[np.ndarray], seq_len: int, bos: int, pad: int) -> np.ndarray:
    """[n, seq_len + 1]: each piece in a row of its own, BOS before it, padding behind; in the pieces' dtype."""
    rows = np.full((len(pieces), seq_len + 1), pad, dtype=pieces[0].dtype)
    rows[:, 0] = bos
    for row, piece in zip(rows, pieces, strict=True):
        row[1 : 1 + len(piece)] = piece
    return rows


def packed_rows(pieces: list[np.ndarray], seq_len: int, bos: int, pad: int, seed: int) -> np.ndarray:
    """[n, seq_len + 1]: the longest piece first, the room behind it given to the longest that fit (best-fit
    decreasing), BOS before each; rows in a seeded order. Nothing is cut.

    So every row begins with a long text, and its far positions belong to it.
    """
    waiting = sorted(range(len(pieces)), key=lambda index: (len(pieces[index]), index))
    lengths = [len(pieces[index]) for index in waiting]
    rows = []
    while waiting:
        row, used = np.full(seq_len + 1, pad, dtype=pieces[0].dtype), 0
        while fit := bisect_right(lengths, seq_len - used):
            piece = pieces[waiting.pop(fit - 1)]
            lengths.pop(fit - 1)
            row[used] = bos
            row[used + 1 : used + 1 + len(piece)] = piece
            used += 1 + len(piece)
        rows.append(row)
    return np.stack(rows)[np.random.default_rng(seed).permutation(len(rows))]


def bucket_edges(trained: int, seq_len: int) -> list[int]:
    """0, then powers of two times a quarter of the trained length, up to seq_len."""
    edges = [0, max(1, trained // 4)]
    while edges[-1] * 2 < seq_len:
        edges.append(edges[-1] * 2)
    return [*edges, seq_len]


def loss_by_position(
    model: LanguageModel, rows: np.ndarray, silent: tuple[int, ...], edges: list[int]
) -> dict[str, float]:
    """Nats per token of the targets at positions edges[i] .. edges[i + 1] − 1, by "first_last", and over "all".

    Raises InputError where no row reaches a bucket.
    """
    losses = token_losses(model, rows, silent, batch_rows=max(1, 8192 // rows.shape[1])).astype(np.float64)
    found = {}
    for low, high in [*pairwise(edges), (0, edges[-1])]:
        part = losses[:, low:high]
        if np.isnan(part).all():
            raise InputError(
                f"no validation document reaches positions {low} to {high - 1}; lower `pretraining.context.seq_len`, "
                "or hold longer documents out (corpus.mix)"
            )
        found[f"{low}_{high - 1}" if (low, high) != (0, edges[-1]) else "all"] = float(np.nanmean(part))
    return found
