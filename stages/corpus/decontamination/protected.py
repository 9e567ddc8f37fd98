"""Texts that must not be in the corpus, as hashed n-grams of their words, and where a text holds one of them."""

from collections.abc import Sequence
from typing import NamedTuple

import numba
import numpy as np

from stages.corpus.duplicates.ngrams import Words, code_points, ngram_hashes, words

# Soft hyphen, zero-width space, joiners and byte-order mark: nobody sees them in a word.
UNSEEN = np.array([0xAD, 0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF], np.uint32)
MARKS = 1 << 18  # entries of the table that most n-grams of a clean text fail at


class Protected(NamedTuple):
    """n-grams by length: those of lengths[i] are grams[offsets[i]:offsets[i + 1]]."""

    grams: np.ndarray  # uint64 hashes, ascending and distinct within a length
    offsets: np.ndarray  # int64
    lengths: np.ndarray  # int64, words
    marks: np.ndarray  # bool [MARKS]: is there an n-gram with these low bits?


def seen_words(text: str) -> Words:
    """Words as a reader sees them: an underscore parts them, and what has no width isn't there."""
    codes = code_points(text.replace("_", " "))
    seen = np.flatnonzero(~np.isin(codes, UNSEEN)) if codes.dtype == np.uint32 else np.arange(len(codes))
    found = words(codes[seen])
    return Words(found.hashes, seen[found.starts], seen[found.ends - 1] + 1)


def is_protected(text: str, min_words: int) -> bool:
    return len(seen_words(text).hashes) >= max(1, min_words)


def protect(texts: Sequence[str], ngram: int, min_words: int) -> Protected:
    """All n-grams of each text, or the whole of a shorter one; texts of fewer than `min_words` words have none."""
    by_length: dict[int, list[np.ndarray]] = {}
    for text in texts:
        if is_protected(text, min_words):
            hashes = seen_words(text).hashes
            length = min(ngram, len(hashes))
            by_length.setdefault(length, []).append(ngram_hashes(hashes, length))
    lengths = sorted(by_length)
    parts = [np.unique(np.concatenate(by_length[length])) for length in lengths]
    grams = np.concatenate([np.zeros(0, np.uint64), *parts])
    marks = np.zeros(MARKS, bool)
    marks[grams % np.uint64(MARKS)] = True
    offsets = np.cumsum([0, *map(len, parts)])
    return Protected(grams, offsets.astype(np.int64), np.array(lengths, np.int64), marks)


@numba.njit(cache=True)
def _find(
    hashes: np.ndarray, grams: np.ndarray, offsets: np.ndarray, lengths: np.ndarray, marks: np.ndarray
) -> list[tuple[np.int64, np.int64]]:
    found = [(np.int64(0), np.int64(0)) for _ in range(0)]
    for index in range(len(lengths)):
        known = grams[offsets[index] : offsets[index + 1]]
        for place, gram in enumerate(ngram_hashes(hashes, lengths[index])):
            if marks[gram % np.uint64(MARKS)]:
                near = np.searchsorted(known, gram)
                if near < len(known) and known[near] == gram:
                    found.append((np.int64(place), np.int64(place + lengths[index] - 1)))
    return found


def passages(text: str, protected: Protected) -> list[tuple[int, int]]:
    """[start, end) in characters of each protected n-gram in a text, ascending; they may overlap."""
    hashes, starts, ends = seen_words(text)
    return sorted((int(starts[first]), int(ends[last])) for first, last in _find(hashes, *protected))
