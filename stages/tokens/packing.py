"""Documents to fixed-length rows: which copies, in what order, and how they share a row."""

from bisect import bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from stages.base.seeds import derive

# Where a piece of a document stands: `length` tokens from `offset` of a row on, its BOS before them. It begins at token
# `start` of the document; `document` is its number, `copy` which of its repeats this is.
PLACEMENT = np.dtype(
    [("row", "i8"), ("offset", "i4"), ("length", "i4"), ("document", "i8"), ("copy", "i4"), ("start", "i8")]
)


@dataclass(frozen=True)
class Packed:
    rows: np.ndarray  # [n, seq_len + 1] in the documents' dtype, every row BOS first
    tokens: int  # of text: neither BOS nor padding
    padding: int
    splits: int  # cuts inside a document, because it was longer than a row or the gap was large
    placements: np.ndarray  # [pieces] of PLACEMENT, by row and offset

    @property
    def utilisation(self) -> float:
        """Share of the rows that isn't padding."""
        return 1.0 - self.padding / max(self.rows.size, 1)


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
    documents. Rows have the documents' dtype.

    Where none fits, a gap of at most `max_gap` tokens is padded; a larger one is filled with the head of the longest
    waiting document, whose rest waits on behind a BOS of its own. Documents longer than a row are cut the same way. No
    token of text is lost.
    """
    width = seq_len + 1
    dtype = documents[0].dtype if len(documents) else np.dtype(np.uint16)
    rows: list[np.ndarray] = []
    places: list[tuple[int, int, int, int, int, int]] = []
    waiting: list[tuple[int, int, int]] = []  # (text tokens left, serial, document), by length
    offsets: dict[int, int] = {}
    copies: dict[int, int] = {}  # by serial
    repeats: dict[int, int] = {}  # met so far, by document
    text = padding = splits = serial = 0
    upcoming = (int(document) for document in order if len(documents[document]))

    def refill() -> bool:
        nonlocal serial
        for document in islice(upcoming, lookahead - len(waiting)):
            insort(waiting, (len(documents[document]), serial, document))
            offsets[serial] = 0
            copies[serial] = repeats.get(document, 0)
            repeats[document] = copies[serial] + 1
            serial += 1
        return bool(waiting)

    while refill():
        row, used = np.full(width, pad, dtype=dtype), 0
        while used < width - 1 and refill():
            room = width - used - 1  # a BOS comes first
            fit = bisect_right(waiting, (room, serial, 0)) - 1
            if fit < 0:
                if used and room < max_gap:
                    break
                fit, splits = len(waiting) - 1, splits + 1
            length, number, document = waiting.pop(fit)
            taken, offset = min(length, room), offsets.pop(number)
            row[used] = bos
            row[used + 1 : used + 1 + taken] = documents[document][offset : offset + taken]
            places.append((len(rows), used + 1, taken, document, copies[number], offset))
            used, text = used + 1 + taken, text + taken
            if taken < length:
                insort(waiting, (length - taken, number, document))
                offsets[number] = offset + taken
        padding += width - used
        rows.append(row)
    packed = np.stack(rows) if rows else np.empty((0, width), dtype=dtype)
    return Packed(packed, text, padding, splits, np.array(places, PLACEMENT))


def shuffle_rows(packed: Packed, seed: int) -> Packed:
    """Rows in a seeded order: best fit keeps documents longer than a row waiting and emits them in bursts, during which
    the stream would hold one kind of text only.
    """
    order = np.random.default_rng(derive(seed, "rows")).permutation(len(packed.rows))
    places = packed.placements.copy()
    places["row"] = np.argsort(order)[places["row"]]
    return replace(packed, rows=packed.rows[order], placements=np.sort(places, order=["row", "offset"]))
