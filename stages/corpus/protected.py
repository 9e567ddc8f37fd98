"""Texts that must not be in the corpus, as hashed n-grams of their words, and where a text holds one of them."""

from collections.abc import Sequence
from typing import NamedTuple

import numba
import numpy as np

from stages.corpus.duplicates.ngrams import code_points, ngram_hashes, words

MARKS = 1 << 18  # entries of the table that most n-grams of a clean text fail at


class Protected(NamedTuple):
    """n-grams by length: those of lengths[i] are grams[offsets[i]:offsets[i + 1]]."""

    grams: np.ndarray  # uint64 hashes, ascending and distinct within a length
    offsets: np.ndarray  # int64
    lengths: np.ndarray  # int64, words
    marks: np.ndarray  # bool [MARKS]: is there an n-gram with these low bits?


def protect(texts: Sequence[str], ngram: int, min_words: int) -> Protected:
    """All n-grams of each text, or the whole of a shorter one; texts of fewer than `min_words` words have none."""
    by_length: dict[int, list[np.ndarray]] = {}
    for text in texts:
        hashes = words(code_points(text)).hashes
        length = min(ngram, len(hashes))
        if length >= max(1, min_words):
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
    hashes, starts, ends = words(code_points(text))
    return sorted((int(starts[first]), int(ends[last])) for first, last in _find(hashes, *protected))
