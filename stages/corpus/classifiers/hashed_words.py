"""Counts of a text's words in 2^bits hashed places: what scikit-learn's HashingVectorizer counts, by a compiled loop.

A word is a run of two letters or more with no digit or underscore beside it, lower-cased; its place is MurmurHash3 of
its UTF-8 bytes (Appleby 2011), folded as scikit-learn folds it, so that the same words get the same places.
"""

from collections.abc import Sequence
from functools import lru_cache

import numba
import numpy as np

LETTER, JOINED = 1, 2  # classes of characters: a letter; a digit or underscore, which makes its neighbours no word


@lru_cache(maxsize=1)
def _classes() -> np.ndarray:
    """uint8 class of every code point, as `re` sees them: LETTER is [^\\W\\d_], JOINED the rest of \\w, 0 all else."""
    table = np.zeros(0x110000, np.uint8)
    for point in range(0x40000):  # the planes above hold neither letters nor digits
        character = chr(point)
        if character.isalnum():
            table[point] = JOINED if character.isdecimal() else LETTER
    table[ord("_")] = JOINED
    return table


@numba.njit(cache=True)
def _murmur3(data: np.ndarray, start: int, end: int) -> np.uint32:
    """MurmurHash3_x86_32 of data[start:end], seed 0. In uint64, cut to 32 bits after each step that can pass them."""
    low = np.uint64(0xFFFFFFFF)
    first, second = np.uint64(0xCC9E2D51), np.uint64(0x1B873593)
    state = np.uint64(0)
    length = end - start
    for block in range(length // 4 + 1):
        place = start + 4 * block
        size = min(4, end - place)
        if size == 0:
            break
        word = np.uint64(0)
        for offset in range(size):
            word |= np.uint64(data[place + offset]) << np.uint64(8 * offset)
        word = (word * first) & low
        word = ((word << np.uint64(15)) | (word >> np.uint64(17))) & low
        state ^= (word * second) & low
        if size == 4:
            state = ((state << np.uint64(13)) | (state >> np.uint64(19))) & low
            state = (state * np.uint64(5) + np.uint64(0xE6546B64)) & low
    state ^= np.uint64(length)
    state ^= state >> np.uint64(16)
    state = (state * np.uint64(0x85EBCA6B)) & low
    state ^= state >> np.uint64(13)
    state = (state * np.uint64(0xC2B2AE35)) & low
    return np.uint32(state ^ (state >> np.uint64(16)))


@numba.njit(cache=True)
def _count(data: np.ndarray, ends: np.ndarray, classes: np.ndarray, bits: int) -> tuple:
    """(places, counts, row ends) of the texts that end at `ends` in the UTF-8 bytes `data`; places ascend in a row."""
    size = 1 << bits
    places = np.empty(len(data) // 3 + len(ends) + 1, np.int32)  # a word has two bytes and one behind it
    counts = np.empty(len(places), np.int32)
    row_ends = np.empty(len(ends), np.int64)
    tally = np.zeros(size, np.int32)
    used = np.empty(size, np.int32)
    filled, at = 0, 0
    for row in range(len(ends)):
        end, found = ends[row], 0
        start, letters, clean = at, 0, True  # of the run of word characters that stands open
        while at <= end:
            kind, step = 0, 1
            if at < end:
                byte = data[at]
                if byte < 0x80:
                    kind = classes[byte]
                elif byte < 0xE0:
                    step = 2
                    kind = classes[((byte & 0x1F) << 6) | (data[at + 1] & 0x3F)]
                elif byte < 0xF0:
                    step = 3
                    kind = classes[((byte & 0x0F) << 12) | ((data[at + 1] & 0x3F) << 6) | (data[at + 2] & 0x3F)]
                else:
                    step = 4
                    point = ((byte & 0x07) << 18) | ((data[at + 1] & 0x3F) << 12)
                    kind = classes[point | ((data[at + 2] & 0x3F) << 6) | (data[at + 3] & 0x3F)]
            if kind == 0:
                if clean and letters >= 2:
                    signed = np.int64(np.int32(_murmur3(data, start, at)))
                    place = abs(signed) % size
                    if tally[place] == 0:
                        used[found] = place
                        found += 1
                    tally[place] += 1
                start, letters, clean = at + step, 0, True
            elif kind == 1:
                letters += 1
            else:
                clean = False
            at += step
        at = end
        used[:found].sort()
        for one in range(found):
            places[filled] = used[one]
            counts[filled] = tally[used[one]]
            tally[used[one]] = 0
            filled += 1
        row_ends[row] = filled
    return places[:filled], counts[:filled], row_ends


def count_words(texts: Sequence[str], bits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """CSR parts (int32 places, int32 counts, int64 row starts [texts + 1]) of the texts' words, places ascending."""
    parts = [text.lower().encode("utf-8", "replace") for text in texts]
    ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
    data = np.frombuffer(b"".join(parts), np.uint8)
    places, counts, row_ends = _count(data, ends, _classes(), bits)
    return places, counts, np.concatenate([np.zeros(1, np.int64), row_ends])
