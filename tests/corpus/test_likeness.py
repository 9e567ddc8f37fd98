"""A class accepts documents like its own, held out, and no strange ones; scores are those of the naive formula."""

import math

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from stages.corpus.classifiers import likeness
from stages.corpus.classifiers.folds import features
from tests.corpus.documents import WORDS, prose


def examples(count: int = 120, words: int = 60) -> tuple[csr_matrix, np.ndarray, np.ndarray]:
    """Two classes that share half of their words."""
    texts = [prose(words, n, [WORDS[:40], WORDS[20:60]][n % 2]) for n in range(count)]
    return features(texts, 4000, 12), np.arange(count) % 2, np.arange(count) // 2 % 4


def test_a_class_accepts_its_own_and_nothing_strange() -> None:
    matrix, labels, folds = examples()
    fitted = likeness.fit(matrix, labels, folds, 4, 2)
    new = features([prose(60, 900 + n, [WORDS[:40], WORDS[20:60]][n % 2]) for n in range(200)], 4000, 12)
    strange = features([prose(60, 2000 + n, WORDS[60:]) for n in range(200)], 4000, 12)
    spread = np.arange(200) % 4
    assert fitted.accepts(new, spread)[np.arange(200), np.arange(200) % 2].mean() > 0.93
    assert not fitted.accepts(strange, spread).any()
    assert not fitted.accepts(csr_matrix((3, 1 << 12)), np.zeros(3, np.int64)).any()


def test_scores_are_the_mean_log_ratios_of_the_other_folds() -> None:
    matrix, labels, folds = examples(40, 12)
    scores = likeness.fit(matrix, labels, folds, 4, 2).scores(matrix, folds)
    dense, mixed = matrix.toarray(), likeness.MIXED_IN
    for row in (0, 7, 39):
        shares = []
        for place in range(2):
            mass = dense[(labels == place) & (folds != folds[row])].sum(axis=0)
            shares.append(mass / mass.sum())
        total = 0.0
        for word in np.flatnonzero(dense[row]):
            mixture = (1 - mixed) * (shares[0][word] + shares[1][word]) / 2 + mixed / dense.shape[1]
            total += dense[row, word] * math.log(((1 - mixed) * shares[1][word] + mixed * mixture) / mixture)
        assert scores[row, 1] == pytest.approx(total / dense[row].sum(), abs=1e-6)


def test_a_class_of_few_documents_accepts_nothing() -> None:
    matrix, labels, folds = examples()
    labels[likeness.LEAST * 2 - 2 :: 2] = -1
    fitted = likeness.fit(matrix, labels, folds, 4, 2)
    assert fitted.bounds[0] == np.inf and fitted.accepts(matrix, folds)[:, 1].any()
