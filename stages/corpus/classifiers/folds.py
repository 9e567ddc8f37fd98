"""Text classifiers that never judge a document they were trained on: hashed words, logistic regression, cross-fitting.

Folds come from a hash of the document, so that a document added or removed moves no other one. A row's probability is
a function of the row and the model alone, to the last bit: batches of any size give the same scores.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from stages.base.seeds import derive
from stages.corpus.classifiers.hashed_words import count_words


def fold_of(identifier: str, folds: int, seed: int) -> int:
    """0 … folds-1, by a hash of the identifier."""
    return derive(seed, "fold", identifier) % folds


def folds_of(keys: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """int64 fold of each uint64 key."""
    return np.array([fold_of(str(key), folds, seed) for key in keys.tolist()], np.int64)


def features(texts: Sequence[str], characters: int, bits: int) -> csr_matrix:
    """[texts, 2^bits] log-scaled hashed counts of the words of each text's first `characters`, rows of unit length.

    Only words of letters: numbers and markup tell pages of one template apart, and say nothing about quality.
    """
    places, counts, starts = count_words([text[:characters] for text in texts], bits)
    # A table and not a vector function, whose last bit may depend on where in the array a value stands.
    logs = np.array([math.log1p(count) for count in range(int(counts.max(initial=0)) + 1)])[counts]
    matrix = csr_matrix((logs, places, starts), shape=(len(texts), 1 << bits))
    norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    matrix.data *= np.repeat(1.0 / np.maximum(norms, 1e-12), np.diff(starts))
    return matrix


@dataclass(frozen=True)
class Classifier:
    """A fitted logistic regression over some of the classes; the others have probability 0."""

    classes: int
    present: np.ndarray  # int64: the classes it was trained on
    weights: np.ndarray  # float64 [features, present]; one column where two are present, none where fewer
    bias: np.ndarray  # float64, of the columns

    def probabilities(self, matrix: csr_matrix) -> np.ndarray:
        """float64 [rows, classes]; rows of zeros if it was trained on nothing."""
        result = np.zeros((matrix.shape[0], self.classes))
        if len(self.present) == 1:
            result[:, self.present[0]] = 1.0
        elif len(self.present):
            logits = matrix @ self.weights + self.bias
            if len(self.present) == 2:
                logits = np.hstack([np.zeros_like(logits), logits])
            shares = np.exp(logits - logits.max(axis=1, keepdims=True))
            result[:, self.present] = shares / shares.sum(axis=1, keepdims=True)
        return result


def train(matrix: csr_matrix, labels: np.ndarray, *, inverse_penalty: float, classes: int) -> Classifier:
    """Fit rows of known labels (0 … classes-1)."""
    present = np.unique(labels)
    if len(present) < 2:
        return Classifier(classes, present, np.zeros((matrix.shape[1], 0)), np.zeros(0))
    from sklearn.linear_model import LogisticRegression  # heavy, and workers that only judge don't need it
    from threadpoolctl import threadpool_limits

    # BLAS sums in another order with more threads: one thread gives the same bytes on every machine.
    with threadpool_limits(limits=1):
        model = LogisticRegression(C=inverse_penalty, max_iter=300, tol=1e-4).fit(matrix, labels)
    # Rounded: kernels of BLAS differ from CPU to CPU in the last bits.
    weights, bias = np.ascontiguousarray(np.round(model.coef_.T, 9)), np.round(model.intercept_, 9)
    return Classifier(classes, present, weights, bias)


def train_folds(
    matrix: csr_matrix, labels: np.ndarray, folds: np.ndarray, count: int, *, inverse_penalty: float, classes: int
) -> list[Classifier]:
    """Classifier `fold` of 0 … count-1 is trained on the labelled rows (label >= 0) of all other folds."""
    chosen = [np.flatnonzero((labels >= 0) & (folds != fold)) for fold in range(count)]
    return [train(matrix[rows], labels[rows], inverse_penalty=inverse_penalty, classes=classes) for rows in chosen]


def judge(models: Sequence[Classifier], matrix: csr_matrix, folds: np.ndarray) -> np.ndarray:
    """float64 [rows, classes]: each row's probabilities by the classifier of its fold."""
    result = np.zeros((matrix.shape[0], models[0].classes))
    for fold in np.unique(folds):
        rows = np.flatnonzero(folds == fold)
        result[rows] = models[fold].probabilities(matrix[rows])
    return result


def log_odds(scores: np.ndarray) -> csr_matrix:
    """[scores, 1] logits of scores in 0..1, kept finite: what Platt's calibration is fitted on."""
    clipped = np.clip(scores, 1e-6, 1 - 1e-6)
    return csr_matrix(np.log(clipped / (1 - clipped))[:, None])


def platt_folds(scores: np.ndarray, labels: np.ndarray, folds: np.ndarray, count: int) -> list[Classifier]:
    """A logistic fit on the logits of scores in (0, 1) for each fold, by the other folds (Platt 1999)."""
    return train_folds(log_odds(scores), labels, folds, count, inverse_penalty=1e6, classes=2)


def calibration_error(scores: np.ndarray, labels: np.ndarray, bins: int) -> float:
    """Expected calibration error over bins of equal size: the mean of |mean score - share of positives|."""
    parts = np.array_split(np.argsort(scores, kind="stable"), bins)
    gaps = [abs(scores[part].mean() - labels[part].mean()) * len(part) for part in parts if len(part)]
    return float(sum(gaps) / len(scores))
