"""Repeated lines, paragraphs and n-grams within one text (Gopher, Rae et al. 2021, table A1; arXiv 2112.11446).

Everything is compared by 64-bit hashes. The hash of a repeated n-gram is over its characters, as datatrove joins it
without spaces ("a b" there is "ab"); it is put together from the hashes of its words.
"""

import numba
import numpy as np

from stages.corpus.rules.characters import BASE, LINE_FEED, mixed, slot, table_size


@numba.njit(cache=True)
def duplicates(codes: np.ndarray, feeds: int) -> tuple[int, int, int]:
    """(segments, of them met before, characters of those) of a text cut at runs of at least `feeds` line feeds.

    As re.split cuts: text that begins or ends with such a run begins or ends with an empty segment.
    """
    length = codes.shape[0]
    table = np.zeros(table_size(_segments(codes, feeds)), np.uint64)
    segments, empty, number, characters = 0, 0, 0, 0
    start = place = 0
    while True:
        end = place
        while end < length and codes[end] == LINE_FEED:
            end += 1
        if place < length and end - place < feeds:  # no cut here
            place = max(end, place + 1)
            continue
        segments += 1
        if place == start:
            number += empty > 0
            empty += 1
        elif met(table, codes[start:place]):
            number += 1
            characters += place - start
        if place == length:
            return segments, number, characters
        start = place = end


@numba.njit(cache=True)
def _segments(codes: np.ndarray, feeds: int) -> int:
    """A bound on their number."""
    cuts = 1
    for code in codes:
        cuts += code == LINE_FEED
    return cuts // feeds + 2


@numba.njit(cache=True)
def met(table: np.ndarray, codes: np.ndarray) -> bool:
    """Whether these characters are in the table; they are from now on."""
    key = np.uint64(codes.shape[0])
    for code in codes:
        key = key * BASE + mixed(code)
    key |= np.uint64(1)
    place = slot(table, key)
    known = table[place] != 0
    table[place] = key
    return known


@numba.njit(cache=True)
def first_broken(
    words: np.ndarray,
    lengths: np.ndarray,
    values: np.ndarray,
    powers: np.ndarray,
    sizes: np.ndarray,
    bounds: np.ndarray,
    top: int,
    characters: int,
) -> int:
    """Index of the first n-gram rule that a text breaks, -1 if none.

    `sizes` and `bounds` are the rules' n and share of the text's `characters`; the first `top` of them are about the
    most frequent n-gram, the others about repeated ones. `lengths`, `values`, `powers` are by word (see Lexicon).
    """
    table = np.zeros(table_size(words.shape[0]), np.uint64)
    keys = np.zeros(words.shape[0], np.uint64)  # of the n-gram that begins at each word
    ends = np.zeros(words.shape[0] + 1, np.int64)  # of the words, in characters
    for i in range(words.shape[0]):
        ends[i + 1] = ends[i] + lengths[words[i]]
    n = 0
    for rule in range(sizes.shape[0]):
        if sizes[rule] < n or rule == top:
            keys[:] = 0
            n = 0
        while n < sizes[rule]:
            if rule < top:
                _add_word(keys, words, n)
            else:
                _add_characters(keys, words, values, powers, n)
            n += 1
        found = most_frequent(keys, ends, n, table) if rule < top else repeated(keys, ends, n, table)
        if found / characters > bounds[rule]:
            return rule
    return -1


@numba.njit(cache=True)
def _add_word(keys: np.ndarray, words: np.ndarray, n: int) -> None:
    """Keys of n-grams to keys of (n + 1)-grams, by their words."""
    for i in range(words.shape[0] - n):
        key = (keys[i] + np.uint64(words[i + n]) + np.uint64(1)) * np.uint64(0xFF51AFD7ED558CCD)
        keys[i] = key ^ (key >> np.uint64(32))


@numba.njit(cache=True)
def _add_characters(keys: np.ndarray, words: np.ndarray, values: np.ndarray, powers: np.ndarray, n: int) -> None:
    """The same by their characters: hash(a + b) = hash(a) power(b) + hash(b)."""
    for i in range(words.shape[0] - n):
        keys[i] = keys[i] * powers[words[i + n]] + values[words[i + n]]


@numba.njit(cache=True)
def most_frequent(keys: np.ndarray, ends: np.ndarray, n: int, table: np.ndarray) -> int:
    """Occurrences x characters of the most frequent n-gram, joined by spaces; of equally frequent ones the first."""
    table[:] = 0
    met = np.zeros(table.shape[0], np.int32)
    first = np.zeros(table.shape[0], np.int32)
    best = -1
    for i in range(keys.shape[0] - n + 1):
        key = keys[i] | np.uint64(1)
        place = slot(table, key)
        if table[place] == 0:
            table[place] = key
            first[place] = i
        met[place] += 1
        if best < 0 or met[place] > met[best] or (met[place] == met[best] and first[place] < first[best]):
            best = place
    return met[best] * (ends[first[best] + n] - ends[first[best]] + n - 1) if best >= 0 else 0


@numba.njit(cache=True)
def repeated(keys: np.ndarray, ends: np.ndarray, n: int, table: np.ndarray) -> int:
    """Characters of repeated n-grams, left to right; a repeated one counts whole and the scan goes on behind it."""
    table[:] = 0
    characters, i = 0, 0
    while i < keys.shape[0] - n + 1:
        key = keys[i] | np.uint64(1)
        place = slot(table, key)
        if table[place] != 0:
            characters += ends[i + n] - ends[i]
            i += n
        else:
            table[place] = key
            i += 1
    return characters
