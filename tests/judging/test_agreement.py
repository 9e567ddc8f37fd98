import math

import numpy as np
import pytest

from stages.annotators.agreement import majority
from stages.annotators.client import Pair
from stages.judging.agreement import Sample, annotator_table, discrete, percent, pool_summary


def sample(n: int, truth: np.ndarray) -> Sample:
    pairs = [Pair(str(i), f"p{i}", "a", "bb") for i in range(n)]
    return Sample(pairs, truth, np.full(n, 2.0), np.where(np.arange(n) % 2, 2.0, 1.0))


def test_by_hand() -> None:
    votes = np.array([[1.0, 1, 2], [2, 2, 2], [1, np.nan, 2], [2, 1, 1]])
    assert np.array_equal(majority(votes), [1, 2, np.nan, 1], equal_nan=True)
    assert percent(votes[:, 0], np.array([1.0, 1, 1, np.nan])) == pytest.approx(200 / 3)
    assert np.array_equal(discrete(np.array([1.2, 1.5, 1.9, np.nan])), [1, np.nan, 2, np.nan], equal_nan=True)
    rows = annotator_table(["x", "y", "z"], votes, sample(4, np.array([1.0, 2, 1, 1])))
    # x against the majority of y and z: tie, 2, 2 (z alone), 1
    assert rows[0].agreement == pytest.approx(100 / 3)
    assert rows[0].truth_agreement == 75 and rows[0].prefers_longer == 50


def test_independent_flips_show_as_variance_and_not_as_bias() -> None:
    generator = np.random.default_rng(0)
    truth = generator.integers(1, 3, 3000).astype(float)
    flips = generator.random((3000, 9)) < 0.2
    votes = np.where(flips, 3 - truth[:, None], truth[:, None])
    known = sample(3000, truth)
    summary = pool_summary(annotator_table([str(k) for k in range(9)], votes, known), votes, known, 0.0, math.nan)
    assert summary.truth_agreement == pytest.approx(80, abs=1.5)
    assert summary.bias < 4 and 18 < summary.variance < 24
    assert summary.kappa == pytest.approx(0.36, abs=0.03)  # (1 - 2 · .2)²
    assert summary.alpha_low < 0.36 < summary.alpha_high and summary.alpha == pytest.approx(summary.kappa, abs=0.01)
    assert summary.usd_per_1000 == 0 and summary.seconds_per_1000 is None


def test_one_annotator_has_nobody_to_agree_with() -> None:
    rows = annotator_table(["only"], np.array([[1.0], [2.0]]), sample(2, np.array([1.0, 2.0])))
    assert rows[0].agreement is rows[0].kappa is None and rows[0].truth_agreement == 100


def test_an_annotator_that_always_names_one_side_is_marked() -> None:
    generator = np.random.default_rng(0)
    truth = generator.integers(1, 3, 60).astype(float)
    known = sample(60, truth)
    rows = annotator_table(["stuck", "fair"], np.column_stack([known.first, truth]), known)
    assert [row.one_sided for row in rows] == [True, False] and rows[0].prefers_first == 100


def test_where_truth_is_unknown_nothing_is_said_of_it() -> None:
    votes = np.array([[1.0, 2.0], [2.0, 2.0]])
    unknown = sample(2, np.full(2, np.nan))
    rows = annotator_table(["x", "y"], votes, unknown)
    summary = pool_summary(rows, votes, unknown, 1.5, 2.0)
    assert rows[0].truth_agreement is summary.truth_agreement is summary.bias is None
    assert summary.prefers_longer == 75
