"""Repeated lines, paragraphs and n-grams within one text (Gopher, Rae et al. 2021, table A1; arXiv 2112.11446).

n-grams are compared by 64-bit polynomial hashes over the characters, so that the hash of an n-gram is a difference of
two prefix hashes and a text is passed once for all n.
"""

import re
from collections.abc import Sequence

import numba
import numpy as np

PARAGRAPHS = re.compile(r"\n{2,}")
LINES = re.compile(r"\n+")
BASE = np.uint64(0xD1342543DE82EF95)  # odd, from Steele & Vigna's table of multipliers


def duplicates(parts: Sequence[str]) -> tuple[int, int]:
    """(number, characters) of the elements that were met before."""
    seen: set[str] = set()
    number = characters = 0
    for part in parts:
        if part in seen:
            number += 1
            characters += len(part)
        else:
            seen.add(part)
    return number, characters


@numba.njit(cache=True)
def _prefix(codes: np.ndarray, base: np.uint64) -> tuple[np.ndarray, np.ndarray]:
    """hash[i] of the first i characters, power[i] = base^i, mod 2^64."""
    hashes = np.zeros(codes.shape[0] + 1, np.uint64)
    power = np.ones(codes.shape[0] + 1, np.uint64)
    for i in range(codes.shape[0]):
        mixed = (np.uint64(codes[i]) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(32)
        hashes[i + 1] = hashes[i] * base + mixed
        power[i + 1] = power[i] * base
    return hashes, power


@numba.njit(cache=True)
def _slot(table: np.ndarray, key: np.uint64) -> int:
    """Place of a key, or of the free slot where it belongs, in an open-addressing table (0 marks a free slot)."""
    mask = table.shape[0] - 1
    place = np.int64((key * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(20)) & mask
    while table[place] != 0 and table[place] != key:
        place = (place + 1) & mask
    return place


@numba.njit(cache=True)
def _scan(
    codes: np.ndarray, lengths: np.ndarray, top: np.ndarray, duplicate: np.ndarray, base: np.uint64
) -> tuple[np.ndarray, np.ndarray]:
    count = lengths.shape[0]
    start = np.zeros(count + 1, np.int64)
    for i in range(count):
        start[i + 1] = start[i] + lengths[i]
    hashes, power = _prefix(codes, base)
    own = np.zeros(count, np.uint64)  # hash of each word, to tell "a b" from "ab" below
    for i in range(count):
        own[i] = hashes[start[i + 1]] - hashes[start[i]] * power[lengths[i]]
    size = 16
    while size < 2 * count:
        size *= 2
    tops = np.zeros(top.shape[0], np.int64)
    repeats = np.zeros(duplicate.shape[0], np.int64)
    for which in range(top.shape[0]):
        n = top[which]
        table, met, first = np.zeros(size, np.uint64), np.zeros(size, np.int64), np.zeros(size, np.int64)
        for i in range(count - n + 1):
            key = np.uint64(14695981039346656037)
            for j in range(i, i + n):  # words apart, in order
                key = (key ^ own[j] ^ np.uint64(lengths[j])) * np.uint64(0xFF51AFD7ED558CCD)
                key ^= key >> np.uint64(31)
            key |= np.uint64(1)
            place = _slot(table, key)
            if table[place] == 0:
                table[place] = key
                first[place] = i
            met[place] += 1
        best = -1
        for place in range(size):
            if met[place] and (
                best < 0 or met[place] > met[best] or (met[place] == met[best] and first[place] < first[best])
            ):
                best = place
        if best >= 0:  # characters of the words and of the spaces between them
            i = first[best]
            tops[which] = met[best] * (start[i + n] - start[i] + n - 1)
    for which in range(duplicate.shape[0]):
        n = duplicate[which]
        table = np.zeros(size, np.uint64)
        i = 0
        while i < count - n + 1:
            length = start[i + n] - start[i]
            key = (hashes[start[i + n]] - hashes[start[i]] * power[length]) | np.uint64(1)
            place = _slot(table, key)
            if table[place] != 0:
                repeats[which] += length
                i += n
            else:
                table[place] = key
                i += 1
    return tops, repeats


def ngram_characters(words: Sequence[str], top: Sequence[int], duplicate: Sequence[int]) -> tuple[list[int], list[int]]:
    """Characters in the most frequent n-gram for each n of `top`, and in repeated n-grams for each n of `duplicate`.

    As datatrove counts them. Top: occurrences x length of the n-gram joined by spaces; of equally frequent ones the
    first counts. Duplicate: n-grams joined without spaces, left to right; a repeated one counts whole and the scan goes
    on behind it.
    """
    codes = np.frombuffer("".join(words).encode("utf-32-le", "surrogatepass"), np.uint32)
    lengths = np.fromiter(map(len, words), np.int64, len(words))
    tops, repeats = _scan(codes, lengths, np.array(top, np.int64), np.array(duplicate, np.int64), BASE)
    return tops.tolist(), repeats.tolist()
