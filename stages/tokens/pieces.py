"""Distinct pieces of a stream of texts and how often each occurs: all that BPE training needs of a corpus."""

from typing import NamedTuple

import numba
import numpy as np

from stages.tokens.characters import kinds_for
from stages.tokens.splitter import join_texts, piece_end, rule_of


class Pieces(NamedTuple):
    """The distinct pieces, one after the other."""

    text: np.ndarray  # uint8: their bytes
    ends: np.ndarray  # int64 [pieces]: where each ends
    counts: np.ndarray  # int64 [pieces]


class PieceCounter:
    """`add` batches of texts, then take `pieces`. Memory holds a batch and the distinct pieces."""

    def __init__(self, pretokenizer: str) -> None:
        self._kinds, self._rule = kinds_for(pretokenizer), rule_of(pretokenizer)
        self._slots = np.full(1 << 14, -1, np.int32)
        self._text = np.empty(1 << 16, np.uint8)
        self._ends, self._counts = np.empty(1 << 12, np.int64), np.empty(1 << 12, np.int64)
        self._size = 0

    def add(self, texts: list[str]) -> None:
        """Count the pieces of some texts."""
        self._slots, self._text, self._ends, self._counts, self._size = _count(
            *join_texts(texts), self._kinds, self._rule, self._slots, self._text, self._ends, self._counts, self._size
        )

    def pieces(self) -> Pieces:
        """Views of what was counted so far."""
        ends = self._ends[: self._size]
        return Pieces(self._text[: ends[-1] if self._size else 0], ends, self._counts[: self._size])


@numba.njit(cache=True)
def _digest(text, first, last):
    """FNV-1a."""
    digest = np.uint64(0xCBF29CE484222325)
    for place in range(first, last):
        digest = (digest ^ np.uint64(text[place])) * np.uint64(0x100000001B3)
    return digest ^ (digest >> np.uint64(29))


@numba.njit(cache=True)
def doubled(array, used):
    """A copy with twice the room; the first `used` items are kept."""
    larger = np.empty(2 * len(array), array.dtype)
    larger[:used] = array[:used]
    return larger


@numba.njit(cache=True)
def _rehashed(slots, text, ends, size):
    larger = np.full(2 * len(slots), -1, np.int32)
    mask = np.uint64(len(larger) - 1)
    first = 0
    for piece in range(size):
        slot = _digest(text, first, ends[piece]) & mask
        while larger[slot] >= 0:
            slot = (slot + np.uint64(1)) & mask
        larger[slot] = piece
        first = ends[piece]
    return larger


@numba.njit(cache=True)
def _is(piece, text, ends, batch, first, last):
    """Is a known piece the bytes first … last of the batch?"""
    start = ends[piece - 1] if piece else 0
    if ends[piece] - start != last - first:
        return False
    for step in range(last - first):  # noqa: SIM110
        if text[start + step] != batch[first + step]:
            return False
    return True


@numba.njit(cache=True)
def _count(batch, starts, kinds, rule, slots, text, ends, counts, size):
    """Pieces of a batch into a hash table with open addressing: slots → piece numbers."""
    used = ends[size - 1] if size else 0
    for number in range(len(starts) - 1):
        first = starts[number]
        while first < starts[number + 1]:
            last = piece_end(batch, first, starts[number + 1], kinds, rule)
            mask = np.uint64(len(slots) - 1)
            slot = _digest(batch, first, last) & mask
            while slots[slot] >= 0 and not _is(slots[slot], text, ends, batch, first, last):
                slot = (slot + np.uint64(1)) & mask
            if slots[slot] >= 0:
                counts[slots[slot]] += 1
            else:
                if size == len(ends):
                    ends, counts = doubled(ends, size), doubled(counts, size)
                while used + last - first > len(text):
                    text = doubled(text, used)
                text[used : used + last - first] = batch[first:last]
                used += last - first
                slots[slot], ends[size], counts[size] = size, used, 1
                size += 1
                if 4 * size > 3 * len(slots):
                    slots = _rehashed(slots, text, ends, size)
            first = last
    return slots, text, ends, counts, size
