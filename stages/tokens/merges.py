"""Byte-pair training: merge the most frequent pair, again and again (Sennrich et al. 2016, algorithm 1).

The rule: the pair with the highest count; among equals the one with the smaller left id, then the smaller right id. A
count is over all neighbouring places, so "aaa" has (a, a) twice; a merge goes from left to right and takes one of them.
Hugging Face's trainer follows the same rule. Sums and this order depend on no order of texts, hash or threads.

No two tokens get the same bytes: were a string s one token here and two neighbours x, y there, no merge has crossed the
borders of either, so both went through the same merges, from left to right, and would be cut alike.
"""

import heapq

import numba
import numpy as np

from stages.base.errors import ResourceError
from stages.tokens.pairs import GONE, WALL, key_of, link, link_all, make_cells, row_of, unlink, with_room
from stages.tokens.pieces import Pieces, doubled


def learn_merges(pieces: Pieces, byte_ids: np.ndarray, count: int, min_frequency: int) -> np.ndarray:
    """int32 [merges, 2]: at most `count` pairs of ids, in order; merge k makes the token 256 + k.

    `byte_ids` (int32 [256]) is the id of each byte. It ends early where no pair occurs `min_frequency` times. Raises
    ResourceError where the distinct pieces, or the count of one, are over 2^31.
    """
    if max(len(pieces.text) + len(pieces.ends), pieces.counts.max(initial=0)) >= 2**31 - 1:
        raise ResourceError("too much text to train a tokenizer on; lower `tokens.tokenizer.max_bytes`")
    return _learn(make_cells(pieces, byte_ids), count, min_frequency)


@numba.njit(cache=True)
def _places(table, cells, row, places):
    """(array, number) of the places of a pair. The array is `places` or a larger one."""
    size, place = 0, table[row, 2] - 1
    while place >= 0:
        if size == len(places):
            places = doubled(places, size)
        places[size] = place
        size += 1
        place = cells[place, 2]
    return places, size


@numba.njit(cache=True)
def _learn(cells, count, min_frequency):
    table, used = link_all(cells)
    heap = [(np.int64(-1), np.int64(-1)) for _ in range(0)]  # (-count, key): the smallest is the pair to merge
    for row in range(len(table)):
        if table[row, 1] >= min_frequency and table[row, 0] >= 0:
            heap.append((-table[row, 1], table[row, 0]))
    heapq.heapify(heap)
    lengths = np.ones(256 + count, np.int64)
    merges = np.empty((count, 2), np.int32)
    places, fresh = np.empty(1024, np.int32), np.empty(1024, np.int64)
    merged = 0
    while merged < count and len(heap):
        negative, key = heapq.heappop(heap)
        row = row_of(table, key)
        now = table[row, 1] if table[row, 0] == key else np.int64(0)
        if now != -negative:  # counts of a pair only sink once it is in the heap
            if now >= min_frequency:
                heapq.heappush(heap, (-now, key))
            continue
        left, right, new = np.int32(key >> 32), np.int32(key & 0xFFFFFFFF), np.int32(256 + merged)
        merges[merged, 0], merges[merged, 1] = left, right
        lengths[new] = lengths[left] + lengths[right]
        merged += 1
        places, size = _places(table, cells, row, places)
        table[row, 1] = table[row, 2] = 0
        if left == right:  # they may overlap: the leftmost of a run is merged first
            places[:size].sort()
        added = 0
        for number in range(size):
            place = places[number]
            middle, after = place + lengths[left], place + lengths[new]
            if cells[place, 0] != left or cells[middle, 0] != right:  # taken by the place before, of "aaa"
                continue
            before, behind = cells[place - 1, 0], cells[after, 0]
            if before != WALL:
                unlink(table, cells, key_of(before, left), place - lengths[before])
            if behind != WALL and not (left == right == behind):  # the list of the pair itself is gone already
                unlink(table, cells, key_of(right, behind), middle)
            cells[middle, 0] = GONE
            cells[place, 0] = cells[after - 1, 0] = new
            table, used = with_room(table, used)
            if added + 2 > len(fresh):
                fresh = doubled(fresh, added)
            if before != WALL and link(table, cells, key_of(before, new), place - lengths[before]):
                fresh[added] = key_of(before, new)
                added += 1
                used += 1
            if behind != WALL and link(table, cells, key_of(new, behind), place):
                fresh[added] = key_of(new, behind)
                added += 1
                used += 1
        for number in range(added):
            row = row_of(table, fresh[number])
            if table[row, 0] == fresh[number] and table[row, 1] >= min_frequency:
                heapq.heappush(heap, (-table[row, 1], fresh[number]))
    return merges[:merged].copy()
