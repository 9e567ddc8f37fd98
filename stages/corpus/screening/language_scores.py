"""The compiled part of language identification: one walk of an automaton over a text's bytes."""

import numba
import numpy as np


@numba.njit(cache=True)
def score(
    data: np.ndarray,
    rows: np.ndarray,
    transitions: np.ndarray,
    found: np.ndarray,
    weights: np.ndarray,
    counts: np.ndarray,
) -> tuple[int, np.ndarray]:
    """(distinct n-grams met, float32 [classes] Σ log(1 + count) · weight over them in the order of their first sight).

    Parameters: `data`: uint8 bytes; `counts`: int32 [n-grams], zeros, and zeros again afterwards; the rest as in
    `language.Model`.
    """
    met = np.empty(len(data), np.int64)
    state, distinct = np.int64(0), 0
    for byte in data:
        state = np.int64(transitions[rows[state] + byte])
        ngram = found[state]
        if ngram >= 0:
            if counts[ngram] == 0:
                met[distinct] = ngram
                distinct += 1
            counts[ngram] += 1
    total = np.zeros(weights.shape[1], np.float32)
    for place in range(distinct):
        ngram = met[place]
        factor = np.float32(np.log1p(counts[ngram]))
        counts[ngram] = 0
        for column in range(weights.shape[1]):
            total[column] += factor * weights[ngram, column]
    return distinct, total
