"""How like its class a document is: a classifier must name one of the classes it knows, however strange the document.

A word's share in the class is compared with that in a mixture of all classes, so that what every text has says nothing
(both smoothed as by Jelinek and Mercer 1980); a class accepts what lies within `DEVIATIONS` of its held-out documents.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

MIXED_IN = 0.01  # share of the mixture in a class's distribution of words, and of equal shares in the mixture
DEVIATIONS = 2.5  # robust standard deviations (1.4826 MAD) below the median of the class
LEAST = 10  # documents of a class; fewer accept nothing


@dataclass(frozen=True)
class Likeness:
    """Fitted on the documents of each class, with a table of words a fold."""

    words: np.ndarray  # float64 [folds, features, classes]: log ratio of a word's share in the class and in the mixture
    bounds: np.ndarray  # float64 [classes]: what is below them is not of the class

    def scores(self, matrix: csr_matrix, folds: np.ndarray) -> np.ndarray:
        """float64 [rows, classes]: mean log ratio over the words of each row, by the tables of its fold."""
        result = np.zeros((matrix.shape[0], len(self.bounds)))
        for fold in np.unique(folds):
            rows = np.flatnonzero(folds == fold)
            part = matrix[rows]
            masses = np.asarray(part.sum(axis=1)).ravel()
            result[rows] = part @ self.words[fold] / np.maximum(masses, 1e-12)[:, None]
        return result

    def accepts(self, matrix: csr_matrix, folds: np.ndarray) -> np.ndarray:
        """bool [rows, classes]: whether a row may be of the class. A row without words is of none."""
        empty = np.diff(matrix.indptr) == 0
        return (self.scores(matrix, folds) >= self.bounds) & ~empty[:, None]


def fit(matrix: csr_matrix, labels: np.ndarray, folds: np.ndarray, count: int, classes: int) -> Likeness:
    """Fit rows of known labels (0 … classes-1); table `fold` of 0 … count-1 is of the rows of all other folds."""
    words = np.stack([_table(matrix, np.where(folds == fold, -1, labels), classes) for fold in range(count)])
    likeness = Likeness(words, np.full(classes, np.inf))
    scores = likeness.scores(matrix, folds)
    bounds = [_bound(scores[labels == place, place]) for place in range(classes)]
    return Likeness(words, np.array(bounds))


def _table(matrix: csr_matrix, labels: np.ndarray, classes: int) -> np.ndarray:
    features = matrix.shape[1]
    shares = np.zeros((features, classes))
    for place in range(classes):
        mass = np.asarray(matrix[np.flatnonzero(labels == place)].sum(axis=0)).ravel()
        shares[:, place] = mass / max(mass.sum(), 1e-12)
    mixture = (1 - MIXED_IN) * shares.mean(axis=1) + MIXED_IN / features
    ratios = ((1 - MIXED_IN) * shares + MIXED_IN * mixture[:, None]) / mixture[:, None]
    return np.round(np.log(ratios), 9)


def _bound(scores: np.ndarray) -> float:
    if len(scores) < LEAST:
        return np.inf
    middle = float(np.median(scores))
    return round(middle - DEVIATIONS * 1.4826 * float(np.median(np.abs(scores - middle))), 9)
