"""A piece's bytes to tokens by the merges of a vocabulary: the lowest-ranked pair first, the leftmost of equals.

The table of merges is a hash table with open addressing, rows of [pair, rank and new id], both of 64 bits.
"""

import heapq

import numba
import numpy as np

FREE = np.uint64(0xFFFFFFFFFFFFFFFF)
NEVER = np.int64(0x7FFFFFFFFFFFFFFF)  # the rank of a pair that is no merge
SHORT = 48  # symbols up to which looking at every pair is faster than a heap


@numba.njit(cache=True)
def _row(table, left, right):
    mask = np.uint64(len(table) - 1)
    key = (np.uint64(left) << np.uint64(32)) | np.uint64(right)
    row = ((key * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) & mask
    while table[row, 0] != key and table[row, 0] != FREE:
        row = (row + np.uint64(1)) & mask
    return row


@numba.njit(cache=True)
def _fill(table, pairs, ids):
    for rank in range(len(pairs)):
        left, right = pairs[rank, 0], pairs[rank, 1]
        row = _row(table, left, right)
        table[row, 0] = (np.uint64(left) << np.uint64(32)) | np.uint64(right)
        table[row, 1] = (np.uint64(rank) << np.uint64(32)) | np.uint64(ids[rank])


def merge_table(pairs: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """uint64 [power of two, 2] of int64 [merges, 2] pairs of ids, in order, and the id that each makes."""
    table = np.full((1 << (2 * len(pairs) + 1).bit_length(), 2), FREE, np.uint64)
    _fill(table, pairs, ids)
    return table


@numba.njit(cache=True)
def _found(table, left, right):
    """Rank << 32 | new id of a pair, or NEVER."""
    row = _row(table, left, right)
    return NEVER if table[row, 0] == FREE else np.int64(table[row, 1])


@numba.njit(cache=True)
def _merge_short(symbols, ranks, size, table):
    for place in range(size - 1):
        ranks[place] = _found(table, symbols[place], symbols[place + 1])
    while size > 1:
        best, at = NEVER, -1
        for place in range(size - 1):
            if ranks[place] < best:
                best, at = ranks[place], place
        if at < 0:
            break
        symbols[at] = best & 0xFFFFFFFF
        size -= 1
        for place in range(at + 1, size):
            symbols[place], ranks[place] = symbols[place + 1], ranks[place + 1]
        if at > 0:
            ranks[at - 1] = _found(table, symbols[at - 1], symbols[at])
        if at < size - 1:
            ranks[at] = _found(table, symbols[at], symbols[at + 1])
    return size


@numba.njit(cache=True)
def _merge_long(symbols, size, table):
    """With a heap of (rank and new id, place) and links: n log n, for one unbroken run of a million letters."""
    after, before = np.arange(1, size + 1), np.arange(-1, size - 1)
    heap = [(np.int64(0), np.int64(0)) for _ in range(0)]
    for place in range(size - 1):
        found = _found(table, symbols[place], symbols[place + 1])
        if found != NEVER:
            heap.append((found, np.int64(place)))
    heapq.heapify(heap)
    while len(heap):
        found, at = heapq.heappop(heap)
        right = after[at]
        if symbols[at] < 0 or right == size or _found(table, symbols[at], symbols[right]) != found:
            continue  # one of the two was merged since
        symbols[at], symbols[right] = found & 0xFFFFFFFF, -1
        following, left = after[right], before[at]
        after[at] = following
        if following < size:
            before[following] = at
            found = _found(table, symbols[at], symbols[following])
            if found != NEVER:
                heapq.heappush(heap, (found, at))
        if left >= 0:
            found = _found(table, symbols[left], symbols[at])
            if found != NEVER:
                heapq.heappush(heap, (found, left))
    kept = 0
    for place in range(size):
        if symbols[place] >= 0:
            symbols[kept] = symbols[place]
            kept += 1
    return kept


@numba.njit(cache=True)
def merge(symbols, ranks, size, table):
    """Merge the first `size` symbols (int64) in place; how many are left. `ranks` is int64 scratch as long."""
    return _merge_short(symbols, ranks, size, table) if size <= SHORT else _merge_long(symbols, size, table)
