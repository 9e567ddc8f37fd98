"""A calibrated score of each document, by a classifier that has not seen its text."""

import math
from typing import Annotated, Any, NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import Field
from scipy.sparse import csr_matrix

from stages.base.params import Section
from stages.corpus.classifiers.examples import row_keys
from stages.corpus.classifiers.folds import (
    Classifier,
    calibration_error,
    features,
    folds_of,
    judge,
    log_odds,
    platt_folds,
    train_folds,
)
from stages.corpus.links.graph import hashes, member

TEXT_KEY = ("source", "text_hash")  # what makes two documents' texts the same one
BINS = 10  # of the calibration


class RaterParams(Section):
    """Parameters of the classifier."""

    min_examples: Annotated[int, Field(ge=2)]
    """Fewer positives or negatives: no classifier, the score is their share; without any positive there is none."""
    folds: Annotated[int, Field(ge=2)]
    """Parts of the examples; each is scored by a classifier that learned from the others."""
    feature_bits: Annotated[int, Field(ge=8, le=24)]
    """Words are hashed into two to this power features."""
    characters: Annotated[int, Field(ge=100)]
    """Of each text that are looked at."""
    inverse_penalty: Annotated[float, Field(gt=0)]
    """C of the logistic regression: the larger, the closer it follows the examples."""


class Learned(NamedTuple):
    """Rows of the crawl whose text was learned from, by the hash of their id.

    Later steps rewrite texts: the text's own hash would then give another fold, whose model has seen the old text.
    """

    ids: np.ndarray  # uint64, ascending
    folds: np.ndarray  # int64


class Rater(NamedTuple):
    """What scores a source's documents."""

    prior: float  # the score where there are too few examples for a classifier; nan where none is known
    models: list[Classifier]  # of each fold; none where there are too few examples
    calibrators: list[Classifier]

    def scores(self, documents: pa.Table, learned: Learned, params: RaterParams, seed: int) -> np.ndarray:
        """float32 in 0..1 of each row, by the models of its fold: they saw neither its text nor the one it had.

        Without models all have the prior, which may be nan.
        """
        if not self.models:
            return np.full(documents.num_rows, self.prior, np.float32)
        folds = folds_of(row_keys(documents, TEXT_KEY), params.folds, seed)
        ids = hashes(documents["id"].to_pylist())
        seen = member(ids, learned.ids)
        folds[seen] = learned.folds[np.searchsorted(learned.ids, ids[seen])]
        return self.calibrated(features(documents["text"].to_pylist(), params.characters, params.feature_bits), folds)

    def calibrated(self, matrix: csr_matrix, folds: np.ndarray) -> np.ndarray:
        """float32 score of each row of features, by the models of its fold."""
        raw = judge(self.models, matrix, folds)[:, 1]
        return judge(self.calibrators, log_odds(raw), folds)[:, 1].astype(np.float32)


class Fit(NamedTuple):
    rater: Rater
    metrics: dict[str, Any]  # positives, negatives, auc, calibration_error: held out
    calibration: dict[str, list[Any]]  # by bins of the score: mean_score, share_positive, count


def fit(matrix: csr_matrix, labels: np.ndarray, folds: np.ndarray, params: RaterParams) -> Fit:
    """Fit labelled texts (1 or 0), a model and Platt's calibration a fold; the metrics are of held-out scores."""
    positives, negatives = int((labels == 1).sum()), int((labels == 0).sum())
    metrics: dict[str, Any] = {"positives": positives, "negatives": negatives, "auc": None, "calibration_error": None}
    if min(positives, negatives) < params.min_examples:
        prior = positives / (positives + negatives) if positives else math.nan
        return Fit(Rater(prior, [], []), metrics, reliability(np.zeros(0), np.zeros(0)))
    from sklearn.metrics import roc_auc_score

    models = train_folds(matrix, labels, folds, params.folds, inverse_penalty=params.inverse_penalty, classes=2)
    raw = judge(models, matrix, folds)[:, 1]
    rater = Rater(positives / len(labels), models, platt_folds(raw, labels, folds, params.folds))
    scores = rater.calibrated(matrix, folds).astype(np.float64)
    metrics["auc"] = float(roc_auc_score(labels, scores))
    metrics["calibration_error"] = calibration_error(scores, labels, bins=BINS)
    return Fit(rater, metrics, reliability(scores, labels))


def reliability(scores: np.ndarray, labels: np.ndarray) -> dict[str, list[Any]]:
    """Mean score, share of positives (None where empty) and count of the labelled texts in each of `BINS` equal bins
    of 0..1: the points of a reliability diagram.
    """
    bins = np.minimum((scores * BINS).astype(np.int64), BINS - 1)
    parts = [np.flatnonzero(bins == one) for one in range(BINS)]
    return {
        "mean_score": [float(scores[part].mean()) if len(part) else None for part in parts],
        "share_positive": [float(labels[part].mean()) if len(part) else None for part in parts],
        "count": [len(part) for part in parts],
    }
