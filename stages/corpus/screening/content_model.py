"""The small classifier of undesirable content, taught by the crawl itself: no labels are shipped.

Weak supervision: a page on a blocked address, or far above the keyword rule's bounds, is a positive; a random other
page is a negative. The words of such pages that no list names are what it learns. A page is scored by a model that
hasn't seen its text.
"""

from collections.abc import Callable, Iterator
from typing import Annotated, Any, NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import Field
from scipy.sparse import csr_matrix

from stages.base.engine import map_batches
from stages.corpus.classifiers.examples import Smallest, Wanted, gather, row_keys
from stages.corpus.classifiers.folds import Classifier, calibration_error, judge, log_odds, train_folds
from stages.corpus.classifiers.rater import TEXT_KEY, Learned, Rater, RaterParams, folds_of
from stages.corpus.links.graph import member
from stages.corpus.screening import language, undesirable
from stages.corpus.screening.address_lists import Blocklist
from stages.corpus.screening.language import LanguageParams

Read = Callable[[list[str]], Iterator[pa.Table]]  # the documents from the first, batch by batch; some columns
UNLABELLED, NEGATIVE, BY_KEYWORD, BY_URL = -1, 0, 1, 2
# Texts are scored as they were learned: nothing has been rewritten in between.
UNCHANGED = Learned(np.zeros(0, np.uint64), np.zeros(0, np.int64))


class UndesirableParams(RaterParams):
    """Bounds of the keyword rule and of the classifier."""

    max_density: Annotated[float, Field(gt=0)]
    """Summed term weight a thousand words."""
    min_terms: Annotated[int, Field(ge=1)]
    """Distinct terms that a page must have to be dropped."""
    far: Annotated[float, Field(ge=1)]
    """Times `max_density`: a page above it is a positive for the classifier."""
    max_examples: Annotated[int, Field(ge=10)]
    """Documents that are learned from, of both classes together."""
    negatives_per_positive: Annotated[float, Field(gt=0)]
    """At most."""
    max_probability: Annotated[float, Field(gt=0, le=1)]
    """Documents above it are dropped."""


class ContentModel(NamedTuple):
    """What scores documents."""

    rater: Rater
    params: UndesirableParams
    seed: int

    def scores(self, documents: pa.Table) -> np.ndarray | None:
        """float32 probability of each row to be like what is blocked; None where there were too few examples."""
        if not self.rater.models or not documents.num_rows:
            return None
        return self.rater.scores(documents, UNCHANGED, self.params, self.seed)


class Labeller(NamedTuple):
    """What labels documents, in a worker."""

    blocklist: Blocklist
    languages: LanguageParams
    params: UndesirableParams

    def label(self, row: dict[str, Any]) -> int:
        """A page between the keyword rule's bounds and far above them stays unlabelled, and so does a blocked one in a
        language that isn't kept: the classifier would learn the language.
        """
        if self.blocklist.reason(row["url"]):
            return BY_URL if language.judge(row["text"], row["source"], self.languages).stays else UNLABELLED
        content = undesirable.judge(row["text"])
        if content.terms < self.params.min_terms or content.density <= self.params.max_density:
            return NEGATIVE
        return BY_KEYWORD if content.density > self.params.far * self.params.max_density else UNLABELLED


def label(batch: pa.Table, labeller: Labeller) -> tuple[np.ndarray, np.ndarray]:
    """(uint64 key of each row's text, int label)."""
    return row_keys(batch, TEXT_KEY), np.array([labeller.label(row) for row in batch.to_pylist()], np.int64)


