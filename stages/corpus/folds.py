"""Text classifiers that never judge a document they were trained on: hashed words, logistic regression, cross-fitting.

Folds come from a hash of the document, so that a document added or removed moves no other one.
"""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from stages.base.seeds import derive


def fold_of(identifier: str, folds: int, seed: int) -> int:
    """0 … folds-1, by a hash of the identifier."""
    return derive(seed, "fold", identifier) % folds


def features(texts: Sequence[str], characters: int, bits: int) -> csr_matrix:
    """[texts, 2^bits] log-scaled hashed counts of the words of each text's first `characters`, rows of unit length.

    Only words of letters: numbers and markup tell pages of one template apart, and say nothing about quality.
    """
    vectorizer = HashingVectorizer(
        n_features=1 << bits, token_pattern=r"(?u)\b[^\W\d_]{2,}\b", alternate_sign=False, norm=None
    )
    counts = vectorizer.transform(text[:characters] for text in texts)
    counts.data = np.log1p(counts.data)
    norms = np.sqrt(np.asarray(counts.multiply(counts).sum(axis=1)).ravel())
    return csr_matrix(counts.multiply(1.0 / np.maximum(norms, 1e-12)[:, None]))


def cross_fit(
    matrix: csr_matrix, labels: np.ndarray, folds: np.ndarray, *, inverse_penalty: float, classes: int
) -> np.ndarray:
    """float64 [documents, classes] probabilities, each from the model that was trained without the document's fold.

    Parameters: `labels`: int class of each document, -1 where unknown (scored, never trained on). `folds`: int fold of
    each. A fold whose training part has a single class gives that class probability 1.
    """
    result = np.zeros((matrix.shape[0], classes))
    # BLAS sums in another order with more threads: one thread gives the same bytes on every machine.
    with threadpool_limits(limits=1):
        for fold in np.unique(folds):
            train, test = np.flatnonzero((labels >= 0) & (folds != fold)), np.flatnonzero(folds == fold)
            present = np.unique(labels[train])
            if len(present) == 1:
                result[test, present[0]] = 1.0
            elif len(present):
                model = LogisticRegression(C=inverse_penalty, max_iter=300, tol=1e-4)
                model.fit(matrix[train], labels[train])
                result[np.ix_(test, model.classes_)] = model.predict_proba(matrix[test])
    return result


def platt(scores: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Calibrated probabilities from scores in (0, 1): a logistic fit on their logits (Platt 1999), cross-fitted too."""
    clipped = np.clip(scores, 1e-6, 1 - 1e-6)
    logits = csr_matrix(np.log(clipped / (1 - clipped))[:, None])
    return cross_fit(logits, labels, folds, inverse_penalty=1e6, classes=2)[:, 1]


def calibration_error(scores: np.ndarray, labels: np.ndarray, bins: int) -> float:
    """Expected calibration error over bins of equal size: the mean of |mean score - share of positives|."""
    parts = np.array_split(np.argsort(scores, kind="stable"), bins)
    gaps = [abs(scores[part].mean() - labels[part].mean()) * len(part) for part in parts if len(part)]
    return float(sum(gaps) / len(scores))
