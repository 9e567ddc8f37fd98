"""From band keys to near-duplicate components: buckets, exact Jaccard verification, union-find.

The components are those of the graph whose edges are the pairs of texts that share a bucket in any band and whose exact
Jaccard similarity reaches the threshold. A pair is compared only if nothing cheaper settles it, and no short cut can
change a component:

- a pair already connected adds nothing;
- a pair that met in an earlier band was settled there: connected or refused;
- overlap is at most the smaller set, and at most (|A| + |B| - d) / 2, where d is the number of bits in which the sets'
  parity bitmaps differ: each such bit is in the symmetric difference (Sandes, Teodoro & Melo 2020);
- a merge stops where too little is left to reach the overlap that the threshold needs.

So a bucket of b texts takes some b comparisons where they are alike; where they are not, b^2 / 2 tests of a bitmap.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numba
import numpy as np

from stages.corpus.duplicates.components import find, join, labels

BITMAP = 32  # words of 64 bits a text


class Sets(NamedTuple):
    """Sets of shingles, one after the other."""

    values: np.ndarray  # uint64, ascending and distinct within a set; may lie on disk (np.memmap)
    offsets: np.ndarray  # int64 [sets + 1]


def distinct(shingles: np.ndarray) -> np.ndarray:
    """A text's shingles as a set: ascending, without repeats."""
    ordered = np.sort(shingles)
    new = np.ones(len(ordered), bool)
    new[1:] = ordered[1:] != ordered[:-1]
    return ordered[new]


def pack(sets: Sequence[np.ndarray]) -> Sets:
    """Sets in memory."""
    lengths = np.array([len(one) for one in sets], np.int64)
    return Sets(np.concatenate([np.zeros(0, np.uint64), *sets]), offsets(lengths))


def offsets(lengths: np.ndarray) -> np.ndarray:
    """int64 [sets + 1]: where each set begins, and where the last ends."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def candidates(bands: Sequence[np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Those of `rows` (int64, ascending) that share a bucket of any band with another of them, ascending.

    `bands` are arrays of uint64 keys, one for each band and as long as there are texts. One is in memory at a time.
    """
    meets = np.zeros(len(rows), bool)
    for keys in bands:
        mine = keys[rows]
        order = np.argsort(mine)
        same = mine[order[1:]] == mine[order[:-1]]
        meets[order[1:][same]] = True
        meets[order[:-1][same]] = True
    return rows[meets]


@numba.njit(cache=True)
def overlap_needed(one: int, other: int, threshold: float) -> int:
    """The least |A ∩ B| at which |A ∩ B| / |A ∪ B| reaches the threshold, for sets of these sizes."""
    total = one + other
    need = int(threshold * total / (1 + threshold))
    while need > 0 and (need - 1) / (total - need + 1) >= threshold:
        need -= 1
    while need / (total - need) < threshold:
        need += 1
    return need


@numba.njit(cache=True)
def overlaps(one: np.ndarray, other: np.ndarray, need: int) -> bool:
    """Have two ascending sets at least `need` members in common?"""
    i, j, common = 0, 0, 0
    while i < len(one) and j < len(other):
        if common + min(len(one) - i, len(other) - j) < need:
            return False
        for _ in range(min(32, len(one) - i, len(other) - j)):
            a, b = one[i], other[j]
            i += a <= b
            j += b <= a
            common += a == b
    return common >= need


@numba.njit(cache=True)
def similar(one: np.ndarray, other: np.ndarray, threshold: float) -> bool:
    """Is |A ∩ B| / |A ∪ B| of two ascending sets, not both empty, at least the threshold?"""
    return overlaps(one, other, overlap_needed(len(one), len(other), threshold))


@numba.njit(cache=True)
def _ones(word: np.uint64) -> np.int64:
    """Number of bits set; LLVM knows the idiom."""
    word -= (word >> np.uint64(1)) & np.uint64(0x5555555555555555)
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))


@numba.njit(cache=True)
def _bitmaps(values: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """uint64 [sets, BITMAP]: bit k is the parity of the number of members that fall on k."""
    result = np.zeros((len(offsets) - 1, BITMAP), np.uint64)
    for row in range(len(offsets) - 1):
        for place in range(offsets[row], offsets[row + 1]):
            value = values[place]
            result[row, (value >> np.uint64(6)) % np.uint64(BITMAP)] ^= np.uint64(1) << (value & np.uint64(63))
    return result


@numba.njit(cache=True)
def _alike(
    one: int,
    other: int,
    band: int,
    keys: np.ndarray,
    bitmaps: np.ndarray,
    values: np.ndarray,
    offsets: np.ndarray,
    threshold: float,
) -> bool:
    size, size2 = offsets[one + 1] - offsets[one], offsets[other + 1] - offsets[other]
    need = overlap_needed(size, size2, threshold)
    if need > min(size, size2):
        return False
    differing = np.int64(0)
    for word in range(BITMAP):
        differing += _ones(bitmaps[one, word] ^ bitmaps[other, word])
    if 2 * need > size + size2 - differing:
        return False
    for earlier in range(band):
        if keys[one, earlier] == keys[other, earlier]:
            return False
    return overlaps(values[offsets[one] : offsets[one + 1]], values[offsets[other] : offsets[other + 1]], need)


@numba.njit(cache=True)
def _join_band(
    members: np.ndarray,
    starts: np.ndarray,
    band: int,
    keys: np.ndarray,
    bitmaps: np.ndarray,
    values: np.ndarray,
    offsets: np.ndarray,
    threshold: float,
    parent: np.ndarray,
) -> None:
    """Join what is alike in the buckets members[starts[b]:starts[b + 1]].

    The bucket's texts seen so far are kept as clusters, one for each component: linked lists of places in `members`. A
    text is compared with the members of each other cluster until one is alike; the clusters it connects become one.
    """
    following = np.empty(len(members), np.int64)
    heads, tails = np.empty(len(members), np.int64), np.empty(len(members), np.int64)
    for bucket in range(len(starts) - 1):
        clusters = 0
        for place in range(starts[bucket], starts[bucket + 1]):
            row, mine, cluster = members[place], -1, 0
            following[place] = -1
            while cluster < clusters:
                met = find(parent, members[heads[cluster]]) == find(parent, row)
                other = heads[cluster]
                while not met and other >= 0:
                    met = _alike(row, members[other], band, keys, bitmaps, values, offsets, threshold)
                    if met:
                        join(parent, row, members[other])
                    other = following[other]
                if met and mine < 0:
                    mine = cluster
                    following[tails[mine]] = place
                    tails[mine] = place
                elif met:
                    following[tails[mine]] = heads[cluster]
                    tails[mine] = tails[cluster]
                    clusters -= 1
                    heads[cluster], tails[cluster] = heads[clusters], tails[clusters]
                    continue
                cluster += 1
            if mine < 0:
                heads[clusters], tails[clusters] = place, place
                clusters += 1


def components(keys: np.ndarray, sets: Sets, threshold: float) -> np.ndarray:
    """int64 label of each text: the smallest row number of its near-duplicate component.

    Parameters: `keys` uint64 [texts, bands], `sets` the texts' shingles, none of them empty.
    """
    texts, bands = keys.shape
    parent = np.arange(texts, dtype=np.int64)
    if not texts:
        return parent
    bitmaps = _bitmaps(*sets)
    for band in range(bands):
        order = np.argsort(keys[:, band], kind="stable")
        ordered = keys[order, band]
        starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1], [True]]))
        _join_band(order, starts, band, keys, bitmaps, *sets, threshold, parent)
    return labels(parent)
