"""Words of a text as 64-bit hashes, and hashed word n-grams: the common ground of near-duplicate search and
decontamination.

Words are runs of letters, digits and underscores of the lower-cased text: `re.findall(r"\\w+", text.lower())`, but for
the two lower-case sigmas of Greek, which count as one. The kernels read code points through two tables made from
Python's own Unicode data, so that they agree with `re` and `str` on any text. Integers only: the same on every machine.
"""

from functools import cache
from typing import NamedTuple

import numba
import numpy as np

WORD, SPACE, DIGIT = np.uint8(1), np.uint8(2), np.uint8(4)  # bits of a code point's class
TABLE = 0x40000  # beyond are no letters, digits, spaces or case (Unicode 16)
DOTTED_I = np.uint32(0x130)  # the one code point whose lower case is two: "i" and a combining dot, which is no letter
FNV_OFFSET = np.uint64(0xCBF29CE484222325)
FNV_PRIME = np.uint64(0x100000001B3)
GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # odd: its powers are distinct and invertible mod 2^64
MIX = np.uint64(0xFF51AFD7ED558CCD)  # of MurmurHash3's finaliser


class Words(NamedTuple):
    """The words of a text in order, one row a word."""

    hashes: np.ndarray  # uint64
    starts: np.ndarray  # int64, characters
    ends: np.ndarray  # int64, characters


@cache
def unicode_tables() -> tuple[np.ndarray, np.ndarray]:
    """(uint32 lower case, uint8 class bits) of the first `TABLE` code points."""
    lower, classes = np.arange(TABLE, dtype=np.uint32), np.zeros(TABLE, np.uint8)
    for code in range(TABLE):
        character = chr(code)
        small = character.lower()
        if small != character and len(small) == 1:
            lower[code] = ord(small)
        if character.isalnum() or character == "_":
            classes[code] = WORD | DIGIT if character.isdecimal() else WORD
        elif character.isspace():
            classes[code] = SPACE
    lower[ord("ς")] = ord("σ")
    return lower, classes


def code_points(text: str) -> np.ndarray:
    """The text's code points: uint8 if all are ASCII, else uint32."""
    if text.isascii():
        return np.frombuffer(text.encode("ascii"), np.uint8)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


@numba.njit(cache=True)
def mix(value: np.uint64) -> np.uint64:
    """Spreads every bit of the value over all (the finaliser of MurmurHash3): a bijection."""
    value ^= value >> np.uint64(33)
    value *= MIX
    value ^= value >> np.uint64(29)
    value *= GOLDEN
    return value ^ (value >> np.uint64(32))


@numba.njit(cache=True)
def _words(codes: np.ndarray, lower: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    hashes = np.empty(len(codes), np.uint64)
    starts, ends = np.empty(len(codes), np.int64), np.empty(len(codes), np.int64)
    count, inside, value = 0, False, FNV_OFFSET
    for place in range(len(codes)):
        code = np.uint32(codes[place])
        is_word = code < TABLE and classes[code] & WORD != 0
        if is_word:
            if not inside:
                inside, value = True, FNV_OFFSET
                starts[count] = place
            small = np.uint32(0x69) if code == DOTTED_I else lower[code]
            value = (value ^ np.uint64(small)) * FNV_PRIME
        if inside and (not is_word or code == DOTTED_I):  # the dot of a dotted I ends a word
            inside = False
            hashes[count], ends[count] = mix(value), place + is_word
            count += 1
    if inside:
        hashes[count], ends[count] = mix(value), len(codes)
        count += 1
    return hashes[:count], starts[:count], ends[:count]


def words(codes: np.ndarray) -> Words:
    """Words of a text, given as its `code_points`; hashed by FNV-1a over their lower case."""
    return Words(*_words(codes, *unicode_tables()))


@numba.njit(cache=True)
def ngram_hashes(words: np.ndarray, n: int) -> np.ndarray:
    """uint64 hashes of all n-grams of word hashes in order, one a position; empty where there are fewer than n words.

    A multilinear hash of the word hashes, mixed: the sum of the j-th word times the j-th power of an odd constant.
    """
    result = np.empty(max(0, len(words) - n + 1), np.uint64)
    powers = np.empty(n, np.uint64)
    power = np.uint64(1)
    for place in range(n):
        power *= GOLDEN
        powers[place] = power
    for start in range(len(result)):
        value = np.uint64(0)
        for place in range(n):
            value += words[start + place] * powers[place]
        result[start] = mix(value)
    return result


def shingles(words: np.ndarray, n: int) -> np.ndarray:
    """The n-gram hashes of a text, repeats included; a text of fewer words is one shingle, an empty one has none."""
    return ngram_hashes(words, min(n, len(words))) if len(words) else np.zeros(0, np.uint64)