def learn(read: Read, labeller: Labeller, seed: int) -> tuple[ContentModel, dict[str, Any]]:
    """The model and its metrics: positives, negatives, held-out AUC and calibration error.

    `undesirable_auc_url` counts those positives only that a blocked address made so: a model that had merely learned
    the keyword rule anew would do no better on them than that rule. Two passes over the documents.
    """
    params = labeller.params
    limit = max(1, int(params.max_examples / (1 + params.negatives_per_positive)))
    by_url, by_keyword = Smallest(limit, seed), Smallest(limit, seed)
    negative = Smallest(int(limit * params.negatives_per_positive), seed)
    columns = ["source", "url", "text_hash", "text"]
    for keys, labels in map_batches(label, read(columns), labeller):
        for sample, value in ((by_url, BY_URL), (by_keyword, BY_KEYWORD), (negative, NEGATIVE)):
            sample.add(keys[labels == value])
    # At most half of the positives come from the keyword rule where there are enough of the others.
    urls = by_url.first(limit)
    words = by_keyword.first(max(limit - len(urls), limit // 2))
    urls = urls[: limit - len(words)]
    positives = np.union1d(urls, words)
    negatives = np.setdiff1d(negative.first(int(params.negatives_per_positive * len(positives))), positives)
    wanted = Wanted(np.union1d(positives, negatives), TEXT_KEY, params.characters, params.feature_bits)
    found = gather(read(["id", "source", "text_hash", "text"]), wanted)
    labels = member(found.keys, positives).astype(np.int64)
    rater, scores = fit(found.matrix, labels, folds_of(found.keys, params.folds, seed), params)
    metrics: dict[str, Any] = {"positives": len(positives), "positives_url": len(urls), "negatives": len(negatives)}
    metrics |= dict.fromkeys(("auc", "auc_url", "calibration_error"))
    if scores is not None:
        from sklearn.metrics import roc_auc_score  # heavy, and workers that only judge don't need it

        metrics["auc"] = float(roc_auc_score(labels, scores))
        metrics["calibration_error"] = calibration_error(scores, labels, bins=10)
        chosen = (labels == 0) | member(found.keys, np.sort(urls))
        if len(urls):
            metrics["auc_url"] = float(roc_auc_score(labels[chosen], scores[chosen]))
    return ContentModel(rater, params, seed), {f"undesirable_{name}": value for name, value in metrics.items()}


def fit(
    matrix: csr_matrix, labels: np.ndarray, folds: np.ndarray, params: UndesirableParams
) -> tuple[Rater, np.ndarray | None]:
    """A model and its calibration for each fold, by the other folds; held-out probabilities of the rows.

    Without `min_examples` of both classes there is no model and no probability.
    """
    positives = int(labels.sum())
    if min(positives, len(labels) - positives) < params.min_examples:
        return Rater(0.0, [], []), None
    models = train_folds(matrix, labels, folds, params.folds, inverse_penalty=params.inverse_penalty, classes=2)
    logits = log_odds(judge(models, matrix, folds)[:, 1])
    calibrators = [platt(logits[folds != fold], labels[folds != fold]) for fold in range(params.folds)]
    return Rater(positives / len(labels), models, calibrators), judge(calibrators, logits, folds)[:, 1]


def platt(logits: csr_matrix, labels: np.ndarray) -> Classifier:
    """A logistic fit to Platt's targets, (N₊ + 1) / (N₊ + 2) and 1 / (N₋ + 2) (Platt 1999, section 2.2).

    Adverts that a list names are all alike, and a classifier parts them from the rest without an error. Against targets
    of 1 and 0 the fit would then be a step somewhere in the gap, and a page in between at one of its ends by chance.
    """
    from scipy.optimize import minimize  # heavy, as above
    from scipy.special import expit

    x, positives = logits.toarray().ravel(), int(labels.sum())
    targets = np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (len(labels) - positives + 2))

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        z = weights[0] * x + weights[1]
        wrong = expit(z) - targets
        return float(np.sum(np.logaddexp(0, z) - targets * z)), np.array([np.sum(wrong * x), np.sum(wrong)])

    weights = minimize(loss, np.array([1.0, 0.0]), jac=True, method="BFGS").x
    return Classifier(2, np.array([0, 1]), weights[:1, None], weights[1:])
