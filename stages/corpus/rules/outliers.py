"""Texts whose distribution of words is unlike that of their source: the lecture's token-distribution rule.

Each text gets its cross-entropy under the unigram distribution of the other texts of its source, in nats a word; texts
far from the source's median are outliers: gibberish, tables and foreign text lie above, repeated phrases below.

Words are counted in lower case in a fixed number of bins, by their hash (Weinberger et al. 2009, arXiv 0902.2206), so
that memory doesn't grow with the corpus: words that share a bin seem more frequent than they are.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

BITS = 20  # of a bin's number: a million bins, 8 MiB a source


class Distribution(NamedTuple):
    """How often each bin's words stand in a source."""

    counts: np.ndarray  # int64 [2^BITS]
    words: int
    used: int  # bins that aren't empty


class Scale(NamedTuple):
    """Where a source's cross-entropies lie."""

    centre: float  # median
    spread: float  # 1.4826 median absolute deviations, the standard deviation of a normal distribution

    def score(self, value: float) -> float:
        """The robust z of Iglewicz & Hoaglin (1993); 0 for NaN, or where there is no spread."""
        return (value - self.centre) / self.spread if self.spread and np.isfinite(value) else 0.0


def bins(hashes: np.ndarray) -> np.ndarray:
    """int64 bin of each uint64 word hash."""
    return ((hashes * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - BITS)).astype(np.int64)


def count(texts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(bins met, how often) of texts given by their words' bins."""
    return np.unique(np.concatenate([*texts, np.zeros(0, np.int64)]), return_counts=True)


def summed(counts: np.ndarray) -> Distribution:
    """The distribution of a source from the sum of its parts' counts, int64 [2^BITS]."""
    return Distribution(counts, int(counts.sum()), int(np.count_nonzero(counts)))


def cross_entropy(words: np.ndarray, source: Distribution) -> float:
    """Nats a word of a text's words (bins) under the unigram distribution of the source's other texts.

    NaN for a text without words. The text is one of the source's. Its own words are left out of the counts and add-one
    smoothing over the bins in use stands in for what is then unseen: an odd text would otherwise vouch for itself, the
    more so the smaller the source.
    """
    if not len(words):
        return float("nan")
    met, own = np.unique(words, return_counts=True)
    others = source.counts[met] - own + 1.0
    return float(-(own * np.log(others / (source.words - len(words) + source.used))).sum() / len(words))


def scale(values: np.ndarray) -> Scale:
    """Median and spread of the values that aren't NaN; (0, 0) if there are none."""
    known = values[np.isfinite(values)]
    if not len(known):
        return Scale(0.0, 0.0)
    centre = float(np.median(known))
    return Scale(centre, 1.4826 * float(np.median(np.abs(known - centre))))
