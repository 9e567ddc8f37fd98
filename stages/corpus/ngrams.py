"""Words and hashed word n-grams of texts, the common ground of near-duplicate search and decontamination."""

import hashlib
import re

import numpy as np

WORD = re.compile(r"\w+")
# Odd multipliers of the order-dependent combination below (the 64-bit golden ratio, and the MurmurHash3 finaliser).
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MIX = np.uint64(0xFF51AFD7ED558CCD)


class WordHasher:
    """64-bit hashes of words, each word hashed once (BLAKE2b, the same on every machine)."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def __call__(self, text: str) -> np.ndarray:
        """uint64 hashes of a text's words: lower-cased runs of letters, digits and underscores."""
        known = self._known
        words = WORD.findall(text.lower())
        for word in words:
            if word not in known:
                digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
                known[word] = int.from_bytes(digest, "little")
        return np.fromiter((known[word] for word in words), np.uint64, len(words))


def ngram_hashes(words: np.ndarray, n: int) -> np.ndarray:
    """uint64 hashes of all n-grams in order, one a position; empty where there are fewer than n words."""
    count = len(words) - n + 1
    if count <= 0:
        return np.zeros(0, np.uint64)
    value = np.zeros(count, np.uint64)
    for offset in range(n):  # unsigned overflow wraps: that is the modulus
        value = (value ^ words[offset : offset + count]) * GOLDEN
        value ^= value >> np.uint64(29)
    value *= MIX
    return value ^ (value >> np.uint64(32))


def shingles(words: np.ndarray, n: int) -> np.ndarray:
    """The sorted distinct n-gram hashes of a text; a text of fewer words is one shingle, an empty one has none."""
    if len(words) == 0:
        return np.zeros(0, np.uint64)
    return np.unique(ngram_hashes(words, min(n, len(words))))
