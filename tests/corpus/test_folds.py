"""Features are scikit-learn's, scores are held out, calibrated, and the same in batches of any size."""

import pickle

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression

from stages.corpus.classifiers.folds import (
    calibration_error,
    features,
    fold_of,
    folds_of,
    judge,
    log_odds,
    platt_folds,
    train_folds,
)
from stages.corpus.classifiers.hashed_words import count_words
from tests.corpus.documents import WORDS, prose

SAMPLES = [
    "Naïve café, ½x ²² x² ab1 foo_bar _ab a b ab.",
    "漢字 漢 \U00020000\U00020001 “quoted” ﬁne İstanbul STRASSE ß",
    "x\U0001d7d8y ab\U0001f600cd don't e-mail",
    "",
]


def vectorizer(bits: int) -> HashingVectorizer:
    return HashingVectorizer(
        n_features=1 << bits, token_pattern=r"(?u)\b[^\W\d_]{2,}\b", alternate_sign=False, norm=None
    )


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=60), max_size=4), st.sampled_from([8, 12]))
@example(SAMPLES, 16)
def test_word_counts_are_those_of_scikit_learn(texts: list[str], bits: int) -> None:
    places, counts, starts = count_words(texts, bits)
    expected = vectorizer(bits).transform(texts) if texts else csr_matrix((0, 1 << bits))
    expected.sort_indices()
    assert places.tolist() == expected.indices.tolist()
    assert counts.tolist() == expected.data.tolist()
    assert starts.tolist() == expected.indptr.tolist()


def test_features_are_unit_rows_of_log_counts_of_the_first_characters() -> None:
    texts = [prose(80, n) + " tail" * n for n in range(20)]
    counts = vectorizer(10).transform([text[:300] for text in texts]).toarray()
    expected = np.log1p(counts)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.allclose(features(texts, 300, 10).toarray(), expected, rtol=1e-12)


def problem(count: int, classes: int) -> tuple[csr_matrix, np.ndarray, np.ndarray]:
    labels = np.arange(count) % (classes + 1) - 1  # -1: unknown
    texts = [prose(30, n, WORDS[: 40 + 10 * int(label)]) for n, label in enumerate(labels)]
    return features(texts, 1000, 10), labels, np.array([fold_of(str(n), 4, 0) for n in range(count)])


def judged(
    matrix: csr_matrix, labels: np.ndarray, folds: np.ndarray, inverse_penalty: float, classes: int
) -> np.ndarray:
    count = int(folds.max()) + 1
    models = train_folds(matrix, labels, folds, count, inverse_penalty=inverse_penalty, classes=classes)
    return judge(models, matrix, folds)


@pytest.mark.parametrize("classes", [2, 3])
def test_each_probability_is_from_a_model_without_the_row_s_fold(classes: int) -> None:
    matrix, labels, folds = problem(200, classes)
    found = judged(matrix, labels, folds, 3.0, classes)
    for fold in range(4):
        rest, mine = (labels >= 0) & (folds != fold), folds == fold
        model = LogisticRegression(C=3.0, max_iter=300, tol=1e-4).fit(matrix[rest], labels[rest])
        assert np.allclose(found[mine], model.predict_proba(matrix[mine]), atol=1e-12)


def test_a_fold_with_one_class_or_none_to_learn_from() -> None:
    matrix, _, _ = problem(6, 2)
    folds = np.array([0, 0, 0, 1, 1, 1])
    found = judged(matrix, np.array([1, 1, -1, -1, -1, -1]), folds, 1.0, 2)
    assert found.tolist() == [[0, 0]] * 3 + [[0, 1]] * 3


@pytest.mark.parametrize("size", [1, 2, 7, 64])
@pytest.mark.parametrize("classes", [2, 3])
def test_scores_are_the_same_to_the_bit_in_batches_of_any_size(classes: int, size: int) -> None:
    _, labels, folds = problem(150, classes)
    texts = [prose(5 + n % 90, n, WORDS[: 40 + 10 * int(label)]) for n, label in enumerate(labels)]
    whole = features(texts, 1000, 12)
    models = train_folds(whole, labels, folds, 4, inverse_penalty=10.0, classes=classes)
    models = pickle.loads(pickle.dumps(models))
    expected = judge(models, whole, folds)
    for start in range(0, 150, size):
        part = slice(start, start + size)
        rows = features(texts[part], 1000, 12)
        assert (rows != whole[part]).nnz == 0
        assert judge(models, rows, folds[part]).tobytes() == expected[part].tobytes()


def test_folds_are_even_and_of_the_identifier_alone() -> None:
    counts = np.bincount([fold_of(str(n), 5, 1) for n in range(5000)])
    assert abs(counts - 1000).max() < 120
    keys = np.array([2**63 + 5, 7], np.uint64)
    assert folds_of(keys, 5, 1).tolist() == [fold_of(str(2**63 + 5), 5, 1), fold_of("7", 5, 1)]


def test_calibration_error_of_known_probabilities() -> None:
    scores = np.linspace(0, 1, 1000)
    labels = (np.random.default_rng(0).random(1000) < scores).astype(int)
    assert calibration_error(scores, labels, 10) < 0.05
    assert calibration_error(1 - scores, labels, 10) > 0.3


def test_platt_undoes_a_distortion_of_the_log_odds() -> None:
    generator = np.random.default_rng(1)
    truth = generator.uniform(0.02, 0.98, 6000)
    labels = (generator.random(6000) < truth).astype(np.int64)
    distorted = 1 / (1 + np.exp(-(3 * np.log(truth / (1 - truth)) + 1)))
    folds = generator.integers(0, 5, 6000)
    assert np.abs(distorted - truth).mean() > 0.1
    fits = platt_folds(distorted, labels, folds, 5)
    assert np.abs(judge(fits, log_odds(distorted), folds)[:, 1] - truth).mean() < 0.015
