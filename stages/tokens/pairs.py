"""Where each pair of neighbouring symbols stands and how often it occurs, kept up to date while pairs are merged.

A cell is one byte of a distinct piece: [symbol, count of its piece, next, previous]. A symbol stands in the first and
the last cell of its bytes, so that both neighbours of a place are found by their lengths; WALL stands between pieces.
`next` and `previous` thread a list through the first cells of all places of one pair, so that memory is 16 bytes a byte
of the distinct pieces from beginning to end.

The table of pairs is a hash table with open addressing, rows of [key, count, first place + 1].
"""

import numba
import numpy as np

from stages.tokens.pieces import Pieces

WALL, GONE = -1, -2
EMPTY = -1  # the key of a free row


@numba.njit(cache=True)
def key_of(left, right):
    """A pair as one number; the order of numbers is that of (left, right)."""
    return (np.int64(left) << 32) | np.int64(right)


@numba.njit(cache=True)
def row_of(table, key):
    """The row of a pair, or the free one where it would stand."""
    mask = np.uint64(len(table) - 1)
    row = ((np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(30)) & mask
    while table[row, 0] != key and table[row, 0] != EMPTY:
        row = (row + np.uint64(1)) & mask
    return row


@numba.njit(cache=True)
def with_room(table, used):
    """(table, rows used): the same if a third is free, else one without the pairs that have no place left."""
    if 3 * (used + 2) < 2 * len(table):
        return table, used
    live = 0
    for row in range(len(table)):
        live += table[row, 0] != EMPTY and table[row, 2] != 0
    capacity = 1024
    while capacity < 2 * live + 16:
        capacity *= 2
    larger = np.full((capacity, 3), EMPTY, np.int64)
    for row in range(len(table)):
        if table[row, 0] != EMPTY and table[row, 2] != 0:
            larger[row_of(larger, table[row, 0])] = table[row]
    return larger, live


@numba.njit(cache=True)
def link(table, cells, key, place):
    """One more place of a pair. Returns whether the pair is new. The table must have room."""
    row = row_of(table, key)
    new = table[row, 0] == EMPTY
    if new:
        table[row, 0], table[row, 1], table[row, 2] = key, 0, 0
    head = table[row, 2] - 1
    cells[place, 2], cells[place, 3] = head, -1
    if head >= 0:
        cells[head, 3] = place
    table[row, 1] += cells[place, 1]
    table[row, 2] = place + 1
    return new


@numba.njit(cache=True)
def unlink(table, cells, key, place):
    """One place fewer of a pair."""
    row = row_of(table, key)
    after, before = cells[place, 2], cells[place, 3]
    if after >= 0:
        cells[after, 3] = before
    if before >= 0:
        cells[before, 2] = after
    else:
        table[row, 2] = after + 1
    table[row, 1] -= cells[place, 1]


@numba.njit(cache=True)
def _fill(cells, text, ends, counts, byte_ids):
    cells[0, 0] = WALL
    cell, first = 1, 0
    for piece in range(len(ends)):
        for place in range(first, ends[piece]):
            cells[cell, 0], cells[cell, 1] = byte_ids[text[place]], counts[piece]
            cell += 1
        cells[cell, 0] = WALL
        cell += 1
        first = ends[piece]


def make_cells(pieces: Pieces, byte_ids: np.ndarray) -> np.ndarray:
    """int32 [bytes + pieces + 1, 4] of the pieces, nothing linked yet. `byte_ids` is the symbol of each byte."""
    cells = np.empty((len(pieces.text) + len(pieces.ends) + 1, 4), np.int32)
    _fill(cells, pieces.text, pieces.ends, pieces.counts, byte_ids)
    return cells


@numba.njit(cache=True)
def link_all(cells):
    """(table, rows used) of the pairs in fresh cells."""
    table, used = np.full((1 << 12, 3), EMPTY, np.int64), 0
    for place in range(len(cells) - 2, 0, -1):
        if cells[place, 0] != WALL and cells[place + 1, 0] != WALL:
            table, used = with_room(table, used)
            used += link(table, cells, key_of(cells[place, 0], cells[place + 1, 0]), place)
    return table, used
