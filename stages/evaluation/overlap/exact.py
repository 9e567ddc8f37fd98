"""Which evaluation items share long runs of words with the training text.

13-grams: Brown et al. 2020 (GPT-3, appendix C). A share of 8-grams above a bound: Chowdhery et al. 2022 (PaLM, §8).
Words are lower-cased runs of letters and digits. Found exactly: hashes only propose places, words decide.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

_WORD = re.compile(r"[^\W_]+")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no word is lost modulo 2**64
_CHUNK_WORDS = 1 << 20


def words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def ngrams(tokens: Sequence[str], n: int) -> list[tuple[str, ...]]:
    """All runs of n words; of a shorter text the whole, as one run."""
    n = min(n, len(tokens))
    return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)] if n else []


def shared_shares(items: Sequence[str], texts: Iterable[str], n: int) -> list[float]:
    """Of each item, the share of its word n-grams that occur in some text, 0 .. 1."""
    grams = [ngrams(words(item), n) for item in items]
    found = find({gram for own in grams for gram in own}, texts)
    return [share(own, found) for own in grams]


def share(own: Sequence[tuple[str, ...]], found: set[tuple[str, ...]]) -> float:
    """Of an item's n-grams that were found; 0 for an item without words."""
    return sum(gram in found for gram in own) / len(own) if own else 0.0


def find(wanted: set[tuple[str, ...]], texts: Iterable[str]) -> set[tuple[str, ...]]:
    """Those of the wanted n-grams (of any lengths) that occur in some text."""
    vocabulary = {word: i for i, word in enumerate(sorted({word for gram in wanted for word in gram}), start=1)}
    by_length: dict[int, list[tuple[str, ...]]] = defaultdict(list)
    for gram in sorted(wanted):
        by_length[len(gram)].append(gram)
    hashes = {
        n: np.unique(np.concatenate([_rolling(_ids(gram, vocabulary), n) for gram in grams]))
        for n, grams in sorted(by_length.items())
    }
    found: set[tuple[str, ...]] = set()
    for tokens in _chunks(texts):
        ids = _ids(tokens, vocabulary)
        for n, known in hashes.items():
            if len(ids) < n:
                continue
            # Places whose n words are all in the vocabulary of the items, then those with a known hash.
            inside = np.convolve(ids > 0, np.ones(n, dtype=np.int64), mode="valid") == n
            places = np.flatnonzero(inside)
            if len(places):
                places = places[np.isin(_rolling(ids, n)[places], known)]
            found |= {gram for i in places.tolist() if (gram := tuple(tokens[i : i + n])) in wanted}
    return found


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    """Words of many texts at a time, each text closed by "", which is no word, so that no n-gram spans two."""
    chunk: list[str] = []
    for text in texts:
        chunk += words(text)
        chunk.append("")
        if len(chunk) > _CHUNK_WORDS:
            yield chunk
            chunk = []
    yield chunk


def _ids(tokens: Sequence[str], vocabulary: dict[str, int]) -> np.ndarray:
    return np.array([vocabulary.get(token, 0) for token in tokens], dtype=np.uint64)


def _rolling(ids: np.ndarray, n: int) -> np.ndarray:
    """A polynomial hash of each run of n ids, modulo 2**64."""
    out = np.zeros(len(ids) - n + 1, dtype=np.uint64)
    for offset in range(n):
        out = out * _MULTIPLIER + ids[offset : len(ids) - n + 1 + offset]
    return out
