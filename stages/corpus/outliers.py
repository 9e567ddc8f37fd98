"""Texts whose distribution of words is unlike that of their source: the lecture's token-distribution rule.

Each text gets its cross-entropy under the unigram distribution of the whole source, in nats a word; texts far from the
source's median are outliers: gibberish, tables and foreign text lie above, repeated phrases below.
"""

from collections.abc import Sequence
from itertools import chain

import numpy as np


def cross_entropies(texts: Sequence[Sequence[str]]) -> np.ndarray:
    """float64 nats a word of each text's words under the others' unigram distribution; NaN for a text without words.

    The text's own words are left out of the counts and add-one smoothing stands in for what is then unseen: an
    odd text would otherwise vouch for itself, the more so the smaller the source.
    """
    number: dict[str, int] = {}
    for word in chain.from_iterable(texts):
        number.setdefault(word, len(number))
    rows = [np.fromiter((number[word] for word in text), np.int64, len(text)) for text in texts]
    totals = np.bincount(np.concatenate(rows), minlength=len(number)) if number else np.zeros(0)
    everything = totals.sum()
    result = np.full(len(texts), np.nan)
    for row, words in enumerate(rows):
        if len(words):
            types, counts = np.unique(words, return_counts=True)
            others = totals[types] - counts + 1.0
            result[row] = -(counts * np.log(others / (everything - len(words) + len(number)))).sum() / len(words)
    return result


def robust_scores(values: np.ndarray) -> np.ndarray:
    """(x - median) / (1.4826 MAD), the outlier score of Iglewicz & Hoaglin (1993); 0 for NaN, or where MAD is 0."""
    scores = np.zeros(len(values))
    known = np.isfinite(values)
    if known.any():
        centre = np.median(values[known])
        spread = 1.4826 * np.median(np.abs(values[known] - centre))
        if spread > 0:
            scores[known] = (values[known] - centre) / spread
    return scores
