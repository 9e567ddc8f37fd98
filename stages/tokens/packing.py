"""Documents to fixed-length rows: which copies, in what order, and how they share a row."""

from bisect import bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from stages.base.seeds import derive


@dataclass(frozen=True)
class Packed:
    rows: np.ndarray  # [n, seq_len + 1] uint16, every row BOS first
    tokens: int  # of text: neither BOS nor padding
    padding: int
    splits: int  # cuts inside a document, because it was longer than a row or the gap was large


def schedule_copies(ids: Sequence[str], epochs: np.ndarray, seed: int) -> np.ndarray:
    """Indices of documents in reading order; document i comes floor(epochs) times, once more by a draw of its own for
    the rest.

    Copy k of a document with n copies stands at (k + u) / n of the stream, u its own uniform draw: repeats are spread
    evenly, and every stretch of the stream holds all sources in proportion. A pure function of (ids, epochs, seed).
    """
    draws = np.random.default_rng(derive(seed, "copies")).random((len(ids), 2))
    whole = np.floor(epochs).astype(np.int64)
    counts = whole + (draws[:, 0] < epochs - whole)
    owners = np.repeat(np.arange(len(ids)), counts)
    firsts = np.repeat(np.cumsum(counts) - counts, counts)
    places = (np.arange(len(owners)) - firsts + draws[owners, 1]) / counts[owners]
    return owners[np.lexsort((owners, places))]


def pack(
    documents: Sequence[np.ndarray],
    order: Sequence[int],
    seq_len: int,
    bos: int,
    pad: int,
    max_gap: int,
    lookahead: int,
) -> Packed:
    """Fill rows of seq_len + 1 tokens with whole documents, BOS before each: best fit among the next `lookahead`
    documents.

    Where none fits, a gap of at most `max_gap` tokens is padded; a larger one is filled with the head of the longest
    waiting document, whose rest waits on behind a BOS of its own. Documents longer than a row are cut the same way. No
    token of text is lost.
    """
    width = seq_len + 1
    rows: list[np.ndarray] = []
    waiting: list[tuple[int, int, int]] = []  # (text tokens left, serial, document), by length
    offsets: dict[int, int] = {}
    text = padding = splits = serial = 0
    upcoming = (int(document) for document in order if len(documents[document]))

    def refill() -> bool:
        nonlocal serial
        for document in islice(upcoming, lookahead - len(waiting)):
            insort(waiting, (len(documents[document]), serial, document))
            offsets[serial] = 0
            serial += 1
        return bool(waiting)

    while refill():
        row, used = np.full(width, pad, dtype=np.uint16), 0
        while used < width - 1 and refill():
            room = width - used - 1  # a BOS comes first
            place = bisect_right(waiting, (room, serial, 0)) - 1
            if place < 0:
                if used and room < max_gap:
                    break
                place, splits = len(waiting) - 1, splits + 1
            length, number, document = waiting.pop(place)
            taken, offset = min(length, room), offsets.pop(number)
            row[used] = bos
            row[used + 1 : used + 1 + taken] = documents[document][offset : offset + taken]
            used, text = used + 1 + taken, text + taken
            if taken < length:
                insort(waiting, (length - taken, number, document))
                offsets[number] = offset + taken
        padding += width - used
        rows.append(row)
    packed = np.stack(rows) if rows else np.empty((0, width), dtype=np.uint16)
    return Packed(packed, text, padding, splits)


def shuffle_rows(rows: np.ndarray, seed: int) -> np.ndarray:
    """Rows in a seeded order: best fit keeps documents longer than a row waiting and emits them in bursts, during which
    the stream would hold one kind of text only.
    """
    return rows[np.random.default_rng(derive(seed, "rows")).permutation(len(rows))]
